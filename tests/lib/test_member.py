"""The data path: literal octets both ways, sending, what comes and goes with time."""

from covey import esp, member
from covey.drops import (
    DROP_EXHAUSTED,
    DROP_NO_SA,
    DROP_NOT_RECEIVER,
    DROP_NOT_SENDER,
    DROP_OVERSIZE,
    DROP_OWN,
    DROP_REPLAY,
    DROP_RETIRED_SPI,
    DROP_STALE_SENDER,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
    ConfigError,
)
from covey.member import Member
from datapath import (
    ANY,
    BOARD,
    GROUP,
    KEY128,
    KEY256,
    SPI,
    a_receiver,
    a_sender,
    data_sa,
    deliver,
    delivers,
    good,
    packet,
    padded,
    refuses,
    send,
    u32,
    udp,
)

# What scapy makes of these; tests/host/test_esp_scapy.py makes them again and compares.
# (keymat, SPI, number, IV, source port, payload, packet)
LITERAL = (
    (
        KEY128,
        "9f3a12c4",
        1,
        "0041000000000001",
        2222,
        b"speed=1500",
        "9f3a12c4000000010041000000000001e9c04957ecffb8a0304ead52d8fbf692"
        "828bfc976e18ee1ef51e47ec673c3f1833a5ccae",
    ),
    (
        KEY256,
        "9f3a12c4",
        0x3FFFFFFE,
        "ffff00003ffffffe",
        2222,
        b"",
        "9f3a12c43ffffffeffff00003ffffffe300d54ed1d7cd9cfcdf64a1966a77a21d72aeea8e3180d2d9341f67f",
    ),
    (
        KEY128,
        "ffffffff",
        0xFEDCBA98,
        "00410badc0ffee11",
        40000,
        b"stop!",
        "fffffffffedcba9800410badc0ffee113a7036834802b9dd4b9d1aa4a61f44d1"
        "6d77ee60ac5ec6873db1a769aa19fe4b",
    ),
)


# ---- there and back


def test_one_buffer_serves_both_ways():
    """Who has taken what was received before it sends needs no second one."""
    m = Member(payload_max=64, datagram_max=512, sender=True, shares=True)
    sa = data_sa()
    sa.become_sender(65, 16)
    m.keys.install(sa, 0)
    m.keys.activate(sa.spi, 0, 0)
    assert m.tx is m.rx
    other = a_receiver()
    for seq in (1, 2):
        delivers(other, send(m, b"on" * seq), b"on" * seq, 65)
        delivers(m, good(b"off" * seq, seq, 66), b"off" * seq, 66)


def test_literal_packets_are_delivered():
    for keymat, spi, _, iv, source, payload, octets in LITERAL:
        source = ANY[:2] + (source, source, 17)
        for form in ((10, 16), None):
            m = a_receiver(spi=bytes.fromhex(spi), keymat=keymat, source=source, form=form)
            delivers(m, bytes.fromhex(octets), payload, int(iv[:4], 16))
            refuses(m, bytes.fromhex(octets), DROP_REPLAY)


def test_literal_packets_are_sent():
    for keymat, spi, seq, iv, source, payload, octets in LITERAL[:2]:
        m = a_sender(int(iv[:4], 16), spi=bytes.fromhex(spi), keymat=keymat)
        m.keys.live()[0].next_seq = seq
        assert source == 2222
        assert send(m, payload) == bytes.fromhex(octets)
        assert m.keys.live()[0].next_seq == seq + 1


def test_every_length_both_keys():
    for keymat in (KEY128, KEY256):
        a, b = a_sender(keymat=keymat), a_receiver(keymat=keymat)
        for n in range(65):
            payload = bytes([i * 11 & 255 for i in range(n)])
            datagram = send(a, payload)
            assert len(datagram) == esp.datagram_len(n) and len(datagram) % 4 == 0
            delivers(b, datagram, payload, 65)
        assert a.sent == b.opened == 65 and b.drops.as_dict() == {}


def test_longest_payload_fits_an_ethernet_frame():
    a, b = Member(sender=True), Member()
    sa = data_sa()
    sa.become_sender(65, 16)
    a.keys.install(sa, 0)
    a.keys.activate(SPI, 0, 0)
    b.keys.install(data_sa(), 0)
    payload = bytes(range(238)) * 6
    assert len(payload) == a.payload_max
    datagram = send(a, payload)
    assert len(datagram) == 1500 - 20 - 8
    delivers(b, datagram, payload, 65)


def test_what_we_send_reads_as_the_figure_says():
    m = a_sender(0x0041)
    first, second = send(m, b"one"), send(m, b"two")
    assert first[:16] == SPI + u32(1) + b"\x00\x41\x00\x00" + u32(1)
    assert second[:16] == SPI + u32(2) + b"\x00\x41\x00\x00" + u32(2)
    narrow = a_sender(5, 8, bits=8, form=None)
    assert send(narrow, b"")[8:16] == b"\x05\x00\x00\x00" + u32(1)
    odd = a_sender(0x155, 9, bits=9, form=None)
    assert send(odd, b"")[8:16] == b"\xaa\x80\x00\x00" + u32(1)
    wide = a_sender(0x80000001, 32, bits=32, form=None)
    assert send(wide, b"")[8:16] == b"\x80\x00\x00\x01" + u32(1)
    alone = a_sender(0, 0, sn=0, bits=None, form=None)
    assert send(alone, b"")[8:16] == bytes(4) + u32(1)


def test_every_width_of_sender_id():
    for bits in range(1, 33):
        sender = (1 << bits) - 1
        a = a_sender(sender, bits, bits=bits, form=None)
        b = a_receiver(bits=bits, form=None)
        delivers(b, send(a, b"hi"), b"hi", sender)


def test_any_iv_below_the_sender_id():
    m = a_receiver()
    for i in range(8):
        iv = b"\x00\x41" + bytes([(i * 37 + j * 59) & 255 for j in range(6)])
        delivers(m, packet(padded(udp(b"x")), 7 + i, iv=iv), b"x", 65)


# ---- the security association


def test_unknown_spi():
    m = a_receiver()
    for octet in range(4):
        spi = bytearray(SPI)
        spi[octet] ^= 1
        refuses(m, good(spi=bytes(spi)), DROP_UNKNOWN_SPI)
    assert not m.missed_rekey
    delivers(m, good(), b"speed=1500", 65)


def test_an_announced_spi_says_that_a_rekey_was_missed():
    m = a_receiver()
    coming = b"\x01\x02\x03\x04"
    m.keys.announce([coming])
    refuses(m, good(spi=b"\x01\x02\x03\x05"), DROP_UNKNOWN_SPI)
    assert not m.missed_rekey
    refuses(m, good(spi=coming), DROP_UNKNOWN_SPI)
    assert m.missed_rekey
    m.missed_rekey = False
    m.keys.install(data_sa(coming), 0)
    delivers(m, good(spi=coming), b"speed=1500", 65)
    assert not m.missed_rekey


def test_retired_when_its_time_is_over_even_if_nobody_steps():
    m = a_receiver()
    m.keys.install(data_sa(b"\x00\x00\x00\x02"), 0)
    m.keys.retire(SPI, 0, 5)
    delivers(m, good(seq=1), b"speed=1500", 65)
    assert deliver(m, good(seq=2), 4999) == 10
    assert deliver(m, good(seq=3), 5000) == DROP_RETIRED_SPI
    refuses(m, good(seq=4), DROP_RETIRED_SPI)
    delivers(m, good(spi=b"\x00\x00\x00\x02"), b"speed=1500", 65)


def test_a_lifetime_ends_between_two_packets():
    m = a_receiver(lifetime_s=2)
    assert deliver(m, good(seq=1), 1999) == 10
    assert deliver(m, good(seq=2), 2000) == DROP_RETIRED_SPI


def test_our_own_packets_come_back():
    m = a_sender(65)
    own = send(m, b"mine")
    refuses(m, own, DROP_OWN)
    refuses(m, good(seq=77, sender=65, keymat=KEY256[:20]), DROP_OWN)
    forged = bytearray(own)
    forged[-1] ^= 1
    refuses(m, bytes(forged), DROP_OWN)  # before any cryptography
    delivers(m, good(sender=66), b"speed=1500", 66)


def test_our_own_packets_of_before_come_back():
    m = a_sender(5 << 6 | 1)
    old = send(m, b"mine")
    m.keys.live()[0].become_sender(5 << 6 | 2, 16)
    new = send(m, b"mine too")
    assert new[4:8] == u32(2)
    refuses(m, new, DROP_OWN)
    refuses(m, old, DROP_STALE_SENDER)


def test_a_receiver_hears_all_senders():
    m = a_receiver()
    delivers(m, good(sender=65), b"speed=1500", 65)
    delivers(m, good(sender=0), b"speed=1500", 0)
    delivers(m, good(sender=0xFFFF), b"speed=1500", 0xFFFF)


# ---- sending


def test_nothing_to_send_under():
    m = Member(payload_max=64, sender=True)
    assert send(m, b"x") == DROP_NO_SA and not m.can_send(0)
    receiver = a_receiver()
    assert send(receiver, b"x") == DROP_NOT_SENDER and not receiver.can_send(0)
    assert m.drops.as_dict() == {"no_sa": 1} and m.sent == 0


def test_who_only_sends_is_delivered_nothing():
    m = Member(payload_max=64, sender=True, receiver=False)
    sa = data_sa()
    sa.become_sender(0x41, 16)
    m.keys.install(sa, 0)
    m.keys.activate(sa.spi, 0, 0)
    for is_shut in (False, True, False):  # as while the key server is silent, and after
        m.shut(is_shut)
        refuses(m, good(sender=7), DROP_NOT_RECEIVER)
    assert send(m, b"x") and m.drops.as_dict() == {"not_receiver": 3}


def test_before_atd_and_after_silence():
    m = Member(payload_max=64, sender=True)
    sa = data_sa()
    sa.become_sender(65, 16)
    m.keys.install(sa, 0)
    m.keys.activate(SPI, 0, 3)
    assert send(m, b"x", 2999) == DROP_NO_SA and not m.can_send(2999)
    assert m.can_send(3000)
    assert len(send(m, b"x", 3000)) == esp.datagram_len(1)
    m.keys.silence()
    assert send(m, b"x", 3001) == DROP_NO_SA and not m.can_send(3001)
    assert deliver(m, good(sender=66)) == 10  # and still hears


def test_rollover_without_a_gap():
    a, b = a_sender(), a_receiver()
    new = b"\x00\x00\x00\x02"
    for m in (a, b):
        sa = data_sa(new, KEY256, epoch=2)
        if m is a:
            sa.become_sender(66, 16)
        m.keys.install(sa, 1000)
        m.keys.activate(new, 1000, 5) if m is a else None
        m.keys.retire(SPI, 1000, 10)
    for now_ms in range(1000, 12000, 500):
        datagram = send(a, b"x", now_ms)
        assert datagram[:4] == (SPI if now_ms < 6000 else new)
        assert deliver(b, datagram, now_ms) == 1, now_ms
    assert b.drops.as_dict() == {}
    assert len(a.keys.live()) == len(b.keys.live()) == 1


def test_several_destinations():
    m = a_sender()
    other = (b"\xef\xc0\x01\x40", b"\xef\xc0\x01\x40", 5000, 5000, 17)
    sa = data_sa(b"\x00\x00\x00\x02", destination=other, epoch=2)
    sa.become_sender(65, 16)
    m.keys.install(sa, 0)
    m.keys.activate(sa.spi, 0, 0)
    for destination, spi in ((GROUP, SPI), (other[0], sa.spi), (None, sa.spi)):
        assert m.send(0, 0, destination) > 0
        assert m.tx[:4] == spi
    assert m.send(0, 0, bytes(4)) == DROP_NO_SA


def test_oversize():
    m = a_sender()
    for n in (65, 1000, -1):
        assert m.send(n, 0) == DROP_OVERSIZE
    assert m.drops.as_dict() == {"oversize": 3}
    assert m.keys.live()[0].next_seq == 1
    assert len(send(m, bytes(64))) == len(m.tx)


def test_numbers_run_short_and_then_out():
    m = a_sender()
    sa = m.keys.live()[0]
    sa.next_seq = 0x2FFFFFFF
    send(m, b"x")
    assert not m.wants_rekey
    send(m, b"x")
    assert m.wants_rekey
    m.wants_rekey = False
    sa.next_seq = 0x3FFFFFFE
    assert send(m, b"x")[4:8] == u32(0x3FFFFFFE)
    assert m.wants_rekey and not m.can_send(0)
    for _ in range(3):
        assert send(m, b"x") == DROP_EXHAUSTED
    assert sa.next_seq == 0x3FFFFFFF
    assert m.drops.as_dict() == {"exhausted": 3}


def test_a_number_is_used_up_even_if_sealing_fails():
    m = a_sender()
    sa = m.keys.live()[0]
    context, sa.context = sa.context, _Broken()
    try:
        m.send(0, 0)
        raise AssertionError("it did not fail")
    except OSError:
        pass
    sa.context = context
    assert send(m, b"x")[4:8] == u32(2)


class _Broken:
    def seal(self, buf, off, aad_len, text_len):
        raise OSError(5)


# ---- the object itself


def test_views():
    m = a_receiver()
    assert len(m.out) == m.payload_max == 64
    assert m.payload == b""
    deliver(m, good(b"abc"))
    assert bytes(m.payload) == b"abc" and len(m.payload) == 3
    m.out[:2] = b"hi"
    assert m.tx[m.payload_off : m.payload_off + 2] == b"hi"


def test_limits_are_checked():
    for how in (
        {"payload_max": -1},
        {"payload_max": 1493},
        {"datagram_max": 35},
        {"datagram_max": 1537},
    ):
        try:
            Member(**how)
            raise AssertionError(how)
        except ConfigError:
            pass
    m = Member(payload_max=0, datagram_max=36)
    assert m.send(0, 0) == DROP_NOT_SENDER
    Member(payload_max=1492, datagram_max=1536)


def test_the_clock_wraps_while_packets_go():
    start = (1 << 30) - 1000
    m = Member(payload_max=64, datagram_max=512, sender=True)
    sa = data_sa(lifetime_s=2)
    sa.become_sender(65, 16)
    m.keys.install(sa, start)
    m.keys.activate(sa.spi, start, 1)
    seq = 0
    for now_ms, may_send in ((start, False), (start + 999, False), (0, True), (999, True)):
        seq += 1
        assert deliver(m, good(b"x", seq, 129), now_ms) == 1, now_ms
        assert m.send(1, now_ms) == (44 if may_send else DROP_NO_SA), now_ms
    assert deliver(m, good(b"x", 9, 129), 1000) == DROP_RETIRED_SPI
    assert m.send(1, 1000) == DROP_NO_SA


def test_integrity_alone():
    """RFC 4543: everybody can read the payload, and nobody change it."""
    a, b = a_sender(integrity_only=True), a_receiver(integrity_only=True)
    for n in range(65):
        datagram = send(a, b"\xa5" * n)
        assert datagram[24 : 24 + n] == b"\xa5" * n
        delivers(b, datagram, b"\xa5" * n, 65)
        refuses(b, datagram, DROP_REPLAY)
        forged = bytearray(send(a, b"\xa5" * n))
        forged[n % (len(forged) - 10) + 10] ^= 1  # all but the Sender-ID and what is before it
        assert deliver(b, forged) == DROP_TAG
    refuses(a_receiver(), send(a, b"x"), DROP_TAG)  # whose policy is to encrypt


def test_counts_wrap_in_a_small_integer():
    a, b = a_sender(), a_receiver()
    a.words[22] = b.words[20] = 0x3FFFFFFF  # as path.py has them
    deliver(b, send(a, b"x"))
    assert a.sent == b.opened == 0


def test_offsets_are_those_of_the_figure():
    if BOARD:
        return  # folded away by the compiler; CPython still sees them
    assert (member._AAD_LEN, member._OVERHEAD) == (esp.AAD_LEN, esp.OVERHEAD)
    assert member._LEAST == esp.LEAST and member._PAYLOAD == esp.PAYLOAD
