"""What the tests of the data path share: members, packets sealed by hand, a count of the heap."""

import gc
import sys

from covey.drops import names
from covey.gcm import GCMContext
from covey.member import Member
from covey.path import DataPath, accept, admit, frame, trim
from covey.replay import SenderTable
from covey.sa import DataSA

BOARD = sys.implementation.name == "micropython"

KEY128 = bytes(range(20))  # AES key, salt
KEY256 = bytes(range(36))
SPI = b"\x9f\x3a\x12\xc4"
GROUP = bytes([239, 192, 1, 32])
DESTINATION = (GROUP, GROUP, 2222, 2222, 17)
ANY = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", 0, 65535, 0)
FORM = (10, 16)


def data_sa(
    spi=SPI,
    keymat=KEY128,
    destination=DESTINATION,
    source=ANY,
    sn=2,
    bits=16,
    form=FORM,
    lifetime_s=None,
    epoch=1,
    sender_slots=16,
    integrity_only=False,
):
    return DataSA(
        spi,
        keymat,
        destination,
        source,
        sn,
        bits,
        form,
        lifetime_s,
        epoch,
        sender_slots,
        integrity_only,
    )


def u32(n):
    return bytes([n >> 24, n >> 16 & 255, n >> 8 & 255, n & 255])


def udp(payload, source=2222, port=2222, length=None):
    """An inner UDP datagram, its length field as it should be unless told."""
    length = len(payload) + 8 if length is None else length
    fields = (source, port, length, 0)
    return b"".join([bytes([f >> 8, f & 255]) for f in fields]) + payload


def padded(inner, next_header=17):
    """RFC 4303 section 2.4: to a multiple of four with 1 2 3, pad length, next header."""
    pad = bytes(range(1, 1 + (-len(inner) - 2) % 4))
    return inner + pad + bytes([len(pad), next_header])


def packet(text, seq=1, sender=65, spi=SPI, keymat=KEY128, iv=None):
    """An ESP packet around this text, whatever it is. sender: of 16 bits."""
    iv = iv or bytes([sender >> 8, sender & 255, 0, 0]) + u32(seq)
    buf = bytearray(spi + u32(seq) + iv + text + bytes(16))
    GCMContext(keymat).seal(buf, 0, 8, len(text))
    return bytes(buf)


def good(payload=b"speed=1500", seq=1, sender=65, **how):
    return packet(padded(udp(payload)), seq, sender, **how)


def deliver(member, datagram, now_ms=0):
    """What the transport does."""
    member.rx[: len(datagram)] = datagram
    return member.receive(len(datagram), now_ms)


def table_state(table):
    """All that a SenderTable remembers."""
    return list(table.words)


class Bare:
    """A data path around the words of one SA: the kernels alone, without keys and counters."""

    def __init__(self, sa, size=600):
        self.rx = bytearray(size)
        self.tx = bytearray(size)
        self.sa = sa
        self.path = DataPath(1, self.rx, self.tx, size - 44)
        self.path.words[0] = 1  # ticks at which a step is due
        self.path.enter(0, sa.spi, sa.words)
        self.path.choose(0)
        self.rx[:4] = sa.spi

    def admit(self, sender, number):
        """0 or a DROP_*, for a packet of this number from this sender (as wide as the SA says)."""
        rx, bits = self.rx, self.sa.senders.bits
        iv_head = sender << (32 - bits)
        for i in range(4):
            rx[4 + i] = number >> (24 - 8 * i) & 255
            rx[8 + i] = iv_head >> (24 - 8 * i) & 255
        return admit(self.path.place, 36, 0)

    def accept(self):
        """What admit() has just let pass."""
        accept(self.path.place, 0)

    def trim(self, text):
        """The payload's length in an opened packet with this text, or a DROP_*."""
        assert self.admit(0xFFFF, 1) == 0
        self.rx[16 : 16 + len(text)] = text
        return trim(self.path.place, len(text))

    def frame(self, payload, seq):
        """The datagram around payload, but for its ICV."""
        self.sa.next_seq = seq
        self.tx[24 : 24 + len(payload)] = payload
        text_len = frame(self.path.place, len(payload), 0)
        return bytes(self.tx[: 16 + text_len])


class Windows:
    """A SenderTable as admit() and accept() use it."""

    def __init__(self, slots, bits=0, index_bits=None):
        self.table = SenderTable(slots, bits, index_bits)
        sa = data_sa()
        sa.track(self.table)
        self.bare = Bare(sa, 36)
        self.admit = self.bare.admit
        self.accept = self.bare.accept
        self.bar = self.table.bar

    def state(self):
        return table_state(self.table)


def a_receiver(**how):
    m = Member(payload_max=64, datagram_max=512)
    m.keys.install(data_sa(**how), 0)
    return m


def a_sender(sender_id=65, width=16, **how):
    m = Member(payload_max=64, datagram_max=512, sender=True)
    sa = data_sa(**how)
    sa.become_sender(sender_id, width)
    m.keys.install(sa, 0)
    m.keys.activate(sa.spi, 0, 0)
    return m


def send(m, payload, now_ms=0):
    """The datagram, or the reason for none."""
    m.out[: len(payload)] = payload
    n = m.send(len(payload), now_ms)
    return bytes(m.tx[:n]) if n > 0 else n


def member_state(m):
    """All that a datagram could change, but the counters of drops and the buffer itself."""
    tables = [table_state(sa.senders) for sa in m.keys.live()]
    numbers = [sa.next_seq for sa in m.keys.live()]
    notes = (m.payload_len, m.sender, m.confirmed, m.opened, m.sent, m.wants_rekey)
    return (tables, numbers, notes, m.keys.sending)


def refuses(m, datagram, reason):
    """It is dropped for this reason, counted under it alone, and changes nothing else."""
    counts, state = m.drops.as_dict(), member_state(m)
    assert deliver(m, datagram) == reason, names()[reason]
    counts[names()[reason]] = counts.get(names()[reason], 0) + 1
    assert m.drops.as_dict() == counts
    assert member_state(m) == state


def delivers(m, datagram, payload, sender):
    opened = m.opened
    assert deliver(m, datagram) == len(payload)
    assert m.payload == payload and m.sender == sender and m.confirmed is False
    assert m.payload_len == len(payload) and m.opened == opened + 1
    assert bytes(m.rx[m.payload_off : m.payload_off + m.payload_len]) == payload


def locked(step):
    """Call step() where an allocation is a MemoryError; on CPython only call it."""
    if not BOARD:
        return step()
    import micropython

    micropython.heap_lock()
    try:
        step()
    finally:
        micropython.heap_unlock()


def heap_octets(step):
    """Octets of heap that ten calls of step() take; on CPython only calls it: 0.

    Once under heap_lock, then by counting, for what the lock alone would hide.
    """
    step()  # what only the first call allocates, such as a cache
    locked(step)
    if not BOARD:
        return 0
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(10):
        step()
    after = gc.mem_alloc()
    gc.enable()
    return after - before
