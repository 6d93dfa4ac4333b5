"""A systemd unit for a gateway: raw sockets, the fence, and nothing else that is root's."""

from pathlib import Path

from ..service.unit import SHUT, command_of, home_for
from .plan import load

_UNIT = """\
# Made by `covey unit --gateway`. Bring it to /etc/systemd/system/{name}.service, then
# systemctl daemon-reload && systemctl enable --now {name}
[Unit]
Description=Covey gateway of {file}
Wants=network-online.target
After=network-online.target
# a card that comes late, or a router that has to go first: nothing crosses meanwhile
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
# the kernel routes once the fence stands, not before
ExecStartPost=+/bin/sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
Restart=on-failure
RestartSec=5
WatchdogSec=30

User={user}
WorkingDirectory={folder}
# sockets on one card, datagrams that bear a device's address; the fence in the packet filter
AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN
CapabilityBoundingSet=CAP_NET_RAW CAP_NET_ADMIN
RestrictAddressFamilies=AF_INET AF_PACKET AF_UNIX AF_NETLINK
"""


def unit(file: Path, user: str, name: str) -> str:
    """The unit's text. Problem where gateway.toml is wrong, or a service could not reach it."""
    file = file.absolute()
    members = load(file).members
    command = command_of("gateway", str(file))
    home = home_for([file, *members])
    facts = {"file": file, "folder": file.parent, "command": command, "home": home}
    return (_UNIT + SHUT).format(name=name, user=user, **facts)
