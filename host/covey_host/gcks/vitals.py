"""Whether a worker lives, as its keeper can tell: by when it said so last. Sans-IO.

One that is stuck holds its share of what comes as one that is gone does, and is not missed by the
system. So a worker says that it is there again and again, from its event loop; after a silence it
is ended and started anew. One that ends soon waits longer and longer for its next start.
"""

ALIVE_S = 2  # from one sign of life to the next
SILENT_S = 10  # from the last one to the end
_START_S = 30  # likewise, from the start to the first one
WELL_S = 10  # a worker that ran so long is started again at once
MOST_PAUSE_S = 30
_LEAST_PAUSE_S = 0.5


class Vitals:
    """Of one worker. Times are seconds of any one clock."""

    def __init__(self):
        self.is_ready = False  # it has begun to work
        self.ended = 0  # how often in a row, without running well meanwhile
        self._began_s = 0.0
        self._heard_s = 0.0

    def begin(self, now_s: float) -> None:
        self.is_ready = False
        self._began_s = self._heard_s = now_s

    def hear(self, now_s: float) -> None:
        self.is_ready = True
        self._heard_s = now_s

    def excuse(self, now_s: float) -> None:
        """It could not be heard until now: the keeper itself was stuck."""
        self._heard_s = now_s

    def is_silent(self, now_s: float) -> bool:
        return now_s - self._heard_s > (SILENT_S if self.is_ready else _START_S)

    def end(self, now_s: float) -> float:
        """→ seconds until it is to be started again"""
        runs_well = self._runs_well(now_s) and not self.is_silent(now_s)
        self.ended = 1 if runs_well else self.ended + 1
        self.is_ready = False
        if self.ended == 1:
            return 0
        return min(MOST_PAUSE_S, _LEAST_PAUSE_S * (2 ** min(self.ended - 1, 8) - 1))

    def fault(self, now_s: float) -> str | None:
        """What a person is to be told, to follow its name."""
        if self.ended < 2 or self._runs_well(now_s):
            return None
        return f"has ended {self.ended} times in a row"

    def _runs_well(self, now_s: float) -> bool:
        return self.is_ready and now_s - self._began_s >= WELL_S
