"""The flash of an Espressif chip, and the commands of ROM and flasher that change or read it.

It is NOR flash: erasing sets sectors to ones, writing only clears bits. So a write that was not
preceded by an erase is seen.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

SECTOR = 4096
OK = b"\0\0"
INVALID = b"\1\5"  # failed: "received message is invalid"
STOPPED = b"\1\6"  # failed: "failed to act on received message"
BAD_CHECKSUM = b"\1\7"


@dataclass
class Faults:
    """What goes wrong. Blocks of data are counted from 1 over all connections."""

    silent: bool = False  # the line is open, and nobody answers
    garbled: set = field(default_factory=set)  # blocks that arrive with a wrong checksum
    corrupt: set = field(default_factory=set)  # blocks of which the flash keeps one bit wrong
    drop: int | None = None  # the line breaks at this block, and stays so
    rot: int | None = None  # address of a bit that falls once the last block is written and hashed


class Dropped(Exception):
    """The cable is out."""


class FlashCommands:
    """What one connection does to the flash of a Rom: each method answers one command."""

    def __init__(self, rom):
        self._rom = rom
        self._flash = rom.flash
        self._is_flasher = False  # else the ROM
        self._is_attached = False
        self._at = 0  # where the next block goes
        self._left = 0  # octets that may still be written
        self._inflate = None
        self._sequence = 0
        self._reading = None  # what is being read, and is waited for

    def _flash_begin(self, data: bytes) -> bytes:
        size, _, _, self._at = struct.unpack_from("<IIII", data)
        return self._begin(size, None)

    def _defl_begin(self, data: bytes) -> bytes:
        size, _, _, self._at = struct.unpack_from("<IIII", data)
        return self._begin(size, zlib.decompressobj())

    def _begin(self, size: int, inflate) -> bytes:
        if not self._is_attached or self._at + size > len(self._flash):
            return STOPPED
        self._inflate = inflate
        self._sequence = 0
        self._left = -(-size // SECTOR) * SECTOR
        self._erase(self._at, self._left)
        return OK

    def _flash_data(self, data: bytes) -> bytes:
        return self._take(data, data[16:])

    def _defl_data(self, data: bytes) -> bytes:
        if self._inflate is None:
            return STOPPED
        return self._take(data, data[16:], self._inflate)

    def _take(self, data: bytes, block: bytes, inflate=None) -> bytes:
        """One block of data; `blocks` counts those that arrived whole or not."""
        length, sequence = struct.unpack_from("<II", data)
        if length != len(block) or sequence != self._sequence:
            return STOPPED
        self._rom.blocks += 1
        if self._rom.watch:
            self._rom.watch()
        count, faults = self._rom.blocks, self._rom.faults
        if count == faults.drop:
            raise Dropped
        if count in faults.garbled:
            return BAD_CHECKSUM
        self._sequence += 1
        text = bytearray(block if inflate is None else inflate.decompress(block))
        if len(text) > self._left:
            return STOPPED
        if count in faults.corrupt:
            text[len(text) // 2] ^= 1
        self._write(bytes(text))
        return OK

    def _write(self, text: bytes) -> None:
        end = self._at + len(text)
        old = int.from_bytes(self._flash[self._at : end], "big")
        self._flash[self._at : end] = (old & int.from_bytes(text, "big")).to_bytes(
            len(text), "big"
        )
        self._at = end
        self._left -= len(text)

    def _erase(self, at: int, size: int) -> None:
        start = at // SECTOR * SECTOR
        end = -(-(at + size) // SECTOR) * SECTOR
        self._flash[start:end] = b"\xff" * (end - start)

    def _flash_end(self, _) -> bytes:
        return OK

    def _erase_flash(self, _) -> bytes:
        self._rom.erased_whole += 1
        self._erase(0, len(self._flash))
        return OK

    def _erase_region(self, data: bytes) -> bytes:
        self._erase(*struct.unpack_from("<II", data))
        return OK

    def _read_flash(self, data: bytes) -> bytes:
        """The flasher sends a sector, waits until it is acknowledged, and at the end an MD5."""
        at, size, block, _ = struct.unpack_from("<IIII", data)
        if block != SECTOR or at + size > len(self._flash):
            return STOPPED
        self._reading = self._flash[at : at + size]
        return OK

    def _read_on(self, packet: bytes):
        (done,) = struct.unpack("<I", packet)
        if done < len(self._reading):
            yield self._reading[done : done + SECTOR]
        else:
            yield hashlib.md5(self._reading).digest()
            self._reading = None

    def _md5(self, data: bytes) -> bytes:
        at, size = struct.unpack_from("<II", data)
        digest = hashlib.md5(self._flash[at : at + size])
        if self._rom.faults.rot is not None:
            self._flash[self._rom.faults.rot] ^= 1
            self._rom.faults.rot = None
        return (digest.digest() if self._is_flasher else digest.hexdigest().encode()) + OK
