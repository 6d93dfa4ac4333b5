"""A site of ours that serves every port there is, and foreign members that are citizens of it."""

import json

from foreign_citizen import Citizen
from foreign_esp import free_group
from foreign_nat import LIKE_500, PORTS, Nat, own_host
from foreign_plant import KEY
from foreign_road import Road
from member_process import join
from site_bench import GROUP, Bench

NAMES = ("press-7", "saw", "drill", "lathe", "mill", "forge", "crane", "kiln")


class City(Bench):
    """settings: lines of covey.toml for the site; group: lines for group line1."""

    def __init__(self, root, settings="", group=""):
        super().__init__(root)
        self.host = own_host()
        listen = ", ".join(f'"{self.host}:{port}"' for port in PORTS)
        self.edit(f'["127.0.0.1:{self.port}"]', f"[{listen}]")
        self.edit('ike_idle = "10m"\n', f'ike_idle = "10m"\n{settings}\n')
        self.edit(f"carrier_port = {self.carrier_port}", f"carrier_port = 4500\n{group}")
        self.edit(GROUP, free_group())
        (root / "key").write_bytes(KEY)
        for name in NAMES:
            self.member(name, "--sender", "--psk-file", root / "key")
        self.site = json.loads((root / "members/saw/covey.json").read_text())["idr"].encode()
        self.server = self.serve()
        self._others = []

    def member(self, name, *arguments):
        where = ("--server", f"{self.host}:{LIKE_500}", "--interface", "127.0.0.1")
        return self.covey("member", "add", name, "--group", "line1", *where, *arguments)

    def gm(self, name="press-7", at=LIKE_500, host=None, source="127.0.0.1", wants=1, **how):
        road = Road(host or self.host, PORTS, at, source)
        return self.keep(Citizen(road, self.site, name.encode(), KEY, wants=wants, **how))

    def ours(self, name):
        """A member of ours that sends what it is told to, and tells what it hears."""
        config = self.root / "members" / name / "covey.json"
        member = self.keep(join(config, "--send", "-", "--listen"))
        member.heard("status")
        return member

    def nat(self):
        return self.keep(Nat(self.host, PORTS))

    def keep(self, other):
        self._others.insert(0, other)
        return other

    def counters(self):
        return self.status()["counters"]

    def members(self):
        return self.status()["groups"]["line1"]["members"]

    def clear(self):
        for other in self._others:
            other.close()
        self._others = []
