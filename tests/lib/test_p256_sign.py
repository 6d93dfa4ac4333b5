"""ECDSA signing on P-256: the vectors of RFC 6979, and what must differ from one signature to the
next.
"""

from covey.job import finish
from covey.p256 import Verifier
from covey.p256_sign import derived, point_job, sign_job
from covey.port import random_bytes, sha256

_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

# RFC 6979 section A.2.5, with SHA-256: https://www.rfc-editor.org/rfc/rfc6979#appendix-A.2.5
_KEY = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"
_X = "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
_Y = "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
_SIGNED = (
    (
        b"sample",
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    ),
    (
        b"test",
        "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
        "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
    ),
)


def _not_fresh(n):
    """RFC 6979's own nonces: without the random octets of section 3.6."""
    return b"" if n == 32 else random_bytes(n)


def _number(text):
    return int.from_bytes(bytes.fromhex(text), "big")


def test_vectors():
    key = bytes.fromhex(_KEY)
    assert finish(point_job(key)) == b"\x04" + bytes.fromhex(_X + _Y)
    for message, r, s in _SIGNED:
        found = finish(sign_job(key, sha256(message).digest(), _not_fresh))
        assert found == (_number(r), _number(s))


def test_no_nonce_comes_twice():
    key = bytes.fromhex(_KEY)
    digest = sha256(b"sample").digest()
    verifier = Verifier(finish(point_job(key)))
    seen = set()
    for _ in range(4):
        r, s = finish(sign_job(key, digest))
        assert finish(verifier.verify(digest, r, s)) is True
        seen.add(r)
    assert len(seen) == 4 and _number(_SIGNED[0][1]) not in seen


def test_without_chance_no_nonce_serves_two_messages():
    """A random generator that always says the same."""
    key = bytes.fromhex(_KEY)
    verifier = Verifier(finish(point_job(key)))
    seen = set()
    for n in range(4):
        digest = sha256(bytes([n])).digest()
        r, s = finish(sign_job(key, digest, lambda length: b"\x55" * length))
        assert finish(verifier.verify(digest, r, s)) is True
        seen.add(r)
    assert len(seen) == 4


def test_keys_and_digests_at_the_edges():
    for number in (1, 2, _N - 2, _N - 1):
        key = number.to_bytes(32, "big")
        verifier = Verifier(finish(point_job(key)))
        for digest in (bytes(32), b"\xff" * 32, _N.to_bytes(32, "big")):
            r, s = finish(sign_job(key, digest))
            assert 0 < r < _N and 0 < s < _N
            assert finish(verifier.verify(digest, r, s)) is True


def test_a_derived_key_hangs_on_secret_and_label():
    keys = [bytes(derived(bytes([n]) * 32, label)) for n in (1, 2) for label in (b"a", b"b")]
    assert len(set(keys)) == 4
    assert all([len(key) == 32 and 0 < int.from_bytes(key, "big") < _N for key in keys])
    assert bytes(derived(b"\x01" * 32, b"a")) == keys[0]


def test_a_digest_has_32_octets():
    for n in (0, 31, 33):
        try:
            finish(sign_job(bytes.fromhex(_KEY), bytes(n)))
        except ValueError:
            continue
        raise AssertionError(n)


def test_it_gives_way():
    """As often as a verification does: about two steps to each operation on points."""
    steps = 0
    for _ in sign_job(bytes.fromhex(_KEY), bytes(32)):
        steps += 1
    assert 250 < steps < 700
