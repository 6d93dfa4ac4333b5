"""Policies of a foreign key server that ours never sends, and what time brings under them."""

import itertools
import os
import time

import pytest

from foreign_esp import Air
from foreign_group import ANYWHERE, Tek, delete, selector
from processes import wait_until

INTERPRETERS = pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
IV = b"\xee\xee" + bytes(6)


def opens(bench, member, tek, text, **how):
    bench.air.send(tek, text, iv=IV, **how)
    member.packet(text)


def comes_to_open(bench, member, tek, text):
    """As soon as the member has the key."""
    wait_until(lambda: bench.air.send(tek, text, iv=IV) and member.opened(text))


def sends(bench, member, teks, text):
    """(tek, port) of what the member sends now."""
    member.say(text)
    while True:
        tek, _, port, payload = bench.air.hear(teks)
        if payload == text.encode():
            return tek, port


@INTERPRETERS
def test_two_teks_for_two_ports(foreign, interpreter):
    """Each protects its own port; ours go to the first, whichever of the two is renewed."""
    bench = foreign(ports=(2222, 2223))
    group = bench.group
    member = bench.talker(interpreter)
    first, second = group.teks
    opens(bench, member, first, b"one")
    opens(bench, member, second, b"two")
    bench.air.send(second, b"wrong port", port=2222, iv=IV)
    bench.air.send(first, b"wrong port", port=2223, iv=IV)
    assert sends(bench, member, group.teks, "a") == (first, 2222)
    for place in (1, 0, 1):
        old = group.teks[place]
        group.teks[place] = fresh = Tek(group.address, group.ports[place])
        payloads = [
            group.gsa(kek=False, teks=[fresh]),
            group.kd(group.kek.kwk, kek=False, teks=[fresh]),
        ]
        bench.rekey([*payloads, delete(3, old.spi)])
        comes_to_open(bench, member, fresh, b"new %d" % place)
        assert sends(bench, member, group.teks, f"b{place}") == (group.teks[0], 2222)
    assert not member.opened(b"wrong port")
    bench.rekey([delete(3, group.teks[1].spi)])
    wait_until(lambda: is_gone(bench, member, *group.teks), group.dtd_s + 10)
    assert sends(bench, member, group.teks, "c") == (group.teks[0], 2222)


texts = itertools.count()


def is_gone(bench, member, other, tek):
    """Whether the member does not take what is sent under this TEK, and what follows it does."""
    gone, behind = (b"%d %d" % (next(texts), n) for n in range(2))
    bench.air.send(tek, gone, iv=IV)
    opens(bench, member, other, behind)
    return not member.opened(gone)


@INTERPRETERS
def test_selectors(foreign, interpreter):
    """Source and destination as ranges, any protocol; all ports."""
    bench = foreign()
    group = bench.group
    (tek,) = group.teks
    tek.source = selector(bytes([127, 0, 0, 1]), bytes([127, 0, 0, 1]), 2222, 2222)
    member = bench.talker(interpreter)
    opens(bench, member, tek, b"one")
    over = group.kek
    (tek,) = group.teks = [Tek(group.address, source=selector(bytes(4), b"\xff" * 4, 0, 65535, 0))]
    bench.rekey([group.gsa(kek=False), group.kd(over.kwk, kek=False)])
    comes_to_open(bench, member, tek, b"two")
    assert tek.source != ANYWHERE and sends(bench, member, group.teks, "three") == (tek, 2222)


@INTERPRETERS
def test_rekeys_go_to_another_address_than_data(foreign, interpreter):
    """On port 4500, behind the marker, though data go elsewhere; then data move to two more."""
    bench = foreign(rekey_port=4500)
    group = bench.group
    group.dtd_s = 60
    other = Air(bench.group.dotted.replace("239.192", "239.193"), 4500)
    group.kek.address = bytes([239, 193]) + group.address[2:]
    member = bench.talker(interpreter)
    over, old = group.kek, group.teks[0]
    moved = Air(bench.group.dotted.replace("239.192", "239.194"), bench.port)
    (tek,) = group.teks = [Tek(bytes([239, 194]) + group.address[2:])]
    payloads = [group.gsa(kek=False), group.kd(over.kwk, kek=False), delete(3, old.spi)]
    other.raw(bytes(4) + over.message(payloads, group.signer))
    member.heard("rekeyed")
    opens(bench, member, old, b"still")
    wait_until(lambda: moved.send(tek, b"there", iv=IV) and member.opened(b"there"))
    member.say("me too")
    while moved.hear([tek])[3] != b"me too":
        pass
    for air in (other, moved):
        air.close()


@INTERPRETERS
def test_a_rekey_sa_alone(foreign, interpreter):
    """No Data-Security SA yet: no Sender-ID (section 4.5.3.3). With the first TEK a sender
    that holds none must register again (section 2.4.1.4)."""
    bench = foreign()
    server, group = bench.server, bench.group

    def no_tek(session, wants):
        granted = [
            group.gsa(teks=[], registering=True),
            group.kd(session.kwk, teks=[], auth_key=True),
        ]
        return [*session.proof(), *granted, *group.transport]

    server.on_auth = no_tek
    member = bench.talker(interpreter)
    bench.rekey([group.gsa(kek=False), group.kd(group.kek.kwk, kek=False)])
    assert server.wait("pull") == (b"press-7", 1)
    comes_to_open(bench, member, group.teks[0], b"one")
    assert sends(bench, member, group.teks, "two") == (group.teks[0], 2222)


@INTERPRETERS
@pytest.mark.parametrize("sn", (0, 2))
def test_a_receiver_with_random_ivs(foreign, interpreter, sn):
    """It is told no width (table of attributes in section 5): SN 0 has one window, SN 2 none."""
    bench = foreign()
    group = bench.group
    group.sn = sn
    (tek,) = group.teks = [Tek(group.address, sn=sn)]
    member = bench.listener(interpreter)
    assert bench.server.wait("auth") == (b"press-7", None) and not group.given
    for n in range(20):  # more senders than it has slots, if the IV named them
        packet = bench.air.send(tek, b"packet %d" % n)
        member.packet(b"packet %d" % n, sender=None)
    bench.air.raw(packet)
    bench.air.send(tek, b"last")
    member.packet(b"last")
    assert member.opened(b"packet 19") == (1 if sn == 0 else 2)


@INTERPRETERS
def test_a_lost_rekey_is_noticed(foreign, interpreter):
    """Section 4.4.2.2.3: somebody sends under an SPI that was promised."""
    bench = foreign()
    group = bench.group
    promised = b"\x7f" + os.urandom(3)
    group.next_spis = [b"\x7f\1\2\3", promised]
    member = bench.talker(interpreter)
    over = group.kek
    group.renew(spi=promised)
    group.next_spis = []
    comes_to_open(bench, member, group.teks[0], b"here")
    assert bench.server.count("pull") == 1 and over.next_id == 0


def test_lifetimes(foreign):
    """Asked again before the end; what nobody renews is wiped at its end."""
    bench = foreign()
    server, group = bench.server, bench.group
    group.lifetime_s = 5
    members = [bench.talker("cpython"), bench.talker("micropython", name="robot-2")]
    old = group.teks[0]
    began = time.monotonic()
    group.renew()
    server.wait("pull", 2)
    assert time.monotonic() - began < 5.2
    for member in members:
        comes_to_open(bench, member, group.teks[0], b"new")
    group.lifetime_s = 3600
    server.deaf = True
    time.sleep(5.3)
    for tek in (group.teks[0], old):
        bench.air.send(tek, b"too late", iv=IV)
    server.deaf = False
    group.renew()
    for member in members:
        comes_to_open(bench, member, group.teks[0], b"again")
        assert not member.opened(b"too late")
