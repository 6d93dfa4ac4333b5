"""On MicroPython: AES-GCM, and what of it no AES-GCM could do without."""

from counting import cost, report
from cryptolib import aes

from covey.gcm import GCMContext, GMACContext

KEYMAT = bytes(range(1, 21))
_ECB = 1
_AAD_LEN = 8  # SPI and sequence number
_LENGTHS = (64, 256)

context = GCMContext(KEYMAT)
buf = bytearray(_AAD_LEN + 8 + _LENGTHS[-1] + 16)
cipher = aes(KEYMAT[:16], _ECB)
keystream = memoryview(bytearray(16 * (2 + _LENGTHS[-1] // 16)))
hashing = GMACContext(KEYMAT)


def aes_blocks(n):
    encrypt = cipher.encrypt
    view = keystream[: 16 * n]
    cost(f"aes {n}", lambda: encrypt(view, view))


for blocks in (1, 4, 5, 16, 17):
    aes_blocks(blocks)
for n in (16, 80):  # four blocks more of GHASH, and nothing else
    cost(f"hashed {n}", lambda n=n: hashing.seal(buf, 0, _AAD_LEN, n))
cost("key", lambda: GCMContext(KEYMAT))
for n in _LENGTHS:

    def seal(n=n):
        context.seal(buf, 0, _AAD_LEN, n)

    def forge(n=n):
        context.seal(buf, 0, _AAD_LEN, n)
        buf[_AAD_LEN + 8 + n] ^= 1

    cost(f"seal {n}", lambda n=n: context.seal(buf, 0, _AAD_LEN, n))
    cost(f"open {n}", lambda n=n: context.open(buf, 0, _AAD_LEN, n), seal)
    cost(f"forged {n}", lambda n=n: context.open(buf, 0, _AAD_LEN, n), forge)
    seal()
    opened = context.open(buf, 0, _AAD_LEN, n)
    forge()
    assert opened and not context.open(buf, 0, _AAD_LEN, n)
report()
