"""What waits to be looked at: order, shares, bounds."""

import struct

import pytest

from covey import ike
from covey_host.gcks import inbox
from covey_host.gcks.inbox import Inbox
from foreign_gm import GSA_AUTH, IKE_SA_INIT


def message(exchange, number, octets=40):
    return struct.pack(">16sBBBBII", b"s" * 16, 0, 0x20, exchange, 8, number, octets).ljust(octets)


def empty():
    return Inbox(lambda data, address: data[28] == 1)


def filled(begins=0, others=0):
    made = empty()
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


def with_cookie(number, is_ours):
    data = bytearray(message(IKE_SA_INIT, number))
    data[16], data[28] = ike.NOTIFY, is_ours
    return bytes(data)


def test_who_shows_a_cookie_of_ours_is_further_along():
    made = filled(begins=50)
    assert made.put(with_cookie(99, False), "a") and made.put(with_cookie(99, True), "a")
    assert made.begins == 50
    assert with_cookie(99, True) in [data for data, _ in made.draw(4)]
    assert made.begins == 47
    assert [data for _ in range(13) for data, _ in made.draw(4)][-1] == with_cookie(99, False)


def test_made_up_cookies_wait_behind_all_others_and_are_few():
    made = empty()
    taken = [made.put(with_cookie(number, False), "a") for number in range(20_000)]
    assert sum(taken) == inbox.MOST_DOUBTFUL == len(made) and made.begins == 0
    for number in range(40):
        made.put(message(IKE_SA_INIT, number), "a")
    assert kinds(made.draw(40)) == (40, 0) and len(made) == inbox.MOST_DOUBTFUL
    assert made.put(message(GSA_AUTH, 1), "a") and kinds(made.draw(2)) == (1, 1)


def test_who_is_further_along_in_the_order_of_coming_who_begins_the_other_way_round():
    made = filled(40, 40)
    found = []
    while made:
        found += made.draw(7)
    for exchange, is_reversed in ((IKE_SA_INIT, True), (GSA_AUTH, False)):
        numbers = [data[20:24] for data, _ in found if data[18] == exchange]
        assert numbers == sorted(numbers, reverse=is_reversed) and len(numbers) == 40


def test_a_repeat_does_not_wait_twice():
    made = empty()
    data = message(IKE_SA_INIT, 1)
    assert made.put(data, "a") and made.put(data, "a") and made.put(data, "b")
    assert made.draw(32) == [(data, "b"), (data, "a")]
    assert made.put(data, "a") and len(made) == 1  # but once more behind an answer


def test_who_asks_again_is_before_who_has_not():
    made = filled(3)
    assert made.put(message(IKE_SA_INIT, 0), "a") and len(made) == 3
    assert [data[23] for data, _ in made.draw(3)] == [0, 2, 1]


def test_it_is_bounded_in_number_and_octets(monkeypatch):
    monkeypatch.setattr(inbox, "MOST", 10)
    made = filled(10, 9)
    assert not made.put(message(IKE_SA_INIT, 99), "a") and made.begins == 10, "the oldest goes"
    assert not made.put(message(IKE_SA_INIT, 0), "a"), "it is not known any more"
    assert made.put(message(GSA_AUTH, 99), "a"), "the others have room of their own"
    assert [data[23] for data, _ in made.draw(3)] == [0, 1, 0] and len(made) == 17
    monkeypatch.setattr(inbox, "MOST_OCTETS", 1000)
    made = empty()
    assert made.put(message(GSA_AUTH, 1, 600), "a")
    assert not made.put(message(GSA_AUTH, 2, 600), "a")
    made.draw(1)
    assert made.put(message(GSA_AUTH, 2, 600), "a")


def test_what_is_no_message_waits_with_the_others():
    made = empty()
    for data in (b"", b"x", bytes(18), bytes(19)):
        assert made.put(data, "a")
    assert len(made.draw(32)) == 4
