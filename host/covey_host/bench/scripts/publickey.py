"""On MicroPython: X25519, ECDSA P-256 verification and key unwrap, each step on its own.

Arguments: mode, then in hexadecimal a P-256 point, a digest, r | s; a KEK, a wrapped key.
"""

import sys
from binascii import unhexlify

from counting import cost, report, steps

from covey import keywrap, p256, x25519

point, digest, signature, kek, wrapped = (unhexlify(text) for text in sys.argv[2:7])
r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))

verifier = p256.Verifier(point)
cost("point", lambda: p256.Verifier(point))
steps("prepare", verifier.prepare())
assert steps("verify", verifier.verify(digest, r, s))
assert not steps("refuse", verifier.verify(digest, s, r))
scalar = bytes(range(32))
assert steps("x25519", x25519.multiply(scalar, bytes([9]) + bytes(31)))
assert steps("unwrap", keywrap.unwrap_job(kek, wrapped))
report()
