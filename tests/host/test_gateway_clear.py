"""A gateway in a group whose packets everybody can read (integrity_only): it sends nothing there,
unless its file says that it may. Without sockets.
"""

import asyncio
import json
from types import SimpleNamespace

import pytest

import enip
from covey import esp, port
from covey_host.gateway import service
from datapath import data_sa
from gateway_stand import stand_in
from test_gateway import ID, planned

FRAME = enip.frame(ID, 1, b"SPEED-IS-1500-RPM")


class Wire:
    """What leaves for the protected network. then(): once the first has."""

    def __init__(self):
        self.sent, self.then = [], lambda: None

    def send(self, datagram):
        self.sent.append(bytes(datagram))
        then, self.then = self.then, lambda: None
        then()


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """make(changes of the flow) → a gateway whose member has joined, but for its sockets."""
    stand_in(tmp_path, monkeypatch)

    def make(**changes):
        plan = planned(tmp_path, {"connections": '"any"', **changes})
        gateway = service.Gateway(plan, True)
        (tunnel,) = gateway._tunnels.values()
        tunnel._joined = tunnel._new()
        return SimpleNamespace(
            gateway=gateway, flow=plan.flows[0], tunnel=tunnel, wire=Wire(), count=0
        )

    return make


def comes(gate, integrity_only):
    """Keys of another epoch, in use at once."""
    gate.count += 1
    sa = data_sa(
        spi=bytes([0x9F, 0, 0, gate.count]), epoch=gate.count, integrity_only=integrity_only
    )
    sa.become_sender(65, 16)
    joined = gate.tunnel._joined
    joined.member.keys.install(sa, port.ticks_ms())
    joined.member.keys.activate(sa.spi, port.ticks_ms(), 0)
    joined._routes[sa.spi] = gate.wire


def sends(gate, count=1):
    asyncio.run(gate.gateway._send(gate.flow, [FRAME] * count))


def told(capsys):
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in lines if line["event"] == "in_clear"]


def test_nothing_is_sent_that_everybody_could_read(gate, capsys):
    gate = gate()
    bridge = gate.gateway._bridge
    comes(gate, integrity_only=False)
    sends(gate)
    assert len(gate.wire.sent) == bridge.passed["f0"] == 1 and not bridge.drops
    comes(gate, integrity_only=True)  # policy was changed
    for _ in range(3):
        sends(gate, 2)
    assert len(gate.wire.sent) == bridge.passed["f0"] == 1 and bridge.drops == {"in_clear": 6}
    (event,) = told(capsys)
    assert event["member"] == "gate-1" and "in_clear = true" in event["detail"]
    comes(gate, integrity_only=False)  # and changed back
    sends(gate)
    comes(gate, integrity_only=True)
    sends(gate)
    assert len(gate.wire.sent) == 2 and bridge.drops == {"in_clear": 7}
    assert len(told(capsys)) == 1
    assert not any(FRAME in each for each in gate.wire.sent)


def test_keys_that_come_within_a_burst(gate):
    """The last look is at what has been sealed already."""
    gate = gate()
    comes(gate, integrity_only=False)
    gate.wire.then = lambda: comes(gate, integrity_only=True)
    sends(gate, 3)
    assert len(gate.wire.sent) == 1 and FRAME not in gate.wire.sent[0]
    assert gate.gateway._bridge.drops == {"in_clear": 2}


def test_a_flow_that_may_be_read(gate, capsys):
    gate = gate(in_clear="true")
    comes(gate, integrity_only=True)
    sends(gate, 2)
    assert len(gate.wire.sent) == 2 and not gate.gateway._bridge.drops
    assert all(FRAME in each for each in gate.wire.sent)  # or the tests above would show nothing
    assert {len(each) for each in gate.wire.sent} == {esp.datagram_len(len(FRAME))}
    assert not told(capsys)
