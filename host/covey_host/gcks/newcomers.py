r"""Who must be given no key of before: for these a group changes keys first, once for many.

    backward_secrecy   a newcomer gets a TEK under which nobody sends yet, and a path of new keys
    fresh_join         so does whoever may have no windows: a TEK under which nobody sends yet
    source_auth        who has no seat (seats.py) waits until the others are told of it

    asks --> what there is will do --> admitted
      \----> NotYet: it waits for others (batch_window), and until the last change of keys is
             through --> one rekey for all who wait --> admitted, each by its own request

Memory only. What is forgotten costs a rekey; a leaf that was kept for somebody who never came is
free again with the next one.
"""

from .epoch import Outbox
from .policy import GroupPolicy
from .roles import Role
from .timers import NEVER

_MOST = 4096  # members that wait
_FORGET_MS = 30_000


class NotYet(Exception):
    """To be asked again then, with the same request."""

    def __init__(self, until_ms: int):
        super().__init__(until_ms)
        self.until_ms = until_ms


class Newcomers:
    """Of one group."""

    def __init__(self):
        # Since when; whether it has fragments (None: it is to have no leaf); as what it asks.
        self._waiting: dict[str, tuple[int, bool | None, Role]] = {}
        self._due_ms: int | None = None  # when keys are changed for those who wait
        self._through_ms = 0  # when the last change of keys is through
        self._unused_ms = 0  # until when nobody sends under the TEK
        self._is_untouched = False  # no sender ever had the TEK
        self.until_ms = NEVER  # when who can_have() the keys must have been told them
        self._is_first = False  # the first epoch of an era: no key of its tree has led anywhere
        self._placed: frozenset[str] = frozenset()  # whose path is as new as the TEK

    def began(
        self,
        policy: GroupPolicy,
        outbox: Outbox,
        placed: frozenset[str],
        through_ms: int,
        activate_ms: int,
    ) -> None:
        """An epoch. outbox: how it was announced; placed: for whom there are leaves; through_ms:
        when this change of keys is through."""
        self._is_first = bool(outbox) and outbox[-1].excludes
        self._is_untouched = False
        self._placed = placed
        self._due_ms = None
        self._through_ms = through_ms
        margin_ms = policy.atd_s * 100  # clocks of senders may be a tenth too fast
        self._unused_ms = activate_ms - margin_ms

    def founded(self) -> None:
        """A group: began() was called for an epoch that nobody has yet."""
        self._is_first = self._is_untouched = True
        self._through_ms = 0

    def followed(
        self, unused_ms: int, placed: frozenset[str], *, is_first: bool, is_untouched: bool
    ) -> None:
        """After began(), of an epoch that another key server has made: what this one knows of it.
        unused_ms: until when nobody sends under the TEK, at the earliest that it may have been."""
        self._unused_ms = unused_ms
        self._placed = placed
        self._is_first |= is_first
        self._is_untouched = is_untouched

    def touched(self) -> None:
        """A sender has the TEK, wherever it registered."""
        self._is_untouched = False

    def lose_time(self) -> None:
        """Nobody knows for how long the TEK has been in use."""
        self._unused_ms = -NEVER

    def put_off(self, through_ms: int) -> None:
        """The last change of keys is through then, not before."""
        self._through_ms = max(self._through_ms, through_ms)

    def standing(self, member: str) -> tuple:
        """For restore()."""
        return self._waiting.get(member), member in self._placed, self._is_untouched

    def restore(self, member: str, standing: tuple) -> None:
        """It was not admitted after all."""
        waiting, is_placed, self._is_untouched = standing
        if waiting is not None:
            self._waiting[member] = waiting
        if is_placed:
            self._placed |= {member}

    @property
    def due_ms(self) -> int | None:
        """When keys are to be changed for those who wait; None: not for anybody."""
        return self._due_ms

    def admitted(self, member: str, is_sender: bool) -> None:
        self.forget(member)
        self._is_untouched &= not is_sender

    def forget(self, member: str) -> None:
        self._waiting.pop(member, None)
        self._placed -= {member}

    def can_have(
        self,
        member: str,
        policy: GroupPolicy,
        now_ms: int,
        *,
        is_new: bool,
        boots: bool,
        tree: bool,
        seated: bool,
    ) -> bool:
        """Whether the group's keys will do for a member as they are, until until_ms. seated: if
        that matters."""
        self.until_ms = NEVER
        if not seated:
            return False
        looks_back = is_new and policy.backward_secrecy
        if not looks_back and not (boots and policy.fresh_join):
            return True
        if not self._is_untouched and now_ms >= self._unused_ms:
            return False
        if not self._is_untouched:
            self.until_ms = self._unused_ms
        return not (looks_back and tree) or self._is_first or member in self._placed

    def wait(
        self, member: str, fragments: bool | None, role: Role, policy: GroupPolicy, now_ms: int
    ) -> int:
        """It waits, and is still there → when keys are to be changed."""
        if self._due_ms is None:
            self._due_ms = max(now_ms + policy.batch_window_ms, self._through_ms)
        if member in self._waiting or len(self._waiting) < _MOST:
            self._waiting[member] = now_ms, fragments, role
        return self._due_ms

    def is_waiting(self, member: str) -> bool:
        return member in self._waiting

    def waiting(self, now_ms: int) -> list[str]:
        """All that wait, without those that have given up."""
        self._forget_old(now_ms)
        return list(self._waiting)

    def for_leaves(self, now_ms: int) -> dict[str, bool]:
        """Those of them that wait for a leaf, too, and whether each has fragments."""
        self._forget_old(now_ms)
        waiting = self._waiting.items()
        return {member: has for member, (_, has, _) in waiting if has is not None}

    def waiters(self, now_ms: int) -> dict[str, tuple[bool | None, Role]]:
        """All that wait: whether each has fragments, None: it is to have no leaf; and as what."""
        self._forget_old(now_ms)
        return {member: (has, role) for member, (_, has, role) in self._waiting.items()}

    def asking(self, now_ms: int) -> dict[str, Role]:
        """All that wait, and as what."""
        self._forget_old(now_ms)
        return {member: role for member, (_, _, role) in self._waiting.items()}

    def _forget_old(self, now_ms: int) -> None:
        for member, (since_ms, _, _) in list(self._waiting.items()):
            if now_ms >= since_ms + _FORGET_MS:
                del self._waiting[member]
