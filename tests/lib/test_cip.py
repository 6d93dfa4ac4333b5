"""Class 1 I/O frames: literal octets, each malformation by its name, numbers that wrap."""

from covey import cip
from datapath import heap_octets

# Laid by hand after the figure: connection 0x12345678, sequence 0xA1B2C3D4, count 0x0102.
_FRAME = (
    b"\x02\x00"  # two items
    b"\x02\x80\x08\x00"  # sequenced address, 8 octets
    b"\x78\x56\x34\x12"
    b"\xd4\xc3\xb2\xa1"
    b"\xb1\x00\x06\x00"  # connected data, 6 octets
    b"\x02\x01"
    b"run!"
)
_CONNECTION = b"\x78\x56\x34\x12"


def _parse(frame, off=0):
    return cip.parse(bytes(off) + frame, off, len(frame))


def test_parse():
    for off in (0, 1, 24):
        assert _parse(_FRAME, off) == 4
        buf = bytes(off) + _FRAME
        assert cip.is_connection(buf, off, _CONNECTION)
        assert cip.sequence_low(buf, off) == 0xC3D4
        assert cip.sequence_high(buf, off) == 0xA1B2
        assert cip.count(buf, off) == 0x0102
        assert buf[off + cip.DATA :] == b"run!"


def test_another_connection():
    for octet in range(4):
        other = bytearray(_CONNECTION)
        other[octet] ^= 1
        assert not cip.is_connection(_FRAME, 0, other)


def test_emit():
    producer = cip.Producer(_CONNECTION)
    producer.sequence_low, producer.sequence_high, producer.count = 0xC3D3, 0xA1B2, 0x0101
    buf = bytearray(b"\xee" * 30)
    buf[3 + cip.DATA : 3 + cip.DATA + 4] = b"run!"
    assert producer.emit(buf, 3, 4) == len(_FRAME)
    assert buf == b"\xee" * 3 + _FRAME + b"\xee" * (27 - len(_FRAME))


def test_data_lengths():
    producer = cip.Producer(_CONNECTION)
    for n in (0, 1, 2, 255, 256, 500, 511):
        buf = bytearray(5 + cip.DATA + n)
        assert producer.emit(buf, 5, n) == cip.DATA + n
        assert cip.parse(buf, 5, cip.DATA + n) == n


def test_numbers_wrap():
    producer = cip.Producer(_CONNECTION)
    buf = bytearray(24)
    producer.emit(buf, 0, 4)
    assert (cip.sequence_low(buf, 0), cip.sequence_high(buf, 0), cip.count(buf, 0)) == (1, 0, 1)
    producer.emit(buf, 0, 4, False)  # the data of before: a new datagram, the old count
    assert (cip.sequence_low(buf, 0), cip.sequence_high(buf, 0), cip.count(buf, 0)) == (2, 0, 1)
    producer.sequence_low, producer.count = 0xFFFF, 0xFFFF
    producer.emit(buf, 0, 4)
    assert (cip.sequence_low(buf, 0), cip.sequence_high(buf, 0), cip.count(buf, 0)) == (0, 1, 0)
    producer.sequence_low = producer.sequence_high = 0xFFFF
    producer.emit(buf, 0, 4)
    assert (cip.sequence_low(buf, 0), cip.sequence_high(buf, 0)) == (0, 0)


def _with(at, octets):
    frame = bytearray(_FRAME)
    frame[at : at + len(octets)] = octets
    return _parse(frame)


def test_each_malformation():
    for n in range(cip.DATA):
        assert _parse(_FRAME[:n]) == cip.SHORT, n
    for n in range(cip.DATA, len(_FRAME)):
        assert _parse(_FRAME[:n]) == cip.CUT, n
    assert _parse(_FRAME + b"\x00") == cip.TRAILING
    for wrong in (b"\x01\x00", b"\x00\x00", b"\x03\x00", b"\x02\x01", b"\x00\x02"):
        assert _with(0, wrong) == cip.ITEM_COUNT
    for wrong in (b"\xa1\x00", b"\x00\x80", b"\x02\x00", b"\x80\x02"):
        assert _with(2, wrong) == cip.ADDRESS_ITEM
    for wrong in (b"\x04\x00", b"\x09\x00", b"\x08\x01", b"\x00\x08"):
        assert _with(4, wrong) == cip.ADDRESS_LENGTH
    for wrong in (b"\xb2\x00", b"\xb1\x01", b"\x00\xb1"):
        assert _with(14, wrong) == cip.DATA_ITEM
    for wrong in (b"\x00\x00", b"\x01\x00"):
        assert _with(16, wrong) == cip.DATA_LENGTH
    for wrong in (b"\x07\x00", b"\x06\x01", b"\xff\xff"):
        assert _with(16, wrong) == cip.CUT
    for wrong in (b"\x02\x00", b"\x05\x00"):
        assert _with(16, wrong) == cip.TRAILING


def test_outcomes_have_names():
    assert len(cip.NAMES) == 8
    assert all(outcome < 0 for outcome in cip.NAMES)


def test_octets_beyond_the_frame_are_not_read():
    assert cip.parse(_FRAME + b"more", 0, len(_FRAME)) == 4
    assert cip.parse(_FRAME, 0, len(_FRAME) - 1) == cip.CUT


def test_no_heap():
    producer = cip.Producer(b"\xff\xff\xff\xff")
    producer.sequence_low = producer.sequence_high = 0xFFF0
    buf = bytearray(64)

    def step():
        n = producer.emit(buf, 2, 30)
        assert cip.parse(buf, 2, n) == 30
        assert cip.parse(buf, 3, n) < 0
        cip.is_connection(buf, 2, _CONNECTION)
        cip.sequence_low(buf, 2)
        cip.sequence_high(buf, 2)
        cip.count(buf, 2)

    assert heap_octets(step) == 0
