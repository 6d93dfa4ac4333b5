"""Our own requests: what is to be asked of a member next, sent again, and what its answer means.

One at a time for each IKE SA. Nothing is queued: whenever none is under way, the next one follows
from the state of the IKE SA and of its groups. In this order:

    CLOSING    the groups are taken back, where the member was removed; then Delete
    OPEN       keys of inband groups; new keys for the IKE SA; a sign of life, or its end
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from covey import ike
from covey.drops import (
    DROP_IKE_CRITICAL,
    DROP_IKE_EXCHANGE,
    DROP_IKE_MESSAGE_ID,
    FormatError,
    name_of,
)

from . import Out, ikerekey, ikesa, inband
from .epoch import Random
from .group import Group
from .ikesa import NEVER, IkeSA
from .inband import Told
from .parts import Parts, Payloads
from .policy import SitePolicy
from .redirects import Redirects
from .table import Table

RETRANSMIT_MS = (1000, 2000, 4000, 8000)  # how long each sending of a request is waited for
AT_ONCE = 64  # IKE SAs worked on before others get their turn
BUSY_MS = 10_000  # after TEMPORARY_FAILURE, and up to as much again at random
_JITTER = 10  # % of the life of an IKE SA: not all get new keys at once

DELETE, ALIVE, REKEY, TELL, TAKE_BACK = "delete", "alive", "rekey", "tell", "take back"
REDIRECT = "redirect"
_DELETE_IKE: Payloads = [(ike.DELETE, ike.emit_delete(ike.Delete(ike.IKE, 0, [])))]


@dataclass
class Pending:
    """A request that is not answered yet."""

    what: str
    exchange: int
    message_id: int
    datagrams: list[bytes]
    note: Any = None  # inband.Telling, ikerekey.Asked
    tries: int = 0
    due_ms: int = 0  # when it is sent again, or given up


class Requests:
    def __init__(
        self,
        policy: SitePolicy,
        table: Table,
        groups: dict[str, Group],
        counters: Counter,
        tell: Callable[..., None],
        random: Random,
    ):
        self.policy = policy
        self._table = table
        self._groups = groups
        self._counters = counters
        self._tell = tell
        self._random = random
        self.redirects = Redirects(random)
        self._epochs: dict[str, tuple] = {}  # of inband groups, as members were last told of

    def opened(self, sa: IkeSA, now_ms: int) -> None:
        """A new IKE SA serves its member: its life begins."""
        self._table.open(sa)
        life_ms = self.policy.ike_lifetime_s * 1000
        sa.rekey_ms = now_ms + life_ms - self._share(life_ms * _JITTER // 100)
        self.wake(sa)

    def close(self, sa: IkeSA, now_ms: int, *, is_excluded: bool = False) -> list[Out]:
        """Delete an IKE SA, once our request under way has been answered."""
        if self._table.sas.get(sa.own_spi) is not sa:
            return []  # it had to make room
        sa.is_excluded = is_excluded and bool(sa.told)
        self._table.close(sa)
        return self.proceed(sa, now_ms)

    def tell_all(self, now_ms: int) -> list[Out]:
        """After anything: whoever is in an inband group hears of its new epoch."""
        epochs = {
            name: (group.epoch.era, group.epoch.number)
            for name, group in self._groups.items()
            if group.epoch is not None
        }
        if epochs == self._epochs:
            return []
        self._epochs = epochs
        return self._proceed_all([sa for sa in self._table.proven.values() if sa.told], now_ms)

    def redirect_all(self, now_ms: int) -> list[Out]:
        """Whoever can be sent elsewhere is, from now on."""
        return self._proceed_all(
            [sa for sa in self._table.proven.values() if sa.has_redirect], now_ms
        )

    def _proceed_all(self, sas: list[IkeSA], now_ms: int) -> list[Out]:
        outs = []
        for sa in sas[:AT_ONCE]:
            outs += self.proceed(sa, now_ms)
        for sa in sas[AT_ONCE:]:  # by step(), as soon as whoever waits has been heard
            self._table.timers.put(sa, now_ms)
        return outs

    def proceed(self, sa: IkeSA, now_ms: int) -> list[Out]:
        """Send what is next, if nothing is under way."""
        outs = []
        if sa.pending is None:
            begun = self._next(sa, now_ms)
            if begun is not None:
                what, exchange, payloads, note = begun
                message_id = sa.next_own
                datagrams = sa.ask(exchange, payloads)
                sa.pending = Pending(what, exchange, message_id, datagrams, note)
                outs = self._send(sa, now_ms)
        self.wake(sa)
        return outs

    def step(self, sa: IkeSA, now_ms: int) -> list[Out]:
        """Time has come for this IKE SA."""
        pending = sa.pending
        if pending is None:
            return self.proceed(sa, now_ms)
        if now_ms < pending.due_ms:
            return []
        if pending.tries < len(RETRANSMIT_MS):
            return self._send(sa, now_ms)
        if sa.state == ikesa.OPEN:  # section 2.4: the peer is gone
            self._counters["unanswered"] += 1
            self._tell("unanswered", member=sa.identity)
        self._table.forget(sa)
        return []

    def next_ms(self, sa: IkeSA) -> int:
        """When there is something to do for this IKE SA."""
        due_ms = sa.deadline_ms
        if sa.deferred is not None:
            due_ms = min(due_ms, sa.deferred.until_ms)
        if sa.pending is not None:
            return min(due_ms, sa.pending.due_ms)
        if sa.state == ikesa.OPEN:
            due_ms = min(due_ms, sa.rekey_ms, self._silent_ms(sa), sa.tell_ms or NEVER)
        return due_ms

    def wake(self, sa: IkeSA) -> None:
        """See that step() is called in time."""
        if self._table.sas.get(sa.own_spi) is sa:
            self._table.timers.put(sa, self.next_ms(sa))

    # What is next

    def _next(self, sa: IkeSA, now_ms: int) -> tuple[str, int, Payloads, Any] | None:
        if sa.state == ikesa.CLOSING:
            if sa.is_excluded:
                sa.is_excluded = False
                return TAKE_BACK, ike.GSA_INBAND_REKEY, inband.EXCLUSION, None
            return DELETE, ike.INFORMATIONAL, _DELETE_IKE, None
        if sa.state != ikesa.OPEN:
            return None
        if now_ms >= sa.tell_ms:
            sa.tell_ms = 0
            found = inband.due(sa, self._groups, now_ms)
            if found is not None:
                inband.sent(sa, found[1])
                self._table.is_changed = True
                return TELL, ike.GSA_INBAND_REKEY, *found
        if self._is_redirected(sa):
            return REDIRECT, ike.INFORMATIONAL, self.redirects.told(), None
        if now_ms >= sa.rekey_ms:
            return (
                REKEY,
                ike.CREATE_CHILD_SA,
                *ikerekey.ask(sa, self._table.new_spi(), self._random),
            )
        if now_ms < self._silent_ms(sa):
            return None
        if sa.told:
            return ALIVE, ike.INFORMATIONAL, [], None
        self._counters["idle_closed"] += 1
        self._table.close(sa)
        return DELETE, ike.INFORMATIONAL, _DELETE_IKE, None

    def _is_redirected(self, sa: IkeSA) -> bool:
        """Whether it is to be sent elsewhere now: once."""
        to = self.redirects
        is_sent = to.is_draining or (to.is_parting and bool(sa.told))
        if not (is_sent and sa.has_redirect and to.hosts):
            return False
        was_redirected, sa.is_redirected = sa.is_redirected, True
        return not was_redirected

    def _silent_ms(self, sa: IkeSA) -> int:
        """When silence has lasted too long: a kept IKE SA is checked then, another one closed."""
        if sa.told:
            return sa.heard_ms + self.policy.liveness_s * 1000
        groups = self.policy.groups
        kept_s = max((groups[n].max_silence_s for n in sa.registered if n in groups), default=0)
        idle_ms = sa.used_ms + self.policy.ike_idle_s * 1000
        if kept_s:  # its member asks for signs of life over it, and would register else
            return max(idle_ms, sa.heard_ms + 2 * kept_s * 1000)
        return idle_ms

    def _send(self, sa: IkeSA, now_ms: int) -> list[Out]:
        """The same octets each time (section 2.1)."""
        pending = sa.pending
        pending.due_ms = now_ms + RETRANSMIT_MS[pending.tries]
        pending.tries += 1
        self.wake(sa)
        return [Out(datagram, sa.address) for datagram in pending.datagrams]

    # Answers

    def take(self, sa: IkeSA, header: ike.Header, data: bytes, address: Any, now_ms: int) -> list:
        """An answer of the member → what is sent thereupon. FormatError: dropped."""
        pending = sa.pending
        if pending is None or header.message_id != pending.message_id:
            raise FormatError(DROP_IKE_MESSAGE_ID)
        if header.exchange != pending.exchange:
            raise FormatError(DROP_IKE_EXCHANGE)
        opened = sa.open_answer(data)
        if opened is None:
            return []
        sa.pending = None
        self._table.hear(sa, address, now_ms)
        if pending.what == DELETE:  # whatever it says, that is done
            self._table.forget(sa)
            return []
        try:
            parts = _parts(opened)
            failed = next((n.type for n in parts.notifies if n.type < ike.FIRST_STATUS), None)
            if failed is None:
                outs = self._succeed(sa, pending, parts, now_ms)
            else:
                outs = self._fail(sa, pending, failed, now_ms)
        except FormatError as error:
            self._counters[name_of(error.reason)] += 1
            outs = self.close(sa, now_ms)
        if sa.own_spi in self._table.sas and sa.state != ikesa.ENDED:
            outs = outs + self.proceed(sa, now_ms)
        return outs

    def _succeed(self, sa: IkeSA, pending: Pending, parts: Parts, now_ms: int) -> list[Out]:
        if pending.what == TELL:
            self._counters["told"] += 1
            inband.answered(sa, pending.note)
            sa.used_ms = now_ms  # who was sent away has some time to register over it
        elif pending.what == REKEY:
            return self._rekeyed(sa, pending.note, parts, now_ms)
        return []

    def _fail(self, sa: IkeSA, pending: Pending, type: int, now_ms: int) -> list[Out]:
        """An error in the answer: our request has failed as a whole (section 3.10.1)."""
        if type == ike.INVALID_SYNTAX:  # section 2.21.3: fatal for both, no Delete
            self._counters["peer_invalid_syntax"] += 1
            self._table.end(sa, now_ms)
            return []
        self._counters["peer_refused"] += 1
        is_busy = type == ike.TEMPORARY_FAILURE
        later_ms = now_ms + BUSY_MS + self._share(BUSY_MS)
        if pending.what == REKEY:  # the IKE SA goes on; section 2.25: not at once again
            life_ms = self.policy.ike_lifetime_s * 1000
            sa.rekey_ms = later_ms if is_busy else max(later_ms, now_ms + life_ms // 4)
        elif pending.what == TELL and is_busy and pending.note.now is not None:
            sa.tell_ms = later_ms
        elif pending.what == TELL and sa.state == ikesa.OPEN:
            return self.close(sa, now_ms)  # it has not taken the keys: let it come anew
        return []

    # New keys for an IKE SA

    def _rekeyed(self, sa: IkeSA, asked: ikerekey.Asked, parts: Parts, now_ms: int) -> list[Out]:
        """Our request was answered. The other IKE SA that the peer may have made is weighed."""
        new, lowest = ikerekey.conclude(sa, asked, parts, self._random)
        self._table.add_successor(new)
        self._counters["ike_rekeyed"] += 1
        if sa.state != ikesa.OPEN:  # being closed or replaced meanwhile
            return self._drop_redundant(sa, new, lowest, now_ms)
        self._take_over(sa, new, now_ms)
        return self.close(sa, now_ms) + self.proceed(new, now_ms)

    def _drop_redundant(self, sa: IkeSA, new: IkeSA, lowest: bytes, now_ms: int) -> list[Out]:
        """Section 2.8.2: of two new ones, the one with the lowest nonce goes, by its maker; the
        maker of the other deletes the old one."""
        rival = sa.rival
        if rival is None or lowest < rival.lowest:
            return self.close(new, now_ms)
        if rival.sa.state == ikesa.OPEN:
            new.told, new.tell_ms = rival.sa.told, rival.sa.tell_ms
            rival.sa.told = {}
            self._table.replace(rival.sa, now_ms)
        elif rival.sa.state == ikesa.ENDED and sa.identity not in self._table.proven:
            # the peer knew all nonces before us; what it was being told over it may be lost
            new.told = {name: Told(of.era, 0, of.spis) for name, of in rival.told.items()}
        else:
            return self.close(new, now_ms)
        self.opened(new, now_ms)
        return self.close(sa, now_ms) + self.proceed(new, now_ms)

    def peer_rekeyed(self, sa: IkeSA, new: IkeSA, lowest: bytes, now_ms: int) -> None:
        """The peer asked and was answered."""
        self._table.add_successor(new)
        self._counters["ike_rekeyed"] += 1
        if sa.pending is not None and sa.pending.what == REKEY:
            sa.rival = ikerekey.Rival(new, lowest, new.told)
        self._take_over(sa, new, now_ms)

    def _take_over(self, sa: IkeSA, new: IkeSA, now_ms: int) -> None:
        if sa.state != ikesa.OPEN:
            return
        sa.told = {}
        self._table.replace(sa, now_ms)
        self.opened(new, now_ms)

    def _share(self, most: int) -> int:
        """A random part of it."""
        return int.from_bytes(self._random(4)) * most >> 32


def _parts(opened: ike.Opened) -> Parts:
    payloads = ike.parse_chain(opened.first, opened.inner)
    if ike.unsupported_critical(opened.clear + payloads) is not None:
        raise FormatError(DROP_IKE_CRITICAL)
    return Parts(payloads)
