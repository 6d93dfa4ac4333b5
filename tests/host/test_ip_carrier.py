"""ESP as IP protocol 50 on real raw sockets: our own ends, scapy, and bad packets."""

import ctypes
import json
import os
import socket
import subprocess
import sys

import pytest

import test_micropython as boards
from covey import port
from covey.drops import ConfigError
from foreign_bench import Bench as ForeignBench
from member_process import join, micropython
from processes import ENVIRONMENT, PATIENCE_S, wait_until
from site_bench import GROUP, Bench

INTERPRETERS = pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
OTHER = GROUP.replace("239.192.", "239.193.")


def why_not_raw():
    try:
        port.close(port.esp_socket(GROUP, "127.0.0.1", 1))
    except ConfigError as error:
        return str(error)
    return None


WHY_NOT = why_not_raw()
ROOT_ONLY = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


# Our own server and members


class Plant(Bench):
    """line1 as IP protocol 50, without private attributes; line2 beside it, with."""

    BARE = "private_attributes = false"

    def __init__(self, root):
        super().__init__(root)
        line = f"carrier_port = {self.carrier_port}"
        self.edit(line, f'carrier = "ip"\n{self.BARE}\n{line}')
        self.members = []
        with open(root / "covey.toml", "a") as file:
            file.write(
                f'\n[group.line2]\naddress = "{OTHER}"\nport = 2222\ncarrier = "ip"\n'
                "fresh_join = false\n"
            )

    def add(self, name, *arguments, group="line1"):
        where = ("--server", f"127.0.0.1:{self.port}", "--interface", "127.0.0.1")
        self.covey("member", "add", name, "--group", group, *where, *arguments)

    def join(self, name, interpreter="cpython", until="status"):
        path = self.root / "members" / name / "covey.json"
        sends = json.loads(path.read_text())["sender"]
        if interpreter == "micropython":
            member = micropython(path)
        else:
            member = join(path, *(("--send", "-", "--listen") if sends else ("--listen",)))
        self.members.append(member)
        member.heard(until)
        return member

    def close(self):
        for member in self.members:
            member.close()
        super().close()


@pytest.fixture
def plant(tmp_path):
    made = Plant(tmp_path / "site")
    yield made
    made.close()


@ROOT_ONLY
def test_two_interpreters_in_one_group_and_another_group_beside(plant):
    for name in ("press", "robot"):
        plant.add(name, "--sender")
    plant.add("oven", "--sender", group="line2")
    plant.add("lamp", group="line2")
    server = plant.serve()
    press, robot = plant.join("press"), plant.join("robot", "micropython")
    oven, lamp = plant.join("oven", "micropython"), plant.join("lamp")
    for n in range(3):
        press.say(f"press {n}")
        robot.say(f"robot {n}")
        oven.say(f"oven {n}")
        robot.packet(b"press %d" % n)
        press.packet(b"robot %d" % n)
        lamp.packet(b"oven %d" % n)
        plant.covey("rekey", "line1")
        for member in (press, robot):
            member.heard("rekeyed", n + 1)
    assert {e["detail"] for e in robot.events if e["event"] == "rekeyed"} == {2, 3, 4}
    for member in (press, robot, oven, lamp):
        assert set(drops := member.drops()) <= {"own"}, drops
    assert not lamp.count("packet", text="press 0") and not press.count("packet", text="oven 0")
    facts = plant.status()["groups"]["line1"]
    assert facts["carrier"] == "ip" and sorted(facts["members"]) == ["press", "robot"]
    plant.covey("member", "remove", "robot")
    press.heard("rekeyed", 4)
    assert robot.heard("refused") and press.count("registered") == 1
    for member in (press, oven, lamp):
        assert member.leave()[0] == 0
    assert server.poll() is None


@ROOT_ONLY
@INTERPRETERS
def test_one_sender(plant, interpreter):
    """SN 0: replays are refused though nobody told a width; each start brings a new key."""
    plant.edit(f"\n{plant.BARE}", f"\n{plant.BARE}\nsingle_sender = true")
    plant.add("press", "--sender")
    plant.add("other", "--sender")
    plant.add("lamp")
    plant.serve()
    press = plant.join("press", interpreter)
    lamp = plant.join("lamp")
    wire = port.esp_socket(GROUP, "127.0.0.1", 1)
    head, buf = bytearray(20), bytearray(2000)
    press.say("one")
    lamp.packet(b"one", sender=None)
    n = wait_until(lambda: max(0, port.recv_parts(wire, head, buf))) - 20
    for _ in range(3):
        port.send(wire, memoryview(buf)[:n], port.resolve(GROUP, 0))
    press.say("two")
    lamp.packet(b"two")
    assert lamp.opened(b"one") == 1
    assert lamp.drops()["replay"] == 3
    wait_until(lambda: press.drops().get("own") == 5)  # outbound only
    port.close(wire)
    other = plant.join("other", until="refused")
    assert other.heard("refused")["detail"].endswith("registration_failed.")
    press.leave()
    wait_until(lambda: plant.status()["groups"]["line1"]["senders"] == [])
    epoch, rekeys = plant.epoch(), lamp.count("rekeyed")
    again = plant.join("press", interpreter)
    assert plant.epoch() == epoch + 1
    wait_until(lambda: lamp.count("rekeyed") > rekeys)  # ATD is 0: it may not have them yet
    again.say("three")
    lamp.packet(b"three")


# scapy, by a key server that isn't ours and knows nothing of Covey


class Bare(ForeignBench):
    """A foreign group without a udp carrier."""

    def __init__(self, folder, **shape):
        from raw_air import RawAir

        super().__init__(folder, **shape)
        self.air.close()
        self.air = RawAir(self.group.dotted, self.port)

    def configure(self, name="press-7", **fields):
        path = super().configure(name, **fields)
        settings = json.loads(path.read_text())
        del settings["carrier"]  # "ip" where nobody says otherwise
        settings.pop("carrier_port", None)
        path.write_text(json.dumps(settings))
        return path


@pytest.fixture
def bare(tmp_path):
    made = []

    def bench(**shape):
        made.append(Bare(tmp_path / str(len(made)), **shape))
        return made[-1]

    yield bench
    for one in made:
        one.close()


def both_ways(bench, member, text, iv):
    (tek,) = bench.group.teks
    bench.air.send(tek, b"to " + text, iv=iv)
    member.packet(b"to " + text)
    member.say("from " + text.decode())
    while True:
        _, sent_iv, number, payload = bench.air.hear([tek])
        if payload == b"from " + text:
            assert number == tek.port
            return int.from_bytes(sent_iv)


@ROOT_ONLY
@INTERPRETERS
@pytest.mark.parametrize("width", (8, 12, 16))
@pytest.mark.parametrize("rekey_port", (None, 4500), ids=("bare", "marker"))
def test_scapy_both_ways_and_every_width(bare, interpreter, width, rekey_port):
    """SN 2; the width is told to senders only, by nobody's form. A rekey between."""
    bench = bare(rekey_port=rekey_port)
    group = bench.group
    group.sender_bits = width
    member = bench.talker(interpreter)
    (sender_id,) = group.given
    iv = (0xEE << 56).to_bytes(8)
    sent = both_ways(bench, member, b"one", iv)
    assert sent >> 64 - width == sender_id and sent & 0xFFFFFFFF == 1
    replayed = bench.air.send(group.teks[0], b"again", iv=iv)
    bench.air.inject(replayed)
    member.packet(b"again")
    over = group.kek
    group.renew()
    bench.rekey([group.gsa(), group.kd(over.kwk)], over, times=2)
    member.heard("rekeyed")
    assert both_ways(bench, member, b"two", iv) >> 64 - width == sender_id
    assert member.opened(b"again") == 1
    assert member.leave()[0] == 0


@ROOT_ONLY
@INTERPRETERS
@pytest.mark.parametrize("sn", (0, 2))
def test_a_receiver_that_knows_no_width(bare, interpreter, sn):
    bench = bare()
    bench.group.sn = sn
    bench.group.renew()
    member = bench.listener(interpreter)
    (tek,) = bench.group.teks
    for n in range(20):
        esp = bench.air.send(tek, b"packet %d" % n)  # scapy draws the IV
        member.packet(b"packet %d" % n, sender=None)
    bench.air.inject(esp)
    bench.air.send(tek, b"last")
    member.packet(b"last")
    assert member.opened(b"packet 19") == (1 if sn == 0 else 2)


@ROOT_ONLY
@INTERPRETERS
def test_bad_packets_and_strange_headers(bare, interpreter):
    bench = bare()
    member = bench.listener(interpreter)
    (tek,) = bench.group.teks
    air = bench.air
    made = iter(range(1, 100))

    def esp(text):
        """Sealed, not sent."""
        from foreign_esp import IP, UDP, Raw, association

        plain = IP(src="127.0.0.1", dst=air.group) / UDP(sport=2222, dport=tek.port)
        return bytes(association(tek).encrypt(plain / Raw(text), seq_num=next(made)))[20:]

    air.inject(esp(b"options"), options=b"\x94\x04\x00\x00" + b"\x01" * 8)  # router alert, no-ops
    member.packet(b"options")
    whole = esp(b"fragments" * 20)
    for at in range(0, len(whole), 64):
        more = 0x2000 if at + 64 < len(whole) else 0
        air.inject(whole[at : at + 64], flags=more | at // 8, identity=77)
    member.packet(b"fragments" * 20)
    long = esp(b"x" * 1372)
    assert len(long) == 1416
    air.inject(long)
    member.packet(b"x" * 1372)
    assert member.drops() == {}
    air.inject(esp(b"never whole")[:64], flags=0x2000, identity=78)
    air.inject(b"")
    air.inject(b"\xff")
    air.inject(bytes(4) + b"marker and a message of IKE, it seems.....")
    air.inject(bytes(36))
    air.inject(bytes([0, 0, 0, 255]) + bytes(60))
    air.inject(tek.spi + bytes(28))
    air.inject(tek.spi + bytes(30))
    air.inject(tek.spi + bytes(60))
    air.inject(os.urandom(4000))
    air.inject(esp(b"to another group"), to="239.192.250.250")
    air.inject(esp(b"unicast"), to="127.0.0.1")
    air.inject(esp(b"UDP, it says"), protocol=17)
    air.inject(esp(b"AH, it says"), protocol=51)
    joined = esp(b"two that") + esp(b"are joined")
    air.inject(joined)
    air.inject(esp(b"last"))
    member.packet(b"last")
    wanted = {"length": 5, "unknown_spi": 3, "tag": 2}
    assert (drops := member.drops()) == wanted, drops
    assert member.leave() == (0, "") if interpreter == "micropython" else member.leave()[0] == 0


def without_net_raw():
    """In a child before it becomes another program: not even root may open raw sockets there."""
    ctypes.CDLL(None).prctl(24, 13, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_NET_RAW


@ROOT_ONLY
@INTERPRETERS
def test_a_person_without_the_right_is_told_in_one_sentence(bare, interpreter):
    says = (
        "the ip carrier needs a raw socket, which this user may not open: run as root or with"
        " CAP_NET_RAW, or give the group the udp carrier"
    )
    if interpreter == "cpython":
        path = bare().configure(sender=False)
        command = [sys.executable, "-m", "covey_host", "join", str(path)]
    else:
        wrapper, reason = boards.interpreter("x86")
        if wrapper is None:
            boards.without("x86", reason)
        command = [
            str(wrapper),
            "-c",
            f"from covey import port; port.esp_socket({GROUP!r}, None, 1)",
        ]
    env = {**ENVIRONMENT, "MICROPYPATH": str(boards.BUILD / "lib-x86")}
    done = subprocess.run(
        command,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        preexec_fn=without_net_raw,
    )
    assert done.returncode == 1 and says in done.stderr, done.stderr
    if interpreter == "cpython":
        assert done.stderr.splitlines()[-1] == says + "." and "Traceback" not in done.stderr


# The port


@ROOT_ONLY
def test_options_of_the_socket():
    sock = port.esp_socket(GROUP, "127.0.0.1", 7, False)
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 7
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 0
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4) == b"\x7f\0\0\1"
    assert not sock.getblocking() and sock.getsockname()[0] == GROUP
    port.close(sock)


def test_what_a_person_can_mend(monkeypatch):
    from covey.port import cpy

    class Refused(socket.socket):
        def __init__(self, *args):
            raise OSError(self.errno, os.strerror(self.errno))

    for errno, words in ((1, "run as root"), (13, "run as root"), (93, "can't be opened")):
        Refused.errno = errno
        monkeypatch.setattr(cpy.socket, "socket", Refused)
        with pytest.raises(ConfigError, match=words):
            port.esp_socket(GROUP, None, 1)
    monkeypatch.setattr(cpy.sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="not supported on this system"):
        port.esp_socket(GROUP, None, 1)
    with pytest.raises(ConfigError, match="no multicast group"):
        port.esp_socket("10.0.0.1", None, 1)
