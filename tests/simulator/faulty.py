"""A store that fails, as etcd does, and the history of all that was written through it.

    cut      no call arrives: Problem
    doubt    a write's answer is lost: Problem, and it was done, or never is, or is done later;
             but not after its writer's next call, for that settles it (see store/etcd.py)
    pause    the process stands still at the door, before a write or after it, while the world
             goes on
"""

from covey_host.cluster.history import Row
from covey_host.errors import Problem
from covey_host.store import KEEP, Fenced

_WRITES = ("compare_and_swap", "reserve", "acquire_term", "beat")
_DOUBT_MS = 5000
_PAUSE_MS = (50, 6000)


class FaultyStore:
    """store: of one replica alone. chance: random.Random. pause(ms): called in the middle of a
    call."""

    def __init__(self, store, history, clock, chance, pause):
        self.is_cut = False
        self.doubt = 0.0  # chance that a write's answer is lost
        self.dwell = 0.0  # chance that the process stands still at a write
        self._store = store
        self._history = history
        self._clock = clock
        self._chance = chance
        self._pause = pause
        self._late = None  # what is under way still

    def __getattr__(self, name):
        inner = getattr(self._store, name)
        if not callable(inner):
            return inner

        def call(*args, **kwargs):
            self._settle()
            self._arrive()
            if name in _WRITES:
                return self._write(name, inner, args, kwargs)
            return inner(*args, **kwargs)

        return call

    def close(self):
        """Killed: what is under way may be done yet, as there is nobody to settle it."""
        if self._late:
            late, self._late = self._late, None
            self._clock.after(self._chance.randrange(_DOUBT_MS), self._finish, late)
        else:
            self._store.close()

    def _write(self, name, inner, args, kwargs):
        self._dwell()
        if self._chance.random() < self.doubt:
            self._lose(name, inner, args, kwargs)
        done = self._do(name, inner, args, kwargs)
        self._dwell()
        return done

    def _lose(self, name, inner, args, kwargs):
        work = name, inner, args, kwargs
        fate = self._chance.randrange(3)
        if fate == 0:
            self._try(*work)
        elif fate == 1:
            self._late = work
            self._clock.after(self._chance.randrange(_DOUBT_MS), self._arrives_late, work)
        raise Problem("The store doesn't say whether it has written that.")

    def _arrives_late(self, work):
        if self._late is work:
            self._late = None
            self._try(*work)

    def _finish(self, work):
        self._try(*work)
        self._store.close()

    def _try(self, *work):
        try:
            self._do(*work)
        except Fenced:
            pass

    def _do(self, name, inner, args, kwargs):
        done = inner(*args, **kwargs)
        if name == "compare_and_swap" and done:
            changes = args[0]
            self._history.rows += [
                Row(done, key, None if value is None else bytes(value))
                for key, _, value in changes
                if value is not KEEP
            ]
        return done

    def _settle(self):
        """This process is here again: what was under way is done by now, or never."""
        if self._late and not self.is_cut:
            late, self._late = self._late, None
            if self._chance.random() < 0.5:
                self._try(*late)

    def _arrive(self):
        if self.is_cut:
            raise Problem("The store doesn't answer.")

    def _dwell(self):
        if self._chance.random() < self.dwell:
            self._pause(self._chance.randrange(*_PAUSE_MS))
