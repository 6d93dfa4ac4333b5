"""One generation of a group's keys (epoch), and what is still to be sent, as the store holds them.

group/NAME/state    {"epoch": {...}, "outbox": [{...}, ...]}, octets as hexadecimal text;
                    "birth" in an epoch only where several key servers share the store
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from covey import ike
from covey.gcm import SALT_LEN, GCMContext

from .ledger import decode, encode
from .policy import Shape
from .seats import Seat, Seats

Random = Callable[[int], bytes]

_REKEY_SPI_LEN = 16
_ESP_SPI_LEN = 4
_FIRST_SPI = 256  # RFC 4303 section 2.1: 0 is local, 1 to 255 are reserved


@dataclass(frozen=True)
class RekeySA:
    """Keys under which GSA_REKEY goes out. keymat = GSK_e (AES key, salt) | GSK_w."""

    spi: bytes
    keymat: bytes = field(repr=False)
    key_bits: int
    next_message_id: int = 0

    @property
    def kwa(self) -> int:
        return kwa_for(self.key_bits)

    @property
    def kwk(self) -> bytes:
        """GSK_w, RFC 9838 section 3.4."""
        return self.keymat[self.key_bits // 8 + SALT_LEN :]

    @property
    def gsk_e(self) -> bytes:
        """AES key, salt."""
        return self.keymat[: self.key_bits // 8 + SALT_LEN]

    def context(self) -> GCMContext:
        return GCMContext(self.gsk_e)


@dataclass(frozen=True)
class Birth:
    """What other key servers are told of how an epoch began: they have other clocks."""

    run: str  # of the key servers, see SharedKeyServer
    time_s: int  # when, since 1970; for its age, as far as nothing is decided by that
    activate_in_ms: int = 0  # from then on: when senders use the TEK
    end_in_ms: int = 0  # when nobody takes what comes under the TEK before it
    evicts: bool = False  # it puts somebody out, while all others follow
    placed: tuple[str, ...] = ()  # newcomers for whom there is a leaf
    policy: str = ""  # which one the keys were made under, see SharedGroup


@dataclass(frozen=True)
class Epoch:
    """What is the same for all members between two rekeys."""

    number: int
    era: int  # how often all members were excluded: Sender-IDs of an earlier era are void
    life: int  # how often the key server was started in this era
    shape: Shape
    rekey: RekeySA
    tek_spi: bytes
    tek_keymat: bytes = field(repr=False)  # AES key, salt
    next_rekey_spi: bytes  # promised by GSA_NEXT_SPI
    next_tek_spi: bytes
    seats: Seats = ()  # with source authentication: who may send, who checks
    clock: bytes = b""  # by which senders are proven: its name
    birth: Birth | None = None  # where several key servers share the store
    known_life: int = 0  # since that one began, nobody has keys but whom the store knows

    @property
    def is_known(self) -> bool:
        """Whether the store knows of all who have keys. After a start in this era it may be a
        restored backup: of who registered after that was made it knows nothing."""
        return self.life == self.known_life

    @property
    def destination(self) -> tuple[str, int]:
        """Where rekeys go: the group's address, and its UDP port."""
        return self.shape.address, self.shape.carrier_port


@dataclass(frozen=True)
class Parcel:
    """A GSA_REKEY message that members may not have heard yet; kept so that it can be repeated."""

    messages: tuple[bytes, ...] = field(repr=False)  # its datagrams: several if fragmented
    destination: tuple[str, int]
    over: RekeySA  # which it was sent over; its next Message ID is above this message's
    excludes: bool  # the Delete of the whole GSA: no keys inside
    marker: bool = True  # whether four zero octets lead it there (RFC 3948 section 2.2)
    gap_ms: int = 0  # how long after the one before it goes out first


Outbox = tuple[Parcel, ...]


def kwa_for(key_bits: int) -> int:
    """The key wrap algorithm that is as strong as the key (RFC 9838 section 3.1)."""
    return ike.KW_5649_256 if key_bits == 256 else ike.KW_5649_128


def kwk_len(key_bits: int) -> int:
    """Octets of a KWK for keys of that strength."""
    return ike.KWK_LEN[kwa_for(key_bits)]


def first_epoch(shape: Shape, random: Random) -> Epoch:
    return Epoch(
        1,
        0,
        0,
        shape,
        _new_rekey_sa(random, shape, _new_rekey_spi(random)),
        **_new_tek(random, shape),
    )


def next_epoch(
    epoch: Epoch,
    shape: Shape,
    random: Random,
    *,
    excludes: bool,
    started: bool,
    over: RekeySA | None = None,
) -> Epoch:
    """The one after it: new keys throughout.

    excludes: all members must register again, so that a new era begins. started: the key server
    was; then the promised SPIs are not used, for whoever holds a copy of the store promised them
    too. over: a Rekey SA that comes in between, and has used up the promised one.
    """
    era, life = epoch.era, epoch.life + started
    if excludes:
        era, life = era + 1, 0
    is_spent = started or over is not None
    rekey_spi = _new_rekey_spi(random) if is_spent else epoch.next_rekey_spi
    tek_spi = None if started else epoch.next_tek_spi
    return Epoch(
        epoch.number + 1,
        era,
        life,
        shape,
        _new_rekey_sa(random, shape, rekey_spi),
        **_new_tek(random, shape, tek_spi, {epoch.tek_spi, epoch.next_tek_spi}),
        known_life=0 if excludes else epoch.known_life,
    )


def between(epoch: Epoch, random: Random, *, count: int, started: bool) -> list[RekeySA]:
    """Rekey SAs that come one after the other while somebody is put out, each for one message."""
    sas = [_new_rekey_sa(random, epoch.shape, _new_rekey_spi(random)) for _ in range(count)]
    if sas and not started:
        sas[0] = replace(sas[0], spi=epoch.next_rekey_spi)
    return sas


def sent_over(sa: RekeySA) -> RekeySA:
    """The Rekey SA after one more message."""
    return replace(sa, next_message_id=sa.next_message_id + 1)


def encode_state(epoch: Epoch, outbox: Outbox) -> bytes:
    fields = asdict(epoch)
    if epoch.birth is None:
        del fields["birth"]
    return encode({"epoch": fields, "outbox": [asdict(parcel) for parcel in outbox]})


def decode_state(value: bytes) -> tuple[Epoch, Outbox]:
    state = decode(value)
    fields = state["epoch"]
    epoch = Epoch(
        number=fields["number"],
        era=fields["era"],
        life=fields["life"],
        shape=Shape(**fields["shape"]),
        rekey=_rekey_sa(fields["rekey"]),
        seats=tuple(_seat(seat) for seat in fields.get("seats", ())),
        clock=bytes.fromhex(fields.get("clock", "")),
        birth=_birth(fields["birth"]) if "birth" in fields else None,
        known_life=fields.get("known_life", 0),  # a store from before it was kept
        **{name: bytes.fromhex(fields[name]) for name in _OCTETS},
    )
    return epoch, tuple(_parcel(parcel) for parcel in state["outbox"])


_OCTETS = ("tek_spi", "tek_keymat", "next_rekey_spi", "next_tek_spi")


def _birth(fields: dict) -> Birth:
    return Birth(**{**fields, "placed": tuple(fields["placed"])})


def _rekey_sa(fields: dict) -> RekeySA:
    octets = {name: bytes.fromhex(fields[name]) for name in ("spi", "keymat")}
    return RekeySA(**{**fields, **octets})


def _seat(fields: dict) -> Seat:
    secret, receives = bytes.fromhex(fields["secret"]), fields.get("receives", True)
    return Seat(fields["member"], secret, fields["index"], receives)


def _parcel(fields: dict) -> Parcel:
    address, port = fields["destination"]
    messages = fields.get("messages") or [fields["message"]]  # before there were fragments
    return Parcel(
        tuple(map(bytes.fromhex, messages)),
        (address, port),
        _rekey_sa(fields["over"]),
        fields["excludes"],
        fields.get("marker", True),  # a store from before there was a choice
        fields.get("gap_ms", 0),
    )


def _new_rekey_sa(random: Random, shape: Shape, spi: bytes) -> RekeySA:
    length = shape.key_bits // 8 + SALT_LEN + kwk_len(shape.key_bits)
    return RekeySA(spi, random(length), shape.key_bits)


def _new_tek(
    random: Random, shape: Shape, spi: bytes | None = None, taken: set[bytes] = frozenset()
) -> dict[str, bytes]:
    spi = spi or _new_tek_spi(random, taken)
    return {
        "tek_spi": spi,
        "tek_keymat": random(shape.key_bits // 8 + SALT_LEN),
        "next_rekey_spi": _new_rekey_spi(random),
        "next_tek_spi": _new_tek_spi(random, taken | {spi}),
    }


def _new_rekey_spi(random: Random) -> bytes:
    """Its first four octets are not zero: those are the non-ESP marker. Nor is its second half:
    an IKE_SA_INIT request has zeros there."""
    while True:
        spi = random(_REKEY_SPI_LEN)
        if any(spi[:4]) and any(spi[8:]):
            return spi


def _new_tek_spi(random: Random, taken: set[bytes]) -> bytes:
    while True:
        spi = random(_ESP_SPI_LEN)
        if int.from_bytes(spi) >= _FIRST_SPI and spi not in taken:
            return spi
