"""host/covey_host/cluster/: links that hold and cut, schedules that are the same for a seed."""

import asyncio
import re

import pytest

from covey_host.cluster import faults, links, schedule
from covey_host.demo.ports import tcp_ports
from covey_host.errors import Problem
from processes import ENVIRONMENT, run

PEER = b"GET /raft HTTP/1.1\r\nHost: x\r\nX-Server-From: 1a2b\r\n\r\n"


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


def with_link(scene):
    """scene(links, connect): behind the link "a" somebody says all again."""

    async def play():
        own, behind = tcp_ports(2)
        server = await asyncio.start_server(echo, links.HOST, behind)
        made = links.Links()
        await made.obey({"open": {"a": [own, behind]}})
        async with asyncio.timeout(20):
            await scene(made, lambda: asyncio.open_connection(links.HOST, own))
        server.close()

    asyncio.run(play())


async def said(connection, text):
    reader, writer = connection
    writer.write(text)
    return await reader.readexactly(len(text))


async def is_silent(connection, text):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await said(connection, text)
    return True


def test_what_is_held_comes_later_and_nothing_is_lost():
    async def scene(made, connect):
        first = await connect()
        assert await said(first, b"one") == b"one"
        await made.obey({"set": [["a", "", links.HOLD]]})
        assert await is_silent(first, b"two")
        second = await connect()
        assert await is_silent(second, b"three")
        await made.obey({"set": [["a", "", links.PASS]]})
        assert await first[0].readexactly(3) == b"two"
        assert await second[0].readexactly(5) == b"three"

    with_link(scene)


def test_what_is_cut_ends_and_so_does_what_comes_new():
    async def scene(made, connect):
        first = await connect()
        assert await said(first, b"one") == b"one"
        await made.obey({"set": [["a", "", links.CUT]]})
        for each in (first, await connect()):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await said(each, b"two")
        await made.obey({"set": [["a", "", links.PASS]]})
        assert await said(await connect(), b"three") == b"three"

    with_link(scene)


def test_one_source_is_held_and_others_are_not():
    async def scene(made, connect):
        peer, other = await connect(), await connect()
        assert await said(peer, PEER) == PEER and await said(other, b"GET") == b"GET"
        await made.obey({"set": [["a", "1a2b", links.HOLD]]})
        assert await said(other, b"one") == b"one"
        assert await is_silent(peer, b"two")

    with_link(scene)


def test_all_are_slow():
    async def scene(made, connect):
        connection = await connect()
        await made.obey({"slow": 100})
        assert await is_silent(connection, b"one")
        assert await connection[0].readexactly(3) == b"one"

    with_link(scene)


def test_a_seed_is_a_schedule():
    assert schedule.draw(7, 60) == schedule.draw(7, 60) != schedule.draw(8, 60)
    events = schedule.draw(7, 180)
    assert {event.what for event in events} == {*schedule.FAULTS, *schedule.ACTS}
    assert all(event.at_s < 180 for event in events)
    assert {e.what for e in schedule.draw(7, 60, [schedule.SLOW])} >= {schedule.SLOW}
    assert {e.what for e in schedule.draw(7, 60, [schedule.SLOW]) if e.is_fault} == {schedule.SLOW}


@pytest.mark.parametrize("setting", ["SEED=x", "SEED=-1", "MINUTES=0", "MINUTES=x", "ONLY=rain"])
def test_misuse_is_one_sentence(setting):
    name, value = setting.split("=")
    done = run("-m", "covey_host.cluster.faults", env={**ENVIRONMENT, name: value})
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert re.search(name if name != "ONLY" else "rain", line)


def test_kinds(monkeypatch):
    monkeypatch.setenv("ONLY", f"{schedule.SLOW}, {schedule.CLOCK}")
    assert faults._kinds() == [schedule.SLOW, schedule.CLOCK]
    monkeypatch.setenv("ONLY", "rain")
    with pytest.raises(Problem):
        faults._kinds()
