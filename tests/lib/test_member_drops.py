"""Every reason for which receive() drops: counted, and nothing else changes."""

from covey.drops import (
    DROP_DUMMY,
    DROP_EMPTY,
    DROP_INNER_LENGTH,
    DROP_KEEPALIVE,
    DROP_LENGTH,
    DROP_NEXT_HEADER,
    DROP_OWN,
    DROP_PADDING,
    DROP_REPLAY,
    DROP_RETIRED_SPI,
    DROP_SELECTOR,
    DROP_SENDER_TABLE_FULL,
    DROP_STALE_SENDER,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
    IKE_MESSAGE,
)
from datapath import (
    ANY,
    GROUP,
    KEY256,
    a_receiver,
    a_sender,
    data_sa,
    deliver,
    delivers,
    good,
    member_state,
    packet,
    padded,
    refuses,
    send,
    u32,
    udp,
)

# ---- the carrier


def test_empty_keepalive_and_wrong_lengths():
    m = a_receiver()
    datagram = good()
    refuses(m, b"", DROP_EMPTY)
    refuses(m, b"\xff", DROP_KEEPALIVE)
    refuses(m, b"\xfe", DROP_LENGTH)
    for n in list(range(2, 36)) + [37, 38, 39, 41, len(datagram) + 1]:
        refuses(m, (datagram + b"\x00")[:n], DROP_LENGTH)
    for n in (len(m.rx) + 1, 2000):  # what the transport says of one that did not fit
        assert m.receive(n, 0) == DROP_LENGTH
    delivers(m, datagram, b"speed=1500", 65)


def test_ike_behind_the_marker_is_handed_on():
    m = a_receiver()
    for n in (4, 5, 32, 33, 36, 40, 511, 512):
        counts = m.drops.as_dict()
        assert deliver(m, bytes(4) + b"x" * (n - 4)) == IKE_MESSAGE, n
        assert m.drops.as_dict() == counts
    refuses(m, bytes(3), DROP_LENGTH)
    m.rx[:4] = bytes(4)
    assert m.receive(513, 0) == DROP_LENGTH


# ---- windows


def test_replays_recent_and_old():
    m = a_receiver()
    for seq in (1, 2, 3, 500, 499):
        delivers(m, good(seq=seq), b"speed=1500", 65)
    for seq in (1, 2, 3, 500, 499, 300, 0):
        refuses(m, good(seq=seq), DROP_REPLAY)
    delivers(m, good(seq=501), b"speed=1500", 65)
    delivers(m, good(seq=498), b"speed=1500", 65)


def test_two_senders_have_windows_of_their_own():
    m = a_receiver()
    for seq in (1000, 1001):
        delivers(m, good(seq=seq, sender=1 << 6), b"speed=1500", 1 << 6)
    for seq in (1, 2):
        delivers(m, good(seq=seq, sender=2 << 6), b"speed=1500", 2 << 6)
    refuses(m, good(seq=1, sender=1 << 6), DROP_REPLAY)
    refuses(m, good(seq=2, sender=2 << 6), DROP_REPLAY)
    delivers(m, good(seq=1000, sender=2 << 6), b"speed=1500", 2 << 6)


def test_large_numbers_of_others():
    m = a_receiver()
    for seq in (0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF):
        delivers(m, good(seq=seq), b"speed=1500", 65)
        refuses(m, good(seq=seq), DROP_REPLAY)
    delivers(m, good(seq=0xFFFFFFFD), b"speed=1500", 65)
    refuses(m, good(seq=0x80000000), DROP_REPLAY)
    refuses(m, good(seq=0), DROP_REPLAY)


def test_a_forged_newer_incarnation_takes_nothing_over():
    m = a_receiver()
    old, new = 5 << 6 | 1, 5 << 6 | 2
    delivers(m, good(seq=10, sender=old), b"speed=1500", old)
    forged = bytearray(good(seq=1, sender=new))
    forged[-1] ^= 1
    refuses(m, bytes(forged), DROP_TAG)
    delivers(m, good(seq=11, sender=old), b"speed=1500", old)
    refuses(m, packet(padded(udp(b"x"), 6), 1, new), DROP_NEXT_HEADER)
    delivers(m, good(seq=12, sender=old), b"speed=1500", old)
    delivers(m, good(seq=1, sender=new), b"speed=1500", new)
    refuses(m, good(seq=13, sender=old), DROP_STALE_SENDER)
    refuses(m, good(seq=1, sender=new), DROP_REPLAY)
    delivers(m, good(seq=2, sender=new), b"speed=1500", new)


def test_a_full_table_of_senders():
    m = a_receiver(sender_slots=2, form=None)
    for sender in (7, 8):
        delivers(m, good(sender=sender), b"speed=1500", sender)
    refuses(m, good(sender=9), DROP_SENDER_TABLE_FULL)
    delivers(m, good(seq=2, sender=7), b"speed=1500", 7)
    refuses(m, good(seq=2, sender=7), DROP_REPLAY)


def test_forgers_fill_no_table():
    m = a_receiver(sender_slots=2)
    for sender in range(0, 640, 64):
        refuses(m, good(sender=sender, keymat=KEY256[16:36]), DROP_TAG)
    for sender in (640, 704):
        delivers(m, good(sender=sender), b"speed=1500", sender)


def test_the_one_sender_takes_nothing_under_its_sa():
    """RFC 9838 section 2.3.3: outbound only. Its own, another's, a forged one: all alike."""
    for sender_id, width in ((65, 16), (5, 8), (0, 0)):
        m = a_sender(sender_id, width, sn=0, bits=None, form=None)
        own = send(m, b"mine")
        for datagram in (own, good(), good(seq=9, sender=66), good(seq=7, keymat=KEY256)):
            refuses(m, datagram, DROP_OWN)
        other = a_receiver(sn=0, bits=None, form=None)
        delivers(other, own, b"mine", None)
        refuses(other, own, DROP_REPLAY)
        assert m.keys.live()[0].senders.bits == width


def test_widths_without_a_form():
    """RFC 6054 section 3: 8, 12 and 16 bits. One window a Sender-ID, whatever lies below it."""
    for width in (8, 12, 16):
        m = a_sender(5, width, bits=width, form=None)
        other = a_receiver(bits=width, form=None)
        for n in (1, 2):
            packet_of_ours = send(m, b"%d" % n)
            assert packet_of_ours[8:16] == u32(5 << 32 - width) + u32(n)
            delivers(other, packet_of_ours, b"%d" % n, 5)
            refuses(other, packet_of_ours, DROP_REPLAY)
            refuses(m, packet_of_ours, DROP_OWN)
        for text in (b"random", b"ivvvvv"):
            iv = u32(6 << 32 - width)[:2] + text
            datagram = packet(padded(udp(text)), ord(text[:1]), iv=iv)
            sender = iv[0] << 8 | iv[1]
            delivers(other, datagram, text, sender >> 16 - width)
            refuses(other, datagram, DROP_REPLAY)


def test_one_sender_and_no_width_one_window():
    m = a_receiver(sn=0, bits=None, form=None)
    delivers(m, packet(padded(udp(b"a")), 5, iv=b"random 1"), b"a", None)
    refuses(m, packet(padded(udp(b"a")), 5, iv=b"random 2"), DROP_REPLAY)
    delivers(m, packet(padded(udp(b"a")), 4, iv=b"random 3"), b"a", None)


def test_several_senders_and_no_width_no_window():
    m = a_receiver(sn=2, bits=None, form=None)
    for _ in range(2):
        delivers(m, packet(padded(udp(b"a")), 5, iv=b"random 1"), b"a", None)
    delivers(m, packet(padded(udp(b"a")), 0, iv=b"random 2"), b"a", None)


def test_spis_from_0_to_255():
    """RFC 4303 section 2.1: zero is never sent, the others are reserved: nobody has such an SA."""
    m = a_receiver()
    datagram = good()
    for spi in (1, 2, 127, 255):
        refuses(m, u32(spi) + datagram[4:], DROP_UNKNOWN_SPI)
    assert deliver(m, bytes(4) + datagram[4:]) == IKE_MESSAGE  # as a UDP port reads it


def test_every_slot_is_looked_into():
    m = a_receiver()
    spis = [b"new" + bytes([i]) for i in range(8)]
    for spi in spis[1:]:
        assert m.keys.install(data_sa(spi=spi), 0)  # the eighth fills the store
    refuses(m, good(spi=spis[0]), DROP_UNKNOWN_SPI)
    for spi in spis[:0:-1]:
        delivers(m, good(spi=spi), b"speed=1500", 65)
    m.keys.retire(spis[7], 0, 0)
    m.keys.retire(spis[3], 0, 0)
    m.keys.step(1)
    refuses(m, good(spi=spis[0]), DROP_UNKNOWN_SPI)
    refuses(m, good(seq=2, spi=spis[3]), DROP_RETIRED_SPI)
    delivers(m, good(seq=2, spi=spis[6]), b"speed=1500", 65)


# ---- the tag


def test_a_bit_flipped_anywhere():
    datagram = good(seq=9)
    m = a_receiver()
    delivers(m, good(seq=8), b"speed=1500", 65)
    seen = set()
    for octet in range(len(datagram)):
        for bit in (0, 7):
            forged = bytearray(datagram)
            forged[octet] ^= 1 << bit
            state = member_state(m)
            reason = deliver(m, forged)
            assert reason < 0 and member_state(m) == state, (octet, bit)
            seen.add(reason)
    assert seen == {DROP_UNKNOWN_SPI, DROP_STALE_SENDER, DROP_TAG, DROP_REPLAY}
    delivers(m, datagram, b"speed=1500", 65)


def test_truncated_anywhere_and_prolonged():
    datagram = good()
    m = a_receiver()
    for n in range(len(datagram)):
        state = member_state(m)
        assert deliver(m, datagram[:n]) < 0
        assert member_state(m) == state
    refuses(m, datagram + bytes(4), DROP_TAG)
    delivers(m, datagram, b"speed=1500", 65)


def test_another_key():
    m = a_receiver()
    refuses(m, good(keymat=KEY256[16:36]), DROP_TAG)
    refuses(m, good(keymat=KEY256), DROP_TAG)
    delivers(m, good(), b"speed=1500", 65)


def test_a_refused_packet_stays_sealed():
    m = a_receiver()
    forged = bytearray(good())
    forged[-1] ^= 1
    refuses(m, bytes(forged), DROP_TAG)
    assert m.rx[: len(forged)] == forged


# ---- inside a packet whose tag verified. The number stays free: it was never delivered.


def test_what_is_wrong_inside():
    m = a_receiver()
    inner = udp(b"12345678")
    cases = (
        (inner + bytes([1, 3, 2, 17]), DROP_PADDING),
        (inner + bytes([0, 0, 2, 17]), DROP_PADDING),
        (inner + bytes([1, 2, 19, 17]), DROP_PADDING),
        (bytes([0, 0, 255, 17]), DROP_PADDING),
        (padded(inner, 59), DROP_DUMMY),
        (b"any old noise" + bytes([255, 7, 59]), DROP_DUMMY),
        (padded(inner, 6), DROP_NEXT_HEADER),
        (padded(inner, 4), DROP_NEXT_HEADER),
        (padded(udp(b"12345678", length=7)), DROP_INNER_LENGTH),
        (padded(udp(b"12345678", length=17)), DROP_INNER_LENGTH),
        (padded(udp(b"", length=0)), DROP_INNER_LENGTH),
        (bytes([1, 2, 2, 17]), DROP_INNER_LENGTH),
        (padded(udp(b"x", port=2221)), DROP_SELECTOR),
        (padded(udp(b"x", port=0)), DROP_SELECTOR),
    )
    for text, reason in cases:
        refuses(m, packet(text), reason)
    delivers(m, packet(inner + bytes(range(1, 255)) + bytes([254, 17])), b"12345678", 65)


def test_selectors():
    m = a_receiver(destination=(GROUP, GROUP, 2222, 2223, 17), source=ANY[:2] + (3000, 3001, 17))
    for source in (2999, 3002, 0, 65535):
        refuses(m, packet(padded(udp(b"x", source, 2222))), DROP_SELECTOR)
    for port in (2221, 2224):
        refuses(m, packet(padded(udp(b"x", 3000, port))), DROP_SELECTOR)
    delivers(m, packet(padded(udp(b"x", 3000, 2222)), 1), b"x", 65)
    delivers(m, packet(padded(udp(b"x", 3001, 2223)), 2), b"x", 65)
