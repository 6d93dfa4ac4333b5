"""Every length of a text and every length of AAD that ESP and IKE have, on every kernel: what
`cryptography` makes of it, refused when a bit or a length is wrong, opened; and no heap.

See lengths.py for the cases, counted.py for the heap.
"""

import gc
from hashlib import sha256

from counted import BOARD, counted, locked, taken
from covey.gcm import GCMContext, GMACContext
from lengths import AAD_LENS, DIGEST_LEN, KEYMATS, MOST_TEXT, case
from test_gcm import Rare, refuses
from vectors import load

DIGESTS = load("lengths")[0]
EVERY = range(MOST_TEXT + 1)

if BOARD:
    from covey.port import mpy_gcm
    from test_gcm import KERNELS, with_kernel


def usual(keymat, context=GCMContext):
    return context(keymat)


def digests_of(kind):
    return bytes.fromhex(DIGESTS[kind])


def test_the_heap_is_watched():
    """Trap: what the lock alone would not show."""
    if not BOARD:
        return

    def takes(a, b, c, d):
        return bytearray(d)

    def has_a_large_frame(a, b, c, d):
        e = f = g = h = i = j = k = l = m = n = o = d  # noqa: E741
        return a + b + c + d + e + f + g + h + i + j + k + l + m + n + o

    for call, most in ((takes, 80), (has_a_large_frame, 400)):
        taken[0] = 0
        counted(call, 0, 0, 0, 40)
        assert 0 < taken[0] <= most, taken
    assert locked(has_a_large_frame, 0, 0, 0, 40)
    assert refuses(MemoryError, locked, takes, 0, 0, 0, 40)
    taken[0] = 0


def forgeries(off, aad_len, n):
    """Where a bit is turned: in AAD, IV, text, tag, at their ends."""
    text = off + aad_len + 8
    places = [off, text - 1, text + n, text + n + 15]
    if n:
        places += [text, text + n - 1]
    return places


def check_length(context, buf, off, aad_len, n, digest, quiet):
    aad, iv, text = case(n, aad_len)
    clear = b"\xa5" * off + aad + iv + text + bytes(16) + b"\x5a" * 24
    buf[: len(clear)] = clear
    quiet(context.seal, buf, off, aad_len, n)
    end = off + aad_len + n + 24
    assert sha256(memoryview(buf)[off:end]).digest()[:DIGEST_LEN] == digest, n
    sealed = bytes(buf)
    for at in forgeries(off, aad_len, n):
        buf[at] ^= 1 << (n + at & 7)
        assert quiet(context.open, buf, off, aad_len, n) is False, (n, at)
        buf[at] ^= 1 << (n + at & 7)
    for wrong in (n - 1, n + 1, n - 16, n + 16):
        if 0 <= wrong <= MOST_TEXT:
            assert quiet(context.open, buf, off, aad_len, wrong) is False, (n, wrong)
    assert buf == sealed, "a forgery has changed the buffer"
    assert quiet(context.open, buf, off, aad_len, n) is True, n
    opened = end - 16
    assert buf[:opened] == clear[:opened] and buf[opened:] == sealed[opened:], n


def check_lengths(make, kind, lengths=EVERY, off=0, context=GCMContext):
    """kind: name, bits of the key, length of AAD."""
    digests = digests_of(kind)
    _, bits, aad_len = kind.split()
    bits, aad_len = int(bits), int(aad_len)
    assert len(digests) == DIGEST_LEN * len(EVERY)
    context = make(KEYMATS[bits], context=context)
    buf = bytearray(off + aad_len + 8 + MOST_TEXT + 16 + 24)
    for quiet in (counted, locked):
        taken[0] = 0
        for n in lengths:
            digest = digests[DIGEST_LEN * n : DIGEST_LEN * n + DIGEST_LEN]
            check_length(context, buf, off, aad_len, n, digest, quiet)
            assert not taken[0], (kind, n, taken)
    gc.collect()


def kernels():
    """Those with tables, on a board of 32 bits one unrolled and one in loops; that without."""
    if not BOARD:
        return [usual]
    return [
        lambda keymat, context, kernel=kernel: with_kernel(kernel, keymat, context)
        for kernel in KERNELS[::-1]
    ]


def test_gcm():
    for make in kernels():
        for bits in KEYMATS:
            for aad_len in AAD_LENS:
                check_lengths(make, "gcm %d %d" % (bits, aad_len))


def test_gcm_anywhere_in_memory():
    for make in kernels():
        for off in (1, 2, 3):
            check_lengths(make, "gcm 128 8", off=off)


def test_gmac():
    for make in kernels():
        for bits in KEYMATS:
            for off in (0, 1):
                check_lengths(make, "gmac %d 8" % bits, off=off, context=GMACContext)


def test_beyond_the_most():
    """Refused before anything is touched, by every kernel, and without heap but the error's."""
    if not BOARD:
        return
    for make in kernels():
        context = make(KEYMATS[128], context=GCMContext)
        buf = bytearray(MOST_TEXT + 64)
        for call in (context.seal, context.open):
            assert refuses(ValueError, call, buf, 0, 8, MOST_TEXT + 1)
        assert not any(buf)
        assert mpy_gcm._most == MOST_TEXT


def test_rare():
    """IKE's: it may take heap."""
    for bits in KEYMATS:
        for aad_len in (32, 36):
            digests = digests_of("gcm %d %d" % (bits, aad_len))
            context = Rare(KEYMATS[bits])
            for n in EVERY:
                aad, iv, text = case(n, aad_len)
                buf = bytearray(aad + iv + text + bytes(16))
                context.seal(buf, 0, aad_len, n)
                digest = sha256(buf).digest()[:DIGEST_LEN]
                assert digest == digests[DIGEST_LEN * n : DIGEST_LEN * n + DIGEST_LEN], n
                assert context.open(buf, 0, aad_len, n) is True, n
                assert buf[aad_len + 8 : -16] == text, n
