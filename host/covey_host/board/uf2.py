"""UF2, the form in which the Pico takes firmware: 512 octets a block, each with its address.

And what a program for the RP2040 says of itself: "binary info", of which the block devices are
read here (pico-sdk, pico/binary_info/structure.h).
"""

import struct
from dataclasses import dataclass

from .boards import Region
from .espressif import Unfit

MAGIC = b"UF2\n"
_BLOCK = struct.Struct("<4sIIIIIII476sI")
_SECOND, _LAST = 0x9E5D5157, 0x0AB16F30
_NOT_MAIN, _HAS_FAMILY = 0x1, 0x2000
_PAYLOAD = 256  # the only size that the RP2040's boot ROM takes
_SPAN_MOST = 64 << 20  # octets from the first to the last of a file; the RP2040 has 16 MB

_INFO = struct.Struct("<5I")  # marker, first and last pointer, mapping, marker
_INFO_START, _INFO_END = 0x7188EBF2, 0xE71AA390
_INFO_WITHIN = 0x200
_INFO_MOST = 1024  # pointers that are followed
_BLOCK_DEVICE = struct.Struct("<HHIII")  # type, tag, name, address, size
_IS_BLOCK_DEVICE = 7


@dataclass(frozen=True)
class Program:
    family: int
    base: int  # address of the first octet
    data: bytes  # from there on; 0xff where the file says nothing


def parse(data: bytes) -> Program:
    """Unfit where it is no UF2 file, or not a whole one."""
    if len(data) < _BLOCK.size or data[:4] != MAGIC:
        raise Unfit("is no UF2 file.")
    if len(data) % _BLOCK.size:
        raise Unfit("ends within a block: it was cut short; download it again.")
    parts, families = {}, set()
    count = len(data) // _BLOCK.size
    for number, block in enumerate(_BLOCK.iter_unpack(data)):
        first, second, flags, address, size, at, total, family, payload, last = block
        if (first, second, last) != (MAGIC, _SECOND, _LAST) or size > len(payload):
            raise Unfit(f"is damaged: block {number} is none of UF2.")
        if (at, total) != (number, count):
            raise Unfit("lacks blocks: it was cut short, or is several files in one.")
        if flags & _NOT_MAIN:
            continue
        families.add(family if flags & _HAS_FAMILY else None)
        parts[address] = payload[:size]
    if len(families) != 1 or None in families:
        raise Unfit("is for several chips, or says for none which.")
    base = min(parts)
    span = max(a + len(p) for a, p in parts.items()) - base
    if span > _SPAN_MOST:
        raise Unfit("has blocks that lie further apart than any flash is long.")
    flat = bytearray(b"\xff" * span)
    for address, part in parts.items():
        flat[address - base : address - base + len(part)] = part
    return Program(families.pop(), base, bytes(flat))


def emit(parts: dict[int, bytes], family: int) -> bytes:
    """{address: octets} → a UF2 file. The addresses are multiples of 256."""
    pieces = [
        (address + at, octets[at : at + _PAYLOAD].ljust(_PAYLOAD, b"\xff"))
        for address, octets in sorted(parts.items())
        for at in range(0, len(octets), _PAYLOAD)
    ]
    return b"".join(
        _BLOCK.pack(
            *(MAGIC, _SECOND, _HAS_FAMILY, address, _PAYLOAD, number, len(pieces), family),
            *(piece, _LAST),
        )
        for number, (address, piece) in enumerate(pieces)
    )


def block_devices(program: Program) -> dict[str, Region]:
    """Name → where it lies, as an offset in the flash. Empty where the program says nothing."""
    data, base = program.data, program.base
    for at in range(0, min(_INFO_WITHIN, len(data) - _INFO.size), 4):
        start, first, last, _, end = _INFO.unpack_from(data, at)
        if (start, end) == (_INFO_START, _INFO_END):
            break
    else:
        return {}
    found = {}
    for pointer in range(first, min(last, first + 4 * _INFO_MOST), 4):
        entry = _word(data, pointer - base)
        if entry is None or not 0 <= entry - base <= len(data) - _BLOCK_DEVICE.size:
            continue
        kind, _, name, address, size = _BLOCK_DEVICE.unpack_from(data, entry - base)
        if kind == _IS_BLOCK_DEVICE and 0 <= name - base < len(data):
            text = data[name - base : name - base + 64].partition(b"\0")[0]
            found[text.decode("ascii", "replace")] = Region(address - base, size)
    return found


def _word(data: bytes, at: int) -> int | None:
    return struct.unpack_from("<I", data, at)[0] if 0 <= at <= len(data) - 4 else None
