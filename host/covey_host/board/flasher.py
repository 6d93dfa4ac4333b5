"""esptool, as a program of its own: its progress on the terminal, its complaint in a sentence."""

import re
import subprocess
import sys

from ..errors import Problem
from . import ports

_FATAL = re.compile(r"A (?:fatal|serial exception) error occurred: (.*)", re.DOTALL)
_OTHER_CHIP = re.compile(r"This chip is (\S+?), not (\S+?)\.")
_OF_THE_LINE = ("Checksum error", "No serial data", "stream stopped", "Invalid head of packet")
NOTHING_WRITTEN = "nothing was written"
_MOST_SAID = 160  # characters of a complaint that we have no words of our own for


class Flasher:
    """The chip at the end of a port. Each call resets it into download mode first. is_rom_only: it
    is asked for all by its ROM alone, and no program is loaded into its memory for it.

    `state`: what is true of the board where a call fails; a part of a sentence.
    """

    def __init__(self, port: str, chip: str, baud: int, *, is_rom_only: bool = False):
        self._port = port
        self._common = ["--chip", chip, "--port", port, "--baud", str(baud)]
        if is_rom_only:
            self._common.append("--no-stub")
        self.state = NOTHING_WRITTEN

    def run(self, command: str, *arguments: str, restart: bool = False) -> None:
        """One command; the board stays in download mode unless restart. Problem where it fails."""
        after = ["--after", "hard-reset" if restart else "no-reset"]
        is_seen = sys.stdout.isatty()
        words = [sys.executable, "-m", "esptool", *self._common, *after, command, *arguments]
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=None if is_seen else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise self._problem(done.stderr)

    def _problem(self, said: str) -> Problem:
        found = _FATAL.search(" ".join(said.split()))
        text = found[1] if found else " ".join(said.split()) or "it said nothing"
        other = _OTHER_CHIP.search(text)
        if other:
            return Problem(
                f"The chip at {self._port} is an {other[1]}, and the board named has an"
                f" {other[2]}: name the right --board; {self.state}."
            )
        if found is None or found[0].startswith("A serial"):
            return self._broken()
        if "Could not open" in text:
            is_first = self.state == NOTHING_WRITTEN
            return ports.refusal(self._port, text) if is_first else self._broken()
        if "Failed to connect" in text:
            return Problem(
                f"No chip answers at {self._port} in download mode: hold BOOT, press and let go"
                f" RESET (or plug it in anew), let go BOOT, and try again; {self.state}."
            )
        if "MD5 of file does not match" in text or "Verification failed" in text:
            return Problem(
                "What lies in the board's flash is not what was sent, so its member can't be"
                " relied on: try again, with another cable or a lower --baud; if it stays so, the"
                " flash is worn out."
            )
        if "will not fit" in text:
            return Problem(
                f"The image is larger than the board's flash: see --flash-size; {self.state}."
            )
        if any(word in text for word in _OF_THE_LINE):
            return self._broken()
        return Problem(f"esptool gave up: {text[:_MOST_SAID].rstrip('.')}; {self.state}.")

    def _broken(self) -> Problem:
        return Problem(
            f"The line to the board at {self._port} broke: see to the cable, and try a lower"
            f" --baud; {self.state}."
        )
