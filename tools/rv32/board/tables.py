"""AES-GCM with tables, and a member's packets: see docs/porting.md, "What a packet costs"."""

import gc

from counting import cost, report, tell
from cryptolib import aes
from packets import KEYMAT, Wire

from covey.gcm import GCMContext, GMACContext
from covey.port import mpy_gcm
from covey.port.mpy_path import find_spi

_HEAD, _TAG = 16, 16
_AAD = 8
_SPIS = 4

spis = bytes(range(4 * _SPIS))  # of which RV32 code has found wrong ones, or none
found = [find_spi(spis, _SPIS, spis, 4 * i) for i in range(_SPIS)]
if found != list(range(_SPIS)) or find_spi(spis, _SPIS, b"none", 0) != -1:
    raise ValueError(f"SPIs are found at {found}")

buf = bytearray(_AAD + 8 + 256 + _TAG)
context, integrity = GCMContext(KEYMAT), GMACContext(KEYMAT)
encrypt, cipher = aes.encrypt, aes(KEYMAT[:16], 1)
for n in (64, 256):
    keystream = memoryview(bytearray(16 + n))
    cost(f"AES, {n // 16 + 1} blocks in one call", encrypt, cipher, keystream, keystream)
    words = buf, 0, _AAD, n

    def seal(words=words):
        context.seal(*words)

    def forge(words=words, n=n):
        context.seal(*words)
        buf[_AAD + 8 + n] ^= 1

    cost(f"GCM seal, {n} octets", context.seal, *words)
    cost(f"GCM open, {n} octets", context.open, *words, prepare=seal, wanted=True)
    cost(f"GCM refuses a forgery, {n} octets", context.open, *words, prepare=forge, wanted=False)
    cost(f"GMAC seal, {n} octets", integrity.seal, *words)
    cost(f"GMAC open, {n} octets", integrity.open, *words, wanted=True)

cost("GCM key made, with its tables", GCMContext, KEYMAT)
cost("of that, a place in the heap is found", bytearray, 2080)

wire = Wire()
member, tx = wire.receiver, wire.sender.tx
wire.carry(64)
text = wire.length - _HEAD - _TAG
wire.receive()
bare = GCMContext(KEYMAT)


def carry():
    wire.carry(64)


cost("bare open of a packet", bare.open, member.rx, 0, _AAD, text, prepare=carry, wanted=True)
cost("bare seal of a packet", bare.seal, tx, 0, _AAD, text)
carry()
length = wire.length
refuses = "Member.receive refuses"
cost("Member.receive, 64 octets", member.receive, length, 0, prepare=carry, wanted=64)
cost("Member.send, 64 octets", wire.sender.send, 64, 0, wanted=length)
cost(
    f"{refuses} an unknown SPI, 64 octets",
    member.receive,
    length,
    0,
    prepare=lambda: wire.stray(64),
)
cost(
    f"{refuses} a forged packet, 64 octets",
    member.receive,
    length,
    0,
    prepare=lambda: wire.forge(64),
)
cost(
    f"{refuses} a wrong length, 64 octets",
    member.receive,
    length - 1,
    0,
    prepare=lambda: wire.cut(64),
)
carry()
wire.receive()
cost(f"{refuses} a replayed packet, 64 octets", member.receive, length, 0, prepare=wire.again)

# RV32 code has left keys where they were, too.
state = bare._state
bare.wipe()
if any(state) or any(mpy_gcm._work[528:]):
    raise ValueError("a key that is wiped is still there")

GCMContext(KEYMAT)  # takes the wiped one's state
gc.collect()
before = gc.mem_alloc()
bare = GCMContext(KEYMAT)
gc.collect()
tell("octets of heap that a key takes", gc.mem_alloc() - before)
secret = bytearray(16)
encrypt(cipher, secret, secret)
kept = bytes(secret)
where = mpy_gcm.place(bare._state)


def again():
    secret[:] = kept


cost("GHASH's tables of a key", mpy_gcm._ghash.fill, where, secret, prepare=again)
report()
