"""A real etcd for tests: one node, or three, each killed and started again as they ask."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from covey_host.store import moving
from covey_host.store.place import Place

ROOT = Path(__file__).resolve().parents[1]
EMPTY = moving.Content({}, {}, 0, "")
_HOME = ROOT / ".build" / "etcd"
_NUMBERS = count()


def program():
    """Its path; the test is skipped by name where etcd can't be had."""
    own = _HOME / "etcd"
    found = str(own) if own.exists() else shutil.which("etcd")
    if found is None:
        skipped = _HOME / "skipped"
        why = skipped.read_text().strip() if skipped.exists() else "run `make setup` first"
        pytest.skip(f"there is no etcd: {why}")
    return found


class Node:
    """tls: (its certificate, its key, the CA of clients)."""

    def __init__(self, folder, tls=None, name="n0", ports=None):
        self.folder, self.name, self._tls = Path(folder), name, tls
        self.port, self.peer_port = ports or free_ports(2)
        self.cluster = None
        self.options = []
        self._process = None

    @property
    def here(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        scheme = "https" if self._tls else "http"
        mine = f"http://127.0.0.1:{self.peer_port}"
        words = [program(), "--name", self.name, "--data-dir", str(self.folder / self.name)]
        words += ["--listen-client-urls", f"{scheme}://{self.here}"]
        words += ["--advertise-client-urls", f"{scheme}://{self.here}"]
        words += ["--listen-peer-urls", mine, "--initial-advertise-peer-urls", mine]
        words += ["--initial-cluster", self.cluster or f"{self.name}={mine}"]
        words += ["--heartbeat-interval", "50", "--election-timeout", "250"]
        if self._tls:
            cert, key, ca = map(str, self._tls)
            words += ["--cert-file", cert, "--key-file", key]
            words += ["--client-cert-auth", "--trusted-ca-file", ca]
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self._process = subprocess.Popen([*words, *self.options], stdout=log, stderr=log)
        return self

    def wait(self):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if self._tls:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                else:
                    ask(self, "kv/range", {"key": "AA=="})
                return self
            except OSError:
                assert self._process.poll() is None, (self.folder / f"{self.name}.log").read_text()
                time.sleep(0.02)
        raise AssertionError("etcd doesn't answer")

    def kill(self):
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number):
        os.kill(self._process.pid, number)


@contextmanager
def running(folder):
    """A node that answers, until the end of the block."""
    node = Node(folder)
    try:
        yield node.start().wait()
    finally:
        node.kill()


def three(folder):
    nodes = [Node(folder, name=f"n{i}") for i in range(3)]
    cluster = ",".join(f"{n.name}=http://127.0.0.1:{n.peer_port}" for n in nodes)
    for node in nodes:
        node.cluster = cluster
        node.start()
    for node in nodes:
        node.wait()
    return nodes


def new_place(node):
    """A site of its own in that etcd, with nothing in it."""
    place = Place(f"etcd://{node.here}/site{next(_NUMBERS)}")
    moving.create(place, "this one", EMPTY)
    return place


def ask(node, path, body):
    request = urllib.request.Request(f"http://{node.here}/v3/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.loads(response.read())


def free_ports(n):
    socks = [socket.socket() for _ in range(n)]
    try:
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()
