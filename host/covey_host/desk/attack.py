"""`covey attack`: whom it may aim at, what it prints."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from covey.drops import ConfigError

from .. import control, interrupts, output
from .. import site as sites
from ..demo.verdicts import Attack, Verdict
from ..errors import FAILURE, MISUSE, Problem
from ..gcks import policy
from ..gcks.policy import GroupPolicy
from ..gcks.sockets import check_interface, interface_address, own_address
from ..site import check_name

# RFC 2365: the local and the organisation-local scope. What is sent there stays at home.
_SCOPES = (IPv4Network("239.255.0.0/16"), IPv4Network("239.192.0.0/14"))
_LOOK = "the LED stays as it is"


def run(
    option: Path | None,
    name: str,
    watch: str | None,
    interface: str | None,
    *,
    seconds: float,
    rekeys: bool,
    seed: int,
    as_json: bool,
) -> int:
    """The exit status: 1 where a watching member has counted something else than it should."""
    from .knock import Plan
    from .raid import Raid

    site = sites.find(option)
    group = target(policy.load(site.policy), check_name("group", name))
    running = control.call(site.control, {"do": "status", "member": watch})
    if watch is not None:
        check_watcher(running, watch, group)
    address = interface_address(interface) if interface else own_address()
    check_interface(address)
    screen = Screen(as_json, watch)
    plan = Plan(site, group, address, watch, seconds, rekeys and running is not None, seed)
    screen.begin(group, address, running is not None, rekeys)
    try:
        interrupts.run(Raid(plan, screen).run)
    except ConfigError as error:
        raise Problem(f"{str(error).rstrip('.')}.") from error
    return screen.end()


def target(rules: policy.SitePolicy, name: str) -> GroupPolicy:
    """The group, if it is one of this site's that stays in the house. Else Problem."""
    group = rules.groups.get(name)
    if group is None:
        raise Problem(
            f"There is no group {name!r} in this site, and no other is ever attacked: see"
            " `covey group list`.",
            MISUSE,
        )
    if not any(IPv4Address(group.address) in scope for scope in _SCOPES):
        raise Problem(
            f"{group.address} is not of the local or the organisation's scope (239.255.0.0/16,"
            " 239.192.0.0/14): what is sent there might leave the house, so it is not attacked.",
            MISUSE,
        )
    if group.carrier != "udp" or group.single_sender:
        raise Problem(
            f"{name} has the ip carrier or a single sender: the attacker knows groups with the udp"
            " carrier and Sender-IDs only.",
            MISUSE,
        )
    return group


def check_watcher(running: dict | None, name: str, group: GroupPolicy) -> None:
    """It is this site's, of this group, and not on the air: a second one would take its place."""
    check_name("member", name)
    if running is None:
        raise Problem(f"No key server is running: {name} can't watch. Start `covey serve`.")
    known = {m["member"]: m["roles"] for m in running["members"]}
    if known.get(name, {}).get(group.name) not in ("receiver", "both"):
        raise Problem(
            f"{name} is no receiver of {group.name}: add one to watch with, `covey member add"
            f" {name} --group {group.name}`.",
            MISUSE,
        )
    states = {m["member"]: m["states"] for m in running["members"]}
    if states[name].get(group.name) == "member":
        raise Problem(
            f"{name} is in the group now, and a second one would take its place: add a member to"
            " watch with.",
            MISUSE,
        )


class Screen:
    """What a person, or a program, reads meanwhile."""

    def __init__(self, as_json: bool, watch: str | None):
        self._as_json, self._watch = as_json, watch
        self._bad = self._attacks = self._sent = 0

    def begin(self, group: GroupPolicy, interface: str, is_running: bool, rekeys: bool) -> None:
        where = f"{group.address}, port {group.carrier_port}, by {interface}"
        self.phase(f"{group.name} ({where}) is attacked: keep your eyes on the LED")
        if rekeys and not is_running:
            self.phase("no key server is running here: nothing that needs new keys, or a server")

    def phase(self, text: str) -> None:
        if self._as_json:
            output.emit({"event": "phase", "what": text})
        else:
            output.line(text)

    def skipped(self, kind: str, what: str, why: str) -> None:
        if self._as_json:
            output.emit({"event": "skipped", "kind": kind, "what": what, "why": why})
        else:
            output.line(f"     {what}: left out, {why}")

    def attacked(self, attack: Attack, reasons: dict[str, int], verdict: Verdict | None) -> None:
        """reasons: under which a member counts it; verdict: of the watching member."""
        self._attacks += 1
        self._sent += attack.sent
        if verdict is not None and not verdict.ok:
            self._bad += 1
        if self._as_json:
            facts = {**attack.summary(), "reasons": reasons}
            output.emit({"event": "attack", **facts, "ok": verdict and verdict.ok})
            return
        if verdict is None:
            counted = ", ".join(f"{reason} {n}" for reason, n in reasons.items()) or "nothing"
            output.line(f"sent {attack.what}: {attack.sent}; each member counts {counted}")
        else:
            output.line(f"{'ok  ' if verdict.ok else 'FAIL'} {verdict.name}: {verdict.detail}")

    def judged(self, verdict: Verdict) -> None:
        self._attacks += 1
        self._bad += not verdict.ok
        if self._as_json:
            output.emit(_fact(verdict))
        else:
            output.line(f"{'ok  ' if verdict.ok else 'FAIL'} {verdict.name}: {verdict.detail}")

    def end(self) -> int:
        if self._bad:
            text = f"{self._bad} of {self._attacks} attacks came to something: please report it"
        elif self._watch:
            text = f"nothing came of {self._attacks} attacks ({self._sent} packets), and {_LOOK}"
        else:
            text = f"{self._attacks} attacks ({self._sent} packets): {_LOOK}. Does it?"
        if self._as_json:
            facts = {"attacks": self._attacks, "sent": self._sent, "bad": self._bad}
            output.emit({"event": "end", **facts, "what": text})
        else:
            output.line(text)
        return FAILURE if self._bad else 0


def _fact(verdict: Verdict) -> dict:
    return {"event": "verdict", "what": verdict.name, "ok": verdict.ok, "detail": verdict.detail}
