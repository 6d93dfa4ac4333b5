"""What waits to be looked at: order, shares, bounds."""

import struct

import pytest

from covey import ike
from covey_host.gcks import inbox
from covey_host.gcks.inbox import Inbox
from foreign_gm import GSA_AUTH, IKE_SA_INIT


def message(exchange, number, octets=40):
    return struct.pack(">16sBBBBII", b"s" * 16, 0, 0x20, exchange, 8, number, octets).ljust(octets)


def filled(begins=0, others=0):
    made = Inbox()
    for number in range(begins):
        assert made.put(message(IKE_SA_INIT, number), "a")
    for number in range(others):
        assert made.put(message(GSA_AUTH, number), "a")
    return made


def kinds(messages):
    exchanges = [data[18] for data, _ in messages]
    return exchanges.count(IKE_SA_INIT), exchanges.count(GSA_AUTH)


@pytest.mark.parametrize(
    ("begins", "others", "drawn"),
    [
        (0, 0, (0, 0)),
        (50, 0, (32, 0)),
        (0, 50, (0, 32)),
        (50, 50, (8, 24)),  # who is further along goes first, but for a quarter
        (50, 10, (22, 10)),
        (3, 50, (3, 29)),
        (3, 2, (3, 2)),
    ],
)
def test_who_is_further_along_goes_first(begins, others, drawn):
    made = filled(begins, others)
    assert kinds(made.draw(32)) == drawn
    assert len(made) == begins + others - sum(drawn)


def test_who_shows_a_cookie_is_further_along():
    """Whether it is a good one is seen later."""
    made = filled(begins=50)
    data = bytearray(message(IKE_SA_INIT, 99))
    data[16] = ike.NOTIFY
    made.put(bytes(data), "a")
    assert made.begins == 50
    assert bytes(data) in [data for data, _ in made.draw(4)]
    assert made.begins == 47


def test_each_kind_in_the_order_of_its_coming():
    made = filled(40, 40)
    found = []
    while made:
        found += made.draw(7)
    for exchange in (IKE_SA_INIT, GSA_AUTH):
        numbers = [data[20:24] for data, _ in found if data[18] == exchange]
        assert numbers == sorted(numbers) and len(numbers) == 40


def test_a_repeat_does_not_wait_twice():
    made = Inbox()
    data = message(IKE_SA_INIT, 1)
    assert made.put(data, "a") and made.put(data, "a") and made.put(data, "b")
    assert made.draw(32) == [(data, "a"), (data, "b")]
    assert made.put(data, "a") and len(made) == 1  # but once more behind an answer


def test_it_is_bounded_in_number_and_octets(monkeypatch):
    monkeypatch.setattr(inbox, "MOST", 10)
    made = filled(10, 9)
    assert not made.put(message(IKE_SA_INIT, 99), "a")
    assert made.put(message(GSA_AUTH, 99), "a"), "the others have room of their own"
    monkeypatch.setattr(inbox, "MOST_OCTETS", 1000)
    made = Inbox()
    assert made.put(message(GSA_AUTH, 1, 600), "a")
    assert not made.put(message(GSA_AUTH, 2, 600), "a")
    made.draw(1)
    assert made.put(message(GSA_AUTH, 2, 600), "a")


def test_what_is_no_message_waits_with_the_others():
    made = Inbox()
    for data in (b"", b"x", bytes(18), bytes(19)):
        assert made.put(data, "a")
    assert len(made.draw(32)) == 4
