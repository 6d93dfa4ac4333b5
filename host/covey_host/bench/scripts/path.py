"""On MicroPython: Member.receive and Member.send, and the bare GCM of the same packets."""

from counting import cost, report
from packets import KEYMAT, Wire

from covey.gcm import GCMContext

_HEAD, _TAG = 16, 16  # before and behind the encrypted text
_AAD_LEN = 8

wire = Wire()
context = GCMContext(KEYMAT)  # the SA's, once more
rx, tx = wire.receiver.rx, wire.sender.tx
text_len = {}

for n in (64, 256):
    wire.carry(n)
    text_len[n] = length = wire.length - _HEAD - _TAG
    assert wire.receive() == n
    wire.forge(n)
    assert wire.receive() < 0

    cost(f"open {n}", lambda length=length: context.open(rx, 0, _AAD_LEN, length),
         lambda n=n: wire.carry(n))  # fmt: skip
    cost(f"seal {n}", lambda length=length: context.seal(tx, 0, _AAD_LEN, length))
    cost(f"receive {n}", wire.receive, lambda n=n: wire.carry(n))
    cost(f"send {n}", lambda n=n: wire.sender.send(n, 0))
cost("forged", wire.receive, lambda: wire.forge(64))
cost("stray", wire.receive, lambda: wire.stray(64))
cost("cut", wire.receive, lambda: wire.cut(64))
wire.carry(64)
assert wire.receive() == 64
cost("replay", wire.receive, wire.again)
report(text_len=text_len)
