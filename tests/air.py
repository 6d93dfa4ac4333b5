"""A network of its own: this machine and another network namespace, with a switch between them.

The switch is a bridge of the kernel in a third namespace. It can be told not to flood multicast,
which is what an access point does that swallows it: unicast passes.
"""

import itertools
import os
import shutil
import subprocess

import pytest

_count = itertools.count()


class Air:
    """here, there: the addresses of the two ends. pytest skips where none can be made."""

    def __init__(self):
        number = os.getpid() % 20000 * 10 + next(_count)
        self._tag = f"{number:x}"
        self._switch, self.far = f"cvs{self._tag}", f"cvf{self._tag}"  # namespaces
        net = f"10.{number >> 8 & 255}.{number & 255}"
        self.here, self.there = f"{net}.1", f"{net}.2"

    def __enter__(self) -> "Air":
        if shutil.which("ip") is None or os.geteuid() != 0:
            pytest.skip("network namespaces need root and the command ip")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        return self

    def _make(self) -> None:
        near, far = f"cvn{self._tag}", f"cvo{self._tag}"
        for name in (self._switch, self.far):
            _ip("netns", "add", name)
        _ip(
            "-n",
            self._switch,
            "link",
            "add",
            "name",
            "switch",
            "type",
            "bridge",
            "mcast_snooping",
            "0",
        )
        _ip("-n", self._switch, "link", "set", "switch", "up")
        _ip("link", "add", near, "type", "veth", "peer", "name", "near", "netns", self._switch)
        _ip("-n", self.far, "link", "add", far, "type", "veth", "peer", "name", "far", "netns",
            self._switch)  # fmt: skip
        for end in ("near", "far"):
            _ip("-n", self._switch, "link", "set", end, "master", "switch", "up")
        _ip("addr", "add", f"{self.here}/24", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", self.far, "addr", "add", f"{self.there}/24", "dev", far)
        for name in (far, "lo"):
            _ip("-n", self.far, "link", "set", name, "up")

    def swallow_multicast(self) -> None:
        for end in ("near", "far"):
            words = ("link", "set", end, "type", "bridge_slave", "mcast_flood", "off")
            _ip("-n", self._switch, *words)

    def command(self, *words) -> list[str]:
        """The words of a command that runs at the far end."""
        return ["ip", "netns", "exec", self.far, *map(str, words)]

    def __exit__(self, *_) -> None:
        for name in (self.far, self._switch):  # their ends of the cables go with them
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
