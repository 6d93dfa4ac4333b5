"""What must hold of a History, whatever was done to the cluster: each a Verdict that can fail."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from ..demo.verdicts import Verdict
from ..gcks.epoch import decode_state
from ..gcks.ledger import decode
from ..gcks.senders import decode_row, sender_id
from . import wire
from .history import History, State

_SHOWN = 5


def all_of(history: History) -> list[Verdict]:
    """But back(): that takes what the members are now."""
    return [
        one_lineage(history),
        from_the_store(history),
        nonces_once(history),
        message_ids_once(history),
        incarnations_once(history),
        removed_for_good(history),
    ]


def one_lineage(history: History) -> Verdict:
    """Epochs follow each other one by one; each Rekey SA and each TEK is of one of them, has one
    key, and counts up."""
    troubles: list[str] = []
    keys: dict[bytes, bytes] = {}  # SPI → its keys
    ids: dict[bytes, int] = {}  # Rekey SPI → its next Message ID
    born: dict[bytes, int] = {}  # SPI of a Rekey SA or TEK → of which epoch
    before: State | None = None
    for state in history.states():
        epoch, rekey = state.epoch, state.epoch.rekey
        if before is not None:
            was = before.epoch
            if epoch.number not in (was.number, was.number + 1) or epoch.era < was.era:
                troubles.append(
                    f"epoch {epoch.number} (era {epoch.era}) came behind {was.number} ({was.era})"
                )
            if epoch.number == was.number and epoch.tek_spi != was.tek_spi:
                troubles.append(f"epoch {epoch.number} has two TEKs")
        named = {sa.spi: sa.keymat for sa in (rekey, *(parcel.over for parcel in state.outbox))}
        for spi, keymat in {**named, epoch.tek_spi: epoch.tek_keymat}.items():
            if keys.setdefault(spi, keymat) != keymat:
                troubles.append(f"{spi.hex()} stands for two keys")
        for spi in (epoch.tek_spi, rekey.spi):
            if born.setdefault(spi, epoch.number) != epoch.number:
                troubles.append(f"{spi.hex()} is of epochs {born[spi]} and {epoch.number}")
        if rekey.next_message_id < ids.get(rekey.spi, 0):
            troubles.append(f"Message IDs of {rekey.spi.hex()} went back")
        ids[rekey.spi] = rekey.next_message_id
        before = state
    if before is None:
        troubles.append("the group has no state")
    last = before.epoch.number if before else 0
    return _verdict("one lineage of KEKs", troubles, f"{len(ids)} Rekey SAs, to epoch {last}")


def from_the_store(history: History) -> Verdict:
    """What was sent is what had been written: no GSA_REKEY, and no packet of data, under a key or
    in words that the store never held."""
    parcels = [parcel for state in history.states() for parcel in state.outbox]
    written = {_digest(message) for parcel in parcels for message in parcel.messages}
    teks = {state.epoch.tek_spi for state in history.states()}
    rekeys: set[bytes] = set()
    spis: set[bytes] = set()
    for datagram in history.wire:
        if wire.is_rekey(datagram.message):
            rekeys.add(_digest(datagram.message))
        elif (use := wire.use_of(datagram.data)) and use[0] == wire.ESP:
            spis.add(use[1])
    troubles = [f"{len(rekeys - written)} of {len(rekeys)} rekeys were sent and never written"]
    if not rekeys - written:
        troubles = []
    troubles += [f"data were sent under {spi.hex()}, which nobody made" for spi in spis - teks]
    detail = f"{len(rekeys)} rekeys, data under {len(spis)} TEKs"
    return _verdict("all that was sent is of the store's keys", troubles, detail)


def nonces_once(history: History) -> Verdict:
    """On the wire; what is repeated is repeated to the last octet."""
    seen: dict[tuple[str, bytes, bytes], bytes] = {}
    troubles = []
    for datagram in history.wire:
        use = wire.use_of(datagram.data)
        if use is None:
            continue
        digest = _digest(datagram.message)
        if seen.setdefault(use, digest) != digest:
            troubles.append(f"{use[0]}: {use[2].hex()} again under {use[1].hex()}")
    if not seen:
        troubles.append("nothing was heard")
    return _verdict("no (key, nonce) pair is used twice", troubles, f"{len(seen)} were used")


def message_ids_once(history: History) -> Verdict:
    """Of GSA_REKEY: one Message ID of a Rekey SA is one message, in the store and on the wire."""
    said: dict[tuple[bytes, bytes], set[bytes]] = {}
    for state in history.states():
        for parcel in state.outbox:
            for message in parcel.messages:
                said.setdefault(_named(message), set()).add(_digest(message))
    for datagram in history.wire:
        if wire.is_rekey(message := datagram.message):
            said.setdefault(_named(message), set()).add(_digest(message))
    troubles = [
        f"{s.hex()} has {len(m)} of one number" for (s, _), m in said.items() if len(m) > 1
    ]
    return _verdict("no Message ID is issued twice", troubles, f"{len(said)} were issued")


def incarnations_once(history: History) -> Verdict:
    """Under one TEK a Sender-ID is given out once, held by one process, and sent from one port."""
    troubles: list[str] = []
    issued: dict[tuple[bytes, int], int] = {}  # (TEK's SPI, Sender-ID) → revision
    prefix = f"group/{history.group}/"
    rows: dict[str, bytes] = {}
    now: State | None = None
    for revision, changes in _by_revision(history, prefix):
        if changes.get("state"):
            now = State(revision, *decode_state(changes["state"]))
        for key, value in changes.items():
            if not key.startswith("sender/") or now is None:
                continue
            was = rows.pop(key, None)
            if value is None:
                continue
            rows[key] = value
            row = decode_row(value)
            used = decode_row(was).used if was and decode_row(was).era == row.era else None
            if used is not None and row.used < used:
                troubles.append(f"incarnations of {key} went back from {used} to {row.used}")
            if row.used_by_tek and row.owner and row.used != used:
                value_of = now.epoch.tek_spi, sender_id(now.epoch.shape, int(key[7:]), row)
                if value_of in issued:
                    troubles.append(
                        f"{value_of[1]} was issued twice under {value_of[0].hex()},"
                        f" by revisions {issued[value_of]} and {revision}"
                    )
                issued[value_of] = revision
    held = [holding for holding in history.holdings if holding.sender_id is not None]
    holders = _several(((h.spi, h.sender_id), h.member) for h in held)
    for (spi, id), who in holders:
        troubles.append(f"{' and '.join(who)} have Sender-ID {id} under {spi}")
    ports = _several(_senders(history))
    troubles += [f"Sender-ID {id} under {spi.hex()} is of two ports" for (spi, id), _ in ports]
    return _verdict("no incarnation is issued twice", troubles, f"{len(issued)} were issued")


def removed_for_good(history: History) -> Verdict:
    """Once a command has said so, the store has no right and no place of that member any more, and
    the member has none of the keys that count from then on."""
    troubles: list[str] = []
    states = history.states()
    for removal in history.removals:
        member = removal.member
        keys = f"authority/member/{member}", f"group/{history.group}/member/{member}"
        held: dict[str, bytes | None] = {}
        for row in history.rows:
            if row.key not in keys:
                continue
            if row.revision <= removal.revision:
                held[row.key] = row.value
            elif _is_in(row.key, row.value):
                troubles.append(f"{member} is back by revision {row.revision}: {row.key}")
        troubles += [
            f"{member} was still in {key} when that was said"
            for key, value in held.items()
            if _is_in(key, value)
        ]
        until = [s.epoch for s in states if s.revision <= removal.revision]
        after = {s.epoch.tek_spi for s in states if s.revision > removal.revision}
        after |= {until[-1].tek_spi} if until else set()
        had = {h.spi for h in history.holdings if h.member.rpartition("-")[0] == member}
        troubles += [f"{member} has got {spi.hex()}" for spi in after if spi.hex() in had]
    detail = f"{len(history.removals)} were removed"
    return _verdict("an eviction once acknowledged is not undone", troubles, detail)


def back(spi: str, members: Iterable[tuple[str, dict]]) -> Verdict:
    """spi: the key server's, after all harm is over. members: name, and what it says."""
    found = list(members)
    troubles = [
        f"{name} is {facts['state']} with SPI {facts['spi']}"
        for name, facts in found
        if (facts["state"], facts["spi"]) != ("member", spi)
    ]
    detail = f"{len(found)} members with SPI {spi}"
    return _verdict("every member is back in the newest epoch", troubles, detail)


def _is_in(key: str, value: bytes | None) -> bool:
    if value is None:
        return False
    return not key.startswith("authority/") or not decode(value)["removed"]


def _by_revision(history: History, prefix: str) -> Iterable[tuple[int, dict[str, bytes | None]]]:
    """What each write did to the entries below the prefix."""
    changes: dict[str, bytes | None] = {}
    at = 0
    for row in history.under(prefix):
        if row.revision != at and changes:
            yield at, changes
            changes = {}
        at = row.revision
        changes[row.key] = row.value
    if changes:
        yield at, changes


def _senders(history: History) -> Iterable[tuple[tuple[bytes, int], tuple[str, int]]]:
    """Of each packet of data the TEK's SPI and Sender-ID, and where it came from."""
    for datagram in history.wire:
        if (use := wire.use_of(datagram.data)) and use[0] == wire.ESP:
            yield (use[1], int.from_bytes(use[2][:2])), datagram.source


def _several(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, list]]:
    """Of (what, of whom): what is of more than one."""
    found: dict[Any, set] = {}
    for what, whom in pairs:
        found.setdefault(what, set()).add(whom)
    return [(what, sorted(whom)) for what, whom in found.items() if len(whom) > 1]


def _named(message: bytes) -> tuple[bytes, bytes]:
    """SPIs and Message ID, and of fragments the fragment's number."""
    is_fragment = message[16] == wire.SKF  # no other payload before it
    return message[:16], message[20:24] + (message[32:34] if is_fragment else b"")


def _digest(octets: bytes) -> bytes:
    return sha256(octets).digest()


def _verdict(name: str, troubles: list[str], detail: str) -> Verdict:
    more = [f"and {len(troubles) - _SHOWN} more"] if len(troubles) > _SHOWN else []
    return Verdict(name, not troubles, "; ".join([*troubles[:_SHOWN], *more]) or detail)
