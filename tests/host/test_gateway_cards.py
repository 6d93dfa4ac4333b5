"""The two cards of a gateway: two wires, or it doesn't work. And it is the plant's only one."""

import struct
from contextlib import ExitStack

import pytest

from covey_host.bench.twoplants import CARDS, GATES
from covey_host.errors import MISUSE, Problem
from covey_host.gateway import apart, netlink, wires
from covey_host.gateway.netlink import Card
from test_gateway_nets import plants  # noqa: F401

FAR = 7  # another namespace's id


def judged(plant, protected, **cards):
    """What is said of two cards; None: they are apart. cards: name=(kind, link, master, tag), the
    names of link and master in place of their numbers.
    """
    numbers = {name: n for n, name in enumerate(cards, 1)}

    def place(link):
        return (None, numbers[link]) if isinstance(link, str) else link

    found = {}
    for name, facts in cards.items():
        kind, link, master, tag = (*facts, *(None,) * 4)[:4]
        found[None, numbers[name]] = Card(name, kind, place(link), numbers.get(master), tag)
    try:
        apart.check(plant, protected, found)
    except Problem as refused:
        assert refused.status == MISUSE
        return refused.sentence
    return None


def vlan(lower, tag):
    return "vlan", lower, None, tag


@pytest.mark.parametrize(
    "cards",
    [
        {"p": (), "q": ()},
        {"a": (), "p": vlan("a", 1), "q": vlan("a", 2)},
        {"a": (), "b": vlan("a", 1), "c": vlan("a", 2), "p": vlan("b", 5), "q": vlan("c", 5)},
        {"a": (), "b": vlan("a", 1), "p": vlan("b", 5), "q": vlan("b", 6)},
        {"p": ("bridge",), "x": vlan("a", 3), "a": (), "b": (None, None, "p"), "q": vlan("a", 4)},
        {"p": ("bond",), "a": (None, None, "p"), "b": (None, None, "p"), "q": ("wireguard",)},
        {"p": ("veth", (FAR, 3)), "q": ("veth", (FAR, 4))},
        {"a": (), "p": ("dsa", "a"), "q": ("dsa", "a")},
        {"a": (), "p": (None, "a"), "q": (None, "a")},  # the same, to kernels before 6.1
    ],
)
def test_two_wires(cards):
    assert judged("p", "q", **cards) is None


@pytest.mark.parametrize(
    ("shared", "cards"),
    [
        ("q", {"q": (), "p": vlan("q", 1)}),
        ("p", {"p": (), "q": vlan("p", 1)}),
        ("p", {"p": (), "q": ("macvlan", "p")}),
        ("a", {"a": (), "p": vlan("a", 1), "q": vlan("a", 1)}),
        ("a", {"a": (), "p": vlan("a", 1), "q": ("macvlan", "a")}),
        ("b", {"a": (), "b": vlan("a", 1), "p": vlan("b", 5), "q": ("ipvlan", "b")}),
        ("q", {"p": ("bridge",), "x": ("vlan", "q", "p", 3), "q": ()}),
        ("p", {"p": ("veth", "q"), "q": ("veth", "p")}),
        (
            "p",
            {"p": ("veth", "v"), "v": ("veth", "p", "b"), "b": ("bridge",)}
            | {"m": (None, None, "b"), "q": vlan("m", 3)},
        ),
        ("one card", {"p": ("veth", (FAR, 3)), "q": ("veth", (FAR, 3))}),
    ],
)
def test_one_wire(shared, cards):
    said = judged("p", "q", **cards)
    assert said is not None and f"{shared}: what comes out of a group" in said


@pytest.mark.parametrize(
    "kind",
    ["macvlan", "ipvlan", "vxlan", "gretap", "gre", "ipip", "sit", "geneve", "tun", "wireguard"],
)
def test_a_plant_that_comes_out_nobody_knows_where(kind):
    said = f"which is of the kind {kind}: so nobody knows"
    assert said in judged("p", "q", p=(kind,), q=())
    assert said in judged("p", "q", p=("bridge",), x=(kind, None, "p"), q=())
    assert said in judged("p", "q", p=vlan("x", 1), x=(kind,), q=())


def attribute(kind, *parts):
    return netlink.attribute(kind, b"".join(parts))


def test_a_vlan_as_the_kernel_tells_of_it():
    """linux/if_link.h: name, link, kind, and the VLAN's id in its own data."""
    data = attribute(2, attribute(5, bytes(2)), attribute(1, struct.pack("@H", 6)))
    told = attribute(3, b"eth0.6\0"), attribute(5, struct.pack("@I", 2))
    octets = b"".join(told) + attribute(18, attribute(1, b"vlan\0"), data)
    assert netlink._card_told(netlink.attributes(octets)) == Card("eth0.6", *vlan((None, 2), 6))
    octets += attribute(37, struct.pack("@i", FAR)) + attribute(10, struct.pack("@I", 9))
    far = Card("eth0.6", "vlan", (FAR, 2), 9, 6)
    assert netlink._card_told(netlink.attributes(octets)) == far


def test_cards_of_a_machine(plants):  # noqa: F811
    """As this kernel tells of them."""
    plant, protected = CARDS

    def made(name, *kind, link=()):
        plants.ip("ga", "link", "add", *link, "name", name, "type", *kind)
        plants.ip("ga", "addr", "add", "10.55.0.1/24", "dev", name)

    made("mac9", "macvlan", link=("link", protected))
    made("tunnel", "vxlan", "id", "5", "remote", GATES["b"][0], "dstport", "4789")
    made("br9", "bridge")
    made("tunnel2", "vxlan", "id", "6", "remote", GATES["b"][0], "dstport", "4789")
    plants.ip("ga", "link", "set", "tunnel2", "master", "br9")
    with plants.inside("ga"), ExitStack() as stack:
        before = wires.check(plant, protected)
        assert [address for _, address in before] == list(GATES["a"][::-1])
        cards = {card.name: card for card in netlink.cards().values()}
        assert cards[plant].kind == "veth" and cards[plant].link[0] is not None
        assert cards["mac9"].link == (None, before[1][0])
        for pair, said in (
            (("mac9", plant), "mac9, which is of the kind macvlan"),
            (("tunnel", protected), "tunnel, which is of the kind vxlan"),
            (("br9", protected), "tunnel2, which is of the kind vxlan"),
            ((protected, "mac9"), f"{protected} and mac9 send by one card, {protected}:"),
        ):
            with pytest.raises(Problem, match=said):
                wires.check(*pair)

        # Another address is another answer.
        plants.ip("ga", "addr", "add", "10.77.0.55/24", "dev", protected)
        assert wires.check(plant, protected) == before
        plants.ip("ga", "addr", "del", f"{GATES['a'][0]}/24", "dev", protected)
        plants.ip("ga", "addr", "replace", "10.77.0.55/24", "dev", protected)
        (same, (number, address)) = wires.check(plant, protected)
        assert (same, number, address) == (before[0], before[1][0], "10.77.0.55")

        # One gateway for each plant's card, in each namespace.
        held = stack.enter_context(wires.claim(plant))
        stack.enter_context(wires.claim(protected))
        with pytest.raises(Problem, match=f"Another gateway works on {plant}"):
            wires.claim(plant)
        held.close()
        stack.enter_context(wires.claim(plant))
        with plants.inside("gb"):
            stack.enter_context(wires.claim(plant))
