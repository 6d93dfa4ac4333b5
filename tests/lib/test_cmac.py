"""AES-CMAC: RFC 4493's cases as far as the layout lets, and a slow one of ours beside."""

from errno import EIO

from covey.cmac import CMACContext
from covey.port import AESBlock, micropython

try:
    from covey.port import mpy_cmac

    REAL_AES = mpy_cmac.aes
except ImportError:  # CPython
    mpy_cmac = None

KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
CASES = (  # octets of the message, RFC 4493 section 4
    (16, "070a16b46b4d4144f79bdd9dd04a287c"),
    (40, "dfa66747de9ae63030ca32611497c827"),
    (64, "51f0bebf7e3b9d92fc49741779363cfe"),
)


def laid(message):
    """A message as it lies in a packet's buffer: (buf, octets of text, the epoch's four)."""
    head = message[:10] + b"??????" + b"??" + message[10:12] + b"????"
    buf = bytearray(head + message[16:] + bytes(20))
    return buf, len(message) - 16, bytearray(message[12:16])


def slow(key, message):
    """By the letter of RFC 4493 section 2."""
    block = AESBlock(key)
    out = bytearray(16)

    def encrypted(x):
        return bytes(block.encrypt(bytes(x)))

    def doubled(x):
        number = int.from_bytes(x, "big") << 1
        return (number & (1 << 128) - 1 ^ (0x87 if number >> 128 else 0)).to_bytes(16, "big")

    k1 = doubled(encrypted(out))
    k2 = doubled(k1)
    whole = len(message) % 16 == 0
    message = message if whole else message + b"\x80" + bytes(-len(message) - 1 & 15)
    chain = bytes(16)
    for off in range(0, len(message), 16):
        part = message[off : off + 16]
        if off + 16 == len(message):
            part = xored(part, k1 if whole else k2)
        chain = encrypted(xored(part, chain))
    return chain


def xored(a, b):
    return bytes([a[i] ^ b[i] for i in range(16)])


def signed(context, message, tag_len=16):
    buf, n, epoch = laid(message)
    at = len(buf) - 20
    context.sign(buf, n, epoch, at, tag_len)
    assert buf[:at] == laid(message)[0][:at]
    assert buf[at + tag_len :] == bytes(20 - tag_len)
    return bytes(buf[at : at + tag_len])


def test_the_cases_of_the_rfc():
    context = CMACContext(KEY)
    for n, mac in CASES:
        assert signed(context, MESSAGE[:n]) == bytes.fromhex(mac)
        assert slow(KEY, MESSAGE[:n]) == bytes.fromhex(mac)


def test_every_length_and_order():
    """An object goes on where it stopped: what came before must not show."""
    keys = [bytes(range(i, i + 16)) for i in (0, 100)]
    contexts = [CMACContext(key) for key in keys]
    message = bytes([i * 7 & 255 for i in range(16 + 300)])
    for n in list(range(0, 40)) + [239, 240, 241, 255, 256, 257, 300]:
        for key, context in zip(keys, contexts):
            assert signed(context, message[: 16 + n]) == slow(key, message[: 16 + n]), n


def test_verification():
    context = CMACContext(KEY)
    buf, n, epoch = laid(MESSAGE)
    at = len(buf) - 20
    for tag_len in (8, 12, 16):
        context.sign(buf, n, epoch, at, tag_len)
        assert context.verify(buf, n, epoch, at, tag_len)
        for i in list(range(10)) + [18, 19, 24, 24 + n - 1] + list(range(at, at + tag_len)):
            buf[i] ^= 0x10
            assert not context.verify(buf, n, epoch, at, tag_len), i
            buf[i] ^= 0x10
        epoch[3] ^= 1
        assert not context.verify(buf, n, epoch, at, tag_len)
        epoch[3] ^= 1
        assert not context.verify(buf, n - 1, epoch, at, tag_len)
        assert context.verify(buf, n, epoch, at, tag_len)
    assert not CMACContext(bytes(16)).verify(buf, n, epoch, at, 16)


def test_by_the_kernel_itself():
    context = CMACContext(KEY)
    mac, parts = context.mac, context.parts
    buf, n, epoch = laid(MESSAGE)
    expected = signed(context, MESSAGE, 12)
    at = len(buf) - 16
    assert mac(parts, buf, n, epoch, at, 12) == 1 and bytes(buf[at : at + 12]) == expected
    assert mac(parts, buf, n, epoch, at, -12) == 1
    buf[at + 11] ^= 1
    assert mac(parts, buf, n, epoch, at, -12) == -1
    assert mac(parts, buf, n, epoch, at, -11) == 1


def test_renewed():
    context = CMACContext(bytes(16))
    signed(context, MESSAGE)
    context.renew(KEY)
    for n, mac in CASES:
        assert signed(context, MESSAGE[:n]) == bytes.fromhex(mac)


def test_a_key_of_another_length():
    for n in (0, 15, 17, 32):
        try:
            CMACContext(bytes(n))
        except ValueError:
            continue
        raise AssertionError(n)


def test_it_takes_no_heap():
    context = CMACContext(KEY)
    buf, n, epoch = laid(MESSAGE)
    at = len(buf) - 20
    context.sign(buf, n, epoch, at, 8)
    context.verify(buf, n, epoch, at, 8)
    if not hasattr(micropython, "heap_lock"):
        return
    micropython.heap_lock()
    try:
        context.sign(buf, n, epoch, at, 8)
        good = context.verify(buf, n, epoch, at, 8)
    finally:
        micropython.heap_unlock()
    assert good


def works(context):
    buf, n, epoch = laid(MESSAGE)
    at = len(buf) - 20
    assert not context.verify(buf, n, epoch, at, 8)
    try:
        context.sign(buf, n, epoch, at, 8)
    except OSError as error:
        assert error.errno == EIO and not any(buf[at:])
        return False
    return context.verify(buf, n, epoch, at, 8)


def test_wiped():
    context, other = CMACContext(KEY), CMACContext(KEY)
    assert works(context)
    state = context._parts[0] if mpy_cmac else b""
    for _ in range(2):
        context.wipe()
        assert not any(state)
        for _ in range(2):
            assert not works(context)
    assert works(other)
    buf, n, epoch = laid(bytes(16 + 300))  # in several pieces
    assert not context.verify(buf, n, epoch, len(buf) - 20, 8)
    zeros = bytearray(laid(MESSAGE)[0])  # a tag of zeros is none
    assert not context.verify(zeros, 48, bytearray(4), len(zeros) - 20, 8)


def test_wiping_takes_no_heap():
    context = CMACContext(KEY)
    if not hasattr(micropython, "heap_lock"):
        return
    micropython.heap_lock()
    try:
        context.wipe()
    finally:
        micropython.heap_unlock()


class Cipher:
    """In place of cryptolib.aes: fails as a DMA does."""

    gives_zeros = False

    def __init__(self, key, mode, iv):
        self._cipher = REAL_AES(key, mode, iv)

    def encrypt(self, data, out):
        self._cipher.encrypt(data, out)
        if Cipher.gives_zeros:
            for i in range(len(out)):
                out[i] = 0


def with_cipher(call):
    mpy_cmac.aes = Cipher
    try:
        return call()
    finally:
        mpy_cmac.aes = REAL_AES
        Cipher.gives_zeros = False


def test_no_key_begins_while_aes_fails():
    """Whatever it would be: it would be wrong for ever."""

    def begin():
        Cipher.gives_zeros = True
        try:
            CMACContext(KEY)
        except OSError as error:
            return error.errno

    if mpy_cmac:
        assert with_cipher(begin) == EIO


def test_it_works_again_when_aes_does():
    def play():
        context = CMACContext(KEY)
        assert works(context)
        for _ in range(3):
            Cipher.gives_zeros = True
            assert not works(context)
            Cipher.gives_zeros = False
            context.verify(*laid(MESSAGE), len(MESSAGE), 8)  # begins anew
            assert works(context)

    if mpy_cmac:
        with_cipher(play)


def test_a_fault_of_aes_while_there_is_no_heap():
    """Where it can't begin anew it says no, and does so later."""

    def play():
        context = CMACContext(KEY)
        buf, n, epoch = laid(MESSAGE)
        at = len(buf) - 20
        found = None
        Cipher.gives_zeros = True
        micropython.heap_lock()
        try:
            found = context.verify(buf, n, epoch, at, 8)
        finally:
            micropython.heap_unlock()
        assert found is False
        Cipher.gives_zeros = False
        try:
            context.sign(buf, n, epoch, at, 8)
        except OSError:
            assert works(context)
            return
        raise AssertionError("signed with what AES chains in, which nobody knows")

    if mpy_cmac:
        with_cipher(play)


def test_the_subkeys_of_the_rfc():
    context = CMACContext(KEY)
    if mpy_cmac:
        k1 = bytes(context._parts[0][16:32])
        k2 = bytes(context._parts[0][32:48])
        assert k1.hex() == "fbeed618357133667c85e08f7236a8de"  # RFC 4493 section 4
        assert k2.hex() == "f7ddac306ae266ccf90bc11ee46d513b"
