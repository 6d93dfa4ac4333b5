"""`python -m covey_host.demo`: see the package."""

import os
import secrets
import shlex
import sys
from collections import Counter
from pathlib import Path

from .. import wireshark
from ..errors import MISUSE, Problem
from .cast import Member, architectures
from .performance import Performance, present
from .play import Play
from .screen import Screen
from .stage import Stage
from .verdicts import repelled

_LEAST_S, _MOST_S, _DEFAULT_S = 15, 1800, 20


class Demo(Performance):
    """One run."""

    def __init__(self, seconds: int, seed: int, screen: Screen, capture: Path | None = None):
        archs, self._notes = architectures()
        if seconds < _LEAST_S:
            self._notes.append(f"All of it takes {_LEAST_S} s at least, {seconds} were asked for.")
        self._seconds, self._seed = max(seconds, _LEAST_S), seed
        self._members = [
            Member("press", archs[0], connection="01100001"),
            Member("drill", archs[1]),
            Member("desk", None, connection="02200002"),
            Member("panel", None),
        ]
        self._stage = Stage(seed, self._members, capture)
        self._play: Play | None = None
        super().__init__(self._stage, screen, "stage.log")

    def facts(self) -> dict:
        """See the package."""
        tap, play = self._stage.tap, self._play
        members = [*self._members, self._stage.guest]
        return {
            "seconds": self._seconds,
            "seed": self._seed,
            "members": [{"member": m.name, **m.facts} for m in members],
            "wire": tap.summary() if tap else None,
            "log": dict(Counter(e["event"] for e in self._stage.server_events)),
            "capture": self._capture(),
            "attacks": [attack.summary() for attack in play.attacks] if play else [],
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

    async def perform(self) -> None:
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
        super()._break_off(sentence)

    def _conclude(self) -> None:
        self._screen.table()
        super()._conclude()
        if capture := self._capture():
            shown = wireshark.command(capture["directory"], capture["ports"])
            file = shlex.quote(str(self._stage.recorder.path))
            self._screen.line(f"look into the capture: {shown.replace('FILE', file)}")


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


def _demo(screen: Screen) -> Demo:
    seconds = _number("SECONDS", 1, _MOST_S, _DEFAULT_S)
    seed = _number("SEED", 0, 2**32 - 1, secrets.randbits(32))
    return Demo(seconds, seed, screen, _capture_directory())


def main() -> int:
    return present(_demo, os.environ.get("JSON", "0") not in ("", "0"))


if __name__ == "__main__":
    sys.exit(main())
