"""The machines of a cluster that are key servers: a site directory each, and its `covey serve`."""

import asyncio
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .. import control
from ..demo import person
from ..demo.cast import Child, Lost
from ..errors import Problem
from ..site import Site

HOST = "127.0.0.1"
_LEASH = "covey_host.cluster.leash"
_START_S = 30
_POLL_S = 0.02


class Machine:
    """One of them. All are called before they are started: copied from the site that was made."""

    def __init__(self, folder: Path, name: str, port: int, serve: tuple[str, ...] = ()):
        """port: where it listens to members. serve: more words behind `covey serve`."""
        self.name, self.port = name, port
        self.site = Site(folder / name)
        self.events: list[dict] = []  # all that it has logged since it was made
        self.child: Child | None = None
        self.module = _LEASH  # what is run in place of `covey`
        self.on_event: Callable[[dict], None] = lambda event: None
        self._folder = folder
        self._serve = serve
        self._starts = 0
        self._before = 0  # of the events: those of processes that have ended

    @property
    def is_running(self) -> bool:
        return self.child is not None and self.child.status is None

    def settle(self, original: Site, url: str) -> None:
        """Its directory: the site's key and policy, where etcd is for it, where it listens."""
        root = self.site.root
        root.mkdir(mode=0o700)
        for path in (original.key, original.policy, original.elsewhere):
            shutil.copy(path, root / path.name)
            (root / path.name).chmod(0o600)
        store = self.site.elsewhere
        person.listen(self.site.policy, f'"{HOST}:{self.port}"')
        text = re.sub(r"(?m)^url = .*$", f'url = "{url}"', store.read_text(), count=1)
        store.write_text(f'{text}replica = "{self.name}"\n')

    @property
    def has_served(self) -> bool:
        """Since its last start."""
        return any(event.get("event") == "serving" for event in self.events[self._before :])

    async def start(self) -> None:
        """Not waited for: see serving()."""
        self._starts += 1
        self._before = len(self.events)
        self.child = Child(f"{self.name}-{self._starts}", self._folder, self._note)
        words = ["serve", "--json", "--interface", HOST, "--site", self.name, *self._serve]
        await self.child.start([sys.executable, "-m", self.module, *words])

    async def serving(self) -> None:
        """Until it is. Lost where it ends, or it takes too long."""
        end = asyncio.get_running_loop().time() + _START_S
        while not self.has_served:
            if not self.is_running:
                raise Lost(f"{self.name} has ended: see {self.name}-{self._starts}.log.")
            if asyncio.get_running_loop().time() > end:
                raise Lost(f"{self.name} does not serve: see {self.name}-{self._starts}.log.")
            await asyncio.sleep(_POLL_S)

    def signal(self, number: int) -> None:
        if self.is_running:
            self.child.kill(number)

    async def kill(self) -> None:
        if self.is_running:
            await self.child.end(signal.SIGKILL)

    def set_clock(self, seconds: float) -> None:
        """How wrong its wall clock is from now on."""
        if self.is_running:
            self.child.tell(str(seconds))

    async def status(self, patience_s: float = 2) -> dict | None:
        """As it answers itself; None where it doesn't."""
        try:
            return await asyncio.to_thread(
                control.call, self.site.control, {"do": "status"}, patience_s
            )
        except Problem:
            return None

    async def covey(self, *words: str, status: int = 0) -> list[dict]:
        """A command typed here: the JSON objects that it printed. Lost where it ends otherwise."""
        site = str(self.site.root)
        return await person.covey(*words, folder=self._folder, site=site, status=status)

    def _note(self, event: dict) -> None:
        self.events.append(event)
        self.on_event(event)
