"""A site of ours with a running key server, its members, and foreign ones."""

import json
from hashlib import sha256

from foreign_esp import free_group
from foreign_gm_udp import GM, Wire
from member_process import join
from site_bench import GROUP, Bench

KEY = sha256(b"of a foreign member").digest()


class Plant(Bench):
    """Two groups, at the port that RFC 7296 and RFC 3948 name; foreign members, all of one key."""

    def __init__(self, root, marker):
        super().__init__(root)
        self.edit(f"carrier_port = {self.carrier_port}", "carrier_port = 4500")
        self.address = free_group()
        self.edit(GROUP, self.address)
        if marker:
            listen = f'"127.0.0.1:{self.port}"'
            self.edit(f"[{listen}]", f"[{{ address = {listen}, marker = true }}]")
        with open(root / "covey.toml", "a") as file:
            file.write(
                f'\n[group.line2]\naddress = "{free_group()}"\nport = 2223\nkey_bits = 256\n'
                "fresh_join = false\n"
            )
        self.marker = marker
        (root / "key").write_bytes(KEY)
        shared = ("--psk-file", root / "key")
        for name in ("press-7", "saw", "drill"):
            self.member(name, "--sender", *shared)
        self.member("lamp", *shared)
        self.member("press-8", "--sender")
        where = ("--group", "line2", "--server", f"127.0.0.1:{self.port}")
        self.covey("member", "add", "oven", "--sender", *where, *shared)
        self.site = json.loads((root / "members/saw/covey.json").read_text())["idr"].encode()
        self.server = self.serve()
        self._others = []

    def gm(self, name="press-7", wants=1, **how):
        wire = Wire(self.port, self.marker)
        self._others.append(GM(wire, self.site, name.encode(), KEY, wants=wants, **how))
        return self._others[-1]

    def join(self, name="press-8"):
        """A member of ours that sends what it is told to, and tells what it hears."""
        member = join(self.root / "members" / name / "covey.json", "--send", "-", "--listen")
        self._others.append(member)
        member.heard("status")
        return member

    def clear(self):
        for other in self._others:
            other.close()
        self._others = []
