"""What must hold at the end, each as a function of facts: a Verdict that can fail.

Facts are what the processes said (see player.py), what the tap wrote down, and what each attack
had to bring about. Nothing here has run anything.
"""

import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .recorder import Recorder
from .tap import Book

REPLAYED_REKEYS = ("rekey_repeat", "rekey_message_id", "rekey_spi")
_LATE_ANSWERS = "ike_"  # of the key server to requests that were sent twice: no attack's doing


@dataclass(frozen=True)
class Verdict:
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Witness:
    """A member at the end. connection: of a sender; came_late: after the first packets."""

    name: str
    connection: str | None
    facts: dict
    came_late: bool = False

    @property
    def flows(self) -> dict[str, dict]:
        return self.facts["flows"]

    @property
    def drops(self) -> Counter:
        return Counter(self.facts["drops"])


@dataclass
class Attack:
    """One kind. expected, counted: member → drops by reason; a reason "a|b" is either."""

    kind: str
    what: str
    sent: int
    expected: dict[str, Counter] = field(default_factory=dict)
    counted: dict[str, Counter] = field(default_factory=dict)

    def summary(self) -> dict:
        return {
            "kind": self.kind,
            "what": self.what,
            "sent": self.sent,
            "expected": {name: dict(+counts) for name, counts in self.expected.items()},
            "counted": {name: dict(+counts) for name, counts in self.counted.items()},
        }


# Traffic


def nothing_lost(members: list[Witness]) -> Verdict:
    """From the first packet (a late comer: from its first) to the last, all came to all others."""
    troubles, pairs, sent = [], 0, 0
    for sender in senders(members):
        frames = sender.facts["frames"]
        sent += frames
        if not frames or sender.facts["unsent"]:
            troubles.append(f"{sender.name} sent {frames}, {sender.facts['unsent']} failed")
        for receiver in members:
            if receiver is sender:
                continue
            pairs += 1
            flow = receiver.flows.get(sender.connection, {"first": 0, "last": 0, "count": 0})
            first = flow["first"] if receiver.came_late and flow["count"] else 1
            if flow["last"] != frames or flow["count"] != frames - first + 1:
                troubles.append(
                    f"{receiver.name} has {flow['count']} of {sender.name}'s {frames}"
                    f" (from {flow['first']} to {flow['last']})"
                )
    detail = f"{sent} packets, each opened by every other member ({pairs} pairs)"
    return _verdict("no packet is lost, across all changes of keys", troubles, detail)


def nothing_twice(members: list[Witness]) -> Verdict:
    flows = [(w, flow) for w in members for flow in w.flows.values()]
    troubles = [f"{w.name}: {f['duplicates']} of a sender" for w, f in flows if f["duplicates"]]
    total = sum(flow["count"] for _, flow in flows)
    return _verdict("nothing is delivered twice", troubles, f"{total} deliveries")


def content_right(members: list[Witness]) -> Verdict:
    """Only frames of the senders were delivered, as they were made, and nothing else."""
    known = {sender.connection for sender in senders(members)}
    troubles = []
    for w in members:
        wrong = sum(flow["wrong"] for flow in w.flows.values())
        strange = w.facts["strange"] + sum(
            flow["count"] for c, flow in w.flows.items() if c not in known
        )
        if wrong or strange:
            troubles.append(f"{w.name}: {wrong} altered, {strange} of nobody")
        delivered = sum(flow["count"] + flow["duplicates"] for flow in w.flows.values())
        if not w.came_late and delivered + wrong + w.facts["strange"] != w.facts["opened"]:
            troubles.append(f"{w.name}: {w.facts['opened']} opened, {delivered} delivered")
    total = sum(flow["count"] for w in members for flow in w.flows.values())
    return _verdict("every packet delivered is as it was sent", troubles, f"{total} checked")


def nonces_once(book: Book, sent: int) -> Verdict:
    """sent: packets, as the members count them; the tap must have seen every one."""
    troubles = [f"{use} was used twice" for use in book.repeated[:5]]
    seen = sum(book.packets.values())
    if seen != sent:
        troubles.append(f"the tap saw {seen} packets of {sent}")
    if book.strange:
        troubles.append(f"{book.strange} datagrams are neither packets nor rekeys")
    detail = f"{seen} packets under {len(book.spis())} keys, {book.rekeys} rekeys"
    return _verdict("no (key, nonce) pair is used twice", troubles, detail)


# Changes of keys


def agreed(members: list[Witness], spi: str) -> Verdict:
    """spi: the key server's."""
    troubles = [
        f"{w.name} is {w.facts['state']} with SPI {w.facts['spi']}"
        for w in members
        if (w.facts["state"], w.facts["spi"]) != ("member", spi)
    ]
    return _verdict("all members agree with the key server", troubles, f"SPI {spi}")


def gone_dark(removed: Witness, book: Book, before: list[str], refusals: int) -> Verdict:
    """It opened all that was sent under the keys it had, and nothing of what came later.

    before: those SPIs. refusals: how often the key server refused to let it in again.
    """
    had, after = book.under(before), sum(book.packets.values()) - book.under(before)
    opened, heard = removed.facts["opened"], removed.drops["unknown_spi"]
    troubles = []
    if opened != had:
        troubles.append(f"it opened {opened} packets, {had} were sent under keys that it had")
    if not after or heard < after:
        troubles.append(f"it heard {heard} of {after} packets sent after its removal")
    if not refusals:
        troubles.append("it was not refused")
    if removed.facts["state"] not in ("refused", "registering"):
        troubles.append(f"it is {removed.facts['state']}")
    detail = (
        f"{removed.name}: {opened} opened before, 0 of {after} after, refused {refusals} times"
    )
    return _verdict("the removed member opens nothing later", troubles, detail)


# Attacks


def repelled(attack: Attack) -> Verdict:
    """Counted under the right reason, exactly, on each member."""
    troubles = [] if attack.expected and attack.sent else ["nothing was attacked"]
    alike: dict[str, list[str]] = {}  # what was counted → by whom
    for name, expected in attack.expected.items():
        counted = attack.counted.get(name, Counter())
        alike.setdefault(_shown(counted), []).append(name)
        if not matches(expected, counted):
            troubles.append(f"{name} counted {_shown(counted)} instead of {_shown(expected)}")
    everywhere = "; ".join(f"{what} ({', '.join(names)})" for what, names in alike.items())
    return _verdict(attack.what, troubles, f"{attack.sent} sent; {everywhere}")


def explained(members: list[Witness], attacks: list[Attack], repeats: int) -> Verdict:
    """Over the whole run each member dropped what the attacks explain, and nothing else.

    Besides: its own packets come back to it, and `repeats` GSA_REKEYs came again.
    """
    troubles, total = [], 0
    for w in members:
        expected = Counter(own=w.facts["sent"])
        expected["|".join(REPLAYED_REKEYS)] = repeats
        for attack in attacks:
            expected += attack.expected.get(w.name, Counter())
        counted = Counter({r: n for r, n in w.drops.items() if not r.startswith(_LATE_ANSWERS)})
        total += sum(counted.values()) - w.facts["sent"]
        if not matches(expected, counted):
            troubles.append(f"{w.name} counted {_shown(counted)} instead of {_shown(expected)}")
    detail = f"{total} drops beside packets of one's own"
    return _verdict("every drop of the run is explained", troubles, detail)


def expected_of(sorts: list[list], sender_id: int | None) -> Counter:
    """What a member should count of an attack: [reason, Sender-ID under a live SPI, number]."""
    expected: Counter = Counter()
    for reason, sender, n in sorts:
        if reason is not None:
            expected["own" if sender is not None and sender == sender_id else reason] += n
    return expected


def matches(expected: Counter, counted: Counter) -> bool:
    """Whether they are the same, where an expected reason "a|b" is met by any mix of a and b."""
    group = {one: key for key in expected if "|" in key for one in key.split("|")}
    return _grouped(expected, group) == _grouped(counted, group)


def _grouped(counts: Counter, group: dict[str, str]) -> Counter:
    merged: Counter = Counter()
    for reason, n in counts.items():
        merged[group.get(reason, reason)] += n
    return +merged


# Registrations


def lied_to(guest: Witness, lies: int, wanted: int) -> Verdict:
    """It became a member although forged errors came first, and counted them."""
    troubles = []
    if lies != wanted:
        troubles.append(f"the attacker forged {lies} errors instead of {wanted}")
    if guest.drops["ike_clear_error"] != lies:
        troubles.append(f"{guest.name} counted {guest.drops['ike_clear_error']} of {lies}")
    if guest.facts["state"] != "member":
        troubles.append(f"{guest.name} is {guest.facts['state']}")
    detail = f"{lies} forged, counted: ike_clear_error; {guest.name} became a member all the same"
    return _verdict("forged errors in clear during a registration", troubles, detail)


def turned_away(what: str, reason: str, events: list[dict], server_counted: int) -> Verdict:
    """A registration that must fail: `covey join` said why, and the key server counted it."""
    said = [e.get("detail", "") for e in events if e["event"] == "failed"]
    troubles = []
    if len(said) != 1 or reason not in said[0]:
        troubles.append(f"the member was told {said}")
    if any(e["event"] == "registered" for e in events):
        troubles.append("it was let in")
    if server_counted != 1:
        troubles.append(f"the key server counted it {server_counted} times")
    return _verdict(what, troubles, f"refused, counted: {reason}")


def acknowledged(
    group: str, members: Iterable[str], holders: list[str], statuses: list[int]
) -> Verdict:
    """New keys went to each member over its own IKE SA; then both left when they were told to."""
    troubles = [f"{name} has not acknowledged" for name in members if name not in holders]
    troubles += [f"one ended with status {s}" for s in statuses if s != 128 + signal.SIGTERM]
    name = f"new keys of {group} inband, by way of a plain port"
    return _verdict(name, troubles, f"acknowledged by {' and '.join(members)}")


# The end


def recorded(recorder: Recorder, book: Book) -> Verdict:
    """All that the tap saw is in the capture, but for what the system says it had no room for."""
    troubles = [recorder.trouble] if recorder.trouble else []
    seen = sum(book.packets.values()) + book.rekeys + book.rekey_repeats
    if recorder.packets + recorder.lost < seen:
        troubles.append(f"{recorder.packets} packets, but the tap saw {seen}")
    how = {"socket": "as they went over the wire", "tap": "the group's only, with new headers"}
    lost = f", {recorder.lost} lost" if recorder.lost else ""
    detail = f"{recorder.path}: {recorder.packets} packets, {how[recorder.by]}{lost}"
    return _verdict("a capture is left, and its keys", troubles, detail)


def ended(statuses: dict[str, int], stayed: list[str], server_cleaned_up: bool) -> Verdict:
    """statuses: of every process, by name; stayed: members that the server did not see leave."""
    troubles = [f"{name} ended with status {s}" for name, s in statuses.items() if s]
    troubles += [f"the key server did not see {name} leave" for name in stayed]
    if not server_cleaned_up:
        troubles.append("the key server did not end in good order")
    return _verdict("everything ended cleanly", troubles, f"{len(statuses)} processes")


def senders(members: Iterable[Witness]) -> list[Witness]:
    return [w for w in members if w.connection]


def _verdict(name: str, troubles: list[str], detail: str) -> Verdict:
    return Verdict(name, not troubles, "; ".join(troubles) or detail)


def _shown(counts: Counter) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()) if n > 0) or "nothing"
