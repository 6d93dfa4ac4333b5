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
    assert len(cip.NAMES) == 12
    assert all(outcome < 0 for outcome in cip.NAMES)


def test_class_0():
    producer = cip.Producer(_CONNECTION, counts=False)
    assert producer.data_off == cip.DATA_0
    buf = bytearray(b"\xee" * 30)
    buf[3 + cip.DATA_0 : 3 + cip.DATA_0 + 4] = b"run!"
    n = producer.emit(buf, 3, 4)
    assert n == cip.DATA_0 + 4 and buf[3 + n :] == b"\xee" * (27 - n)
    assert buf[3 + 14 : 3 + n] == b"\xb1\x00\x04\x00run!"
    assert cip.parse(buf, 3, n, 0) == 4
    assert cip.parse(buf, 3, n) == 2  # to class 1 the first two are a count
    for n in range(cip.DATA_0):
        assert cip.parse(buf, 3, n, 0) == cip.SHORT
    assert cip.parse(_FRAME, 0, len(_FRAME), 0) == 6


def test_addresses_by_the_rule():
    for address, prefix_len, index, group in (
        ((192, 168, 1, 1), 24, 0, (239, 192, 1, 0)),
        ((192, 168, 1, 2), 24, 0, (239, 192, 1, 32)),
        ((192, 168, 1, 20), 24, 3, (239, 192, 3, 99)),
        ((192, 168, 1, 254), 24, 31, (239, 192, 32, 191)),
        ((10, 0, 7, 208), 8, 0, (239, 192, 122, 224)),  # (2000 - 1) & 0x3FF = 975
        ((10, 0, 4, 0), 8, 31, (239, 192, 128, 255)),  # 1024: the last block
        ((10, 0, 4, 1), 8, 0, (239, 192, 1, 0)),  # 1025: the first again
    ):
        assert cip.multicast_address(bytes(address), prefix_len, index) == bytes(group), address


_MS = 5  # RPI of 1.25 ms, four times


def _consumer(now_ms=0, **options):
    return cip.Consumer(_CONNECTION, 1250, 4, now_ms, **options)


def _made(low, high=0, count=1, data=b"run!"):
    producer = cip.Producer(_CONNECTION)
    producer.sequence_low, producer.sequence_high = (low - 1) & 0xFFFF, high
    if low == 0:
        producer.sequence_high = high - 1 & 0xFFFF
    producer.count = count - 1
    buf = bytearray(cip.DATA + len(data))
    buf[cip.DATA :] = data
    producer.emit(buf, 0, len(data))
    return buf


def _take(consumer, frame, now_ms=0):
    return consumer.take(frame, 0, len(frame), now_ms)


def test_fresh_unchanged_late():
    consumer = _consumer()
    assert _take(consumer, _made(7, count=3)) == cip.FRESH
    assert (consumer.data_off, consumer.data_len, consumer.is_running) == (cip.DATA, 4, True)
    assert _take(consumer, _made(8, count=3, data=b"")) == cip.UNCHANGED
    assert consumer.data_len == 0
    assert _take(consumer, _made(8, count=4)) == cip.LATE
    assert _take(consumer, _made(7, count=4)) == cip.LATE
    assert _take(consumer, _made(10, count=4)) == cip.FRESH  # one was lost
    assert _take(consumer, _made(9, count=5)) == cip.LATE
    assert _take(consumer, _made(11, count=4)) == cip.UNCHANGED  # what is late counts for nothing


def test_sequences_are_compared_in_a_circle():
    for old, new, is_newer in (
        ((0xFFFF, 0), (0, 1), True),
        ((0, 1), (0xFFFF, 0), False),
        ((0xFFFF, 0xFFFF), (0, 0), True),
        ((0, 0), (0xFFFF, 0xFFFF), False),
        ((5, 0), (4, 0x8000), True),  # ahead by 2^31 - 1
        ((5, 0), (5, 0x8000), False),  # just as far either way
        ((5, 0), (6, 0x8000), False),
        ((5, 3), (5, 3), False),
        ((5, 3), (5, 4), True),
        ((5, 3), (5, 2), False),
    ):
        consumer = _consumer()
        assert _take(consumer, _made(*old)) == cip.FRESH
        expected = cip.UNCHANGED if is_newer else cip.LATE
        assert _take(consumer, _made(*new)) == expected, (old, new)


def test_what_a_consumer_does_not_take():
    consumer = _consumer(has_header=True)
    other = _made(1)
    other[6] ^= 1
    assert _take(consumer, other) == cip.FOREIGN
    assert _take(consumer, _made(1)[:-1]) == cip.CUT
    assert _take(consumer, _made(1, data=b"abc")) == cip.NO_HEADER
    assert _take(consumer, _made(1, data=b"abcd")) == cip.FRESH  # none of them left a trace


def test_run_and_idle():
    consumer = _consumer(has_header=True)
    assert not consumer.is_running  # nothing has come
    frame = _made(1, data=bytes(4) + b"speed")
    cip.emit_header(frame, cip.DATA, True)
    assert frame[cip.DATA :] == b"\x01\x00\x00\x00speed"
    assert _take(consumer, frame) == cip.FRESH and consumer.is_running
    assert frame[consumer.data_off :] == b"speed" and consumer.data_len == 5
    frame = _made(2, data=b"\xff" * 4 + b"speed")
    cip.emit_header(frame, cip.DATA, False)
    assert frame[cip.DATA :] == b"\x00\x00\x00\x00speed"
    assert _take(consumer, frame) == cip.UNCHANGED and not consumer.is_running


def test_a_consumer_of_class_0():
    consumer = _consumer(counts=False, has_header=True)
    producer = cip.Producer(_CONNECTION, counts=False)
    buf = bytearray(cip.DATA_0 + 6)
    for _ in range(3):
        cip.emit_header(buf, producer.data_off, True)
        n = producer.emit(buf, 0, 6, False)
        assert consumer.take(buf, 0, n, 0) == cip.FRESH and consumer.is_running
        assert (consumer.data_off, consumer.data_len) == (cip.DATA_0 + 4, 2)
    assert consumer.take(buf, 0, n, 0) == cip.LATE


def test_a_connection_times_out():
    wrap = 1 << 30
    for start in (0, wrap - 7):
        at = lambda ms: (start + ms) % wrap  # noqa: E731, B023
        consumer = _consumer(at(0))
        assert consumer.timeout_ms == _MS
        assert consumer.left_ms(at(0)) == 10000  # for the first frame
        assert _take(consumer, _made(1), at(9999)) == cip.FRESH
        assert consumer.left_ms(at(9999)) == _MS
        assert _take(consumer, _made(2), at(9999 + 4)) == cip.UNCHANGED
        assert _take(consumer, _made(2), at(9999 + 5)) == cip.LATE  # no sign of life
        assert not consumer.has_timed_out(at(9999 + 8))
        assert _take(consumer, _made(3), at(9999 + 9)) == cip.TIMED_OUT
        assert _take(consumer, _made(4), at(9999 + 4)) == cip.TIMED_OUT  # for good
        assert consumer.left_ms(at(0)) == 0 and not consumer.is_running


def test_timeouts_of_any_length():
    assert cip.Consumer(_CONNECTION, 0xFFFFFFFF, 512, 0).left_ms(0) == 0x0FFFFFFF
    assert cip.Consumer(_CONNECTION, 1, 4, 0).timeout_ms == 1
    assert cip.Consumer(_CONNECTION, 100000, 512, 0).left_ms(0) == 51200


def test_octets_beyond_the_frame_are_not_read():
    assert cip.parse(_FRAME + b"more", 0, len(_FRAME)) == 4
    assert cip.parse(_FRAME, 0, len(_FRAME) - 1) == cip.CUT


def test_no_heap():
    producer = cip.Producer(b"\xff\xff\xff\xff")
    producer.sequence_low = producer.sequence_high = 0xFFF0
    buf = bytearray(64)
    consumer = cip.Consumer(b"\xff\xff\xff\xff", 10000, 4, 0x3FFFFFF0, has_header=True)
    bare = cip.Producer(b"\xff\xff\xff\xff", counts=False)

    def step():
        bare.emit(buf, 2, 30)
        cip.emit_header(buf, 2 + cip.DATA, True)
        n = producer.emit(buf, 2, 30)
        assert consumer.take(buf, 2, n, 5) == cip.FRESH
        assert consumer.take(buf, 2, n, 6) == cip.LATE
        consumer.left_ms(7)
        assert cip.parse(buf, 2, n) == 30
        assert cip.parse(buf, 3, n) < 0
        cip.is_connection(buf, 2, _CONNECTION)
        cip.sequence_low(buf, 2)
        cip.sequence_high(buf, 2)
        cip.count(buf, 2)

    assert heap_octets(step) == 0
