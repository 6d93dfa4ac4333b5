r"""Which of several key servers holds, and when another takes over: sans-IO, time is handed in.

    looks --somebody beats--> follows --nobody beats for 1 s--> holds
      \----nobody does for 1.5 s: a new run-------------------->  |
                                ^----a newer term, or it resigns--/

    lead facts   {"name": of the replica, "free": true where it has resigned, "busy": groups that
                 others are to leave alone for a moment, ...}: seen by all

Whoever holds beats; the others look. Nothing rests on clocks: who takes over has a newer term, and
who held before can write nothing with its own. Only looks that succeed count as silence, and only
as long as they are apart: a follower that was stopped, or couldn't read, has heard of nobody
because of that. A take-over names the lead that its owner has seen: of two that try, one does.
"""

import json
from collections.abc import Callable
from typing import Any

from ..errors import Problem
from ..store import Fenced, Lead, Ousted, Store, WentBack
from . import Out
from .epoch import Random
from .sharedserver import AWAY_MS, SharedKeyServer

BEAT_MS = 250
LOOK_MS = 100
SILENT_MS = 1000  # without a beat: then a follower takes over
COLD_MS = 1500  # the same of one that has seen nobody yet
_DUEL_MS = 200  # at random, on top of that
_PRESENT_MS = 1000
_MOST_APART_MS = 250  # that two looks count for
_RUN_LEN = 8
LACKS_POLICY = "This machine can't have the policy in force: ask another one, or mend it."


class Replica:
    """facts(): what others are to know of it, besides its name: where members find it."""

    def __init__(
        self,
        store: Store,
        keyserver: SharedKeyServer,
        facts: Callable[[], dict[str, Any]],
        random: Random,
    ):
        self._store = store
        self._keyserver = keyserver
        self._facts = facts
        self._random = random
        self.name = keyserver.replica
        self.trouble = ""  # why the store was not to be read or written, the last time; "": it was
        self.is_resigned = False  # it is to hold no more, and takes nothing over
        self._lead = Lead()
        self._silent_ms = 0  # for which no beat was seen
        self._patience_ms = 0  # how long that may take
        self._seen_ms: int | None = None  # when the last look succeeded
        self._next_look_ms = self._next_beat_ms = self._next_present_ms = 0
        self._has_seen = False  # somebody beat, while we looked

    def start(self, now_ms: int) -> None:
        """Locked where another one has this name. Problem: the store can't be read."""
        self._store.join(self.name)
        self._keyserver.follow(now_ms)
        self._keyserver.between = self._between
        self._keyserver.on_busy = self._beat_meanwhile
        self._lead = self._keyserver.lead_seen
        self._next_look_ms = self._next_beat_ms = self._next_present_ms = now_ms
        self._wait_anew()

    def step(self, now_ms: int) -> tuple[list[Out], int]:
        """What is due → what is to be sent, and when to come again, in ms. WentBack: the store is
        not what it was; Ousted: another process has this one's name. Then this one is to end. Any
        other Problem is told as trouble: it is tried again."""
        outs: list[Out] = []
        try:
            if now_ms >= self._next_look_ms:
                self._next_look_ms = now_ms + LOOK_MS
                outs += self._keyserver.catch_up(now_ms)
                if self._look(now_ms):
                    outs += self._take(self._lead.version, now_ms)
            if self._keyserver.is_holder and now_ms >= self._next_beat_ms:
                self._next_beat_ms = now_ms + BEAT_MS
                self._beat()
            if now_ms >= self._next_present_ms:
                self._next_present_ms = now_ms + _PRESENT_MS
                self._store.present(self._said())
            self.trouble = ""
        except (WentBack, Ousted):
            raise
        except Fenced:
            outs += self._keyserver.step_down(now_ms)
            self._wait_anew()
        except Problem as problem:
            self.trouble, self._seen_ms = problem.sentence, None
            if now_ms - self._keyserver.caught_up_ms > AWAY_MS:
                outs += self._keyserver.send_on(now_ms)
        return outs, max(0, min(self._times()) - now_ms)

    def take(self, now_ms: int) -> list[Out]:
        """Hold from now on, whoever does: before a command that writes. Problem: from the store,
        or it can't."""
        if self._keyserver.is_holder:
            return []
        if self._keyserver.lacks_policy:
            raise Problem(LACKS_POLICY)
        if not self._may_go_on:
            raise Problem(
                "This key server has just started, and doesn't know yet what others do: try again"
                " in two seconds."
            )
        return self._take(None, now_ms)

    def resign(self, now_ms: int) -> list[Out]:
        """Let another one hold, at once: this one is about to end. What is not said yet of a
        removal is to be said before that. Problem: it takes the others a second to see."""
        self.is_resigned = True
        if not self._keyserver.is_holder:
            return []
        try:
            self._beat()
        finally:
            outs = self._keyserver.step_down(now_ms)
        return outs

    # Inside

    def _times(self) -> tuple[int, ...]:
        beat_ms = (self._next_beat_ms,) if self._keyserver.is_holder else ()
        return (self._next_look_ms, self._next_present_ms, *beat_ms)

    def _look(self, now_ms: int) -> bool:
        """At who leads, as was just seen → whether this one is to."""
        lead, former = self._keyserver.lead_seen, self._lead
        apart_ms = 0 if self._seen_ms is None else now_ms - self._seen_ms
        self._lead, self._seen_ms = lead, now_ms
        if self._keyserver.is_holder:
            self._silent_ms = 0
            return False
        facts = _facts_of(lead.facts)
        self._keyserver.leave_alone(_names(facts.get("busy")), now_ms)
        if lead.version != former.version:
            self._wait_anew()
            self._has_seen = True
            self._keyserver.open()
        else:
            self._silent_ms += min(apart_ms, _MOST_APART_MS)
        if self.is_resigned or self._keyserver.lacks_policy:
            return False
        is_free = self._may_go_on and facts.get("free") is True
        if not is_free and self._silent_ms < self._patience_ms:
            return False
        self._wait_anew()
        return True

    def _take(self, seen: int | None, now_ms: int) -> list[Out]:
        """The run goes on, whatever it is by then, or a new one begins."""
        run = None if self._may_go_on else self._random(_RUN_LEN).hex()
        term = self._store.acquire_term(self.name, seen, run, self._said())
        if not term:
            return []  # somebody lives, or was faster
        self._has_seen = True
        self._next_beat_ms = now_ms + BEAT_MS
        try:
            return self._keyserver.lead(now_ms, term)
        finally:
            self._wait_anew()

    def _between(self, passed_ms: int) -> bool:
        """So long is it since it was called with True for an answer, in a work that takes long:
        others are to see us meanwhile."""
        if passed_ms < BEAT_MS or not self._keyserver.is_holder:
            return False
        self._beat_meanwhile()
        return True

    def _beat_meanwhile(self) -> None:
        """In a work: that finds out by itself whether the store can be written, and by its end it
        may be there again."""
        try:
            self._beat()
        except (Fenced, WentBack):
            raise
        except Problem:
            pass

    def _beat(self) -> None:
        self._store.beat(self._keyserver.term, self._said())

    @property
    def _may_go_on(self) -> bool:
        """Whether nothing can have been given out that this store does not know of: this one has
        followed since somebody lived, and has read all that was written."""
        return self._has_seen and self._keyserver.lead_seen.run != ""

    def _wait_anew(self) -> None:
        self._silent_ms = 0
        least_ms = SILENT_MS if self._has_seen else COLD_MS
        self._patience_ms = least_ms + int.from_bytes(self._random(2)) % _DUEL_MS

    def _said(self) -> bytes:
        more = {"free": True} if self.is_resigned else {}
        more |= {"busy": sorted(self._keyserver.busy)} if self._keyserver.busy else {}
        return json.dumps({**self._facts(), "name": self.name, **more}).encode()


def _facts_of(said: bytes) -> dict:
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _names(said: Any) -> list[str]:
    return [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
