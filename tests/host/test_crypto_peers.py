"""The member's own cryptography against the package `cryptography`, on random and odd inputs."""

import hmac

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import keywrap as peer_keywrap
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from covey import der, keywrap, modinv, p256, prf, x25519
from covey.job import finish
from vectors import load

_P25519 = 2**255 - 19
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256 = ec.ECDSA(utils.Prehashed(hashes.SHA256()))

octets32 = st.binary(min_size=32, max_size=32)
# Numbers modulo n: any, and those whose digits are all alike at an end.
scalars = st.one_of(
    st.integers(1, _N - 1),
    st.integers(1, 40),
    st.integers(1, 40).map(lambda k: _N - k),
    st.builds(lambda k, at: (k << at) % _N or 1, st.integers(1, 31), st.integers(0, 255)),
)


def _point(private):
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _peer_verifies(public, digest, r, s):
    try:
        public.verify(utils.encode_dss_signature(r, s), digest, _SHA256)
    except InvalidSignature:
        return False
    return True


@given(st.integers(0, _P), st.sampled_from((_P, _N, _P25519)))
def test_inverse(a, p):
    b = finish(modinv.inverse(a, p))
    assert b == (pow(a, -1, p) if a % p else 0)


@given(octets32, octets32)
@example(bytes(32), bytes(32))
@example(b"\xff" * 32, b"\xff" * 32)
def test_x25519(scalar, u):
    # A value and its top bit: u has 255 bits.
    for value in (u, bytes(31 * [0xFF]) + u[:1], u[:1] + bytes(31)):
        try:
            expected = X25519PrivateKey.from_private_bytes(scalar).exchange(
                X25519PublicKey.from_public_bytes(value)
            )
        except ValueError:  # all zeros
            expected = None
        assert finish(x25519.multiply(scalar, value)) == expected


@given(octets32)
def test_x25519_public_value(scalar):
    public = X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()
    assert finish(x25519.multiply(scalar, x25519.BASE)) == public


@given(scalars, octets32, st.data())
def test_p256_signatures_of_the_peer(d, digest, data):
    private = ec.derive_private_key(d, ec.SECP256R1())
    signature = private.sign(digest, _SHA256)
    r, s = der.parse_ecdsa(signature)
    assert (r, s) == utils.decode_dss_signature(signature)
    verifier = p256.Verifier(_point(private))
    assert finish(verifier.verify(digest, r, s)) is True
    assert finish(verifier.verify(digest, r, _N - s)) is True
    turned = 1 << data.draw(st.integers(0, 255))
    for bad in ((r ^ turned, s), (r, s ^ turned), (s, r), (_N - r, s)):
        assert finish(verifier.verify(digest, *bad)) is _peer_verifies(
            private.public_key(), digest, *bad
        )


@given(scalars, scalars, scalars)
@example(1, 1, 1)
@example(_N - 1, 1, _N - 1)
def test_p256_with_chosen_scalars(d, k, e):
    """d, k and the digest are the attacker's: sums meet themselves and their opposites."""
    private = ec.derive_private_key(d, ec.SECP256R1())
    kx = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers().x
    verifier = p256.Verifier(_point(private))
    for value, r in ((e, kx % _N), (kx % _N, kx % _N), (-kx * d % _N, kx % _N), (0, kx % _N)):
        digest = value.to_bytes(32, "big")
        s = (value + r * d) * pow(k, -1, _N) % _N
        for s_given in (s, e, 1):
            if 0 < s_given < _N:
                assert finish(verifier.verify(digest, r, s_given)) is _peer_verifies(
                    private.public_key(), digest, r, s_given
                )
        if s:
            assert finish(verifier.verify(digest, r, s)) is True


@given(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
@example(0, 0)
@example(_P, 0x66485C780E2F83D72433BD5D84A06BB6541C2AF31DAE871728BF856A174F93F4)
def test_p256_points_off_the_curve(x, y):
    point = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        with pytest.raises(ValueError):
            p256.Verifier(point)
    else:
        p256.Verifier(point)


@given(scalars)
def test_spki(d):
    private = ec.derive_private_key(d, ec.SECP256R1())
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert der.parse_spki(spki) == _point(private)
    assert der.emit_spki(_point(private)) == spki


@given(st.integers(0, 2**264 - 1), st.integers(0, 2**256 - 1), st.data())
def test_ecdsa_der(r, s, data):
    encoded = utils.encode_dss_signature(r, s)
    widest = r < 2**263  # 33 octets
    assert der.parse_ecdsa(encoded) == ((r, s) if widest else None)
    changed = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 2))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        expected = utils.decode_dss_signature(bytes(changed))
    except ValueError:
        expected = None
    found = der.parse_ecdsa(changed)
    if found is not None or (expected and all(0 <= value < 2**256 for value in expected)):
        assert found == expected


@given(st.sampled_from((16, 32)).flatmap(lambda n: st.binary(min_size=n, max_size=n)), st.data())
def test_keywrap(kek, data):
    key = data.draw(st.binary(min_size=1, max_size=80))
    wrapped = keywrap.wrap(kek, key)
    assert wrapped == peer_keywrap.aes_key_wrap_with_padding(kek, key)
    assert keywrap.unwrap(kek, wrapped) == key
    changed = bytearray(wrapped)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    assert keywrap.unwrap(kek, changed) is None
    assert keywrap.unwrap(kek, wrapped[:-8]) is None
    # RFC 3394 without padding is another algorithm
    if len(key) % 8 == 0 and len(key) >= 16:
        assert keywrap.unwrap(kek, peer_keywrap.aes_key_wrap(kek, key)) is None


def test_keywrap_with_192_bits():
    """RFC 5649 section 6 and NIST's vectors: MicroPython's AES has no keys of this length."""
    vectors = load("kwp_192")
    rfc = [v for v in vectors if v["c"].startswith(("138bdeaa9b8f", "afbeb0f07dfb"))]
    assert len(rfc) == 2
    for v in vectors:
        kek, wrapped = bytes.fromhex(v["k"]), bytes.fromhex(v["c"])
        if v["p"] is None:
            assert keywrap.unwrap(kek, wrapped) is None
        else:
            assert keywrap.wrap(kek, bytes.fromhex(v["p"])) == wrapped
            assert keywrap.unwrap(kek, wrapped) == bytes.fromhex(v["p"])


@given(st.binary(max_size=200), st.lists(st.binary(max_size=100), max_size=4))
def test_prf(key, chunks):
    assert prf.prf(key, *chunks) == hmac.digest(key, b"".join(chunks), "sha256")


@given(st.binary(min_size=1, max_size=100), st.binary(max_size=100), st.integers(1, 8160))
def test_prf_plus(key, seed, n):
    """prf+ is what RFC 5869 calls HKDF-Expand."""
    expected = HKDFExpand(algorithm=hashes.SHA256(), length=n, info=seed).derive(key)
    assert prf.prf_plus(key, seed, n) == expected
