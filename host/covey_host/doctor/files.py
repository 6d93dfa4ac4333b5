"""A site: who may read its secrets, whether its policy is sound and its key server there."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .. import control
from ..errors import Problem
from ..gcks import policy
from ..gcks.sockets import Endpoint, own_address
from ..site import NAMES, Site
from ..store.sqlite import is_read_only
from .finding import Finding, fail, ok, warn
from .ways import answers

_OTHERS = 0o077
_PLAIN = (848, 500)
_MARKED = 4500


def findings(site: Site) -> Iterator[Finding]:
    yield from modes(site)
    if is_read_only(site.root):
        yield fail("files", f"the disk that holds {site.root} is read-only", "Make it writable.")
    try:
        rules = policy.load(site.policy)
    except Problem as problem:
        yield fail("policy", problem.sentence.rstrip("."), "Correct covey.toml.")
        return
    yield ok("policy", f"covey.toml is sound; groups: {', '.join(rules.groups) or 'none yet'}")
    yield from _identities(site, rules.identity)
    try:
        answer = control.call(site.control, {"do": "status"})
    except Problem as problem:
        yield fail("key server", problem.sentence.rstrip("."), "Look at its log.")
        return
    if answer is None:
        yield warn("key server", "it is not running", "Start it: `covey serve`.")
        yield from _ports_to_be(rules)
        return
    yield from _running(answer["server"])


def modes(site: Site) -> list[Finding]:
    """Everything of a site is its owner's alone, but for what holds no secret."""
    wrong = [path for path in _private(site) if _is_open(path)]
    if wrong:
        names = ", ".join(str(path) for path in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        fix = f"`chmod -R go= {site.root}`; whoever could read them may have: think of new keys."
        return [fail("files", f"others can read {names}", fix)]
    return [ok("files", "only their owner can read the site's secrets")]


def _private(site: Site) -> Iterator[Path]:
    """Directories whose mode keeps others out stand for all that lies in them."""
    shared = (site.root, site.store, site.elsewhere, site.members)
    yield from (path for path in shared if path.exists())
    for directory in sorted(site.members.glob("*")):
        yield directory
        with suppress(OSError):
            files = (p for p in sorted(directory.iterdir()) if p.is_file())
            yield from (p for p in files if not p.name.endswith(NAMES))
    elsewhere = site.key.resolve()  # it may be a link
    yield from (path for path in (site.root / "wifi.json", elsewhere) if path.exists())


def _is_open(path: Path) -> bool:
    with suppress(OSError):
        return bool(stat.S_IMODE(os.stat(path).st_mode) & _OTHERS)
    return False


def _identities(site: Site, identity: str) -> Iterator[Finding]:
    """Members that take another name for the key server's, by their files here."""
    others = []
    for path in sorted(site.members.glob("*/covey.json")):
        with suppress(OSError, ValueError, AttributeError):  # `covey why` tells of those
            if json.loads(path.read_bytes()).get("idr") not in (None, identity):
                others.append(path.parent.name)
    if others:
        names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        fix = (
            "Put `identity` in covey.toml back, or bring each of them a covey.json with this idr."
        )
        said = f"by the idr in their covey.json {names} refuse a key server named {identity!r}"
        yield fail("identity", said, fix)


def _running(server: dict) -> Iterator[Finding]:
    listen = server["listen"]
    yield ok("key server", f"it runs as process {server['process']} on {', '.join(listen)}")
    for place in server["skipped"]:
        fix = "Members that begin there can't: stop the other program, or serve as root."
        yield warn("ports", f"{place} can't be opened by the key server", fix)
    for place in listen:
        host, _, number = place.rpartition(":")
        host = own_address() if host == "0.0.0.0" else host
        if _answers_there(host, int(number)):
            yield ok("ports", f"{place} answers")
        else:
            fix = f"A firewall on this machine drops UDP port {number}: open it."
            yield fail("ports", f"{place} does not answer", fix)


def _answers_there(host: str, number: int) -> bool:
    """Where the marker is not the one that the port suggests, the other is tried."""
    is_marked = number == _MARKED
    return answers(host, number, is_marked) or answers(host, number, not is_marked)


def _ports_to_be(rules: policy.SitePolicy) -> Iterator[Finding]:
    """Whether the key server would get its ports."""
    wanted = [(entry.host, entry.port, True) for entry in rules.listen]
    if any(entry.port == _MARKED for entry in rules.listen):
        host = next(entry.host for entry in rules.listen if entry.port == _MARKED)
        wanted += [(host, number, False) for number in _PLAIN]
    for host, number, is_needed in wanted:
        try:
            Endpoint(0, host, number, number == _MARKED).close()
        except Problem as problem:
            said = problem.sentence.rstrip(".")
            if is_needed:
                yield fail("ports", said, "Without it the key server does not start.")
            else:
                yield warn("ports", said, "The key server will skip it: port 4500 will do.")
        else:
            yield ok("ports", f"{host}:{number} is free")
