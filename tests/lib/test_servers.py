"""Which server is asked, and after which pause."""

from covey.config import Server
from covey.servers import Servers

_A, _B, _C = [Server(name, 848, False) for name in ("a", "b", "c")]


def _least(n):
    return bytes(n)


def _most(n):
    return b"\xff" * (n - 3) + b"\xf0\0\0"


def test_one_round_without_pauses_then_pauses_that_grow():
    servers = Servers([_A, _B, _C], _least)
    asked, pauses = [], []
    for _ in range(31):
        asked.append(servers.current.host)
        pauses.append(servers.next())
    assert "".join(asked) == ("abc" * 11)[:31]
    assert pauses[2::3] == [500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 150000]
    assert [p for i, p in enumerate(pauses) if i % 3 != 2] == [0] * 21


def test_half_of_a_pause_is_chance():
    for n in range(1, 12):
        seen = set()
        for random in (_least, _most, lambda n: b"\x12\x34\x56\x78"[:n]):
            servers = Servers([_A], random)
            for _ in range(n):
                pause_ms = servers.next()
            seen.add(pause_ms)
        whole = min(500 << n, 300000)
        assert len(seen) > 1 and min(seen) == whole // 2 and max(seen) <= whole


def test_an_answer_ends_the_pauses_and_begins_a_new_round_where_we_are():
    servers = Servers([_A, _B], _least)
    for _ in range(5):
        servers.next()
    assert servers.current is _B
    servers.answered()
    assert servers.next() == 0 and servers.current is _A  # the other one is asked at once
    assert servers.next() == 500 and servers.current is _B


def test_floated():
    there = _A.floated()
    assert (there.host, there.port, there.marker) == ("a", 4500, True)
    assert there.floated() is there
    odd = Server("a", 14500, True)
    assert odd.floated() is odd  # it has the marker already
