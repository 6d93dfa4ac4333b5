"""A member's week in a small heap, on MicroPython: `week_script.py HOURS ROOM RESERVES`.

ROOM: octets of heap that are left once the code is loaded, as a board has it in flash; 0: all.
RESERVES: 1: memory for keys is made at the start, as covey.aio does; 0: when they come.

On stdin lines of hex: GSA, KD, their KWK, the SPIs of data and Rekey SA in them (a sender's
registration of tests/recorded/group_story.json). Each hour brings new keys, each eighth hour by
a registration; packets go both ways. Prints one object of JSON a line: what is taken from the
heap after each day.
"""

import gc
import json
import sys
from binascii import unhexlify

from covey import port  # noqa: F401  first: each nested import takes 4 KB of the unix port's C stack

# isort: split
from covey import assignment, dropnames, gsa, ike, kd, x25519  # noqa: F401  dropnames: each print asks for it
from covey.gcm import GCMContext, RareContext
from covey.group import Group
from covey.job import finish
from covey.member import Member
from covey.port import collect, ticks_add

HOUR_MS = 3600000
SLOTS = 4
START_MS = (1 << 30) - 60 * HOUR_MS  # the clock wraps on the third day
HOURS, ROOM, RESERVES = [int(word) for word in sys.argv[1:]]
GSA, KD, KWK, TEK_SPI, REKEY_SPI = [unhexlify(sys.stdin.readline().strip()) for _ in range(5)]


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


def install(group, made, registering, now_ms):
    """Carry out an Assignment at once."""
    finish(group.changes(made, registering, now_ms))
    group.give_up(made)


def spis_of(hour):
    """(of the data SA, of the Rekey SA): no two hours have the same."""
    number = bytes([hour >> 8, hour & 255])
    return b"\x9f\x3a" + number, number + REKEY_SPI[2:]


def keys_of(hour, was, registering):
    """The Assignment that brings this hour's keys."""
    spi, rekey_spi = spis_of(hour)
    collect()  # as KeyWork does
    policy = gsa.parse_gsa(GSA.replace(TEK_SPI, spi).replace(REKEY_SPI, rekey_spi))
    bags = kd.parse_kd(KD.replace(TEK_SPI, spi).replace(REKEY_SPI, rekey_spi))
    if not registering:  # neither GCAUTH nor a member key bag is in a rekey
        bags.member = None
        for one in policy.policies:
            one.transforms = [t for t in one.transforms if t.kind != ike.GCAUTH]
    ike_sa = [RareContext(KWK + REKEY_SPI + bytes(4)) for _ in range(2 * registering)]
    made = finish(assignment.build(policy, bags, bytearray(KWK), was, registering, True, 16))
    if not registering:
        old_spi, old_rekey_spi = spis_of(hour - 1)
        made.deletes = [
            ike.Delete(ike.ESP, 4, [old_spi]),
            ike.Delete(ike.GIKE_UPDATE, 16, [old_rekey_spi]),
        ]
    for context in ike_sa:
        context.wipe()
    return made


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
    now_ms = START_MS
    install(group, keys_of(0, group.terms, True), True, now_ms)
    talk(member, 1, now_ms)
    print(json.dumps({"hour": 0, "all": taken(), "state": taken() - start}))
    for hour in range(1, HOURS + 1):
        now_ms = ticks_add(now_ms, HOUR_MS)
        registering = hour & 7 == 0
        if registering:
            x25519.multiply(bytes(31) + b"\x40", b"\x09" + bytes(31))  # as the handshake does
        made = keys_of(hour, group.terms, registering)
        made.turns = group.rekey.turns
        install(group, made, registering, now_ms)
        made = None
        for second in range(1, 5):  # ATD and DTD come
            now_ms = ticks_add(now_ms, 1000)
            group.step(now_ms)
            talk(member, hour << 8 | second, now_ms)
        assert [sa.spi for sa in member.keys.live()] == [spis_of(hour)[0]], hour
        assert len(group.rekey.held) == 1, hour
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
