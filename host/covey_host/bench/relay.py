"""What it costs the key server to relay a packet: of a member with unicast delivery to others.

A real key server in a process of its own, whose time on the processor the system counts (Linux).
All members are in this process: one that sends and those that it is relayed to, which have unicast
delivery, and a pair that multicasts, to hold the delay against. The group is a mixed one: each
packet is also sent to the group's address, heard back there, and dropped as a replay.
"""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

from covey import aio

from .plant import Plant
from .results import Missing, Table

TITLE = "data relayed by the key server"

FEW, MANY = 1, {True: 2, False: 9}  # members that a packet is relayed to; quick or not
COUNTS = {True: (64, 20), False: (4000, 1000)}  # packets for the cost, for the delay; quick or not
_PAYLOAD = bytes(64)
_AT_ONCE = 16  # then it is the others' turn
_PACE_S = 0.002
_PATIENCE_S = 30
_UNICAST = ("--delivery", "unicast")


def run(table: Table, quick: bool) -> None:
    count, delays = COUNTS[quick]
    many = MANY[quick]
    with Plant() as plant:
        with open(plant.folder / "covey.toml", "a") as policy:
            policy.write("relay_rate = 10000000\n")
        plant.covey("reload")
        source = plant.member("press", "--sender", *_UNICAST)
        sinks = [plant.member(f"lamp-{n}", *_UNICAST) for n in range(many)]
        beside = plant.member("saw", "--sender"), plant.member("eye")
        story = _story(plant.server.pid, source, sinks, beside, count, delays)
        costs, relayed, direct = asyncio.run(story)
    for members, (spent_s, packets, lost) in costs.items():
        what = f"relay: processor time of the key server, a packet to {_shown(members)}"
        table.add(what, spent_s / packets * 1e6, "µs")
        table.add(
            f"relay: packets a core relays to {_shown(members)}", packets / spent_s, "packets/s"
        )
        if lost:
            table.note(f"Relay: of {packets} packets {lost} were lost on their way to {members}.")
    spent = [costs[members][0] / costs[members][1] for members in (FEW, many)]
    each_us = max(0.0, spent[1] - spent[0]) / (many - FEW) * 1e6  # a quick run may be all noise
    table.add("relay: processor time for each further member", each_us, "µs")
    for name, share in (("half", 50), ("99 of 100", 99)):
        base = f"relay: multicast on this machine, {name} come within"
        table.add(base, _share(direct, share) * 1e6, "µs")
        table.add(f"relay: relayed, {name} come within", _share(relayed, share) * 1e6, "µs", base)
    table.note(f"Relay: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.")


async def _story(pid, source, sinks, beside, count, delays):
    async with AsyncExitStack() as group:
        saw, eye = [await group.enter_async_context(aio.join(str(path))) for path in beside]
        press = await group.enter_async_context(aio.join(str(source)))
        lamps = []
        costs = {}
        for members in (FEW, len(sinks)):
            while len(lamps) < members:
                lamps.append(await group.enter_async_context(aio.join(str(sinks[len(lamps)]))))
            costs[members] = await _cost(pid, press, lamps, count)
        relayed = await _delays(press, lamps[0], delays)
        direct = await _delays(saw, eye, delays)
    return costs, relayed, direct


async def _cost(pid, press, lamps, count):
    """(seconds on the processor, packets that all of them are to have, packets that were lost)"""
    came = [lamp.member.opened for lamp in lamps]
    began_s = processor_s(pid)
    for n in range(count):
        await press.send(_PAYLOAD)
        if n % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(_PACE_S)
    left = time.monotonic() + 1
    while time.monotonic() < left and any(_got(lamps, came, n) < count for n in range(len(came))):
        await asyncio.sleep(0.01)
    spent_s = processor_s(pid) - began_s
    return spent_s, count, sum(count - _got(lamps, came, n) for n in range(len(came)))


def _got(lamps, came, n):
    return lamps[n].member.opened - came[n]


async def _delays(sender, receiver, count):
    """Seconds from send() until the application has it, in order."""
    found = []
    receiver._packets.clear()
    packets = aiter(receiver)
    for _ in range(count):
        began = time.perf_counter()
        await sender.send(_PAYLOAD)
        try:
            await asyncio.wait_for(anext(packets), _PATIENCE_S)
        except TimeoutError:
            raise Missing("a relayed packet was lost") from None
        found.append(time.perf_counter() - began)
        await asyncio.sleep(_PACE_S)
    return sorted(found)


def processor_s(pid: int) -> float:
    """What a process has had of the processors. Missing where the system doesn't say."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        raise Missing("this system does not tell a process's time in nanoseconds") from None


def _share(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _shown(members: int) -> str:
    return f"{members} member" + ("s" if members > 1 else "")
