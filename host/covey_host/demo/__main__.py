"""`python -m covey_host.demo`: see the package."""

import asyncio
import os
import secrets
import shlex
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from covey.drops import ConfigError

from .. import wireshark
from ..errors import FAILURE, MISUSE, Problem
from ..output import complain
from .cast import Lost, Member, architectures
from .play import Play
from .screen import Screen, show_json
from .stage import Stage
from .verdicts import Verdict, repelled

_LEAST_S, _MOST_S, _DEFAULT_S = 15, 1800, 20


class Demo:
    """One run."""

    def __init__(self, seconds: int, seed: int, screen: Screen, capture: Path | None = None):
        archs, self._notes = architectures()
        if seconds < _LEAST_S:
            self._notes.append(f"All of it takes {_LEAST_S} s at least, {seconds} were asked for.")
        self._seconds, self._seed, self._screen = max(seconds, _LEAST_S), seed, screen
        self._members = [
            Member("press", archs[0], connection="01100001"),
            Member("drill", archs[1]),
            Member("desk", None, connection="02200002"),
            Member("panel", None),
        ]
        self._stage = Stage(seed, self._members, capture)
        self._play: Play | None = None
        self._verdicts: list[Verdict] = []
        self._signal = 0
        self._began = time.monotonic()

    async def run(self) -> int:
        """The exit status. Whatever happens, nothing is left running."""
        self._catch_signals(asyncio.current_task())
        try:
            await self._perform()
        except asyncio.CancelledError:
            if not self._signal:
                raise
        except (Lost, Problem, ConfigError) as error:
            self._break_off(str(error))
        except Exception as error:  # a fault of the demo itself
            log = self._stage.folder / "stage.log"
            log.write_text(traceback.format_exc())
            self._break_off(f"{type(error).__name__}, see {log.name}.")
        finally:
            self._screen.stop()
            await self._stage.close(keep=not self._is_good and not self._signal)
        if self._signal:
            complain("Interrupted: nothing is left running.")
            return 128 + self._signal
        self._conclude()
        return 0 if self._is_good else FAILURE

    def summary(self) -> dict:
        """See the package."""
        tap, play = self._stage.tap, self._play
        members = [*self._members, self._stage.guest]
        return {
            "ok": self._is_good,
            "seconds": self._seconds,
            "took_s": round(time.monotonic() - self._began, 1),
            "seed": self._seed,
            "folder": None if self._is_good else str(self._stage.folder),
            "members": [{"member": m.name, **m.facts} for m in members],
            "wire": tap.summary() if tap else None,
            "log": dict(Counter(e["event"] for e in self._stage.server_events)),
            "capture": self._capture(),
            "attacks": [attack.summary() for attack in play.attacks] if play else [],
            "phases": self._screen.phases,
            "expectations": [asdict(verdict) for verdict in self._verdicts],
        }

    def _capture(self) -> dict | None:
        stage = self._stage
        if stage.recorder is None:
            return None
        return {
            "directory": str(stage.capture),
            "packets": stage.recorder.packets,
            "by": stage.recorder.by,
            "lost": stage.recorder.lost,
            "ports": {stage.carrier: True, **stage.ike_ports()},
            "forged_from": stage.tap.forged_from,
        }

    @property
    def _is_good(self) -> bool:
        return bool(self._verdicts) and all(verdict.ok for verdict in self._verdicts)

    async def _perform(self) -> None:
        screen, stage = self._screen, self._stage
        screen.line(f"seed {self._seed}; files in {stage.folder}")
        for note in self._notes:
            screen.line(note)
        screen.phase("a site is made, the key server starts, members register")
        await stage.open()
        screen.follow(self._members)
        removed = self._members[-1]
        self._play = Play(stage, screen, self._seconds, removed)
        self._verdicts += await self._play.run()

    def _break_off(self, sentence: str) -> None:
        """What was judged until now, and why no more."""
        attacks = self._play.attacks if self._play else []
        self._verdicts += map(repelled, attacks)
        self._verdicts.append(Verdict("the run comes to its end", False, sentence))

    def _conclude(self) -> None:
        self._screen.table()
        for verdict in self._verdicts:
            self._screen.verdict(verdict)
        bad = sum(not verdict.ok for verdict in self._verdicts)
        took = f"{time.monotonic() - self._began:.0f} s"
        if bad:
            where = f"see {self._stage.folder}"
            self._screen.line(f"{bad} of {len(self._verdicts)} do not hold ({took}): {where}")
        else:
            self._screen.line(f"all {len(self._verdicts)} hold ({took})")
        if capture := self._capture():
            shown = wireshark.command(capture["directory"], capture["ports"])
            file = shlex.quote(str(self._stage.recorder.path))
            self._screen.line(f"look into the capture: {shown.replace('FILE', file)}")

    def _catch_signals(self, task: asyncio.Task) -> None:
        """The first one ends the run in good order, the next one at once."""

        def stop(number: int) -> None:
            if self._signal:
                self._stage.kill()
            else:
                self._signal = number
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)


def _number(name: str, least: int, most: int, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise Problem(f"{name} must be a whole number from {least} to {most}.", MISUSE)
    return int(text)


def _capture_directory() -> Path | None:
    """Made, and found to be fit for keys."""
    if not (name := os.environ.get("CAPTURE")):
        return None
    directory = Path(name).absolute()
    try:
        wireshark.Tables(directory).prepare()
    except Problem as problem:
        raise Problem(f"CAPTURE: {problem.sentence}", problem.status) from None
    return directory


def main() -> int:
    as_json = os.environ.get("JSON", "0") not in ("", "0")
    try:
        seconds = _number("SECONDS", 1, _MOST_S, _DEFAULT_S)
        seed = _number("SEED", 0, 2**32 - 1, secrets.randbits(32))
        demo = Demo(seconds, seed, Screen(as_json), _capture_directory())
    except (Problem, Lost, ConfigError) as error:
        complain(str(error))
        return error.status if isinstance(error, Problem) else FAILURE
    status = asyncio.run(demo.run())
    if as_json:
        show_json(demo.summary())
    return status


if __name__ == "__main__":
    sys.exit(main())
