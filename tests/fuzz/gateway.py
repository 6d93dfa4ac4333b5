"""A gateway: explicit messages that it watches, frames that are to cross it, and its file.

Nothing is raised, what it holds is bounded, and no frame crosses but of a flow's connection: one
that the file lists, or that was told by the flow's own producer.
"""

import struct
from ipaddress import IPv4Address
from pathlib import Path
from unittest import mock

import enip
from covey import cip
from covey_host.errors import Problem
from covey_host.gateway import learned, plan, streams
from covey_host.gateway.bridge import Bridge
from fuzz.files import changed_toml
from fuzz.program import Program
from fuzz.spoil import spoil_octets

TARGET, OTHER, SCANNER = "192.168.1.20", "192.168.1.21", "192.168.2.9"
GROUP, PORT = "239.192.1.32", 2222
LISTED, TOLD = 0x0BADCAFE, 0x12345678
_FILE = f"""\
plant = "eth1"
protected = "eth0"

[flow.learned]
direction = "protect"
member = "members/gate"
address = "{GROUP}"
port = {PORT}
producer = "{TARGET}"

[flow.listed]
direction = "protect"
member = "members/gate"
address = "239.192.1.64"
port = {PORT}
producer = "{OTHER}"
connections = [{LISTED}]

[flow.back]
direction = "open"
member = "members/other"
address = "239.192.1.96"
port = {PORT}
producer = "192.168.2.30"
connections = [{LISTED}]
source = "gate-2"

[unicast.plc]
from = "192.168.2.9"
to = "192.168.1.20"
"""
_MOST_DEEDS = 40


def _loaded(text):
    with mock.patch.object(Path, "read_text", lambda path, encoding: text):
        return plan.load(Path("/gateway.toml"))


_PLAN = _loaded(_FILE)
_PLACES = [(flow.address.packed, flow.port) for flow in _PLAN.flows if flow.direction == "protect"]
_MESSAGES = (
    lambda p: enip.open_reply(p.pick((TOLD, LISTED, p.u16())), GROUP, owner=p.take(8).ljust(8)),
    lambda p: enip.open_reply(TOLD, GROUP, interval_us=p.u32()),
    lambda p: enip.close_reply(p.pick((enip.OWNER, p.take(8).ljust(8)))),
    lambda p: enip.refusal(),
    lambda p: enip.open_reply(TOLD, GROUP, more=[enip.item(p.u16(), p.octets())]),
    lambda p: enip.message([enip.item(0, b""), enip.item(0xB2, p.octets())]),
    lambda p: p.octets(),
)


class Crossing:
    """One gateway, and what a watcher of it knows."""

    def __init__(self, data):
        self.program = Program(data)
        self.bridge = Bridge(_PLAN)
        self.now_s = 0.0
        self.told = b""  # all that the flow's own producer has said
        self.number = {}  # of the next octet: target → TCP sequence number

    def watch(self):
        program = self.program
        text = b"".join(program.pick(_MESSAGES)(program) for _ in range(1 + program.u8() % 3))
        if program.u8() & 1:
            text = spoil_octets(text, program.u8() % 8, program)
        target = program.pick((TARGET, OTHER))
        number = self.number.get(target, program.u32())
        cut = program.u16() % (len(text) + 1)
        for part in (text[:cut], text[cut:]):
            back = program.pick((0, 0, 0, 1, -1, 50, 1 << 31))
            flags = program.pick((0x18, 0x18, 2, 0x11, 4, 0x12))
            packet = enip.segment(
                target, SCANNER, number - back & 0xFFFFFFFF, part, flags, to=program.u8()
            )
            if program.u8() % 4 == 0:
                packet = spoil_octets(packet, program.u8() % 8, program)
            if packet[12:16] == IPv4Address(TARGET).packed:
                self.told += packet
            self.bridge.watch(packet, self.now_s)
            number = number + len(part) & 0xFFFFFFFF
        self.number[target] = number

    def frame(self):
        program = self.program
        made = enip.frame(program.pick((TOLD, LISTED, program.u16())), program.u16(), b"speed")
        return spoil_octets(made, program.u8() % 8, program) if program.u8() & 1 else made

    def leave(self):
        octets = self.frame()[:2048]
        place, producer = self.program.pick(_PLACES), self.program.pick((TARGET, OTHER, SCANNER))
        before = self.bridge.drops.total()
        buf = bytearray(octets)
        flow = self.bridge.protect(place, producer, buf, len(octets), self.now_s)
        assert (flow is None) == (self.bridge.drops.total() == before + 1)
        if flow is not None:
            assert cip.parse(octets, 0, len(octets), 0) >= 0 and str(flow.producer) == producer
            self.is_known(flow, octets[6:10])

    def enter(self):
        octets = self.frame()
        source = self.program.pick((b"gate-2", None, b"press-7"))
        member = self.program.pick([flow.member for flow in _PLAN.flows])
        flow = self.bridge.open(member, octets, source)
        assert flow is None or (flow.name, flow.member, source) == ("back", member, b"gate-2")
        if flow is not None:
            self.is_known(flow, octets[6:10])

    def is_known(self, flow, connection):
        if flow.name == "learned":  # in order, though segments may have cut it and overlapped
            said = iter(self.told)
            assert all(octet in said for octet in connection)
        else:
            assert connection == struct.pack("<I", LISTED)

    def wait(self):
        self.now_s += self.program.pick((0.01, 1, 11, 3600))
        self.bridge.expire(self.now_s)


_DEEDS = Crossing.watch, Crossing.watch, Crossing.leave, Crossing.enter, Crossing.wait


def crossing(data):
    it = Crossing(data)
    for _ in range(_MOST_DEEDS):
        if it.program.is_over:
            break
        it.program.pick(_DEEDS)(it)
    held = it.bridge._streams._streams
    assert len(held) <= streams.MOST_STREAMS
    assert all(len(each._held) <= streams.MOST_OCTETS for each in held.values())
    for each in it.bridge._learned.values():
        assert len(each) <= learned.MOST_CONNECTIONS
        for known in each._open.values():
            assert 1 <= len(known.owners) <= learned.MOST_OWNERS


_KEYS = (
    *("plant", "protected", "flow", "unicast", "direction", "member", "address", "port", "from"),
    *("producer", "connections", "source", "ttl", "dscp", "in_clear", "to"),
)
_VALUES = (
    *('"protect"', '"open"', '"learn"', '"any"', "[1, 4294967295]", "[4294967296]", '"eth0"'),
    *('"239.192.1.96"', '"192.168.2.30"', '"192.168.2.0/24"', '"0.0.0.0/0"', '"members/other"'),
)


def file(data):
    """gateway.toml: a plan in which no frame has two ways, or one sentence."""
    text = changed_toml(Program(data), _FILE, _KEYS, _VALUES)
    try:
        made = _loaded(text)
    except Problem as problem:
        assert problem.sentence.endswith(".") and "\n" not in problem.sentence
        return
    for one in made.flows:
        assert not any(one.producer in pair.source for pair in made.pairs)
        for other in made.flows:
            if one is not other and (one.address, one.port) == (other.address, other.port):
                assert one.producer == other.producer and not one.shares(other)


TARGETS = {"gateway": crossing, "gatewayfile": file}
