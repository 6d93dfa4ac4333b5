"""REDIRECT (RFC 5685 section 6.2): octets by hand, and what is none."""

from covey.drops import DROP_IKE_FORMAT, FormatError
from covey.redirect import emit_redirect, parse_redirect

NONCE = bytes(range(32))


def test_octets_of_an_address():
    data = bytes((1, 4, 192, 0, 2, 7))
    assert emit_redirect("192.0.2.7") == data
    assert parse_redirect(data) == ("192.0.2.7", b"")
    assert emit_redirect("192.0.2.7", NONCE) == data + NONCE
    assert parse_redirect(memoryview(data + NONCE)) == ("192.0.2.7", NONCE)


def test_octets_of_a_name():
    data = bytes((3, 12)) + b"gcks.example"
    assert emit_redirect("gcks.example", NONCE) == data + NONCE
    assert parse_redirect(data + NONCE) == ("gcks.example", NONCE)
    for name in ("1.2.3.x", "1.2.3.256", "a" * 255):
        assert parse_redirect(emit_redirect(name, NONCE)) == (name, NONCE)
        assert emit_redirect(name)[0] == 3
    assert len(emit_redirect("a" * 256)) == 257


def test_what_is_none():
    wrong = [b"", b"\x01", bytes((1, 4, 192, 0, 2)), bytes((1, 3, 192, 0, 2)), bytes((1, 0))]
    wrong += [bytes((2, 16)) + bytes(16), bytes((3, 0)), bytes((3, 2)) + b"a\n", bytes((4, 1, 65))]
    wrong += [bytes((3, 2, 0xC3, 0xA4)), bytes((3, 255)) + b"short"]
    for data in wrong:
        try:
            parse_redirect(data)
        except FormatError as e:
            assert e.reason == DROP_IKE_FORMAT
        else:
            raise AssertionError(data)
