"""A site in a directory of its own, its key server, and members: for what needs a real group.

All of it goes through the `covey` command, as a person would type it.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..demo import person
from ..demo.ports import udp_ports
from .board import BUILD
from .results import Missing

INTERFACE = "127.0.0.1"
GROUP = "line1"
_PATIENCE_S = 60


class Plant:
    """A context manager: a group whose key server runs while inside. policy: more of it; serves:
    False, where serve() is called later. is_default: the group is as `covey group add` makes it;
    else keys are used at once, and whoever comes gets those that there are."""

    def __init__(
        self,
        source_auth: str = "none",
        policy: str = "",
        *,
        serves: bool = True,
        is_default: bool = False,
    ):
        self._source_auth, self._policy, self._serves = source_auth, policy, serves
        self._is_default = is_default
        self._children: list[subprocess.Popen] = []

    def __enter__(self):
        BUILD.mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self):
        self.port, carrier = udp_ports(2)
        group = f"239.{random.randrange(196, 200)}.{random.randrange(256)}.9"
        self.covey("init", ".")
        policy = self.folder / "covey.toml"
        person.listen(policy, f'{{ address = "{INTERFACE}:{self.port}", marker = true }}')
        words = ["--address", group, "--port", "2222", "--source-auth", self._source_auth]
        self.covey("group", "add", GROUP, *words)
        with open(policy, "a") as file:
            file.write(f"carrier_port = {carrier}\n{self._policy}")
            if not self._is_default:
                atd_s = 0 if self._source_auth == "none" else 1
                file.write(f'atd = "{atd_s}s"\ndtd = "3s"\nfresh_join = false\n')
        if self._serves:
            self.serve()

    def serve(self, *more: str) -> None:
        words = ("-m", "covey_host", "serve", "--json", "--interface", INTERFACE, *more)
        server = self.server = self.start([sys.executable, *words], stderr=subprocess.PIPE)
        self.wait_for(server.stderr, "serving")

    def __exit__(self, *_):
        for child in self._children:
            child.kill()
            child.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def covey(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "covey_host", *words],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Missing(f"covey {' '.join(words)}: {done.stderr.strip()}")

    def member(self, name: str, *words: str) -> Path:
        """The covey.json of a new member."""
        self.covey("member", "add", name, "--group", GROUP, "--interface", INTERFACE, *words)
        return self.folder / "members" / name / "covey.json"

    def rekey(self) -> None:
        self.covey("rekey", GROUP)

    def start(self, command: list, **streams) -> subprocess.Popen:
        """A child that ends with us; stdin and stdout are ours, as text."""
        child = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **streams,
        )
        self._children.append(child)
        return child

    def wait_for(self, stream, word: str) -> str:
        """The next line of a child that has this word in it."""
        last = "without a word"
        for last in stream:
            if word in last:
                return last
        raise Missing(
            f"a process of its group ended before it was {word}: {last.strip().rstrip(chr(46))}"
        )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "COVEY_SITE": str(self.folder)}
