"""Two gateways between three networks: what arrives, what the wire between them shows, and that
nothing plain crosses whatever becomes of a gateway.
"""

import json
import os
import re
import resource
import signal
import socket
import struct
import time
from contextlib import ExitStack

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import Ether

import enip
from covey_host.bench.results import Missing
from covey_host.bench.twoplants import (
    CARDS,
    DEVICES,
    FLOW,
    GATES,
    GROUP,
    PATIENCE_S,
    PORT,
    SERVER,
    TwoPlants,
    begin,
    wait_until,
)
from covey_host.errors import MISUSE, Problem
from covey_host.gateway import nftables, service
from covey_host.gateway.fence import Fence
from covey_host.gateway.plan import load

ESP = 4500
FORGED_TTL = 9
ID, OTHER = 0x12345678, 0x0BADCAFE
SECRET = b"SPEED-IS-1500-RPM"  # what no capture of the protected network may hold


@pytest.fixture
def plants(tmp_path):
    with ExitStack() as stack:
        try:
            made = stack.enter_context(TwoPlants(tmp_path / "site"))
        except Missing as missing:
            pytest.skip(str(missing))
        yield made


class Scanner:
    """A connection between the devices, explicit messages by TCP through both gateways."""

    def __init__(self, plants):
        door = plants.socket("pa", socket.AF_INET, socket.SOCK_STREAM)
        door.bind((DEVICES["a"], 44818))
        door.listen()
        self._mine = plants.socket("pb", socket.AF_INET, socket.SOCK_STREAM)
        self._mine.connect((DEVICES["a"], 44818))
        self._target, _ = door.accept()
        self._target.settimeout(PATIENCE_S)

    def ask(self, request, reply):
        self._mine.sendall(request)
        assert _exactly(self._target, len(request)) == request
        self._target.sendall(reply)
        assert _exactly(self._mine, len(reply)) == reply

    def close(self):
        self._mine.close()
        self._target.close()


def _exactly(sock, n):
    data = b""
    while len(data) < n:
        data += sock.recv(n - len(data))
    return data


def passed(gate):
    return gate.status()["flows"]["speed"]["passed"]


def drops(gate):
    return gate.status()["drops"]


def test_a_scanner_behind_another_gateway(plants):
    gate_a, gate_b = begin(plants, "mac", "", 'source = "gate-a"\nttl = 2\n', ("spy",))
    wire = plants.capture("net", "br0")
    far = plants.capture("pb", "eth0")
    device = plants.speaker("pa", DEVICES["a"])
    numbers = iter(range(1, 1 << 20))

    def produce(count, connection=ID, sock=device):
        frames = [enip.frame(connection, next(numbers), SECRET) for _ in range(count)]
        for each in frames:
            sock.sendto(each, (GROUP, PORT))
        return frames

    def goes_on():
        """Genuine frames arrive, whatever was lost before."""
        known = len(far.datagrams(PORT))
        wait_until(lambda: produce(1) and len(far.datagrams(PORT)) > known)

    # Nobody has opened it.
    produce(5)
    wait_until(lambda: drops(gate_a).get("connection") == 5)
    scanner = Scanner(plants)
    scanner.ask(enip.open_request(), enip.open_reply(ID, GROUP))
    gate_a.heard("opened", flow="speed", connection="0x12345678")
    produce(3, OTHER)

    # What is sent arrives as it was sent.
    sent = []
    while not passed(gate_a):  # until its keys are in use
        sent += produce(1)
    sent += produce(20)
    wait_until(lambda: passed(gate_b) > 20)
    came = far.datagrams(PORT)
    assert [c[-1] for c in came] == sent[-len(came) :]
    assert {c[:4] for c in came} == {(DEVICES["a"], GROUP, 2, 47)}
    for n in (1440, 3000):  # too long for a packet; in fragments, and longer than is read
        device.sendto(enip.frame(ID, next(numbers), SECRET + bytes(n)), (GROUP, PORT))
    wait_until(lambda: drops(gate_a).get("cut") == drops(gate_a).get("too_long") == 1)
    assert drops(gate_a)["connection"] == 8

    # The wire between shows none of it.
    sealed = [d for d in wire.datagrams(ESP) if d[1] == GROUP and any(d[-1][:4])]  # no rekeys
    assert {(d[0], d[3]) for d in sealed} == {(GATES["a"][0], 47)} and len(sealed) >= 20
    assert not wire.datagrams(PORT) and not any(SECRET in frame for frame in wire.frames)

    # An attacker there replays, garbles and injects; a consumer turned bad poses as the producer.
    attacker = plants.speaker("net", SERVER)
    data = [d[-1] for d in sealed]
    before = gate_b.status()["members"]["gate-b"]["drops"]
    for each in data:
        attacker.sendto(each, (GROUP, ESP))
        attacker.sendto(each[:-1] + bytes([each[-1] ^ 1]), (GROUP, ESP))
    produce(5, sock=attacker)
    spoof = plants.socket("net", socket.AF_PACKET, socket.SOCK_RAW)
    forgeries = [each for side in GATES for each in forged(plants, side)]
    for each in forgeries:
        spoof.sendto(each, ("br0", 0))

    def refused():
        now = gate_b.status()["members"]["gate-b"]["drops"]
        return sum(now.values()) - sum(before.values()) >= 2 * len(data)

    wait_until(refused)
    spy = plants.start(
        "net", "-m", "covey_host.demo.spy", plants.folder / "members/spy/covey.json"
    )
    spy.heard("listening", sent=0)
    spy.say("forge 10")
    while not any(e["event"] == "forged" for e in spy.events):
        produce(1)
        time.sleep(0.02)
    wait_until(lambda: gate_b.status()["members"]["gate-b"]["drops"].get("source", 0) >= 10)
    spy.close()
    goes_on()
    wait_until(lambda: len(far.datagrams(PORT)) == passed(gate_b))
    assert all(SECRET in c[-1] for c in far.datagrams(PORT))
    assert "producer" not in drops(gate_a)  # what came plain from the wire was not even looked at

    near = plants.capture("pa", "eth0")
    for each in forgeries:
        spoof.sendto(each, ("br0", 0))
    produce(1)
    wait_until(lambda: near.datagrams(PORT))
    assert all(SECRET in d[-1] for d in near.datagrams(PORT))

    # Somebody flushes the packet filter: it is put back.
    other = Fence(load(plants.folder / "gateway-b.toml"))
    with plants.inside("gb"):
        other.take_away()
    other.close()
    gate_b.heard("fence", table="covey_" + CARDS[0])
    for each in forgeries:
        spoof.sendto(each, ("br0", 0))
    goes_on()
    assert all(SECRET in c[-1] for c in far.datagrams(PORT))

    # Closed.
    scanner.ask(enip.close_request(), enip.close_reply())
    gate_a.heard("closed", flow="speed", connection="0x12345678")
    count = passed(gate_a)
    produce(5)
    wait_until(lambda: drops(gate_a)["connection"] >= 13)
    assert passed(gate_a) == count

    # Given no more memory (test_gateway_memory.py has it run out), stopped, killed, gone: nothing
    # plain crosses, and unicast goes on.
    scanner.ask(enip.open_request(), enip.open_reply(ID, GROUP))
    wait_until(lambda: sum(e["event"] == "opened" for e in gate_a.events) == 2)
    resource.prlimit(gate_a.process.pid, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
    for _ in range(10):
        produce(100)
        time.sleep(0.05)  # it has its turn, with or without memory
    gate_a.process.send_signal(signal.SIGSTOP)
    produce(50)
    gate_a.kill()
    gate_b.kill()
    produce(50)
    count = len(far.datagrams(PORT))

    # Made a bridge: the fence stands.
    plants.ip("ga", "link", "add", "br9", "type", "bridge", "mcast_snooping", "0")
    plants.ip("ga", "link", "set", "br9", "up")
    for card in CARDS:
        plants.ip("ga", "link", "set", card, "master", "br9")
    produce(50)
    for card in CARDS:
        plants.ip("ga", "link", "set", card, "nomaster")
    produce(1, sock=attacker)
    scanner.ask(enip.close_request(), enip.close_reply())
    scanner.close()
    assert len(far.datagrams(PORT)) == count
    assert not [d for d in wire.datagrams(PORT) if d[0] != SERVER and d[2] != FORGED_TTL]
    ours = [f for f in wire.frames if SECRET in f]
    # The fence stands though its gateway is dead. Without it the kernel would route: so the
    # forgeries were worth something.
    with plants.inside("gb"):
        service.unfence(plants.folder / "gateway-b.toml")
    for each in forgeries:
        spoof.sendto(each, ("br0", 0))
    wait_until(lambda: any(b"forged" in frame for frame in far.read()))
    # The attacker's own: so the capture would have shown it.
    assert {f[26:30] for f in ours} == {socket.inet_aton(SERVER)}


def forged(plants, side):
    """Ethernet frames that may bring a frame of class 1 past a gateway, were it only a router."""
    card = plants.run("g" + side, "ip", "-o", "link", "show", CARDS[1])
    mac = re.search("link/ether ([0-9a-f:]+)", card)[1]
    group_mac = "01:00:5e:40:01:20"
    ends = {"a": ("10.77.1.10", "10.77.1.255"), "b": ("10.77.2.10", "10.77.2.255")}[side]
    made = []
    for source in (DEVICES["a"], GATES["a"][0], SERVER):
        datagram = UDP(sport=PORT, dport=PORT) / enip.frame(ID, 1 << 30, b"forged")
        for to, target in ((mac, GROUP), (group_mac, GROUP), *((mac, end) for end in ends)):
            packet = IP(src=source, dst=target, ttl=FORGED_TTL) / datagram
            made += [Ether(dst=to) / part for part in (packet, *fragment(packet, 24))]
    return [bytes(each) for each in made]


def refusal(plants, side="a"):
    with plants.inside("g" + side), pytest.raises(Problem) as refused:
        service.run(plants.folder / f"gateway-{side}.toml", as_json=True, only_check=True)
    assert refused.value.status == MISUSE
    return refused.value.sentence


def test_where_something_else_carries_multicast_it_refuses(plants):
    plants.folder.mkdir()
    file = plants.folder / "gateway-a.toml"
    file.write_text(FLOW.replace(CARDS[1], "nothere") + 'member = "m"\ndirection = "protect"\n')
    assert "There is no network card nothere." in refusal(plants)
    file.write_text(FLOW + 'member = "members/gate-a"\ndirection = "protect"\n')
    assert "covey.json can't be read" in refusal(plants)
    member = plants.folder / "members" / "gate-a" / "covey.json"
    member.parent.mkdir(parents=True)
    facts = {"version": 1, "group": "line1", "idi": "gate-a", "servers": [{"host": SERVER}]}
    member.write_text(json.dumps({**facts, "psk_file": "psk"}))
    (member.parent / "psk").write_text("5" * 64)
    assert "is a receiver's" in refusal(plants)
    swapped = (
        FLOW.replace(CARDS[0], "x").replace(CARDS[1], CARDS[0]).replace('"x"', f'"{CARDS[1]}"')
    )
    for text, direction, said in (
        (swapped, "protect", f"{DEVICES['a']} is reached by {CARDS[0]}, not by"),
        (FLOW, "open", f"{DEVICES['a']} is in the plant already"),
        (FLOW.replace(DEVICES["a"], "192.0.2.9"), "open", "there is no route to 192.0.2.9"),
    ):
        file.write_text(text + f'member = "members/gate-a"\ndirection = "{direction}"\n')
        assert said in refusal(plants)
    file.write_text(FLOW + 'member = "members/gate-a"\ndirection = "protect"\n')
    plants.ip("ga", "link", "add", "br9", "type", "bridge")
    plants.ip("ga", "link", "set", CARDS[0], "master", "br9")
    assert f"{CARDS[0]} is a port of br9" in refusal(plants)
    plants.ip("ga", "link", "set", CARDS[0], "nomaster")
    router = plants.socket("ga", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    try:
        router.setsockopt(socket.IPPROTO_IP, 200, 1)  # MRT_INIT
        for number, (_, address) in enumerate((GATES["a"], GATES["a"][::-1])):
            card = socket.inet_aton(address)
            vif = struct.pack("@HBBI4s4x", number, 0, 1, 0, card)
            router.setsockopt(socket.IPPROTO_IP, 202, vif)  # MRT_ADD_VIF
    except OSError as error:
        pytest.skip(f"no multicast routing in this kernel: {os.strerror(error.errno)}")
    assert "A multicast router works on" in refusal(plants)
    router.close()
    member.write_text(json.dumps({**facts, "psk_file": "psk", "sender": True}))
    with plants.inside("ga"):
        ear = nftables.listener()
        service.run(file, as_json=True, only_check=True)
        assert not nftables.tables_changed(ear, 0)  # it only looks
        ear.close()
