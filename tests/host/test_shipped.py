"""The very code of a board's image, but for the architecture: chosen, shrunk, at -O3. All other
tests run what has its asserts and the key server's half. Real members, a real key server.
"""

import functools
import json

import pytest

import test_ip_carrier
from covey_host.board import code
from member_process import join, micropython
from processes import ROOT
from site_bench import Bench


@pytest.fixture(scope="session")
def lib(tmp_path_factory):
    """A function: the folder of what main.py loads on this architecture."""

    @functools.cache
    def of(arch, *roles):
        folder = tmp_path_factory.mktemp(arch)
        application = (ROOT / "tests" / "member_script.py").read_text()
        found = code.select([application], arch, ("udp", "ip", *roles), ())
        for name, octets in code.compile_all(found, arch)[0].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(octets)
        return folder

    return of


class _Members:
    """Those of one site: two as shipped, one on CPython."""

    def __init__(self, bench, lib):
        self.bench = bench
        self._lib = lib
        self._all = []

    def join(self, name, arch=None, auth="psk", **fields):
        self.bench.member(name, "--sender", "--auth", auth)
        roles = ["certificates"] if auth == "cert" else []
        path = self.bench.root / "members" / name / "covey.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        if arch:
            made = micropython(path, arch=arch, lib=self._lib(arch, *roles))
        else:
            made = join(path, "--send", "-", "--listen")
        self._all.append(made)
        made.heard("status")
        return made

    def all_hear_each_other(self, members, word):
        for number, member in enumerate(members):
            text = f"{word} {number}"
            member.say(text)
            for other in members:
                if other is not member:
                    other.packet(text.encode())

    def close(self):
        for member in self._all:
            member.close()
        self.bench.close()


@pytest.fixture
def site(tmp_path, lib):
    """A function: a key server that runs, and members to come. policy: a line for the group."""
    made = []

    def of(policy="", bench=Bench):
        members = _Members(bench(tmp_path / "site"), lib)
        made.append(members)
        line = f"carrier_port = {members.bench.carrier_port}"
        members.bench.edit(line, f"{line}\n{policy}")
        members.bench.serve()
        return members

    yield of
    for members in made:
        members.close()


def test_rekeys_an_eviction_fragments_and_the_end(site):
    members = site()
    press = members.join("press", "x86", fragment_size=300, limits={"sas": 4, "payload": 300})
    robot = members.join("robot", "x64", auth="cert", fragment_size=500)
    desk = members.join("desk")
    members.all_hear_each_other((press, robot, desk), "hello")
    for n in (1, 2):
        members.bench.covey("rekey", "line1")
        for member in (press, robot, desk):
            member.heard("rekeyed", n)
        members.all_hear_each_other((press, robot, desk), f"rekeyed {n}")
    members.bench.covey("member", "remove", "robot")
    for member in (press, desk):
        member.heard("rekeyed", 3)
    assert robot.heard("refused")
    members.all_hear_each_other((press, desk), "without it")
    assert press.leave()[0] == 0


def test_inband(site):
    """Its policy comes over the IKE SA: what answers a key server's requests is loaded late."""
    members = site('rekey = "inband"')
    press, robot = members.join("press", "x86"), members.join("robot", "x64")
    members.all_hear_each_other((press, robot), "hello")
    members.bench.covey("rekey", "line1")
    for member in (press, robot):
        member.heard("rekeyed")
    members.all_hear_each_other((press, robot), "rekeyed")
    members.bench.covey("member", "remove", "robot")
    robot.heard("refused")
    assert press.leave()[0] == 0


@test_ip_carrier.ROOT_ONLY
def test_the_ip_carrier(site):
    members = site(bench=test_ip_carrier.Plant)
    press, robot = members.join("press", "x86"), members.join("robot", "x64")
    members.all_hear_each_other((press, robot), "hello")
    members.bench.covey("rekey", "line1")
    for member in (press, robot):
        member.heard("rekeyed")
    members.all_hear_each_other((press, robot), "rekeyed")
