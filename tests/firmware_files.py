"""MicroPython firmware files as the tests need them: made here, since none can be had.

Their outside is real: bootloader and application are images that `esptool image-info` finds valid,
partition tables are as ESP-IDF writes them, UF2 blocks and binary info as the Pico has them.
Inside they hold no code, only the text by which MicroPython says what it is.
"""

import hashlib
import struct

from covey_host.board import uf2

CHIP_IDS = {"esp32": 0, "esp32s2": 2, "esp32c3": 5, "esp32s3": 9, "esp32c6": 13}
BASES = {"esp32": 0x1000, "esp32s2": 0x1000, "esp32c3": 0, "esp32s3": 0, "esp32c6": 0}
NAMES = {"esp32": "ESP32", "esp32s2": "ESP32-S2", "esp32c3": "ESP32-C3", "esp32s3": "ESP32-S3"}
# Where an address of the chip's flash is mapped for data.
_DROM = {
    "esp32": 0x3F400000,
    "esp32s2": 0x3F000000,
    "esp32c3": 0x3C000000,
    "esp32s3": 0x3C000000,
    "esp32c6": 0x42000000,
}
# Name, type, subtype, offset, size; as MicroPython's partitions-*.csv.
NVS = ("nvs", 1, 2, 0x9000, 0x6000)
PHY = ("phy_init", 1, 1, 0xF000, 0x1000)
FACTORY = ("factory", 0, 0, 0x10000, 0x1F0000)
OLD_4MB = [NVS, PHY, FACTORY, ("vfs", 1, 0x81, 0x200000, 0x200000)]  # 1.25: partitions-4MiB.csv
OLD_8MB = [NVS, PHY, FACTORY, ("vfs", 1, 0x81, 0x200000, 0x600000)]  # 1.25: partitions-8MiB.csv
NEW = [NVS, PHY, FACTORY]  # 1.26 and later: partitions-4MiBplus.csv
ROMFS = [  # partitions-4MiB-romfs.csv
    NVS,
    PHY,
    ("factory", 0, 0, 0x10000, 0x1D0000),
    ("romfs", 1, 0x8F, 0x1E0000, 0x20000),
]


def espressif(
    chip="esp32c3",
    version="v1.25.0",
    machine=None,
    partitions=OLD_4MB,
    size=0x20000,
    app_chip=None,
):
    """The octets of a .bin as MicroPython's makeimg.py puts it together."""
    base = BASES[chip]
    made = bytearray(image(chip, b"second stage".ljust(0x1200, b"\x55")))
    made += b"\xff" * (0x8000 - base - len(made))
    made += table(partitions)
    place = next(offset for _, type, _, offset, _ in partitions if type == 0)
    made += b"\xff" * (place - base - len(made))
    return bytes(made + application(app_chip or chip, version, machine, size))


def application(chip, version="v1.25.0", machine=None, size=0x20000):
    machine = machine or f"{NAMES.get(chip, chip.upper())} module with {chip.upper()}"
    banner = f"MicroPython {version} on 2025-04-15; {machine}\0".encode()
    described = struct.pack("<II8x32s32s16s16s32s32s", 0xABCD5432, 0, b"", *[b""] * 5)
    content = described.ljust(256, b"\0") + banner
    filler = hashlib.sha256(chip.encode()).digest() * (size // 32)
    return image(chip, (content + filler)[:size])


def image(chip, content, has_hash=True):
    """One segment, checksum, SHA-256."""
    content = content.ljust(-(-len(content) // 4) * 4, b"\0")
    head = struct.pack(
        "<BBBBIB3xHBHH4xB",
        0xE9,
        1,
        2,
        0x20,
        0x40080000,
        0xEE,
        CHIP_IDS[chip],
        0,
        0,
        0xFFFF,
        has_hash,
    )
    made = head + struct.pack("<II", _DROM[chip] + 0x20, len(content)) + content
    checksum = 0xEF
    for octet in content:
        checksum ^= octet
    made += b"\0" * (15 - len(made) % 16) + bytes([checksum])
    return made + (hashlib.sha256(made).digest() if has_hash else b"")


def table(partitions):
    made = b""
    for label, type, subtype, offset, size in partitions:
        name = label.encode()
        made += struct.pack("<HBBII16sI", 0x50AA, type, subtype, offset, size, name, 0)
    made += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(made).digest()
    return made.ljust(0xC00, b"\xff")


def pico(
    version="v1.25.0",
    devices=(("MicroPython", 0x12C000, 0xD4000),),
    family=0xE48BFF56,
    size=0x8000,
):
    """The octets of a .uf2: boot stage, vectors, binary info, text."""
    base = 0x10000000
    flat = bytearray(b"\xff" * size)
    if devices is not None:
        pointers, at = [], 0x400
        for name, offset, length in devices:
            flat[at + 32 : at + 48] = name.encode().ljust(16, b"\0")
            entry = struct.pack("<HHIIIIH", 7, 0x504D, base + at + 32, base + offset, length, 0, 3)
            flat[at : at + len(entry)] = entry
            pointers.append(base + at)
            at += 64
        flat[0x300 : 0x300 + 4 * len(pointers)] = struct.pack(f"<{len(pointers)}I", *pointers)
        info = 0x7188EBF2, base + 0x300, base + 0x300 + 4 * len(pointers), 0, 0xE71AA390
        flat[0x1C0 : 0x1C0 + 20] = struct.pack("<5I", *info)
    banner = f"MicroPython {version} on 2025-04-15; Raspberry Pi Pico W with RP2040\0".encode()
    flat[0x1000 : 0x1000 + len(banner)] = banner
    return uf2.emit({base: bytes(flat)}, family)
