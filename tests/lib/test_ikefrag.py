"""SKF payloads against octets laid out from RFC 7383, and what reassembly refuses."""

import struct

from covey import ike, ikefrag
from covey.drops import DROP_IKE_FORMAT, DROP_IKE_FRAGMENT, DROP_IKE_TAG, ConfigError
from covey.gcm import GCMContext
from layout import octets, patched, why_refused

SPI_I = octets("a1a2a3a4a5a6a7a8")
SPI_R = octets("b1b2b3b4b5b6b7b8")
KEYMAT = octets("000102030405060708090a0b0c0d0e0f", "10111213")
VENDOR = bytes(range(150))
IV = octets("00000000000000ff")
PAYLOADS = [
    (ike.VENDOR, VENDOR),
    (ike.VENDOR, VENDOR[75:] + VENDOR[:75]),
    (ike.NOTIFY, octets("00 00 402f")),
]
CHAIN = ike.emit_chain(PAYLOADS)[1]
HEAD = SPI_I, SPI_R, ike.INFORMATIONAL, ike.FLAG_I, 7
MOST = 256


class Numbers:
    """IVs that count from 1."""

    def __init__(self):
        self.last = 0

    def __call__(self):
        self.last += 1
        return struct.pack(">II", 0, self.last)


def context():
    return GCMContext(KEYMAT)


def fragments(most_len=MOST, payloads=PAYLOADS, head=HEAD):
    return ikefrag.seal(context(), *head, payloads, Numbers(), most_len)


def put_together(datagrams, reassembly=None):
    """What each datagram gives; the last one mostly the whole message."""
    reassembly = reassembly or ikefrag.Reassembly()
    return [reassembly.open(context(), data) for data in datagrams]


def sealed(header, inner, iv=IV):
    """A fragment laid by hand: IKE header and SKF's header as given, text with its pad length."""
    data = bytearray(header + iv + inner + bytes(16))
    struct.pack_into(">I", data, 24, len(data))
    struct.pack_into(">H", data, 30, len(data) - 28)
    context().seal(data, 0, 36, len(inner))
    return data


def by_hand(number, total, part, first="00", pad="00", message_id="00000007"):
    head = octets(
        "a1a2a3a4a5a6a7a8 b1b2b3b4b5b6b7b8",
        "35 20 25 08",  # next payload SKF (53), version 2.0, INFORMATIONAL (37), flag I
        message_id,
        "00000000",  # length, see sealed()
        first + "00 0000",  # SKF: kind of the first inner payload, reserved, length
        "%04x %04x" % (number, total),
    )
    return sealed(head, part + octets(pad))


def test_fragments_stand_as_in_the_figure():
    first, second = fragments()
    room = MOST - 28 - 8 - 8 - 1 - 16
    assert first == by_hand_with_iv(1, first, CHAIN[:room], "2b")  # Vendor ID (43)
    assert second == by_hand_with_iv(2, second, CHAIN[room:], "00")
    assert len(first) == MOST and len(second) < MOST


def by_hand_with_iv(number, like, part, first):
    data = by_hand(number, 2, part, first)
    iv = bytes(like[36:44])
    return sealed(bytes(data[:36]), part + b"\0", iv)


def test_each_fragment_has_an_iv_of_its_own():
    ivs = [bytes(data[36:44]) for data in fragments()]
    assert ivs == [struct.pack(">II", 0, n) for n in (1, 2)]


def test_what_fits_stays_whole():
    whole = ike.seal_message(context(), *HEAD, PAYLOADS, octets("0000000000000001"))
    for most_len in (None, len(whole), 4096):
        assert fragments(most_len) == [whole]
    assert len(fragments(len(whole) - 1)) == 2
    (opened,) = put_together([whole])
    assert opened.inner == CHAIN


def test_any_order_gives_the_message():
    parts = fragments()
    for order in (parts, [parts[1], parts[0]]):
        before, opened = put_together(order)
        assert before is None
        assert ike.parse_chain(opened.first, opened.inner) == ike.parse_chain(ike.VENDOR, CHAIN)
        assert opened.header.message_id == 7 and not opened.clear
        assert opened.head[16] == ike.SK
        assert opened.head[28] == ike.VENDOR


def test_padding_of_each_fragment_goes():
    parts = [
        by_hand(1, 2, CHAIN[:100], "2b", "aabbcc03"),
        by_hand(2, 2, CHAIN[100:], "00", "0001"),
    ]
    assert put_together(parts)[1].inner == CHAIN


def test_reserved_of_the_first_fragment_is_kept():
    first = by_hand(1, 2, CHAIN[:100], "2b")
    first = sealed(patched(bytes(first[:36]), 29, "15"), CHAIN[:100] + b"\0")
    opened = put_together([by_hand(2, 2, CHAIN[100:]), first])[1]
    assert opened.head[29] == 0x15


def test_a_signed_rekey_reads_the_same_in_pieces():
    """RFC 9838 section 2.4.1.2: what is signed is the whole message."""
    auth = ike.emit_auth(
        14, ike.emit_signature_auth(octets("300a06082a8648ce3d040302"), bytes(71))
    )
    payloads = PAYLOADS + [(ike.AUTH, auth)]
    spi = SPI_I + SPI_R
    head = SPI_I, SPI_R, ike.GSA_REKEY, ike.FLAG_I, 7
    opened = put_together(fragments(MOST, payloads, head))[-1]
    off = ike.parse_chain(opened.first, opened.inner)[-1].off
    signed = ike.rekey_signed_octets(opened.head, opened.inner, off)
    assert signed == ike.rekey_to_sign(spi, ike.FLAG_I, 7, payloads)


def test_number_of_a_fragment():
    parts = fragments()
    assert [ikefrag.number_of(data) for data in parts] == [1, 2]
    whole = ike.seal_message(context(), *HEAD, PAYLOADS, octets("0000000000000001"))
    assert ikefrag.number_of(whole) == 0
    assert why_refused(ikefrag.number_of, whole[:-1])


def test_duplicates_are_refused_and_change_nothing():
    first, second = fragments()
    reassembly = ikefrag.Reassembly()
    assert reassembly.open(context(), first) is None and reassembly.is_waiting
    assert why_refused(reassembly.open, context(), first) == DROP_IKE_FRAGMENT
    assert reassembly.open(context(), second).inner == CHAIN
    assert not reassembly.is_waiting


def test_a_forged_fragment_changes_nothing():
    first, second = fragments()
    reassembly = ikefrag.Reassembly()
    reassembly.open(context(), first)
    for off in (0, 16, 20, 28, 29, 33, 35, 36, 50, -1):
        forged = bytearray(second)
        forged[off] ^= 1
        assert why_refused(reassembly.open, context(), forged) is not None, off
    other = by_hand(2, 3, CHAIN[100:])
    other[-1] ^= 1
    assert why_refused(reassembly.open, context(), other) == DROP_IKE_TAG
    assert reassembly.open(context(), second).inner == CHAIN


def test_a_finer_split_takes_the_place_of_a_coarse_one():
    """Section 2.6: a peer that hears nothing may send the message again in smaller fragments."""
    first, _ = fragments()
    reassembly = ikefrag.Reassembly()
    reassembly.open(context(), first)
    thirds = [by_hand(1, 3, CHAIN[:90], "2b"), by_hand(2, 3, CHAIN[90:180])]
    assert put_together(thirds, reassembly) == [None, None]
    assert why_refused(reassembly.open, context(), first) == DROP_IKE_FRAGMENT  # of fewer
    assert reassembly.open(context(), by_hand(3, 3, CHAIN[180:])).inner == CHAIN


def test_another_message_takes_the_place():
    reassembly = ikefrag.Reassembly()
    reassembly.open(context(), fragments()[0])
    later = [
        by_hand(1, 2, CHAIN[:100], "2b", message_id="00000008"),
        by_hand(2, 2, CHAIN[100:], message_id="00000008"),
    ]
    assert put_together(later, reassembly)[1].header.message_id == 8


def test_a_whole_message_leaves_fragments_alone():
    first, second = fragments()
    reassembly = ikefrag.Reassembly()
    reassembly.open(context(), first)
    whole = ike.seal_message(context(), *HEAD, PAYLOADS, octets("0000000000000009"))
    assert reassembly.open(context(), whole).inner == CHAIN
    assert reassembly.open(context(), second).inner == CHAIN


def test_numbers_out_of_range():
    part = CHAIN[:50]
    for number, total, reason in (
        (0, 2, DROP_IKE_FORMAT),
        (3, 2, DROP_IKE_FORMAT),
        (1, 0, DROP_IKE_FORMAT),
        (1, ikefrag.MOST_FRAGMENTS + 1, DROP_IKE_FRAGMENT),
    ):
        data = by_hand(number, total, part)
        assert why_refused(ikefrag.Reassembly().open, context(), data) == reason
    assert put_together([by_hand(1, 1, CHAIN, "2b")])[0].inner == CHAIN


def test_memory_is_bounded():
    reassembly = ikefrag.Reassembly()
    reasons = [
        why_refused(reassembly.open, context(), by_hand(n, 32, bytes(1000), "2b"))
        for n in range(1, 6)
    ]
    assert reasons == [None, None, None, None, DROP_IKE_FRAGMENT]
    assert not reassembly.is_waiting


def test_a_message_that_nobody_would_take_is_not_made():
    try:
        fragments(MOST, [(ike.VENDOR, bytes(5000))])
        raise AssertionError("it was made")
    except ConfigError:
        pass


def test_a_fragment_must_end_the_message_and_hold_something():
    first = fragments()[0]
    for data in (first[:-17], first[:44], first[:36], first[:30]):
        data = bytearray(data)
        struct.pack_into(">I", data, 24, len(data))
        assert why_refused(ikefrag.Reassembly().open, context(), data) is not None
    nothing = by_hand(1, 2, b"", "2b")
    assert why_refused(ikefrag.Reassembly().open, context(), nothing) == DROP_IKE_FORMAT
    too_padded = by_hand(1, 2, b"", "2b", "ff")
    assert why_refused(ikefrag.Reassembly().open, context(), too_padded) == DROP_IKE_FORMAT
