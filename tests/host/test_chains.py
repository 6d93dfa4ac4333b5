"""Chains of keys as the key server makes them: each key from the next one, by a hash."""

import os
from dataclasses import replace
from hashlib import sha256

import pytest

from covey_host.gcks.chains import Chain, Chains
from covey_host.gcks.epoch import first_epoch
from covey_host.gcks.policy import GroupPolicy
from covey_host.gcks.seats import Seat

SECRET, TERMS = bytes(range(32)), b"clok\0\0\0\x64"


class Clock:
    def __init__(self, ms):
        self.ms = ms

    def now_ms(self):
        return self.ms


def epoch(bits=8):
    seats = Seat("press", SECRET, 5), Seat("valve", bytes(32)), Seat("desk", b"s" * 32, 0)
    made = GroupPolicy("line1", "239.192.1.32", 2222, source_auth="tesla", tesla_chain=bits)
    return replace(first_epoch(made.shape, os.urandom), seats=seats, clock=b"clok")


def down(salt, number, key, to):
    """RFC 4082 section 3.2, with the number in the hash."""
    for i in range(number, to, -1):
        key = sha256(salt + i.to_bytes(4) + key).digest()[:16]
    return key


@pytest.mark.parametrize("bits", [1, 2, 7, 8])
def test_each_key_follows_from_the_next(bits):
    chain = Chain(SECRET, TERMS, 3, bits)
    first, after = 3 << bits, (3 << bits) + (2 << bits)
    assert chain.first == first
    keys = {i: chain.key(i) for i in range(first - 1, after)}
    assert len(set(keys.values())) == len(keys)
    for i in range(first, after):
        assert down(chain.salt, i, keys[i], i - 1) == keys[i - 1]


def test_nothing_follows_from_another_chain():
    one = Chain(SECRET, TERMS, 3, 8)
    for other in (
        Chain(bytes(32), TERMS, 3, 8),
        Chain(SECRET, b"clik\0\0\0\x64", 3, 8),
        Chain(SECRET, TERMS, 4, 8),
    ):
        assert other.salt != one.salt and other.key(4 << 8) != one.key(4 << 8)
    assert Chain(SECRET, TERMS, 3, 8).key(900) == one.key(900)


@pytest.mark.parametrize("into", [0, 1, 5, 31, 32, 100, 191, 192, 255])
def test_rows_and_stones(into):
    """Of the segments that matter; no row gives away what is not out yet."""
    now = (40 << 8) + into
    chains, of = Chains(Clock(now * 100 + 99)), epoch()
    rows = chains.rows(of, is_all=True)
    before, after = into < 32, into >= 192
    wanted = [39] * before + [40] + [41] * after
    assert [(row[0], row[1] >> 8) for row in rows] == [(i, s) for i in (5, 0) for s in wanted]
    assert chains.rows(of, is_all=False) == [row for row in rows if row[1] >> 8 == 40]
    for _, first, _, which, _ in rows:
        assert first - 1 <= which < first + 256 and which <= max(first - 1, now - 2 - 2)
    stones = chains.stones(of, "press")
    assert [at for at, _, _ in stones] == [now - 1] + [(41 << 8) - 1] * after
    for at, salt, keys in stones:
        assert len(keys) == 9
        for power in range(1, 9):
            low, high = at + (1 << power - 1), at + (1 << power)
            assert down(salt, high, keys[power], low) == keys[power - 1]
        row = next(r for r in rows if r[0] == 5 and r[2] == salt)
        assert down(salt, at + 1, keys[0], row[3]) == row[4]
    assert chains.stones(of, "valve") == chains.stones(of, "nobody") == []


def test_work_ahead():
    """A chain a time, before it is asked for; what is over is forgotten."""
    clock = Clock((40 << 8) * 100)
    chains, of = Chains(clock), epoch()

    def made():
        return sorted((key[2], key[0] == SECRET) for key in chains._made)

    assert chains.prepare(of) == 0 and len(chains._made) == 1
    assert chains.prepare(of) == 0 and len(chains._made) == 2
    assert chains.prepare(of) == 12_800  # half of the segment
    clock.ms += 12_800
    assert [chains.prepare(of) for _ in range(3)] == [0, 0, 25_600]
    assert made() == [(40, False), (40, True), (41, False), (41, True)]
    clock.ms += 12_800 + 100
    assert chains.prepare(of) == 12_700
    clock.ms += 25_600
    while not chains.prepare(of):
        pass
    assert made() == [(41, False), (41, True), (42, False), (42, True)]
    chains.prepare(replace(of, seats=of.seats[:1]))
    assert made() == [(41, True), (42, True)]
