"""AES-GCM on CPython: `cryptography`. See covey.gcm for what contexts promise.

What costs beside the cipher is to cut octets out of the caller's buffer. So a `buffer` keeps the
views of it that were needed once; of others they are cut each time. `encrypt` and `decrypt` give
new octets, which go back through such a view. `decrypt_into` is no way around: it leaves in the
buffer what a wrong tag has made of the text.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_AAD_LEN = 8  # of ESP
_ALL = slice(None)


class buffer(bytearray):
    """See covey.port. `cuts`: text's length → what _cut() says, for ESP's layout at 0: a KB for
    each, and a datagram has room for 384.
    """

    __slots__ = ("cuts",)

    def __init__(self, size):
        super().__init__(size)
        self.cuts = {}


def _cut(buf, off, aad_len, text_len):
    """Views of a layout in buf: AAD, IV, text, text and tag."""
    text = off + aad_len + 8
    end = text + text_len
    if off < 0 or aad_len < 0 or text_len < 0 or end + 16 > len(buf):
        raise ValueError("longer than the buffer")
    view = memoryview(buf)
    found = view[off : text - 8], view[text - 8 : text], view[text:end], view[text : end + 16]
    if isinstance(buf, buffer) and off == 0 and aad_len == _AAD_LEN:
        buf.cuts[text_len] = found
    return found


class GCMContext:
    """AES-GCM; the tag follows the text."""

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        aead = AESGCM(bytes(keymat[:-4]))
        self._encrypt, self._decrypt = aead.encrypt, aead.decrypt
        self._salt = bytes(keymat[-4:])

    @staticmethod
    def set_most_text(n):
        """A board's matter: here a text may be as long as its buffer."""

    @staticmethod
    def set_constant_time():
        """A board's matter: `cryptography` is so where the processor helps it."""

    @staticmethod
    def reserve(count, text_len=None):
        """A board's matter."""

    def wipe(self):
        """The key inside `cryptography` dies with its object; no memory of it is ours."""
        self._encrypt = self._decrypt = self._salt = None

    def seal(self, buf, off, aad_len, text_len):
        encrypt = self._encrypt
        try:
            aad, iv, text, sealed = buf.cuts[text_len if aad_len == _AAD_LEN and not off else None]
        except (AttributeError, KeyError):
            aad, iv, text, sealed = _cut(buf, off, aad_len, text_len)
        sealed[_ALL] = encrypt(self._salt + iv, text, aad)

    def open(self, buf, off, aad_len, text_len):
        decrypt = self._decrypt
        try:
            aad, iv, text, sealed = buf.cuts[text_len if aad_len == _AAD_LEN and not off else None]
        except (AttributeError, KeyError):
            aad, iv, text, sealed = _cut(buf, off, aad_len, text_len)
        try:
            text[_ALL] = decrypt(self._salt + iv, sealed, aad)
        except InvalidTag:
            return False
        return True


class GMACContext(GCMContext):
    """See covey.gcm: AES-GCM of no text."""

    def seal(self, buf, off, aad_len, text_len):
        iv = off + aad_len
        tag = iv + 8 + text_len
        if off < 0 or aad_len & 15 != 8 or text_len < 0 or tag + 16 > len(buf):
            raise ValueError("longer than the buffer, or an odd length of AAD")
        nonce = self._salt + buf[iv : iv + 8]
        buf[tag : tag + 16] = self._encrypt(nonce, b"", buf[off:tag])

    def open(self, buf, off, aad_len, text_len):
        iv = off + aad_len
        tag = iv + 8 + text_len
        if off < 0 or aad_len & 15 != 8 or text_len < 0 or tag + 16 > len(buf):
            raise ValueError("longer than the buffer, or an odd length of AAD")
        try:
            self._decrypt(self._salt + buf[iv : iv + 8], buf[tag : tag + 16], buf[off:tag])
        except InvalidTag:
            return False
        return True


class RareContext(GCMContext):
    """See covey.gcm: OpenSSL needs no tables."""

    def open_job(self, buf, off, aad_len, text_len):
        yield
        if self._salt is None:
            return False  # wiped before its turn came
        return GCMContext.open(self, buf, off, aad_len, text_len)
