"""MicroPython's firmware for Espressif chips: bootloader, partition table and application in one
.bin that goes to one place in the flash. What is told here is read from the file itself.

An image (bootloader or application): 24 octets of header, segments of (address, length, data),
zeros and one octet of checksum up to a multiple of 16, a SHA-256 of all that where the header
says so. A partition: 32 octets, (magic, type, subtype, offset, size, label, flags); behind the
last one an MD5 of them all.
"""

import hashlib
import struct
from dataclasses import dataclass

from .boards import Region

_IMAGE = 0xE9
_HEADER = struct.Struct("<BBBBIB3xHBHH4xB")
_SEGMENT = struct.Struct("<II")
_SEGMENTS_MOST = 16
_CHECKSUM = 0xEF
_APPLICATION = struct.pack("<I", 0xABCD5432)  # at the start of an application's first segment
_PARTITION = struct.Struct("<HBBII16sI")
_PARTITION_MAGIC, _MD5_MAGIC, _END = 0x50AA, 0xEBEB, 0xFFFF
_TABLE_LEN = 0xC00
TYPE_APP = 0

CHIP_IDS = {0: "esp32", 2: "esp32s2", 5: "esp32c3", 9: "esp32s3", 13: "esp32c6"}
_OTHER_IDS = {12: "esp32c2", 16: "esp32h2", 18: "esp32p4", 20: "esp32c61", 23: "esp32c5"}


class Unfit(Exception):
    """The file is not what is wanted; the text ends a sentence that begins with its name."""


@dataclass(frozen=True)
class Partition:
    label: str
    type: int
    region: Region


@dataclass(frozen=True)
class Image:
    """A bootloader or an application."""

    chip: str
    size: int  # in the file, checksum and hash included


def chip_name(number: int) -> str:
    return (CHIP_IDS | _OTHER_IDS).get(number, f"a chip that covey does not know (id {number})")


def chip_of(data: bytes) -> str:
    """The chip that a firmware file is for, as its bootloader says. Unfit where it is none."""
    boot = image(data, 0, "bootloader")
    if data[32:36] == _APPLICATION:
        raise Unfit(
            "holds the application alone, without bootloader and partition table: take the .bin"
            " file of the same release whose name does not end in .app-bin."
        )
    return boot.chip


def parse(data: bytes, base: int, table: int) -> tuple[list[Partition], Region]:
    """The partitions, and where the application lies, of a firmware file that goes to base in the
    flash, where its partition table lies at `table`. Unfit where it is damaged.
    """
    if len(data) < table - base + _TABLE_LEN:
        raise Unfit("ends before its partition table: it was cut short; download it again.")
    partitions = parse_table(data[table - base : table - base + _TABLE_LEN])
    place = next((p.region for p in partitions if p.type == TYPE_APP), None)
    if place is None:
        raise Unfit("has no application in its partition table.")
    app = image(data, place.offset - base, "application")
    if app.size > place.size:
        raise Unfit("has an application that is larger than its partition.")
    if app.chip != chip_of(data):
        raise Unfit(f"has a bootloader for {chip_of(data)} and an application for {app.chip}.")
    return partitions, Region(place.offset, app.size)


def image(data: bytes, at: int, what: str) -> Image:
    """The image at an offset, its checksum and hash checked."""
    if len(data) < at + _HEADER.size:
        raise Unfit(f"ends before its {what}: it was cut short; download it again.")
    magic, segments, *_, chip, _, _, _, has_hash = _HEADER.unpack_from(data, at)
    if magic != _IMAGE or not 0 < segments <= _SEGMENTS_MOST:
        raise Unfit(f"has no {what} of an Espressif chip where it should be.")
    end = at + _HEADER.size
    checksum = _CHECKSUM
    for _ in range(segments):
        if len(data) < end + _SEGMENT.size:
            raise Unfit(f"ends within its {what}: it was cut short; download it again.")
        _, length = _SEGMENT.unpack_from(data, end)
        end += _SEGMENT.size
        part = data[end : end + length]
        if len(part) < length:
            raise Unfit(f"ends within its {what}: it was cut short; download it again.")
        checksum ^= _folded(part)
        end += length
    end = end // 16 * 16 + 16
    hash_len = 32 if has_hash else 0
    if len(data) < end + hash_len:
        raise Unfit(f"ends within its {what}: it was cut short; download it again.")
    if data[end - 1] != checksum or (
        has_hash and hashlib.sha256(data[at:end]).digest() != data[end : end + 32]
    ):
        raise Unfit(f"is damaged: the checksum of its {what} is wrong; download it again.")
    return Image(chip_name(chip), end + hash_len - at)


def parse_table(data: bytes) -> list[Partition]:
    found = []
    for at in range(0, len(data), _PARTITION.size):
        magic, type, _, offset, size, label, _ = _PARTITION.unpack_from(data, at)
        if magic == _MD5_MAGIC:
            if hashlib.md5(data[:at]).digest() != data[at + 16 : at + 32]:
                raise Unfit("is damaged: the checksum of its partition table is wrong.")
            break
        if magic == _END:
            break
        if magic != _PARTITION_MAGIC:
            raise Unfit("has no partition table where it should be.")
        name = label.rstrip(b"\0").decode("ascii", "replace")
        found.append(Partition(name, type, Region(offset, size)))
    if not found:
        raise Unfit("has no partition table where it should be.")
    return found


def _folded(data: bytes) -> int:
    """The XOR of all octets."""
    word = 0
    padded = data + b"\0" * (-len(data) % 8)
    for (each,) in struct.iter_unpack("<Q", padded):
        word ^= each
    for shift in (32, 16, 8):
        word ^= word >> shift
    return word & 0xFF
