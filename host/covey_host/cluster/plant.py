"""A cluster from its folder to its end: etcd, key servers, members, and what lies between them.

    member --UDP-- server s0 s1 s2 ==link sI-nJ== etcd n0 n1 n2 ==link nJ== the other nodes

Every machine has links of its own, so that each can be cut off from each. Members and data are on
the loopback interface, and are not harmed: they lose what they send to a server that is.
"""

import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .. import control
from ..demo import person
from ..demo.cast import ROOT, Child, Lost, Member
from ..demo.ports import tcp_ports, udp_ports
from ..store.etcdrows import span
from ..store.place import Place
from . import links, nodes
from .machines import HOST, Machine
from .nodes import Node, text

GROUP = "line1"
APPLICATION_PORT = 2222
SETTINGS = """\
atd = "1s"
dtd = "3s"
rejoin_spread = "1s"
repeat_spacing = "300ms"
fresh_join = false
"""
_PATIENCE_S = 60
_ANSWER_S = 1
_POLL_S = 0.05


class Plant:
    """open(), then everything else, then close()."""

    def __init__(
        self,
        servers: int = 3,
        etcds: int = 3,
        options: tuple[str, ...] = nodes.TUNED,
        settings: str = SETTINGS,
        serve: Callable[[str], tuple[str, ...]] = lambda name: (),
    ):
        """options: of etcd. settings: of the group. serve: of a server's name, what is typed
        behind `covey serve`."""
        chance = random.Random()  # two clusters side by side must not meet
        self.group = f"239.{chance.randrange(192, 196)}.{chance.randrange(256)}.9"
        (ROOT / ".build").mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=ROOT / ".build"))
        self.carrier, *listen = udp_ports(1 + servers)
        tcp = iter(tcp_ports(3 * etcds + servers * etcds))
        self.nodes = [
            Node(self.folder, f"n{i}", *(next(tcp) for _ in "abc")) for i in range(etcds)
        ]
        self.machines = [
            Machine(self.folder, f"s{i}", listen[i], serve(f"s{i}")) for i in range(servers)
        ]
        self.members: dict[str, Member] = {}  # all that were ever added
        self.on_member: Callable[[str, int, dict], None] = lambda name, process, event: None
        self._options, self._settings = options, settings
        straight = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        self.place = Place(f"etcd://{straight}/plant")
        self._ways = {(m.name, n.name): next(tcp) for m in self.machines for n in self.nodes}
        self._links = Child("links", self.folder)
        self._orders = 0
        self._children: list[Child] = []

    async def open(self) -> None:
        """etcd runs and holds the site; each machine has its directory; no server runs."""
        await self._links.start([sys.executable, "-m", "covey_host.cluster.links"])
        ways: dict[str, tuple[int, int]] = {
            f"{m}-{n.name}": (self._ways[m, n.name], n.port)
            for m in (each.name for each in self.machines)
            for n in self.nodes
        }
        for node in self.nodes:
            ways[node.name] = int(node.url.rpartition(":")[2]), node.peer_port
        await self._order({"open": ways})
        for node in self.nodes:
            await self.start_node(node)
        for node in self.nodes:
            await node.up()
        await self._make_site()

    async def close(self, keep: bool = False) -> None:
        """End what still runs, remove the folder unless it is to be kept."""
        for each in (*self.machines, *self.nodes):
            each.signal(signal.SIGCONT)
        await asyncio.gather(*(each.kill() for each in (*self.machines, *self.nodes)))
        children = [*self._children, self._links]
        await asyncio.gather(*(child.end() for child in children if child.status is None))
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """The last resort, when there is no time to be polite."""
        for each in (*self.machines, *self.nodes):
            each.signal(signal.SIGKILL)
        for child in (*self._children, self._links):
            child.kill()

    # Members

    async def add_member(self, name: str, *words: str, at: int = 0) -> None:
        """To the site, at one of the machines: its files are there."""
        machine = self.machines[at]
        how = ["member", "add", name, "--group", GROUP, "--interface", HOST, *words]
        for each in self.machines:
            how += ["--server", f"{HOST}:{each.port}"]
        await machine.covey(*how)

    async def start_member(self, member: Member, at: int = 0) -> None:
        """A player, as the demo's, of which add_member() has made the files. Not waited for."""
        name = member.name
        process = sum(child.name.startswith(f"{name}-") for child in self._children) + 1

        def hear(event: dict) -> None:
            member.note(event)
            self.on_member(name, process, event)

        member.child = Child(f"{name}-{process}", self.folder, hear)
        self._children.append(member.child)
        self.members[name] = member
        await member.start(self.machines[at].site.members / name / "covey.json")

    async def joined(self, *members: Member) -> None:
        """Until they listen to their group. Lost where one can't, or it takes too long."""
        for member in members:
            await self.until(partial(_has_begun, member), f"{member.name} registers")
            if "failed" in member.events:
                raise Lost(f"{member.name} could not join: see {member.child.name}.log.")
            await member.report()

    # What harms it

    async def part(self, a: str, b: str, mode: str = links.HOLD) -> None:
        """Between a server and a node, or two nodes: what passes from now on, see links."""
        await self._order({"set": self._way(a, b, mode)})

    async def isolate(self, name: str, mode: str = links.HOLD) -> None:
        """A node from all others and all servers; a server from all nodes."""
        others = [node.name for node in self.nodes if node.name != name]
        if name.startswith("n"):
            others += [machine.name for machine in self.machines]
        rules = [rule for other in others for rule in self._way(name, other, mode)]
        await self._order({"set": rules})

    async def slow(self, ms: int) -> None:
        """All links take so long from now on, those between etcd's nodes too."""
        await self._order({"slow": ms})

    async def start_node(self, node: Node) -> None:
        """Not waited for."""
        await node.start(self.nodes, self._options)

    async def heal(self) -> None:
        """All passes again, at once."""
        await self.slow(0)
        for machine in self.machines:
            await self.isolate(machine.name, links.PASS)
        for node in self.nodes:
            await self.isolate(node.name, links.PASS)

    def _way(self, a: str, b: str, mode: str) -> list[list]:
        ids = {node.name: node.id for node in self.nodes}
        if a in ids and b in ids:
            return [[a, ids[b], mode], [b, ids[a], mode]]
        server, node = (b, a) if a in ids else (a, b)
        return [[f"{server}-{node}", "", mode]]

    # Asking

    def status(self, at: int = 0) -> dict | None:
        """As a server answers, at once: of a process that doesn't run, None."""
        return control.call(self.machines[at].site.control, {"do": "status"})

    async def revision(self) -> int:
        """Of the newest write below the site's prefix, which most nodes agree on."""
        start, end = span(self.place.prefix)
        body = {"key": text(start), "range_end": text(end), "sort_target": "MOD"}
        body |= {"sort_order": "DESCEND", "limit": "1", "keys_only": True}
        last: Exception = OSError("none runs")
        for node in self.nodes:
            try:
                found = await node.ask("kv/range", body)
                return int(found["kvs"][0]["mod_revision"])
            except OSError as error:
                last = error
        raise Lost(f"No etcd node answers: {last}.")

    async def holder(self) -> Machine | None:
        """Of the newest term that any server knows of; None where none does."""
        found = await asyncio.gather(*(machine.status(_ANSWER_S) for machine in self.machines))
        known = [each["cluster"] for each in found if each and each.get("cluster")]
        if not known:
            return None
        name = max(known, key=lambda one: one["term"] or 0)["holder"]
        return next((machine for machine in self.machines if machine.name == name), None)

    async def leader(self) -> Node | None:
        """Of etcd's nodes."""
        found = await asyncio.gather(*(node.is_leader() for node in self.nodes))
        return next((node for node, is_it in zip(self.nodes, found, strict=True) if is_it), None)

    async def until(
        self, condition: Callable[[], bool], what: str, patience_s: float = _PATIENCE_S
    ) -> None:
        """Lost where it does not come about."""
        end = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > end:
                raise Lost(f"This did not come about in {patience_s} s: {what}.")
            await asyncio.sleep(_POLL_S)

    # Setting up

    async def _order(self, order: dict) -> None:
        self._orders += 1
        n = self._orders
        self._links.tell(json.dumps({"order": n, **order}))
        await self._links.hear(lambda event: event.get("order") == n)

    async def _make_site(self) -> None:
        maker = Machine(self.folder, "maker", self.machines[0].port)
        await maker.covey("init", "maker", "--identity", "gcks.cluster")
        policy = maker.site.policy
        person.listen(policy, f'"{HOST}:{maker.port}"')
        port = str(APPLICATION_PORT)
        await maker.covey("group", "add", GROUP, "--address", self.group, "--port", port)
        with open(policy, "a") as file:
            file.write(f"carrier_port = {self.carrier}\n{self._settings}")
        await maker.covey("store", "copy", "state.db", self.place.url)
        for machine in self.machines:
            ways = ",".join(f"{HOST}:{self._ways[machine.name, n.name]}" for n in self.nodes)
            machine.settle(maker.site, f"etcd://{ways}/plant")


def _has_begun(member: Member) -> bool:
    return "listening" in member.events or "failed" in member.events
