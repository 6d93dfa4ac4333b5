"""`covey serve` as processes see it: sockets, commands, kills, bad datagrams, what it logs."""

import json
import os
import random
import re
import resource
import signal
import socket
import stat
import threading
import time

import pytest

from processes import PATIENCE_S, run, start, wait_until
from site_bench import GROUP, Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
def wire():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


# Starting and stopping


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_serves_until_a_signal_and_removes_its_socket(bench, number, status):
    server = bench.serve()
    control = bench.root / "run" / "control.sock"
    assert stat.S_ISSOCK(control.stat().st_mode)
    assert server.heard[-1]["listen"] == [f"127.0.0.1:{bench.port}"]
    ended, out, err = bench.end(server, number)
    assert ended == status and out == ""
    assert json.loads(err.splitlines()[-1])["event"] == "stopped"
    assert not control.exists()


def test_its_log_without_json_is_for_people(bench):
    server = bench.launch("serve", "--interface", "127.0.0.1")
    line = server.stderr.readline()
    assert " serving " in line and f"127.0.0.1:{bench.port}" in line
    _, out, err = bench.end(server)
    assert out == "" and " stopped " in err


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_every_file_of_a_running_site_is_private(tmp_path, mask):
    before = os.umask(mask)
    try:
        bench = Bench(tmp_path / "site")
        bench.member("press-7")
        server = bench.serve()
        bench.covey("group", "add", "line2", "--address", "239.192.77.2", "--port", "1")
    finally:
        os.umask(before)
    found = {}
    for path in [bench.root, *bench.root.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        found[str(path.relative_to(bench.root))] = stat.S_IMODE(path.lstat().st_mode)
        assert found[str(path.relative_to(bench.root))] == wanted, path
    assert {"run/control.sock", "state.db-wal", "state.db-shm", "state.lock"} < set(found)
    bench.end(server)
    bench.close()


def test_a_second_server_on_the_site_is_told_who_is_first(bench):
    server = bench.serve()
    before = bench.epoch()
    said = bench.covey("serve", status=1)
    assert f"covey serve, process {server.pid}" in said and said.count("\n") == 1
    assert bench.epoch() == before and server.poll() is None


def test_it_waits_for_a_command_that_holds_the_store(bench):
    store = bench.store()
    store.lock("covey member add")
    timer = threading.Timer(0.8, store.close)
    timer.start()
    bench.end(bench.serve())
    timer.join()


def test_a_port_in_use_is_named_and_nothing_has_changed(bench, tmp_path):
    first = bench.serve()
    other = Bench(tmp_path / "other")
    other.edit(f"127.0.0.1:{other.port}", f"127.0.0.1:{bench.port}")
    said = other.covey("serve", "--interface", "127.0.0.1", status=1)
    assert f"UDP port {bench.port}" in said and "in use" in said and said.count("\n") == 1
    assert other.epoch() is None
    assert first.poll() is None
    other.close()


@pytest.mark.parametrize(
    "arguments, status, word",
    [
        (("--interface", "nosuch0"), 2, "no interface"),
        (("--interface", "203.0.113.1"), 2, "no address of this machine"),
        (("--ttl", "256"), 2, "--ttl"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_it_does_not_start_with_a_mistake(bench, arguments, status, word):
    said = bench.covey("serve", *arguments, status=status)
    assert word in said and said.count("\n") == 1
    assert bench.epoch() is None


def test_a_mistake_in_covey_toml_is_named_by_its_line(bench):
    with open(bench.root / "covey.toml", "a") as file:
        file.write("atd = soon\n")
    line = len((bench.root / "covey.toml").read_text().splitlines())
    assert f"covey.toml:{line}" in bench.covey("serve", status=2)


_NO_ROUTE = """
import errno, socket, sys
from covey_host import cli
def connect(*_):
    raise OSError(errno.ENETUNREACH, "Network is unreachable")
socket.socket.connect = connect
cli.main(["serve", "--site", sys.argv[1]])
"""


def test_without_a_multicast_route(bench):
    child = run("-c", _NO_ROUTE, bench.root)
    assert child.returncode == 1 and f"no multicast route to {GROUP}" in child.stderr
    assert "--interface" in child.stderr and child.stderr.count("\n") == 1
    assert bench.epoch() is None


def test_plain_ports_are_served_too_or_skipped_by_name(bench):
    """Beside the default port only; whoever holds 4500 here makes this start fail by name."""
    bench.edit(f"127.0.0.1:{bench.port}", "127.77.0.1:4500")
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    can_bind = True
    try:
        holder.bind(("127.77.0.1", 848))
    except PermissionError:
        can_bind = False
    server = bench.serve()
    facts = server.heard[-1]
    assert "127.77.0.1:4500" in facts["listen"] and "127.77.0.1:848" in facts["skipped"]
    assert ("127.77.0.1:500" in facts["listen"]) == can_bind
    (told,) = [e for e in server.heard if e["event"] == "skipped" and e["port"] == 848]
    assert "848" in told["reason"] and "covey.toml" not in told["reason"]
    bench.end(server)
    holder.close()


# Kills


def test_it_is_killed_and_starts_again_each_time_with_new_keys(bench):
    """kill -9 while commands run: what was acknowledged is there, no epoch or key comes twice."""
    rounds = random.Random(3)
    acknowledged, epochs, spis = [], [], set()
    for i in range(4):
        server = bench.serve()
        group = bench.status()["groups"]["line1"]
        epochs.append(group["epoch"])
        spis.add(group["spi"])
        bench.member(f"m{i}")
        acknowledged.append(f"m{i}")
        adding = bench.launch("member", "add", f"x{i}", "--group", "line1")
        rekeying = bench.launch("rekey", "line1")
        time.sleep(rounds.random() * 0.5)
        bench.events(server, signal.SIGKILL)
        for child, name in ((adding, f"x{i}"), (rekeying, None)):
            out, err = child.communicate(timeout=PATIENCE_S)
            bench.said += out + err
            assert err.count("\n") <= 1
            if child.returncode == 0 and name:
                acknowledged.append(name)
        assert (bench.root / "run" / "control.sock").exists()  # it had no time to remove it
        listed = bench.covey("member", "list", "--json").splitlines()
        assert set(acknowledged) <= {json.loads(line)["member"] for line in listed}
    server = bench.serve()
    group = bench.status()["groups"]["line1"]
    epochs.append(group["epoch"])
    spis.add(group["spi"])
    assert epochs == sorted(set(epochs)) and len(spis) == 5
    bench.end(server)


def test_a_removal_is_durable_when_it_is_acknowledged(bench):
    bench.member("press-7")
    server = bench.serve()
    assert "Removed press-7" in bench.covey("member", "remove", "press-7")
    bench.events(server, signal.SIGKILL)
    assert bench.covey("member", "list") == ""
    server = bench.serve()
    assert bench.covey("member", "list") == ""
    assert "already" in bench.covey("member", "remove", "press-7", status=1)
    bench.end(server)


# Commands to a running server


def test_commands_reach_the_running_server(bench):
    server = bench.serve()
    first = bench.epoch()
    assert bench.covey("rekey", "line1") == "Rekeyed line1.\n"
    assert bench.epoch() == first + 1
    bench.member("press-7", "--sender")
    facts = bench.status()
    assert facts["server"]["process"] == server.pid
    assert [m["member"] for m in facts["members"]] == ["press-7"]
    assert f"process {server.pid}" in bench.covey("status")
    assert "no group 'line9'" in bench.covey("rekey", "line9", status=2)
    assert "no group 'line9'" in bench.covey("member", "add", "x", "--group", "line9", status=2)
    assert "member already" in bench.covey(
        "member", "add", "press-7", "--group", "line1", status=2
    )
    assert "press-8" in bench.covey("member", "remove", "press-8", status=2)
    events = bench.events(server)
    assert [e["member"] for e in events if e["event"] == "added"] == ["press-7"]
    after = bench.status()
    assert after["server"] is None and after["groups"]["line1"]["epoch"] == first + 1


def test_groups_are_added_and_covey_toml_read_again(bench):
    server = bench.serve()
    bench.covey("group", "add", "line2", "--address", "239.192.77.2", "--port", "1")
    assert bench.status()["groups"]["line2"]["epoch"] == 1
    before = bench.epoch()
    text = (bench.root / "covey.toml").read_text()
    (bench.root / "covey.toml").write_text(text + "colour = 1\n")
    line = len(text.splitlines()) + 1
    assert f"covey.toml:{line}" in bench.covey("reload", status=2)
    server.send_signal(signal.SIGHUP)
    told = json.loads(server.stderr.readline())
    while told["event"] != "trouble":
        told = json.loads(server.stderr.readline())
    assert f"covey.toml:{line}" in told["reason"]
    assert bench.epoch() == before  # what was in force stays in force
    bench.covey("rekey", "line1")  # and is rekeyed, half-edited file or not
    before += 1
    assert bench.epoch() == before
    (bench.root / "covey.toml").write_text(text.replace('dtd = "1s"', 'dtd = "2s"'))
    assert "has taken" in bench.covey("reload")
    assert bench.epoch() == before + 1
    bench.end(server)


def test_listen_waits_for_the_next_start_and_the_person_is_told(bench):
    """The sockets are open: all else of the file is taken, and nobody is led to believe more."""
    server = bench.serve()
    before = bench.epoch()
    bench.edit(f"127.0.0.1:{bench.port}", "127.0.0.1:4500")
    bench.edit('dtd = "1s"', 'dtd = "2s"')
    said = bench.covey("reload")
    assert "has taken" in said and "`listen`" in said and "next start" in said
    assert bench.epoch() == before + 1
    facts = bench.status()["server"]
    assert facts["listen"] == [f"127.0.0.1:{bench.port}"]
    server.send_signal(signal.SIGHUP)
    told = json.loads(server.stderr.readline())
    while told["event"] != "trouble":
        told = json.loads(server.stderr.readline())
    assert "`listen`" in told["reason"]
    bench.edit("127.0.0.1:4500", f"127.0.0.1:{bench.port}")
    assert "`listen`" not in bench.covey("reload")
    bench.end(server)


def test_status_and_members_of_a_stopped_server(bench):
    bench.member("press-7")
    bench.end(bench.serve())
    facts = bench.status()
    assert facts["server"] is None and facts["groups"]["line1"]["epoch"] == 1
    assert [m["member"] for m in facts["members"]] == ["press-7"]


def test_it_ends_quietly_while_a_client_does_not_read_its_answers(bench):
    server = bench.serve()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(bench.root / "run" / "control.sock"))
        sock.sendall(b'{"do": "status"}\n' * 1500)
        time.sleep(0.5)
        events = bench.events(server)  # each line of its log is an event: no traceback
    assert events[-1]["event"] == "stopped"


def test_nonsense_on_the_control_socket(bench):
    server = bench.serve()
    path = str(bench.root / "run" / "control.sock")
    for request in (
        {},
        {"do": None},
        {"do": "explode"},
        {"do": ["rekey"]},
        {"do": "rekey"},
        {"do": "rekey", "group": 7},
        {"do": "group add", "group": "x"},
        {"do": "group add", "group": "x", "settings": {"address": 7}},
        {"do": "group add", "group": "x", "settings": {"address": "239.1.1.1", "port": {}}},
        {"do": "member add", "member": "../x", "group": "line1"},
        {"do": "member add", "member": "x", "group": "line1", "psk": 7},
        {"do": "member add", "member": "x", "group": "line1", "psk": "00"},
        {"do": "member add", "member": "x", "group": "line1", "servers": "nowhere"},
        {"do": "member add", "member": "x", "group": "line1", "servers": ["nowhere"]},
        {"do": "member add", "member": "x", "group": "line1", "servers": []},
        {"do": "member remove", "members": None},
        {"do": "member remove", "members": []},
        {"do": "member remove", "members": ["press-7", 8]},
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(sock.makefile("rb").readline())
        assert answer["ok"] is False and answer["problem"], request
    assert bench.covey("member", "list") == ""
    assert not list((bench.root).glob("members/*"))
    events = bench.events(server)
    assert not [e for e in events if e["event"] == "trouble"], events


# Datagrams


def test_no_datagram_stops_it(bench, wire):
    server = bench.serve()
    to = ("127.0.0.1", bench.port)
    chance = random.Random(5)
    for length in [*range(40), 100, 1500, 9000, 16384, 16385, 65000]:
        wire.sendto(chance.randbytes(length), to)
        wire.sendto(bytes(length), to)
        wire.sendto(b"\xff" * length, to)
    for _ in range(300):  # headers that look right, with anything behind
        head = chance.randbytes(8) + bytes(8) + bytes([33, 0x20, 34, 8]) + bytes(4)
        body = chance.randbytes(chance.randrange(200))
        wire.sendto(head + (28 + len(body)).to_bytes(4, "big") + body, to)
    wait_until(lambda: bench.status()["server"]["drops"].get("length", 0) >= 3)
    facts = bench.status()
    assert facts["server"]["drops"]["empty"] == 3  # they came first
    assert facts["groups"]["line1"]["members"] == []
    assert bench.covey("rekey", "line1")
    events = bench.events(server)
    assert not [e for e in events if "fault" in str(e.get("reason"))], events


_FAULTY = """
import sys
from covey_host import cli
from covey_host.errors import Problem
from covey_host.gcks.keyserver import KeyServer
receive = KeyServer.receive
def faulty(self, data, address, now_ms):
    if data == b"fault":
        return 1 // 0
    if data == b"problem":
        raise Problem("The disk is full.")
    return receive(self, data, address, now_ms)
KeyServer.receive = faulty
cli.main(["serve", "--json", "--interface", "127.0.0.1", "--site", sys.argv[1]])
"""


def test_a_fault_inside_ends_one_datagram_and_is_told_once_in_a_while(bench, wire):
    server = bench.watch(start("-c", _FAULTY, bench.root))
    for data in [b"fault", b"problem"] * 50:
        wire.sendto(data, ("127.0.0.1", bench.port))
    wire.sendto(b"", ("127.0.0.1", bench.port))
    wait_until(lambda: bench.status()["server"]["drops"] == {"empty": 1})
    assert bench.covey("rekey", "line1") == "Rekeyed line1.\n"
    told = [e["reason"] for e in bench.events(server) if e["event"] == "trouble"]
    assert len(told) == 2
    assert told[0].startswith("A fault inside: ZeroDivisionError in <string>:")
    assert told[1] == "The disk is full."


def test_esp_and_keepalives_on_a_port_with_marker_are_counted(bench, wire):
    bench.edit(
        f'"127.0.0.1:{bench.port}"', f'{{address = "127.0.0.1:{bench.port}", marker = true}}'
    )
    server = bench.serve()
    for data in (b"", b"\xff", b"\x00\x00\x00\x09" + bytes(60), bytes(3), bytes(20000)):
        wire.sendto(data, ("127.0.0.1", bench.port))
    wanted = {"empty": 1, "keepalive": 1, "unknown_spi": 1, "length": 2}
    wait_until(lambda: bench.status()["server"]["drops"] == wanted)
    assert bench.events(server)[-1]["drops"] == wanted


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="prlimit is Linux's")
def test_a_disk_that_is_full_is_told_and_survived(bench):
    """The server may not write a longer file: it says so, refuses, and goes on afterwards."""
    server = bench.serve()
    store = bench.store()  # a reader keeps the log from restarting
    before = bench.epoch()
    whole = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, whole[1]))
    said = bench.covey("rekey", "line1", status=1)
    assert "state.db" in said and "check the disk" in said and said.count("\n") == 1
    assert "audit.log" in bench.covey("member", "add", "x", "--group", "line1", status=1)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, whole)
    assert bench.covey("rekey", "line1") == "Rekeyed line1.\n"
    assert bench.epoch() > before
    bench.member("x")
    store.close()
    bench.end(server)


# Two terms


def test_a_server_whose_term_is_over_stops_by_itself(bench):
    server = bench.serve()
    store = bench.store()
    store.acquire_term("another key server")
    store.close()
    said = bench.covey("rekey", "line1", status=1)
    assert "taken over" in said
    assert server.wait(PATIENCE_S) == 1
    assert "taken over" in server.stderr.read().splitlines()[-1]
    bench.end(bench.serve())


def test_secrets_of_the_store_are_never_shown(bench):
    bench.member("press-7", "--sender")
    server = bench.serve()
    bench.covey("rekey", "line1")
    bench.covey("status")
    bench.covey("status", "--json")
    bench.covey("member", "list", "--json")
    bench.covey("group", "list", "--json")
    store = bench.store()
    found = [value for _, value, _ in store.scan("")]
    store.close()
    bench.end(server)
    keys = set()
    for value in found:
        for field in ("keymat", "tek_keymat", "psk"):
            keys |= set(re.findall(rf'"{field}":"([0-9a-f]+)"', value.decode("latin-1")))
    assert len(keys) >= 3
    for key in keys:
        assert key not in bench.said and key[:20] not in bench.said
