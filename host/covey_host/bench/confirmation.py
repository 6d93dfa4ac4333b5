"""When it is proven who sent a packet, and what that costs beside a signature for each message.

Two members of a real group in this process, with covey.aio. What is lost is lost on purpose, and
the receiver has not looked at it. The cost is that of Member's calls, and of what a sender does
for its chain, among all else that the two do; aiocoap's Group OSCORE, which signs each message,
is called in a row.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable
from statistics import median

import covey.aio
from covey.drops import DROP_EMPTY
from covey.sources import MOST_SLOTS

from ..errors import Problem
from ..gcks import policy
from .peers import PEERS
from .plant import Plant
from .results import Table
from .timing import shortest

TITLE = "Confirmation of who sent, by mode"

_LEN = 64
_INTERVAL_MS, _LAG = 100, 2
_PERIOD_S = 0.02
_ROOM = 256  # packets that may wait
_DRAIN_S = {True: 0.5, False: 3}  # quick or not
_MODES = {
    "none": "",
    "mac": "",
    "tesla": f'tesla_interval = "{_INTERVAL_MS}ms"\ntesla_lag = {_LAG}\n',
    "ecdsa": "",
}
_OSCORE = "aiocoap: Group OSCORE protect + unprotect"
_UNIT = "us"


def run(table: Table, quick: bool) -> None:
    table.add("receivers at most, mac", MOST_SLOTS, "members")
    for mode in ("tesla", "ecdsa"):
        table.add(f"receivers at most, {mode}", most_members(mode), "members")
    peer = _peer(table, quick)
    for mode, more in _MODES.items():
        if quick and mode != "tesla":
            continue
        with Plant(mode, more) as plant:
            paths = plant.member("press", "--sender"), plant.member("desk")
            for path in paths:
                settings = json.loads(path.read_text())
                settings["limits"] = {**settings.get("limits", {}), "waiting": _ROOM}
                path.write_text(json.dumps(settings))
            asyncio.run(_measure(table, mode, paths, peer, quick))


def most_members(mode: str) -> int:
    """That policy takes, all else being as it is by default."""
    text = 'identity = "gcks.example"\n[group.line1]\naddress = "239.192.1.32"\nport = 2222\n'
    text += f'source_auth = "{mode}"\nmembers = '
    least, most = 1, 1 << 24
    while most - least > 1:
        n = (least + most) // 2
        try:
            policy.parse(text + f"{n}\n")
            least = n
        except Problem:
            most = n
    return least


async def _measure(table: Table, mode: str, paths, peer: str | None, quick: bool) -> None:
    heard = covey.aio.join(str(paths[1]), unconfirmed=True)
    async with heard as receiver, covey.aio.join(str(paths[0])) as sender:
        while not await sender.send(bytes(_LEN)):  # until its clock is known, and ATD is over
            await asyncio.sleep(0.05)
        if mode == "tesla":
            for loss in (20,) if quick else (0, 20):
                await _delays(table, sender, receiver, loss, quick)
        us = await _cost(sender, receiver, quick)
    row = f"CPython, send + receive + confirm, {_LEN} octets, {mode}"
    table.add(row, us, _UNIT, peer)


async def _delays(table: Table, sender, receiver, loss: int, quick: bool) -> None:
    """Of packets that come every 20 ms: from delivered to confirmed."""
    at: dict[int, float] = {}
    delays: dict[int, float] = {}
    listening = asyncio.create_task(_listen(receiver, at, delays))
    member, chance, whole = receiver.member, random.Random(loss), receiver.member.receive
    member.receive = lambda n, now_ms: (
        DROP_EMPTY if chance.random() * 100 < loss else whole(n, now_ms)
    )
    for _ in range(30 if quick else 1000):
        await sender.send(bytes(_LEN))
        await asyncio.sleep(_PERIOD_S)
    await asyncio.sleep(_DRAIN_S[quick])
    del member.receive
    listening.cancel()
    add_delays(table, loss, len(at), list(delays.values()))


def add_delays(table: Table, loss: int, delivered_count: int, delays: list[float]) -> None:
    """delays: seconds, of those that were confirmed."""
    ordered = sorted(delays)
    lag = f"TESLA: lag x interval, {loss} % of packets lost"
    table.add(lag, _LAG * _INTERVAL_MS, "ms")
    name = f"TESLA: delivered to confirmed, {loss} % of packets lost"
    table.add(f"{name}, p50", median(ordered) * 1000, "ms", lag)
    table.add(f"{name}, p99", ordered[len(ordered) * 99 // 100] * 1000, "ms", lag)
    delivered = f"TESLA: packets delivered, {loss} % lost"
    table.add(delivered, delivered_count, "packets")
    table.add(f"TESLA: packets confirmed, {loss} % lost", len(delays), "packets", delivered)


async def _listen(receiver, at: dict[int, float], delays: dict[int, float]) -> None:
    async for packet in receiver:
        now = time.monotonic()
        if not packet.confirmed:
            at[packet.number] = now
        elif packet.number in at:
            delays[packet.number] = now - at[packet.number]


async def _cost(sender, receiver, quick: bool) -> float:
    """us a packet: what is spent in the calls that send it, take it, and find it proven, while
    both go on with all else."""
    spent = [0]
    out, into = sender.member, receiver.member
    auth = out.keys.sending.auth
    calls = [(out, "send"), (into, "receive"), (into, "next_proven")]
    if getattr(auth, "sign_job", None):
        auth.sign_job = timed_job(spent, auth.sign_job)
    if sender.membership.keeper is not None:
        calls.append((sender.membership.keeper, "step"))
    for whose, name in calls:
        setattr(whose, name, timed(spent, getattr(whose, name)))
    opened = into.opened
    for _ in range(20 if quick else 300):
        await sender.send(bytes(_LEN))
        await asyncio.sleep(_PERIOD_S / 4)
    await asyncio.sleep(_DRAIN_S[quick])
    return spent[0] / 1000 / (into.opened - opened)


def timed(spent: list[int], call: Callable) -> Callable:
    def timed(*args):
        began = time.perf_counter_ns()
        try:
            return call(*args)
        finally:
            spent[0] += time.perf_counter_ns() - began

    return timed


def timed_job(spent: list[int], make: Callable) -> Callable:
    def job(*args):
        step = timed(spent, make(*args).__next__)
        while True:
            try:
                yield step()
            except StopIteration as end:
                return end.value

    return job


def _peer(table: Table, quick: bool) -> str | None:
    package, make, share = PEERS[_OSCORE]
    try:
        call = make()
    except ImportError as error:
        table.note(f"Left out: {_OSCORE}; {package} is not installed ({error}).")
        return None
    least = shortest({"peer": call}, 2 if quick else 30, 50 // share)
    name = f"{_OSCORE}, {_LEN} octets, in a row"
    table.add(name, least["peer"] / 1000, _UNIT)
    return name
