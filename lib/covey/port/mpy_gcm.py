"""AES-GCM on MicroPython."""

from cryptolib import aes

_POLY = 0xE1 << 120  # x^128 + x^7 + x^2 + x + 1, bit-reflected


class GCMContext:
    """See covey.gcm."""

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        self._aes = aes(keymat[:-4], 1)
        self._salt = bytearray(keymat[-4:])
        self._h = int.from_bytes(self._aes.encrypt(bytes(16)), "big")

    def seal(self, buf, off, aad_len, text_len):
        text = off + aad_len + 8
        self._crypt(buf, text, text_len)
        buf[text + text_len : text + text_len + 16] = self._tag(buf, off, aad_len, text_len)

    def open(self, buf, off, aad_len, text_len):
        text = off + aad_len + 8
        tag = self._tag(buf, off, aad_len, text_len)
        diff = 0
        for i in range(16):
            diff |= tag[i] ^ buf[text + text_len + i]
        if diff:
            return False
        self._crypt(buf, text, text_len)
        return True

    def _crypt(self, buf, text, text_len):
        counter = bytearray(self._salt) + buf[text - 8 : text] + bytes(4)
        for i in range(0, text_len, 16):
            n = 2 + i // 16
            counter[14] = n >> 8
            counter[15] = n & 255
            keystream = self._aes.encrypt(counter)
            for j in range(min(16, text_len - i)):
                buf[text + i + j] ^= keystream[j]

    def _tag(self, buf, off, aad_len, text_len):
        text = off + aad_len + 8
        y = self._ghash(0, buf[off : off + aad_len])
        y = self._ghash(y, buf[text : text + text_len])
        y = self._multiply(y ^ aad_len << 67 ^ text_len << 3)
        nonce = bytearray(self._salt) + buf[text - 8 : text] + b"\0\0\0\1"
        mask = self._aes.encrypt(nonce)
        tag = y.to_bytes(16, "big")
        return bytes([tag[i] ^ mask[i] for i in range(16)])

    def _ghash(self, y, data):
        for i in range(0, len(data), 16):
            block = bytes(data[i : i + 16])
            block += bytes(16 - len(block))
            y = self._multiply(y ^ int.from_bytes(block, "big"))
        return y

    def _multiply(self, y):
        z = 0
        v = self._h
        for i in range(127, -1, -1):
            if y >> i & 1:
                z ^= v
            v = v >> 1 ^ _POLY if v & 1 else v >> 1
        return z

    def wipe(self):
        self._aes = None
        self._h = 0
        for i in range(4):
            self._salt[i] = 0
