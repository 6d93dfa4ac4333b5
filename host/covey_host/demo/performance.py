"""A run before people: it comes to its end whatever happens, is judged, and leaves nothing behind.

What is performed, and where, is of `make run` (see __main__) and `make cluster` (../cluster/show).
"""

import asyncio
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from covey.drops import ConfigError

from ..errors import FAILURE, Problem
from ..output import complain
from .cast import Lost
from .screen import Screen, show_json
from .verdicts import Verdict


class Place(Protocol):
    """Where it happens: all processes, and their files."""

    folder: Path

    async def close(self, keep: bool) -> None: ...

    def kill(self) -> None: ...


class Performance:
    """perform() and facts() are its own. log: in the folder, of a fault of its own."""

    def __init__(self, place: Place, screen: Screen, log: str):
        self._place, self._screen, self._log = place, screen, log
        self._verdicts: list[Verdict] = []
        self._signal = 0
        self._began = time.monotonic()

    async def perform(self) -> None:
        """All of it, with each verdict in _verdicts."""
        raise NotImplementedError

    def facts(self) -> dict:
        """What is in the summary, besides."""
        raise NotImplementedError

    async def run(self) -> int:
        """The exit status. Whatever happens, nothing is left running."""
        self._catch_signals(asyncio.current_task())
        try:
            await self.perform()
        except asyncio.CancelledError:
            if not self._signal:
                raise
        except (Lost, Problem, ConfigError) as error:
            self._break_off(str(error))
        except Exception as error:
            (self._place.folder / self._log).write_text(traceback.format_exc())
            self._break_off(f"{type(error).__name__}, see {self._log}.")
        finally:
            self._screen.stop()
            await self._place.close(keep=not self._is_good and not self._signal)
        if self._signal:
            complain("Interrupted: nothing is left running.")
            return 128 + self._signal
        self._conclude()
        return 0 if self._is_good else FAILURE

    def summary(self) -> dict:
        """What JSON=1 prints."""
        return {
            "ok": self._is_good,
            "took_s": round(time.monotonic() - self._began, 1),
            "folder": None if self._is_good else str(self._place.folder),
            **self.facts(),
            "phases": self._screen.phases,
            "expectations": [asdict(verdict) for verdict in self._verdicts],
        }

    @property
    def _is_good(self) -> bool:
        return bool(self._verdicts) and all(verdict.ok for verdict in self._verdicts)

    def _break_off(self, sentence: str) -> None:
        """Why there is no more than what was judged until now."""
        self._verdicts.append(Verdict("the run comes to its end", False, sentence))

    def _conclude(self) -> None:
        for verdict in self._verdicts:
            self._screen.verdict(verdict)
        bad = sum(not verdict.ok for verdict in self._verdicts)
        took = f"{time.monotonic() - self._began:.0f} s"
        if bad:
            where = f"see {self._place.folder}"
            self._screen.line(f"{bad} of {len(self._verdicts)} do not hold ({took}): {where}")
        else:
            self._screen.line(f"all {len(self._verdicts)} hold ({took})")

    def _catch_signals(self, task: asyncio.Task) -> None:
        """The first one ends the run in good order, the next one at once."""

        def stop(number: int) -> None:
            if self._signal:
                self._place.kill()
            else:
                self._signal = number
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)


def present(make: Callable[[Screen], Performance], as_json: bool) -> int:
    """One that is made for this screen: the exit status."""
    try:
        made = make(Screen(as_json))
    except (Problem, Lost, ConfigError) as error:
        complain(str(error))
        return error.status if isinstance(error, Problem) else FAILURE
    status = asyncio.run(made.run())
    if as_json:
        show_json(made.summary())
    return status
