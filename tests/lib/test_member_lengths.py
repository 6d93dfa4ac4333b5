"""Every length of a payload through Member, from send() to what receive() delivers, and datagrams
of that length refused: no heap, and each is the one that `cryptography` makes.

See lengths.py for the cases, counted.py for the heap.
"""

import gc
from hashlib import sha256

from counted import counted, locked, taken
from covey.drops import (
    DROP_INNER_LENGTH,
    DROP_LENGTH,
    DROP_OVERSIZE,
    DROP_PADDING,
    DROP_REPLAY,
    DROP_SELECTOR,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
)
from covey.gcm import GCMContext, GMACContext
from covey.member import Member
from datapath import BOARD, GROUP, SPI, data_sa
from lengths import DIGEST_LEN, KEYMATS, MOST_PAYLOAD, SENDER, text_of
from vectors import load

DIGESTS = load("lengths")[0]
DATAGRAM_MAX = 1536
AAD_LEN, OVERHEAD, TEXT = 8, 32, 16

if BOARD:
    from covey.port import mpy_gcm
    from test_gcm import KERNELS


class Pair:
    """A sender, a receiver, and the key that both have."""

    def __init__(self, bits, integrity_only, payload_max=MOST_PAYLOAD, datagram_max=DATAGRAM_MAX):
        keymat = KEYMATS[bits]
        self.sender = Member(payload_max, DATAGRAM_MAX, sa_slots=2, sender=True, reserves=True)
        self.receiver = Member(payload_max, datagram_max, sa_slots=2, reserves=True)
        for member in (self.sender, self.receiver):
            sa = data_sa(SPI, keymat, integrity_only=integrity_only)
            member.keys.install(sa, 0)
            if member.is_sender:
                sa.become_sender(SENDER, 16)
                member.keys.activate(SPI, 0, 0)
        self.key = (GMACContext if integrity_only else GCMContext)(keymat)

    def changed(self, datagram, at, octet):
        """The datagram of one who has the key, one octet of its text being another."""
        buf = bytearray(datagram)
        layout = 0, AAD_LEN, len(buf) - OVERHEAD
        assert self.key.open(buf, *layout)
        buf[at] = octet
        self.key.seal(buf, *layout)
        return buf

    def refused(self, datagram):
        """(DROP_*, datagram, its length) of what is near to this one, and must not be taken."""
        n = len(datagram)
        for at in (4, 8, 15, TEXT, n - 17, n - 16, n - 1):
            forged = bytearray(datagram)
            forged[at] ^= 1 << (n + at & 7)
            yield DROP_TAG, forged, n
        unknown = bytearray(datagram)
        unknown[n & 3] ^= 1
        yield DROP_UNKNOWN_SPI, unknown, n
        for cut in (4, 8):
            yield DROP_TAG, datagram, n - cut
        for wrong in (n - 1, n - 2, n - 3, 35, DATAGRAM_MAX + 4):
            yield DROP_LENGTH, datagram, wrong
        yield DROP_PADDING, self.changed(datagram, n - 18, 255), n
        clear = bytearray(datagram)
        assert self.key.open(clear, 0, AAD_LEN, n - OVERHEAD)
        if clear[n - 18]:
            yield DROP_PADDING, self.changed(datagram, n - 19, 0), n
        yield DROP_SELECTOR, self.changed(datagram, TEXT + 2, 0), n
        yield DROP_INNER_LENGTH, self.changed(datagram, TEXT + 4, 255), n


def check_length(pair, n, digest, quiet):
    """payload → datagram → refused, delivered, refused as a replay."""
    sender, receiver = pair.sender, pair.receiver
    payload = text_of(n)
    sender.out[:n] = payload
    length = quiet(sender.send, n, 0, GROUP if n & 1 else None)
    assert length == OVERHEAD + (8 + n + 5 & ~3)
    datagram = bytes(sender.tx[:length])
    assert sha256(datagram).digest()[:DIGEST_LEN] == digest, n
    opened = receiver.opened
    for reason, forged, forged_len in pair.refused(datagram):
        receiver.rx[: len(forged)] = forged
        got = quiet(receiver.receive, forged_len, 0)
        assert got == reason, (n, reason, got)
    assert receiver.opened == opened
    receiver.rx[:length] = datagram
    assert quiet(receiver.receive, length, 0) == n
    assert receiver.payload == payload and receiver.sender == SENDER
    receiver.rx[:length] = datagram
    assert quiet(receiver.receive, length, 0) == DROP_REPLAY
    assert receiver.opened == opened + 1


def check_lengths(kind, bits):
    """kind: gcm or gmac."""
    digests = bytes.fromhex(DIGESTS["esp %s %d" % (kind, bits)])
    assert len(digests) == DIGEST_LEN * (MOST_PAYLOAD + 1)
    for quiet in (counted, locked):
        pair = Pair(bits, kind == "gmac")
        taken[0] = 0
        for n in range(MOST_PAYLOAD + 1):
            check_length(pair, n, digests[DIGEST_LEN * n : DIGEST_LEN * n + DIGEST_LEN], quiet)
            assert not taken[0], (kind, bits, n, taken)
        for n in (MOST_PAYLOAD + 1, 4096, -1):
            assert quiet(pair.sender.send, n, 0) == DROP_OVERSIZE
        assert not taken[0]
        gc.collect()


def each_kernel(check, *how):
    if not BOARD:
        return check(*how)
    GCMContext(bytes(20))  # the first loads the usual one
    usual = mpy_gcm._ghash
    try:
        for kernel in KERNELS[::-1]:
            mpy_gcm._ghash = kernel
            check(*how)
    finally:
        mpy_gcm._ghash = usual


def test_gcm_128():
    each_kernel(check_lengths, "gcm", 128)


def test_gcm_256():
    each_kernel(check_lengths, "gcm", 256)


def test_gmac_128():
    each_kernel(check_lengths, "gmac", 128)


def test_gmac_256():
    each_kernel(check_lengths, "gmac", 256)


def test_a_member_made_for_less():
    """What is longer than its buffers is refused by its length, sent or received."""
    most, datagram_max = 100, 144
    for quiet in (counted, locked):
        pair = Pair(128, False, most, datagram_max)
        long = Pair(128, False)
        receiver = pair.receiver
        taken[0] = 0
        for n in range(300):
            length = quiet(long.sender.send, n, 0)
            fits = length <= datagram_max
            if fits:
                receiver.rx[:length] = long.sender.tx[:length]
            assert quiet(receiver.receive, length, 0) == (n if fits else DROP_LENGTH), n
            assert (quiet(pair.sender.send, n, 0) > 0) is (n <= most), n
        assert not taken[0]
