"""A store that fails, as etcd does, and says what was written through it.

cut      no call arrives: Problem
doubt    a write's answer is lost: Problem, and it was done, or never is, or is done later;
         but not after its writer's next call, for that settles it (see store/etcdwriter.py)
dwell    the process stands still at the door, before a write or after it, while the world
         goes on; it may be killed there
"""

from covey_host.cluster.history import Row
from covey_host.errors import Problem
from covey_host.store import KEEP

_WRITES = ("compare_and_swap", "reserve", "acquire_term", "beat", "present")
_DOUBT_MS = 5000
_PAUSE_MS = (50, 6000)


class Killed(BaseException):
    """The process is gone: nothing of it is carried out any more."""


class FaultyStore:
    """store: of one process alone; open_again(): another way to the same. note(Row): called with
    all that is written. pause(ms): called in the middle of a call. chance: random.Random."""

    def __init__(self, store, open_again, note, clock, chance, pause):
        self.is_cut = False
        self.doubt = 0.0  # chance that a write's answer is lost
        self.dwell = 0.0  # chance that the process stands still at a write
        self._store = store
        self._open_again = open_again
        self._note = note
        self._clock = clock
        self._chance = chance
        self._pause = pause
        self._late = None  # (method, arguments) of a write that is under way still
        self._is_closed = False

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self._arrive()
            if name in _WRITES:
                return self._write(name, args, kwargs)
            return getattr(self._store, name)(*args, **kwargs)

        return call

    def close(self):
        """Killed. What is under way may be done yet: there is nobody to settle it."""
        self._is_closed = True
        self._store.close()
        if self._late:
            late, self._late = self._late, None
            self._clock.after(self._chance.randrange(_DOUBT_MS), self._after_death, late)

    def _arrive(self):
        if self._is_closed:
            raise Killed
        if self.is_cut:
            raise Problem("The store doesn't answer.")
        if self._late:  # this process is here again: that is done by now, or never
            late, self._late = self._late, None
            if self._chance.random() < 0.5:
                self._try(self._store, late)

    def _write(self, name, args, kwargs):
        self._dwell()
        if self._chance.random() < self.doubt:
            self._lose((name, args, kwargs))
        done = self._do(self._store, name, args, kwargs)
        self._dwell()
        return done

    def _lose(self, work):
        fate = self._chance.randrange(3)
        if fate == 0:
            self._try(self._store, work)
        elif fate == 1:
            self._late = work
            self._clock.after(self._chance.randrange(_DOUBT_MS), self._arrives_late, work)
        raise Problem("The store doesn't say whether it has written that.")

    def _arrives_late(self, work):
        if self._late is work:
            self._late = None
            self._try(self._store, work)

    def _after_death(self, work):
        store = self._open_again()
        self._try(store, work)
        store.close()

    def _try(self, store, work):
        try:
            self._do(store, *work)
        except (Problem, ValueError):  # fenced, or it had not joined
            pass

    def _do(self, store, name, args, kwargs):
        done = getattr(store, name)(*args, **kwargs)
        if name == "compare_and_swap" and done:
            for key, _, value in args[0]:
                if value is not KEEP:
                    self._note(Row(done, key, None if value is None else bytes(value)))
        return done

    def _dwell(self):
        if self._chance.random() < self.dwell:
            self._pause(self._chance.randrange(*_PAUSE_MS))
            if self._is_closed:
                raise Killed
