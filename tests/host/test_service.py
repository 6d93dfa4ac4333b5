"""The key server as a service: its user, systemd, health, the end of it, its log's priorities."""

import asyncio
import json
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from covey_host import output
from covey_host.audit import reader
from covey_host.audit.chain import BEGIN
from covey_host.errors import MISUSE, Problem
from covey_host.gcks import Out, troubles
from covey_host.gcks import server as servers
from covey_host.gcks.sockets import Address
from covey_host.service import health, unit
from covey_host.service.account import Account
from covey_host.service.notify import Notifier
from covey_host.site import Site
from covey_host.store import sqlite
from gcks_site import Site as Plant
from processes import PATIENCE_S, run, wait_until
from site_bench import Bench

PROGRAM = Path("/opt/covey/bin/covey")


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


# sd_notify


@pytest.fixture
def ear(tmp_path):
    """systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE_S)
        yield sock


def environment(ear, **more):
    return {"NOTIFY_SOCKET": ear.getsockname(), **more}


def test_what_systemd_is_told(ear):
    told = environment(ear, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()), OTHER="x")
    notifier = Notifier(told)
    assert told == {"OTHER": "x"} and notifier.watchdog_s == 1.5
    notifier.ready("1 group")
    assert ear.recv(1000) == b"READY=1\nSTATUS=1 group"
    notifier.reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]+", ear.recv(1000))
    notifier.alive()
    assert ear.recv(1000) == b"WATCHDOG=1"
    notifier.stopping()
    assert ear.recv(1000) == b"STOPPING=1"
    notifier.close()


def test_an_abstract_socket():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0covey-test-{os.getpid()}")
        notifier = Notifier({"NOTIFY_SOCKET": f"@covey-test-{os.getpid()}"})
        notifier.alive()
        assert sock.recv(100) == b"WATCHDOG=1"
        notifier.close()


@pytest.mark.parametrize(
    "watchdog",
    [
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ],
)
def test_a_watchdog_that_is_none_of_ours(ear, watchdog):
    assert Notifier(environment(ear, **watchdog)).watchdog_s is None


def test_without_systemd_or_with_one_that_is_gone(tmp_path):
    Notifier({"WATCHDOG_USEC": "5000"}).alive()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("x")


# Its user


@pytest.mark.parametrize("name, word", [("nosuch-user", "no user"), ("root", "not root")])
def test_users_that_it_can_t_be(bench, name, word):
    said = bench.covey("serve", "--user", name, status=MISUSE)
    assert word in said and said.count("\n") == 1


def test_only_root_becomes_another(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Problem, match="Only root can become nobody"):
        Account("nobody")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_that_may_not(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "initgroups", refuse)
    with pytest.raises(Problem, match="can't become nobody"):
        Account("nobody").assume()


_AS_NOBODY = """
import os, sys
from covey_host.service.account import Account
account = Account("nobody")
account.assume()
seen = [os.geteuid()]
with account.as_root():
    seen.append(os.geteuid())
account.drop()
try:
    os.seteuid(0)
    seen.append("root again")
except PermissionError:
    pass
print(seen, os.getresuid(), os.getresgid(), sorted(set(os.getgroups())))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_is_given_up_for_good():
    nobody = pwd.getpwnam("nobody")
    user, group = nobody.pw_uid, nobody.pw_gid
    child = run("-c", _AS_NOBODY)
    wanted = [user, 0], (user,) * 3, (group,) * 3, sorted(set(os.getgrouplist("nobody", group)))
    assert child.stdout.strip() == " ".join(map(str, wanted)), child.stderr


# The unit


@pytest.fixture
def installed(monkeypatch):
    """Wherever this tree lies, `covey` lies where a service can reach it."""
    monkeypatch.setattr(unit, "_program", lambda: PROGRAM)


def text_of(root="/srv/plant", user="covey", arguments=(), name="covey"):
    return unit.unit(Site(Path(root)), user, name, list(arguments))


def test_a_unit_names_its_site_and_shuts_the_rest(installed):
    text = text_of(arguments=["--interface", "192.0.2.1"])
    assert f"\nExecStart={PROGRAM} serve --site /srv/plant --interface 192.0.2.1\n" in text
    assert "\nReadWritePaths=/srv/plant\n" in text and "\nUser=covey\n" in text
    assert "ProtectHome=yes" in text
    assert "ProtectHome=read-only" in text_of("/home/anna/plant")


def test_the_unit_of_one_of_several_drains_first(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(unit, "_TEMPORARY", ())
    files = 'ca = "/home/anna/ca"\ncert = "/etc/cert"\nkey = "/etc/key"\n'
    (tmp_path / "store.toml").write_text('url = "etcd://a/x"\n' + files)
    text = text_of(tmp_path)
    assert f"\nExecStop=-{PROGRAM} drain --site {tmp_path}\n" in text
    assert "\nTimeoutStopSec=40\n" in text and "ExecStop" not in text_of()
    assert "ProtectHome=read-only" in text  # a certificate is there


@pytest.mark.parametrize("root", ["/tmp/plant", "/srv/my plant", "/srv/%h", '/srv/"x', "/srv/\n"])
def test_sites_that_no_unit_can_reach(installed, root):
    with pytest.raises(Problem) as refused:
        text_of(root)
    assert refused.value.sentence.count("\n") == 0 and refused.value.status == MISUSE


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_unit_and_finds_little_exposed(monkeypatch, tmp_path):
    monkeypatch.setattr(unit, "_TEMPORARY", ())  # it looks whether the program is there
    file = tmp_path / "covey.service"
    file.write_text(text_of())
    verify = ["systemd-analyze", "verify", str(file)]
    checked = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0 and "Unknown" not in checked.stderr, checked.stderr
    security = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager"]
    judged = subprocess.run(
        [*security, str(file)], check=False, capture_output=True, text=True, timeout=60
    )
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr


def test_covey_runs_without_a_home_that_can_be_read(tmp_path):
    """As under ProtectHome: what boards need looks for files there."""
    code = "import covey_host.cli, sys; print('esptool' in sys.modules)"
    assert run("-c", code).stdout == "False\n"


# Its log


class Stderr:
    """A file in place of the terminal."""

    def __init__(self, path):
        self.file = open(path, "w+")  # noqa: SIM115

    def __enter__(self):
        return self.file

    def __exit__(self, *_):
        self.file.close()


def test_lines_begin_with_a_priority_where_the_journal_reads_them(tmp_path, monkeypatch):
    with Stderr(tmp_path / "err") as err:
        status = os.fstat(err.fileno())
        monkeypatch.setattr(sys, "stderr", err)
        for stream in (f"{status.st_dev}:{status.st_ino}", "1:1"):
            monkeypatch.setenv("JOURNAL_STREAM", stream)
            for as_json in (True, False):
                log = output.Log(as_json)
                log.event("trouble", reason="x")
                log.event("serving")
        lines = (tmp_path / "err").read_text().splitlines()
    assert [line[:3] for line in lines[:4]] == ["<4>", "<6>", "<4>", "<6>"]
    assert [json.loads(line[3:])["level"] for line in lines[:2]] == ["warning", "info"]
    assert all(line[0] != "<" for line in lines[4:])


def test_troubles_are_told_once_in_a_while_and_remembered(monkeypatch):
    told, now = [], [100.0]
    monkeypatch.setattr(troubles.time, "monotonic", lambda: now[0])
    made = troubles.Troubles(told.append)
    for _ in range(50):
        made.trouble("One.")
    made.trouble("Two.")
    assert told == ["One.", "Two."] and set(made.recent()) == {"One.", "Two."}
    now[0] += 11
    made.trouble("One.")
    assert told[2:] == ["One."] and made.recent() == ["One.", "Two."]
    now[0] += 50
    assert made.recent() == ["One."]
    for number in range(5000):
        made.trouble(f"{number}.")
    assert len(made._told) <= 1001


def test_a_fault_is_named_by_its_place_not_by_what_it_holds():
    told = []
    try:
        raise ValueError("secret")
    except ValueError as error:
        troubles.Troubles(told.append).fault(error)
    assert re.fullmatch(r"A fault inside: ValueError in test_service.py:\d+\.", told[0])


# Health


def test_faults_of_store_audit_log_and_groups(tmp_path):
    store = sqlite.create(tmp_path / "state.db")
    fine = {"groups": {"line1": {"epoch": 3}}}
    assert health.faults(store, None, fine) == []
    assert health.faults(store, "No.", {"groups": {"x": {"epoch": None}}}) == [
        "No.",
        "Group x has no keys.",
    ]
    store._db.execute("PRAGMA query_only = ON")
    (said,) = health.faults(store, None, fine)
    assert "read-only" in said
    store.close()


def test_health_without_a_server(bench):
    assert bench.covey("health", status=1) == "No key server is running.\n"


# The end


class KeyServer:
    def __init__(self, polls):
        self.polls = polls

    @property
    def is_settled(self):
        self.polls -= 1
        return self.polls < 0


@pytest.mark.parametrize("stop_at, left", [(None, -1), (2, 2)])
def test_what_is_said_by_halves_is_ended_unless_one_is_in_a_hurry(
    tmp_path, monkeypatch, stop_at, left
):
    monkeypatch.setattr(servers, "_FINISH_POLL_S", 0)
    made = servers.Server(Site(tmp_path), output.Log(True), None, None)
    made._keyserver = KeyServer(4)

    async def end():
        made._stopped = asyncio.get_running_loop().create_future()
        made._stop(0)
        finishing = asyncio.create_task(made._finish())
        while not finishing.done():
            await asyncio.sleep(0)
            if made._keyserver.polls == stop_at:
                made._stop(0)
        await finishing

    asyncio.run(end())
    assert made._keyserver.polls == left


def test_a_key_server_is_settled_when_a_removal_is_through(tmp_path):
    plant = Plant(tmp_path / "state.db")
    for name in ("a", "b", "c"):
        plant.add(name)
        plant.gm(name)
    plant.wait(30_000)
    assert plant.server.is_settled
    plant.send(plant.server.remove_member("a", plant.now))
    assert not plant.server.is_settled  # the message with the new keys comes a second later
    plant.wait(2_000)
    assert plant.server.is_settled
    plant.store.close()


# What is said


def test_nobody_hears_of_what_the_audit_log_does_not_tell(tmp_path, monkeypatch):
    order = []

    class Endpoint:
        def send(self, data, address):
            order.append(data)
            return 0

    made = servers.Server(Site(tmp_path), output.Log(True), None, None)
    made._endpoints = [Endpoint()]
    monkeypatch.setattr(made._chronicle, "tell", lambda: order.append("told"))
    where = Address(0, "192.0.2.1", 848, b"")
    made.send([Out(b"one", where, None), Out(b"two", where, None)])
    assert order == ["told", b"one", b"two"]


# All of it


def test_a_service_from_its_start_to_a_kill(bench, ear):
    """READY, a signal to reload with a mistake and without, health, SIGTERM, kill -9; and the
    audit log of all that is whole."""
    bench.environment |= environment(ear, WATCHDOG_USEC="200000")
    server = bench.serve()
    assert ear.recv(1000).startswith(b"READY=1\nSTATUS=1 groups")
    assert bench.covey("health") == "The key server does its work.\n"
    if hasattr(resource, "prlimit"):
        assert resource.prlimit(server.pid, resource.RLIMIT_CORE)[0] == 0
    before, right = bench.epoch(), (bench.root / "covey.toml").read_text()
    heard = []

    def tells(word):
        heard.append(ear.recv(1000))
        return heard[-1].startswith(word)

    for text, rekeys in ((right + "atd = soon\n", False), (right + "lifetime = '2h'\n", True)):
        (bench.root / "covey.toml").write_text(text)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: tells(b"RELOADING=1"))
        wait_until(lambda: tells(b"READY=1"))
        assert (bench.epoch() > before) == rekeys
    assert b"WATCHDOG=1" in heard or wait_until(lambda: tells(b"WATCHDOG=1"))
    bench.member("press-7")
    told = json.loads(bench.covey("health", "--json"))
    assert told["healthy"] and any("covey.toml:" in said for said in told["troubles"])
    assert [e["event"] for e in bench.events(server)][-1] == "stopped"
    wait_until(lambda: tells(b"STOPPING=1"))

    server = bench.serve()
    bench.covey("rekey", "line1")
    bench.end(server, signal.SIGKILL)
    assert reader.verify(Site(bench.root), BEGIN).found == []
    entries = [json.loads(line) for line in reader.lines(bench.root)]
    me = pwd.getpwuid(os.getuid()).pw_name
    said = [(e["event"], e.get("command"), e["by"]) for e in entries]
    signalled = {"signal": "SIGHUP"}
    assert said[:6] == [
        ("started", None, "server"),
        ("command", "reload", signalled),
        ("failed", "reload", signalled),
        ("command", "reload", signalled),
        ("reloaded", None, signalled),
        ("rekeyed", None, signalled),
    ]
    added = next(e for e in entries if e["event"] == "added")
    assert added["by"]["user"] == me and added["by"]["process"] == os.getpid()
    assert said[-2][:2] == ("command", "rekey") and said[-1][0] == "rekeyed"
    assert [e["event"] for e in entries].count("stopped") == 1
