"""ESP around UDP: literal octets, the figure's offsets, padding, each thing that can be wrong."""

from covey import esp
from covey.drops import DROP_DUMMY, DROP_INNER_LENGTH, DROP_NEXT_HEADER, DROP_PADDING
from covey.gcm import GCMContext
from covey.path import frame, trim
from datapath import ANY, DESTINATION, Bare, data_sa, heap_octets, padded, udp


def _bare(destination=ANY, source=ANY, **how):
    return Bare(data_sa(destination=destination, source=source, **how))


def _trim(text):
    return _bare().trim(text)


# draft-mcgrew-gcm-test-01 section 4, the cases with a 32-bit sequence number, a key of 16 or 32
# octets and SPI | number as the AAD: keymat, IV, AAD, text, text sealed with its ICV.
_PUBLISHED = (
    (
        "feffe9928665731c6d6a8f9467308308cafebabe",
        "facedbaddecaf888",
        "0000a5f80000000a",
        "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100"
        "0001000000000000037369700963796265726369747902646b00000100010001",
        "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c"
        "3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1"
        "83b70d3aa8bc6ee4c309e9d85a41ad4a",
    ),
    (
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
        "0102030405060708",
        "4a2cbfe300000002",
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000"
        "7002400020bf0000020405b40101040201020201",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763"
        "748a637985771d347f0545659f14e99def842d8e"
        "b335f4eecfdbf831824b4c4915956c96",
    ),
    (
        "0000000000000000000000000000000000000000",
        "0000000000000000",
        "0000000000000001",
        "4500003c99c500008001cb7a40679318010101010800075c0200440061626364"
        "65666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
        "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284"
        "456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3"
        "f821d496eeb096e98ad2b69e4799c71d",
    ),
    (
        "7d773d00c144c525ac619d18c84a3f47d9664267",
        "43457e9182443bc6",
        "335467aeffffffff",
        "01020201",
        "437f866bcb3f699fe9b0822bac961c4504bef270",
    ),
)


def test_published_packets_open():
    """All are tunnelled or ICMP: the ICV and the padding hold, the next header is not ours."""
    for vector in _PUBLISHED:
        keymat, iv, aad, text, sealed = [bytes.fromhex(field) for field in vector]
        buf = bytearray(aad + iv + sealed)
        assert GCMContext(keymat).open(buf, 0, esp.AAD_LEN, len(text))
        assert buf[16 : 16 + len(text)] == text
        assert len(buf) == len(text) + esp.OVERHEAD
        assert _trim(buf[16 : 16 + len(text)]) == DROP_NEXT_HEADER


def test_frame_octet_by_octet():
    source = ANY[:2] + (40000, 40000, 17)
    bare = _bare(DESTINATION, source, spi=b"\x9f\x3a\x12\xc4")
    bare.sa.become_sender(0x0041, 16)
    for i in range(60):
        bare.tx[i] = 0xEE
    expected = (
        b"\x9f\x3a\x12\xc4"  # SPI
        b"\x01\x02\x03\x04"  # sequence number
        b"\x00\x41\x00\x00\x01\x02\x03\x04"  # IV: Sender-ID 0x0041, then the number
        b"\x9c\x40\x08\xae"  # ports
        b"\x00\x0d\x00\x00"  # UDP length 13, checksum 0
        b"stop!"
        b"\x01\x01\x11"  # one octet of padding, its length, UDP
    )
    assert bare.frame(b"stop!", 0x01020304) == expected
    assert bare.tx[len(expected) : 60] == b"\xee" * (60 - len(expected))  # the rest is the ICV's


def test_every_length_there_and_back():
    bare = _bare()
    for n in range(300):
        payload = bytes([i * 7 & 255 for i in range(n)])
        datagram = bare.frame(payload, n + 1)
        assert len(datagram) % 4 == 0 and len(datagram) + 16 == esp.datagram_len(n)
        assert bare.trim(datagram[16:]) == n
        assert bare.rx[24 : 24 + n] == payload
        assert padded(udp(payload, 1, 1)) == datagram[16:]


def test_any_legal_padding():
    inner = udp(b"12345678")
    for pad_len in range(2, 256, 4):
        text = inner + bytes(range(1, pad_len + 1)) + bytes([pad_len, 17])
        assert _trim(text) == 8, pad_len


def test_padding_octets_are_looked_at():
    inner = udp(b"")
    for pad_len in (2, 6, 254):
        for wrong in range(pad_len):
            text = bytearray(inner + bytes(range(1, pad_len + 1)) + bytes([pad_len, 17]))
            text[len(inner) + wrong] ^= 0x80
            assert _trim(text) == DROP_PADDING, (pad_len, wrong)


def test_padding_longer_than_the_text():
    text = bytes(range(1, 11)) + bytes([11, 17])
    assert _trim(text) == DROP_PADDING
    assert _trim(bytes([1, 2, 255, 17])) == DROP_PADDING
    assert _trim(bytes([1, 2, 3, 17])) == DROP_PADDING
    assert _trim(bytes([1, 2, 2, 17])) == DROP_INNER_LENGTH  # nothing but padding
    for into_iv in (1, 2):  # padding that would go on before the text, in clear octets
        count_up = bytes(range(1, 11 + into_iv))
        bare = _bare()
        assert bare.admit(1, 1) == 0
        bare.rx[16 - into_iv : 28] = count_up + bytes([10 + into_iv, 17])
        assert trim(bare.path.place, 12) == DROP_PADDING


def test_dummies_whatever_is_in_them():
    # RFC 4303 section 2.6
    for text in (bytes([0, 0, 255, 59]), b"nonsense" + bytes([9, 59, 0, 59]), padded(b"", 59)):
        assert _trim(text) == DROP_DUMMY


def test_next_headers():
    for next_header in range(256):
        expected = 4 if next_header == 17 else DROP_NEXT_HEADER
        if next_header == 59:
            expected = DROP_DUMMY
        assert _trim(padded(udp(b"data"), next_header)) == expected, next_header


def test_inner_length():
    for length in range(0, 40):
        expected = length - 8 if 8 <= length <= 18 else DROP_INNER_LENGTH
        assert _trim(padded(udp(b"0123456789", length=length))) == expected, length
    for length in (0x0112, 0xFF12, 0x1200):
        assert _trim(padded(udp(b"0123456789", length=length))) == DROP_INNER_LENGTH
    for n in range(8):  # no room for a UDP header, whatever it says
        assert _trim(padded(udp(b"", length=n)[:n])) == DROP_INNER_LENGTH


def test_tfc_padding_is_left_out():
    """RFC 4303 section 2.7: any octets behind a payload that tells its own length."""
    for tfc in (b"\0", b"any octets", bytes(200), bytes([1, 2, 3, 3, 17]), udp(b"another")):
        inner = udp(b"data") + tfc
        assert _trim(padded(inner)) == 4, tfc
        assert _trim(padded(udp(b"") + tfc)) == 0
        text = bytearray(padded(inner))
        text[len(inner)] ^= 0x80
        assert _trim(text) == DROP_PADDING  # an octet of padding, or its length
    assert _trim(padded(udp(b"data", length=13))) == DROP_INNER_LENGTH


def test_checksum_is_not_looked_at():
    text = bytearray(padded(udp(b"data")))
    text[6:8] = b"\xbe\xef"
    assert _trim(text) == 4


def test_no_heap():
    bare = _bare()
    bare.sa.next_seq = 0x3FFFFF00
    place, rx, tx = bare.path.place, bare.rx, bare.tx
    bare.admit(1, 1)

    def step():
        for n in range(20):
            text_len = frame(place, n, 0)
            for i in range(16, 16 + text_len):
                rx[i] = tx[i]
            assert trim(place, text_len) == n
        assert trim(place, 60) < 0

    assert heap_octets(step) == 0
