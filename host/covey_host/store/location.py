"""Where a site's store is: state.db in its directory, or what store.toml beside it names.

store.toml, 0600, is written by `covey store copy` and `covey serve --store`:

    url = "etcd://a:2379,b:2379,c:2379/plant1"
    id = "..."                                    of the site: no other one is taken for it
    ca = "/etc/covey/etcd-ca.pem"
    cert = "/etc/covey/etcd-cert.pem"
    key = "/etc/covey/etcd-key.pem"
    replica = "north"                             what this key server is called among others
    advertise = "192.0.2.10"                      where members find it, as their covey.json has it
"""

import json
import os
import re
import tomllib
from dataclasses import astuple, dataclass
from pathlib import Path

from ..errors import MISUSE, Problem
from ..site import Site, check_name, replace_private
from . import Store, sqlite
from .place import Place

_FIELDS = ("url", "id", "ca", "cert", "key")
_OWN = ("replica", "advertise")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")


@dataclass(frozen=True)
class Own:
    """What a key server is among others of its site; "": not said."""

    replica: str = ""
    advertise: str = ""

    def check(self) -> None:
        """Problem where it can't be that."""
        if self.replica:
            check_name("replica", self.replica)
        if self.advertise and not is_host(self.advertise):
            raise Problem(
                f"{self.advertise!r} can't be advertised: write an IPv4 address or a name, without"
                " a port.",
                MISUSE,
            )


def read(site: Site) -> tuple[Place, str] | None:
    """The place in etcd and the site's ID there; None: the store is state.db."""
    fields = _fields(site)
    if fields is None:
        return None
    url, id, *files = (fields[name] for name in _FIELDS)
    place = Place(url, *files)
    place.check()
    return place, id


def own_of(site: Site) -> Own:
    fields = _fields(site) or {}
    found = Own(*(fields.get(name, "") for name in _OWN))
    found.check()
    return found


def replica_of(site: Site) -> str:
    """What this key server is called among others; "" where it is the only one."""
    return (own_of(site).replica or own_name()) if _fields(site) is not None else ""


def is_host(text: str) -> bool:
    """Whether it is an IPv4 address or a name."""
    parts = text.split(".")
    if text.isascii() and all(part.isdigit() for part in parts):
        return len(parts) == 4 and all(len(part) < 4 and int(part) < 256 for part in parts)
    return _HOST.fullmatch(text) is not None


def own_name() -> str:
    """The machine's, if that can be one."""
    name = os.uname().nodename
    return name if _NAME.fullmatch(name) else "replica"


def _fields(site: Site) -> dict[str, str] | None:
    """None: there is no store.toml."""
    try:
        fields = tomllib.loads(site.elsewhere.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Problem(
            f"{site.elsewhere} can't be read: {os.strerror(error.errno or 0)}."
        ) from error
    except ValueError as error:
        raise Problem(f"{site.elsewhere} is no TOML: {error}.", MISUSE) from error
    known = (*_FIELDS, *_OWN)
    if set(fields) - set(known) or not all(isinstance(value, str) for value in fields.values()):
        raise Problem(f"{site.elsewhere} takes {', '.join(known)}, each a text.", MISUSE)
    return {name: fields.get(name, "") for name in known}


def write(site: Site, place: Place, id: str, own: Own | None = None) -> None:
    """own: as it was, where it is not given."""
    own = own_of(site) if own is None else own
    values = (place.url, id, place.ca, place.cert, place.key, *astuple(own))
    pairs = zip((*_FIELDS, *_OWN), values, strict=True)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in pairs if value]
    replace_private(site.elsewhere, "".join(lines).encode())


def open_existing(site: Site) -> Store:
    """The site's store as it is, sealed. Problem where there is none."""
    found = read(site)
    if found is None:
        return sqlite.open_existing(site.store)
    from . import etcd  # brings HTTP and TLS, which take a while: not for every site

    place, id = found
    return etcd.open_existing(place, id, site.store.with_suffix(".lock"))


def name(site: Site) -> str:
    """For sentences."""
    found = read(site)
    return str(site.store) if found is None else found[0].url


def place_of(url: str, ca: Path | None, cert: Path | None, key: Path | None) -> Place:
    """As typed. Problem where that is none."""
    files = ["" if path is None else str(path.absolute()) for path in (ca, cert, key)]
    place = Place(url.rstrip("/"), *files)
    place.check()
    return place
