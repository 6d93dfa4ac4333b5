"""The stage of the demo: a folder in .build, a site, a key server, members, an attacker, a tap.

Everything that a person would type goes through the `covey` command; only what the demo has to
see at once (the server's status, the keys that it hands to the attacker) is asked directly.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .. import control
from ..errors import Problem
from ..site import Site
from ..vault.opening import open_store
from . import person
from .cast import ROOT, Child, Lost, Member
from .imposture import MODES, Imposture
from .ports import udp_ports
from .recorder import Recorder
from .tap import Tap
from .usecases import CASES

GROUP = "line1"
OTHER_GROUP = "line2"  # rekeyed inband
PAIR = ("north", "south")  # its members
GUEST = "guest"  # the fifth, who comes late, through a man in the middle
APPLICATION_PORT = 2222
ATD_S, DTD_S, SPREAD_S = 1, 3, 1
INTERFACE = "127.0.0.1"

_SETTINGS = f"""\
atd = "{ATD_S}s"
dtd = "{DTD_S}s"
rejoin_spread = "{SPREAD_S}s"
repeat_spacing = "300ms"
fresh_join = false
"""  # keys change when the play says so, and each drop is accounted for
_UNHURRIED = f"""\
atd = "3s"
evict_atd = "3s"
dtd = "10s"
evict_dtd = "10s"
rejoin_spread = "{SPREAD_S}s"
fresh_join = false
"""  # for boards that have I/O to do while they verify, on a machine that is busy, too
_PATIENCE_S = 30


class Stage:
    """Where the demo happens. open(), then everything else, then close()."""

    def __init__(self, seed: int, members: list[Member], capture: Path | None = None):
        """capture: where packets and keys of the run are left, if anywhere."""
        chance = random.Random()  # not the seed's: two runs side by side must not meet
        self.group = f"239.{chance.randrange(192, 196)}.{chance.randrange(256)}.7"
        self.members = members
        self.guest = Member(GUEST, None)
        self.impostures = [
            Imposture(self, group, members[at % 2].arch) for at, group in enumerate(MODES)
        ]
        self.server_events: list[dict] = []
        self.tap: Tap | None = None
        self._children: list[Child] = []
        self._seed = seed
        self.carrier, self.listen, self.plain, self.relay, self.elsewhere = udp_ports(5)
        (ROOT / ".build").mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=ROOT / ".build"))
        self.site = Site(self.folder / "site")
        self.capture = capture
        self.recorder: Recorder | None = None

    async def open(self) -> None:
        """Everybody on stage, nobody sending."""
        self.tap = Tap(self.group, self.carrier, INTERFACE)
        self.tap.open()
        if self.capture:
            self._record()
        await self._make_site()
        self.server = Child("server", self.folder, self.server_events.append)
        self._children.append(self.server)
        serve = [sys.executable, "-m", "covey_host.demo.leash", "serve", "--json"]
        await self.server.start([*serve, "--interface", INTERFACE, "--site", "site"])
        await self.server.hear(lambda e: e["event"] == "serving")
        if self.capture:
            await self._follow_keys()
        await asyncio.gather(*(self._add(m) for m in [*self.members, self.guest]))
        await asyncio.gather(self._start_attacker(), *(self.start(m) for m in self.members))

    async def start(self, member: Member) -> None:
        """Until it has registered."""
        member.child = Child(member.name, self.folder, member.note)
        self._children.append(member.child)
        await member.start(self.site.members / member.name / "covey.json")
        await member.joined()

    async def close(self, keep: bool) -> None:
        """End what still runs, remove the folder unless it is to be kept."""
        await asyncio.gather(*(child.end() for child in self._children if child.status is None))
        if self.tap:
            self.tap.close()
        if self.recorder:
            self.recorder.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, child: Child) -> None:
        """It is to end when the stage does, and not before let_go()."""
        self._children.append(child)

    def let_go(self, child: Child) -> None:
        self._children.remove(child)

    def kill(self) -> None:
        """The last resort, when there is no time to be polite."""
        for child in self._children:
            child.kill()

    # What a person does

    async def covey(self, *words: str, status: int = 0) -> list[dict]:
        """Run the command: the JSON objects that it printed. Lost where it ends otherwise."""
        return await person.covey(*words, folder=self.folder, site="site", status=status)

    async def rekey(self) -> str:
        """New keys: their SPI."""
        await self.covey("rekey", GROUP)
        return self.group_status()["spi"]

    # What the demo asks directly

    def group_status(self, group: str = GROUP) -> dict:
        return control.call(self.site.control, {"do": "status"})["groups"][group]

    def secrets(self) -> str:
        """The group's state as the store holds it, keys and all. For the attacker's ears only."""
        store = open_store(self.site)
        try:
            return store.read(f"group/{GROUP}/state")[0].hex()
        finally:
            store.close()

    async def ask_attacker(self, order: dict, answer: str) -> dict:
        self.attacker.tell(json.dumps(order))
        return await self.attacker.hear(lambda e: e["event"] == answer)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Lost where it does not come about."""
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            for child in self._children:
                if child.status is not None:
                    raise Lost(f"{child.name} ended too soon: see {child.name}.log.")
            if time.monotonic() > end:
                raise Lost(f"This did not come about in {_PATIENCE_S} s: {what}.")
            await asyncio.sleep(0.05)

    # The other group

    async def pair(self) -> dict:
        """Two `covey join` come to a plain port, get new keys inband, and go: what came of it."""
        members = [Child(name, self.folder) for name in PAIR]
        self._children += members
        for child in members:
            words = ["join", child.name, "--listen", "--json", "--site", "site"]
            await child.start([sys.executable, "-m", "covey_host.demo.leash", *words])
        await asyncio.gather(*(c.hear(lambda e: e["event"] == "registered") for c in members))
        heard = [c.hear(lambda e: e["event"] == "rekeyed") for c in members]
        await asyncio.gather(self.covey("rekey", OTHER_GROUP), *heard)
        end = time.monotonic() + _PATIENCE_S
        while len(holders := self.group_status(OTHER_GROUP)["holders"]) < len(PAIR):
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.05)
        for child in members:
            self._children.remove(child)
        statuses = await asyncio.gather(*(child.end() for child in members))
        return {"holders": holders, "statuses": statuses}

    # Registrations that must fail

    def stranger(self, member: Member) -> str:
        """Settings in a member's name, with another key."""
        return self._altered("stranger", member.name, {}, os.urandom(32).hex())

    def astray(self) -> str:
        """The guest's settings, for a group that it may not join."""
        changes = {"group": OTHER_GROUP, "servers": [{"host": INTERFACE, "port": self.plain}]}
        return self._altered("astray", GUEST, changes, None)

    def _altered(self, name: str, member: str, changes: dict, psk: str | None) -> str:
        original = self.site.members / member
        copy = self.folder / name
        shutil.copytree(original, copy)
        fields = json.loads((copy / "covey.json").read_text())
        (copy / "covey.json").write_text(json.dumps({**fields, **changes}))
        if psk is not None:
            (copy / "psk").write_text(psk)
        return f"{name}/covey.json"

    # Setting up

    async def _make_site(self) -> None:
        await self.covey("init", "site", "--identity", "gcks.demo")
        marked = f'{{ address = "{INTERFACE}:{self.listen}", marker = true }}'
        person.listen(self.site.policy, marked, f'"{INTERFACE}:{self.plain}"')
        port = str(APPLICATION_PORT)
        await self.covey("group", "add", GROUP, "--address", self.group, "--port", port)
        with open(self.site.policy, "a") as policy:
            policy.write(f"carrier_port = {self.carrier}\n{_SETTINGS}")
        net = self.group.rsplit(".", 1)[0]
        words = ["--address", f"{net}.8", "--port", port, "--rekey", "inband"]
        await self.covey("group", "add", OTHER_GROUP, *words)
        for name in PAIR:
            words = ["--interface", INTERFACE, "--server", f"{INTERFACE}:{self.plain}"]
            await self.covey("member", "add", name, "--group", OTHER_GROUP, *words)
        for at, scene in enumerate(self.impostures, 9):
            await self._make_elsewhere(scene.group, f"{net}.{at}", scene.source_auth, _SETTINGS)
            await self._make_imposture(scene)
        for at, case in enumerate(CASES, 20):
            await self._make_elsewhere(case.group, f"{net}.{at}", case.source_auth, _UNHURRIED)

    async def _make_elsewhere(
        self, group: str, address: str, source_auth: str, settings: str
    ) -> None:
        port = str(APPLICATION_PORT)
        words = ["--address", address, "--port", port, "--source-auth", source_auth]
        await self.covey("group", "add", group, *words)
        with open(self.site.policy, "a") as policy:  # another port: the tap is not to hear it
            policy.write(f"carrier_port = {self.elsewhere}\n{settings}")

    async def _make_imposture(self, scene: Imposture) -> None:
        for name, sends in scene.names.items():
            await self.add_board(name, scene.group, sends)

    async def add_board(self, name: str, group: str, sends: bool) -> None:
        """One that takes part in a group elsewhere: its directory at the site."""
        words = ["--interface", INTERFACE, *(["--sender"] if sends else [])]
        await self.covey("member", "add", name, "--group", group, *words)

    async def _add(self, member: Member) -> None:
        words = ["member", "add", member.name, "--group", GROUP, "--interface", INTERFACE]
        if member.connection:
            words.append("--sender")
        if member is self.guest:
            words += ["--server", f"{INTERFACE}:{self.relay}"]
        await self.covey(*words)

    def _record(self) -> None:
        """Problem where the file can't be made."""
        recorder = Recorder(
            self.capture / "run.pcap", self.group, [self.carrier, *self.ike_ports()]
        )
        try:
            recorder.open()
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise Problem(f"{recorder.path} can't be written: {why}.") from error
        self.recorder = self.tap.recorder = recorder

    async def _follow_keys(self) -> None:
        """As a person would, and before anybody registers."""
        self.keys = Child("keys", self.folder)
        self._children.append(self.keys)
        words = ["keys", "--export", self.capture, "--follow", "--yes", "--json", "--site", "site"]
        await self.keys.start([sys.executable, "-m", "covey_host.demo.leash", *words])
        await self.keys.hear(lambda e: e["event"] == "exported")

    def ike_ports(self) -> dict[int, bool]:
        """UDP ports where the key server is talked to, and whether with the marker."""
        return {self.listen: True, self.plain: False, self.relay: False}

    async def _start_attacker(self) -> None:
        self.attacker = Child("attacker", self.folder)
        self._children.append(self.attacker)
        await self.attacker.start([sys.executable, "-m", "covey_host.demo.attacker"])
        where = {
            "group": self.group,
            "port": self.carrier,
            "application": APPLICATION_PORT,
            "interface": INTERFACE,
            "seed": self._seed,
            "relay": [INTERFACE, self.relay],
            "server": [INTERFACE, self.plain],
        }
        self.attacker.tell(json.dumps(where))
        ready = await self.attacker.hear(lambda e: e["event"] == "ready")
        self.tap.forged_from = ready["from_port"]

    async def end(self) -> dict[str, int]:
        """Members leave, then the others end: exit statuses by name."""
        members = [*self.members, self.guest]
        statuses = await asyncio.gather(*(m.leave() for m in members))
        ended = {m.name: status for m, status in zip(members, statuses, strict=True)}
        ended["attacker"] = await self.attacker.end()
        if self.capture:  # while the server can still be asked for the last ones
            ended["keys"] = await self.keys.end(signal.SIGTERM)
        ended["server"] = await self.server.end(signal.SIGTERM)
        if self.recorder:
            self.tap.recorder = None
            self.recorder.close()
        return ended
