"""GSA_REKEY of a foreign key server in every shape, and what a member makes of each.

One membership takes them all, one after the other, on each interpreter.
"""

import os
from collections import Counter

import pytest

from foreign_bench import Bench
from foreign_gm import GSA, KD, notification
from foreign_group import Signer, Tek, delete, littered, substructure, tlv, tv
from processes import wait_until


@pytest.fixture(params=("cpython", "micropython"))
def joined(request, tmp_path):
    bench = Bench(tmp_path)
    bench.group.dtd_s = 20  # what is replaced stays for the whole story
    story = Story(bench, bench.talker(request.param, limits={"sas": 64}))
    yield story
    bench.close()


class Story:
    def __init__(self, bench, member):
        self.bench, self.member, self.group = bench, member, bench.group
        self.rekeys = self.packets = 0

    def status(self):
        """The next one."""
        told = self.member.heard("status", self.member.count("status") + 1)
        return told.get("detail") or told

    def opens(self, tek, port=None):
        """A packet of scapy's under this key is delivered."""
        self.packets += 1
        text = b"packet %d" % self.packets
        self.bench.air.send(tek, text, port=port, iv=b"\xee\xee" + bytes(6))
        self.member.packet(text)

    def sends(self, *teks):
        """What the member sends now comes under one of these: (tek, port)."""
        self.packets += 1
        text = b"ours %d" % self.packets
        self.member.say(text.decode())
        while True:
            tek, _, port, payload = self.bench.air.hear(list(teks))
            if payload == text:
                return tek, port

    def rekeyed(self):
        self.rekeys += 1
        self.member.heard("rekeyed", self.rekeys)

    def rekey(self, payloads=None, arrange=list, **shape):
        """New keys throughout, arranged by the test; → the KEK and the TEK before."""
        over = self.group.kek
        old = self.group.renew()[0]
        payloads = payloads or [self.group.gsa(), self.group.kd(over.kwk)]
        self.bench.rekey(
            arrange(payloads, old) if arrange is not list else payloads, over, **shape
        )
        self.rekeyed()
        return over, old


ARRANGEMENTS = {
    "plain": {},
    "three times": {"times": 3},
    "Delete last": {"arrange": lambda p, old: [*p, delete(3, old.spi)]},
    "Delete first": {"arrange": lambda p, old: [delete(3, old.spi), *p]},
    "KD first": {"arrange": lambda p, old: p[::-1]},
    "Delete of what nobody has": {
        "arrange": lambda p, old: [*p, delete(3, b"none"), delete(2, b"none")]
    },
    "notification": {"arrange": lambda p, old: [notification(40999, b"?"), *p]},
    "AUTH first": {"at": 0},
    "AUTH between": {"at": 1},
    "I = 0": {"flags": 0},
    "reserved flags": {"flags": 0x08 | 0x10 | 0xC7 & ~0x20},
    "minor version": {"version": 0x2F},
    "padded": {"pad": 255},
    "70 octets": {"length": 70},
    "72 octets": {"length": 72},
    "gap": {"message_id": 1000},
    "last numbers": {"message_id": 0xFFFFFFFE},
    "litter": {"arrange": lambda p, old: littered(p)},
}


def test_arrangements(joined):
    """Whatever the order and the numbers: new keys are taken, the old ones live until DTD."""
    for shape in ARRANGEMENTS.values():
        _, old = joined.rekey(**shape)
        joined.opens(joined.group.teks[0])
        joined.opens(old)
        assert joined.sends(*joined.group.teks) == (joined.group.teks[0], 2222)


def test_contents(joined):
    group, bench, member = joined.group, joined.bench, joined.member
    group.junk = group.reverse = True
    joined.rekey()
    joined.opens(group.teks[0])
    group.junk = group.reverse = False
    for kek_bits, tek_bits, kwa in ((256, 256, 3), (128, 256, 3), (128, 128, 1)):
        group.kek_bits, group.tek_bits, group.kwa = kek_bits, tek_bits, kwa
        joined.rekey()
        joined.opens(group.teks[0])
    # only a TEK: the Rekey SA stays, and its numbers go on
    for _ in range(2):
        group.teks = [Tek(group.address)]
        bench.rekey([group.gsa(kek=False), group.kd(group.kek.kwk, kek=False)])
        joined.rekeyed()
        joined.opens(group.teks[0])
    # the Rekey SA is told again beside the new TEK
    group.teks = [Tek(group.address)]
    bench.rekey([group.gsa(), group.kd(group.kek.kwk)], message_id=77)
    joined.rekeyed()
    # only a Rekey SA: TEKs stay, and what follows comes over the new one
    over, teks = group.kek, group.teks
    group.renew()
    group.teks = teks
    bench.rekey([group.gsa(teks=[]), group.kd(over.kwk, teks=[])], over)
    joined.rekey()
    joined.opens(group.teks[0])
    joined.opens(teks[0])
    # another key to sign with, announced under the old one: with a new Rekey SA, and without
    for renews in (True, False):
        over, old_signer = group.kek, group.signer
        new_signer = Signer()
        if renews:
            group.renew()
        else:
            group.teks = [Tek(group.address)]
        body = group.kd(over.kwk, kek=renews)[1] + substructure(0, b"", tlv(2, new_signer.public))
        bench.rekey([group.gsa(kek=renews), (KD, body)], over)
        joined.rekeyed()
        bench.multicast(group.kek.message([group.gsa(), group.kd(group.kek.kwk)], old_signer))
        group.kek.next_id -= 1
        group.signer = new_signer
        joined.rekey()
        joined.opens(group.teks[0])
    assert joined.status()["drops"]["rekey_signature"] == 2
    assert member.count("registered") == 1 and bench.server.count("pull") == 0


def test_group_wide_policy(joined):
    """Silent on ATD: 0. Absent: the delays of the last policy that had one."""
    group = joined.group
    teks = [*group.teks]

    def sends_under_the_newest():
        teks.append(group.teks[0])
        return joined.sends(*teks)[0] is teks[-1]

    group.atd_s = 10  # longer than any machine takes to say something
    joined.rekey()
    assert not sends_under_the_newest()
    over = group.kek
    group.renew()
    joined.bench.rekey([group.gsa(wide=False), group.kd(over.kwk)], over)
    joined.rekeyed()
    assert not sends_under_the_newest()
    group.atd_s = None
    joined.rekey()
    assert sends_under_the_newest()


def flipped(message, at):
    message = bytearray(message)
    message[at] ^= 1
    return bytes(message)


# Name → (payloads of a good message → payloads, changes of the octets, what is counted)
REFUSED = {
    "critical": ({}, lambda p: [(200, b"", 0x80), *p], "rekey_format"),
    "old number": ({"message_id": 6}, list, "rekey_message_id"),
    "no AUTH": ({"signer": None}, list, "rekey_signature"),
    "another signer": ({"signer": Signer()}, list, "rekey_signature"),
    "no KD": ({}, lambda p: p[:1], "rekey_format"),
    "two GSA": ({}, lambda p: [p[0], *p], "rekey_format"),
    "nothing to do": ({}, lambda p: [notification(40999)], "rekey_format"),
    "two group-wide policies": (
        {},
        lambda p: [(GSA, p[0][1] + substructure(0, b"", tv(1, 1))), p[1]],
        "gsa",
    ),
    "Sender-ID": (
        {},
        lambda p: [p[0], (KD, p[1][1] + substructure(0, b"", tlv(3, bytes(4))))],
        "kd",
    ),
    "ICV": ({"flip": -1}, list, "rekey_tag"),
    "SPI": ({"flip": 0}, list, "rekey_spi"),
    "an answer": ({"flags": 0x28}, list, "rekey_format"),
    "major version": ({"version": 0x30}, list, "rekey_format"),
}


def test_refusals(joined):
    """Dropped, counted, and nothing has changed: the next good one is taken."""
    group, bench = joined.group, joined.bench
    wanted = Counter()
    for shape, change, reason in REFUSED.values():
        over, teks, shape = group.kek, group.teks, dict(shape)
        over.next_id = 7
        bench.rekey([delete(3, b"none")])
        group.renew()
        flip, signer = shape.pop("flip", None), shape.pop("signer", group.signer)
        payloads = change([group.gsa(), group.kd(over.kwk)])
        message = over.message(payloads, signer, **shape)
        bench.multicast(message if flip is None else flipped(message, flip))
        group.kek, group.teks, over.next_id = over, teks, 8
        wanted[reason] += 1
        joined.rekey()
        joined.opens(teks[0])
    drops = joined.status()["drops"]
    by_the_way = "own", "rekey_repeat", "ike_message_id"
    assert {name: n for name, n in drops.items() if name not in by_the_way} == wanted
    assert bench.server.count("pull") == 0


def test_what_is_genuine_but_not_for_us_is_asked_for(joined):
    """A key that does not open: the member pulls, and has the new keys from the answer."""
    group, bench = joined.group, joined.bench
    over = group.kek
    group.renew()
    bench.rekey([group.gsa(), group.kd(os.urandom(16))], over)
    assert bench.server.wait("pull") == (b"press-7", 1)
    tek = group.teks[0]
    sends = wait_until(lambda: bench.air.send(tek, b"?") and joined.member.opened(b"?"))
    assert sends and joined.status()["drops"]["key_wrap"] == 1
