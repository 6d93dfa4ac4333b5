"""A gateway whose memory runs out says so, and ends or goes on; nothing plain crosses."""

import importlib.util
import itertools
import signal
import time

import pytest

import enip
from covey_host.bench import twoplants
from covey_host.bench.results import Missing
from covey_host.bench.twoplants import GROUP, PATIENCE_S, PORT, wait_until

ESP = 4500
SECRET = b"SPEED-IS-1500-RPM"
LET_IT_S = 0.3  # so long to find out, then the next allocation's turn comes
# The gateway, but for a signal that takes away its memory: for one allocation, each time a later
# one. Some of them it can do without, and says nothing.
STARVED = """
import signal, sys
import _testcapi
from covey_host import cli

first = {first}

def starve(*_):
    global first
    first += 1
    _testcapi.set_nomemory(first, first + 1)

signal.signal(signal.SIGUSR1, starve)
sys.argv[0] = "covey"
cli.main()
"""
FIRST = {"a": 0, "b": 40}


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this Python can't take memory away"
)
def test_out_of_memory_nothing_plain_crosses(tmp_path, monkeypatch):
    def starved(plants, side):
        code, file = STARVED.format(first=FIRST[side]), plants.folder / f"gateway-{side}.toml"
        return plants.start("g" + side, "-c", code, "gateway", file, "--json")

    monkeypatch.setattr(twoplants, "gateway", starved)
    try:
        made = twoplants.TwoPlants(tmp_path / "site").__enter__()
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        story(made)
    finally:
        made.__exit__()


def has_run_out(gate):
    return "MemoryError" in gate.said or "Covey failed inside" in gate.said


def story(plants):
    connections = 'connections = "any"\n'
    gates = twoplants.begin(plants, "mac", connections, connections + 'source = "gate-a"\n')
    wire, far = plants.capture("net", "br0"), plants.capture("pb", "eth0")
    device, numbers = plants.speaker("pa", twoplants.DEVICES["a"]), itertools.count(1)

    def produce(count=1):
        for _ in range(count):
            device.sendto(enip.frame(1, next(numbers), SECRET), (GROUP, PORT))
        return True

    wait_until(lambda: produce() and len(far.datagrams(PORT)) > 5)
    end = time.monotonic() + PATIENCE_S
    while silent := [gate for gate in gates if not has_run_out(gate)]:
        assert time.monotonic() < end, [gate.said for gate in silent]
        for gate in silent:
            gate.process.send_signal(signal.SIGUSR1)
        begun = time.monotonic()
        while time.monotonic() < begun + LET_IT_S:
            produce(5)
            time.sleep(0.01)
    for gate in gates:
        gate.kill()
    known = len(far.datagrams(PORT))
    produce(50)
    attacker = plants.speaker("net", twoplants.SERVER)
    attacker.sendto(SECRET, (GROUP, PORT))  # that the capture would have shown it
    wait_until(lambda: any(SECRET in frame for frame in wire.read()))
    assert [d[0] for d in wire.datagrams(PORT)] == [twoplants.SERVER]
    assert len(wire.datagrams(ESP)) > 5 and len(far.datagrams(PORT)) == known
