"""The IPv4 header in front of ESP: literal octets, each field wrong, options, any length."""

from covey import ipv4
from covey.drops import DROP_IP_DESTINATION, DROP_IP_FRAGMENT, DROP_IP_HEADER, DROP_LENGTH
from datapath import GROUP, heap_octets

# What a Linux kernel put in front of ESP of 36 octets (tests/host/test_ip_carrier.py has more).
_LITERAL = bytes.fromhex("4500003813ff40000132f5b37f000001efc00120")


def checksum(header):
    """RFC 791 and 1071, the slow way."""
    total = sum([header[i] << 8 | header[i + 1] for i in range(0, len(header), 2)])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def header(
    length,
    options=b"",
    version=4,
    ihl=None,
    total=None,
    flags=0x4000,
    protocol=50,
    destination=GROUP,
    wrong=0,
):
    """In front of `length` octets; its checksum is right but for `wrong`."""
    ihl = 5 + len(options) // 4 if ihl is None else ihl
    total = 20 + len(options) + length if total is None else total
    out = bytearray([version << 4 | ihl, 0xB8, total >> 8 & 255, total & 255, 0x12, 0x34])
    out += (
        bytes([flags >> 8, flags & 255, 1, protocol, 0, 0, 192, 0, 2, 1]) + destination + options
    )
    value = checksum(out) ^ wrong
    out[10:12] = bytes([value >> 8, value & 255])
    return bytes(out)


def strip(datagram, room=100):
    """(answer, buffer) as a port hands the datagram over."""
    head, buf = bytearray(b"?" * 20), bytearray(b"?" * room)
    n = min(len(datagram), 20)
    head[:n] = datagram[:n]
    rest = datagram[20 : 20 + room]
    buf[: len(rest)] = rest
    return ipv4.strip(head, buf, min(len(datagram), 21 + room), GROUP), buf


def test_what_a_kernel_sent():
    assert checksum(_LITERAL) == 0
    body = bytes(range(36))
    length, buf = strip(_LITERAL + body)
    assert length == 36 and buf[:36] == body
    assert header(36)[:2] == b"\x45\xb8" and ipv4.HEADER == len(_LITERAL) == 20


def test_every_length_of_options_and_of_what_follows():
    for words in range(11):
        for length in (0, 1, 35, 36, 60):
            body = bytes([i + 1 & 255 for i in range(length)])
            answer, buf = strip(header(length, b"\x94\x04\x00\x00" * words) + body)
            assert answer == length and buf[:length] == body, (words, length)


def test_each_field_that_is_wrong():
    for fields, reason in (
        ({"version": 6}, DROP_IP_HEADER),
        ({"version": 0}, DROP_IP_HEADER),
        ({"ihl": 4}, DROP_IP_HEADER),
        ({"ihl": 0}, DROP_IP_HEADER),
        ({"ihl": 15}, DROP_IP_HEADER),  # more than there is
        ({"total": 55}, DROP_IP_HEADER),
        ({"total": 57}, DROP_IP_HEADER),  # cut short
        ({"total": 0}, DROP_IP_HEADER),
        ({"total": 36}, DROP_IP_HEADER),  # without the header, as some systems write it
        ({"total": 56 << 8}, DROP_IP_HEADER),  # the host's order
        ({"protocol": 17}, DROP_IP_HEADER),
        ({"protocol": 51}, DROP_IP_HEADER),
        ({"wrong": 1}, DROP_IP_HEADER),
        ({"wrong": 0x8000}, DROP_IP_HEADER),
        ({"flags": 0x2000}, DROP_IP_FRAGMENT),  # the first
        ({"flags": 0x2001}, DROP_IP_FRAGMENT),
        ({"flags": 0x0001}, DROP_IP_FRAGMENT),  # the last
        ({"flags": 0x1F00}, DROP_IP_FRAGMENT),
        ({"destination": bytes([239, 192, 1, 33])}, DROP_IP_DESTINATION),
        ({"destination": bytes([238, 192, 1, 32])}, DROP_IP_DESTINATION),
        ({"destination": bytes([127, 0, 0, 1])}, DROP_IP_DESTINATION),
    ):
        answer, _ = strip(header(36, **fields) + bytes(36))
        assert answer == reason, fields
    for flags in (0, 0x4000, 0x8000):  # may it be fragmented? that is for routers
        assert strip(header(36, flags=flags) + bytes(36))[0] == 36


def test_a_bit_flipped_anywhere_in_the_header():
    whole = header(8, b"\x94\x04\x00\x00") + bytes(8)
    for octet in range(24):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[octet] ^= 1 << bit
            assert strip(bytes(flipped))[0] == DROP_IP_HEADER, (octet, bit)


def test_lengths():
    whole = header(36) + bytes(36)
    for n in range(len(whole)):
        assert strip(whole[:n])[0] == DROP_IP_HEADER, n
    assert strip(whole + b"\0")[0] == DROP_IP_HEADER
    assert strip(whole + whole)[0] == DROP_IP_HEADER  # two that were joined
    assert strip(header(100) + bytes(100))[0] == 100
    assert strip(header(101) + bytes(101))[0] == DROP_LENGTH
    assert strip(header(1400) + bytes(1400))[0] == DROP_LENGTH
    options = header(80, b"\x01" * 40)  # the options take part of the room
    assert strip(options + bytes(80))[0] == DROP_LENGTH
    assert strip(header(60, b"\x01" * 40) + bytes(60))[0] == 60


def test_options_that_did_not_arrive():
    """The buffer still holds what makes the checksum right."""
    whole = header(0, b"\x01" * 40, total=40)
    head, buf = bytearray(whole[:20]), bytearray(whole[20:])
    assert ipv4.strip(head, buf, 40, GROUP) == DROP_IP_HEADER
    whole = header(0, b"\x01" * 40)
    assert ipv4.strip(bytearray(whole[:20]), buf, 60, GROUP) == 0


def test_sums_of_any_size():
    """Where folding once is not enough, and where the sum is the other zero."""
    for destination in (b"\xff" * 4, bytes(4), b"\xff\xff\x00\x00"):
        datagram = header(0, b"\xff" * 40, destination=destination)
        assert strip(datagram)[0] == DROP_IP_DESTINATION
    for wrong in range(1, 0x10000, 0x0101):
        assert strip(header(0, b"\xff" * 40, wrong=wrong))[0] == DROP_IP_HEADER, wrong


def test_no_heap():
    plain, options = header(36), header(36, b"\x94\x04\x00\x00" * 10)
    head, buf = bytearray(20), bytearray(100)

    def take(datagram, extra):
        for i in range(20):
            head[i] = datagram[i]
        for i in range(extra):
            buf[i] = datagram[20 + i]
        assert ipv4.strip(head, buf, 56 + extra, GROUP) == 36

    def step():
        take(plain, 0)
        take(options, 40)
        head[9] = 17
        assert ipv4.strip(head, buf, 96, GROUP) < 0

    assert heap_octets(step) == 0
