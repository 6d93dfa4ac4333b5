"""The very code of a board's image, but for the architecture: chosen, shrunk, at -O3. All other
tests run what has its asserts and the key server's half. Real members, a real key server; and
applications that are no member.
"""

import functools
import json
import subprocess

import pytest

import test_ip_carrier
from covey_host.board import code
from member_process import join, micropython
from processes import ROOT
from site_bench import Bench
from test_micropython import interpreter, without


def ship(application, arch, roles, folder):
    """Put there what an application (its text) can come to load on this architecture."""
    found = code.select([application], arch, ("udp", "ip", *roles), ())
    for name, octets in code.compile_all(found, arch)[0].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)
    return folder


@pytest.fixture(scope="session")
def lib(tmp_path_factory):
    """A function: the folder of what main.py loads on this architecture."""

    @functools.cache
    def of(arch, *roles):
        application = (ROOT / "tests" / "member_script.py").read_text()
        return ship(application, arch, roles, tmp_path_factory.mktemp(arch))

    return of


class _Members:
    """Those of one site: two as shipped, one on CPython."""

    def __init__(self, bench, lib):
        self.bench = bench
        self._lib = lib
        self._all = []

    def join(self, name, arch=None, auth="psk", roles=(), **fields):
        self.bench.member(name, "--sender", "--auth", auth)
        roles = [*roles, "certificates"] if auth == "cert" else roles
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


# In the place of a kernel: it tells of each call, and hands it on to the real one.
WATCHER = """
import covey.port.real
from covey.port import real

def watched(name, function):
    def call(*args):
        print('{"event": "kernel", "function": "%s"}' % name)
        return function(*args)
    return call

for name in dir(real):
    it = getattr(real, name)
    globals()[name] = watched(name, it) if callable(it) else it
"""


def kernels_in(folder):
    return {path.stem for path in folder.glob("covey/port/mpy_ghash*")}


def test_constant_time(site, lib):
    """A board's option. Its image has one kernel, whose time tells nothing; and that does it."""
    members = site()
    folder = lib("x86", code.CONSTANT_TIME)
    assert kernels_in(folder) == {"mpy_ghash_ct"} and kernels_in(lib("x86")) == {"mpy_ghash"}
    assert not (folder / "covey/port/mpy_tables.mpy").exists()
    kernel = folder / "covey/port/mpy_ghash_ct.mpy"
    kernel.rename(kernel.with_name("real.mpy"))
    kernel.with_suffix(".py").write_text(WATCHER)
    press = members.join("press", "x86", roles=[code.CONSTANT_TIME])
    robot = members.join("robot", "x64")
    before = press.count("kernel")
    members.all_hear_each_other((press, robot), "hello")
    heard = {event["function"] for event in press.events if event["event"] == "kernel"}
    assert len(heard) >= 2, "a key was made, and used"
    assert press.count("kernel") >= before + 2 > 2, "each packet; before them IKE's messages"
    members.bench.covey("rekey", "line1")
    for member in (press, robot):
        member.heard("rekeyed")
    members.all_hear_each_other((press, robot), "rekeyed")
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


# Applications that are no member: {which of Covey's files it imports: (its text, what it prints)}
SMALL = {
    "gcm": (
        "from covey import gcm\n"
        "context, buf = gcm.GCMContext(bytes(range(20))), bytearray(8 + 8 + 4 + 16)\n"
        "buf[16:20] = b'text'\n"
        "context.seal(buf, 0, 8, 4)\n"
        "print(bytes(buf[16:20]) != b'text', context.open(buf, 0, 8, 4), bytes(buf[16:20]))\n"
        "buf[0] = 1\n"
        "print(context.open(buf, 0, 8, 4))\n",
        "True True b'text'\nFalse\n",
    ),
    "config": (
        "from covey import config\n"
        "fields = {'version': 1, 'group': 'line1', 'idi': 'press-7'}\n"
        "fields['servers'] = [{'host': '192.0.2.10'}]\n"
        "found = config.Config(fields, psk=bytes(range(32)))\n"
        "print(found.idi, found.servers[0].port, found.limit_sas)\n",
        "b'press-7' 4500 8\n",
    ),
    "drops": (
        "from covey.drops import DROP_TAG, ConfigError\n"
        "try:\n    raise ConfigError('no such file')\n"
        "except ConfigError as error:\n    print(DROP_TAG, error)\n",
        "-10 no such file\n",
    ),
    "cip": (
        "from covey import cip\n"
        "made, frame = cip.Producer(b'\\1\\0\\1\\0'), bytearray(24)\n"
        "n = made.emit(frame, 0, 4)\n"
        "print(n, cip.parse(frame, 0, n), cip.count(frame, 0))\n",
        "24 4 1\n",
    ),
    "port": (
        "from covey import port\n"
        "print(port.ticks_diff(port.ticks_add(port.ticks_ms(), 5000), port.ticks_ms()) > 4000)\n"
        "print(len(port.random_bytes(7)))\n",
        "True\n7\n",
    ),
}


@pytest.mark.parametrize("arch", ["x86", "x64"])
@pytest.mark.parametrize("name", SMALL)
def test_an_application_that_is_no_member(name, arch, tmp_path):
    text, expected = SMALL[name]
    assert printed(text, arch, (), tmp_path) == expected


@pytest.mark.parametrize("arch", ["x86", "x64"])
def test_an_application_on_a_board_in_constant_time(arch, tmp_path):
    """It may say so itself, too: before the first key."""
    text, expected = SMALL["gcm"]
    text += "import sys\nprint([name for name in sys.modules if 'mpy_ghash' in name])\n"
    expected += "['covey.port.mpy_ghash_ct']\n"
    for folder, before in (("silent", ""), ("says", "gcm.GCMContext.set_constant_time()\n")):
        whole = text.replace("\n", "\n" + before, 1)
        assert printed(whole, arch, (code.CONSTANT_TIME,), tmp_path / folder) == expected


def printed(text, arch, roles, folder):
    wrapper, reason = interpreter(arch)
    if wrapper is None:
        without(arch, reason)
    done = subprocess.run(
        [wrapper, "-c", text],
        env={"MICROPYPATH": f"{ship(text, arch, roles, folder)}:.frozen"},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout
