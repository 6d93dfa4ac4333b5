"""The `covey` command without a server: what it makes, what it says, how it refuses."""

import base64
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from covey import aio, config
from covey.fields import parse_psk
from covey_host import cli, commands
from covey_host.errors import Problem
from covey_host.psk import check, psk_of
from covey_host.site import Site
from covey_host.vault.opening import open_store
from processes import ENVIRONMENT, PATIENCE_S, run, start

_GROUP = ("group", "add", "line1", "--address", "239.192.1.32", "--port", "2222")
_MEMBER = ("member", "add", "press-7", "--group", "line1")
_RANDOM = bytes.fromhex("8f21c4b9d0037e5aa61178ff3c92e4550bd7196ea84f30c2517d8be69034acf1")
_AT = ("--port", "2222", "--address")


class Said:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def refusal(self):
        """The one sentence of a command that failed."""
        assert self.status in (1, 2), self
        assert self.err.count("\n") == 1 and self.err.endswith(".\n") or "--help" in self.err, self
        assert "Traceback" not in self.err and not self.out, self
        return self.err

    def __repr__(self):
        return f"{self.status} {self.out!r} {self.err!r}"


@pytest.fixture
def covey(capsys, monkeypatch, tmp_path):
    """Run one command in this process, in an empty current directory."""
    monkeypatch.delenv("COVEY_SITE", raising=False)
    monkeypatch.delenv("COVEY_DEBUG", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Said(ended.value.code, said.out, said.err)

    return call


@pytest.fixture
def site(covey, monkeypatch, tmp_path):
    """A site with one group, named by COVEY_SITE."""
    root = tmp_path / "site"
    assert covey("init", root).status == 0
    monkeypatch.setenv("COVEY_SITE", str(root))
    assert covey(*_GROUP).status == 0
    return root


def modes(root):
    return {
        str(each.relative_to(root)): oct(stat.S_IMODE(each.lstat().st_mode))
        for each in [root, *root.rglob("*")]
    }


def objects(said):
    assert said.status == 0, said
    return [json.loads(line) for line in said.out.splitlines()]


# init


def test_init_here_and_elsewhere(covey, tmp_path):
    assert covey("init").status == 0
    assert sorted(os.listdir(".")) == [".gitignore", "covey.toml", "site.key", "state.db"]
    said = covey("init", tmp_path / "there", "--identity", "gcks.example")
    assert said.status == 0 and str(tmp_path / "there") in said.out
    assert 'identity = "gcks.example"' in (tmp_path / "there" / "covey.toml").read_text()


def test_init_twice_is_refused_and_changes_nothing(covey):
    covey("init")
    before = {name: open(name, "rb").read() for name in os.listdir(".")}
    said = covey("init")
    assert said.status == 2 and "never overwritten" in said.refusal
    assert {name: open(name, "rb").read() for name in os.listdir(".")} == before


def test_init_refuses_an_identity_that_no_member_could_check(covey):
    for bad in ("no name", 'a"b', "", "x" * 300):
        said = covey("init", "new", "--identity", bad)
        assert said.status == 2 and "--identity must be a domain name" in said.refusal
    assert os.listdir(".") == []


def test_two_sites_have_two_signing_keys(covey, tmp_path):
    keys = []
    for name in ("a", "b"):
        covey("init", name)
        store = open_store(Site(tmp_path / "here" / name))
        keys.append(store.read("authority/signing-key")[0])
        store.close()
    assert keys[0] and keys[1] and keys[0] != keys[1]


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_every_file_is_private_whatever_the_umask(tmp_path, mask):
    root = tmp_path / "site"
    for arguments in (("init", root), (*_GROUP, "--site", root), (*_MEMBER, "--site", root)):
        child = run("-m", "covey_host", *arguments, umask=mask)
        assert child.returncode == 0, child.stderr
    for name, mode in modes(root).items():
        assert mode == ("0o700" if (root / name).is_dir() else "0o600"), name
    assert set(modes(root)) == {
        ".",
        ".gitignore",
        "covey.toml",
        "site.key",
        "state.db",
        "state.lock",
        "audit.log",
        "members",
        "members/press-7",
        "members/press-7/covey.json",
        "members/press-7/psk",
        "members/press-7/seed",
    }


# Groups


def test_groups_are_listed_as_added(covey, site):
    said = covey(
        "group", "add", "line2", "--address", "239.192.1.33", "--port", 2223, "--lifetime", "30m"
    )
    assert said.status == 0 and "line2" in said.out
    found = objects(covey("group", "list", "--json"))
    assert [(g["group"], g["address"], g["port"], g["lifetime_s"]) for g in found] == [
        ("line1", "239.192.1.32", 2222, 3600),
        ("line2", "239.192.1.33", 2223, 1800),
    ]
    assert "239.192.1.33" in covey("group", "list").out


def test_a_group_of_the_ip_carrier(covey, site):
    """Its members' covey.json says nothing of it: "ip" is what a member takes for granted."""
    where = ("--address", "239.192.1.34", "--port", 2224)
    assert covey("group", "add", "bare", *where, "--carrier", "ip").status == 0
    found = objects(covey("group", "list", "--json"))
    assert [g["carrier"] for g in found] == ["udp", "ip"]
    assert covey("member", "add", "saw", "--group", "bare").status == 0
    assert "carrier" not in json.loads((site / "members/saw/covey.json").read_text())
    [status] = objects(covey("status", "--json"))
    assert status["groups"]["bare"]["carrier"] == "ip"
    assert status["groups"]["line1"]["carrier"] == "udp"


def test_a_group_that_is_rekeyed_inband(covey, site):
    where = ("--address", "239.192.1.34", "--port", 2224)
    assert covey("group", "add", "few", *where, "--rekey", "inband").status == 0
    assert [g["rekey"] for g in objects(covey("group", "list", "--json"))] == [
        "multicast",
        "inband",
    ]
    assert 'rekey = "inband"' in (site / "covey.toml").read_text()


def test_a_group_whose_data_go_in_clear(covey, site):
    """No other group's table says anything of it."""
    where = ("--address", "239.192.1.34", "--port", 2224)
    assert covey("group", "add", "open", *where, "--integrity-only").status == 0
    lines = (site / "covey.toml").read_text().splitlines()
    assert [line for line in lines if "integrity_only" in line and line[0] != "#"] == [
        "integrity_only = true"
    ]
    found = objects(covey("group", "list", "--json"))
    assert [g["integrity_only"] for g in found] == [False, True]
    [status] = objects(covey("status", "--json"))
    told = {name: group["integrity_only"] for name, group in status["groups"].items()}
    assert told == {"line1": False, "open": True}
    shown = covey("status").out.splitlines()
    assert [line for line in shown if "integrity_only=yes" in line] == [
        line for line in shown if line.startswith("group group=open ")
    ]


@pytest.mark.parametrize(
    "change, word",
    [
        ({"--address": "10.0.0.1"}, "multicast"),
        ({"--address": "here"}, "address"),
        ({"--address": "239.192.1.32"}, "its own"),
        ({"--port": "0"}, "--port"),
        ({"--port": "70000"}, "--port"),
        ({"--port": "x"}, "--port"),
        ({"--lifetime": "soon"}, "lifetime"),
        ({"--lifetime": "5s"}, "lifetime"),
        ({"--carrier": "pigeon"}, "carrier"),
        ({"--rekey": "sometimes"}, "rekey"),
        ({"--source-auth": "oath"}, "source_auth"),
    ],
)
def test_a_group_with_a_mistake_leaves_covey_toml_alone(covey, site, change, word):
    before = (site / "covey.toml").read_bytes()
    wanted = {"--address": "239.192.1.40", "--port": "2222", **change}
    said = covey("group", "add", "line2", *[part for item in wanted.items() for part in item])
    assert said.status == 2 and word in said.refusal
    assert (site / "covey.toml").read_bytes() == before


@pytest.mark.parametrize("name", ["../x", "a b", "a\nb", "", "line1"])
def test_group_names(covey, site, name):
    said = covey("group", "add", name, "--address", "239.192.1.40", "--port", 1)
    assert said.status == 2 and said.refusal


# Members


def test_a_member_gets_what_its_board_needs(covey, site):
    said = covey(*_MEMBER, "--sender", "--server", "192.0.2.9", "--ttl", 4)
    assert said.status == 0 and "192.0.2.9:4500" in said.out
    directory = site / "members" / "press-7"
    settings = config.load(str(directory / "covey.json"))
    assert (settings.group, settings.idi, settings.sender) == (b"line1", b"press-7", True)
    assert settings.ttl == 4 and settings.interface is None
    assert settings.idr.decode() in (site / "covey.toml").read_text()
    server = settings.servers[0]
    assert (server.host, server.port, server.marker) == ("192.0.2.9", 4500, True)
    text = (directory / "psk").read_text()
    assert len(text.strip()) == 64 and bytes.fromhex(text) == bytes(settings.psk)
    assert text.strip() not in said.out + said.err
    assert sorted(os.listdir(directory)) == ["covey.json", "psk", "seed"]
    assert len((directory / "seed").read_bytes()) == 32
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    assert os.listdir(site / "members") == ["press-7"]


def test_members_have_different_keys_and_are_listed(covey, site):
    covey(*_MEMBER)
    covey("member", "add", "robot.2", "--group", "line1", "--sender")
    keys = {path.read_text() for path in site.glob("members/*/psk")}
    assert len(keys) == 2
    assert len({path.read_bytes() for path in site.glob("members/*/seed")}) == 2
    found = objects(covey("member", "list", "--json"))
    how = {"auth": "psk", "delivery": "multicast", "ppk": "none"}
    assert found == [
        {"member": "press-7", "group": "line1", "role": "receiver", "sender": False, **how},
        {"member": "robot.2", "group": "line1", "role": "both", "sender": True, **how},
    ]
    said = covey("member", "list")
    assert "press-7" in said.out and "robot.2" in said.out
    for key in keys:
        assert key.strip() not in said.out


def test_where_members_find_the_server(covey, site):
    text = (site / "covey.toml").read_text()
    (site / "covey.toml").write_text(
        text.replace('listen = ["0.0.0.0:4500"]', 'listen = ["192.0.2.1:5500", "0.0.0.0:848"]')
    )
    covey(*_MEMBER)
    covey("member", "add", "b", "--group", "line1", "--server", "gcks.example:848")
    covey("member", "add", "c", "--group", "line1", "--server", "gcks.example:4500")
    found = [
        json.loads((site / "members" / name / "covey.json").read_text())["servers"]
        for name in ("press-7", "b", "c")
    ]
    assert found == [
        [{"host": "192.0.2.1", "port": 5500, "marker": False}],
        [{"host": "gcks.example", "port": 848, "marker": False}],
        [{"host": "gcks.example", "port": 4500, "marker": True}],
    ]


def test_unicast_delivery_of_a_member(covey, site):
    assert covey(*_MEMBER, "--delivery", "unicast").status == 0
    fields = json.loads((site / "members/press-7/covey.json").read_text())
    assert (fields["delivery"], fields["liveness_s"]) == ("unicast", 15)
    assert config.load(str(site / "members/press-7/covey.json")).is_relayed
    [row] = objects(covey("member", "list", "--json"))
    assert row["delivery"] == "unicast"
    for words, says in (
        (("--delivery", "broadcast"), "use multicast or unicast"),
        (("--delivery", "unicast", "--server", "10.0.0.1:848"), "have no marker"),
    ):
        said = covey("member", "add", "b", "--group", "line1", *words)
        assert said.status == 2 and says in said.refusal
    assert covey("group", "add", "raw", *_AT, "239.1.1.9", "--carrier", "ip").status == 0
    said = covey("member", "add", "b", "--group", "raw", "--delivery", "unicast")
    assert said.status == 2 and "takes carrier udp" in said.refusal
    mac = "239.1.1.7", "--source-auth", "mac"
    assert covey("group", "add", "proven", *_AT, *mac).status == 0
    said = covey("member", "add", "b", "--group", "proven", "--delivery", "unicast")
    assert said.status == 2 and "no source_auth" in said.refusal
    assert covey("group", "add", "far", *_AT, "239.1.1.8", "--delivery", "unicast").status == 0
    said = covey("member", "add", "b", "--group", "far", "--delivery", "multicast")
    assert said.status == 2 and "for all its members" in said.refusal
    assert covey("member", "add", "b", "--group", "far").status == 0
    fields = json.loads((site / "members/b/covey.json").read_text())
    assert (fields["delivery"], fields["liveness_s"]) == ("unicast", 15)
    found = {row["member"]: row["delivery"] for row in objects(covey("member", "list", "--json"))}
    assert found == {"press-7": "unicast", "b": "unicast"}
    far = [row for row in objects(covey("group", "list", "--json")) if row["group"] == "far"]
    assert (far[0]["delivery"], far[0]["rekey"]) == ("unicast", "inband")


def test_several_servers(covey, site):
    said = covey(*_MEMBER, "--server", "10.0.0.1:848", "--server", "10.0.0.2")
    assert said.status == 0 and "at 10.0.0.1:848 or 10.0.0.2:4500." in said.out
    servers = config.load(str(site / "members/press-7/covey.json")).servers
    assert [(s.host, s.port, s.marker) for s in servers] == [
        ("10.0.0.1", 848, False),
        ("10.0.0.2", 4500, True),
    ]


def test_all_servers_that_the_site_names(covey, site):
    text = (site / "covey.toml").read_text()
    (site / "covey.toml").write_text('servers = ["10.0.0.1", "gcks.example:848"]\n' + text)
    said = covey(*_MEMBER)
    assert said.status == 0 and "at 10.0.0.1:4500 or gcks.example:848." in said.out
    servers = config.load(str(site / "members/press-7/covey.json")).servers
    assert [(s.host, s.port, s.marker) for s in servers] == [
        ("10.0.0.1", 4500, True),
        ("gcks.example", 848, False),
    ]
    covey("member", "add", "b", "--group", "line1", "--server", "10.0.0.3")
    assert len(config.load(str(site / "members/b/covey.json")).servers) == 1
    said = covey("member", "add", "c", "--group", "line1", "--delivery", "unicast")
    assert said.status == 2 and "gcks.example:848, where IKE" in said.refusal


def test_one_of_several_servers_that_is_none(covey, site):
    said = covey(*_MEMBER, "--server", "10.0.0.1", "--server", "10.0.0.2:x")
    assert said.status == 2 and "10.0.0.2:x" in said.refusal
    assert not (site / "members").exists()


@pytest.mark.parametrize("server", ["", "a b", "host:0", "host:65536", "host:x", "[::1]:4500"])
def test_servers_that_are_none(covey, site, server):
    said = covey(*_MEMBER, "--server", server)
    assert said.status == 2 and "HOST:PORT" in said.refusal


@pytest.mark.parametrize(
    "octets, psk",
    [
        (_RANDOM.hex().encode() + b"\n", _RANDOM),
        (_RANDOM.hex().upper().encode(), _RANDOM),
        (_RANDOM, _RANDOM),
        (_RANDOM + b"more\n", _RANDOM + b"more"),
    ],
)
def test_the_key_of_a_foreign_peer(covey, site, tmp_path, octets, psk):
    (tmp_path / "key").write_bytes(octets)
    said = covey(*_MEMBER, "--psk-file", tmp_path / "key")
    assert said.status == 0 and psk.hex() not in said.out
    settings = config.load(str(site / "members" / "press-7" / "covey.json"))
    assert bytes(settings.psk) == psk


@pytest.mark.parametrize(
    "octets, weakness",
    [
        (_RANDOM[:31], "of 31 octets"),
        (b"00112233445566778899aabbccddeeff\n", "of 16 octets"),
        (b"correct horse battery staple, and more of them", "which is text"),
        (base64.b64encode(_RANDOM), "which is text"),
        ("ein Kennwort mit Umlauten: äöü, und länger".encode(), "which is text"),
        (b"\xff" + b"k" * 40, "of few different octets"),
        (bytes(range(200, 240)), "which counts"),
        (bytes(range(250, 180, -2)), "which counts"),
        (_RANDOM[:20] * 2, "which repeats itself"),
        (b"00" * 32, "which is text"),
    ],
)
def test_a_key_that_can_be_guessed(covey, site, tmp_path, octets, weakness):
    (tmp_path / "key").write_bytes(octets)
    said = covey(*_MEMBER, "--psk-file", tmp_path / "key")
    assert said.status == 2 and f"a weak pre-shared key, {weakness}: let" in said.refusal
    assert not any(octets[at : at + 8].hex() in said.err for at in range(len(octets) - 8))
    assert objects(covey("member", "list", "--json")) == []
    with pytest.raises(Problem, match="The request holds a weak"):
        psk_of(bytes(parse_psk(octets)).hex())


def test_what_is_drawn_is_never_refused():
    for _ in range(2000):
        check(psk_of(None), "chance")


@pytest.mark.parametrize("octets", [None, b"", b"too short", b"0" * 33])
def test_a_file_without_a_key(covey, site, tmp_path, octets):
    if octets is not None:
        (tmp_path / "key").write_bytes(octets)
    said = covey(*_MEMBER, "--psk-file", tmp_path / "key")
    assert said.status == 2 and str(tmp_path / "key") in said.refusal
    assert not (site / "members").exists()
    assert objects(covey("member", "list", "--json")) == []


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("press-7", "--group", "line9"), "no group 'line9'"),
        (("press-7", "--group", "line1", "--auth", "cert", "--psk-file", "x"), "--auth psk"),
        (("press-7", "--group", "line1", "--csr", "x"), "--auth cert"),
        (("press-7", "--group", "line1", "--auth", "cert", "--csr", "nosuch"), "can't be read"),
        (("press-7", "--group", "line1", "--auth", "password"), "psk"),
        (("press-7", "--group", "line1", "--interface", "nosuch0"), "interface"),
        (("press-7", "--group", "line1", "--ttl", "0"), "--ttl"),
        (("../press", "--group", "line1"), "member"),
        (("press-7",), "--group"),
        (("--group", "line1"), "name"),
    ],
)
def test_a_member_with_a_mistake_is_not_made(covey, site, arguments, word):
    said = covey("member", "add", *arguments)
    assert said.status == 2 and word in said.refusal
    assert not list(site.glob("members/*"))
    assert objects(covey("member", "list", "--json")) == []


def test_a_member_is_not_added_twice_and_keeps_its_key(covey, site):
    covey(*_MEMBER)
    key = (site / "members" / "press-7" / "psk").read_bytes()
    said = covey(*_MEMBER)
    assert said.status == 2 and "member already" in said.refusal
    assert (site / "members" / "press-7" / "psk").read_bytes() == key


def test_members_are_removed_together_all_or_none(covey, site):
    for name in ("press-7", "press-8", "press-9"):
        covey("member", "add", name, "--group", "line1")
    wrong = covey("member", "remove", "press-7", "press-99", "press-8")
    assert wrong.status == 2 and "press-99" in wrong.refusal
    assert len(objects(covey("member", "list", "--json"))) == 3
    said = covey("member", "remove", "press-7", "press-8", "press-7")
    assert said.status == 0 and "they can still read" in said.out
    assert [row["member"] for row in objects(covey("member", "list", "--json"))] == ["press-9"]
    again = covey("member", "remove", "press-9", "press-8")
    assert again.status == 1 and "already" in again.refusal
    assert covey("member", "remove").status == 2


def test_a_removed_member_is_gone_and_may_come_back_with_another_key(covey, site):
    covey(*_MEMBER)
    key = (site / "members" / "press-7" / "psk").read_bytes()
    said = covey("member", "remove", "press-7")
    assert said.status == 0 and "no key server is running" in said.out
    assert objects(covey("member", "list", "--json")) == []
    again = covey("member", "remove", "press-7")
    assert again.status == 1 and "already" in again.refusal
    never = covey("member", "remove", "press-8")
    assert never.status == 2 and "press-8" in never.refusal
    assert covey(*_MEMBER, "--sender").status == 0
    assert (site / "members" / "press-7" / "psk").read_bytes() != key
    assert json.loads((site / "members" / "press-7" / "covey.json").read_text())["sender"] is True


# Without a server


def test_rekey_without_a_server_says_what_will_happen(covey, site):
    said = covey("rekey", "line1")
    assert said.status == 0 and "No key server is running" in said.out
    said = covey("rekey", "line9")
    assert said.status == 2 and "no group 'line9'" in said.refusal


def test_status_without_a_server(covey, site):
    covey(*_MEMBER)
    (found,) = objects(covey("status", "--json"))
    assert found["event"] == "status" and found["server"] is None
    said = covey("status")
    assert said.status == 0 and "line1" in said.out and "not running" in said.out


def test_reload_without_a_server_checks_the_file(covey, site):
    assert "no key server is running" in covey("reload").out
    with open(site / "covey.toml", "a") as file:
        file.write("[group.bad]\nadress = 1\n")
    line = len((site / "covey.toml").read_text().splitlines())
    for command in (("reload",), ("group", "list"), ("serve",), ("rekey", "line1"), ("status",)):
        said = covey(*command)
        assert said.status == 2 and f"covey.toml:{line}:" in said.refusal, said


_COMMANDS = [
    _GROUP,
    ("group", "list"),
    _MEMBER,
    ("member", "remove", "press-7"),
    ("member", "list"),
    ("serve",),
    ("status",),
    ("status", "--json"),
    ("rekey", "line1"),
    ("reload",),
    ("join", "press-7"),
]


@pytest.mark.parametrize("command", _COMMANDS)
def test_where_there_is_no_site(covey, command, tmp_path):
    said = covey(*command)
    assert said.status == 2 and "no site" in said.refusal and "covey init" in said.err
    said = covey(*command, "--site", tmp_path / "nowhere")
    assert said.status == 2 and "nowhere" in said.refusal
    assert os.listdir(".") == []


@pytest.mark.parametrize("command", [c for c in _COMMANDS if c[0] not in ("join", "reload")])
def test_a_store_that_is_damaged(covey, site, command):
    if command == ("group", "list"):
        return  # needs no store
    with open(site / "state.db", "r+b") as file:
        file.write(b"garbage" * 20)
    said = covey(*command)
    assert said.status == 1 and "not a Covey store" in said.refusal


def test_a_store_that_others_can_read(covey, site):
    (site / "state.db").chmod(0o644)
    said = covey("member", "list")
    assert said.status == 1 and "chmod 600" in said.refusal


def test_a_command_waits_for_another_one_and_then_gives_up(covey, site, monkeypatch):
    store = open_store(Site(site))
    store.lock("a test")
    monkeypatch.setattr(commands, "_LOCK_WAIT_S", 0.2)
    said = covey("member", "list")
    assert said.status == 1 and "a test, process" in said.refusal
    monkeypatch.setattr(commands, "_LOCK_WAIT_S", 20)
    timer = threading.Timer(0.3, store.close)
    timer.start()
    assert objects(covey("member", "list", "--json")) == []
    timer.join()


# serve


def test_an_interface_that_is_not_here_is_refused_before_there_are_groups(covey, tmp_path):
    covey("init", tmp_path / "bare")
    said = covey("serve", "--site", tmp_path / "bare", "--interface", "203.0.113.1")
    assert said.status == 2 and "no address of this machine" in said.refusal


# join


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("press-9",), "member add"),
        (("../press-7/x",), "../press-7/x"),
        (("/nowhere/covey.json",), "/nowhere/covey.json"),
        (("press-7", "--send", "x"), "receiver"),
        (("press-7", "--interface", "nosuch0"), "interface"),
        (("press-7", "--interface", "203.0.113.1"), "no address of this machine"),
        (("press-7", "--count", "0"), "--count"),
    ],
)
def test_a_join_that_cannot_begin(covey, site, arguments, word):
    covey(*_MEMBER)
    said = covey("join", *arguments)
    assert word in said.refusal


@pytest.mark.parametrize("typed, meant", [((), None), (("--timeout", "3"), 3)])
def test_a_join_lasts_until_every_server_was_asked(covey, site, monkeypatch, typed, meant):
    """30 s, the default once, were over before the second server's turn came."""
    asked = []

    def join(settings, on_event, timeout_s):
        asked.append(timeout_s)
        raise aio.JoinError("enough")

    monkeypatch.setattr(aio, "join", join)
    covey(*_MEMBER, "--server", "10.0.0.1", "--server", "10.0.0.2")
    assert "enough" in covey("join", "press-7", *typed).err
    assert asked == [meant]


def test_a_join_with_a_mistake_in_covey_json(covey, site):
    covey(*_MEMBER)
    path = site / "members" / "press-7" / "covey.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    for name in ("press-7", path, path.parent / "."):
        said = covey("join", name)
        assert said.status == 2 and "version" in said.refusal


def test_a_join_with_files_that_may_not_be_read(covey, site, monkeypatch):
    def denied(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    covey(*_MEMBER)
    path = site / "members" / "press-7" / "covey.json"
    monkeypatch.setattr(os, "stat", denied)
    monkeypatch.setattr("builtins.open", denied)
    said = covey("join", path)
    assert said.status == 2 and "covey.json can't be read: Permission denied" in said.refusal


# The command line itself


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("nonsense",), "nonsense"),
        (("group",), "command"),
        (("group", "nonsense"), "nonsense"),
        (("rekey",), "group"),
        (("rekey", "a", "b"), "b"),
        (("status", "--nonsense"), "--nonsense"),
        (("group", "add", "x", "--port", "1"), "--address"),
        (("join", "x", "--count", "many"), "--count"),
    ],
)
def test_misuse_is_one_sentence(covey, arguments, word):
    said = covey(*arguments)
    assert said.status == 2 and word in said.refusal


def test_help(covey):
    for arguments in ((), ("--help",), ("-h",), ("group", "--help"), ("member", "add", "-h")):
        said = covey(*arguments)
        assert said.status == 0 and "Usage" in said.out and not said.err
    assert "certificates" in covey("init", "--help").out


def test_a_fault_inside_is_a_sentence_and_a_traceback_only_on_request(covey, site, monkeypatch):
    def broken(*_):
        raise KeyError("0f1e2d3c")

    monkeypatch.setattr(commands, "member_list", broken)
    said = covey("member", "list")
    assert said.status == 1 and "COVEY_DEBUG=1" in said.refusal
    assert "0f1e2d3c" not in said.err
    monkeypatch.setenv("COVEY_DEBUG", "1")
    assert "Traceback" in covey("member", "list").err


def test_an_interrupt_is_clean(covey, site, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "member_list", interrupted)
    said = covey("member", "list")
    assert (said.status, said.out, said.err) == (130, "", "")


def test_a_reader_that_goes_away(site):
    child = subprocess.Popen(
        [sys.executable, "-m", "covey_host", "group", "list", "--json"],
        env={**ENVIRONMENT, "COVEY_SITE": str(site)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    assert child.wait() in (0, 1) and err == b""


def test_ctrl_c_for_real_while_waiting_for_a_server(site):
    environment = {**ENVIRONMENT, "COVEY_SITE": str(site)}
    add = run("-m", "covey_host", *_MEMBER, "--server", "127.0.0.1:9", env=environment)
    assert add.returncode == 0, add.stderr
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        child = start("-m", "covey_host", "join", "press-7", env=environment)
        assert "registering" in child.stderr.readline()
        time.sleep(0.1)
        child.send_signal(number)
        out, err = child.communicate(timeout=PATIENCE_S)
        assert child.returncode == status, err
        assert "Traceback" not in err and "Error" not in err


def test_ctrl_c_while_modules_load_is_quiet_too():
    source = (
        "import os, signal, sys, time\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'covey_host.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            time.sleep(5)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from covey_host.__main__ import main\n"
        "main()\n"
    )
    done = run("-c", source)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
