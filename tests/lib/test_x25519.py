"""X25519 against RFC 7748, and the points that must be refused or accepted by it."""

from covey import x25519
from covey.job import finish
from covey.x25519 import BASE, multiply
from vectors import load

_P = 2**255 - 19
_SCALAR = bytes(range(1, 33))


def _octets(u):
    return u.to_bytes(32, "little")


def _multiply(scalar, u):
    return finish(multiply(scalar, u))


def test_rfc_vectors():
    for v in load("x25519"):
        out = _multiply(bytes.fromhex(v["scalar"]), bytes.fromhex(v["u"]))
        assert isinstance(out, bytearray) and out == bytes.fromhex(v["out"])


def test_iterated():
    v = load("x25519_more")[0]
    k = u = BASE
    for i in range(1000):
        k, u = bytes(_multiply(k, u)), k
        if i == 0:
            assert k == bytes.fromhex(v["iterated_1"])
    assert k == bytes.fromhex(v["iterated_1000"])


def test_key_exchange():
    v = load("x25519_more")[0]
    a, b = bytes.fromhex(v["a"]), bytes.fromhex(v["b"])
    a_public, b_public = _multiply(a, BASE), _multiply(b, BASE)
    assert a_public == bytes.fromhex(v["a_public"])
    assert b_public == bytes.fromhex(v["b_public"])
    assert _multiply(a, b_public) == _multiply(b, a_public) == bytes.fromhex(v["shared"])


def test_points_of_small_order_are_refused():
    # RFC 7748 section 6.1; the orders 1, 2, 4 and 8, on the curve and on its twist, each also in
    # its non-canonical form and with the highest bit set.
    eight = 0xB8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0
    other = 0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F
    for u in (0, 1, _P - 1, _P, _P + 1, eight, other):
        for top in (0, 1 << 255):
            assert _multiply(_SCALAR, _octets(u | top)) is None, u
            assert _multiply(BASE, _octets(u | top)) is None, u


def test_non_canonical_u_is_taken_modulo_p():
    # Section 5: values from p to 2^255 - 1 are accepted, as their remainder.
    for u in (2, 3, 9, 18):
        assert _multiply(_SCALAR, _octets(_P + u)) == _multiply(_SCALAR, _octets(u))


def test_highest_bit_of_u_is_masked():
    assert _multiply(_SCALAR, _octets(9 | 1 << 255)) == _multiply(_SCALAR, BASE)
    assert _multiply(_SCALAR, b"\xff" * 32) == _multiply(_SCALAR, _octets(2**255 - 1))


def test_scalar_is_clamped_and_left_alone():
    scalar = bytearray(_SCALAR)
    expected = _multiply(scalar, BASE)
    assert scalar == _SCALAR
    for i, bits in ((0, 0x07), (31, 0x80)):
        for bit in (1, 2, 4, 128):
            if bits & bit:
                changed = bytearray(scalar)
                changed[i] ^= bit
                assert _multiply(changed, BASE) == expected
    set_already = bytearray(scalar)
    set_already[31] |= 64
    assert _multiply(set_already, BASE) == expected
    scalar[0] ^= 8
    assert _multiply(scalar, BASE) != expected


def test_buffers_of_every_kind():
    expected = _multiply(_SCALAR, BASE)
    assert _multiply(bytearray(_SCALAR), bytearray(BASE)) == expected
    assert _multiply(memoryview(_SCALAR), memoryview(BASE)) == expected


def test_other_lengths_of_u_are_refused():
    for n in (0, 1, 31, 33, 64):
        assert _multiply(_SCALAR, bytes(n)) is None
        assert _multiply(_SCALAR, b"\x09" * n) is None


def test_it_gives_way_after_every_bit():
    steps = 0
    for _ in multiply(_SCALAR, BASE):
        steps += 1
    assert steps >= 255 + 8


def test_two_jobs_side_by_side():
    jobs = [multiply(_SCALAR, BASE), multiply(BASE, BASE)]
    results = [None, None]
    while None in results:
        for i in range(2):
            if results[i] is None:
                try:
                    next(jobs[i])
                except StopIteration as end:
                    results[i] = end.value
    assert results == [_multiply(_SCALAR, BASE), _multiply(BASE, BASE)]


def test_the_scalar_is_wiped_where_a_job_ends_or_is_dropped():
    wiped, kept = [], x25519.wipe

    def wipe(buf):
        wiped.append(bytes(buf))
        kept(buf)
        assert buf == bytes(32)

    x25519.wipe = wipe
    try:
        finish(multiply(_SCALAR, BASE))
        dropped = multiply(_SCALAR, BASE)
        for _ in range(600):  # behind what tidies the heap at first, of 1,000 and more
            next(dropped)
        dropped.close()
    finally:
        x25519.wipe = kept
    clamped = bytes((_SCALAR[0] & 248,)) + _SCALAR[1:31] + bytes((_SCALAR[31] | 64,))
    assert wiped == [clamped, clamped]
