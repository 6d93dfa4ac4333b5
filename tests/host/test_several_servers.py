"""A crowd of members and three key servers of one site, in virtual time (COVEY_CROWD=n of them).

Members are real. The servers are the real one under three names, since to members they are one: a
name that is dead hears nothing. Each takes a millisecond for a message, as on a loaded machine.
"""

import os
import random
import sys

import pytest

from covey import ike, several
from covey.config import Config
from covey.drops import ConfigError
from covey.hopping import Hop
from covey.member import Member
from covey.membership import MEMBER, Membership
from covey.nat import Path
from covey_host.gcks.sockets import Address
from gcks_site import KEY, PLAIN, SITE, Site
from replicas import STEP_MS, Replicas
from simulator import machine
from simulator.clock import Alarm, Clock
from simulator.swift import Swift

HOSTS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
CROWD = int(os.environ.get("COVEY_CROWD", "300"))


class Plant:
    """lives: the names of key servers that hear. begun: [(ms, host, number of the
    board)] of each IKE_SA_INIT that one of them hears."""

    def __init__(
        self, folder, members, text=SITE + PLAIN + "fresh_join = false\n", seed=7, **more
    ):
        self.clock = Clock()
        self.site = Site(folder / "state.db", text, now=0)
        self.lives = set(HOSTS)
        self.work_ms = 1  # of a key server for a message
        self.begun = []
        self._busy = dict.fromkeys(HOSTS, 0)  # until when it works on what it has heard
        self.seed, self.more = seed, more
        self.boards = [Board(self, number) for number in range(members)]
        self._alarm = Alarm(self.clock, self._step)

    def add(self, name):
        self.site.add(name)

    def run(self, ms):
        self.clock.run_until(self.clock.now_ms + ms)

    def send(self, board, host, data):
        if host in self.lives:
            if data[18] == ike.IKE_SA_INIT:
                self.begun.append((self.clock.now_ms, host, board.number))
            at = self._busy[host] = max(self._busy[host], self.clock.now_ms + 1) + self.work_ms
            self.clock.at(at, self._hear, board, host, data)

    def _hear(self, board, host, data):
        self.site.now = self.clock.now_ms
        self._say(self.site.server.receive(data, board.address(host), self.site.now), host)
        self._step()

    def _step(self):
        self.site.now = self.clock.now_ms
        outs, wait_ms = self.site.server.step(self.site.now)
        self._say(outs)
        self._alarm.set(self.clock.now_ms + max(1, wait_ms))

    def _say(self, outs, host=None):
        for out in outs:
            if out.address is not None and HOSTS[out.address.endpoint] in self.lives:
                self._tell(out)

    def _tell(self, out):
        high, low = out.address.host.split(".")[2:]
        self.clock.after(1, self.boards[256 * int(high) + int(low)].hear, out.data)


class Board:
    """One member. gaps: moments in which it could not send, since it was in."""

    def __init__(self, plant, number):
        self.plant = plant
        self.name = f"m{number}"
        self.number = number
        chance = random.Random(f"{plant.seed} {self.name}")
        plant.add(self.name)
        config = Config(
            {
                "version": 1,
                "group": "line1",
                "idi": self.name,
                "servers": [{"host": host, "port": 848, "marker": False} for host in HOSTS],
                "sender": True,
                "limits": {"senders": 1, "sas": 2, "payload": 64},
                **plant.more,
            },
            psk=KEY,
        )
        self.member = Member(payload_max=64, sender_slots=1, sa_slots=2, sender=True)
        self.it = Membership(config, self.member, chance.randbytes, self._path_to)
        self.gaps = 0
        self.rounds = []  # (ms, host, Sender-ID) of each registration
        self._alarm = Alarm(plant.clock, self._work)

    def address(self, host):
        where = f"10.0.{self.number // 256}.{self.number % 256}"
        own = bytes(int(part) for part in host.split("."))
        return Address(HOSTS.index(host), where, 50000, own, 848)

    def switch_on(self):
        self.it.start(self.plant.clock.now_ms)
        self._work()

    def hear(self, data):
        self.it.unicast(data, self.plant.clock.now_ms)
        self._work()

    def _path_to(self, server):
        theirs = bytes(int(part) for part in server.host.split("."))
        return Path(
            bytes((10, 0, self.number // 256, self.number % 256)), 50000, theirs, 848, False
        )

    def _work(self):
        now_ms = self.plant.clock.now_ms
        while True:
            wait_ms = self.it.step(now_ms)
            data, to = self.it.outgoing()
            while data is not None:
                self.plant.send(self, to.host, bytes(data))
                data, to = self.it.outgoing()
            if wait_ms:
                break
        ids = self.it.sender_id
        if self.it.state == MEMBER and (not self.rounds or self.rounds[-1][2] != ids):
            self.rounds.append((now_ms, self.it.server.host, ids))
        self.gaps += bool(self.rounds) and not self.member.can_send(now_ms)
        self._alarm.set(now_ms + max(1, wait_ms))


class Company(Plant):
    """The same with three real replicas over one store, as members of this Python hear them."""

    def __init__(self, folder, members, seed=7, **more):
        self.clock = Clock()
        self.site = Replicas(folder / "state.db", HOSTS, seed=seed)
        self.clock.now_ms = self.site.now
        self.site.settle()
        self.clock.run_until(self.site.now)
        self.begun, self.seed, self.more = [], seed, more
        self.boards = [Board(self, number) for number in range(members)]

    def add(self, name):
        self.site.add(name)

    def run(self, ms):
        for _ in range(ms // STEP_MS):
            self.site.wait(STEP_MS)
            self._carry()
            self.clock.run_until(self.site.now)

    def send(self, board, host, data):
        if data[18] == ike.IKE_SA_INIT:
            self.begun.append((self.clock.now_ms, host, board.number))
        self.clock.after(1, self._take, self.site[host], data, board.address(host))

    def _take(self, one, data, address):
        if not (one.is_dead or one.is_stopped):
            self.site.send(one.server.receive(data, address, self.site.now), one)
            self._carry()

    def _carry(self):
        told, self.site.unasked = self.site.unasked, []
        for name, out in told:
            if not (self.site[name].is_dead or self.site[name].is_stopped):
                self._tell(out)

    def members_of(self, host):
        """Whose IKE SA is open there."""
        return set(self.site[host].server._responder._proven)


@pytest.fixture
def swift(monkeypatch):
    monkeypatch.setattr(several, "Hop", Hop)  # not the script of other tests
    look_ms = machine.membership._IDLE_MS
    machine.look_every(5000)
    with Swift(lambda *pair: pytest.fail(f"twice: {pair}")):
        yield
    machine.look_every(look_ms)


def most_in(ms, times):
    """The most of them in so long."""
    times = sorted(times)
    return max(sum(1 for other in times if at <= other < at + ms) for at in times)


def test_a_crowd_whose_key_server_dies(tmp_path, swift):
    """Worst: all of them came at one moment, so that all miss it at one moment."""
    plant = Plant(tmp_path, CROWD)
    plant.lives = {HOSTS[0]}
    plant.work_ms = 0
    for board in plant.boards:
        board.switch_on()
    plant.run(30_000)
    assert all(len(board.rounds) == 1 for board in plant.boards)
    assert max(at for board in plant.boards for at, *_ in board.rounds) < 1500
    plant.lives, plant.begun, plant.work_ms = set(HOSTS[1:]), [], 1
    plant.run(70_000)
    new = [board.rounds[-1] for board in plant.boards]
    assert all(len(board.rounds) == 2 and board.gaps == 0 for board in plant.boards)  # data go on
    assert max(at for at, *_ in new) <= 60_000 + 8_000 + 2_000 + 1500  # they came within 1.5 s
    assert len(plant.begun) == CROWD  # nobody asks twice, or of two
    for host in HOSTS[1:]:
        times = [at for at, other, _ in plant.begun if other == host]
        assert 0.4 * CROWD < len(times) < 0.6 * CROWD
        assert most_in(1000, times) < 0.35 * CROWD and most_in(100, times) < 0.06 * CROWD


def test_a_crowd_that_comes_while_a_key_server_is_dead(tmp_path, swift):
    """A third of them asks the dead one first: half a second later they are with the others."""
    plant = Plant(tmp_path, 60)
    plant.lives = set(HOSTS[1:])
    for board in plant.boards:
        board.switch_on()
    plant.run(1000)
    assert all(len(board.rounds) == 1 for board in plant.boards)
    late = [at for board in plant.boards for at, *_ in board.rounds if at >= 400]
    assert 10 <= len(late) <= 30 and max(late) < 800
    assert len(plant.begun) <= 2 * 60


def test_who_has_to_wait_for_new_keys_stays_where_it_is(tmp_path, swift):
    """fresh_join: for seconds there is no answer to GSA_AUTH, but to IKE_SA_INIT, once more."""
    plant = Plant(tmp_path, 4, SITE + PLAIN)
    for board in plant.boards:
        began = plant.clock.now_ms
        board.switch_on()
        plant.run(9_000)
        ((at, host, _),) = board.rounds
        assert {other for _, other, number in plant.begun if number == board.number} == {host}
    assert at - began > 1500  # the last one did wait
    assert plant.site.server.counters["sa_init_repeat"] >= 3
    assert plant.site.server.counters["sa_init"] == 4


def test_a_replica_that_drains_is_left_and_nobody_is_missed(tmp_path, swift):
    """REDIRECT over open IKE SAs, and to whoever comes."""
    plant = Company(tmp_path, 24)
    for board in plant.boards[:18]:
        board.switch_on()
    plant.run(500)
    assert all(len(board.rounds) == 1 for board in plant.boards[:18])
    left, others = HOSTS[0], HOSTS[1:]
    assert all(plant.members_of(host) for host in HOSTS)
    told = plant.members_of(left)
    one = plant.site[left].server
    one.redirects.hosts = others
    plant.site.send(one.drain(plant.site.now), plant.site[left])
    for board in plant.boards[18:]:
        board.switch_on()
    plant.run(4000)
    assert one.is_drained and not plant.members_of(left)
    for board in plant.boards:
        assert len(board.rounds) == 1 + (board.name in told) and board.gaps == 0
        assert board.rounds[-1][1] in others
        said = [name for name, _ in board.it.events]
        assert "unanswered" not in said
        assert "redirected" in said or board.name not in told
    begun = [number for _, host, number in plant.begun if host == left]
    new = [number for number in begun if number >= 18]
    assert new and all(plant.boards[number].it.events[1][0] == "redirected" for number in new)
    assert one.counters["redirected"] == len(new)


def test_a_replica_that_dies_is_missed_by_nobody_for_a_second(tmp_path, swift):
    """Also by who is just registering there: between its two messages, or before."""
    plant = Company(tmp_path, 20)
    dead = plant.site.holder.name
    for number, board in enumerate(plant.boards):
        plant.clock.after(number, board.switch_on)
    plant.run(STEP_MS)  # half of them are at it, and some of them there
    plant.site[dead].kill()
    began = plant.clock.now_ms
    plant.run(5000)
    assert all(board.rounds for board in plant.boards)
    late = sorted(board.rounds[0][0] - began for board in plant.boards)
    asked = {number for _, host, number in plant.begun if host == dead}
    left = [board for board in plant.boards if board.rounds[0][1] != dead]
    assert sum(ms > 400 for ms in late) == len(asked & {board.number for board in left}) >= 4
    assert 550 < late[-1] < 950 and late[-2] < 700  # that one was between its two messages


def test_an_image_for_one_key_server_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "covey.several", None)
    with pytest.raises(ConfigError, match="made for one key server: make it anew"):
        Company(tmp_path, 1)
