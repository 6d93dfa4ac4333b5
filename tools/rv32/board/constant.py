"""AES-GCM in constant time."""

from counting import cost, report
from packets import KEYMAT

from covey.gcm import GCMContext, GMACContext

GCMContext.set_constant_time()
buf = bytearray(8 + 8 + 256 + 16)
context, integrity = GCMContext(KEYMAT), GMACContext(KEYMAT)
for n in (64, 256):
    words = buf, 0, 8, n
    cost(f"constant time: GCM seal, {n} octets", context.seal, *words)
    cost(f"constant time: GMAC seal, {n} octets", integrity.seal, *words)
report()
