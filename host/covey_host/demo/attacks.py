"""What the attacker sends: for each kind of attack its packets, and what must become of each.

A Shot says under which reason every member must count it. One that names a Sender-ID under a
live SPI is taken by that very sender for its own packet looped back ("own"), before any crypto.
KINDS at the end is the list. All randomness comes from the Random that is handed in.
"""

import struct
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from covey import esp, ike
from covey.gcm import GCMContext

from ..gcks import epoch as epochs
from ..gcks.policy import GroupPolicy
from ..gcks.rekeyer import Rekeyer
from . import traffic
from .capture import Capture, Packet, context_of, is_older, sender_of

REKEY_REPLAYED = "rekey_repeat|rekey_message_id|rekey_spi"  # which of them is a matter of age

CONNECTION = b"evil"  # of forged frames
_MARKER = bytes(4)
_SPI, _SEQ, _IV, _TEXT, _ICV_LEN = 0, 4, 8, 16, 16
_FAR = 1 << 20  # numbers ahead of what any sender reaches here
_FIRST_SPI = 256
_UNKNOWN_SENDER = 0x8000  # its index is far above those that are given out


class Shot(NamedTuple):
    data: bytes
    reason: str | None  # None: nobody hears it
    sender: int | None = None  # whom it claims to come from, under a live SPI
    to_application: bool = False  # to the application's port instead of the carrier's


Shots = list[Shot]


# Replays


def replay_recent(c: Capture, rng: Random) -> Shots:
    """The newest that all have dealt with, and the oldest under the same keys."""
    shots = []
    for sender in c.senders():
        packets = c.settled(sender)
        shots += [Shot(p.data, "replay", sender) for p in packets[-20:] + packets[:10]]
    return shots


def replay_old(c: Capture, rng: Random) -> Shots:
    """From before each of the changes of keys."""
    chosen = [rng.sample(c.old(spi), 10) for spi in c.old_spis()]
    return [Shot(p.data, "retired_spi") for packets in chosen for p in packets]


def replay_rekeys(c: Capture, rng: Random) -> Shots:
    """Every GSA_REKEY heard so far."""
    return [Shot(message, REKEY_REPLAYED) for message in c.rekeys]


# Alterations. A number that was seen is refused as a replay before the ICV is computed; to reach
# the ICV an altered packet also claims a number far ahead.


def flip_spi(c: Capture, rng: Random) -> Shots:
    packet = _any(c, rng)
    return [Shot(_flip(packet.data, _SPI * 8 + bit), "unknown_spi") for bit in range(32)]


def flip_sequence(c: Capture, rng: Random) -> Shots:
    """High bits: a number never seen. Low bits: another number that was seen."""
    shots = []
    for bit in range(32):
        packet = _any(c, rng)
        if bit < 12:
            shots.append(Shot(_flip(packet.data, _SEQ * 8 + bit), "tag", packet.sender))
        elif bit >= 29:
            shots.append(Shot(_flip(packet.data, _SEQ * 8 + bit), "replay", packet.sender))
    return shots


def flip_sender(c: Capture, rng: Random) -> Shots:
    """Another index, or another incarnation: older ones are stale, newer ones fail the ICV."""
    shots = []
    for bit in range(16):
        packet = _any(c, rng)
        data = _flip(packet.data, _IV * 8 + bit)
        claimed = sender_of(data)
        if not c.is_known_index(claimed):
            shots.append(Shot(data, "tag"))
        elif bit >= 10:
            older = is_older(claimed, packet.sender)
            shots.append(Shot(data, "stale_sender" if older else "tag"))
    return shots


def flip_counter(c: Capture, rng: Random) -> Shots:
    return _flipped_anywhere(c, rng, 10, _TEXT)


def flip_text(c: Capture, rng: Random) -> Shots:
    return _flipped_anywhere(c, rng, _TEXT, -_ICV_LEN)


def flip_icv(c: Capture, rng: Random) -> Shots:
    return _flipped_anywhere(c, rng, -_ICV_LEN, None)


def cut(c: Capture, rng: Random) -> Shots:
    """Every length below the packet's own, and some above."""
    packet = _any(c, rng)
    data = _far_ahead(packet.data, rng)
    longer = [rng.randbytes(n) for n in (1, 2, 3, 4, 8, 1000, 2000)]
    shots = []
    for altered in [data[:n] for n in range(2, len(data))] + [data + more for more in longer]:
        if len(altered) < 36 or len(altered) % 4 or len(altered) > 1536:
            shots.append(Shot(altered, "length"))
        else:
            shots.append(Shot(altered, "tag", packet.sender))
    return shots


# Forgeries


def seal_retired(c: Capture, rng: Random) -> Shots:
    """Perfect packets in a genuine sender's name, but for the age of their keys."""
    shots = []
    for epoch in c.retired:
        sender = rng.choice(sorted({p.sender for p in c.old(epoch.tek_spi)}))
        for number in range(5):
            data = sealed(epoch, sender, _FAR + number)
            shots.append(Shot(data, "retired_spi"))
    return shots


def clear_to_carrier(c: Capture, rng: Random) -> Shots:
    """I/O frames without any protection: their first octets stand where an SPI would."""
    shots = []
    for cut_off in range(0, 40, 3):
        data = _frame()[: traffic.cip.DATA + traffic.DATA_LEN - cut_off]
        is_sized = len(data) >= 36 and len(data) % 4 == 0
        shots.append(Shot(data, "unknown_spi" if is_sized else "length"))
    return shots


def clear_to_application(c: Capture, rng: Random) -> Shots:
    return [Shot(_frame(), None, to_application=True) for _ in range(10)]


def guess_spi(c: Capture, rng: Random) -> Shots:
    heads = [struct.pack(">I", rng.randrange(_FIRST_SPI, 1 << 32)) for _ in range(20)]
    return [Shot(head + rng.randbytes(4 * rng.randrange(8, 60)), "unknown_spi") for head in heads]


def random_body(c: Capture, rng: Random) -> Shots:
    """The right SPI in front of noise, in an unknown sender's name and in genuine ones."""
    shots = []
    for sender in [None] * 10 + c.senders() * 5:
        number = rng.randrange(_FAR, 1 << 32)
        claimed = _UNKNOWN_SENDER | rng.getrandbits(12) if sender is None else sender
        body = rng.randbytes(6 + 4 * rng.randrange(5, 60))
        shots.append(Shot(c.spi + struct.pack(">IH", number, claimed) + body, "tag", sender))
    return shots


def nothing(c: Capture, rng: Random) -> Shots:
    return [Shot(b"", "empty")] * 3


# Forged GSA_REKEY messages


def rekey_unknown_spi(c: Capture, rng: Random) -> Shots:
    return [_noisy_rekey(b"\1" + rng.randbytes(15), "rekey_spi", rng) for _ in range(5)]


def rekey_noise(c: Capture, rng: Random) -> Shots:
    """The right SPI, sealed under some key; and a body that nothing was sealed with."""
    spi = c.current.rekey.spi
    bare = ike.emit_message(spi[:8], spi[8:], ike.GSA_REKEY, ike.FLAG_I, 0, [])
    shots = [_noisy_rekey(spi, "rekey_tag", rng) for _ in range(5)]
    return shots + [Shot(_MARKER + bytes(bare), "rekey_format")]


def rekey_by_member(c: Capture, rng: Random) -> Shots:
    """By a member with all keys of the group: perfect, but signed with a key of its own."""
    forger = Rekeyer(ec.generate_private_key(ec.SECP256R1()), rng.randbytes)
    epoch = c.current
    new = epochs.next_epoch(epoch, epoch.shape, rng.randbytes, excludes=False, started=False)
    policy = GroupPolicy("line1", epoch.shape.address, epoch.shape.port)
    parcel = forger.rekey(epoch, new, policy, atd_s=0, dtd_s=1)
    return [Shot(_MARKER + parcel.messages[0], "rekey_signature")]


def exclude_by_member(c: Capture, rng: Random) -> Shots:
    """The same with the Delete of all keys."""
    forger = Rekeyer(ec.generate_private_key(ec.SECP256R1()), rng.randbytes)
    parcel = forger.exclude(c.current.rekey, c.current.destination, True)
    return [Shot(_MARKER + parcel.messages[0], "rekey_signature")]


def sealed(epoch: epochs.Epoch, sender: int, number: int) -> bytes:
    """An I/O packet sealed for real under an epoch's key."""
    return sealed_with(
        context_of(epoch), epoch.tek_spi, epoch.shape.port, sender, number, _frame()
    )


def sealed_with(
    context: GCMContext, spi: bytes, application: int, sender: int, number: int, frame: bytes
) -> bytes:
    """A packet by whoever has the key. sender: of 16 bits."""
    buf = bytearray(esp.datagram_len(len(frame)))
    buf[esp.PAYLOAD : esp.PAYLOAD + len(frame)] = frame
    numbers = (number, sender, 0, number, application, application, 8 + len(frame), 0)
    struct.pack_into(">4sIHHIHHHH", buf, 0, spi, *numbers)
    text_len = len(buf) - esp.OVERHEAD
    pad_len = text_len - 8 - len(frame) - 2
    end = _TEXT + text_len
    buf[end - 2 - pad_len : end] = bytes(range(1, pad_len + 1)) + bytes([pad_len, 17])
    context.seal(buf, 0, esp.AAD_LEN, text_len)
    return bytes(buf)


def _any(c: Capture, rng: Random) -> Packet:
    """A genuine packet under the present keys, whose neighbours have all been taken too."""
    return rng.choice(c.settled(rng.choice(c.senders()))[10:])


def _flip(data: bytes, bit: int) -> bytes:
    """bit: counted from the most significant one of the first octet."""
    out = bytearray(data)
    out[bit >> 3] ^= 0x80 >> (bit & 7)
    return bytes(out)


def _flipped_anywhere(c: Capture, rng: Random, start: int, end: int | None) -> Shots:
    """Some bits of a field, each on a seen number and on one far ahead."""
    shots = []
    for _ in range(8):
        packet = _any(c, rng)
        field = range(len(packet.data))[start:end]
        bit = rng.randrange(field.start * 8, field.stop * 8)
        altered = _flip(packet.data, bit)
        shots.append(Shot(altered, "replay", packet.sender))
        shots.append(Shot(_far_ahead(altered, rng), "tag", packet.sender))
    return shots


def _far_ahead(data: bytes, rng: Random) -> bytes:
    return data[:_SEQ] + struct.pack(">I", rng.randrange(_FAR, 1 << 32)) + data[_IV:]


def _frame() -> bytes:
    """A frame that any receiver would take for the first of a new connection."""
    return bytes(traffic.Source(CONNECTION).make())


def _noisy_rekey(spi: bytes, reason: str, rng: Random) -> Shot:
    payloads = [(ike.NOTIFY, rng.randbytes(200))]
    context = GCMContext(rng.randbytes(20))
    head = spi[:8], spi[8:], ike.GSA_REKEY, ike.FLAG_I, rng.randrange(100)
    return Shot(
        _MARKER + bytes(ike.seal_message(context, *head, payloads, rng.randbytes(8))), reason
    )


class Kind(NamedTuple):
    what: str
    make: Callable[[Capture, Random], Shots]


KINDS = {
    "replay_recent": Kind("replayed packets, recent", replay_recent),
    "replay_old": Kind("replayed packets, from before the rekeys", replay_old),
    "flip_spi": Kind("flipped bits: SPI", flip_spi),
    "flip_sequence": Kind("flipped bits: sequence number", flip_sequence),
    "flip_sender": Kind("flipped bits: Sender-ID in the IV", flip_sender),
    "flip_counter": Kind("flipped bits: counter in the IV", flip_counter),
    "flip_text": Kind("flipped bits: ciphertext", flip_text),
    "flip_icv": Kind("flipped bits: ICV", flip_icv),
    "cut": Kind("truncated and lengthened packets", cut),
    "seal_retired": Kind("packets sealed under retired keys", seal_retired),
    "clear_to_carrier": Kind("clear text to the carrier's port", clear_to_carrier),
    "clear_to_application": Kind(
        "clear text to the application's port, for nobody", clear_to_application
    ),
    "guess_spi": Kind("forged packets, guessed SPI", guess_spi),
    "random_body": Kind("forged packets, right SPI, random body", random_body),
    "nothing": Kind("zero-length datagrams", nothing),
    "rekey_unknown_spi": Kind("forged GSA_REKEY, unknown SPI", rekey_unknown_spi),
    "rekey_noise": Kind("forged GSA_REKEY, right SPI, garbage", rekey_noise),
    "rekey_by_member": Kind("GSA_REKEY forged by a member that has the KEK", rekey_by_member),
    "exclude_by_member": Kind("exclusion forged by a member that has the KEK", exclude_by_member),
    "replay_rekeys": Kind("replayed genuine GSA_REKEYs", replay_rekeys),
}
