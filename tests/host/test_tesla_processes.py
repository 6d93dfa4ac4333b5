"""TESLA among real processes, CPython and 32-bit MicroPython, as the key server comes and goes.

A lag of two seconds, so that a busy machine is not mistaken for somebody who holds packets back.
"""

import signal
import time
from contextlib import contextmanager

import pytest

from covey_host.gcks.clock import FIRST_MS, Boot
from covey_host.gcks.ledger import Ledger, decode, encode
from member_process import join, micropython
from processes import wait_until
from site_bench import Bench
from test_eviction_processes import Talker, added, numbers

INTERVAL_MS, LAG, BITS = 500, 4, 10
POLICY = f"""atd = "3s"
dtd = "13s"
evict_dtd = "13s"
source_auth = "tesla"
tesla_interval = "{INTERVAL_MS}ms"
tesla_lag = {LAG}
tesla_chain = {BITS}
"""
AHEAD_S = 25  # from the start to the end of a segment
PERIOD_S = 0.25


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    made.members, made.taps = [], []
    made.edit('atd = "0s"\ndtd = "1s"\n', POLICY)
    yield made
    for one in (*made.taps, *made.members):
        one.close()
    made.close()


@contextmanager
def stored_clock(bench):
    """What the key server's store has of it: {} at first; what it is then is written."""
    store = bench.store()
    ledger = Ledger(store)
    found = ledger.read("clock")
    facts = {} if found is None else decode(found)
    yield facts
    ledger.write({"clock": encode(facts)})
    store.close()


def last_drops(member):
    """Its counts, as it told them last."""
    told = [event for event in list(member.events) if event["event"] == "status"][-1]
    return told.get("detail", told)["drops"]


def test_it_is_proven_who_sent_whatever_becomes_of_the_key_server(bench):
    segment_ms = INTERVAL_MS << BITS
    with stored_clock(bench) as clock:
        shows_ms = (FIRST_MS // segment_ms + 2) * segment_ms - AHEAD_S * 1000
        offset_ms = shows_ms - Boot().now_ms()
        clock |= {"name": b"ours", "boot": Boot().id(), "offset_ms": offset_ms}
    border = time.monotonic() + AHEAD_S
    server = bench.serve()
    press = added(bench, "press")
    panel = added(bench, "panel", join)
    valve = added(bench, "valve", lambda path: micropython(path, loss=20))
    bench.taps.append(talker := Talker(press, PERIOD_S))

    def all_hear(count=8):
        """What is said from now on, too: within a lag, and some time to hear of new keys."""
        first = talker.count + 4
        wait_until(
            lambda: all(
                len([n for n in numbers(one) if n >= first]) >= count for one in (panel, valve)
            )
        )

    all_hear()
    bench.end(server, signal.SIGKILL)  # nobody is there to ask as a chain ends
    wait_until(lambda: time.monotonic() > border + 3)
    all_hear()

    server = bench.serve()
    wait_until(lambda: all(one.count("rekeyed") >= 1 for one in (press, panel, valve)))
    all_hear()
    bench.end(server)

    with stored_clock(bench) as clock:
        name, clock["boot"] = clock["name"], "another one"
    server = bench.serve()
    wait_until(lambda: all(one.count("rekeyed") >= 2 for one in (press, panel, valve)))
    all_hear(20)
    with stored_clock(bench) as clock:
        assert clock["name"] != name and clock["boot"] == Boot().id()
    talker.stop()
    wait_until(lambda: talker.count - 1 in numbers(panel))

    got = numbers(panel)
    heard = list(range(min(got), talker.count))
    told = [e for e in panel.events if e["event"] not in ("packet", "status")], last_drops(panel)
    assert sorted(got) == heard, (set(heard) ^ set(got), told)
    some = numbers(valve)
    assert 0.5 < len(some) / len([n for n in got if n >= min(some)]) < 0.95
    drops = last_drops(valve)
    assert not {"unproven", "source", "crowded"} & set(drops), drops
    assert all(event["source"] == "press" for event in panel.events if event["event"] == "packet")
