"""The gateway without sockets: what its file may say, what it learns, what becomes of a frame."""

import struct
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

import enip
from covey import cip
from covey_host.errors import MISUSE, Problem
from covey_host.gateway import encap, learned, plan, streams
from covey_host.gateway.bridge import Bridge
from covey_host.gateway.plain import Emitter

TARGET, SCANNER = "192.168.1.20", "192.168.2.9"
GROUP = "239.192.1.32"
ID, OTHER = 0x12345678, 0x9ABCDEF0
FLOW = {
    "direction": '"protect"',
    "member": '"members/gate"',
    "address": f'"{GROUP}"',
    "port": "2222",
    "producer": f'"{TARGET}"',
}


def written(tmp_path, *flows, head='plant = "veth0"\nprotected = "veth1"\n'):
    """A gateway.toml of flows: each FLOW, with what is given in place; None takes a key away."""
    text = head
    for n, changes in enumerate(flows):
        facts = {k: v for k, v in {**FLOW, **changes}.items() if v is not None}
        text += f"[flow.f{n}]\n" + "".join(f"{k} = {v}\n" for k, v in facts.items())
    (tmp_path / "gateway.toml").write_text(text)
    return tmp_path / "gateway.toml"


def planned(tmp_path, *flows, **options):
    return plan.load(written(tmp_path, *flows, **options))


OPENS = {"direction": '"open"', "producer": '"192.168.2.30"'}
BACK = {**OPENS, "address": '"239.192.1.64"'}


# The file


def test_what_a_file_says(tmp_path):
    one, two = planned(
        tmp_path,
        {"connections": f"[{ID}, {OTHER}]", "dscp": "55"},
        {**BACK, "source": '"gate-2"', "ttl": "4", "member": '"x/other.json"'},
    ).flows
    assert one.connections == {struct.pack("<I", ID), struct.pack("<I", OTHER)}
    assert (one.dscp, one.member) == (55, tmp_path / "members/gate/covey.json")
    assert (two.source, two.ttl, two.connections) == (b"gate-2", 4, plan.ANY)
    assert two.member == tmp_path / "x/other.json"
    assert planned(tmp_path, {}).flows[0].connections == plan.LEARN
    assert [planned(tmp_path, f).flows[0].in_clear for f in ({}, {"in_clear": "true"})] == [0, 1]


WRONG = {
    "direction": ('"both"', "must be"),
    "member": ("7", "must be a text"),
    "address": ('"192.168.1.1"', "must be a multicast address"),
    "port": ("0", "must be a whole number"),
    "producer": ('"239.192.1.32"', "must be the address of one device"),
    "connections": ("[0]", "must be a whole number"),
    "dscp": ("64", "must be a whole number"),
    "in_clear": ("1", "must be true or false"),
    "ttl": ("1", "is no key here"),
    "source": ('"gate"', "is no key here"),
    "spare": ("1", "is no key here"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_is_refused_with_its_line(tmp_path, key):
    value, said = WRONG[key]
    path = written(tmp_path, {key: value})
    line = path.read_text().splitlines().index(f"{key} = {value}") + 1
    with pytest.raises(Problem) as refused:
        plan.load(path)
    assert refused.value.sentence.startswith(f"{path}:{line}: flow.f0.{key} {said}")
    assert refused.value.sentence.endswith(".") and refused.value.status == MISUSE


@pytest.mark.parametrize("key", FLOW)
def test_what_is_missing_is_named(tmp_path, key):
    with pytest.raises(Problem, match=rf"flow\.f0\.{key} is missing\."):
        planned(tmp_path, {key: None})


@pytest.mark.parametrize(
    "address", ("224.0.0.22", "0.0.0.0", "fe80::1", "239.192.1", "239.192.1.32/27")
)
def test_what_is_no_address_for_class_1(tmp_path, address):
    with pytest.raises(Problem, match="flow.f0.address must be"):
        planned(tmp_path, {"address": f'"{address}"'})


OVERLAPS = {
    "learned twice": ({}, {"member": '"b"'}),
    "learned and listed": ({}, {"member": '"b"', "connections": f"[{ID}]"}),
    "one connection in two groups": (
        {"connections": f"[{ID}, {OTHER}]"},
        {"member": '"b"', "connections": f"[{ID}]"},
    ),
    "there and back": ({}, {"direction": '"open"'}),
    "one address, two producers, two groups": (
        {},
        {"producer": '"192.168.1.21"', "member": '"b"'},
    ),
    "one address, two producers": (
        {"connections": f"[{ID}]"},
        {"producer": '"192.168.1.21"', "connections": f"[{OTHER}]"},
    ),
    "one address there and back": ({}, OPENS),
    "out of one group": (OPENS, {**OPENS, "address": '"239.192.1.33"'}),
    "two marks in one group": ({}, {"address": '"239.192.1.33"', "dscp": "55"}),
    "in clear or not in one group": ({}, {"address": '"239.192.1.33"', "in_clear": "true"}),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_a_frame_with_two_ways_is_refused(tmp_path, name):
    with pytest.raises(Problem, match="gateway.toml:[0-9]+: flow.f1 and flow f0"):
        planned(tmp_path, *OVERLAPS[name])


APART = {
    "other IDs": ({"connections": f"[{ID}]"}, {"member": '"b"', "connections": f"[{OTHER}]"}),
    "other address": ({}, {"address": '"239.192.1.33"'}),
    "other port": ({}, {"port": "2223"}),
    "other producer, other port": ({}, {"producer": '"192.168.1.21"', "port": "2223"}),
    "there and others back": ({}, BACK),
}


@pytest.mark.parametrize("name", APART)
def test_flows_that_share_nothing_are_taken(tmp_path, name):
    assert len(planned(tmp_path, *APART[name]).flows) == 2


@pytest.mark.parametrize(
    "text",
    (
        "",
        'plant = "a"\nprotected = "a"\n[flow.x]\n',
        'plant = "a"\nprotected = "b"\n',
        'plant = "a"\nprotected = "b"\nflow = 1\n',
        'plant = "a"\nprotected = "b"\n[flow]\nx = 1\n',
        'plant = "a/b"\nprotected = "b"\n',
        'plant = "a"\nprotected = "b"\n[flow."x y"]\n',
        "plant = [",
    ),
)
def test_a_file_that_says_nothing_sound(tmp_path, text):
    (tmp_path / "gateway.toml").write_text(text)
    with pytest.raises(Problem) as refused:
        plan.load(tmp_path / "gateway.toml")
    assert refused.value.status == MISUSE and refused.value.sentence.count("\n") == 0


UNICAST = '\n[unicast.plc]\nfrom = "192.168.2.9"\nto = "192.168.1.20"\n'


def with_unicast(tmp_path, text):
    path = written(tmp_path, {}, BACK)
    path.write_text(path.read_text() + text)
    return path


def test_pairs_that_may_send_udp_into_the_plant(tmp_path):
    more = UNICAST.replace("plc", "hmi").replace('2.9"', '8.0/24"').replace('1.20"', '1.0/24"')
    found = plan.load(with_unicast(tmp_path, UNICAST + more)).pairs
    assert [(str(p.source), str(p.to)) for p in found] == [
        ("192.168.2.9/32", "192.168.1.20/32"),
        ("192.168.8.0/24", "192.168.1.0/24"),
    ]


@pytest.mark.parametrize(
    "old, new, said",
    (
        ("192.168.2.9", "192.168.2.30", "plc.from has 192.168.2.30, who produces flow f1"),
        ("192.168.2.9", TARGET, f"plc.from has {TARGET}, who produces flow f0"),
        ("192.168.2.9", "192.168.2.0/24", "plc.from has 192.168.2.30, who"),
        ("192.168.2.9", "0.0.0.0/0", "plc.from must not have multicast"),
        ("192.168.1.20", "239.192.1.32", "plc.to must not have multicast"),
        ("192.168.1.20", "fe80::1", "plc.to must be an IPv4 address, or"),
        ("192.168.2.9", "192.168.2.9/24", "plc.from must be an IPv4 address, or"),
        ("to =", "port =", "plc.port is no key here"),
        ('to = "192.168.1.20"', "", "plc.to is missing"),
        ("[unicast.plc]", "[unicast]", "unicast.from must be a table"),
        ("[unicast.plc]", '[unicast."a b"]', "unicast.a b has letters"),
        (UNICAST, "[[unicast]]", "unicast must be tables"),
    ),
)
def test_pairs_that_are_refused(tmp_path, old, new, said):
    with pytest.raises(Problem, match="gateway.toml:[0-9]+: unicast") as refused:
        plan.load(with_unicast(tmp_path, UNICAST.replace(old, new, 1)))
    assert said in refused.value.sentence and refused.value.status == MISUSE


def test_what_is_too_much(tmp_path):
    many = "".join(UNICAST.replace("plc", f"p{n}") for n in range(257))
    with pytest.raises(Problem, match="more than 256"):
        plan.load(with_unicast(tmp_path, many))


def test_learning_what_nobody_has_proven_is_refused(tmp_path):
    with pytest.raises(Problem, match="not proven"):
        planned(tmp_path, {**OPENS, "connections": '"learn"'})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Problem, match="can't be read"):
        plan.load(tmp_path / "gateway.toml")
    (tmp_path / "gateway.toml").write_bytes(b"\xff")
    with pytest.raises(Problem, match="no text"):
        plan.load(tmp_path / "gateway.toml")


# Explicit messages


def test_a_reply_tells_its_connection():
    told = encap.parse(enip.open_reply(ID, GROUP, interval_us=2500))
    assert told.connection == struct.pack("<I", ID) and told.owner == enip.OWNER
    assert (str(told.address), told.port, told.interval_us) == (GROUP, 2222, 2500)
    assert encap.parse(enip.close_reply()) == encap.Closed(enip.OWNER)


def test_what_else_is_said_tells_nothing():
    for message in (
        enip.open_request(),
        enip.close_request(),
        enip.refusal(),
        enip.message([], command=0x65),
        enip.message([enip.item(0, b""), enip.item(0xB2, b"\x8e\0\0\0data")]),
        enip.open_reply(ID, TARGET),  # to the originator alone
        enip.message([enip.item(0xA1, bytes(4)), enip.item(0xB1, b"\xd4\0\0\0")], command=0x6F),
    ):
        assert encap.parse(message) is None


def test_items_of_other_vendors_are_passed_over():
    told = encap.parse(enip.open_reply(ID, GROUP, more=[enip.item(0x8000, bytes(16))]))
    assert told.connection == struct.pack("<I", ID)


def test_a_reply_that_is_not_laid_out_so():
    good = enip.open_reply(ID, GROUP)
    for n in range(encap.HEADER, len(good)):
        with pytest.raises(encap.Malformed):  # the length in its header is not what tells
            encap.parse(good[:n])
    two = enip.item(0x8001, enip.sockaddr(GROUP))
    six = enip.item(0x8001, b"\0\x0a" + enip.sockaddr(GROUP)[2:])
    short = enip.item(0x8001, enip.sockaddr(GROUP)[:15])
    null = enip.item(0, b"")
    unconnected = enip.item(0xB2, b"\xd4\0\0\0" + bytes(26))
    for items in ([two, two], [six], [short]):
        with pytest.raises(encap.Malformed, match="sockaddr_item"):
            encap.parse(enip.message([null, unconnected, *items]))
    many = enip.open_reply(ID, GROUP, more=[enip.item(1, b"")] * 6)
    with pytest.raises(encap.Malformed, match="item_count"):
        encap.parse(many)
    off = good.index(b"\xd4\0\0\0")
    longer = good[: off + 28] + b"\x01" + good[off + 29 :]  # a word of data that isn't there
    with pytest.raises(encap.Malformed, match="reply_length"):
        encap.parse(longer)


# Streams


def stream():
    drops = Counter()
    found = streams.Streams(drops)

    def put(number, text, flags=0x18, to=50000):
        packet = enip.segment(TARGET, SCANNER, number, text, flags, to=to)
        return [message for _, message in found.packet(packet)]

    return put, drops


A, B = enip.open_reply(ID, GROUP), enip.close_reply()


def test_messages_of_segments_of_any_size():
    for size in (1, 7, 24, 25, 1000):
        put, drops = stream()
        number, came = 0xFFFFFFF0, []  # wraps
        put(number - 1, b"", flags=2)
        text = A + B + A
        for off in range(0, len(text), size):
            came += put(number + off & 0xFFFFFFFF, text[off : off + size])
        assert came == [A, B, A] and not drops


def test_what_is_sent_again_is_heard_once():
    put, drops = stream()
    assert put(100, A) == [A]
    assert put(100, A) == []
    assert put(100, A + B) == [B]
    assert not drops


def test_a_gap_loses_its_message_and_no_other():
    put, drops = stream()
    assert put(0, A[:30]) == []
    assert put(60, A[60:]) == []  # 30 octets were lost
    assert put(60 + len(A[60:]), B) == [B]
    assert drops == {"watch_gap": 1}


def test_what_begins_like_no_message():
    put, drops = stream()
    put(0xFFFFFFFF, b"", flags=2)
    assert put(0, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == []
    assert put(27, b"Accept: */*\r\n" * 3) == []
    assert drops == {"watch_header": 1}
    assert put(27 + 39, A) == [A]  # a segment that begins with a message


def test_a_stream_whose_beginning_was_missed():
    put, drops = stream()
    assert put(500, bytes(24) + A) == []  # no reply begins so, though a NOP would
    assert put(524 + len(A), A) == [A] and not drops


def test_long_messages_are_skipped_and_not_held():
    put, drops = stream()
    long = enip.message([enip.item(0xB2, bytes(60000))])
    came = []
    for off in range(0, len(long + A), 1400):
        came += put(off, (long + A)[off : off + 1400])
    assert came == [A] and not drops


def test_streams_are_bounded():
    put, drops = stream()
    for to in range(streams.MOST_STREAMS + 5):
        put(0, A[:30], to=40000 + to)
    assert drops == {"watch_streams": 5}
    assert put(30, A[30:], to=40000 + streams.MOST_STREAMS) == [A]


def test_a_connection_anew():
    put, drops = stream()
    put(0, A[:30])
    put(5000, b"", flags=0x12)
    assert put(5001, A) == [A]
    put(5001 + len(A), b"", flags=4)
    assert put(77, B) == [B] and not drops


def test_packets_that_are_none():
    put, drops = stream()
    found = streams.Streams(drops)
    good = enip.segment(TARGET, SCANNER, 0, A)
    for packet in (b"", good[:19], b"\x60" + good[1:], good[:9] + b"\x11" + good[10:]):
        assert found.packet(packet) == []
    assert not drops
    for packet in (good[:45], b"\x44" + good[1:], good[:32] + b"\x10" + good[33:]):
        assert found.packet(packet) == []
    assert drops == {"watch_header": 3}
    assert found.packet(good[:6] + b"\x20\x00" + good[8:]) == []
    assert drops["watch_fragment"] == 1


@given(st.binary(max_size=300), st.booleans())
def test_octets_at_random_tell_nothing(octets, is_body):
    message = enip.message([enip.item(0, b""), enip.item(0xB2, octets)]) if is_body else octets
    drops = Counter()
    for text in (message, enip.segment(TARGET, SCANNER, 0, message)):
        for _, found in streams.Streams(drops).packet(text):
            with suppress(encap.Malformed):
                told = encap.parse(found)
                assert told is None or octets[0] in (0xCE, 0xD4, 0xDB)


@given(st.data())
def test_a_reply_with_octets_changed(data):
    """It is about another connection, about none, or malformed; nothing else is raised."""
    message = bytearray(enip.open_reply(ID, GROUP))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    del message[data.draw(st.integers(len(message) // 2, len(message))) :]
    with suppress(encap.Malformed):
        encap.parse(bytes(message))


@given(st.lists(st.tuples(st.integers(-40, 40), st.integers(0, 120)), max_size=30))
def test_segments_in_any_order_bring_whole_messages(steps):
    """Lost, repeated, overlapping: what comes out was sent, and what is held is bounded."""
    text, drops = (A + B) * 20, Counter()
    found = streams.Streams(drops)
    at = 0
    for back, n in steps:
        at = max(0, at + back)
        for _, message in found.packet(enip.segment(TARGET, SCANNER, at, text[at : at + n])):
            assert message in (A, B)
        at += n


# What is open


def test_a_connection_of_several_originators():
    table = learned.Learned()
    told = [encap.parse(enip.open_reply(ID, GROUP, owner=bytes([n]) * 8)) for n in range(2)]
    for each in told:
        assert table.opened(each, 0)
    assert table.closed(told[0].owner) is None and told[0].connection in table
    assert table.closed(told[0].owner) is None
    assert table.closed(told[1].owner) == told[0].connection and len(table) == 0


def test_an_owner_has_one_connection():
    table = learned.Learned()
    old, new = (encap.parse(enip.open_reply(n, GROUP)) for n in (ID, OTHER))
    table.opened(old, 0)
    table.opened(new, 0)
    assert old.connection not in table and new.connection in table


def test_silence_ends_a_connection_after_the_longest_timeout():
    table = learned.Learned()
    told = encap.parse(enip.open_reply(ID, GROUP, interval_us=100_000))
    table.opened(told, 0)
    assert table.expire(51) == []
    table.heard(told.connection, 51)
    assert table.expire(102) == []
    assert table.expire(102.3) == [told.connection] and len(table) == 0


def test_what_is_learned_is_bounded():
    table = learned.Learned()
    for n in range(learned.MOST_CONNECTIONS):
        assert table.opened(encap.parse(enip.open_reply(n, GROUP, owner=struct.pack("<Q", n))), 0)
    assert not table.opened(encap.parse(enip.open_reply(ID, GROUP)), 0)
    for n in range(100, 100 + learned.MOST_OWNERS - 1):
        assert table.opened(encap.parse(enip.open_reply(0, GROUP, owner=struct.pack("<Q", n))), 0)
    assert not table.opened(encap.parse(enip.open_reply(0, GROUP)), 0)


# Frames


PLACE = bytes([239, 192, 1, 32]), 2222


def leaving(bridge, octets, producer=TARGET, now_s=0):
    flow = bridge.protect(PLACE, producer, bytearray(octets), len(octets), now_s)
    return flow and flow.name


def test_nothing_leaves_but_what_is_open(tmp_path):
    bridge = Bridge(planned(tmp_path, {}))
    frame = enip.frame(ID, 1, b"speed")
    assert leaving(bridge, frame) is None
    bridge.watch(enip.segment(TARGET, SCANNER, 0, A), 0)
    assert bridge.news == [("opened", "f0", struct.pack("<I", ID))]
    assert leaving(bridge, frame) == "f0"
    assert leaving(bridge, frame, producer="192.168.1.21") is None
    assert leaving(bridge, enip.frame(OTHER, 1, b"speed")) is None
    bridge.watch(enip.segment(TARGET, SCANNER, len(A), B), 0)
    assert leaving(bridge, frame) is None
    assert bridge.drops == {"connection": 3, "producer": 1}


def test_a_target_speaks_for_itself_alone(tmp_path):
    bridge = Bridge(planned(tmp_path, {}))
    bridge.watch(enip.segment("192.168.1.21", SCANNER, 0, A), 0)  # another's address
    bridge.watch(enip.segment(TARGET, SCANNER, 0, enip.open_reply(ID, "239.192.1.33")), 0)
    bridge.watch(enip.segment(TARGET, SCANNER, 9999, enip.open_reply(ID, GROUP, 2223)), 0)
    assert leaving(bridge, enip.frame(ID, 1, b"")) is None
    bridge.watch(enip.segment(TARGET, "192.168.2.1", 0, A), 0)
    assert leaving(bridge, enip.frame(ID, 1, b"")) == "f0"
    bridge.watch(enip.segment("192.168.1.21", SCANNER, len(A), B), 0)  # another target's close
    assert leaving(bridge, enip.frame(ID, 1, b"")) == "f0"


def test_a_connection_that_moves_to_another_address(tmp_path):
    bridge = Bridge(planned(tmp_path, {}, {"address": '"239.192.1.33"'}))
    bridge.watch(enip.segment(TARGET, SCANNER, 0, A), 0)
    bridge.watch(enip.segment(TARGET, SCANNER, len(A), enip.open_reply(OTHER, "239.192.1.33")), 0)
    assert [news[:2] for news in bridge.news] == [
        ("opened", "f0"),
        ("closed", "f0"),
        ("opened", "f1"),
    ]
    assert leaving(bridge, enip.frame(ID, 1, b"")) is None


def test_bad_replies_are_counted_by_name(tmp_path):
    bridge = Bridge(planned(tmp_path, {}))
    twice = enip.open_reply(ID, GROUP, more=[enip.item(0x8001, enip.sockaddr(GROUP))])
    bridge.watch(enip.segment(TARGET, SCANNER, 0, twice), 0)
    assert bridge.drops == {"watch_sockaddr_item": 1} and not bridge.news


def test_frames_that_are_none_are_counted_by_name(tmp_path):
    bridge = Bridge(planned(tmp_path, {"connections": '"any"'}, BACK))
    good = enip.frame(ID, 1, b"speed")
    bad = {
        "short": good[:17],
        "item_count": b"\x03" + good[1:],
        "address_item": good[:2] + b"\x01" + good[3:],
        "trailing": good + b"x",
        "cut": good[:-1],
    }
    for name, octets in bad.items():
        assert leaving(bridge, octets) is None
        assert bridge.open(planned(tmp_path, {}).flows[0].member, octets, None) is None
        assert bridge.drops[name] == 2, name


def entering(bridge, octets, source=None, member="members/gate", root=None):
    flow = bridge.open(root / member / "covey.json", octets, source)
    return flow and flow.name


def test_what_a_group_delivers_goes_to_its_flow(tmp_path):
    lists = ({"connections": f"[{n}]", "address": f'"239.192.1.{n}"'} for n in (40, 41))
    bridge = Bridge(planned(tmp_path, *({**OPENS, **each} for each in lists)))
    assert entering(bridge, enip.frame(40, 1, b""), root=tmp_path) == "f0"
    assert entering(bridge, enip.frame(41, 1, b""), root=tmp_path) == "f1"
    assert entering(bridge, enip.frame(42, 1, b""), root=tmp_path) is None
    assert entering(bridge, enip.frame(40, 1, b""), member="another", root=tmp_path) is None
    assert bridge.drops == {"connection": 2}


def test_only_who_is_named_is_believed(tmp_path):
    bridge = Bridge(planned(tmp_path, {**OPENS, "source": '"gate-2"'}))
    frame = enip.frame(ID, 1, b"")
    for source in (None, b"press-7", b"gate-20"):
        assert entering(bridge, frame, source, root=tmp_path) is None
    assert entering(bridge, frame, b"gate-2", root=tmp_path) == "f0"
    assert bridge.drops == {"source": 3}


@pytest.mark.parametrize("n", (0, 1, 2, 505))
def test_a_datagram_is_as_its_producer_sent_it(tmp_path, n):
    flow = planned(tmp_path, {**OPENS, "ttl": "3"}).flows[0]
    frame = enip.frame(ID, n, bytes(range(256)) * 2)[: 20 + n]
    octets = Emitter(flow).datagram(frame)
    found = IP(octets)
    assert (found.src, found.dst, found.ttl, found.tos >> 2) == ("192.168.2.30", GROUP, 3, 47)
    assert found.len == len(octets) == 28 + len(frame) and found.flags == "DF"
    assert (found[UDP].sport, found[UDP].dport, bytes(found[UDP].payload)) == (2222, 2222, frame)
    told, found[UDP].chksum = found[UDP].chksum, None
    assert IP(bytes(found))[UDP].chksum == told


def test_a_checksum_of_zero_is_sent_as_ones(tmp_path):
    flow = planned(tmp_path, OPENS).flows[0]
    emitter = Emitter(flow)
    told = struct.unpack_from(">H", emitter.datagram(b"\0\0"), 26)[0]
    assert struct.unpack_from(">H", emitter.datagram(struct.pack(">H", told)), 26)[0] == 0xFFFF


def test_our_codec_and_the_hand_made_one_agree():
    producer = cip.Producer(struct.pack("<I", ID))
    buf = bytearray(64)
    buf[cip.DATA : cip.DATA + 5] = b"speed"
    n = producer.emit(buf, 0, 5)
    assert buf[:n] == enip.frame(ID, 1, b"speed")
