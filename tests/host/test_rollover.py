"""Keys that change under traffic of real members, on CPython and MicroPython: a short version.

The whole one: `.venv/bin/python tests/rollover.py`, and with --windy.
"""

import signal
import socket
import time

import pytest

import rollover
from member_process import join, micropython
from processes import wait_until
from site_bench import GROUP, Bench

_REKEYS = 2
# A busy machine keeps a member waiting for a second now and then.
_ATD_S, _DTD_S, _APART_S = 2, 5, 2.1


@pytest.fixture
def bench(tmp_path):
    made = rollover.prepare(Bench(tmp_path / "site"))
    made.members = []
    yield made
    for one in made.members:
        one.close()
    made.close()


@pytest.mark.parametrize("windy", [False, True])
def test_no_packet_is_lost_by_a_rekey_and_none_comes_twice(bench, windy):
    """Windy: a fifth is lost, others overtake each other or come twice, and clocks differ."""
    bench.edit('atd = "1s"\ndtd = "2s"\n', f'atd = "{_ATD_S}s"\ndtd = "{_DTD_S}s"\n')
    bench.serve()
    kinds = ["x86", "cpython", "x64"]
    traffic = rollover.drive(bench, kinds, 450, _REKEYS, _APART_S, windy, _DTD_S)
    rollover.check(traffic, windy)
    assert traffic.rate > 200 and all(account.sent > 300 for account in traffic.accounts)


def _added(bench, make, name, *options):
    bench.member(name, *options)
    one = make(bench.root / "members" / name / "covey.json")
    bench.members.append(one)
    one.heard("status")  # from then on it listens
    return one


def _pair(bench):
    """A sender, and a receiver of each kind."""
    sender = _added(bench, micropython, "sender", "--sender")
    return sender, [_added(bench, micropython, "board"), _added(bench, join, "desk")]


def _last(member):
    found = [e for e in list(member.events) if e["event"] == "status"]
    return (found[-1].get("detail") or found[-1]) if found else {}


def _deafen(bench, members):
    """Stop these processes, and see that the system keeps nothing that is sent to them."""
    for member in members:
        member._process.send_signal(signal.SIGSTOP)
    before = [rollover.dropped(member) for member in members]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for _ in range(100_000):
            if all(rollover.dropped(m) > was for m, was in zip(members, before, strict=True)):
                return
            for _ in range(50):
                sock.sendto(bytes(1400), (GROUP, bench.carrier_port))
    raise AssertionError("their sockets are never full")


def test_who_slept_through_ten_rekeys_comes_back_alone(bench):
    """The keys that it has end, and it asks before: within a policy interval, a lifetime."""
    bench.edit('atd = "1s"\ndtd = "2s"\n', 'atd = "0s"\ndtd = "1s"\nlifetime = "12s"\n')
    bench.serve()
    sender, sleepers = _pair(bench)
    sender.say("before")
    for one in sleepers:
        one.packet(b"before")
    _deafen(bench, sleepers)
    asleep = [_last(one)["epoch"] for one in sleepers]
    for _ in range(10):
        bench.covey("rekey", "line1")
        time.sleep(0.15)
    for one in sleepers:
        one._process.send_signal(signal.SIGCONT)
    newest = bench.epoch()
    for one, was in zip(sleepers, asleep, strict=True):
        assert newest >= was + 10
        wait_until(lambda one=one: _last(one).get("epoch", 0) >= newest, 14)
        assert _last(one)["rekeys"] <= 2, "it heard them"
    sender.say("after")
    for one in sleepers:
        one.packet(b"after")
        assert one.count("registered") == 1  # it never was out


def test_a_member_that_hears_nothing_says_so_and_comes_back(bench):
    """Its key server stands still for longer than policy's max_silence."""
    bench.edit('dtd = "2s"\n', 'dtd = "2s"\nmax_silence = "10s"\non_silence = "stop"\n')
    server = bench.serve()
    sender, members = _pair(bench)
    sender.say("before")
    for one in members:
        one.packet(b"before")
    server.send_signal(signal.SIGSTOP)
    for one in members:
        one.heard("silent", timeout_s=15, detail="Nothing heard from the key server for 10 s.")
    sender.say("meanwhile")
    for one in members:
        wait_until(lambda one=one: _last(one)["drops"].get("silent"))
        assert _last(one)["state"] == "silent" and one.opened(b"meanwhile") == 0
    server.send_signal(signal.SIGCONT)
    for one in members:
        one.heard("registered", 2)
        wait_until(lambda one=one: _last(one)["state"] == "member")
    sender.say("after")
    for one in members:
        one.packet(b"after")
