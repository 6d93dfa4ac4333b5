"""What members of a group with source authentication are told: private attributes of GSA and KD.

The formats, and what members do with them: covey/sources.py. Who has which seat: seats.py.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from covey import signers, timing
from covey import sources as wire
from covey.p256_sign import derived

from .chains import Chains
from .epoch import Epoch
from .keytree import Node
from .policy import ECDSA, MAC, NONE, TESLA
from .seats import Seat, seat_of, slots
from .senders import Row

Attribute = tuple[int, bytes]


@dataclass(frozen=True)
class Told:
    """By a rekey: in the group-wide policy, and in the member bag."""

    group: list[Attribute] = field(default_factory=list)
    members: list[Attribute] = field(default_factory=list, repr=False)


def of_tek(epoch: Epoch) -> list[Attribute]:
    """Attributes in the TEK's policy."""
    shape = epoch.shape
    if shape.source_auth == MAC:
        return [wire.emit_macs(shape.mac_len, [seat.slot_id for seat in slots(epoch.seats)])]
    if shape.source_auth == TESLA:
        return [timing.emit_timing(_timing(epoch))]
    if shape.source_auth == ECDSA:
        return [wire.emit_signed(shape.ecdsa_batch.bit_length() - 1)]
    return []


def of_group(
    epoch: Epoch,
    rows: dict[int, Row],
    chains: Chains,
    was: Epoch | None = None,
    asking: Container[str] = (),
) -> list[Attribute]:
    """Attributes in the group-wide policy. rows: what indexes were used for, as of now. was: the
    epoch before, in a rekey that its members follow: they need changes only. asking: who gets
    another incarnation now."""
    if epoch.shape.source_auth == NONE:
        return []
    senders = [seat for seat in epoch.seats if seat.index is not None]
    found = [wire.emit_roster(_roster(epoch, senders, rows))]
    if was is not None:
        before = {seat.index: seat for seat in was.seats if seat.index is not None}
        others = [s for s in senders if before.pop(s.index, None) != s or s.member in asking]
        told = sorted(before), _roster(epoch, others, rows)
        changes = wire.emit_roster_changes(was.number, *told)
        if len(changes[1]) < len(found[0][1]):
            found, senders = [changes], others
    if epoch.shape.source_auth == TESLA:
        found.append(timing.emit_chains(chains.rows(epoch, is_all=False)))
    if epoch.shape.source_auth == ECDSA:
        found.append(signers.emit_signers({s.index: _point(s.secret) for s in senders}))
    return found


def of_member(epoch: Epoch, member: str, kwk: bytes) -> list[Attribute]:
    """Attributes in its own bag, at a registration. kwk: GSK_w of its IKE SA."""
    seat = seat_of(epoch.seats, member)
    if seat is None or epoch.shape.source_auth not in (MAC, ECDSA):
        return []
    found = [wire.emit_receiver_key(kwk, seat.secret)]
    if epoch.shape.source_auth == ECDSA:  # it derives its private key
        return found
    pairs = _pairs(seat, slots(epoch.seats))
    if seat.index is not None and pairs:
        found.append(wire.emit_sender_keys(bytes(4), kwk, pairs))
    return found


def of_senders(old: Epoch, new: Epoch, leaves: Mapping[str, Node]) -> list[Attribute]:
    """Attributes in the member bag of a rekey: to each sender that goes on, what the newcomers'
    slots take. leaves: personal keys in the key tree."""
    if new.shape.source_auth != MAC:
        return []
    known = {seat.slot_id for seat in slots(old.seats)}
    fresh = [seat for seat in slots(new.seats) if seat.slot_id not in known]
    found = []
    for seat in new.seats:
        was = seat_of(old.seats, seat.member)
        leaf = leaves.get(seat.member)
        if seat.index is None or was is None or was.index is None or leaf is None:
            continue  # it registers, or has to
        pairs = _pairs(seat, fresh)
        if pairs:
            key_id = leaf.key_id.to_bytes(4, "big")
            found.append(wire.emit_sender_keys(key_id, leaf.key, pairs))
    return found


def _roster(epoch: Epoch, senders: list[Seat], rows: dict[int, Row]) -> list[tuple]:
    low = (1 << epoch.shape.incarnation_bits) - 1
    return [(s.index, _latest(rows, s.index) & low, s.member.encode()) for s in senders]


def _point(secret: bytes) -> bytes:
    """The 65 octets of the point with which a sender's signatures are verified."""
    scalar = int.from_bytes(derived(secret, signers.KEY_LABEL), "big")
    point = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
    return point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _timing(epoch: Epoch) -> timing.Timing:
    shape = epoch.shape
    terms = shape.mac_len, shape.tesla_lag, shape.tesla_chain, shape.tesla_interval_ms
    return timing.Timing(*terms, epoch.clock, shape.tesla_drift_ppm)


def _pairs(sender: Seat, receivers: list[Seat]) -> list[tuple[bytes, bytes]]:
    name = sender.member.encode()
    return [
        (seat.slot_id, bytes(wire.pair_key(seat.secret, name)))
        for seat in receivers
        if seat.member != sender.member
    ]


def _latest(rows: dict[int, Row], index: int) -> int:
    """The incarnation that was given last; one that comes is newer."""
    return rows[index].used - 1 if index in rows else -1
