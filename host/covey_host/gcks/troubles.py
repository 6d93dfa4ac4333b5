"""What goes wrong while the key server goes on: told at once, then once in a while."""

import os
import sys
import time
import traceback
from collections.abc import Callable

_REPEAT_S = 10  # a trouble that goes on is told again so often
_RECENT_S = 60  # for `covey health`
_MOST = 1000  # sentences


class Troubles:
    """tell(sentence) is what a log does."""

    def __init__(self, tell: Callable[[str], None]):
        self._tell = tell
        self._told: dict[str, float] = {}  # sentence → when it was told last
        self._heard: dict[str, float] = {}  # when it came last

    def trouble(self, sentence: str) -> None:
        """A log is not to be flooded."""
        now = time.monotonic()
        if len(self._heard) > _MOST:
            self._told.clear()
            self._heard.clear()
        self._heard[sentence] = now
        if now - self._told.get(sentence, -_REPEAT_S) >= _REPEAT_S:
            self._told[sentence] = now
            self._tell(sentence)

    def fault(self, error: Exception) -> None:
        """A fault of ours: where it happened, not what it says (that may hold anything)."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        file = os.path.basename(place.filename)
        self.trouble(f"A fault inside: {type(error).__name__} in {file}:{place.lineno}.")
        if os.environ.get("COVEY_DEBUG") == "1":
            traceback.print_exception(error, file=sys.stderr)

    def recent(self) -> list[str]:
        """The last first."""
        now = time.monotonic()
        found = [(at, said) for said, at in self._heard.items() if now - at < _RECENT_S]
        return [said for _, said in sorted(found, reverse=True)]
