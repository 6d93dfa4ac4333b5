"""AES-GCM on CPython: `cryptography`. See covey.gcm for what contexts promise.

What costs beside the cipher is to cut octets out of the caller's buffer and to put them back.
One struct.unpack_from cuts AAD, IV and text at once, and pack_into puts octets where a slice of
a bytearray would first make another bytearray of them. `decrypt_into` is no way around: it leaves
in the buffer what a wrong tag has made of the text.
"""

from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MOST_LAYOUTS = 512  # of one AAD length: ESP's texts of up to 1536 octets have 384
_TOO_LONG = "longer than the buffer"


class _Layouts(dict):
    """Text's length → (length of all, cuts a buffer, where the text begins, puts octets there),
    for one length of AAD; `tag_in` and `tag_out`: octets of tag that are cut, and put.
    """

    def __init__(self, aad_len, tag_in, tag_out):
        if aad_len < 0:
            raise ValueError(_TOO_LONG)
        self._lens = aad_len, tag_in, tag_out

    def __missing__(self, text_len):
        if text_len < 0:
            raise ValueError(_TOO_LONG)
        if len(self) == _MOST_LAYOUTS:
            self.clear()
        aad_len, tag_in, tag_out = self._lens
        text = aad_len + 8
        cut = Struct(f"{aad_len}s8s{text_len + tag_in}s").unpack_from
        put = Struct(f"{text_len + tag_out}s").pack_into
        self[text_len] = text + text_len + 16, cut, text, put
        return self[text_len]


class _ByAAD(dict):
    """AAD's length → its _Layouts."""

    def __init__(self, tag_in, tag_out):
        self._tags = tag_in, tag_out

    def __missing__(self, aad_len):
        if len(self) == _MOST_LAYOUTS:
            self.clear()
        self[aad_len] = _Layouts(aad_len, *self._tags)
        return self[aad_len]


_to_seal = _ByAAD(0, 16)
_to_open = _ByAAD(16, 0)


class GCMContext:
    """AES-GCM; the tag follows the text."""

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        self.seal, self.open = self._bind(AESGCM(bytes(keymat[:-4])), bytes(keymat[-4:]))

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
        self.seal = self.open = None

    @staticmethod
    def _bind(aead, salt):
        """Closures: attributes of self would be looked up each time."""
        encrypt, decrypt = aead.encrypt, aead.decrypt

        def seal(buf, off, aad_len, text_len):
            length, cut, text, put = _to_seal[aad_len][text_len]
            if off < 0 or off + length > len(buf):
                raise ValueError(_TOO_LONG)
            aad, iv, plain = cut(buf, off)
            put(buf, off + text, encrypt(salt + iv, plain, aad))

        def open(buf, off, aad_len, text_len):
            length, cut, text, put = _to_open[aad_len][text_len]
            if off < 0 or off + length > len(buf):
                raise ValueError(_TOO_LONG)
            aad, iv, sealed = cut(buf, off)
            try:
                put(buf, off + text, decrypt(salt + iv, sealed, aad))
            except InvalidTag:
                return False
            return True

        return seal, open


class GMACContext(GCMContext):
    """See covey.gcm: AES-GCM of no text."""

    @staticmethod
    def _bind(aead, salt):
        encrypt, decrypt = aead.encrypt, aead.decrypt

        def seal(buf, off, aad_len, text_len):
            iv = off + aad_len
            tag = iv + 8 + text_len
            if off < 0 or aad_len & 15 != 8 or text_len < 0 or tag + 16 > len(buf):
                raise ValueError("longer than the buffer, or an odd length of AAD")
            buf[tag : tag + 16] = encrypt(salt + buf[iv : iv + 8], b"", buf[off:tag])

        def open(buf, off, aad_len, text_len):
            iv = off + aad_len
            tag = iv + 8 + text_len
            if off < 0 or aad_len & 15 != 8 or text_len < 0 or tag + 16 > len(buf):
                raise ValueError("longer than the buffer, or an odd length of AAD")
            try:
                decrypt(salt + buf[iv : iv + 8], buf[tag : tag + 16], buf[off:tag])
            except InvalidTag:
                return False
            return True

        return seal, open


RareContext = GCMContext  # OpenSSL needs no tables


def open_long(context, buf, off, aad_len, text_len):
    return context.open(buf, off, aad_len, text_len)
