"""The same policy in every shape that RFC 9838 leaves open, one registration after the other.

The key server excludes the member and closes the IKE SA, so that all of it is negotiated anew.
"""

import pytest

from foreign_bench import Bench
from processes import wait_until

SHAPES = [
    {"sender_bits": 8, "id_octets": 1},
    {"sender_bits": 12, "id_octets": 2},
    {"sender_bits": 16, "id_octets": 8},
    {"sender_bits": 16, "id_octets": 4, "sn": 0},
    {"tek_bits": 256, "kek_bits": 256, "kwa": 3},
    {"tek_bits": 256, "kek_bits": 128, "kwa": 3},
    {"tek_bits": 128, "kek_bits": 256, "kwa": 3},
    {"tek_encr": 21},
    {"tek_encr": 21, "tek_bits": 256, "kwa": 3},
    {"ike": (128, 1)},
    {"ike": (128, 3), "tek_bits": 256, "kwa": 3},
    {"junk": True},
    {"reverse": True},
    {"junk": True, "reverse": True, "ike": (128, 1), "sn": 0},
    {"cookie": b"c"},
    {"cookie": bytes(range(64))},
    {"atd_s": None, "dtd_s": None},
    {"atd_s": 0, "dtd_s": None},
    {"atd_s": 1},
    {"lifetime_s": None},
    {"lifetime_s": 0xFFFFFFFF},
]
PLAIN = {
    "sender_bits": 16,
    "id_octets": 4,
    "sn": 2,
    "tek_bits": 128,
    "tek_encr": 20,
    "kek_bits": 128,
    "kwa": 1,
    "junk": False,
    "reverse": False,
    "atd_s": 0,
    "dtd_s": 1,
    "lifetime_s": 3600,
}


@pytest.fixture(params=("cpython", "micropython"))
def joined(request, tmp_path):
    bench = Bench(tmp_path)
    yield bench, bench.talker(request.param, limits={"sas": 64})  # all of this is within one DTD
    bench.close()


def reshape(bench, shape):
    """Exclude the member; what it comes back to has this shape."""
    server, group = bench.server, bench.group
    bench.delete_ike_sa()
    over = group.kek
    shape = {**PLAIN, "cookie": None, "ike": (256, 3), **shape}
    (server.bits, server.kwa), server.cookie = shape.pop("ike"), shape.pop("cookie")
    for name, value in shape.items():
        setattr(group, name, value)
    group.renew()
    bench.exclude(over)
    group.kek.next_id = 0x7FFFFFFF  # beyond a board's small integers


def drops_of(status):
    return (status.get("detail") or status)["drops"]


def keep_sending(bench, member, packet, payload):
    """Until it is there: who has just registered may not listen yet. Repeats are replays."""

    def is_opened():
        if not member.opened(payload):
            bench.air.raw(packet)
        return member.opened(payload)

    wait_until(is_opened, step_s=0.1)


def test_every_shape(joined):
    bench, member = joined
    group = bench.group
    for n, shape in enumerate(SHAPES):
        reshape(bench, shape)
        member.heard("registered", n + 2)
        (tek,), (sender_id,) = group.teks, group.given
        bits = group.sender_bits
        iv = (0x65 << 64 - bits | 0x123456789AB).to_bytes(8)
        packet = bench.air.send(tek, b"to %d" % n, iv=iv)
        if group.sn == 0:  # the one sender is ours: outbound only (section 2.3.3)

            def own(packet=packet):
                bench.air.raw(packet)
                heard = member.count("status")
                return drops_of(member.heard("status", heard + 1)).get("own", 0)

            assert wait_until(own) and not member.opened(b"to %d" % n)
        else:
            keep_sending(bench, member, packet, b"to %d" % n)
            member.packet(b"to %d" % n, sender=0x65)
            bench.air.raw(packet)
            bench.air.send(tek, b"behind %d" % n, iv=iv)
            member.packet(b"behind %d" % n)
            assert member.opened(b"to %d" % n) == 1, "a replay was delivered"
        member.say(f"from {n}")
        payload = b""
        while payload != b"from %d" % n:
            _, iv, port, payload = bench.air.hear([tek])
        assert int.from_bytes(iv) >> 64 - bits == sender_id and port == 2222
        over = group.kek
        group.renew()
        bench.rekey([group.gsa(), group.kd(over.kwk)], over)
        member.heard("rekeyed", n + 1)
        bench.air.send(group.teks[0], b"new %d" % n, iv=iv)
    assert member.leave()[0] == 0
