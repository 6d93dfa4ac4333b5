"""Keys in clear, for `covey keys`: what opens a capture of this site's packets.

A record is a plain dict, its keys in hexadecimal:

    {"kind": "esp", "address", "spi", "key"}                a TEK; key: AES key, salt
    {"kind": "ike", "spi_i", "spi_r", "sk_ei", "sk_er"}     an IKE SA or a Rekey SA; likewise

While somebody follows, whatever comes is kept for a while, so that keys are told too that come
and go between two questions. With nobody following nothing is kept.
"""

from collections.abc import Iterable, Iterator

from .epoch import Epoch, RekeySA

FOLLOWED_MS = 30_000  # who has asked to follow goes on so long; keys are kept so long for it
_TOLD_MS = 60_000  # the log names a follower this often
_MOST_KEPT = 4096  # the oldest go first

Record = dict[str, str]


class Disclosure:
    def __init__(self):
        self._until_ms: int | None = None  # somebody follows until then
        self._told: dict[tuple, int] = {}  # followers → when the log was told of them
        self._kept: dict[bytes, tuple[int, Record]] = {}  # by SPI: since when

    def follow(self, who: tuple, now_ms: int) -> bool:
        """Whether the log is to be told (once more) that this one follows."""
        self._until_ms = now_ms + FOLLOWED_MS
        told = {one: ms for one, ms in self._told.items() if now_ms - ms < _TOLD_MS}
        self._told = {**told, who: told.get(who, now_ms)}
        return who not in told

    def note(self, records: Iterable[Record], now_ms: int) -> None:
        """What there is, new IKE SAs at least. Does not ask for it where nobody follows."""
        if self._until_ms is None:
            return
        if now_ms >= self._until_ms:
            self._until_ms = None
            self._kept.clear()
            return
        for record in records:
            self._kept.setdefault(_spi(record), (now_ms, record))
        while len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def with_kept(self, records: Iterable[Record], now_ms: int) -> list[Record]:
        """The records, and those that were there lately."""
        fresh = {s: (ms, r) for s, (ms, r) in self._kept.items() if now_ms - ms < FOLLOWED_MS}
        self._kept = fresh
        return list({**{s: r for s, (_, r) in fresh.items()}, **_by_spi(records)}.values())


def of_group(
    epoch: Epoch, rekey_sas: Iterable[RekeySA], is_relayed: bool = False
) -> Iterator[Record]:
    """A GSA_REKEY is an IKE message with the I flag: its Rekey SA's SPI fills both fields.
    is_relayed: packets go to members by unicast, too, to whatever address.

    The TEK of an integrity-only group opens nothing, it could only forge: it stays here.
    """
    if not epoch.shape.integrity_only:
        yield {
            "kind": "esp",
            "address": "*" if is_relayed else epoch.shape.address,
            "spi": epoch.tek_spi.hex(),
            "key": epoch.tek_keymat.hex(),
        }
    for sa in rekey_sas:
        yield of_ike_sa(sa.spi[:8], sa.spi[8:], sa.gsk_e, sa.gsk_e)


def of_ike_sa(spi_i: bytes, spi_r: bytes, sk_ei: bytes, sk_er: bytes) -> Record:
    return {
        "kind": "ike",
        "spi_i": spi_i.hex(),
        "spi_r": spi_r.hex(),
        "sk_ei": sk_ei.hex(),
        "sk_er": sk_er.hex(),
    }


def _spi(record: Record) -> bytes:
    """Of an IKE SA 16 octets, else longer: no two records have the same by chance."""
    if record["kind"] == "ike":
        return bytes.fromhex(record["spi_i"] + record["spi_r"])
    return f"esp {record['address']} {record['spi']}".encode()


def _by_spi(records: Iterable[Record]) -> dict[bytes, Record]:
    return {_spi(record): record for record in records}
