"""ECDSA verification on P-256: NIST's vectors, keys that are none, and the additions that a
signer can force into their exceptional cases.
"""

import gc

from covey.job import finish
from covey.modinv import inverse
from covey.p256 import Verifier, comb_table
from covey.p256_base import BASE_TABLE
from covey.port import sha256
from vectors import load

_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
_GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5
# Points at the edges: x = 0, x = 5, y = 5, and x = n + 3, which as a signature's r is 3.
_ZERO_Y = 0x66485C780E2F83D72433BD5D84A06BB6541C2AF31DAE871728BF856A174F93F4
_FIVE_X = 0xD7325D7646CD60D80A92738CEB345F844CFFAF35841022CAB176F692DE8DE1D7
_WIDE_Y = 0x484F0C0FDA434EF0A808458914F328715D7A545E198AC7EEE31DFFE861B5D23F
_FIVE_Y = 0x459243B9AA581806FE913BCE99817ADE11CA503C64D9A3C533415C083248FBCC


def _octets(value):
    return value.to_bytes(32, "big")


def _point(x, y):
    return b"\x04" + _octets(x) + _octets(y)


def _verify(point, digest, r, s):
    return finish(Verifier(point).verify(digest, r, s))


def _is_refused(octets):
    try:
        Verifier(octets)
    except ValueError:
        return True
    return False


def test_signature_vectors():
    seen = {True: 0, False: 0}
    for v in load("p256_verify"):
        point = b"\x04" + bytes.fromhex(v["qx"] + v["qy"])
        digest = sha256(bytes.fromhex(v["msg"])).digest()
        assert _verify(point, digest, int(v["r"], 16), int(v["s"], 16)) is v["valid"]
        seen[v["valid"]] += 1
    assert seen[True] > 15 and seen[False] > 10


def test_point_vectors():
    for v in load("p256_points"):
        x, y = (("0" * (len(v[name]) & 1) + v[name]) for name in ("qx", "qy"))
        assert _is_refused(b"\x04" + bytes.fromhex(x + y)) is not v["valid"]


def test_base_table_is_the_comb_of_the_base_point():
    table = bytearray(1024)
    finish(comb_table(_GX, _GY, table))
    assert table == BASE_TABLE


def test_a_table_takes_little_heap_while_it_is_made():
    if not hasattr(gc, "mem_alloc"):  # CPython
        return
    gc.collect()
    before = most = gc.mem_alloc()
    for _ in comb_table(_GX, _GY, bytearray(1024)):
        gc.collect()
        most = max(most, gc.mem_alloc())
    assert most - before < 6144  # on 32 bits 4,304; with integers in lists it was 15,408


def test_points_that_are_refused():
    assert not _is_refused(_point(_GX, _GY))
    assert not _is_refused(bytearray(_point(_GX, _GY)))
    assert not _is_refused(memoryview(_point(_GX, _P - _GY)))
    good = _point(_GX, _GY)
    for bad in (
        b"",
        b"\x00",  # infinity, SEC 1 section 2.3.3
        b"\x00" + bytes(64),
        b"\x04" + bytes(64),
        good[:-1],
        good + b"\0",
        b"\x03" + good[1:33],  # compressed
        b"\x02" + good[1:],
        b"\x06" + good[1:],  # hybrid
        b"\x07" + good[1:],
        b"\x05" + good[1:],
        _point(_GX, _GY ^ 1),
        _point(_GX ^ 1, _GY),
        _point(_GY, _GX),
        b"\xff" * 65,
        b"\x04" + b"\xff" * 64,
    ):
        assert _is_refused(bad), bad


def test_coordinates_from_p_on_are_refused():
    assert not _is_refused(_point(0, _ZERO_Y))
    assert _is_refused(_point(_P, _ZERO_Y))
    assert not _is_refused(_point(5, _FIVE_Y))
    assert _is_refused(_point(5 + _P, _FIVE_Y))
    assert not _is_refused(_point(_FIVE_X, 5))
    assert _is_refused(_point(_FIVE_X, 5 + _P))


def test_r_and_s_out_of_range():
    # d = 1 and k = 1: r = Gx and s = e + r sign any e.
    digest = sha256(b"range").digest()
    r = _GX
    s = (int.from_bytes(digest, "big") + r) % _N
    verifier = Verifier(_point(_GX, _GY))
    assert finish(verifier.verify(digest, r, s)) is True
    assert finish(verifier.verify(digest, r, _N - s)) is True  # both are signatures in ECDSA
    for bad in (0, -1, _N, _N + 1, 2**256 - 1, 2**256, 2**4000, -(2**4000)):
        assert finish(verifier.verify(digest, bad, s)) is False
        assert finish(verifier.verify(digest, r, bad)) is False
        assert finish(verifier.verify(digest, bad, bad)) is False
    for off in (_N, -_N, 2**256):
        assert finish(verifier.verify(digest, r + off, s)) is False
        assert finish(verifier.verify(digest, r, s + off)) is False
    for near in (1, _N - 1):
        assert finish(verifier.verify(digest, near, s)) is False
        assert finish(verifier.verify(digest, r, near)) is False


def test_one_bit_changed_anywhere():
    digest = sha256(b"bits").digest()
    r = _GX
    s = (int.from_bytes(digest, "big") + r) % _N
    verifier = Verifier(_point(_GX, _GY))
    for i in range(0, 256, 5):
        bad = bytearray(digest)
        bad[i >> 3] ^= 1 << (i & 7)
        assert finish(verifier.verify(bad, r, s)) is False
        assert finish(verifier.verify(digest, r ^ 1 << i, s)) is False
        assert finish(verifier.verify(digest, r, s ^ 1 << i)) is False


def test_same_points_are_added():
    # Key d = 1 (the base point itself), k = 1, e = r: u1 = u2, so each column adds a point to
    # itself where the sum so far is infinite.
    assert _verify(_point(_GX, _GY), _octets(_GX), _GX, 2 * _GX % _N) is True
    assert _verify(_point(_GX, _GY), _octets(_GX), _GX, (2 * _GX + 1) % _N) is False


def test_opposite_points_are_added():
    # d = -1, k = 1, e = -r: s = -2 r, u1 = -u2.
    e = _octets(_N - _GX)
    assert _verify(_point(_GX, _P - _GY), e, _GX, -2 * _GX % _N) is True
    # d = 1, e = -r: u1 * G + u2 * Q is infinity whatever s is: no signature.
    for s in (1, 2, _GX, _N - 1):
        assert _verify(_point(_GX, _GY), e, _GX, s) is False
        assert _verify(_point(_GX, _P - _GY), _octets(_GX), _GX, s) is False


def test_sums_that_vanish_on_the_way():
    # d = -1, u1 = 1, u2 = 3: all columns but the last are opposites; the sum is -2 G.
    x = 0x7CF27B188D034F7E8A52380304B51AC3C08969E277F21B35A60B48FC47669978
    s = x * finish(inverse(3, _N)) % _N
    assert _verify(_point(_GX, _P - _GY), _octets(s), x, s) is True


def test_digests_of_zero_and_beyond_n():
    # d = 1, k = 1: s = e + r, where e = 0 makes u1 = 0; digests count modulo n.
    verifier = Verifier(_point(_GX, _GY))
    for digest, e in ((0, 0), (_N, 0), (_N + 1, 1), (2**256 - 1, 2**256 - 1 - _N), (1, 1)):
        assert finish(verifier.verify(_octets(digest), _GX, (e + _GX) % _N)) is True
        assert finish(verifier.verify(_octets(digest), _GX, (e + _GX + 1) % _N)) is False


def test_abscissa_beyond_n():
    # e = 0 and s = r make the sum Q itself, whose x = n + 3 is 3 modulo n.
    assert _verify(_point(_N + 3, _WIDE_Y), bytes(32), 3, 3) is True
    assert _verify(_point(_N + 3, _WIDE_Y), bytes(32), 4, 4) is False
    assert _verify(_point(5, _FIVE_Y), bytes(32), 5, 5) is True  # r + n < p, but x is r itself
    r = 5 + _P - _N  # r + n is 5 modulo p, yet no x
    assert _verify(_point(5, _FIVE_Y), bytes(32), r, r) is False


def test_small_scalars():
    # u1 = e / s and u2 = r / s of one and n - 1, odd and even.
    verifier = Verifier(_point(_GX, _GY))
    for k, x in ((1, _GX), (_N - 1, _GX)):
        for e in (1, 2, 3, _N - 1, _N - 2):
            s = (e + x) * (1 if k == 1 else -1) % _N
            assert finish(verifier.verify(_octets(e), x, s)) is True


def test_digest_has_32_octets():
    verifier = Verifier(_point(_GX, _GY))
    for n in (0, 20, 31, 33, 48):
        is_taken = True
        try:
            finish(verifier.verify(bytes(n), 1, 1))
        except AssertionError:
            is_taken = False
        assert not is_taken, n


def test_it_gives_way():
    verifier = Verifier(_point(_GX, _GY))
    prepared = sum(1 for _ in verifier.prepare())
    assert prepared >= 208 + 60  # doublings, and additions in two halves
    assert sum(1 for _ in verifier.prepare()) == 0
    again = sum(1 for _ in verifier.verify(sha256(b"way").digest(), 1, 5))
    assert again >= 51 + 2 * 103


def test_a_refused_range_costs_nothing():
    verifier = Verifier(_point(_GX, _GY))
    assert sum(1 for _ in verifier.verify(bytes(32), 0, 1)) == 0
