"""Reasons have names, counts stay small, counting takes no heap."""

import gc
import sys

from covey import drops
from covey.drops import DROP_REPLAY, DROP_TAG, ConfigError, Drops, FormatError, name_of, names

BOARD = sys.implementation.name == "micropython"


def reasons():
    return {name: getattr(drops, name) for name in dir(drops) if name.startswith("DROP_")}


def test_each_reason_has_its_own_number_and_name():
    numbers = list(reasons().values())
    assert len(numbers) > 40
    assert len(set(numbers)) == len(numbers)
    assert set(names()) == set(numbers)
    assert len(set(names().values())) == len(numbers)


def test_names_are_those_of_the_constants():
    for constant, number in reasons().items():
        assert "DROP_" + names()[number].upper() == constant


def test_a_reason_is_no_length():
    assert all(number < 0 for number in reasons().values())
    assert drops.IKE_MESSAGE < 0 and drops.IKE_MESSAGE not in names()


def test_counting():
    counter = Drops()
    assert counter.as_dict() == {}
    assert counter.count(DROP_TAG) == DROP_TAG
    counter.count(DROP_TAG)
    counter.count(DROP_REPLAY)
    assert counter.of(DROP_TAG) == 2
    assert counter.of(drops.DROP_EMPTY) == 0
    assert counter.as_dict() == {"tag": 2, "replay": 1}
    assert Drops().as_dict() == {}


def test_every_reason_can_be_counted():
    counter = Drops()
    for number in names():
        counter.count(number)
    assert counter.as_dict() == {name: 1 for name in names().values()}
    assert Drops.most == 1 - min(names())  # and there is no room besides


def test_a_count_stops_before_it_needs_heap():
    counter = Drops()
    counter._counts[-DROP_TAG] = 0x3FFFFFFE
    counter.count(DROP_TAG)
    counter.count(DROP_TAG)
    assert counter.of(DROP_TAG) == 0x3FFFFFFF


def test_counting_takes_no_heap():
    if not BOARD:
        return
    counter = Drops()
    counter._counts[-DROP_TAG] = 0x3FFFFFFD
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(10):
        counter.count(DROP_TAG)
    after = gc.mem_alloc()
    gc.enable()
    assert after == before


def test_errors():
    error = FormatError(DROP_REPLAY)
    assert error.reason == DROP_REPLAY and name_of(error.reason) == "replay"
    assert str(ConfigError("do this")) == "do this"
