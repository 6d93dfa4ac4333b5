"""A member's week in a small heap, on MicroPython: `week_script.py HOURS ROOM RESERVES`.

ROOM: octets of heap that are left once the code is loaded, as a board has it in flash; 0: all.
RESERVES: 1: memory for keys is made at the start, as covey.aio does; 0: when they come.

On stdin for each hour, from 0 on: SPI of its data SA, then what brings its keys: each eighth hour
a registration, of KWK, GSA and KD, else one GSA_REKEY, which is opened and verified. Before each
of them two octets of length.
Packets go both ways. Prints one object of JSON a line: what is taken from the heap after each day.
"""

import gc
import json
import sys

from covey import port  # noqa: F401  first: each nested import takes 4 KB of the unix port's C stack

# isort: split
from covey import assignment, dropnames, gsa, kd, keywork, x25519  # noqa: F401  dropnames: each print asks for it
from covey.gcm import GCMContext, RareContext
from covey.group import Group
from covey.job import finish
from covey.member import Member
from covey.port import ticks_add

HOUR_MS = 3600000
SLOTS = 4
START_MS = (1 << 30) - 60 * HOUR_MS  # the clock wraps on the third day
HOURS, ROOM, RESERVES = [int(word) for word in sys.argv[1:]]
REKEY_S = 4  # until ATD and DTD are over


class Settings:
    """What keywork asks of config.Config."""

    sender = has_markers = True
    carrier, carrier_port = "udp", 4500


class Registered:
    """What keywork takes of registration.Registration."""

    transport_mode = asked_to_send = True

    def __init__(self, kwk, policy, keys):
        self.gsa = gsa.parse_gsa(policy)
        self.kd = kd.parse_kd(keys)
        self.kwk = bytearray(kwk)


def taken():
    gc.collect()
    return gc.mem_alloc()


def fill_up(room):
    """Take all of the heap but one piece of so many octets, as on a board nothing lies about."""
    kept = bytearray(room)
    pieces = [None] * 4096
    at = 0
    for size in (8192, 512, 64, 16):
        try:
            while True:
                pieces[at] = bytearray(size - 16) if size > 16 else bytearray(0)
                at += 1
        except MemoryError:
            pass
    kept = None
    return pieces, kept


def words(count):
    """The next so many of stdin, each a datagram as its socket hands it over."""
    read = sys.stdin.buffer.read
    return [read(int.from_bytes(read(2), "big")) for _ in range(count)]


def register(work, group, what, now_ms):
    """As the handshake does: two products of X25519, and an IKE SA whose contexts are there
    meanwhile.
    """
    scalar = bytes(31) + b"\x40"
    assert finish(x25519.multiply(scalar, x25519.BASE))
    assert finish(x25519.multiply(scalar, x25519.BASE))
    ike_sa = [RareContext(bytes(20)) for _ in range(2)]
    work.take(Registered(*what), group.rekey.turns)
    for context in ike_sa:
        context.wipe()
    carry_out(work, keywork.TAKEN, now_ms)


def carry_out(work, outcome, now_ms):
    """All steps: keys of a rekey are verified, those of a registration get a verifier's table."""
    came = []
    while True:
        result = work.step(now_ms)
        if result == keywork.IDLE:
            break
        if result is not None:
            came.append(result)
    assert came == [outcome], (came, work.reason)


def talk(member, number, now_ms):
    """Send a packet; take one from another sender, and its replay not."""
    for n in (0, 64, 512):
        assert member.send(n, now_ms) > 0, number
    rx, sa = member.rx, member.keys.newest()
    text = b"\x08\xae\x08\xae\x00\x0c\x00\x00data\x01\x02\x02\x11"
    for replayed in (False, True):
        rx[:16] = sa.spi + number.to_bytes(4, "big") + b"\x00\x81" + bytes(6)
        rx[16 : 16 + len(text)] = text
        sa.context.seal(rx, 0, 8, len(text))
        got = member.receive(32 + len(text), now_ms)
        assert (got < 0) == replayed, (number, got)


def main():
    GCMContext.reserve(0)  # loads the kernel
    ballast = fill_up(ROOM) if ROOM else None
    start = taken()
    member = Member(
        payload_max=512, datagram_max=1536, sa_slots=SLOTS, sender=True, reserves=bool(RESERVES)
    )
    group = Group(member)
    work = keywork.KeyWork(Settings, member, group)
    made = member.rx, member.tx, member.words  # where they lie, the kernels know
    now_ms = START_MS
    what = words(4)
    register(work, group, what[1:], now_ms)
    talk(member, 1, now_ms)
    what = None
    print(json.dumps({"hour": 0, "all": taken(), "state": taken() - start}))
    for hour in range(1, HOURS + 1):
        now_ms = ticks_add(now_ms, HOUR_MS)
        is_registering = hour & 7 == 0
        what = words(4 if is_registering else 2)
        spi = what[0]
        if is_registering:
            register(work, group, what[1:], now_ms)
        else:
            work.hear(what[1])
            carry_out(work, keywork.FOLLOWED, now_ms)
        what = None
        for second in range(1, 1 + REKEY_S):
            now_ms = ticks_add(now_ms, 1000)
            group.step(now_ms)
            talk(member, hour << 8 | second, now_ms)
        assert [sa.spi for sa in member.keys.live()] == [spi], hour
        assert len(group.rekey.held) == 1, hour
        assert made[0] is member.rx and made[1] is member.tx and made[2] is member.words
        if hour % 24 == 0:
            assert ballast is None or len(ballast)
            print(
                json.dumps(
                    {
                        "hour": hour,
                        "all": taken(),
                        "state": taken() - start,
                        "drops": member.drops.as_dict(),
                    }
                )
            )


main()
