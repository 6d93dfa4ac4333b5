"""Formats of TESLA, octet by octet, and what is none."""

from covey import sources, timing
from covey.drops import DROP_IKE_FORMAT, DROP_POLICY, FormatError

CLOCK = b"clok"
TERMS = b"\x02\x08\x02\x0e\0\0\0\x64clok\x01\xf4\0\0"
SALT = b"saltsalt"
KEY = bytes(range(16))
ROW = b"\0\x05\0\0\0\x01\0\0saltsalt\0\0\xff\xff" + KEY
BITS = 14


def refused(reason, what, *facts):
    try:
        what(*facts)
    except FormatError as error:
        assert error.reason == reason, error.reason
        return
    raise AssertionError("taken")


def with_octet(octets, at, value):
    changed = bytearray(octets)
    changed[at] = value
    return bytes(changed)


def test_terms():
    made = timing.parse_timing([(16389, 4), (16400, TERMS)])
    assert (made.tag_len, made.lag, made.bits, made.interval_ms) == (8, 2, 14, 100)
    assert (made.clock, made.drift_ppm) == (CLOCK, 500)
    assert timing.emit_timing(made) == (16400, TERMS)
    assert sources.mode_of([(16400, TERMS)]) == sources.TESLA
    assert sources.mode_of([]) is None
    refused(DROP_POLICY, sources.mode_of, [(16400, b"")])


def test_terms_that_are_none():
    parse = timing.parse_timing
    refused(DROP_POLICY, parse, [])
    refused(DROP_POLICY, parse, [(16400, 2)])
    refused(DROP_POLICY, parse, [(16400, TERMS), (16400, TERMS)])
    for cut in range(16):
        refused(DROP_POLICY, parse, [(16400, TERMS[:cut])])
    refused(DROP_POLICY, parse, [(16400, TERMS + b"\0")])
    wrong = ((0, 1), (1, 7), (1, 17), (2, 0), (2, 17), (3, 0), (3, 21), (4, 1), (7, 19))
    for at, value in wrong + ((12, 0xFF),):
        refused(DROP_POLICY, parse, [(16400, with_octet(TERMS, at, value))])
    refused(DROP_POLICY, parse, [(16400, TERMS[:12] + bytes(4))])


def test_chains():
    row = 5, 0x10000, SALT, 0xFFFF, KEY  # the key before the first, and one of the segment
    other = 6, 0x10000, SALT, 0x13FFF, KEY
    assert timing.emit_chains([row]) == (16404, ROW)
    value = timing.emit_chains([row, other])[1]
    assert timing.parse_chains(value, BITS) == [row, other]
    assert timing.parse_chains(memoryview(value), BITS) == [row, other]
    assert timing.parse_chains(b"", BITS) == []


def test_chains_that_are_none():
    parse = timing.parse_chains
    refused(DROP_POLICY, parse, 7, BITS)
    for cut in range(1, 36):
        refused(DROP_POLICY, parse, ROW[:cut], BITS)
    refused(DROP_POLICY, parse, ROW + ROW, BITS)  # one segment of one sender twice
    refused(DROP_POLICY, parse, with_octet(ROW, 7, 1), BITS)  # no segment begins there
    refused(DROP_POLICY, parse, with_octet(ROW, 4, 0x80), BITS)  # too late
    refused(DROP_POLICY, parse, with_octet(ROW, 19, 0xFE), BITS)  # of the segment before
    refused(DROP_POLICY, parse, with_octet(with_octet(ROW, 17, 1), 18, 0x40), BITS)  # of the next


def test_ask():
    assert timing.emit_ask(timing.WANTS_STONES, b"press") == b"\x01\0\0\0press"
    assert timing.parse_ask(b"\x03\0\0\0press") == (3, b"press")
    refused(DROP_IKE_FORMAT, timing.parse_ask, b"\x03\0\0")


def test_time():
    data = b"clok\0\0\x01\0\0\0\0\x07"
    assert timing.emit_time(CLOCK, (1 << 40) + 7) == data
    assert timing.parse_time(data) == (CLOCK, (1 << 40) + 7)
    refused(DROP_IKE_FORMAT, timing.parse_time, data[:-1])
    refused(DROP_IKE_FORMAT, timing.parse_time, data + b"\0")


def test_stones():
    keys = [bytes([i]) * 16 for i in range(3)]
    data = b"\0\0\xff\xff\x03\0\0\0saltsalt" + b"".join(keys)
    assert timing.emit_stones(0xFFFF, SALT, keys) == data
    assert timing.parse_stones(data, 2) == (0xFFFF, SALT, [bytearray(key) for key in keys])
    refused(DROP_IKE_FORMAT, timing.parse_stones, data, 3)  # they must reach
    refused(DROP_IKE_FORMAT, timing.parse_stones, data[:-1], 2)
    refused(DROP_IKE_FORMAT, timing.parse_stones, with_octet(data, 4, 2), 2)
    refused(DROP_IKE_FORMAT, timing.parse_stones, with_octet(data, 0, 0x80), 2)


def test_signed():
    assert sources.emit_signed(6) == (16400, b"\x03\x06\0\0")
    assert sources.parse_signed([(16400, b"\x03\x06\0\0")]) == 6
    for value in (b"\x03\x07\0\0", b"\x02\x06\0\0", b"\x03\x06\0", b"\x03\x06\0\0\0", 3):
        refused(DROP_POLICY, sources.parse_signed, [(16400, value)])
