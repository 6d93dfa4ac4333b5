"""Receiving, refusing and sending take nothing from the heap."""

import gc

from counted import counted, taken
from covey.drops import (
    DROP_EXHAUSTED,
    DROP_NO_SA,
    DROP_NOT_SENDER,
    DROP_SILENT,
    DROP_TAG,
)
from covey.member import Member
from datapath import (
    BOARD,
    a_receiver,
    a_sender,
    data_sa,
    deliver,
    good,
    heap_octets,
    packet,
    padded,
    send,
    udp,
)

# ---- no heap


def test_no_heap_when_delivering():
    for n in (0, 10, 64):
        m = a_receiver()
        datagrams = [good(bytes(n), seq) for seq in range(1, 20)]
        turn = [0]

        def step(m=m, datagrams=datagrams, turn=turn, n=n):
            datagram = datagrams[turn[0]]
            turn[0] += 1
            for i in range(len(datagram)):
                m.rx[i] = datagram[i]
            assert m.receive(len(datagram), 0) == n

        assert heap_octets(step) == 0


def test_no_heap_when_refusing():
    m = a_sender()
    m.keys.retire(b"\0\0\0\0", 0, 0)
    m.keys.install(data_sa(b"\x00\x00\x00\x02", lifetime_s=0), 0)
    deliver(m, good(seq=5, sender=1 << 6 | 5))
    datagrams = (
        b"",
        b"\xff",
        b"x" * 37,
        bytes(40),
        good(spi=b"\xff\xff\xff\xff"),
        good(spi=b"\x00\x00\x00\x02"),
        good(sender=65),
        good(sender=1 << 6 | 4),
        good(seq=5, sender=1 << 6 | 5),
        good(seq=0xFFFFFFFF, sender=1 << 6 | 5)[:-1] + b"\x00",
        good(seq=7, sender=1 << 6 | 6)[:-1] + b"\x00",
        packet(bytes([1, 2, 3, 17]), 9, 128),
        packet(padded(b"", 59), 9, 128),
        packet(padded(b"", 6), 9, 128),
        packet(padded(udp(b"", length=9)), 9, 128),
        packet(padded(udp(b"", port=1)), 9, 128),
    )
    rx = m.rx

    def step():
        for datagram in datagrams:
            for i in range(len(datagram)):
                rx[i] = datagram[i]
            assert m.receive(len(datagram), 0) < 0

    before = sum(m.drops.as_dict().values())
    assert heap_octets(step) == 0
    calls = 12 if BOARD else 2
    assert sum(m.drops.as_dict().values()) - before == calls * (len(datagrams) - 1)
    assert len(m.drops.as_dict()) >= 13
    taken[0] = 0
    for is_shut in (True, False):
        m.shut(is_shut)
        for datagram in datagrams:
            rx[: len(datagram)] = datagram
            assert counted(m.receive, len(datagram), 0) < 0
    assert not taken[0], "a frame that is given back"
    assert m.drops.of(DROP_SILENT)


def test_no_heap_when_the_key_server_is_silent():
    m = a_sender()
    deliver(m, good(seq=5, sender=1 << 6 | 5))
    m.shut(True)
    datagram, rx = good(seq=6, sender=1 << 6 | 5), m.rx

    def step():
        for i in range(len(datagram)):
            rx[i] = datagram[i]
        assert m.receive(len(datagram), 0) == DROP_SILENT
        assert not m.confirmed

    assert heap_octets(step) == 0
    m.shut(False)
    assert deliver(m, datagram) >= 0


def test_no_heap_when_sending():
    m = a_sender()
    sa = m.keys.live()[0]
    sa.next_seq = 0x3FFFFF00
    silent = Member(payload_max=8, sender=True)

    def step():
        for n in range(0, 65, 8):
            assert m.send(n, 0) > 0
        assert m.send(65, 0) < 0
        assert silent.send(0, 0) < 0
        m.can_send(0)

    assert heap_octets(step) == 0
    sa.next_seq = 0x3FFFFFFF

    def exhausted():
        assert m.send(0, 0) == DROP_EXHAUSTED

    assert heap_octets(exhausted) == 0
    taken[0] = 0
    for member, reason in (
        (m, DROP_EXHAUSTED),
        (silent, DROP_NO_SA),
        (a_receiver(), DROP_NOT_SENDER),
    ):
        assert counted(member.send, 0, 0) == reason and not counted(member.can_send, 0)
    assert not taken[0], "a frame that is given back"


# A bytecode function with many slots takes its frame from the heap and gives it back, which
# neither lock nor count shows afterwards. So the heap is looked at from inside: by what the
# data path calls while its own functions are on the stack.


def _heap():
    return gc.mem_alloc() if BOARD else 0


class _Watch:
    """Stands for a context or for the drop counters, and looks at the heap when it is called."""

    def __init__(self, real):
        self._real = real
        self.seen = -1

    def open(self, buf, off, aad_len, text_len):
        self.seen = _heap()
        return self._real.open(buf, off, aad_len, text_len)

    def seal(self, buf, off, aad_len, text_len):
        self.seen = _heap()
        return self._real.seal(buf, off, aad_len, text_len)

    def count(self, reason):
        self.seen = _heap()
        return self._real.count(reason)

    def wipe(self):
        self.seen = _heap()


def _watched(m):
    """Watches in the place of a member's context and of its counters."""
    sa = m.keys.live()[0]
    sa.context = _Watch(sa.context)
    m.drops = _Watch(m.drops)
    return sa.context, m.drops


def test_no_heap_where_data_are_in_clear():
    """AES-GMAC: sent, delivered, refused for a changed bit."""
    a, b = a_sender(integrity_only=True), a_receiver(integrity_only=True)

    def step():
        n = a.send(10, 0)
        assert n > 0
        for flip in (1, 0):
            for i in range(n):
                b.rx[i] = a.tx[i]
            b.rx[24] ^= flip
            assert b.receive(n, 0) == (DROP_TAG if flip else 10)

    assert heap_octets(step) == 0


def test_no_frame_on_the_heap():
    a, b = a_sender(), a_receiver(lifetime_s=9)
    datagram, unknown = send(a, b"x"), good(spi=b"\xff\xff\xff\xff")
    context_a, drops_a = _watched(a)
    context_b, drops_b = _watched(b)
    gc.collect()
    gc.disable()
    for i in range(len(datagram)):
        b.rx[i] = datagram[i]
    before = _heap()
    b.receive(len(datagram), 0)
    assert context_b.seen == before
    b.receive(len(datagram) - 1, 0)
    assert drops_b.seen == before
    for i in range(len(unknown)):
        b.rx[i] = unknown[i]
    drops_b.seen = -1
    b.receive(len(unknown), 0)
    assert drops_b.seen == before
    a.send(1, 0)
    assert context_a.seen == before
    a.send(1000, 0)
    assert drops_a.seen == before
    b.receive(len(unknown), 9000)  # its lifetime ends
    assert context_b.seen == before
    gc.enable()
