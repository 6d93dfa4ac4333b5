"""The gateway at work: sockets, memberships, signals; bridge.py decides about each frame."""

import asyncio
import signal
import socket
import time
from contextlib import suppress
from itertools import combinations
from pathlib import Path

from .. import interrupts
from ..errors import FAILURE, MISUSE, Problem
from ..output import Log, emit, line
from ..service.notify import Notifier
from . import netlink, wires
from .bridge import IN_CLEAR, NOT_SENT, TOO_LONG, Bridge
from .fence import Fence
from .plain import Emitter
from .plan import LEARN, OPEN, PROTECT, Flow, Plan, load
from .tunnel import Tunnel

_TURN_S = 1.0  # between two looks at the cards, at connections that are silent; status lines
_BURST = 16  # frames read before others have their turn: as many as one signature is for


def run(path: Path, as_json: bool, only_check: bool) -> None:
    """Until SIGTERM or Ctrl-C. Problem where it can't work, or must not any more."""
    plan = load(path)
    gateway = Gateway(plan, as_json)
    if only_check:
        count = len(plan.flows)
        line(f"{path} will do: {count} flow{'s' if count > 1 else ''}, and both cards are apart.")
        return
    try:
        interrupts.run(gateway.run)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


def unfence(path: Path) -> None:
    """What holds while no gateway works, and after it has gone for good, is taken away."""
    fence = Fence(load(path))
    fence.take_away()
    fence.close()
    line(f"The fence {fence.table} is gone: UDP is routed into the plant as the kernel likes.")


class Gateway:
    def __init__(self, plan: Plan, as_json: bool):
        """Problem where the files or the two cards don't fit the plan. Opens nothing."""
        self._plan, self._as_json = plan, as_json
        self._log = Log(as_json)
        self._cards = wires.check(plan.plant, plan.protected)
        self._bridge = Bridge(plan)
        self._emitters = {f.name: Emitter(f) for f in plan.flows if f.direction == OPEN}
        self._tunnels = {path: self._tunnel(path) for path in plan.members}
        for flow in plan.flows:
            _check_side(flow, plan.plant)
            if flow.direction == PROTECT and not self._tunnels[flow.member].is_sender:
                raise Problem(
                    f"Flow {flow.name} can't be protected: {flow.member} is a receiver's.", MISUSE
                )
        self._hold_groups_apart()
        self._fence = Fence(plan)
        self._fence.check()
        self._notifier = Notifier()
        self._out: socket.socket | None = None
        self._buf = bytearray(wires.MOST_OCTETS)

    def _tunnel(self, path: Path) -> Tunnel:
        sent = [f for f in self._plan.flows if f.member == path and f.direction == PROTECT]
        # They have one: see plan.py.
        dscp, in_clear = (sent[0].dscp, sent[0].in_clear) if sent else (0, False)

        def deliver(payload, source):
            self._deliver(path, payload, source)

        def tell(name, detail):
            self._log.event(name, member=self._tunnels[path].name, detail=detail)

        address = self._cards[1][1]
        return Tunnel(path, address, dscp, in_clear, deliver, tell)

    def _hold_groups_apart(self) -> None:
        """plan.py holds apart what one member opens. Two of one group hear the same frames."""
        opened = [f for f in self._plan.flows if f.direction == OPEN]
        for one, other in combinations({f.member: f for f in opened}.values(), 2):
            if self._tunnels[one.member].shares_group(self._tunnels[other.member]):
                raise Problem(
                    f"Flows {one.name} and {other.name} are opened out of one group by two"
                    " members, and what is sent there would come twice: give them one member.",
                    MISUSE,
                )

    async def run(self) -> None:
        task = asyncio.current_task()
        stopped = []

        def stop():
            self._notifier.stopping()
            stopped.append(True)
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        sockets = []
        try:
            sockets.append(wires.claim(self._plan.plant))
            heard = self._fence.listen()
            self._fence.put()
            self._out = wires.plain_out(self._plan.plant)
            sockets.append(self._out)
            async with asyncio.TaskGroup() as group:
                flows = [f for f in self._plan.flows if f.direction == PROTECT]
                if any(f.connections == LEARN for f in flows):
                    sockets.append(wires.watch(self._plan.plant))
                    group.create_task(self._watch(sockets[-1]))
                for place in dict.fromkeys((f.address.packed, f.port) for f in flows):
                    sockets.append(wires.plain_in(self._plan.plant, *place))
                    group.create_task(self._protect(place, sockets[-1]))
                for tunnel in self._tunnels.values():
                    group.create_task(tunnel.run())
                group.create_task(self._hold_fence(heard))
                group.create_task(self._look())
                plant, protected = self._plan.plant, self._plan.protected
                self._log.event("gateway", plant=plant, protected=protected)
                self._notifier.ready(f"At work between {plant} and {protected}.")
        except asyncio.CancelledError:
            if not stopped:
                raise  # Ctrl-C
        finally:
            self._notifier.close()
            for sock in sockets:
                sock.close()
            self._fence.close()
            for tunnel in self._tunnels.values():
                tunnel.wipe()

    # From the plant

    async def _protect(self, place: tuple[bytes, int], sock: socket.socket) -> None:
        """Each frame that the plant multicasts there goes into its flow's group, or nowhere."""
        with _Waiter(sock) as waiter:
            while True:
                await waiter.wait()
                for flow, frames in self._read(place, sock).values():
                    await self._send(flow, frames)

    def _read(self, place: tuple[bytes, int], sock: socket.socket) -> dict:
        """A burst of them: {flow's name: (flow, its frames)}."""
        batches: dict[str, tuple[Flow, list[bytes]]] = {}
        now_s = time.monotonic()
        for _ in range(_BURST):
            try:
                n, (producer, _) = sock.recvfrom_into(self._buf)
            except OSError:  # nothing there, or the card is down
                break
            flow = self._bridge.protect(place, producer, self._buf, n, now_s)
            if flow is not None:
                frame = bytes(memoryview(self._buf)[:n])
                batches.setdefault(flow.name, (flow, []))[1].append(frame)
        return batches

    async def _send(self, flow: Flow, frames: list[bytes]) -> None:
        tunnel = self._tunnels[flow.member]
        most = tunnel.payload_most
        if most >= 0:
            short = [frame for frame in frames if len(frame) <= most]
            self._count_off(TOO_LONG, len(frames) - len(short))
            frames = short
        sent = await tunnel.send(frames) if frames else 0
        self._bridge.passed[flow.name] += sent
        if sent < len(frames):
            reason = IN_CLEAR if tunnel.is_barred else NOT_SENT
            self._count_off(reason, len(frames) - sent)

    async def _watch(self, sock: socket.socket) -> None:
        with _Waiter(sock) as waiter:
            while True:
                await waiter.wait()
                for _ in range(_BURST):
                    packet = wires.watched(sock)
                    if packet is None:
                        break
                    self._bridge.watch(packet, time.monotonic())
                self._tell_news()

    # Into the plant

    def _deliver(self, member: Path, payload: bytes, source: bytes | None) -> None:
        flow = self._bridge.open(member, payload, source)
        if flow is None:
            return
        emitter = self._emitters[flow.name]
        try:
            self._out.sendto(emitter.datagram(payload), emitter.to)
        except OSError:  # no room, a card that is down, longer than its frames
            self._bridge.refuse(NOT_SENT)
        else:
            self._bridge.passed[flow.name] += 1

    # Beside

    async def _hold_fence(self, heard: socket.socket) -> None:
        """Somebody else may take it away, as `nft flush ruleset` does."""
        with _Waiter(heard) as waiter:
            while True:
                await waiter.wait()
                if self._fence.mend():
                    self._log.event("fence", table=self._fence.table)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_TURN_S)
            self._notifier.alive()
            names = self._plan.plant, self._plan.protected
            now = wires.check(*names)
            for name, old, new in zip(names, self._cards, now, strict=True):
                _check_same(name, old, new)
            self._bridge.expire(time.monotonic())
            self._tell_news()
            if self._as_json:
                with suppress(BrokenPipeError):
                    emit({"event": "status", **self._status()})

    def _status(self) -> dict:
        bridge = self._bridge
        flows = {
            flow.name: {
                "direction": flow.direction,
                "passed": bridge.passed[flow.name],
                "connections": bridge.connections(flow.name),
            }
            for flow in self._plan.flows
        }
        members = {tunnel.name: tunnel.status() for tunnel in self._tunnels.values()}
        return {"flows": flows, "drops": dict(bridge.drops), "members": members}

    def _tell_news(self) -> None:
        news, self._bridge.news = self._bridge.news, []
        for event, flow, connection in news:
            self._log.event(
                event, flow=flow, connection=f"0x{int.from_bytes(connection, 'little'):08x}"
            )

    def _count_off(self, reason: str, count: int) -> None:
        if count:
            self._bridge.refuse(reason, count)


def _check_same(card: str, old: tuple[int, str], new: tuple[int, str]) -> None:
    """Problem where what was opened on a card serves no more."""
    if old[0] != new[0]:
        what = f"{card} was taken out and put in"
    elif old[1] != new[1]:
        what = f"{card} has the address {new[1]} now, not {old[1]}"
    else:
        return
    raise Problem(f"{what}: start the gateway again.", FAILURE)


def _check_side(flow: Flow, plant: str) -> None:
    """Problem where the producer is on the other side than it must be: were the two cards mixed
    up, what comes out of a group would leave by the wrong one.
    """
    card = netlink.card_towards(flow.producer)
    if card is None:
        what = f"there is no route to {flow.producer}, by which to know on which side it is"
    elif flow.direction == PROTECT and card != plant:
        what = f"{flow.producer} is reached by {card}, not by the plant's card {plant}"
    elif flow.direction == OPEN and card == plant:
        what = f"{flow.producer} is in the plant already: it is reached by {plant}"
    else:
        return
    raise Problem(f"Flow {flow.name} can't be: {what}.", MISUSE)


class _Waiter:
    """Waits until a socket has something to read."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._ready = asyncio.Event()

    def __enter__(self):
        asyncio.get_running_loop().add_reader(self._sock, self._ready.set)
        return self

    def __exit__(self, *_):
        asyncio.get_running_loop().remove_reader(self._sock)

    async def wait(self) -> None:
        self._ready.clear()
        await self._ready.wait()
