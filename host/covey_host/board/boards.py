"""boards/NAME.toml: what covey must know of a board. Values; a file with a mistake is refused.

A board file holds no logic. `--board` takes the name of one, or the path of any other.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import toml
from ..errors import MISUSE, Problem
from ..gcks import policyvalues as values

HOME = Path(__file__).resolve().parents[3] / "boards"
_PAGE = 4096  # octets that NOR flash erases at once, on all of these
_FLASH_MOST = 128 << 20

# Of .mpy files, as mpy-cross spells them; those that covey's kernels are written for.
ARCHS = ("xtensawin", "rv32imc", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp")
HOSTS = ("x86", "x64")  # of MicroPython on a desktop, where images are tried
CHIPS = ("esp32", "esp32s2", "esp32s3", "esp32c3", "esp32c6")
BIN, UF2 = "bin", "uf2"
CARRIERS = ("udp", "ip")
OPTIONAL, ALWAYS = "optional", "always"  # whether there is PSRAM
# Their jumps are too short for the GHASH without tables; and they have no cache for data.
NEVER_CONSTANT_TIME = ("armv6m",)


@dataclass(frozen=True)
class Region:
    """Octets of the flash from offset on."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True)
class Board:
    id: str  # the file's name without .toml
    name: str
    arch: str
    firmware: str  # MicroPython's name of its build
    read_in: tuple[str, ...]  # releases whose source has these figures
    carriers: tuple[str, ...]
    flash_size: int
    format: str  # BIN or UF2
    offset: int  # of the firmware file in the flash
    vfs: Region
    block: int
    program: int
    limits: dict[str, int]  # sas, senders, payload
    heap_from: str
    heap: int | None = None  # octets that MicroPython's heap may have; None: nobody knows
    psram: str | None = None  # OPTIONAL or ALWAYS, where MicroPython uses it
    constant_time: bool | None = None  # AES-GCM without look-ups in tables; None: nobody chose
    chip: str | None = None  # esptool's name; with BIN
    table: int | None = None  # of the partition table in the flash; with BIN
    family: int | None = None  # with UF2
    base: int | None = None  # address of the flash; with UF2
    pins: dict[str, int | str] = field(default_factory=dict)  # as board.json gets them


def names() -> list[str]:
    """The boards that covey brings."""
    return sorted(path.stem for path in HOME.glob("*.toml"))


def load(name: str) -> Board:
    """A board by its name, or by the path of its file. Problem: there is none, or it is wrong."""
    is_path = name.endswith(".toml") or os.sep in name
    path = Path(name) if is_path else HOME / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Problem(f"{path} is not UTF-8 text.", MISUSE) from None
    except OSError as error:
        if is_path:
            why = os.strerror(error.errno or 0)
            raise Problem(f"{path} can't be read: {why}.", MISUSE) from None
        raise Problem(
            f"There is no board {name!r}: take one of {', '.join(names())}, or the path of a"
            " board file.",
            MISUSE,
        ) from None
    return parse(text, path.stem, str(path))


def choose(board: Board, constant_time: bool | None) -> Board:
    """The board as a person wants it for now; None: as its file says."""
    if constant_time and board.arch in NEVER_CONSTANT_TIME:
        raise Problem(
            f"Board {board.id} has no --constant-time: its processor jumps too short for that"
            " kernel, and has no cache in which table look-ups could be seen.",
            MISUSE,
        )
    return board if constant_time is None else replace(board, constant_time=constant_time)


def parse(text: str, id: str, name: str) -> Board:
    """A board from the text of its file; `name` is what a Problem calls it."""
    found = toml.parse(text, name)
    try:
        return _board(id, found)
    except _Wrong as wrong:
        line = toml.line_of(text, wrong.path)
        while line is None and wrong.path:  # missing: the table that lacks it, or no line at all
            wrong.path = wrong.path[:-1]
            line = toml.line_of(text, wrong.path) if wrong.path else None
        at = f"{name}:{line}" if line else name
        raise Problem(f"{at}: {wrong.sentence}", MISUSE) from None


class _Wrong(Exception):
    def __init__(self, path: tuple[str, ...], sentence: str):
        super().__init__(sentence)
        self.path, self.sentence = path, sentence


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text in quotes that is not empty.")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError("must be a list of texts in brackets.")
    return tuple(value)


def _carriers(value: Any) -> tuple[str, ...]:
    found = _texts(value)
    if len(set(found)) < len(found) or set(found) - set(CARRIERS):
        raise ValueError('must hold "udp", "ip" or both.')
    return found


def _pages(least: int) -> Callable[[Any], int]:
    """Octets of flash, in whole pages."""

    def read(value: Any) -> int:
        number = values.whole(least, _FLASH_MOST)(value)
        if number % _PAGE:
            raise ValueError(f"must be a multiple of {_PAGE} (0x{_PAGE:x}).")
        return number

    return read


def _power(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = values.whole(least, most)(value)
        if number & number - 1:
            raise ValueError("must be a power of two.")
        return number

    return read


def _pin(value: Any) -> int | str:
    if type(value) is int and 0 <= value <= 255 or isinstance(value, str) and value:
        return value
    raise ValueError("must be a pin's number, or its name in quotes.")


_WORD = values.whole(0, 0xFFFFFFFF)
# key: (reader, whether it must be there)
_TOP = {
    "name": (_text, True),
    "chip": (values.one_of(*CHIPS), False),
    "arch": (values.one_of(*ARCHS, *HOSTS), True),
    "firmware": (_text, True),
    "read_in": (_texts, True),
    "carriers": (_carriers, True),
    "constant_time": (values.flag, False),
}
_TABLES = {
    "flash": {
        "size": (_power(1 << 19, _FLASH_MOST), True),
        "format": (values.one_of(BIN, UF2), True),
        "offset": (_pages(0), True),
        "table": (_pages(_PAGE), False),
        "family": (_WORD, False),
        "base": (_WORD, False),
    },
    "vfs": {
        "offset": (_pages(_PAGE), True),
        "size": (_pages(2 * _PAGE), True),
        "block": (_pages(_PAGE), True),
        "program": (_power(1, _PAGE), True),
    },
    # As covey.config has them.
    "limits": {
        "sas": (values.whole(2, 64), True),
        "senders": (_power(1, 1024), True),
        "payload": (values.whole(1, 1472), True),
    },
    "memory": {
        "heap": (values.whole(1, _FLASH_MOST), False),
        "heap_from": (_text, True),
        "psram": (values.one_of(OPTIONAL, ALWAYS), False),
    },
    "pins": {
        "led": (_pin, False),
        "led_kind": (values.one_of("pin", "neopixel"), False),
        "led_on": (values.whole(0, 1), False),
        "button": (_pin, False),
        "relay": (_pin, False),
        "relay_on": (values.whole(0, 1), False),
    },
}
_OPTIONAL_TABLES = ("pins",)
_OF_FORMAT = {BIN: ("table",), UF2: ("family", "base")}  # what [flash] has for the one only


def _board(id: str, found: dict) -> Board:
    tables = {key: found.pop(key) for key in _TABLES if key in found}
    top = _read(found, _TOP, ())
    read = {}
    for key, schema in _TABLES.items():
        if key not in tables:
            if key in _OPTIONAL_TABLES:
                continue
            raise _Wrong((), f"the table [{key}] is missing.")
        if not isinstance(tables[key], dict):
            raise _Wrong((key,), f"{key} is a table: [{key}].")
        read[key] = _read(tables[key], schema, (key,))
    flash, vfs = read["flash"], read["vfs"]
    _check_flash(flash, vfs, top)
    if top.get("constant_time") and top["arch"] in NEVER_CONSTANT_TIME:
        sentence = f'constant_time has no place where arch is "{top["arch"]}".'
        raise _Wrong(("constant_time",), sentence)
    return Board(
        id,
        **top,
        flash_size=flash.pop("size"),
        **flash,
        vfs=Region(vfs["offset"], vfs["size"]),
        block=vfs["block"],
        program=vfs["program"],
        limits=read["limits"],
        **read["memory"],
        pins=read.get("pins", {}),
    )


def _read(content: dict, schema: dict, path: tuple[str, ...]) -> dict[str, Any]:
    table = f"[{path[0]}]: " if path else ""
    read = {}
    for key, value in content.items():
        if key not in schema:
            raise _Wrong(
                (*path, key), f"{table}{key} is no key here: remove it or mend its spelling."
            )
        try:
            read[key] = schema[key][0](value)
        except ValueError as error:
            raise _Wrong((*path, key), f"{table}{key} {error}") from None
    for key, (_, is_needed) in schema.items():
        if is_needed and key not in read:
            raise _Wrong((*path, key), f"{table}{key} is missing.")
    return read


def _check_flash(flash: dict, vfs: dict, top: dict) -> None:
    """What each value allows and all together don't."""
    format = flash["format"]
    for other, keys in _OF_FORMAT.items():
        for key in keys:
            if (key in flash) != (other == format):
                word = "is missing" if other == format else "has no place"
                sentence = f'[flash]: {key} {word} where format is "{format}".'
                raise _Wrong(("flash", key), sentence)
    if (format == BIN) != ("chip" in top):
        what = "is missing: esptool needs it" if format == BIN else "has no place"
        raise _Wrong(("chip",), f'chip {what} where format is "{format}".')
    if vfs["size"] % vfs["block"]:
        raise _Wrong(("vfs", "size"), "[vfs]: size must be a multiple of block.")
    if vfs["offset"] + vfs["size"] > flash["size"]:
        raise _Wrong(("vfs", "size"), "[vfs]: it ends behind the end of the flash.")
    if format == BIN and not flash["offset"] < flash["table"] < vfs["offset"]:
        raise _Wrong(
            ("flash", "table"), "[flash]: offset, table and [vfs] must lie in this order."
        )
