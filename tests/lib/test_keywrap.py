"""AES key wrap with padding: NIST's vectors for 128 and 256 bits, and what must not open.

MicroPython's AES has no 192-bit keys: RFC 5649's own two examples use one, so they are checked
in tests/host/test_crypto_peers.py.
"""

from covey import keywrap
from covey.job import finish
from covey.keywrap import unwrap, unwrap_job, wrap
from covey.port import AESBlock
from vectors import load

_KEK = bytes(range(16))


def _forge(mli, data, check=b"\xa6\x59\x59\xa6"):
    """Octets that decipher to check | mli | data, whatever these are: RFC 3394 by its figure."""
    aes = AESBlock(_KEK)
    a = check + mli.to_bytes(4, "big")
    r = [data[i : i + 8] for i in range(0, len(data), 8)]
    if len(r) == 1:
        return aes.encrypt(a + data)
    for j in range(6):
        for i in range(len(r)):
            b = aes.encrypt(a + r[i])
            t = len(r) * j + i + 1
            a = b[:6] + bytes((b[6] ^ t >> 8, b[7] ^ t & 0xFF))
            r[i] = b[8:]
    return a + b"".join(r)


def test_kwp_vectors():
    failed = 0
    for v in load("kwp"):
        kek, wrapped = bytes.fromhex(v["k"]), bytes.fromhex(v["c"])
        if v["p"] is None:
            failed += 1
            assert unwrap(kek, wrapped) is None
        else:
            key = bytes.fromhex(v["p"])
            assert wrap(kek, key) == wrapped
            assert unwrap(kek, wrapped) == key
    assert failed > 100


def test_every_length_both_ways():
    for n in list(range(1, 66)) + [512]:
        key = bytes([(7 * n + i) & 0xFF for i in range(n)])
        wrapped = wrap(_KEK, memoryview(key))
        assert len(wrapped) == (n + 7) // 8 * 8 + 8
        opened = unwrap(_KEK, memoryview(wrapped))
        assert isinstance(opened, bytearray) and opened == key


def test_one_bit_changed_anywhere():
    for n in (1, 8, 9, 36):
        good = wrap(_KEK, bytes(n))
        for i in range(len(good) * 8):
            bad = bytearray(good)
            bad[i >> 3] ^= 1 << (i & 7)
            assert unwrap(_KEK, bad) is None
        assert unwrap(bytes(16), good) is None


def test_message_length_indicator():
    data = b"\1\2\3\0\0\0\0\0"
    assert unwrap(_KEK, _forge(3, data)) == b"\1\2\3"
    assert unwrap(_KEK, _forge(8, data)) == data
    for mli in (0, 9, 16, 3 + 0x100, 3 + 0x10000, 3 + 0x1000000, 0xFFFFFFFB, 0xFFFF):
        assert unwrap(_KEK, _forge(mli, data)) is None, mli
    data = bytes(24)
    for mli in range(40):
        opened = unwrap(_KEK, _forge(mli, data))
        assert opened == (bytes(mli) if 16 < mli <= 24 else None), mli


def test_padding_is_zero():
    for n in range(1, 8):
        for i in range(n, 8):
            data = bytearray(8)
            data[i] = 0x80
            assert unwrap(_KEK, _forge(n, bytes(data))) is None
        key = b"\xff" * n
        assert unwrap(_KEK, _forge(n, key + bytes(8 - n))) == key
        key = b"\xff" * (8 + n)
        assert unwrap(_KEK, _forge(8 + n, key + bytes(8 - n))) == key
        assert unwrap(_KEK, _forge(8 + n, key + bytes(7 - n) + b"\1")) is None


def test_check_value():
    for i in range(4):
        check = bytearray(b"\xa6\x59\x59\xa6")
        check[i] ^= 1
        assert unwrap(_KEK, _forge(8, bytes(8), bytes(check))) is None
    # RFC 3394's own initial value is another algorithm
    assert unwrap(_KEK, AESBlock(_KEK).encrypt(b"\xa6" * 8 + bytes(8))) is None


def test_lengths_that_cannot_be():
    for n in (0, 1, 7, 8, 15, 17, 20, 23, 4096 + 16):
        assert unwrap(_KEK, bytes(n)) is None
    assert unwrap(_KEK, b"\xa6\x59\x59\xa6\0\0\0\0") is None  # no key at all
    for n in range(1, 8):
        assert unwrap(_KEK, wrap(_KEK, bytes(40)) + bytes(n)) is None
    assert unwrap(_KEK, _forge(4096, bytes(4096))) == bytes(4096)
    assert unwrap(_KEK, _forge(4104, bytes(4104))) is None
    for n in (0, 4097):
        try:
            wrap(_KEK, bytes(n))
            raise AssertionError(f"wrapped a key of {n} octets")
        except ValueError:
            pass


def test_it_gives_way():
    for n, steps in ((1, 1), (8, 1), (9, 3), (36, 7), (68, 11)):
        wrapped = wrap(_KEK, bytes(n))
        assert finish(unwrap_job(_KEK, wrapped)) == bytes(n)
        assert sum(1 for _ in unwrap_job(_KEK, wrapped)) == steps
    assert sum(1 for _ in unwrap_job(_KEK, b"short")) == 0


def test_clear_octets_are_wiped_however_a_job_ends():
    wiped, kept = [], keywrap.wipe

    def wipe(buf):
        wiped.append(len(buf))
        kept(buf)

    wrapped = wrap(_KEK, b"k" * 36)
    bad = wrapped[:-1] + b"?"
    keywrap.wipe = wipe
    try:
        for octets, ends in ((wrapped, True), (bad, True), (wrapped, False)):
            wiped.clear()
            job = unwrap_job(_KEK, octets)
            if ends:
                finish(job)
            else:
                next(job)  # the cipher is made
                next(job)
                job.close()
            assert sorted(wiped) == [16, 48], wiped
    finally:
        keywrap.wipe = kept
