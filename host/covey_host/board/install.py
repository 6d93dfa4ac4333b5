"""`covey install`: a member's files onto a board that runs MicroPython, over its serial port.

Only what differs is sent, to a directory of its own; one renaming commits it, and code of the
board moves it into place (firmware/onboard/install.py). Wherever the cable is pulled, what boots
is the old member or the new one.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from .. import output
from ..errors import MISUSE, Problem
from . import fit
from .boards import Board
from .line import BoardError, Line, LineBroken
from .members import named
from .onboard import Remote

MAIN, BOOT, SEED, CONFIG = "/main.py", "/boot.py", "/seed", "/covey.json"
_OURS = ("/lib/covey", "/lib/onboard")  # whatever else lies there is of an older member
_ROM = "/rom/covey"  # code there comes before, or behind, what would be installed
_SETTLER = ("/lib/onboard/__init__.mpy", "/lib/onboard/install.mpy")
_SETTLES = "install.settle()"  # a boot.py with this in it completes what was committed
_SPARE_BLOCKS = 8  # of a file system that copies what it changes


@dataclass(frozen=True)
class Done:
    board: str
    running: str
    files: int  # that belong to the member
    sent: int  # of them
    octets: int  # that were sent
    removed: int
    is_restarted: bool = False


@dataclass(frozen=True)
class _Change:
    sent: dict[str, bytes]  # by path; main.py is the last, and always there
    gone: list[str]

    @property
    def plan(self) -> bytes:
        moves = [[str(at), path] for at, path in enumerate(self.sent)]
        return json.dumps([moves, self.gone]).encode()


def install(
    port: str,
    make: Callable[[Board], dict[str, bytes]],
    board: Board | None = None,
    may_replace: bool = False,
    progress: Callable[[int, int], None] = lambda done, whole: None,
) -> Done:
    """Bring make(board), {path: octets}, onto the board at this port, and start it.

    board: None to find out. may_replace: a main.py or boot.py that is not Covey's is overwritten.
    progress(octets done, of how many). Problem: nothing has changed, or it says what has.
    """
    with Line(port) as line:
        steps = _Steps(port, may_replace, progress)
        try:
            done = steps.run(line, make, board)
        except LineBroken:
            raise Problem(
                f"The line to the board at {port} broke, or the board fell silent: {steps.state}."
            ) from None
        except KeyboardInterrupt:
            output.complain(f"Interrupted: {steps.state}.")
            raise
        except BoardError as error:
            raise Problem(f"The board at {port} gave up: {error.reason}; {steps.state}.") from None
        finally:
            is_restarted = line.restart()  # whatever came of it: what we stopped runs again
        return replace(done, is_restarted=is_restarted)


class _Steps:
    """`state`: what is true of the board if the next word gets lost."""

    def __init__(self, port: str, may_replace: bool, progress: Callable[[int, int], None]):
        self._port = port
        self._may_replace = may_replace
        self._progress = progress
        self.state = "nothing was changed"

    def run(self, line: Line, make: Callable[[Board], dict[str, bytes]], board: Board | None):
        remote = Remote(line)
        if not remote.is_micropython:
            raise Problem(f"The board at {self._port} does not run MicroPython.")
        board = board or fit.guess(remote.running)
        files = dict(make(board))
        _check_boot(files)
        fit.check(remote.running, board, files)
        if remote.exists(_ROM):
            raise Problem(
                f"The board at {self._port} runs Covey from ROMFS, which is written as a whole:"
                " use `covey flash --romfs`; nothing was changed."
            )
        remote.clear()
        change = self._difference(remote, files)
        self._check_owner(remote, files)
        if change.sent or change.gone:
            _check_space(remote, change)
            self._switch(remote, change, files)
        return Done(
            board.id,
            str(remote.running),
            len(files),
            len(change.sent),
            sum(map(len, change.sent.values())),
            len(change.gone),
        )

    def _difference(self, remote: Remote, files: dict[str, bytes]) -> _Change:
        """What to send and what to remove. The board's own seed stays: it is younger than ours."""
        there = remote.digests(files)
        if there.get(SEED) is not None:
            del files[SEED]
        elif SEED in files:
            files[SEED] = os.urandom(len(files[SEED]))  # no two boards, and no two starts, alike
        sent = {path: data for path, data in files.items() if _sha256(data) != there[path]}
        gone = [path for folder in _OURS for path in remote.tree(folder) if path not in files]
        for key in _key_files(remote.text(CONFIG)):
            if key not in files and remote.exists(key):
                gone.append(key)  # of another member, and a secret
        if sent or gone:
            sent[MAIN] = sent.pop(MAIN, files[MAIN])
        return _Change(sent, gone)

    def _check_owner(self, remote: Remote, files: dict[str, bytes]) -> None:
        """Nobody loses a program of their own unasked."""
        boot, main = remote.text(BOOT), remote.text(MAIN)
        if self._may_replace or _settles(boot):
            return
        for path, found in ((MAIN, main), (BOOT, boot)):
            if found is not None and _has_code(found) and found.encode() != files[path]:
                raise Problem(
                    f"The board at {self._port} has a {path[1:]} that is not Covey's: copy it away"
                    " if you need it, then use --replace; nothing was changed."
                )

    def _switch(self, remote: Remote, change: _Change, files: dict[str, bytes]) -> None:
        whole = sum(map(len, change.sent.values()))
        self.state = "the member on it is as it was; `covey install` can simply be run again"
        remote.open_part()
        if not _settles(remote.text(BOOT)):
            self._prepare(remote, files)
        done = 0

        def advance(octets: int) -> None:
            nonlocal done
            done += octets
            self._progress(done, whole)

        self._progress(0, whole)
        for at, data in enumerate(change.sent.values()):
            remote.write(str(at), data, advance)
        remote.write("plan", change.plan, lambda octets: None)
        self._compare(remote, {f"/covey.part/{i}": d for i, d in enumerate(change.sent.values())})
        self._compare(remote, {"/covey.part/plan": change.plan})
        self.state = "what starts on it is the old member or the new one, each whole"
        remote.commit()
        self.state = "the new member is complete on it, and takes over at its next start"
        remote.settle()
        self._compare(remote, files)

    def _prepare(self, remote: Remote, files: dict[str, bytes]) -> None:
        """A boot.py that can complete what will be committed, and what it calls."""
        for path in (*_SETTLER, BOOT):
            remote.write("0", files[path], lambda octets: None)
            self._compare(remote, {"/covey.part/0": files[path]})
            remote.put("0", path)

    def _compare(self, remote: Remote, expected: dict[str, bytes]) -> None:
        found = remote.digests(expected)
        wrong = [path for path, data in expected.items() if found[path] != _sha256(data)]
        if wrong:
            raise Problem(
                f"What the board at {self._port} holds in {wrong[0]} is not what was sent: its"
                f" flash may be worn out; {self.state}."
            )


def _check_boot(files: dict[str, bytes]) -> None:
    """A person's own boot.py must keep what makes an installation whole."""
    if not _settles(files[BOOT].decode()):
        raise Problem(
            f"boot.py must call onboard.{_SETTLES} before all else, as firmware/boot.py does.",
            MISUSE,
        )


def _check_space(remote: Remote, change: _Change) -> None:
    blocks = sum(-(-len(data) // remote.block) for data in change.sent.values())
    blocks += 2 * (1 + len(change.sent) // 16) + _SPARE_BLOCKS
    if blocks > remote.free_blocks:
        need, free = (n * remote.block // 1024 for n in (blocks, remote.free_blocks))
        raise Problem(
            f"The board's file system has {free} KB left, and {need} KB are needed beside the old"
            " member: remove files of your own, or use `covey flash`; nothing was changed."
        )


def _key_files(config: str | None) -> list[str]:
    """The paths of the keys and certificates that the board's covey.json names."""
    try:
        names = named(json.loads(config or "")).values()
    except (ValueError, AttributeError):
        return []
    return ["/" + n for n in names if isinstance(n, str) and n and "/" not in n]


def _settles(boot: str | None) -> bool:
    return boot is not None and _SETTLES in boot


def _has_code(text: str) -> bool:
    """Whether more is in it than comments, as in the boot.py that MicroPython brings."""
    lines = (line.strip() for line in text.splitlines())
    return any(line and not line.startswith("#") for line in lines)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
