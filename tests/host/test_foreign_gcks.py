"""Our member against a foreign key server on real sockets: registration and data both ways."""

import pytest


def exchange(bench, member, text, n=1):
    """A packet of scapy's to the member, and one of its own that scapy opens."""
    (tek,) = bench.group.teks
    (sender_id,) = bench.group.given
    bits = bench.group.sender_bits
    bench.air.send(tek, b"to " + text, iv=bytes([0xEE]) + bytes(7))
    member.packet(b"to " + text)
    member.say("from " + text.decode())
    _, iv, port, payload = bench.air.hear([tek])
    while not payload.startswith(b"from "):
        _, iv, port, payload = bench.air.hear([tek])
    assert (port, payload) == (tek.port, b"from " + text)
    assert int.from_bytes(iv) >> 64 - bits == sender_id


@pytest.mark.parametrize(
    "interpreter, shape",
    [
        ("cpython", {}),
        ("cpython", {"marker": True, "port": 4500, "rekey_port": "carrier"}),
        ("micropython", {}),
        ("micropython", {"marker": True, "rekey_port": 4500}),
    ],
)
def test_a_life(foreign, interpreter, shape):
    bench = foreign(**shape)
    bench.group.dtd_s = 60
    member = bench.talker(interpreter)
    assert bench.server.wait("auth") == (b"press-7", 1)
    exchange(bench, member, b"one")
    group, over = bench.group, bench.group.kek
    old = group.renew()[0]
    bench.rekey([group.gsa(), group.kd(over.kwk)], over, times=3)
    member.heard("rekeyed")
    exchange(bench, member, b"two")
    bench.air.send(old, b"late", iv=bytes([0xEE]) + bytes(7))
    member.packet(b"late")  # DTD
    status, _ = member.leave()
    assert status == 0 and bench.server.wait("left") == b"press-7"
