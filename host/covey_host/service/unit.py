"""A systemd unit for a site's key server, with all shut that it does not need.

The gateway's is in gateway/unit.py; what both are denied is here.
"""

import os
import shlex
import sys
from pathlib import Path

from ..errors import MISUSE, Problem
from ..site import Site
from ..store import location

_UNIT = """\
# Made by `covey unit`. Bring it to /etc/systemd/system/{name}.service, then
# systemctl daemon-reload && systemctl enable --now {name}
[Unit]
Description=Covey key server of {site}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
{stop}Restart=on-failure
RestartSec=2
# a mistake in what was typed or configured
RestartPreventExitStatus=2
WatchdogSec=30
# it ends a removal that is under way
TimeoutStopSec={stop_s}
# workers end with it, not before
KillMode=mixed

User={user}
# the site key, if it is kept apart from the site:
#LoadCredential=covey-site-key:/etc/covey/site.key
WorkingDirectory={site}
ReadWritePaths={site}
# ports 500 and 848, and nothing else that is root's
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
RestrictAddressFamilies=AF_INET AF_UNIX AF_NETLINK
"""
SHUT = """\
UMask=0077
NoNewPrivileges=yes
# no key in a core dump
LimitCORE=0
KeyringMode=private

ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_DRAIN = """\
# its members go to the other key servers first, if there are any
ExecStop=-{command}
"""
_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")


def unit(site: Site, user: str, name: str, arguments: list[str]) -> str:
    """The unit's text. Problem where a service could not reach the site."""
    root = site.root.absolute()
    of_it = {"name": name, "site": root, "user": user, "stop": "", "stop_s": 20}
    of_it["command"] = command_of("serve", "--site", str(root), *arguments)
    place, files = location.read(site), []
    if place is not None:
        files = [Path(path) for path in (place[0].ca, place[0].cert, place[0].key) if path]
        drain = command_of("drain", "--site", str(root))
        of_it |= {"stop": _DRAIN.format(command=drain), "stop_s": 40}
    return (_UNIT + SHUT).format(home=home_for([root, *files]), **of_it)


def command_of(*words: str) -> str:
    """The `covey` of this Python. Problem for a word that systemd would take apart."""
    command = [str(_program()), *words]
    for word in command:
        if not word.isprintable() or set(word) & set("\"'\\%$ "):
            raise Problem(f"{word!r} can't stand in a unit: use a plainer name.", MISUSE)
    return shlex.join(command)


def home_for(paths: list[Path]) -> str:
    """What ProtectHome may be where these, and the program, are to be read. Problem where they
    can't be.
    """
    for path in (*paths, _program()):
        if _lies_in(path, _TEMPORARY):
            raise Problem(f"A service has a /tmp of its own: move {path} elsewhere.", MISUSE)
    return "read-only" if any(_lies_in(path, _HOMES) for path in (*paths, _program())) else "yes"


def _program() -> Path:
    return Path(os.path.abspath(sys.executable)).with_name("covey")


def _lies_in(path: Path, directories: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)
