"""What a linker for another Xtensa core would not read: call8, in windows of registers."""

import struct
from pathlib import Path

_RELA, _NOBITS, _SLOT0_OP = 4, 8, 20
_CALL, _KIND = 0x05, 0x30  # low bits of a call, and of how far it moves the window: 0, 4, 8, 12
CALL0, CALL8 = 0x00, 0x20


def turn(path, kind):
    """Make each call of an ELF file that a relocation is for one of this kind; how many."""
    data = bytearray(Path(path).read_bytes())
    (at,) = struct.unpack_from("<I", data, 32)
    size, count = struct.unpack_from("<HH", data, 46)
    heads = [struct.unpack_from("<10I", data, at + i * size) for i in range(count)]
    turned = 0
    for _, what, _, _, offset, length, _, info, _, _ in heads:
        if what != _RELA or heads[info][1] == _NOBITS:
            continue
        address, start = heads[info][3:5]
        for entry in range(offset, offset + length, 12):
            where, symbol, _ = struct.unpack_from("<IIi", data, entry)
            place = start + where - address
            if symbol & 0xFF == _SLOT0_OP and data[place] & 0x0F == _CALL:
                data[place] = data[place] & ~_KIND | kind
                turned += 1
    Path(path).write_bytes(data)
    return turned
