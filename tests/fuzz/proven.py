"""Who has the group's key, and lies about who sends: TESLA and signatures, on a virtual clock.

Whatever comes behind a payload, what is confirmed is what the sender has sent, and once.
"""

from covey.drops import NOTHING, WAITS
from covey.gcm import GCMContext
from datapath import KEY128, packet, padded, udp
from fuzz.program import Program
from fuzz.quick import quickly
from fuzz.spoil import spoil_octets
from test_signatures import member, send
from test_tesla import World

_MOST = 24  # deeds
_MOST_TURNS = 5000  # of next_proven() until there is nothing


class _Timed:
    """A TESLA group of one sender and one receiver."""

    def __init__(self):
        self.world = World()
        self._press, self._valve = self.world.node(1), self.world.node()
        self.receiver = self._valve.m

    @property
    def ticks(self):
        return self._valve.ticks

    def say(self, payload):
        return [self._press.send(payload), self._press.turn()]

    def wait(self, ms):
        self.world.now += ms


class _Signed:
    """A group with signatures, likewise."""

    def __init__(self):
        self._press, self.receiver = member(1), member()
        self.ticks = 0

    def say(self, payload):
        return send(self._press, payload, payload + b"!")

    def wait(self, ms):
        self.ticks += ms


def _take(group, datagram, sent):
    """A datagram at the receiver, and all that comes of it."""
    m = group.receiver
    m.rx[: len(datagram)] = datagram
    answer = m.receive(len(datagram), group.ticks)
    if answer == WAITS:
        m.kept()
    elif answer >= 0:  # its root was verified before
        _check(m, sent)
    _judge(group, sent)


def _check(m, sent):
    """What is confirmed."""
    assert m.source == b"press-7"
    sent.remove(bytes(m.payload))  # ValueError: never sent, or not twice


def _judge(group, sent):
    m = group.receiver
    for _ in range(_MOST_TURNS):
        answer = m.next_proven(group.ticks)
        if answer >= 0:
            _check(m, sent)
        elif answer == NOTHING and not (m.waiting and m.waiting.is_working):
            return
    raise AssertionError("its work has no end")


def _forged(program, datagram):
    """The same packet under the group's key, with other octets in it, or another number."""
    copy = bytearray(datagram)
    assert GCMContext(KEY128).open(copy, 0, 8, len(copy) - 32)
    text = bytes(copy[24 : -18 - copy[-18]])
    for _ in range(1 + (program.u8() & 1)):
        text = spoil_octets(text, program.u8() % 8, program)
    seq = program.u8() if program.u8() & 1 else copy[7]
    sender = program.u16() if program.u8() & 3 == 3 else copy[8] << 8 | copy[9]
    return packet(padded(udp(text[:140])), seq, sender)


def _lie(group, program):
    said, sent = [], []
    for count in range(_MOST):
        if program.is_over:
            break
        deed = program.u8() % 8
        if deed < 2:
            payload = b"%d" % count + program.octets(8)
            made = [data for data in group.say(payload) if isinstance(data, bytes)]
            said += made
            sent += [payload, payload + b"!"]
            if deed:
                for data in made:
                    _take(group, data, sent)
        elif deed == 2:
            group.wait(program.pick((1, 50, 100, 200, 1000, 20_000)))
            _judge(group, sent)
        elif said:
            data = said[-1 - program.u8() % len(said)]
            _take(group, data if deed == 3 else _forged(program, data), sent)


def timed(data):
    """TESLA."""
    _lie(_Timed(), Program(data))


def signed(data):
    """ECDSA, one by one and in trees."""
    with quickly():
        _lie(_Signed(), Program(data))


TARGETS = {"tesla": timed, "ecdsa": signed}
