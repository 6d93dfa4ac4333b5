"""PRF_HMAC_SHA2_256 and prf+ against RFC 4231 and the published IKEv2 key derivations."""

from covey.prf import prf, prf_plus
from vectors import load


def _unhex(vector):
    return {name: bytes.fromhex(vector[name]) for name in vector}


def test_hmac_vectors():
    for vector in load("hmac"):
        v = _unhex(vector)
        assert prf(v["key"], v["msg"]) == v["md"]


def test_chunks_are_joined():
    whole = bytes(range(200))
    for cut in (0, 1, 63, 64, 65, 128, 200):
        parts = prf(b"key", whole[:cut], memoryview(whole)[cut:], bytearray())
        assert parts == prf(b"key", whole)


def test_key_lengths_around_one_block():
    # RFC 2104: a key up to 64 octets is padded with zeros, a longer one is hashed first.
    from covey.port import sha256

    assert prf(bytes(64), b"x") == prf(b"", b"x")
    assert prf(b"k" * 63 + b"\0", b"x") == prf(b"k" * 63, b"x")
    assert prf(b"k" * 65, b"x") == prf(sha256(b"k" * 65).digest(), b"x")
    assert prf(b"k" * 64, b"x") != prf(sha256(b"k" * 64).digest(), b"x")


def test_ikev2_key_derivation():
    # RFC 7296 section 2.14, 2.17 and 2.18
    for vector in load("ikev2_kdf"):
        v = _unhex(vector)
        nonces = v["ni"] + v["nr"]
        assert prf(nonces, v["g_ir"]) == v["skeyseed"]
        dkm = prf_plus(v["skeyseed"], nonces + v["spi_i"] + v["spi_r"], len(v["dkm"]))
        assert dkm == v["dkm"]
        sk_d = dkm[:32]
        assert prf_plus(sk_d, nonces, len(v["dkm_child"])) == v["dkm_child"]
        assert prf(sk_d, v["g_ir_new"], nonces) == v["skeyseed_rekey"]


def test_prf_plus_lengths():
    longest = prf_plus(b"key", b"seed", 8160)
    for n in (0, 1, 31, 32, 33, 64, 100, 8160):
        out = prf_plus(b"key", b"seed", n)
        assert isinstance(out, bytearray)
        assert len(out) == n and out == longest[:n]
    try:
        prf_plus(b"key", b"seed", 8161)
        raise AssertionError("prf+ went beyond 255 blocks")
    except ValueError:
        pass
