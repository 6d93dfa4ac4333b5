"""Where a site lies in etcd, as it is typed: etcd://HOST:PORT,HOST:PORT/NAME."""

import ipaddress
import re
from dataclasses import dataclass

from ..errors import MISUSE, Problem

_PORT = 2379
_PREFIX = "covey"
_NODE = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?")
_PATH = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)*/?")


@dataclass(frozen=True)
class Place:
    """Where a site lies in etcd, and what this machine proves itself by."""

    url: str
    ca: str = ""  # paths of PEM files; all of them or none
    cert: str = ""
    key: str = ""

    @property
    def nodes(self) -> list[tuple[str, int]]:
        return _split(self.url)[0]

    @property
    def prefix(self) -> bytes:
        return _split(self.url)[1]

    def check(self) -> None:
        """Problem where this names no place, or one that isn't to be trusted."""
        given = [bool(each) for each in (self.ca, self.cert, self.key)]
        if any(given) and not all(given):
            raise Problem("Name all of --store-ca, --store-cert and --store-key.", MISUSE)
        for host, _ in self.nodes:
            if not self.ca and not _is_here(host):
                raise Problem(
                    f"etcd at {host} could be read and written by anyone: name --store-ca,"
                    " --store-cert and --store-key.",
                    MISUSE,
                )


def _split(url: str) -> tuple[list[tuple[str, int]], bytes]:
    """etcd://HOST[:PORT],...[/PREFIX] → nodes, and what all keys begin with."""
    scheme, _, rest = url.partition("://")
    names, slash, path = rest.partition("/")
    found = [_NODE.fullmatch(name) for name in names.split(",")]
    ports = [int(match[2] or _PORT) for match in found if match]
    wrong = None in found or any(not 0 < port < 65536 for port in ports)
    if scheme != "etcd" or wrong or not _PATH.fullmatch(slash + path):
        raise Problem(f"{url!r} is no store: write etcd://HOST:PORT,HOST:PORT/NAME.", MISUSE)
    nodes = [(match[1], port) for match, port in zip(found, ports, strict=True)]
    return nodes, f"/{path.strip('/') or _PREFIX}/".encode()


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
