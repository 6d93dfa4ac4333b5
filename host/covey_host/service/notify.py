"""What systemd is told of a service (sd_notify): a datagram to the socket that it names.

Without systemd nothing is said. The socket's name is taken out of the environment: whatever else
this process starts is not to speak for it.
"""

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """environment: os.environ, or what a test puts in its place."""

    def __init__(self, environment=os.environ):
        path = environment.pop("NOTIFY_SOCKET", "")
        process = environment.pop("WATCHDOG_PID", None)
        timeout_us = environment.pop("WATCHDOG_USEC", "")
        self._sock: socket.socket | None = None
        self.watchdog_s: float | None = None  # how often alive() is to be said
        if not path:
            return
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        if process in (None, str(os.getpid())) and timeout_us.isascii() and timeout_us.isdigit():
            self.watchdog_s = int(timeout_us) / 2e6 or None

    def ready(self, status: str) -> None:
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """ready() is to follow."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        if self._sock:
            self._sock.close()
            self._sock = None

    def _tell(self, *lines: str) -> None:
        if self._sock:
            with suppress(OSError):  # whoever started us doesn't listen: no reason not to serve
                self._sock.sendto("\n".join(lines).encode(), self._path)
