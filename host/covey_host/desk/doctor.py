"""What `covey doctor` looks at, for which request."""

from collections.abc import Iterator
from pathlib import Path

from .. import output
from .. import site as sites
from ..doctor import files, judge, laptop, onboard, probes
from ..doctor.finding import Finding, fail, ok, show
from ..doctor.ways import Listener, Sender
from ..errors import MISUSE, Problem
from ..gcks import policy
from ..gcks.sockets import interface_address, own_address
from ..site import Site


def run(
    option: Path | None,
    interface: str | None,
    port: str | None,
    probe: str | None,
    *,
    listen: bool,
    seconds: float,
    as_json: bool,
) -> int:
    """The exit status: 1 where anything has failed."""
    if sum((port is not None, probe is not None, listen)) > 1:
        raise Problem("Choose one of --port, --listen and --probe.", MISUSE)
    address = None if interface is None else interface_address(interface)
    if listen:
        return show(_hear(address or own_address(), seconds, as_json), as_json)
    if probe is not None:
        return show(_send(address or onboard.address_towards(probe), probe), as_json)
    status = show(_here(option, address), as_json)
    if port is not None:
        status |= show(onboard.examine(port, address, probes.GROUP), as_json)
    return status


def _here(option: Path | None, address: str | None) -> Iterator[Finding]:
    """This machine, and the site if there is one."""
    site = _site(option)
    needs_raw, newest_s = False, None
    if site is None:
        yield ok("site", "there is none here: --site names one")
    else:
        yield from files.findings(site)
        needs_raw, newest_s = _needs_raw(site), _newest_s(site)
    yield from laptop.findings(address, needs_raw=needs_raw, newest_s=newest_s)


def _newest_s(site: Site) -> float:
    store = site.store if site.store.exists() else site.elsewhere
    return store.stat().st_mtime


def _site(option: Path | None) -> Site | None:
    """Only a site that was named must be there."""
    try:
        return sites.find(option)
    except Problem:
        if option is not None:
            raise
        return None


def _needs_raw(site: Site) -> bool:
    try:
        return any(g.carrier == "ip" for g in policy.load(site.policy).groups.values())
    except Problem:
        return False  # it was said already


def _hear(interface: str, seconds: float, as_json: bool) -> Iterator[Finding]:
    listener = Listener(interface)
    try:
        if not as_json:
            output.complain(
                f"Listening for {seconds:.0f} s; on the other machine type:"
                f" covey doctor --probe {interface}"
            )
        listener.listen(seconds, lambda tally: bool(tally.series()))
    finally:
        listener.close()
    found = listener.tally.series()
    if not found:
        fix = f"Was `covey doctor --probe {interface}` typed there? Else: {judge.NOTHING}"
        yield fail("multicast", f"no probe came in {seconds:.0f} s", fix)
    for source, sent, came in found:
        raw = came.get(probes.RAW, 0)
        counts = came.get(probes.MULTICAST, 0), came.get(probes.UNICAST, 0)
        way = judge.Way(sent, *counts, raw if listener.has_raw and raw else None)
        yield from judge.reach(way, f"from {source}")


def _send(interface: str, host: str) -> Iterator[Finding]:
    sender = Sender(interface)
    try:
        sender.send_all(probes.new_run(), host)
    finally:
        sender.close()
    kinds = "multicast and unicast probes" + (" and IP protocol 50" if sender.has_raw else "")
    said = f"{probes.COUNT} {kinds} have left by {interface}: the other end says what came"
    yield ok("probes", said)
