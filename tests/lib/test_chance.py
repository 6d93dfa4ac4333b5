"""What is drawn where the system's generator is dead, and where it lives."""

from covey import port
from covey.port import chance


class Generator:
    """In place of the system's: `octets` again and again."""

    def __init__(self, octets=b"\0"):
        self.octets = octets

    def __call__(self, n):
        return (self.octets * n)[:n]


def drawn(*seeds, generator=None, lengths=(32, 32)):
    """What comes after a start with these seeds; generator None: the system's."""
    system, pool, stirred = chance.urandom, bytes(chance._pool), chance._is_stirred
    try:
        chance._pool[:] = bytes(32)
        chance._is_stirred = False
        chance.urandom = generator or system
        for seed in seeds:
            port.stir(seed)
        return [port.random_bytes(n) for n in lengths]
    finally:
        chance.urandom, chance._is_stirred = system, stirred
        chance._pool[:] = pool


def test_without_a_seed_it_is_the_system_s():
    assert drawn(generator=Generator(b"\5"), lengths=(3,)) == [b"\5\5\5"]


def test_a_dead_generator_and_a_seed():
    first, second = drawn(b"a" * 32, generator=Generator())
    assert first != second
    assert [first, second] == drawn(b"a" * 32, generator=Generator())
    assert first not in drawn(b"b" * 32, generator=Generator())
    assert first not in drawn(b"a" * 32, b"", generator=Generator())  # each stir counts


def test_a_live_generator_and_a_known_seed():
    assert drawn(b"a" * 32)[0] not in drawn(b"a" * 32)
    assert drawn(b"a" * 32, generator=Generator()) != drawn(b"a" * 32, generator=Generator(b"\1"))


def test_any_length():
    whole = drawn(b"a", generator=Generator(), lengths=(0, 1, 31, 32, 33, 100))
    assert [len(octets) for octets in whole] == [0, 1, 31, 32, 33, 100]
    long = whole[-1]
    assert len({bytes(long[i : i + 32]) for i in (0, 32, 64)}) == 3
    assert len(set(whole)) == 6


def test_the_pool_is_not_what_was_drawn():
    """Whoever reads the pool afterwards finds nothing of it, nor of the seed."""
    seed = b"s" * 32
    pools = []

    class Spy(Generator):
        def __call__(self, n):
            pools.append(bytes(chance._pool))
            return bytes(n)

    out = drawn(seed, generator=Spy())
    assert len(set(pools)) == len(pools) == 3
    assert not set(pools) & set(out) and seed not in pools
