"""What a .mpy file says of itself: version and architecture, and how much of it is machine code.

As MicroPython reads it (py/persistentcode.c, version 6): a header of four octets, names,
constants, then functions, each with those inside it.
"""

from dataclasses import dataclass

VERSION, SUB_VERSION = 6, 3
SMALL_INT_BITS = 31  # of 32-bit boards, and what mpy-cross writes by itself
ARCHS = {
    0: "none",
    1: "x86",
    2: "x64",
    3: "armv6",
    4: "armv6m",
    5: "armv7m",
    6: "armv7em",
    7: "armv7emsp",
    8: "armv7emdp",
    9: "xtensa",
    10: "xtensawin",
    11: "rv32imc",
}

_HAS_FLAGS = 0x40
_STR, _BYTES, _TUPLE = 5, 6, 10
_WITHOUT_DATA = 5  # kinds of constants below this have none
_BYTECODE, _NATIVE, _VIPER = 0, 1, 2
_RODATA, _BSS, _RELOCATED = 0x20, 0x40, 0x10


class NoMpy(ValueError):
    """The octets are no .mpy file that this can read."""


@dataclass(frozen=True)
class Mpy:
    version: int
    sub_version: int  # of native code; 0 where there is none
    arch: str
    small_int_bits: int
    machine_code: int  # octets


def parse(data: bytes) -> Mpy:
    """NoMpy where it is none, or has relocations (C modules), which lib/covey has not."""
    try:
        return _parse(data)
    except RecursionError:
        raise NoMpy("it is nested too deep") from None


def _parse(data: bytes) -> Mpy:
    if len(data) < 4 or data[:1] != b"M" or data[1] != VERSION:
        raise NoMpy("no .mpy file of version 6")
    feature = data[2]
    arch = ARCHS.get(feature >> 2 & 0x2F)
    if arch is None:
        raise NoMpy("an architecture that nobody knows")
    reader = _Reader(data, 4)
    if feature & _HAS_FLAGS:
        reader.uint()
    names, constants = reader.uint(), reader.uint()
    for _ in range(names):
        size = reader.uint()
        if not size & 1:  # else one that MicroPython has built in
            reader.skip((size >> 1) + 1)
    for _ in range(constants):
        _skip_constant(reader)
    machine_code = _machine_code(reader)
    if reader.at != len(data):
        raise NoMpy("octets are left over at its end")
    return Mpy(data[1], feature & 3, arch, data[3], machine_code)


def _skip_constant(reader: "_Reader") -> None:
    kind = reader.octet()
    if kind < _WITHOUT_DATA:
        return
    size = reader.uint()
    if kind == _TUPLE:
        for _ in range(size):
            _skip_constant(reader)
    else:
        reader.skip(size + (kind in (_STR, _BYTES)))


def _machine_code(reader: "_Reader") -> int:
    """Of a function and those inside it."""
    head = reader.uint()
    kind, has_children, size = head & 3, head & 4, head >> 3
    reader.skip(size)
    total = size if kind != _BYTECODE else 0
    if kind == _NATIVE:
        reader.uint()  # where its prelude begins
    elif kind != _BYTECODE:
        flags = reader.uint()
        if flags & _RELOCATED or kind != _VIPER:
            raise NoMpy("machine code that is not viper's")
        rodata = reader.uint() if flags & _RODATA else 0
        if flags & _BSS:
            reader.uint()
        reader.skip(rodata)
    if has_children:
        total += sum(_machine_code(reader) for _ in range(reader.uint()))
    return total


class _Reader:
    def __init__(self, data: bytes, at: int):
        self._data = data
        self.at = at

    def octet(self) -> int:
        self.skip(1)
        return self._data[self.at - 1]

    def uint(self) -> int:
        """Seven bits an octet, the highest first."""
        value = 0
        while True:
            octet = self.octet()
            value = value << 7 | octet & 0x7F
            if octet < 0x80:
                return value

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise NoMpy("it is cut short")
