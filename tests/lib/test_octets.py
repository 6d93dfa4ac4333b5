"""Integers at an offset, comparison, wiping."""

from covey.octets import equal, u16, u32, wipe


def test_u16():
    buf = bytes([0xFF, 0x12, 0x34, 0xFF])
    assert u16(buf, 1) == 0x1234
    assert u16(bytearray(buf), 2) == 0x34FF
    assert u16(memoryview(buf), 0) == 0xFF12


def test_u32():
    buf = bytes([0xFF, 0x80, 0x00, 0x00, 0x01, 0xFF])
    assert u32(buf, 1) == 0x80000001  # no small int on a board
    assert u32(buf, 0) == 0xFF800000
    assert u32(bytes(4), 0) == 0


def test_equal_finds_a_difference_anywhere():
    a = bytes(range(16))
    assert equal(a, bytearray(a))
    assert equal(b"", b"")
    for at in range(16):
        for bit in range(8):
            b = bytearray(a)
            b[at] ^= 1 << bit
            assert not equal(a, b)
            assert not equal(b, a)


def test_equal_wants_equal_lengths():
    assert not equal(b"abc", b"abcd")
    assert not equal(b"abcd", b"abc")
    assert not equal(b"", b"\0")


class Counting:
    """Octets that count how often they are read."""

    def __init__(self, octets):
        self.octets = octets
        self.reads = 0

    def __len__(self):
        return len(self.octets)

    def __getitem__(self, i):
        self.reads += 1
        return self.octets[i]


def test_equal_always_looks_at_all():
    for wrong in (bytes(16), b"\1" + bytes(15), bytes(15) + b"\1", b"\1" * 16):
        a = Counting(wrong)
        equal(a, bytes(16))
        assert a.reads == 16


def test_wipe():
    secret = bytearray(b"secret")
    wipe(secret)
    assert secret == bytes(6)
    whole = bytearray(b"keep secret keep")
    wipe(memoryview(whole)[5:11])
    assert whole == b"keep \0\0\0\0\0\0 keep"
    wipe(bytearray())
