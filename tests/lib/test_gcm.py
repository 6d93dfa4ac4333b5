"""AES-GCM against NIST's vectors and against `cryptography`, on every kernel that is there. Every
length: see test_gcm_lengths.py.
"""

# heap: 512k

import gc
import sys
from hashlib import sha256

from covey import gcm
from covey.gcm import IV_LEN, SALT_LEN, TAG_LEN, GCMContext, GMACContext, RareContext
from covey.job import finish
from covey.port import buffer
from vectors import load

BOARD = sys.implementation.name == "micropython"
KEYMAT = bytes(range(20))

# SHA-256 over all that generated() seals; test_generated_lengths computes it on each interpreter,
# on CPython with `cryptography`.
# The same with GMACContext, AAD cut or filled up to 8 or 24 octets.
GENERATED_GMAC = "29d3a890333f7841efccc34543f36272df1d4f4bb820042cd3d3eb488a6e3eba"
GENERATED = "7646429ffee49c1f1572293b031aae8128d7f8fef61695f31064fd218d4e319e"
# SHA-256 over what test_rare_takes_a_message_of_4096_octets seals: `cryptography` has made it.
SEALED_4096 = "6090c179ab7c63eab0a462b2a3377189b9d46b521dd896809ade1df5fada85be"

if BOARD:
    import micropython

    from covey.port import mpy_gcm, mpy_ghash_ct, mpy_ghash_small

    REAL_AES = mpy_gcm.aes
    KERNELS = [mpy_ghash_ct, mpy_ghash_small]
    if not sys.maxsize >> 31:
        from covey.port import mpy_ghash

        KERNELS.append(mpy_ghash)


class Rare(RareContext):
    """Opens at once."""

    def open(self, *layout):
        return finish(self.open_job(*layout))


def makers():
    """A maker of contexts for each kernel of this interpreter."""
    if not BOARD:
        return [GCMContext]
    return [lambda keymat, kernel=kernel: with_kernel(kernel, keymat) for kernel in KERNELS]


def with_kernel(kernel, keymat, context=GCMContext):
    GCMContext(keymat)  # the first loads the usual one
    usual = mpy_gcm._ghash
    mpy_gcm._ghash = kernel
    try:
        return context(keymat)
    finally:
        mpy_gcm._ghash = usual


class Numbers:
    """A small generator of octets, the same on every interpreter."""

    def __init__(self, seed):
        self._x = seed

    def octets(self, n):
        out = bytearray(n)
        x = self._x
        for i in range(n):
            x = x * 75 % 65537  # Lehmer's generator with the prime 2^16 + 1: never a long int
            out[i] = x & 255
        self._x = x
        return out

    def below(self, n):
        self._x = self._x * 75 % 65537
        return self._x % n


def laid_out(off, aad, iv, text, tag=bytes(16)):
    """A buffer with two octets behind that nobody may touch."""
    return bytearray(b"\xa5" * off + aad + iv + text + tag + b"\x5a\x5a")


# ---- vectors


def check_vector(make, vector, off):
    key, iv, aad, tag = [bytes.fromhex(vector[name]) for name in ("key", "iv", "aad", "tag")]
    ct = bytes.fromhex(vector["ct"])
    context = make(key + iv[:SALT_LEN])
    sealed = laid_out(off, aad, iv[SALT_LEN:], ct, tag)
    buf = bytearray(sealed)
    if vector["pt"] is None:
        assert context.open(buf, off, len(aad), len(ct)) is False
        assert buf == sealed, "a forgery has changed the buffer"
        return
    opened = laid_out(off, aad, iv[SALT_LEN:], bytes.fromhex(vector["pt"]), tag)
    assert context.open(buf, off, len(aad), len(ct)) is True
    assert buf == opened
    buf = bytearray(opened)
    buf[-18:-2] = bytes(16)
    context.seal(buf, off, len(aad), len(ct))
    assert buf == sealed


def check_vectors(name):
    vectors = load(name)
    assert len(vectors) > 50
    assert any(vector["pt"] is None for vector in vectors)
    for make in makers():
        for n in range(len(vectors)):
            check_vector(make, vectors[n], n & 7)
        gc.collect()


def test_nist_vectors_128():
    check_vectors("gcm_128")


def test_nist_vectors_256():
    check_vectors("gcm_256")


# ---- every length


def generated():
    """(off, aad, iv, text): every length of text to 600 and some beyond, AAD of 0 to 112."""
    numbers = Numbers(4711)
    for n in list(range(601)) + [623, 640, 641, 655, 656, 657, 1000, 1024, 1487, 1535, 1536]:
        off = n * 5 % 9
        aad_len = n % 41 if n % 7 else 41 + n % 72
        yield off, numbers.octets(aad_len), numbers.octets(IV_LEN), numbers.octets(n)


def digest_of_generated(make, keymat):
    context = make(keymat)
    digest = sha256()
    for off, aad, iv, text in generated():
        buf = laid_out(off, aad, iv, text)
        context.seal(buf, off, len(aad), len(text))
        assert buf[:off] == b"\xa5" * off and buf[-2:] == b"\x5a\x5a"
        assert buf[off : off + len(aad) + IV_LEN] == aad + iv
        digest.update(buf)
        assert context.open(buf, off, len(aad), len(text)) is True
        assert buf[:-18] == laid_out(off, aad, iv, text)[:-18]
    return digest.digest()


def test_generated_lengths():
    keymat = Numbers(1).octets(36)
    for make in makers() + [Rare]:
        assert digest_of_generated(make, keymat) == bytes.fromhex(GENERATED)
        gc.collect()


def test_any_wrong_octet_is_refused():
    numbers = Numbers(7)
    for make in makers():
        context = make(KEYMAT)
        for n in (0, 1, 4, 15, 16, 17, 33, 64):
            for aad_len in (0, 3, 8, 16, 20):
                off = (n + aad_len) & 3
                text, aad = numbers.octets(n), numbers.octets(aad_len)
                buf = laid_out(off, aad, numbers.octets(8), text)
                context.seal(buf, off, aad_len, n)
                sealed = bytes(buf)
                for at in range(off, len(buf) - 2):
                    bit = 1 << numbers.below(8)
                    buf[at] ^= bit
                    forged = bytes(buf)
                    assert context.open(buf, off, aad_len, n) is False
                    assert buf == forged, "a forgery has changed the buffer"
                    buf[at] ^= bit
                assert buf == sealed and context.open(buf, off, aad_len, n)


def test_every_bit_of_the_tag_counts():
    for make in makers():
        context = make(KEYMAT)
        for off in (0, 1):
            buf = laid_out(off, b"", bytes(8), b"12345678")
            context.seal(buf, off, 0, 8)
            for bit in range(128):
                buf[off + 16 + (bit >> 3)] ^= 1 << (bit & 7)
                assert not context.open(buf, off, 0, 8)
                buf[off + 16 + (bit >> 3)] ^= 1 << (bit & 7)
            assert context.open(buf, off, 0, 8)


def test_lengths_are_part_of_the_tag():
    context = GCMContext(KEYMAT)
    buf = laid_out(0, bytes(16), bytes(8), bytes(16))
    context.seal(buf, 0, 16, 16)
    other = laid_out(0, bytes(0), bytes(8), buf[24:40], buf[40:56])
    assert not context.open(other, 0, 0, 16)


def test_buffers_may_be_views():
    context = GCMContext(KEYMAT)
    whole = laid_out(3, b"aad", b"8 octets", b"some text")
    expected = bytearray(whole)
    context.seal(expected, 3, 3, 9)
    context.seal(memoryview(whole)[1:], 2, 3, 9)
    assert whole == expected
    assert context.open(memoryview(whole)[3:], 0, 3, 9)


def test_contexts_do_not_disturb_each_other():
    for make in makers():
        a, b = make(KEYMAT), make(bytes(36))
        first, second = laid_out(0, b"x", bytes(8), b"abc"), laid_out(0, b"y" * 20, bytes(8), b"")
        a.seal(first, 0, 1, 3)
        b.seal(second, 0, 20, 0)
        assert a.open(first, 0, 1, 3)
        assert b.open(second, 0, 20, 0)


def test_sizes_of_the_layout():
    assert (gcm.IV_LEN, gcm.TAG_LEN, gcm.SALT_LEN) == (8, 16, 4) and TAG_LEN == 16


# ---- a key that is seldom used


def test_rare_vectors():
    for name in ("gcm_128", "gcm_256"):
        vectors = load(name)
        for n in range(0, len(vectors), 3):
            check_vector(Rare, vectors[n], n & 7)
        gc.collect()


def test_rare_and_usual_are_the_same_in_pieces_too():
    """A text may be longer than the workspace, which has room for few octets here."""
    numbers = Numbers(3)
    keymat, aad, iv = numbers.octets(36), numbers.octets(40), numbers.octets(8)
    usual, rare = GCMContext(keymat), Rare(keymat)
    texts = [numbers.octets(n) for n in (0, 1, 16, 31, 32, 33, 48, 640, 641, 656, 1200, 1536)]
    sealed = [laid_out(1, aad, iv, text) for text in texts]
    for buf, text in zip(sealed, texts):
        usual.seal(buf, 1, len(aad), len(text))
    for most in (1536, 640, 16, 0) if BOARD else (0,):
        if BOARD:
            kept = small_workspace(most)
        try:
            for n in range(len(texts)):
                buf = laid_out(1, aad, iv, texts[n])
                rare.seal(buf, 1, len(aad), len(texts[n]))
                assert buf == sealed[n], (most, len(texts[n]))
                buf[-3] ^= 1
                forged = bytes(buf)
                assert rare.open(buf, 1, len(aad), len(texts[n])) is False and buf == forged
                buf[-3] ^= 1
                assert rare.open(buf, 1, len(aad), len(texts[n])) is True
                assert buf[49:-18] == texts[n]
        finally:
            if BOARD:
                mpy_gcm._work, mpy_gcm._views, mpy_gcm._most = kept


def small_workspace(most):
    kept = mpy_gcm._work, mpy_gcm._views, mpy_gcm._most
    mpy_gcm._work, mpy_gcm._most = None, most
    return kept


def test_rare_takes_a_message_of_4096_octets():
    rare = Rare(KEYMAT)
    text = Numbers(9).octets(4096)
    buf = laid_out(0, bytes(32), b"8 octets", text)
    rare.seal(buf, 0, 32, 4096)
    assert sha256(buf).digest() == bytes.fromhex(SEALED_4096)
    assert rare.open(buf, 0, 32, 4096) and buf[40:-18] == text
    if BOARD:
        for aad_len, text_len in ((113, 0), (0, 4097), (-1, 0), (0, -1)):
            assert refuses(ValueError, rare.seal, buf, 0, aad_len, text_len)
            assert refuses(ValueError, rare.open, buf, 0, aad_len, text_len)


def test_rare_is_small_and_leaves_nothing_behind():
    if not BOARD:
        return
    GCMContext(KEYMAT).wipe()  # memory for one key
    contexts = [Rare(KEYMAT)] + [None] * 8
    gc.collect()
    before = gc.mem_alloc()
    for n in range(8):
        contexts[n + 1] = Rare(KEYMAT)
    gc.collect()
    assert gc.mem_alloc() - before <= 8 * (128 if sys.maxsize >> 31 else 96)
    buf = laid_out(0, bytes(8), bytes(8), b"some text")
    for n in range(3):
        contexts[n].seal(buf, 0, 8, 9)
        assert contexts[n + 1].open(buf, 0, 8, 9)
        assert not any(mpy_gcm._work[528:])
    spare = mpy_gcm._spare[mpy_gcm._spares - 1]
    assert len(spare) > 256 and not any(spare)
    gc.collect()
    assert gc.mem_alloc() - before <= 8 * (128 if sys.maxsize >> 31 else 96) + 256
    contexts[0].wipe()
    contexts[0].wipe()
    assert refuses((TypeError, AttributeError), lambda: contexts[0].seal(buf, 0, 8, 9))
    assert not contexts[0].open(buf, 0, 8, 9)


def test_rare_that_was_wiped_opens_nothing():
    """Its turn may come behind that: see rekey.py."""
    context = Rare(KEYMAT)
    buf = laid_out(0, bytes(8), bytes(8), b"some text")
    context.seal(buf, 0, 8, 9)
    sealed = bytes(buf)
    context.wipe()
    assert not context.open(buf, 0, 8, 9) and bytes(buf) == sealed


def test_rare_watches_for_zeros_too():
    if not BOARD:
        return
    rare = Rare(KEYMAT)
    buf = laid_out(0, bytes(8), bytes(8), b"x" * 64)
    clear = bytes(buf)
    mpy_gcm.aes = Cipher
    try:
        for block in range(4):
            assert refuses(MemoryError, with_zeros, (block,), rare.seal, buf, 0, 8, 64), block
            assert buf == clear
        rare.seal(buf, 0, 8, 64)
        sealed = bytes(buf)
        for block in range(4):
            assert with_zeros((block,), rare.open, buf, 0, 8, 64) is False
            assert buf == sealed
        assert rare.open(buf, 0, 8, 64)
    finally:
        mpy_gcm.aes = REAL_AES


# ---- integrity alone


def gmac_makers():
    if not BOARD:
        return [GMACContext]
    return [lambda keymat, k=kernel: with_kernel(k, keymat, GMACContext) for kernel in KERNELS]


def test_gmac_is_gcm_of_no_text():
    """RFC 4543 section 3.3: SPI, number, IV and text are the AAD."""
    usual = GCMContext(KEYMAT)
    for make in gmac_makers():
        context = make(KEYMAT)
        for n in range(97):
            off = n * 3 & 7
            whole = Numbers(n + 1).octets(16 + n)
            buf = laid_out(off, whole, b"", b"")
            context.seal(buf, off, 8, n)
            expected = laid_out(0, whole, whole[8:16], b"")
            usual.seal(expected, 0, 16 + n, 0)
            assert buf[:-18] == b"\xa5" * off + whole, "in clear"
            assert buf[-18:] == expected[-18:], n
            assert context.open(buf, off, 8, n) is True
            assert buf[:-18] == b"\xa5" * off + whole


def test_gmac_of_every_length():
    digests = []
    for make in gmac_makers():
        context = make(Numbers(1).octets(36))
        digest = sha256()
        for off, aad, iv, text in generated():
            aad = (aad + bytes(24))[: 24 if len(aad) & 1 else 8]
            buf = laid_out(off, aad, iv, text)
            context.seal(buf, off, len(aad), len(text))
            assert context.open(buf, off, len(aad), len(text)) is True
            digest.update(buf)
        digests.append(digest.digest())
    for digest in digests:
        assert digest == bytes.fromhex(GENERATED_GMAC), digest


def test_gmac_refuses_any_wrong_octet():
    for make in gmac_makers():
        context = make(KEYMAT)
        buf = laid_out(0, b"8 octets", b"and an IV"[:8], b"some text to read")
        context.seal(buf, 0, 8, 17)
        for at in range(len(buf) - 2):
            buf[at] ^= 0x40
            before = bytes(buf)
            assert context.open(buf, 0, 8, 17) is False and buf == before, at
            buf[at] ^= 0x40
        for text_len in (16, 0):
            assert context.open(buf, 0, 8, text_len) is False
        assert context.open(buf, 0, 8, 17) is True


def test_gmac_and_gcm_are_not_each_other():
    for make in gmac_makers():
        buf = laid_out(0, bytes(8), bytes(8), b"")
        make(KEYMAT).seal(buf, 0, 8, 0)
        assert GCMContext(KEYMAT).open(buf, 0, 8, 0) is False


def test_gmac_takes_whole_blocks_of_aad_and_iv():
    context = GMACContext(KEYMAT)
    buf = laid_out(0, bytes(112), bytes(8), bytes(64))
    for aad_len in (0, 4, 12, 16, 104 if BOARD else 9, 112):
        assert refuses(ValueError, context.seal, buf, 0, aad_len, 4), aad_len
        assert refuses(ValueError, context.open, buf, 0, aad_len, 4), aad_len
    context.seal(buf, 0, 88, 4)
    assert context.open(buf, 0, 88, 4)


def test_gmac_watches_for_zeros_too():
    if not BOARD:
        return
    for make in gmac_makers():
        context = with_cipher(make)
        buf = laid_out(0, bytes(8), bytes(8), b"text")
        before = bytes(buf)
        assert refuses(OSError, with_zeros, (0,), context.seal, buf, 0, 8, 4)
        assert buf == before
        context.seal(buf, 0, 8, 4)
        assert with_zeros((0,), context.open, buf, 0, 8, 4) is False
        assert context.open(buf, 0, 8, 4) is True


# ---- misuse


def refuses(error, call, *args):
    try:
        call(*args)
    except error:
        return True
    return False


def test_keymat_of_a_wrong_length():
    for n in (0, 16, 19, 21, 28, 32, 37):
        assert refuses(ValueError, GCMContext, bytes(n))


PLACES = (0, 8, 12), (4, 8, 12), (0, 20, 12), (0, 8, 13), (1, 7, 12)


def test_a_buffer_at_any_place():
    """On CPython a `buffer` keeps the cuts for AAD of 8 octets at 0: none other may get them."""
    numbers = Numbers(5)
    context, buf = GCMContext(KEYMAT), buffer(80)
    assert len(buf) == 80 and not any(buf)
    for _ in range(2):
        for off, aad_len, text_len in PLACES:
            whole = laid_out(off, numbers.octets(aad_len), numbers.octets(8), b"x" * text_len)
            buf[: len(whole)] = whole
            context.seal(buf, off, aad_len, text_len)
            context.seal(whole, off, aad_len, text_len)
            assert buf[: len(whole)] == whole
            assert context.open(buf, off, aad_len, text_len)
            text = off + aad_len + 8
            assert buf[text : text + text_len] == b"x" * text_len
            assert not context.open(buf, off, aad_len, text_len)
            assert buf[text : text + text_len] == b"x" * text_len
    assert refuses((TypeError, ValueError), context.seal, buf, 0, 8, -1)
    if not BOARD:
        assert refuses(ValueError, context.seal, buf, 0, 8, 49)
        assert refuses(ValueError, context.open, buf, 0, 8, 49)


def test_many_lengths_in_one_buffer():
    """On CPython the cuts of all are kept: each must get its own."""
    context = GCMContext(KEYMAT)
    buf = buffer(600)
    for text_len in list(range(515)) + [3, 0, 514]:
        buf[:] = bytes(600)
        context.seal(buf, 0, 8, text_len)
        assert context.open(buf, 0, 8, text_len)
        assert not any(buf[16 : 16 + text_len])


def test_what_is_too_long():
    context = GCMContext(KEYMAT)
    buf = laid_out(0, bytes(112), bytes(8), bytes(1536))
    before = bytes(buf)
    if BOARD:
        for aad_len, text_len in ((113, 0), (0, 1537), (0, 65536), (1 << 29, 0), (0, 1 << 29)):
            assert refuses(ValueError, context.seal, buf, 0, aad_len, text_len)
            assert refuses(ValueError, context.open, buf, 0, aad_len, text_len)
    else:
        for aad_len, text_len in ((8, 1643), (1700, 0), (0, 65536), (-1, 0), (0, -1), (0, 1651)):
            assert refuses(ValueError, context.seal, buf, 0, aad_len, text_len)
            assert refuses(ValueError, context.open, buf, 0, aad_len, text_len)
        for off in (-100, 1652):
            assert refuses(ValueError, context.seal, buf, off, 8, 4), off
            assert refuses(ValueError, context.open, buf, off, 8, 4), off
    for aad_len, text_len in ((-1, 0), (0, -1)):
        assert refuses(ValueError, context.seal, buf, 0, aad_len, text_len)
    assert buf == before
    context.seal(buf, 0, 112, 1536)
    assert context.open(buf, 0, 112, 1536)


def test_wiped_is_dead():
    other, context = GCMContext(bytes(20)), GCMContext(KEYMAT)
    buf = laid_out(0, b"", bytes(8), b"text")
    context.seal(buf, 0, 0, 4)
    seal, open_ = context.seal, context.open
    state = context._state if BOARD else b""
    context.wipe()
    context.wipe()  # twice is no error
    assert refuses((TypeError, AttributeError), lambda: context.seal(buf, 0, 0, 4))
    assert refuses((TypeError, AttributeError), lambda: context.open(buf, 0, 0, 4))
    if BOARD:
        # Who kept a method gets nothing either, and no key material is left in memory of ours.
        assert refuses(TypeError, seal, buf, 0, 0, 0) and refuses(TypeError, open_, buf, 0, 0, 0)
        assert not any(state)
        assert not any(mpy_gcm._work[528:])
    buf = laid_out(0, b"", bytes(8), b"text")
    other.seal(buf, 0, 0, 4)
    assert other.open(buf, 0, 0, 4)


def test_the_memory_of_a_wiped_key_serves_the_next():
    if not BOARD:
        return
    buf = laid_out(0, b"12345678", bytes(8), b"text")
    for make in makers():
        old, stays = make(KEYMAT), make(bytes(range(36)))
        stays.seal(buf, 0, 8, 4)
        state = old._state
        old.wipe()
        old.wipe()
        kernel = mpy_gcm._ghash
        one, other = GCMContext(bytes(20)), GCMContext(bytes(20))
        assert one._state is not other._state, "handed out twice"
        if len(one._state) == len(state):
            assert one._state is state
        assert kernel is mpy_gcm._ghash and stays.open(buf, 0, 8, 4)
        stays.seal(buf, 0, 8, 4)
        for context in (one, other, stays):
            assert not context.open(buf, 0, 8, 4) or context is stays
            context.wipe()


# ---- what only boards have


def heap_octets(step):
    """Octets of heap that ten calls of step() take: under the lock, and counted."""
    step()
    gc.collect()
    micropython.heap_lock()
    try:
        step()
    finally:
        micropython.heap_unlock()
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(10):
        step()
    after = gc.mem_alloc()
    gc.enable()
    return after - before


def test_no_heap():
    if not BOARD:
        return
    buf = bytearray(8 + 112 + 8 + 1536 + 16)
    lengths = list(range(0, 70)) + [255, 256, 512, 600, 640, 641, 1024, 1535, 1536]
    for make in makers():
        context = make(KEYMAT)
        for n in lengths:
            off = n & 1
            aad_len = n % 41 if n & 2 else 8
            found = [None] * 2

            def step(context=context, n=n, off=off, aad_len=aad_len, found=found):
                context.seal(buf, off, aad_len, n)
                buf[off] ^= 1  # of the AAD or the IV
                found[0] = context.open(buf, off, aad_len, n)
                buf[off] ^= 1
                found[1] = context.open(buf, off, aad_len, n)

            assert heap_octets(step) == 0, n
            assert found == [False, True], n


class Cipher:
    """In place of cryptolib.aes: counts calls, looks at the heap, fails as a DMA does."""

    zeros = ()  # which blocks of a call's output are zero instead
    spared = None  # but for this octet of the block
    heap = []  # what was taken from the heap at each call

    def __init__(self, key, mode):
        self._cipher = REAL_AES(key, mode)

    def encrypt(self, data, out):
        # Few locals, or this frame would lie on the heap itself.
        Cipher.heap[Cipher.calls] = gc.mem_alloc()
        Cipher.calls += 1
        self._cipher.encrypt(data, out)
        if Cipher.zeros:
            self._fail(out)

    def _fail(self, out):
        for block in Cipher.zeros:
            if block * 16 < len(out):
                out[block * 16 : block * 16 + 16] = bytes(16)
                if Cipher.spared is not None:
                    out[block * 16 + Cipher.spared] = 1

    @staticmethod
    def watch():
        Cipher.calls = 0
        Cipher.heap = [None] * 8


def with_cipher(make):
    mpy_gcm.aes = Cipher
    Cipher.watch()
    try:
        return make(KEYMAT)
    finally:
        mpy_gcm.aes = REAL_AES


def test_no_heap_while_aes_works():
    """A frame on the heap would be given back at the end: so count in the middle."""
    if not BOARD:
        return
    for make in makers():
        context = with_cipher(make)
        buf = laid_out(0, bytes(8), bytes(8), bytes(64))
        Cipher.watch()
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        context.seal(buf, 0, 8, 64)
        context.open(buf, 0, 8, 64)
        gc.enable()
        assert Cipher.calls == 3
        assert Cipher.heap[:3] == [before] * 3


def with_zeros(blocks, call, *args):
    Cipher.watch()
    Cipher.zeros = blocks
    try:
        return call(*args)
    finally:
        Cipher.zeros = ()


def test_a_zero_keystream_is_never_used():
    """Some boards' AES gives zeros when its DMA finds no memory, and says nothing."""
    if not BOARD:
        return
    for make in makers():
        assert refuses(OSError, with_zeros, (0,), with_cipher, make), "H of zero"
        context = with_cipher(make)
        for n in (0, 1, 16, 17, 64):
            buf = laid_out(n & 1, b"8 octets", bytes(8), b"x" * n)
            clear = bytes(buf)
            for block in range(1 + (n + 15) // 16):
                assert refuses(OSError, with_zeros, (block,), context.seal, buf, n & 1, 8, n)
                assert buf == clear, "sealed with zeros"
            context.seal(buf, n & 1, 8, n)
            sealed = bytes(buf)
            for block in range((n + 15) // 16):
                # The first call is for the tag's block alone, the second for the text.
                assert not with_zeros((block,), context.open, buf, n & 1, 8, n)
                assert Cipher.calls == (1 if block == 0 else 2)
                assert buf == sealed
            assert context.open(buf, n & 1, 8, n)


def test_a_key_that_aes_fails_for_gives_its_memory_back():
    if not BOARD:
        return
    GCMContext(KEYMAT).wipe()
    spares = mpy_gcm._spares
    assert refuses(OSError, with_zeros, (0,), with_cipher, GCMContext)
    assert mpy_gcm._spares == spares > 0


def test_a_keystream_with_many_zeros_is_no_fault():
    if not BOARD:
        return
    for make in makers():
        context = with_cipher(make)
        for octet in range(16):
            Cipher.spared = octet
            try:
                buf = laid_out(0, b"8 octets", bytes(8), b"x" * 32)
                with_zeros((0, 1, 2), context.seal, buf, 0, 8, 32)
                block = b"x" * octet + b"y" + b"x" * (15 - octet)  # y is x ^ 1
                assert buf[16:48] == block * 2
                assert with_zeros((0, 1), context.open, buf, 0, 8, 32)
                assert buf[16:48] == b"x" * 32
            finally:
                Cipher.spared = None


def test_a_tag_made_with_zeros_is_refused():
    """Were the tag's block of keystream zero, the tag would be the bare GHASH."""
    if not BOARD:
        return
    for make in makers():
        context = with_cipher(make)
        buf = laid_out(0, b"", bytes(8), b"")  # its GHASH is zero: no AAD, no text
        buf[8:24] = bytes(16)
        assert not with_zeros((0,), context.open, buf, 0, 0, 0)


def test_memory_of_a_key():
    if not BOARD:
        return
    KEYS = 8
    wide = sys.maxsize >> 31
    for make, most in (
        (GCMContext, 2800 if wide else 2500),  # of it 304 in cryptolib
        (lambda keymat: with_kernel(mpy_ghash_ct, keymat), 1040 if wide else 740),
    ):
        made = [make(KEYMAT)] + [None] * KEYS
        gc.collect()
        before = gc.mem_alloc()
        for n in range(KEYS):
            made[n + 1] = make(KEYMAT)
        gc.collect()
        each = (gc.mem_alloc() - before) // KEYS
        assert each <= most, each


def test_constant_time_is_chosen_before_the_first_key():
    if not BOARD:
        return
    usual = GCMContext(KEYMAT)
    assert refuses(ValueError, GCMContext.set_constant_time), "a context is there"
    work, views, ghash = mpy_gcm._work, mpy_gcm._views, mpy_gcm._ghash
    mpy_gcm._work = mpy_gcm._ghash = None
    GCMContext.reserve(0)  # memory for keys is as long as the kernel's tables
    assert refuses(ValueError, GCMContext.set_constant_time), "a kernel is there"
    mpy_gcm._ghash = None
    try:
        GCMContext.set_constant_time()
        context = GCMContext(KEYMAT)
        assert mpy_gcm._ghash is mpy_ghash_ct
        buf = laid_out(0, b"aad", bytes(8), b"some text")
        context.seal(buf, 0, 3, 9)
        assert usual.open(buf, 0, 3, 9)
    finally:
        mpy_gcm._work, mpy_gcm._views, mpy_gcm._ghash = work, views, ghash


def test_most_text():
    if not BOARD:
        return
    assert refuses(ValueError, GCMContext.set_most_text, 512), "a context is there"
    work, views, most = mpy_gcm._work, mpy_gcm._views, mpy_gcm._most
    mpy_gcm._work = None
    try:
        for n in (-1, 4033):
            assert refuses(ValueError, GCMContext.set_most_text, n)
        for n in (0, 16, 100, 639, 640, 4032):
            mpy_gcm._work = None
            GCMContext.set_most_text(n)
            for make in makers():
                context = make(KEYMAT)
                buf = bytearray(n + 1 + 24)
                context.seal(buf, 0, 0, n)
                assert context.open(buf, 0, 0, n)
                assert not any(buf[8 : 8 + n])
                assert refuses(ValueError, context.seal, buf, 0, 0, n + 1)
    finally:
        mpy_gcm._work, mpy_gcm._views, mpy_gcm._most = work, views, most
