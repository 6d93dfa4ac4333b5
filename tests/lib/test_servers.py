"""Which server is asked, and after which pause."""

from covey.config import Server
from covey.hopping import Patience
from covey.servers import Servers
from covey.several import Several

_A, _B, _C = [Server(name, 848, False) for name in ("a", "b", "c")]


class _Settings:
    retransmit_first_ms = 500
    retransmit_total_s = 30

    def __init__(self, *servers):
        self.servers = list(servers)


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
        assert servers.has_asked_all is (pauses[-1] > 0)
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


# Several


class _Counted:
    """Numbers that are spread evenly over what is drawn from them."""

    def __init__(self):
        self.count = 0

    def __call__(self, n):
        self.count = (self.count * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.count >> 8 & 0xFFFF).to_bytes(n, "big")


def test_each_is_as_often_the_first_and_the_one_behind_each_other():
    settings = _Settings(_A, _B, _C)
    chance = _Counted()
    orders = {}
    for _ in range(1200):
        servers = Several(settings, chance, None)
        order = ""
        for _ in range(3):
            order += servers.current.host
            servers.next()
        orders[order] = orders.get(order, 0) + 1
    assert sorted(orders) == ["abc", "acb", "bac", "bca", "cab", "cba"]
    assert min(orders.values()) > 150 and max(orders.values()) < 250  # 200 each, by chance
    assert settings.servers == [_A, _B, _C]


def _times(patience, until_ms=40000, heard=(), began=0):
    """When everything is said again, and when it is over, a ms at a time."""
    patience.start(began)
    said = []
    now = 0
    while now < until_ms:
        if now in heard:
            patience.heard(began + now)
        if patience.is_over(began + now):
            return said, now
        if patience.is_due(began + now):
            said.append(now)
        left_ms = patience.left_ms(began + now)
        assert left_ms > 0
        now += min(left_ms, min([h - now for h in heard if h > now] or [left_ms]))
    raise AssertionError("never over")


def test_who_says_nothing_is_left_for_the_next_after_half_a_second():
    assert _times(Patience(_Settings(), 500, False)) == ([200], 500)
    assert _times(Patience(_Settings(), 1000, False)) == ([200, 600], 1000)
    assert _times(Patience(_Settings(), 30000, False))[0] == [
        200,
        600,
        1400,
        3000,
        6200,
        12600,
        25400,
    ]


def test_how_long_that_is_is_chance_and_doubles_with_each_round():
    for round in range(8):
        found = []
        for random in (_least, lambda n: b"\0\xc8" if n == 2 else bytes(n)):
            servers = Several(_Settings(_A, _B), random, None)
            for _ in range(2 * round):
                servers.next()
            found.append(_times(servers.patience(False))[1])
        whole = min(500 << round, 30000)
        assert found[0] == whole * 4 // 5 and found[0] < found[1] <= min(whole * 6 // 5, 30000)
    servers.answered()
    assert _times(servers.patience(False))[1] == 600


def test_who_has_answered_once_is_asked_again_before_it_is_left():
    assert _times(Patience(_Settings(), 500, True)) == ([250, 450], 750)
    # it says its answer again: it is busy
    heard = [260, 770, 1780, 3790, 7800, 15810]
    said, over = _times(Patience(_Settings(), 500, True), heard=heard)
    assert said == [250, 760, 1770, 3780, 7790, 15800] and over == 30000
    # and dies
    said, over = _times(Patience(_Settings(), 500, True), heard=[260, 770])
    assert said == [250, 760, 1770, 1970] and over == 2270
    # one that is only slow to answer
    said, over = _times(Patience(_Settings(), 500, True), heard=[749])
    assert said == [250, 450, 1249, 1449] and over == 1749


def test_all_of_it_over_the_end_of_the_clock():
    most = 1 << 30
    for patience in (Patience(_Settings(), 500, False), Patience(_Settings(), 500, True)):
        patience.start(most - 100)
        assert patience.left_ms(most - 100) in (200, 250)
        assert not patience.is_over(299)
        assert patience.is_due(400) and not patience.is_due(401)
