"""Two plants, each behind a gateway, and the protected network between them: five namespaces.

    plant A          gateway A              network              gateway B          plant B
    10.77.1.10 ---- .1.1   10.77.0.2 ---- 10.77.0.1 ---- 10.77.0.3   .2.1 ---- 10.77.2.10
                                        a switch; the key server

Sockets stay in the namespace that they were made in, so devices, scanner and attacker live in this
process; key server and gateways are processes of their own. What is waited for comes, or an
AssertionError after PATIENCE_S. For the bench and the tests.
"""

import ctypes
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from .results import Missing

SERVER = "10.77.0.1"
GATES = {"a": ("10.77.0.2", "10.77.1.1"), "b": ("10.77.0.3", "10.77.2.1")}  # protected, plant
DEVICES = {"a": "10.77.1.10", "b": "10.77.2.10"}
CARDS = "eplant", "eprot"  # of a gateway
GROUP, PORT = "239.192.1.32", 2222
FLOW = f"""
plant = "{CARDS[0]}"
protected = "{CARDS[1]}"
[flow.speed]
address = "{GROUP}"
port = {PORT}
producer = "{DEVICES["a"]}"
"""

PATIENCE_S = 90  # for what comes at once where nothing else runs

_STEP_S = 0.02
_PATHS = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3] / "lib")]
_NEWNET = 0x40000000
_ETH_P_ALL = 0x0003
_RCVBUFFORCE = 33
_count = itertools.count()


class TwoPlants:
    """A context manager. Missing where there can be none. folder: of the site that is made."""

    def __init__(self, folder):
        self.folder = folder
        tag = f"{os.getpid() % 100000 * 10 + next(_count):x}"
        self._spaces = {name: f"cvg{name}{tag}" for name in ("net", "ga", "gb", "pa", "pb")}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._children = []
        self._sockets = []

    def __enter__(self):
        if shutil.which("ip") is None or os.geteuid() != 0:
            raise Missing("network namespaces need root and the command ip")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            why = error.stderr.decode().strip()
            raise Missing(f"no network namespaces here: {why}") from None
        return self

    def _make(self):
        for space in self._spaces.values():
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        self.ip("net", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        self._address("net", "br0", f"{SERVER}/24")
        for side, (protected, plant) in GATES.items():
            gate, device = "g" + side, "p" + side
            self._cable("net", "to" + side, gate, CARDS[1])
            self.ip("net", "link", "set", "to" + side, "master", "br0", "up")
            self._address(gate, CARDS[1], f"{protected}/24")
            self._cable(gate, CARDS[0], device, "eth0")
            self._address(gate, CARDS[0], f"{plant}/24")
            self._address(device, "eth0", f"{DEVICES[side]}/24")
            self.ip(device, "route", "add", "default", "via", plant)
            self.run(gate, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.ip("ga", "route", "add", "10.77.2.0/24", "via", GATES["b"][0])
        self.ip("gb", "route", "add", "10.77.1.0/24", "via", GATES["a"][0])

    def _cable(self, one, name, other, far):
        peer = ("peer", "name", far, "netns", self._spaces[other])
        self.ip(one, "link", "add", name, "type", "veth", *peer)

    def _address(self, space, card, address):
        self.ip(space, "addr", "add", address, "dev", card)
        self.ip(space, "link", "set", card, "up")

    def ip(self, space, *words):
        _ip("-n", self._spaces[space], *words)

    def run(self, space, *words):
        words = ("ip", "netns", "exec", self._spaces[space], *words)
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def start(self, space, *arguments):
        """A Python there; see processes.start."""
        inside = ("ip", "netns", "exec", self._spaces[space], sys.executable, *map(str, arguments))
        child = Child(inside, self.folder)
        self._children.append(child)
        return child

    @contextmanager
    def inside(self, space):
        """This thread is in that namespace: for sockets to be made."""
        there = os.open(f"/run/netns/{self._spaces[space]}", os.O_RDONLY)
        try:
            assert self._libc.setns(there, _NEWNET) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            assert self._libc.setns(self._home, _NEWNET) == 0
            os.close(there)

    def socket(self, space, *kind):
        with self.inside(space):
            sock = socket.socket(*kind)
        sock.settimeout(PATIENCE_S)
        self._sockets.append(sock)
        return sock

    def speaker(self, space, card_address, ttl=1):
        """A UDP socket that multicasts from port 2222, as devices do."""
        sock = self.socket(space, socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        card = socket.inet_aton(card_address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, card)
        sock.bind(("", 2222))
        return sock

    def capture(self, space, card):
        """All that passes a card from now on."""
        sock = self.socket(space, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 16 << 20)
        with self.inside(space):
            sock.bind((card, _ETH_P_ALL))
        return Capture(sock)

    def __exit__(self, *_):
        for child in self._children:
            child.close()
        for sock in self._sockets:
            sock.close()
        os.close(self._home)
        for space in self._spaces.values():  # their cables go with them
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


class Child:
    """A process that writes JSON, a line an event, to stdout or stderr."""

    def __init__(self, words, folder):
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events, self.said = [], ""
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream):
        for line in stream:
            self.said += line
            if line.startswith("{"):
                self.events.append(json.loads(line))

    def heard(self, event, **facts):
        """The first such event, once it has come."""
        wanted = {"event": event, **facts}

        def found():
            assert self.process.poll() is None, self.said
            return next((e for e in list(self.events) if wanted.items() <= e.items()), None)

        return wait_until(found)

    def status(self):
        """The next that is told."""
        known = len(self.events)

        def found():
            assert self.process.poll() is None, self.said
            return next((e for e in self.events[known:] if e["event"] == "status"), None)

        return wait_until(found)

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def close(self):
        if self.process.poll() is None:
            self.kill()
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


class Capture:
    """frames: Ethernet frames, each as often as it passed."""

    def __init__(self, sock):
        self._sock = sock
        self.frames = []
        sock.setblocking(False)

    def read(self):
        while True:
            try:
                self.frames.append(self._sock.recv(0xFFFF))
            except BlockingIOError:
                return self.frames

    def datagrams(self, port):
        """(source, destination, TTL, DSCP, payload) of UDP to this port."""
        found = []
        for frame in self.read():
            ip = frame[14:]
            if frame[12:14] != b"\x08\0" or ip[9] != 17:
                continue
            head = 4 * (ip[0] & 15)
            length = struct.unpack_from(">H", ip, head + 4)[0]
            if struct.unpack_from(">H", ip, head + 2)[0] == port:
                ends = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
                found.append((*ends, ip[8], ip[1] >> 2, ip[head + 8 : head + length]))
        return found


def begin(
    plants: TwoPlants, source_auth: str, protects: str, opens: str, receivers: tuple[str, ...] = ()
) -> list[Child]:
    """The key server and the gateways A and B, which are members by then.

    protects, opens: more of the flow at each. receivers: other members, in the network between.
    """
    folder = plants.folder
    covey(folder, "init", folder)
    policy = folder / "covey.toml"
    text = policy.read_text()
    policy.write_text(text.replace('"0.0.0.0:4500"', f'"{SERVER}:4500"'))
    words = ("--address", GROUP, "--port", PORT, "--source-auth", source_auth)
    covey(folder, "group", "add", "line1", *words)
    with open(policy, "a") as file:
        file.write('atd = "1s"\ndtd = "4s"\nfresh_join = false\n')
    members = {"gate-a": ("--sender",), "gate-b": ()}
    members |= {name: ("--interface", SERVER) for name in receivers}
    for name, more in members.items():
        covey(folder, "member", "add", name, "--group", "line1", "--server", SERVER, *more)
    server = plants.start("net", "-m", "covey_host", "serve", "--json", "--interface", SERVER)
    server.heard("serving")
    for side, more in (
        ("a", 'direction = "protect"\n' + protects),
        ("b", 'direction = "open"\n' + opens),
    ):
        file = folder / f"gateway-{side}.toml"
        file.write_text(FLOW + f'member = "members/gate-{side}"\n' + more)
    gates = [gateway(plants, side) for side in GATES]
    for gate in gates:
        gate.heard("member")
    return gates


def gateway(plants: TwoPlants, side: str) -> Child:
    file = plants.folder / f"gateway-{side}.toml"
    return plants.start("g" + side, "-m", "covey_host", "gateway", file, "--json")


def covey(folder: Path, *words) -> None:
    """A command to its end."""
    command = [sys.executable, "-m", "covey_host", *map(str, words)]
    done = subprocess.run(command, env=_environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def wait_until(condition: Callable[[], object]):
    """Its value, once that is true."""
    end = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < end, f"not true within {PATIENCE_S} s: {condition}"
        time.sleep(_STEP_S)
    return value


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "COVEY_SITE": str(folder), "PYTHONPATH": os.pathsep.join(_PATHS)}


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)
