"""AES-GCM for what is rare: texts longer than the workspace, taken piece by piece; and keys that
are seldom used, of IKE and Rekey SAs. Of these there is the key alone between calls. For each call
tables are made in memory that is kept for a GCMContext, and wiped behind it.

All the rest is mpy_gcm's, the layouts too.
"""

import micropython
from micropython import const

from covey.port.mpy_gcm import GCMContext, refuse

_SALT = const(0)
_WORK = const(1)
_TEXT = const(176)  # these three in words
_TEXT_LEN = const(178)
_AAD_LEN = const(179)
_KEYSTREAM = const(864)

_MOST_AAD = const(112)
_MOST_TEXT = const(4096)
_AT_ONCE = const(256)  # octets that are decrypted in one step of a job
_EXACT = const(40)  # no view is longer by a few blocks up to there


class RareContext:
    """See covey.gcm. A bytearray is kept, not copied. Allocates."""

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        self._keymat = keymat if isinstance(keymat, bytearray) else bytearray(keymat)

    def seal(self, buf, off, aad_len, text_len):
        if not 0 <= aad_len <= _MOST_AAD or not 0 <= text_len <= _MOST_TEXT:
            refuse(0)
        context = None
        try:
            context = GCMContext(self._keymat)
            parts, iv = context._parts, off + aad_len
            if not _crypt(parts, buf, iv, 0, text_len):
                refuse(1)
            if not _finish(parts, buf, iv, aad_len, text_len, 0):
                refuse(1)
        except OSError:  # AES gave zeros, as it does where it finds no memory
            raise MemoryError
        finally:
            if context is not None:
                context.wipe()

    def open_job(self, buf, off, aad_len, text_len):
        if not 0 <= aad_len <= _MOST_AAD or not 0 <= text_len <= _MOST_TEXT:
            refuse(0)
        if self._keymat is None:
            return False  # wiped before its turn came
        try:
            context = GCMContext(self._keymat)
        except OSError:
            return False  # AES gave zeros
        try:
            yield
            parts, iv = context._parts, off + aad_len
            if not _finish(parts, buf, iv, aad_len, text_len, 1):
                return False
            for done in range(0, text_len, _AT_ONCE):
                yield
                if not _crypt(parts, buf, iv, done, min(done + _AT_ONCE, text_len)):
                    return False
            return True
        finally:
            context.wipe()

    def wipe(self):
        for i in range(len(self._keymat or ())):
            self._keymat[i] = 0
        self._keymat = None


@micropython.native
def open_long(context, buf, off, aad_len, text_len):
    """context.open(), for a text of up to 4096 octets; of AES-GMAC up to 4032. No heap."""
    if aad_len < 0 or aad_len > _MOST_AAD or text_len < 0 or text_len > _MOST_TEXT:
        refuse(0)
    if context.integrity_only:
        return context.open(buf, off, aad_len, text_len)
    if not _finish(context._parts, buf, off + aad_len, aad_len, text_len, 1):
        return False
    return _crypt(context._parts, buf, off + aad_len, 0, text_len)


@micropython.native
def _finish(parts, buf, iv, aad_len, text_len, compares):
    """The tag, written or compared. iv: where the IV stands in buf."""
    finish, encrypt, cipher, _, first, _, place = parts
    _count(place, buf, iv, 1, 1)
    encrypt(cipher, first, first)
    _tell(place, buf, iv + 8, aad_len, text_len)
    return finish(place + compares)


@micropython.native
def _crypt(parts, buf, iv, done, text_len):
    """Encrypt or decrypt what follows `done` octets, which are whole blocks. False where AES gave
    zeros: the rest is as it was.
    """
    _, encrypt, cipher, views, _, _, place = parts
    most = len(views) - 2
    if most > _EXACT:
        most = _EXACT
    while done < text_len:
        left = text_len - done
        n = left + 15 >> 4
        if n > most:
            n = most
            left = n << 4
        _count(place, buf, iv, 2 + (done >> 4), n)
        encrypt(cipher, views[n], views[n])
        if not _apply(place, buf, iv + 8 + done, left):
            return False
        done += left
    return True


@micropython.viper
def _count(place: uint, buf: ptr8, iv: int, first: int, n: int):
    """Blocks to be encrypted, from the counter `first` on."""
    s = ptr32(place << 2)
    salt = s[_SALT]
    k = ptr8((uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK])) + _KEYSTREAM)
    buf = ptr8(uint(buf) + uint(iv))
    while n:
        ptr32(k)[0] = salt
        i = 0
        while i < 8:
            k[4 + i] = buf[i]
            i += 1
        k[12] = 0
        k[13] = 0
        k[14] = first >> 8
        k[15] = first
        k = ptr8(uint(k) + 16)
        first += 1
        n -= 1


@micropython.viper
def _tell(place: uint, buf: ptr8, off: int, aad_len: int, text_len: int):
    """Where the text lies, and how long it is."""
    s = ptr32(place << 2)
    w = ptr32(uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK]))
    text = uint(buf) + uint(off)
    w[_TEXT] = text
    w[_TEXT + 1] = text >> 16 >> 16
    w[_TEXT_LEN] = text_len
    w[_AAD_LEN] = aad_len


@micropython.viper
def _apply(place: uint, buf: ptr8, off: int, text_len: int) -> bool:
    """text ^= keystream, no block of which may be zero: clear text would be on the air."""
    s = ptr32(place << 2)
    k = ptr8((uint(s[_WORK + 1]) << 16 << 16 | uint(s[_WORK])) + _KEYSTREAM)
    w = ptr32(k)
    i = 0
    while i << 2 < text_len:
        if not w[i] | w[i + 1] | w[i + 2] | w[i + 3]:
            return False
        i += 4
    buf = ptr8(uint(buf) + uint(off))
    i = 0
    while i < text_len:
        buf[i] = k[i] ^ buf[i]
        i += 1
    return True
