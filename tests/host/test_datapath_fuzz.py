"""Any octets into the data path and into the CIP codec: an answer, never an exception."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from covey import cip
from covey.drops import (
    DROP_DUMMY,
    DROP_INNER_LENGTH,
    DROP_NEXT_HEADER,
    DROP_PADDING,
    DROP_SELECTOR,
    IKE_MESSAGE,
)
from datapath import SPI, a_receiver, deliver, member_state, packet, padded, udp

_HEADS = st.sampled_from((b"", SPI, SPI + bytes(3) + b"\x01\x00\x41", bytes(4)))


@given(head=_HEADS, rest=st.binary(max_size=300))
def test_any_datagram_is_refused(head, rest):
    m = a_receiver()
    before = member_state(m)
    answer = deliver(m, head + rest)
    assert answer < 0
    assert (answer == IKE_MESSAGE) == ((head + rest)[:4] == bytes(4))
    assert member_state(m) == before


def _read(text):
    """What a text of ESP holds, read the slow way."""
    pad_len, next_header = text[-2:]
    if next_header == 59:
        return DROP_DUMMY
    if pad_len > len(text) - 2:
        return DROP_PADDING
    inner = text[: len(text) - 2 - pad_len]
    if text[len(inner) : -2] != bytes(range(1, pad_len + 1)):
        return DROP_PADDING
    if next_header != 17:
        return DROP_NEXT_HEADER
    if len(inner) < 8 or not 8 <= struct.unpack(">H", inner[4:6])[0] <= len(inner):
        return DROP_INNER_LENGTH
    if struct.unpack(">H", inner[2:4])[0] != 2222:
        return DROP_SELECTOR
    return inner[8 : struct.unpack(">H", inner[4:6])[0]]  # then TFC padding


_PIECES = st.one_of(
    st.binary(max_size=40),
    st.builds(udp, st.binary(max_size=40)),
    st.builds(lambda payload, port: udp(payload, port=port), st.binary(), st.integers(0, 65535)),
)
_TEXTS = st.one_of(
    st.builds(lambda words: b"".join(words), st.lists(st.binary(min_size=4, max_size=4))),
    st.builds(padded, _PIECES, st.sampled_from((17, 17, 17, 59, 6, 0, 255))),
    st.builds(
        lambda inner, n, next_header: inner + bytes(range(1, n + 1)) + bytes([n, next_header]),
        _PIECES,
        st.integers(0, 255),
        st.just(17),
    ),
)


@given(_TEXTS)
def test_any_text_behind_a_good_tag(text):
    if not text or len(text) % 4 or len(text) > 480:
        return
    m = a_receiver()
    expected = _read(text)
    answer = deliver(m, packet(text))
    if isinstance(expected, bytes):
        assert answer == len(expected) and m.payload == expected
    else:
        assert answer == expected


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_cip_frame(frame, off):
    answer = cip.parse(bytes(off) + frame, off, len(frame))
    if answer >= 0:
        head = struct.unpack("<HHH8xHHH", frame[:20])
        assert head[:5] == (2, 0x8002, 8, 0x00B1, answer + 2) and len(frame) == 20 + answer
    else:
        assert answer in cip.NAMES


@given(
    connection_id=st.binary(min_size=4, max_size=4),
    low=st.integers(0, 0xFFFF),
    high=st.integers(0, 0xFFFF),
    count=st.integers(0, 0xFFFF),
    data=st.binary(max_size=200),
    off=st.integers(0, 9),
    is_new=st.booleans(),
)
def test_cip_there_and_back(connection_id, low, high, count, data, off, is_new):
    producer = cip.Producer(connection_id)
    producer.sequence_low, producer.sequence_high, producer.count = low, high, count
    buf = bytearray(off + cip.DATA + len(data))
    buf[off + cip.DATA :] = data
    n = producer.emit(buf, off, len(data), is_new)
    assert cip.parse(buf, off, n) == len(data) and buf[off + cip.DATA :] == data
    assert cip.is_connection(buf, off, connection_id)
    sequence = cip.sequence_high(buf, off) << 16 | cip.sequence_low(buf, off)
    assert sequence == (high << 16 | low) + 1 & 0xFFFFFFFF
    assert cip.count(buf, off) == count + is_new & 0xFFFF
