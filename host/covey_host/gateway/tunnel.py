"""One membership of the gateway: joined while the gateway works, again whenever it ends."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from covey import aio, config, merkle
from covey.drops import ConfigError
from covey.gcm import GMACContext
from covey.port import ticks_ms
from covey.sources import MOST_LEVELS

from ..errors import MISUSE, Problem
from . import wires

# Octets, at most, by which what proves a packet is longer where many are signed together.
_PATH = merkle.NODE * MOST_LEVELS
_FIRST_PAUSE_S, _MOST_PAUSE_S = 1, 30
_IN_CLEAR = (
    "The group is integrity_only: everybody on the protected network could read what is sent, so"
    " nothing is. Set integrity_only to false in covey.toml, or say in_clear = true in each flow."
)


class Tunnel:
    """on_packet(payload, source): what the group delivers; on_event(name, detail): changes.

    interface: address of the protected card. dscp: of what is sent into the group. in_clear: it
    may be sent where everybody can read it.
    """

    def __init__(
        self,
        path: Path,
        interface: str,
        dscp: int,
        in_clear: bool,
        on_packet: Callable[[bytes, bytes | None], None],
        on_event: Callable[[str, str | None], None],
    ):
        try:
            self._settings = config.load(str(path))
        except ConfigError as error:
            raise Problem(f"{str(error).rstrip('.')}.", MISUSE) from None
        self._settings.interface = interface
        self.name = self._settings.idi.decode("utf-8", "replace")
        self.is_sender = self._settings.sender
        self._dscp, self._in_clear = dscp, in_clear
        self._on_packet, self._on_event = on_packet, on_event
        self._joined: _Marked | None = None
        self._has_told = False  # that the group is in clear, since it is

    def shares_group(self, other: "Tunnel") -> bool:
        """Whether they are two members of one group, by what their files say."""
        mine, its = self._settings, other._settings
        places = {(server.host, server.port) for server in mine.servers}
        shared = places & {(server.host, server.port) for server in its.servers}
        return bytes(mine.group) == bytes(its.group) and bool(shared)

    @property
    def payload_most(self) -> int:
        """The longest frame that can be sent now; -1: none can."""
        return -1 if self._joined is None else self._joined.member.payload_most

    async def send(self, frames: list[bytes]) -> int:
        """How many left, the first ones; each is at most as long as payload_most."""
        joined = self._joined
        if joined is None:
            return 0
        if self._look_whether_barred(joined):
            return 0
        sent = 0
        most = self.payload_most - _PATH
        batches = [frames] if max(map(len, frames)) <= most else [[frame] for frame in frames]
        with suppress(ConfigError):  # what the policy says has just changed
            for batch in batches:
                sent += await joined.send_many(batch)
        return sent

    @property
    def is_barred(self) -> bool:
        """Whether everybody could read what is sent now, and that may not be."""
        return self._joined is not None and self._joined.is_barred()

    def _look_whether_barred(self, joined: "_Marked") -> bool:
        is_barred = joined.is_barred()
        if is_barred and not self._has_told:
            self._on_event("in_clear", _IN_CLEAR)
        self._has_told = is_barred
        return is_barred

    def status(self) -> dict:
        return {"state": "out"} if self._joined is None else self._joined.status()

    async def run(self) -> None:
        """For ever. Leaves the group when cancelled. Problem where joining can't ever succeed."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with self._new() as joined:
                    self._joined = joined
                    pause_s = _FIRST_PAUSE_S
                    async for packet in joined:
                        self._on_packet(packet.payload, packet.source)
            except aio.JoinError as error:
                self._on_event("failed", str(error))
            except ConfigError as error:
                raise Problem(f"{self.name}: {str(error).rstrip('.')}.", MISUSE) from None
            finally:
                self._joined = None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)

    def _new(self) -> "_Marked":
        return _Marked(self._settings, self._on_event, self._dscp, self._in_clear)

    def wipe(self) -> None:
        self._settings.wipe()


class _Marked(aio.Joined):
    """A membership whose packets bear a DSCP, and don't come back to this machine: whoever hears
    the group is elsewhere, and each would be read once more. None leaves that everybody could read
    (AES-GMAC: policy's integrity_only), but with in_clear.
    """

    def __init__(self, settings, on_event, dscp: int, in_clear: bool):
        super().__init__(settings, on_event, None)
        self._dscp, self._in_clear = dscp, in_clear

    def is_barred(self) -> bool:
        """Whether what is sent now would not leave for that. It needs no number, no signature."""
        keys, now_ms = self.member.keys, ticks_ms()
        keys.keep_up(now_ms)
        sa = keys.sending
        return sa is not None and self._bars(sa)

    def _bars(self, sa) -> bool:
        return not self._in_clear and isinstance(sa.context, GMACContext)

    def _transmit(self, length):
        """By the SPI of what has been sealed: other keys may have come since it was looked at."""
        sa = self.member.keys.find(self.member.tx, 0)
        return sa is not None and not self._bars(sa) and super()._transmit(length)

    def _follow_groups(self):
        super()._follow_groups()
        for carrier in self._groups.values():
            sock = carrier.sock
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, self._dscp << 2)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            wires.widen(sock)
