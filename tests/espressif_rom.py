"""The boot ROM of an Espressif chip behind a TCP port, with its flash in a file.

It speaks what esptool speaks over a cable: SLIP, the commands of the ROM, and those of the flasher
that esptool loads into RAM and starts. (The flasher's own code is taken, counted and not run: its
commands are answered here.) A connection is a board that was just reset into download mode.

    python tests/espressif_rom.py esp32c3 flash.bin      # prints the port to give to --port

Faults are asked for by name: see espressif_flash.
"""

import argparse
import mmap
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from espressif_flash import (
    BAD_CHECKSUM,
    INVALID,
    OK,
    SECTOR,
    STOPPED,
    Dropped,
    Faults,
    FlashCommands,
)

_FLASHER_LEAST = 1024  # octets of code that nobody would take for a flasher if there were fewer
_SPI_START = 1 << 18
_WINBOND = 0x40EF  # manufacturer 0xef; above it the size: 0x16 for 2^0x16 octets
_SFDP = 0x50444653


@dataclass(frozen=True)
class Chip:
    name: str  # as esptool's --chip
    magic: int  # what lies at 0x40001000
    number: int | None  # in the answer to GET_SECURITY_INFO; None: not in it
    has_security_info: bool
    spi: int  # base of the registers of the flash's SPI controller
    usr2: int  # offsets in it: the command, and the first word of data
    w0: int
    clock_divider: int  # address of the UART's divider, which tells the crystal


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("esp32", 0x00F01D83, None, False, 0x3FF42000, 0x24, 0x80, 0x3FF40014),
        Chip("esp32s2", 0x000007C6, None, True, 0x3F402000, 0x20, 0x58, 0x3F400014),
        Chip("esp32s3", 0x00000009, 9, True, 0x60002000, 0x20, 0x58, 0x60000014),
        Chip("esp32c3", 0x6921506F, 5, True, 0x60002000, 0x20, 0x58, 0x60000014),
        Chip("esp32c6", 0x2CE0806F, 13, True, 0x60003000, 0x20, 0x58, 0x60000014),
    )
}


class Rom:
    """Serves until stop(). `blocks` counts blocks of data, `resets` connections."""

    def __init__(self, name: str, path: Path, size: int = 4 << 20, faults: Faults | None = None):
        self.chip = CHIPS[name]
        self.faults = faults or Faults()
        self.blocks = 0
        self.resets = 0
        self.erased_whole = 0
        self.watch = None  # called at each block of data
        if not path.exists():
            path.write_bytes(b"\xff" * size)
        with path.open("r+b") as file:
            self.flash = mmap.mmap(file.fileno(), 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._line = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; the file then holds what the flash held."""
        self._hang_up()
        self._thread.join(10)
        self.flash.flush()
        self.flash.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait(self) -> None:
        self._thread.join()

    def _hang_up(self) -> None:
        for end in (self._listener, self._line):
            if end is not None:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()

    def _serve(self) -> None:
        while True:
            try:
                self._line, _ = self._listener.accept()
            except OSError:
                return
            self.resets += 1
            session = _Session(self)
            try:
                for packet in _packets(self._line):
                    if not self.faults.silent:
                        for answer in session.answers(packet):
                            self._line.sendall(_slip(answer))
            except Dropped:
                self._hang_up()
                return
            except OSError:
                pass
            self._line.close()


def _slip(packet: bytes) -> bytes:
    return b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def _packets(line: socket.socket):
    """What arrives, without SLIP; ends when the peer hangs up."""
    rest = b""
    while chunk := line.recv(65536):
        *frames, rest = (rest + chunk).split(b"\xc0")
        for frame in frames:
            if frame:
                yield frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")


class _Session(FlashCommands):
    """One connection: the registers, and what is being written."""

    def __init__(self, rom: Rom):
        super().__init__(rom)
        self._chip = rom.chip
        self._registers = {0x40001000: rom.chip.magic, rom.chip.clock_divider: 347}  # 40 MHz
        self._code = 0  # octets of code in RAM
        self._acts = {
            0x02: self._flash_begin,
            0x03: self._flash_data,
            0x04: self._flash_end,
            0x05: self._mem_begin,
            0x06: self._mem_end,
            0x07: self._mem_data,
            0x09: self._write_reg,
            0x0A: self._read_reg,
            0x0B: self._set_params,
            0x0D: self._attach,
            0x0F: self._change_baud,
            0x10: self._defl_begin,
            0x11: self._defl_data,
            0x12: self._flash_end,
            0x13: self._md5,
        }
        if rom.chip.has_security_info:
            self._acts[0x14] = self._security_info

    def answers(self, packet: bytes):
        """The packets that answer one; a packet that is none gets no answer."""
        if self._reading is not None and len(packet) == 4:
            yield from self._read_on(packet)
            return
        if len(packet) < 8 or packet[0] != 0:
            return
        _, op, length, checksum = struct.unpack("<BBHI", packet[:8])
        data = packet[8:]
        if op == 0x08 and len(data) == 36:
            value = 0 if self._is_flasher else 0x20120707
            for _ in range(8):
                yield self._answer(op, OK, value)
            return
        act = self._acts.get(op)
        if act is None or length != len(data):
            for _ in range(8):
                yield self._answer(0, INVALID)
            return
        if op in (0x03, 0x07, 0x11) and _checksum(data[16:]) != checksum:
            yield self._answer(op, BAD_CHECKSUM)
            return
        result = act(data)
        value, body = result if isinstance(result, tuple) else (0, result)
        yield self._answer(op, body, value)
        if op == 0x06 and self._is_flasher:
            yield b"OHAI"
        if op == 0xD2 and body == OK:
            yield self._reading[:SECTOR]

    def _answer(self, op: int, body: bytes, value: int = 0) -> bytes:
        """The ROM of these chips puts two more octets behind the two of the status."""
        body = body if self._is_flasher else body + b"\0\0"
        return struct.pack("<BBHI", 1, op, len(body), value) + body

    # RAM and registers

    def _mem_begin(self, _) -> bytes:
        return OK

    def _mem_data(self, data: bytes) -> bytes:
        self._code += len(data) - 16
        return OK

    def _mem_end(self, data: bytes) -> bytes:
        (stays,) = struct.unpack_from("<I", data)
        if stays or self._code < _FLASHER_LEAST:
            return STOPPED
        self._is_flasher = True
        self._is_attached = True  # the flasher does that when it starts
        self._acts[0xD0] = self._erase_flash
        self._acts[0xD1] = self._erase_region
        self._acts[0xD2] = self._read_flash
        return OK

    def _read_reg(self, data: bytes):
        (address,) = struct.unpack_from("<I", data)
        return self._registers.get(address, 0), OK

    def _write_reg(self, data: bytes) -> bytes:
        for at in range(0, len(data), 16):
            address, value, _, _ = struct.unpack_from("<IIII", data, at)
            self._registers[address] = value
            if address == self._chip.spi and value & _SPI_START:
                self._run_spi()
        return OK

    def _run_spi(self) -> None:
        """A command of the flash chip: what it is, and its descriptor."""
        command = self._registers.get(self._chip.spi + self._chip.usr2, 0) & 0xFF
        size = len(self._flash).bit_length() - 1
        answer = {0x9F: size << 16 | _WINBOND, 0x5A: _SFDP}.get(command, 0)
        if command == 0x5A and self._registers.get(self._chip.spi + 4, 0):
            answer = _WINBOND & 0xFF
        self._registers[self._chip.spi + self._chip.w0] = answer
        self._registers[self._chip.spi] = 0

    def _security_info(self, _) -> bytes:
        info = struct.pack("<I8B", 0, *bytes(8))
        if self._chip.number is not None:
            info += struct.pack("<II", self._chip.number, 0)
        return info + OK

    def _attach(self, _) -> bytes:
        self._is_attached = True
        return OK

    def _set_params(self, data: bytes) -> bytes:
        (size,) = struct.unpack_from("<I", data, 4)
        return OK if size == len(self._flash) else STOPPED

    def _change_baud(self, _) -> bytes:
        return OK


def _checksum(data: bytes) -> int:
    value = 0xEF
    for octet in data:
        value ^= octet
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="An Espressif chip in download mode, over TCP.")
    parser.add_argument("chip", choices=sorted(CHIPS))
    parser.add_argument(
        "flash", type=Path, help="its flash; made anew, 4 MiB, where there is none"
    )
    options = parser.parse_args()
    rom = Rom(options.chip, options.flash)
    print(rom.url, flush=True)
    try:
        rom.wait()
    except KeyboardInterrupt:
        rom.stop()
        sys.exit(130)


if __name__ == "__main__":
    main()
