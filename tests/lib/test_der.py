"""DER of P-256 keys and signatures: one valid form each, everything else refused."""

from covey.der import ECDSA_WITH_SHA256, emit_spki, parse_ecdsa, parse_spki

_POINT = b"\x04" + bytes(range(64))

# RFC 6979 section A.2.5 gives (r, s) for SHA-256 and "sample"; its DER is laid by hand here.
_R = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
_S = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"


def _integer(octets):
    return b"\x02" + bytes((len(octets),)) + octets


def _sequence(*parts):
    body = b"".join(parts)
    return b"\x30" + bytes((len(body),)) + body


def test_spki_both_ways():
    data = emit_spki(_POINT)
    assert len(data) == 91
    assert parse_spki(data) == _POINT
    assert parse_spki(bytearray(data)) == _POINT
    assert parse_spki(memoryview(data)) == _POINT


def test_spki_refused():
    data = emit_spki(_POINT)
    assert parse_spki(b"") is None
    assert parse_spki(data[:-1]) is None
    assert parse_spki(data + b"\0") is None
    for i in range(27):  # every octet before the coordinates is fixed
        bad = bytearray(data)
        bad[i] ^= 1
        assert parse_spki(bad) is None
    # a compressed point, with lengths that fit
    assert parse_spki(b"\x30\x39" + data[2:24] + b"\x22\x00\x02" + bytes(32)) is None
    # the point at infinity: one octet of zero
    assert parse_spki(b"\x30\x19" + data[2:24] + b"\x02\x00\x00") is None


def test_ecdsa():
    r, s = bytes.fromhex(_R), bytes.fromhex(_S)
    data = bytes.fromhex("3046022100" + _R + "022100" + _S)
    assert len(data) == 72
    assert parse_ecdsa(data) == (int(_R, 16), int(_S, 16))
    assert parse_ecdsa(memoryview(data)) == (int(_R, 16), int(_S, 16))
    # 70 octets: neither needs a zero in front
    low = _sequence(_integer(b"\x7f" + r[1:]), _integer(b"\x01" + s[1:]))
    assert len(low) == 70
    r, s = b"\x7f" + r[1:], b"\x01" + s[1:]
    assert parse_ecdsa(low) == (int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    assert parse_ecdsa(_sequence(_integer(b"\x01"), _integer(b"\0\x80"))) == (1, 128)
    # zero is well-formed; the verifier refuses it
    assert parse_ecdsa(_sequence(_integer(b"\0"), _integer(b"\0"))) == (0, 0)


def test_ecdsa_refused():
    one = _integer(b"\x01")
    for bad in (
        b"",
        b"\x30",
        b"\x30\x00",
        _sequence(one),  # one integer
        _sequence(one, one, one),
        _sequence(one, one, b"\0"),  # octets behind, inside
        _sequence(one, one) + b"\0",  # and outside
        b"\x30\x05" + one + one,  # another length than what follows
        b"\x30\x07" + one + one,
        b"\x30\x81\x06" + one + one,  # long form where the short one fits
        b"\x30\x80" + one + one + b"\0\0",  # BER's indefinite length
        b"\x31" + _sequence(one, one)[1:],  # SET
        _sequence(b"\x03" + one[1:], one),  # BIT STRING
        _sequence(one, b"\x0a" + one[1:]),  # ENUMERATED
        _sequence(_integer(b""), one),
        _sequence(one, _integer(b"")),
        _sequence(_integer(b"\xff"), one),  # negative
        _sequence(one, _integer(b"\x80" + bytes(31))),
        _sequence(_integer(b"\0\x01"), one),  # not minimal
        _sequence(one, _integer(b"\0\0")),
        _sequence(one, _integer(b"\0\0\x80")),
        _sequence(_integer(b"\x01" + bytes(33)), one),  # 34 octets
        _sequence(one, b"\x02\x81\x01\x01"),  # long form inside
        _sequence(one, b"\x02\x02\x01"),  # longer than what is there
        _sequence(one, b"\x02"),
        _sequence(b"\x02\x05\x01\x02\x01\x01"),
    ):
        assert parse_ecdsa(bad) is None, bad
    whole = _sequence(_integer(b"\0" + bytes.fromhex(_R)), _integer(b"\0" + bytes.fromhex(_S)))
    for n in range(len(whole)):
        assert parse_ecdsa(whole[:n]) is None
        assert parse_ecdsa(_sequence(whole[2:n])) is None


def test_ecdsa_largest():
    # 33 octets of INTEGER hold a number up to 2^256 + …: the verifier refuses what exceeds n.
    top = b"\0" + b"\xff" * 32
    assert parse_ecdsa(_sequence(_integer(top), _integer(top))) == (2**256 - 1, 2**256 - 1)
    assert parse_ecdsa(_sequence(_integer(b"\x01" + bytes(32)), _integer(top)))[0] == 2**256


def test_algorithm_identifier():
    # SEQUENCE { OBJECT IDENTIFIER 1.2.840.10045.4.3.2 }
    assert ECDSA_WITH_SHA256 == bytes.fromhex("300a06082a8648ce3d040302")
    assert len(ECDSA_WITH_SHA256) == 12
