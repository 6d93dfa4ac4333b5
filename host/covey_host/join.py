"""`covey join`: a member on this desktop, the same lib/covey that runs on the boards."""

import asyncio
import json
import os
import platform
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import interrupts
from .errors import FAILURE, MISUSE, Problem
from .gcks.sockets import check_interface
from .output import complain, emit, line

_STATUS_S = 1  # between two status lines with --json
_RETRY_S = 0.02  # until sending is tried again, while the group says "not now"
_STDIN_WAITING = 64  # lines read ahead of what is sent
_EVENTS = {"member": "registered"}  # a state's name → what happened


@dataclass
class Wish:
    """What the person asked for."""

    name: str  # the member, as it is shown
    config: Path
    text: str | None = None  # to be sent; "-" is each line of stdin
    listen: bool = False
    as_json: bool = False
    count: int | None = None  # packets to send (of text), and to receive, before leaving
    interval_s: float = 1.0
    interface: str | None = None  # an address
    ttl: int | None = None
    timeout_s: float | None = None  # until every server was asked


def run(wish: Wish) -> None:
    """Join, send and listen as wished, leave. Problem where no server lets us in."""
    from covey import aio
    from covey.drops import ConfigError

    session = _Session(wish)
    try:
        try:
            interrupts.run(session.run)
        except BaseExceptionGroup as group:  # the first of the tasks side by side to fail
            raise group.exceptions[0] from None
    except (aio.JoinError, ConfigError) as error:
        if wish.as_json:  # else the sentence that follows says it
            session.tell("failed", str(error))
        raise Problem(_sentence(error), FAILURE) from error


class _Session:
    def __init__(self, wish: Wish):
        self._wish = wish
        self._has_left = False

    async def run(self) -> None:
        from covey import aio

        wish = self._wish
        task = asyncio.current_task()
        terminated = []

        def terminate():
            terminated.append(True)
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            async with aio.join(_load(wish), self.tell, wish.timeout_s) as member:
                await self._work(member)
            if not self._has_left:
                self.tell("left", None)
        except asyncio.CancelledError:
            if terminated:
                raise SystemExit(128 + signal.SIGTERM) from None
            raise  # Ctrl-C

    def tell(self, name: str, detail) -> None:
        """One event of the membership, by the name that our JSON has for it."""
        name = _EVENTS.get(name, name)
        self._has_left = name == "left"
        if self._wish.as_json:
            facts = {"detail": detail} if detail else {}
            emit({"event": name, "member": self._wish.name, **facts})
        else:
            complain(f"{self._wish.name}: {name}" + (f" ({detail})" if detail else ""))

    async def _work(self, member) -> None:
        """Everything that was wished for, side by side; the first failure ends all."""
        wish = self._wish
        async with asyncio.TaskGroup() as group:
            status = group.create_task(self._report(member)) if wish.as_json else None
            jobs = []
            if wish.text is not None:
                jobs.append(group.create_task(self._send(member)))
            if wish.listen or wish.text is None:
                jobs.append(group.create_task(self._listen(member)))
            await asyncio.wait(jobs)
            if status:
                status.cancel()
        if wish.as_json:
            self._emit_status(member)

    async def _send(self, member) -> None:
        if self._wish.text == "-":
            async for payload in _stdin_lines():
                await _send_one(member, payload)
            return
        payload = self._wish.text.encode("utf-8", "surrogateescape")
        for i in range(self._wish.count or 1):
            if i:
                await asyncio.sleep(self._wish.interval_s)
            await _send_one(member, payload)

    async def _listen(self, member) -> None:
        left = self._wish.count
        async for packet in member:
            self._show_packet(packet)
            if left is not None:
                left -= 1
                if left == 0:
                    return

    async def _report(self, member) -> None:
        while True:
            self._emit_status(member)
            await asyncio.sleep(_STATUS_S)

    def _emit_status(self, member) -> None:
        emit(
            {
                "event": "status",
                "member": self._wish.name,
                "interpreter": f"cpython {platform.python_version()} {platform.machine()}",
                **member.status(),
            }
        )

    def _show_packet(self, packet) -> None:
        payload = bytes(packet.payload)
        text = _text(payload)
        if self._wish.as_json:
            fact = {"event": "packet", "member": self._wish.name, "payload": payload.hex()}
            if text is not None:
                fact["text"] = text
            source = _text(packet.source) if packet.confirmed else None
            proven = {"confirmed": packet.confirmed, "source": source}
            emit({**fact, "sender": packet.sender, **proven})
            return
        who = "?" if packet.sender is None else packet.sender
        if packet.confirmed:
            who = f"{_text(packet.source)} (confirmed)"
        line(f"{who}: {payload.hex() if text is None else text}")


def _is_no_object(path: Path) -> bool:
    """Whether it is JSON, and something else: a board has no room to tell that apart."""
    with suppress(OSError, ValueError, RecursionError):
        return not isinstance(json.loads(path.read_bytes()), dict)
    return False


def _load(wish: Wish):
    """The member's configuration, with what the command line puts in its place."""
    from covey import config
    from covey.drops import ConfigError

    try:
        settings = config.load(os.fspath(wish.config))
    except ConfigError as error:
        is_other = _is_no_object(wish.config)
        said = f"{wish.config} must be an object in braces." if is_other else _sentence(error)
        raise Problem(said, MISUSE) from error
    if wish.interface is not None:
        settings.interface = wish.interface
    if settings.interface is not None:
        check_interface(settings.interface)  # before a server is told that we are there
    if wish.ttl is not None:
        settings.ttl = wish.ttl
    if wish.text is not None and not settings.sender:
        raise Problem(
            f"{wish.name} is a receiver: add it with `covey member add ... --sender` to send, or"
            " let it by `covey member allow`.",
            MISUSE,
        )
    if wish.listen and not settings.receiver:
        raise Problem(f"{wish.name} only sends: leave --listen out.", MISUSE)
    return settings


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".") + "."


async def _send_one(member, payload: bytes) -> None:
    """Send, waiting while the group says "not now" (before ATD, between two registrations)."""
    while not await member.send(payload):
        await asyncio.sleep(_RETRY_S)


def _text(payload: bytes) -> str | None:
    """The payload as text, or None where a terminal could not show it."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


async def _stdin_lines():
    """Each line of stdin without its end, for files, pipes and terminals alike.

    A daemon thread on the bare descriptor: it may stay blocked in read() when we leave.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue = asyncio.Queue(_STDIN_WAITING)

    def hand_over(payload):
        with suppress(RuntimeError, asyncio.CancelledError):  # we have left already
            asyncio.run_coroutine_threadsafe(lines.put(payload), loop).result()

    def pump():
        rest = b""
        while True:
            try:
                data = os.read(0, 65536)
            except OSError:
                data = b""
            *whole, rest = (rest + data).split(b"\n")
            for payload in whole:
                hand_over(payload)
            if not data:
                if rest:
                    hand_over(rest)
                hand_over(None)
                return

    threading.Thread(target=pump, daemon=True).start()
    while (payload := await lines.get()) is not None:
        yield payload
