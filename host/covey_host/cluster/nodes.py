"""etcd nodes: each a process of its own that is killed, stopped and started as a test asks."""

import asyncio
import json
import shutil
import signal
import sys
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

from ..demo.cast import ROOT, Child, Lost

HOST = "127.0.0.1"
DEFAULTS = ("--heartbeat-interval", "100", "--election-timeout", "1000")
TUNED = ("--heartbeat-interval", "50", "--election-timeout", "250")
_POWER = ROOT / "host" / "covey_host" / "demo" / "powered.py"
_HOME = ROOT / ".build" / "etcd"
_START_S = 30
_POLL_S = 0.05


def program() -> str:
    """etcd's path. Lost where there is none."""
    own, skipped = _HOME / "etcd", _HOME / "skipped"
    found = str(own) if own.exists() else shutil.which("etcd")
    if found is None:
        why = skipped.read_text().strip() if skipped.exists() else "run `make setup`"
        raise Lost(f"There is no etcd: {why}.")
    return found


class Node:
    """port: of clients; peer_port: of other nodes; known_at: where these find it."""

    def __init__(self, folder: Path, name: str, port: int, peer_port: int, known_at: int):
        self.name, self.port = name, port
        self.url = f"http://{HOST}:{known_at}"
        self.id = ""  # hexadecimal, once it has started
        self._folder = folder
        self.peer_port = peer_port
        self._child: Child | None = None
        self._starts = 0

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.status is None

    @property
    def pid(self) -> int:
        """Of the process that etcd is a child of."""
        return self._child.pid

    async def start(self, nodes: list["Node"], options: tuple[str, ...]) -> None:
        """Not waited for. Its data lie in the folder, and outlive it."""
        self._starts += 1
        mine, clients = f"http://{HOST}:{self.peer_port}", f"http://{HOST}:{self.port}"
        words = [program(), "--name", self.name, "--data-dir", self._folder / self.name]
        words += ["--listen-client-urls", clients, "--advertise-client-urls", clients]
        words += ["--listen-peer-urls", mine, "--initial-advertise-peer-urls", self.url]
        words += ["--initial-cluster", ",".join(f"{node.name}={node.url}" for node in nodes)]
        self._child = Child(f"{self.name}-{self._starts}", self._folder)
        await self._child.start([sys.executable, _POWER, *words, *options])

    async def up(self) -> None:
        """Until it has a leader, and answers. Lost where it ended, or it takes too long."""
        end = asyncio.get_running_loop().time() + _START_S
        while True:
            try:
                status = await self.ask("maintenance/status", {})
                if status.get("leader", "0") != "0":
                    self.id = f"{int(status['header']['member_id']):x}"
                    return
            except OSError:
                pass
            if not self.is_running:
                raise Lost(f"{self.name} has ended: see {self.name}-{self._starts}.log.")
            if asyncio.get_running_loop().time() > end:
                raise Lost(f"{self.name} does not answer: see {self.name}-{self._starts}.log.")
            await asyncio.sleep(_POLL_S)

    async def is_leader(self) -> bool:
        try:
            status = await self.ask("maintenance/status", {})
        except OSError:
            return False
        return status.get("leader") == status["header"]["member_id"]

    async def ask(self, path: str, body: dict, patience_s: float = 1) -> dict[str, Any]:
        """etcd's answer by its JSON gateway, past all links. OSError where there is none, or it
        is an error."""
        return await asyncio.to_thread(ask, self.port, path, body, patience_s)

    def signal(self, number: int) -> None:
        """SIGKILL, SIGSTOP, SIGCONT: to etcd."""
        if self.is_running:
            self._child.kill(number)

    async def kill(self) -> None:
        """It is gone when this returns; nothing of what it had promised is."""
        if self.is_running:
            await self._child.end(signal.SIGKILL)


def ask(port: int, path: str, body: dict, patience_s: float = 1) -> dict[str, Any]:
    request = urllib.request.Request(f"http://{HOST}:{port}/v3/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=patience_s) as response:
        return json.loads(response.read())


def text(octets: bytes) -> str:
    """As the gateway takes and gives octets."""
    return b64encode(octets).decode()
