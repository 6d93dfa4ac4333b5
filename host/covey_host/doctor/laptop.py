"""This machine: does multicast leave it and come back, and what may be in the way."""

import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import Problem
from ..gcks.sockets import own_address
from . import probes
from .finding import Finding, fail, ok, warn
from .ways import Listener, Sender

_SIOCGIFFLAGS = 0x8913  # Linux
_UP, _RUNNING, _MULTICAST, _LOOPBACK = 0x1, 0x40, 0x1000, 0x8
_UFW = Path("/etc/ufw/ufw.conf")
_FIREWALLD = Path("/run/firewalld")
_PORTS = f"4500, 848, 500 and {probes.PORT}"


def findings(interface: str | None, *, needs_raw: bool, newest_s: float | None) -> Iterator:
    """interface: an address. needs_raw: a group has the ip carrier. newest_s: when the site was
    last written to, by this machine's clock of then."""
    address = interface or own_address()
    yield from _interface(address)
    yield from _loopback(address)
    yield _raw(needs_raw)
    yield _firewall()
    yield _clock(time.time(), newest_s)
    yield from _power_save(_name_of(address))


def _interface(address: str) -> list[Finding]:
    name = _name_of(address)
    if name is None:
        fix = "Name the network card that the boards are on with --interface."
        if address == "127.0.0.1":
            return [warn("interface", "this machine has no network but itself", fix)]
        return [ok("interface", address)]  # a system that we can't ask more of
    return [judge_interface(name, address, _flags(name))]


def judge_interface(name: str, address: str, flags: int) -> Finding:
    """flags: as SIOCGIFFLAGS gives them; those of the loopback are left as they are."""
    said = f"{name}, {address}"
    if flags & _LOOPBACK:
        fix = "For boards name the network card that they are on with --interface."
        return warn("interface", f"{said}: this machine only", fix)
    if not flags & _UP or not flags & _RUNNING:
        return fail("interface", f"{said}, is down", f"Bring it up: `ip link set {name} up`.")
    if not flags & _MULTICAST:
        fix = f"`ip link set {name} multicast on`, or choose another with --interface."
        return fail("interface", f"{said}, does no multicast", fix)
    return ok("interface", f"{said}, up, does multicast")


def _loopback(address: str) -> list[Finding]:
    """Sent and heard on this machine: the system itself lets multicast through."""
    try:
        listener = Listener(address)
        try:
            sender = Sender(address)
            sender.send_all(probes.new_run(), None, 3)
            sender.close()
            listener.listen(1, lambda tally: True)
        finally:
            listener.close()
    except (Problem, OSError) as error:
        said = error.sentence.rstrip(".") if isinstance(error, Problem) else str(error)
        fix = "Add a route (`ip route add 224.0.0.0/4 dev CARD`) or name a card by --interface."
        return [fail("loopback", said, fix)]
    came = sum(counts.get(probes.MULTICAST, 0) for _, _, counts in listener.tally.series())
    said = f"{came} of 3 multicast probes came back to this machine"
    if came < 3:
        fix = f"A firewall here drops multicast: open UDP ports {_PORTS}."
        return [fail("loopback", said, fix)]
    return [ok("loopback", said)]


def _raw(is_needed: bool) -> Finding:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 50).close()
    except OSError as error:
        said = f"no raw socket for this user ({os.strerror(error.errno or 0)})"
        if not is_needed:
            return ok("raw sockets", f"{said}; only the ip carrier needs one")
        fix = "A group has the ip carrier: run members here as root or with CAP_NET_RAW."
        return fail("raw sockets", said, fix)
    return ok("raw sockets", "this user may open them, as the ip carrier needs")


def _firewall() -> Finding:
    ufw = ""
    with suppress(OSError):
        ufw = _UFW.read_text()
    return judge_firewall(ufw, _FIREWALLD.exists(), _said_by("nft", "list", "ruleset"))


def judge_firewall(ufw: str, has_firewalld: bool, nft: str) -> Finding:
    """ufw: its configuration; nft: the rules in force; empty where they can't be read."""
    fix = f"If boards can't register or aren't heard: let UDP ports {_PORTS} in"
    if re.search(r"^ENABLED=yes", ufw, re.M):
        return warn("firewall", "ufw is on", f"{fix} (`ufw allow 4500/udp`, ...).")
    if has_firewalld:
        return warn("firewall", "firewalld runs", f"{fix} (`firewall-cmd --add-port=4500/udp`).")
    chains = re.findall(r"hook input [^;]*;\s*policy (\w+);", nft)
    if "drop" in chains:
        return warn("firewall", "nftables drops what it does not know", f"{fix}.")
    return ok("firewall", "none that we know of")


def _clock(now_s: float, newest_s: float | None) -> Finding:
    """What was written lies in the past."""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(now_s))
    if newest_s is not None and newest_s > now_s + 60:
        fix = "Set it (`timedatectl set-ntp true`): logs are told in it."
        return warn("clock", f"{when} UTC, before the site was last written to", fix)
    return ok("clock", f"{when} UTC; nothing in Covey is decided by it")


def _power_save(name: str | None) -> list[Finding]:
    if name is None or not Path(f"/sys/class/net/{name}/wireless").exists():
        return []
    said = _said_by("iw", "dev", name, "get", "power_save")
    if "on" in said.split():
        fix = f"`iw dev {name} set power_save off`: a sleeping card hears multicast late."
        return [warn("power-save", f"on, on {name}", fix)]
    return [ok("power-save", f"off, on {name}" if said else f"{name}: not known (no `iw` here)")]


def _said_by(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
        return done.stdout
    return ""


def _name_of(address: str) -> str | None:
    """The network card that has an address; None where it can't be found out."""
    from ..gcks.sockets import interface_address

    for _, name in socket.if_nameindex():
        with suppress(Problem):
            if interface_address(name) == address:
                return name
    return None


def _flags(name: str) -> int:
    """Where the system can't be asked: all that is wanted."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s16x", name.encode()))
        return struct.unpack_from("H", answer, 16)[0]
    return _UP | _RUNNING | _MULTICAST
