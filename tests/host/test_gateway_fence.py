"""What stands between a gateway's cards while no gateway works: a machine that is made a bridge or
a multicast router, and UDP that its kernel would route into the plant. In network namespaces.
"""

import os
import re
import socket
import struct
import time
from ipaddress import IPv4Network

import pytest
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from covey_host.bench.twoplants import CARDS, DEVICES, GROUP, PORT, wait_until
from covey_host.errors import FAILURE, Problem
from covey_host.gateway import nftables
from covey_host.gateway.fence import Fence
from covey_host.gateway.plan import Pair, Plan
from test_gateway_nets import plants  # noqa: F401

SCANNER = "10.77.0.9"  # on the protected side, whose O→T is let in
MARK = b"SPEED-IS-1500-RPM"
GROUP_MAC, ALL_MAC = "01:00:5e:40:01:20", "ff:ff:ff:ff:ff:ff"
SENDER_MAC = "02:00:00:00:00:0a"  # on either side


class Fenced:
    """Gateway A's machine. near: what reaches the plant's device; far: the protected network."""

    def __init__(self, plants):  # noqa: F811
        self.plants = plants
        pair = Pair(IPv4Network(SCANNER), IPv4Network("10.77.1.8/30"))
        with plants.inside("ga"):
            self.fence = Fence(Plan(*CARDS, (), (pair,)))
            self.fence.put()
        self.near, self.far = plants.capture("pa", "eth0"), plants.capture("net", "toa")
        for each in (self.near, self.far):
            each._sock.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
        self._device = self._raw("pa", "eth0")
        self._outside = self._raw("net", "toa")

    def _raw(self, space, card):
        sock = self.plants.socket(space, socket.AF_PACKET, socket.SOCK_RAW)
        with self.plants.inside(space):
            sock.bind((card, 0))
        return sock

    def mac(self, card):
        told = self.plants.run("ga", "ip", "-o", "link", "show", card)
        return re.search("link/ether ([0-9a-f:]+)", told)[1]

    def leave(self, *frames):
        """From the plant; then something that has a way, to know that all of them had theirs."""
        for each in frames:
            self._device.send(bytes(each))
        return self._come(self.far, self._device, "10.77.1.10", "10.77.0.1", frames)

    def enter(self, *frames):
        for each in frames:
            self._outside.send(bytes(each))
        return self._come(self.near, self._outside, "10.77.0.1", "10.77.1.10", frames)

    def _come(self, capture, sock, source, to, frames):
        """Which of the frames came, by their numbers."""
        tag = os.urandom(8)
        there = self.far_mac if capture is self.far else self.near_mac
        last = bytes(framed(there) / IP(src=source, dst=to, ttl=9) / ICMP() / tag)

        def came():
            sock.send(last)  # again: a card that has just come up may lose some
            return any(tag in f for f in capture.read())

        wait_until(came)
        got, capture.frames = capture.frames, []
        return {int(f[f.index(MARK) + len(MARK)]) for f in got if MARK in f}

    def route(self):
        """A way for what is routed: to the gateway's own address on that side."""
        self.far_mac, self.near_mac = self.mac(CARDS[0]), self.mac(CARDS[1])

    def bridge(self):
        self.far_mac = self.near_mac = "02:00:00:00:00:01"  # floods
        self.plants.ip("ga", "link", "add", "br9", "type", "bridge", "mcast_snooping", "0")
        self.plants.ip("ga", "link", "set", "br9", "up")
        for card in CARDS:
            self.plants.ip("ga", "link", "set", card, "master", "br9")
        tag, end = os.urandom(8), time.monotonic() + 10
        last = framed(self.far_mac) / IP(src="10.77.1.10", dst="10.77.0.1") / ICMP() / tag
        while not any(tag in f for f in self.far.read()):
            assert time.monotonic() < end, "the bridge carries nothing"
            self._device.send(bytes(last))
            time.sleep(0.05)


@pytest.fixture
def fenced(plants):  # noqa: F811
    try:
        made = Fenced(plants)
    except Problem as problem:
        pytest.skip(problem.sentence)
    yield made
    made.fence.close()


def framed(to):
    """scapy's own choice is a card that this machine routes by; of lo it is all zero, which no
    bridge carries.
    """
    return Ether(src=SENDER_MAC, dst=to)


def datagram(number, source, to, port=PORT):
    return IP(src=source, dst=to, ttl=9) / UDP(sport=PORT, dport=port) / (MARK + bytes([number]))


def test_a_bridge_carries_nothing_to_many_and_no_udp_into_the_plant(fenced):
    fenced.bridge()
    out = datagram(0, DEVICES["a"], GROUP)
    long = IP(src=DEVICES["a"], dst=GROUP) / UDP(sport=PORT, dport=PORT) / (bytes(24) + MARK)
    parts = fragment(long / b"\x01", 32)
    leaving = [
        framed(GROUP_MAC) / out,
        *(framed(GROUP_MAC) / each for each in parts),
        framed("02:00:00:00:00:02") / datagram(2, DEVICES["a"], GROUP),  # mcast_to_unicast
        framed(ALL_MAC) / datagram(3, DEVICES["a"], "255.255.255.255"),
        framed(GROUP_MAC) / Dot1Q(vlan=5) / datagram(4, DEVICES["a"], GROUP),
        framed(GROUP_MAC) / Dot1AD(vlan=5) / Dot1Q(vlan=6) / datagram(5, DEVICES["a"], GROUP),
        framed(GROUP_MAC)
        / Dot1Q(vlan=5)
        / Dot1Q(vlan=6)
        / Dot1Q(vlan=7)
        / datagram(6, DEVICES["a"], GROUP),
    ]
    entering = [
        *leaving,
        framed("02:00:00:00:00:01") / datagram(7, DEVICES["b"], DEVICES["a"]),
        framed("02:00:00:00:00:01") / Dot1Q(vlan=5) / datagram(8, DEVICES["b"], DEVICES["a"]),
    ]
    assert fenced.leave(*leaving) == set()
    assert fenced.enter(*entering) == set()
    assert fenced.leave(framed(fenced.far_mac) / datagram(9, DEVICES["a"], SCANNER)) == {9}
    fenced.fence.take_away()
    assert fenced.leave(*leaving) == {0, 1, 2, 3, 4, 5, 6}  # or it would have shown nothing
    assert fenced.enter(*entering) == {0, 1, 2, 3, 4, 5, 6, 7, 8}


def multicast_router(fenced):
    """The socket of one that works both ways; skipped where the kernel can't."""
    router = fenced.plants.socket("ga", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    try:
        router.setsockopt(socket.IPPROTO_IP, 200, 1)  # MRT_INIT
        with fenced.plants.inside("ga"):
            cards = [socket.if_nametoindex(card) for card in CARDS]
        for number, card in enumerate(cards):  # MRT_ADD_VIF, by index
            vif = struct.pack("@HBBIi4x", number, 8, 1, 0, card)
            router.setsockopt(socket.IPPROTO_IP, 202, vif)
        for source, come in ((DEVICES["a"], 0), (SCANNER, 1)):  # MRT_ADD_MFC
            ends = socket.inet_aton(source) + socket.inet_aton(GROUP)
            ttls = bytes([0, 1] if come == 0 else [1, 0]) + bytes(30)
            entry = struct.pack("@8sH32s2xIIIi", ends, come, ttls, 0, 0, 0, 0)
            router.setsockopt(socket.IPPROTO_IP, 204, entry)
    except OSError as error:
        pytest.skip(f"no multicast routing in this kernel: {os.strerror(error.errno)}")
    return router


def test_a_multicast_router_carries_nothing(fenced):
    fenced.route()
    multicast_router(fenced)
    leaving = framed(GROUP_MAC) / datagram(1, DEVICES["a"], GROUP)
    entering = framed(GROUP_MAC) / datagram(2, SCANNER, GROUP)
    assert fenced.leave(leaving) == fenced.enter(entering) == set()
    fenced.fence.take_away()
    assert (fenced.leave(leaving), fenced.enter(entering)) == ({1}, {2})


def test_udp_enters_by_the_named_pairs_alone(fenced):
    """Whatever rules the kernel's routing has."""
    fenced.route()
    plants = fenced.plants  # noqa: F811
    for card in ("all", CARDS[1]):
        plants.run("ga", "sysctl", "-qw", f"net.ipv4.conf.{card}.bc_forwarding=1")
        plants.run("ga", "sysctl", "-qw", f"net.ipv4.conf.{card}.rp_filter=0")
    rule = ("rule", "add", "pref", "100", "iif", CARDS[1], "from", DEVICES["b"])
    plants.ip("ga", *rule, "to", DEVICES["a"], "lookup", "main")
    to = framed(fenced.near_mac)
    long = UDP(sport=PORT, dport=PORT) / (bytes(24) + MARK + b"\3")
    part = fragment(IP(src=DEVICES["b"], dst=DEVICES["a"]) / long, 32)
    entering = [
        to / datagram(0, DEVICES["b"], DEVICES["a"]),
        to / datagram(1, DEVICES["b"], "10.77.1.255"),
        to / datagram(2, SCANNER, "10.77.1.255"),
        *(to / each for each in part),
        to / datagram(4, SCANNER, DEVICES["a"]),
        to / datagram(5, SCANNER, "10.77.1.10", port=9),
    ]
    assert fenced.enter(*entering) == {4, 5}
    fenced.fence.take_away()
    assert fenced.enter(*entering) == {0, 1, 2, 3, 4, 5}


def test_what_this_machine_sends_passes(fenced):
    """And IGMP of its kernel, by which it joins."""
    for card, capture in zip(CARDS, (fenced.near, fenced.far), strict=True):
        sock = fenced.plants.socket("ga", socket.AF_INET, socket.SOCK_DGRAM)
        with fenced.plants.inside("ga"):
            place = struct.pack("@4s4si", bytes(4), bytes(4), socket.if_nametoindex(card))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, place)
        joined = socket.inet_aton("239.192.7.7") + place[4:]
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        sock.sendto(MARK, (GROUP, PORT))
        wait_until(lambda: any(MARK in f for f in capture.read()))  # noqa: B023
        wait_until(lambda: any(f[23:24] == b"\x02" for f in capture.read()))  # noqa: B023


def test_what_others_take_away_is_put_back(fenced):
    fenced.route()
    forged = framed(fenced.near_mac) / datagram(1, DEVICES["b"], DEVICES["a"])
    with fenced.plants.inside("ga"):
        fenced.fence.listen()
        other = Fence(Plan(*CARDS))
        another = Fence(Plan("eth7", CARDS[1]))
        fenced.fence.put()
        assert not fenced.fence.mend()  # that was ourselves
        with pytest.raises(Problem):  # no card eth7 is here
            another.put()
        another.take_away()
        assert not fenced.fence.mend()  # another's
        other.take_away()
    assert fenced.enter(forged) == {1}
    with fenced.plants.inside("ga"):
        assert fenced.fence.mend()
    assert fenced.enter(forged) == set()
    pair = framed(fenced.near_mac) / datagram(4, SCANNER, DEVICES["a"])
    with fenced.plants.inside("ga"):
        other.put()  # no pairs
    assert fenced.enter(pair) == set()
    with fenced.plants.inside("ga"):
        assert fenced.fence.mend()
    assert fenced.enter(pair) == {4}
    for each in (other, another):
        each.close()


def test_the_longest_plan_is_one_change(fenced):
    pairs = tuple(Pair(IPv4Network(n), IPv4Network("10.77.1.0/24")) for n in range(256))
    with fenced.plants.inside("ga"):
        fence = Fence(Plan(*CARDS, (), pairs))
        fence.listen()
        fence.check()
        assert not fence.mend()
        fence.put()
        assert not fence.mend()  # all that is told of it is heard
    fence.close()


def test_a_card_upon_another_has_its_fence_there_too(fenced):
    """What goes by that one past it is none of the gateway's; but it doesn't route its UDP."""
    fenced.route()
    upon = ("link", "add", "mac9", "link", CARDS[1], "type", "macvlan")
    fenced.plants.ip("ga", *upon)
    with fenced.plants.inside("ga"):
        fence = Fence(Plan(CARDS[0], "mac9"))
        fenced.fence.take_away()
        fence.put()
    multicast_router(fenced)
    leaving = framed(GROUP_MAC) / datagram(1, DEVICES["a"], GROUP)
    assert fenced.leave(leaving) == set()
    fence.take_away()
    assert fenced.leave(leaving) == {1}
    fence.close()


def test_where_there_can_be_no_fence(monkeypatch):
    for number, said in ((1, "CAP_NET_ADMIN"), (93, "nf_tables"), (12, "Cannot allocate")):

        def none(number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(nftables, "Door", none)
        with pytest.raises(Problem, match=said) as refused:
            Fence(Plan("lo", "lo")).check()
        assert refused.value.status == FAILURE
