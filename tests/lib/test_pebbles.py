"""One's own chain, key by key: all of them, with few pebbles and few hashes."""

from covey import pebbles
from covey.chainhash import Step
from covey.port import sha256

SALT = b"saltsalt"


class Keys:
    """[interval]: its key, from the one before the first on. By the letter of timing.py. There is
    no room for all on a board: some are kept.
    """

    def __init__(self, first, count, seed, salt):
        self.salt = salt
        self.kept = {first + count: seed}
        self.last = first + count
        self.first = first
        key = seed
        for i in range(first + count, first - 1, -1):
            key = self.before(i, key)
            if i % 64 == 1:
                self.kept[i - 1] = key

    def before(self, i, key):
        return sha256(self.salt + i.to_bytes(4, "big") + key).digest()[:16]

    def __getitem__(self, at):
        assert self.first - 1 <= at <= self.last
        i = min(at + 63 & -64, self.last)
        key = self.kept[i]
        while i > at:
            key = self.before(i, key)
            i -= 1
        return key


def chain(first, count, seed=bytes(16), salt=SALT):
    return Keys(first, count, seed, salt)


def stones(keys, at, bits):
    return [bytearray(keys[at + (1 << j)]) for j in range(bits + 1)]


def hash_counted():
    """Counts steps back until undone."""
    real, counted = Step.back, [0]

    def back(self):
        counted[0] += 1
        real(self)

    pebbles.Step.back = back
    return counted, real


def test_a_step_back():
    step = Step()
    keys = chain(0x01020304, 4)
    step.stand(SALT, 0x01020305, b"??" + keys[0x01020305], 2)
    step.back()
    out = bytearray(18)
    step.put(out, 1)
    assert step.at == 0x01020304 and out == b"\0" + keys[0x01020304] + b"\0"


def test_every_key_from_every_beginning():
    counted, real = hash_counted()
    try:
        for bits in range(1, 8):
            count = 1 << bits
            keys = chain(count, 2 * count)
            for at in (count - 1, count, count + count // 3, 2 * count - 2):
                ours = pebbles.Pebbles(at, SALT, stones(keys, at, bits), 2 * count - 1)
                out = bytearray(20)
                while not ours.is_over:
                    counted[0] = 0
                    ours.next(out, 2)
                    assert out[2:18] == keys[ours.at]
                    assert counted[0] <= bits and len(ours._keys) <= bits
                assert ours.at == 2 * count - 1
    finally:
        pebbles.Step.back = real


def test_a_long_one():
    """2^11 keys: at most 11 hashes for each, and half as many on average."""
    bits = 11
    keys = chain(0, 2 << bits)
    ours = pebbles.Pebbles(0, SALT, stones(keys, 0, bits), (1 << bits) - 1)
    counted, real = hash_counted()
    most = total = 0
    out = bytearray(16)
    try:
        while not ours.is_over:
            counted[0] = 0
            ours.next(out, 0)
            total += counted[0]
            most = max(most, counted[0])
    finally:
        pebbles.Step.back = real
    assert out == keys[(1 << bits) - 1] and most <= 11 and total < 5 << bits


def test_wiped():
    keys = stones(chain(8, 16), 8, 3)
    ours = pebbles.Pebbles(8, SALT, keys, 15)
    ours.next(bytearray(16), 0)
    ours.wipe()
    assert not any([any(key) for key in keys]) and not any(ours._step.octets)
