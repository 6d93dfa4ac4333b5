"""What a worker of the key server does with a datagram, sans-IO: the way in, and no further.

    IKE_SA_INIT ------------> answered here: cookies, key agreement, a half-open IKE SA
    of an IKE SA in here ---> GSA_AUTH is opened and checked: refused here, or handed over
    of any other SPI of ours: carried to its owner; what has left here is the keeper's

It is the responder that a key server without workers has, but for two things: whoever has proven
itself is handed over instead of let in, and it has no groups. It reads members and trust from
the store, and writes nothing there: heard() is to follow whatever arrived at once. What is not
right any more when it is handed over, the keeper sees once more: see Proof.holds().
"""

from collections import Counter
from collections.abc import Callable

from covey import ike

from . import handover
from .authority import Authority
from .cookies import Cookies
from .epoch import Random
from .ikesa import NEVER, IkeSA
from .parts import Parts, Payloads
from .policy import SitePolicy
from .responder import Responder
from .spis import KEEPER, Spis

_HEADER_LEN = 28


class _Proven(Exception):
    """The peer is who it says: not to be answered here."""


class _Groups:
    """In place of a registrar: there are none here."""

    def answer(self, sa: IkeSA, parts: Parts, now_ms: int) -> Payloads:
        raise _Proven

    def take_then(self) -> tuple[list[Callable[[], None]], int]:
        return [], NEVER


class Lobby(Responder):
    def __init__(
        self,
        policy: SitePolicy,
        authority: Authority,
        counters: Counter,
        tell: Callable[..., None],
        random: Random,
        time: Callable[[], float],
        spis: Spis,
        cookies: Cookies,
    ):
        how = counters, tell, random, time, spis, cookies
        super().__init__(policy, {}, authority, _Groups(), *how)
        self._spis = spis
        self._handed: list[bytes] = []

    def owner_of(self, data: bytes) -> int | None:
        """To whom an IKE message is to be carried; None: it is to be received here.

        What nobody here has made up is received too, and dropped.
        """
        if len(data) < _HEADER_LEN or data[17] >> 4 > 2 or data[18] == ike.IKE_SA_INIT:
            return None
        spi = data[8:16] if data[19] & ike.FLAG_I else data[:8]
        if spi in self._table.sas:
            return None
        owner = self._spis.owner_of(spi)
        return KEEPER if owner == self._spis.owner else owner

    def take_handed(self) -> list[bytes]:
        """IKE SAs to be handed over since the last call: see handover.py."""
        handed, self._handed = self._handed, []
        return handed

    @property
    def half_open(self) -> int:
        return self._table.half_open

    def _reply(self, sa: IkeSA, opened: ike.Opened, now_ms: int) -> list:
        try:
            return super()._reply(sa, opened, now_ms)
        except _Proven:
            self._handed.append(handover.emit(sa, opened, sa.proof))
            self._table.forget(sa)
            return []
