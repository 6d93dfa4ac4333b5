"""Formats of signed packets."""

from covey.drops import DROP_POLICY, FormatError
from covey.signers import TAIL, emit_signers, emit_trailer, parse_signers, parse_trailer

POINTS = {7: b"\x04" + bytes(range(64)), 0: b"\x04" + bytes(range(64, 128))}


def refused(*attributes):
    try:
        parse_signers(attributes)
    except FormatError as error:
        return error.reason == DROP_POLICY
    return False


def test_signers_octets():
    kind, value = emit_signers(POINTS)
    assert kind == 16405
    assert value == bytes(4) + POINTS[0][1:] + b"\0\x07\0\0" + POINTS[7][1:]
    assert parse_signers([(1, 2), (kind, value)]) == POINTS
    assert parse_signers([(kind, memoryview(value))]) == POINTS
    assert parse_signers([(kind, b"")]) == {}


def test_signers_that_are_none():
    kind, value = emit_signers(POINTS)
    assert refused()
    assert refused((kind, 7))
    assert refused((kind, value), (kind, value))
    assert refused((kind, value[:-1])) and refused((kind, value + b"\0"))
    assert refused((kind, value + value[:68]))  # twice the same index


def test_trailer_octets():
    path = bytes(range(64))
    trailer = emit_trailer(path, 3, 1, 2)
    assert trailer == path + b"\x03\x02" + bytes(31) + b"\x01" + bytes(31) + b"\x02"
    assert len(emit_trailer(b"", 0, 1, 2)) == TAIL
    for payload in (b"", b"speed=1500"):
        buf = bytearray(24) + payload + trailer + b"\x01\x02"
        end = len(buf) - 2
        assert parse_trailer(buf, 24, end, 2) == (24 + len(payload), 3, 2)
        assert parse_trailer(buf, 24, end, 6) == (24 + len(payload), 3, 2)
        assert parse_trailer(buf, 24, end, 1) is None


def test_trailers_that_are_none():
    whole = bytearray(24) + emit_trailer(bytes(64), 3, 1, 2)
    for cut in range(1, len(whole) - 24):
        assert parse_trailer(whole, 24 + cut, len(whole), 6) is None
    for position, levels in ((4, 2), (255, 2), (1, 0), (0, 3), (0, 255), (255, 255)):
        bad = bytearray(whole)
        bad[-TAIL] = position
        bad[-TAIL + 1] = levels
        assert parse_trailer(bad, 24, len(bad), 6) is None
