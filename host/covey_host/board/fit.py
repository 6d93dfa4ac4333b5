"""Whether a board that runs MicroPython is the one that files were compiled for."""

from dataclasses import dataclass

from ..errors import MISUSE, Problem
from . import boards
from .boards import Board
from .firmware import LEAST

_NATIVE = (  # by number, in the header of a .mpy file and in sys.implementation._mpy
    *("bytecode", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc"),
)


@dataclass(frozen=True)
class Running:
    """What a board says of itself."""

    version: tuple[int, ...]
    mpy: int  # of sys.implementation._mpy: version, sub-version from bit 8, architecture from 10
    machine: str  # "Generic ESP32C3 module with ESP32C3"
    build: str  # "ESP32_GENERIC_C3"; empty where it says none

    @property
    def arch(self) -> str:
        return _arch(self.mpy >> 10 & 0xF)

    @property
    def processor(self) -> str | None:
        """None where it names none: MicroPython on a desktop."""
        _, found, name = self.machine.rpartition(" with ")
        return name if found else None

    def __str__(self) -> str:
        return f"MicroPython {'.'.join(map(str, self.version))} on {self.machine or self.arch}"


def guess(running: Running) -> Board:
    """The board file for it. Problem where none or several fit."""
    every = [boards.load(name) for name in boards.names()]
    found = [board for board in every if running.build and running.build == board.firmware]
    found = found or [board for board in every if _has_its_chip(board, running)]
    if len(found) == 1:
        return found[0]
    raise Problem(f"This is {running}: say with --board which board file it has.", MISUSE)


def check(running: Running, board: Board, files: dict[str, bytes]) -> None:
    """Problem where these files would not run there; nothing was written yet."""
    if running.version < LEAST:
        least = ".".join(map(str, LEAST))
        raise Problem(
            f"The board has {running}, and Covey needs {least}: bring a newer one onto it with"
            " `covey flash --firmware`; nothing was changed."
        )
    if board.chip and running.processor and not _has_its_chip(board, running):
        raise Problem(
            f"Board {board.id} has an {_plain(board.chip)}, and this is {running}: name another"
            " --board; nothing was changed."
        )
    for path, data in files.items():
        if path.endswith(".mpy") and not _runs(data, running.mpy):
            raise Problem(
                f"Code for {board.arch} (.mpy version {data[1]}.{data[2] & 3}) can't run on this"
                f" board ({running}; {running.arch}, .mpy version {running.mpy & 0xFF}."
                f"{running.mpy >> 8 & 3}); nothing was changed."
            )


def _runs(mpy: bytes, at: int) -> bool:
    """By the rules of MicroPython's loader: bytecode runs everywhere, native code in its place."""
    version, features = mpy[1], mpy[2]
    number = features >> 2 & 0xF
    if mpy[:1] != b"M" or version != at & 0xFF:
        return False
    if number == 0:
        return True
    there = at >> 10 & 0xF
    thumb = _NATIVE.index("armv6m")
    fits = number == there or thumb <= number <= there <= _NATIVE.index("armv7emdp")
    return fits and features & 3 == at >> 8 & 3


def _arch(number: int) -> str:
    return _NATIVE[number] if number < len(_NATIVE) else f"architecture {number}"


def _has_its_chip(board: Board, running: Running) -> bool:
    return board.chip is not None and _plain(board.chip) == _plain(running.processor or "")


def _plain(chip: str) -> str:
    """ESP32C3, whether it was esp32c3 or ESP32-C3."""
    return chip.upper().replace("-", "")
