"""A socket whose queue fills: first requests are thinned before it, all else passes."""

import socket
import sys

import pytest

from covey_host.gcks import thinning
from covey_host.gcks.thinning import Thinning

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a filter of Linux")

SA, COOKIE, SK = 33, 41, 46
IKE_SA_INIT, GSA_AUTH = 34, 39
MANY = 100


class Line:
    """A socket with a short queue, and who sends to it."""

    def __init__(self, marker):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.out.connect(self.sock.getsockname())
        self.marker = bytes(4) if marker else b""
        self.thinning = Thinning(self.sock, marker)
        self.now_s = 0.0

    def look(self, count=1):
        """Time goes by."""
        for _ in range(count):
            self.now_s += thinning._TICK_S
            self.thinning.follow(self.now_s)

    def say(self, exchange, first, count=1):
        message = bytearray(152)
        message[16], message[17], message[18] = first, 0x20, exchange
        for _ in range(count):
            self.out.send(self.marker + message)

    def read(self):
        count = 0
        try:
            while True:
                self.sock.recv(4096)
                count += 1
        except BlockingIOError:
            return count

    def crowd(self):
        """It gets more than it reads, for some time."""
        self.say(GSA_AUTH, SK, 2000)
        self.look(20)
        self.read()

    def passes(self, exchange, first):
        self.say(exchange, first, MANY)
        return self.read()

    def close(self):
        self.sock.close()
        self.out.close()


@pytest.fixture(params=[True, False], ids=["marker", "plain"])
def line(request):
    made = Line(request.param)
    yield made
    made.close()


def test_nothing_is_thinned_where_the_queue_is_short(line):
    for _ in range(50):
        line.say(IKE_SA_INIT, SA, 20)
        line.look()
        assert line.read() == 20
    assert not line.thinning.is_on and line.thinning.lost == 0


def test_first_requests_without_a_cookie_are_thinned_and_nothing_else(line):
    line.crowd()
    assert line.thinning.is_on and line.thinning.lost > 0
    before = line.thinning.lost
    assert line.passes(IKE_SA_INIT, SA) < MANY // 4
    assert line.thinning.lost - before > MANY * 3 // 4
    assert line.passes(IKE_SA_INIT, COOKIE) == MANY
    assert line.passes(GSA_AUTH, SK) == MANY
    if line.marker:
        for _ in range(MANY):
            line.out.send(b"\1\2\3\4 an ESP packet")
        assert line.read() == MANY


def test_some_pass_however_long_it_lasts(line):
    """By lot: who repeats its request comes through."""
    for _ in range(3):
        line.crowd()
    line.say(IKE_SA_INIT, SA, 20 * 256)
    assert line.read() > 0


def test_when_the_queue_is_short_again_all_pass(line):
    line.crowd()
    looks = 0
    while line.thinning.is_on:
        line.look()
        looks += 1
        assert looks * thinning._TICK_S < 2
    assert line.passes(IKE_SA_INIT, SA) == MANY


def test_it_changes_in_small_steps(line):
    line.say(GSA_AUTH, SK, 2000)
    line.look()
    line.thinning.follow(line.now_s)  # at the same moment
    assert line.thinning._passes == thinning._LESS


def test_a_system_without_filters_goes_on(line, monkeypatch):
    monkeypatch.setattr(thinning, "_ATTACH_FILTER", 9999)
    line.crowd()
    assert not line.thinning.is_on
    assert line.passes(IKE_SA_INIT, SA) == MANY
    monkeypatch.setattr(thinning, "_MEMINFO", 9999)
    line.crowd()
    assert not line.thinning.is_on and line.thinning.lost == 0
