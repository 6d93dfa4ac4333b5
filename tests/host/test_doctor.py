"""covey doctor: what it concludes, and that it sees it on real sockets, networks and boards."""

import json
import os
import re
import select
import socket
import subprocess
import sys
import threading

import pytest

from air import Air
from board_on_desk import NETWORK, WIFI, board_with
from covey_host.desk import knock
from covey_host.doctor import files, finding, judge, laptop, onboard, probes, ways
from covey_host.doctor.judge import Way
from covey_host.errors import Problem
from covey_host.site import Site
from markdown import CLI, code, tables
from processes import ENVIRONMENT, PATIENCE_S, wait_until
from site_bench import Bench
from test_micropython import interpreter, without

HERE = "127.0.0.1"
N = probes.COUNT


def only(findings, subject):
    [found] = [one for one in findings if one.subject == subject]
    return found


# What follows from what


@pytest.mark.parametrize(
    "way, level, fix",
    [
        (Way(20, 20, 20), "ok", ""),
        (Way(20, 18, 20), "ok", ""),
        (Way(20, 0, 20), "fail", "IGMP snooping"),
        (Way(20, 0, 1), "fail", "IGMP snooping"),
        (Way(20, 0, 0), "fail", "same network"),
        (Way(20, 0, None), "fail", "same network"),
        (Way(20, 17, 20), "warn", "DTIM"),
        (Way(20, 5, 6), "warn", "radio link"),
    ],
)
def test_multicast(way, level, fix):
    found = only(judge.reach(way, "from a to b"), "multicast")
    assert found.level == level and fix in found.fix and bool(found.fix) == bool(fix)
    assert f"{way.multicast} of {way.sent}" in found.said


def test_multicast_without_unicast():
    found = only(judge.reach(Way(20, 20, 0), "from a to b"), "unicast")
    assert found.level == "warn" and "client isolation" in found.fix


def test_carriers():
    def said(way):
        return [f.said for f in judge.reach(way, "") if f.subject == "carrier"]

    assert said(Way(20, 20, 20)) == ["udp works; ip was not tried"]
    assert said(Way(20, 20, 20, 0))[0].startswith("udp works, ip does not")
    assert said(Way(20, 0, 20, 20))[0].startswith("udp does not, ip works")
    assert said(Way(20, 0, 20, 0)) == said(Way(20, 0, 20)) == []


def test_power_save():
    def found(pm, drowsy, awake=None):
        awake = None if awake is None else Way(20, awake, 20)
        one = judge.power_save(pm, Way(20, drowsy, 20), awake)
        return one.level, one.said

    assert found("PM_NONE", 20) == ("ok", "off")
    assert found("PM_PERFORMANCE", 3, 20)[0] == "warn"
    assert found("PM_PERFORMANCE", 20, 20)[0] == "ok"
    assert found("PM_PERFORMANCE", 0, 0)[0] == "ok", "then it is not the fault of power-save"
    assert found(None, 20)[0] == "ok"
    assert found("PM_PERFORMANCE", 3)[0] == "warn"


@pytest.mark.parametrize(
    "mpy, level, said",
    [
        (6 | 3 << 8 | 11 << 10, "ok", ".mpy 6.3 rv32imc"),
        (6 | 3 << 8 | 10 << 10, "ok", ".mpy 6.3 xtensawin"),
        (6 | 2 << 8 | 10 << 10, "fail", ".mpy 6.2 xtensawin"),
        (5 | 10 << 10, "fail", ".mpy 5.0 xtensawin"),
        (6 | 3 << 8, "fail", "without native code"),
        (0, "fail", "loads no .mpy"),
    ],
)
def test_firmware(mpy, level, said):
    found = judge.firmware({"version": [1, 24, 1, ""], "machine": "a board", "mpy": mpy})
    assert found.level == level and said in found.said and "MicroPython 1.24.1" in found.said
    assert bool(found.fix) == (level != "ok")


def test_radio():
    fine = {"connected": True, "why": None, "status": 1010, "address": "192.0.2.9", "rssi": -50}
    assert [f.level for f in judge.radio({"wifi": fine})] == ["ok"]
    assert only(judge.radio({"wifi": fine | {"rssi": -80}}), "wifi").level == "warn"
    assert only(judge.radio({"wifi": fine | {"rssi": None}}), "wifi").level == "ok"
    lost = judge.radio({"wifi": fine | {"connected": False, "why": "there is no /wifi.json"}})
    assert lost[0].level == "fail" and "no /wifi.json" in lost[0].said
    assert judge.radio({"wifi": None})[0].level == "fail"


def test_memory_and_clock():
    assert judge.memory({"free": 100_000}, 90_000).level == "ok"
    assert judge.memory({"free": 100_000}, None).level == "ok"
    assert judge.memory({"free": 80_000}, 90_000).level == "warn"
    assert onboard._least_heap() > 10_000
    assert [f.level for f in judge.clock(2026, 1.001)] == ["ok"]
    assert "never set" in judge.clock(2000, None)[0].said
    assert [f.level for f in judge.clock(2026, 1.2)] == ["ok", "warn"]


def test_key_servers():
    answers = [{"host": "a", "port": 4500, "answered": True}]
    answers.append({"host": "b", "port": 848, "answered": False})
    assert [f.level for f in judge.key_servers(answers)] == ["ok", "fail"]
    assert judge.joined(None).level == "ok" and judge.joined("19").level == "fail"


def test_interfaces_and_firewalls():
    up = 0x1 | 0x40
    assert laptop.judge_interface("wlan0", "192.0.2.1", up | 0x1000).level == "ok"
    assert "multicast on" in laptop.judge_interface("wlan0", "192.0.2.1", up).fix
    assert "up`" in laptop.judge_interface("wlan0", "192.0.2.1", 0x1000).fix
    assert laptop.judge_interface("lo", HERE, up | 0x8).level == "warn"
    assert laptop.judge_firewall("", False, "").level == "ok"
    assert "ufw" in laptop.judge_firewall("# on\nENABLED=yes\n", False, "").said
    assert laptop.judge_firewall("ENABLED=no\n", False, "").level == "ok"
    assert "firewalld" in laptop.judge_firewall("", True, "").said
    rules = "chain input { type filter hook input priority filter; policy drop; }"
    assert laptop.judge_firewall("", False, rules).level == "warn"
    assert laptop.judge_firewall("", False, rules.replace("drop", "accept")).level == "ok"
    assert laptop._clock(1000, 2000).level == "warn" and laptop._clock(2000, 1000).level == "ok"


# Probes


def test_probes_are_what_they_are():
    run = probes.new_run()
    probe = probes.emit(probes.UNICAST, 3, 20, run)
    assert probes.parse(probe) == (probes.UNICAST, 3, 20, run)
    assert probes.parse(probe[:-1]) is probes.parse(probe + b"x") is None
    assert probes.parse(b"X" + probe[1:]) is None
    assert probes.parse(probes.emit(9, 3, 20, run)) is None
    assert probes.parse(probes.emit(probes.RAW, 20, 20, run)) is None
    assert len(probe) < 28, "smaller than the headers that carry it"


def test_a_tally_counts_each_probe_once():
    tally = probes.Tally()
    runs = probes.new_run(), probes.new_run()
    for number in (0, 1, 1, 2):
        assert tally.note(probes.emit(probes.MULTICAST, number, 5, runs[0]), "a")
    assert tally.note(probes.emit(probes.UNICAST, 0, 5, runs[1]), "a")
    assert not tally.note(b"noise", "a")
    assert tally.series() == [("a", 5, {1: 3}), ("a", 5, {2: 1})]


def test_a_listener_answers_nobody():
    listener = ways.Listener(HERE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HERE, 0))
        for data in (probes.emit(2, 0, 1, bytes(8)), b"", b"noise" * 20):
            sock.sendto(data, (HERE, probes.PORT))
        listener.listen(2, lambda tally: True)
        assert listener.tally.series() == [(HERE, 1, {2: 1})]
        assert not select.select([sock], [], [], 0.3)[0]
    listener.close()


def test_a_port_in_use_is_a_sentence():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HERE, probes.PORT))
        with pytest.raises(Problem, match=r"in use"):
            ways.Listener(HERE)


def heard(sender_of):
    """What a listener here counts of a series: a Way."""
    listener = ways.Listener(HERE)
    thread = threading.Thread(target=sender_of)
    thread.start()
    listener.listen(PATIENCE_S, lambda tally: not thread.is_alive())
    thread.join()
    listener.close()
    [(_, sent, came)] = listener.tally.series()
    return Way(sent, came.get(probes.MULTICAST, 0), came.get(probes.UNICAST, 0))


def test_on_the_loopback_both_ways_are_open():
    sender = ways.Sender(HERE)
    assert heard(lambda: sender.send_all(probes.new_run(), HERE)) == Way(N, N, N)
    sender.close()


def test_a_relay_that_passes_unicast_only_is_told():
    """In the place of an access point: the same probes, multicast left out on the way."""
    sender = ways.Sender(HERE)
    passed = sender._send

    def relay(sock, kind, *rest):
        if kind == probes.UNICAST:
            passed(sock, kind, *rest)

    sender._send = relay
    way = heard(lambda: sender.send_all(probes.new_run(), HERE))
    sender.close()
    assert way == Way(N, 0, N)
    assert "IGMP snooping" in only(judge.reach(way, ""), "multicast").fix


# This machine and the site


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def examined(bench, status=0, *words):
    """(covey doctor's findings, subject → finding) of a site."""
    words = ("doctor", "--json", "--interface", HERE, *words)
    said = bench.covey(*words, status=0) if not status else said_failing(bench, words)
    return [json.loads(line) for line in said.splitlines()]


def said_failing(bench, words):
    command = [sys.executable, "-m", "covey_host", *words, "--site", str(bench.root)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_a_site_whose_server_runs(bench):
    bench.member("press-7", "--sender")
    bench.serve()
    found = examined(bench)
    assert {f["level"] for f in found} <= {"ok", "warn"}
    assert [f["said"] for f in found if f["subject"] == "ports"] == [
        f"127.0.0.1:{bench.port} answers"
    ]
    [runs] = [f for f in found if f["subject"] == "key server"]
    assert runs["level"] == "ok" and "it runs as process" in runs["said"]
    for one in found:
        assert list(one) == ["event", "level", "subject", "said", "fix"]
        assert bool(one["fix"]) == (one["level"] != "ok")


def test_asking_a_key_server_leaves_nothing_there(bench):
    bench.serve()
    assert ways.answers(HERE, bench.port, False, PATIENCE_S)
    status = bench.status()
    assert status["ike_sas"] == status["unproven"] == 0
    assert status["counters"]["version"] >= 1


def test_a_key_server_under_a_flood_still_answers(bench):
    """It gives nobody more than it got, so the question must be the longer one."""
    bench.serve()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HERE, bench.port))
        for _ in range(80):
            sock.send(knock.beginning())
    wait_until(lambda: bench.status()["unproven"] >= 64)
    assert ways.answers(HERE, bench.port, False, PATIENCE_S)


def test_nobody_answers():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HERE, 0))
        assert not ways.answers(HERE, sock.getsockname()[1], True, wait_s=0.2)


def test_a_site_whose_server_does_not_run(bench):
    found = examined(bench)
    [server] = [f for f in found if f["subject"] == "key server"]
    assert server["level"] == "warn" and "covey serve" in server["fix"]
    [free] = [f for f in found if f["subject"] == "ports"]
    assert free["said"] == f"127.0.0.1:{bench.port} is free"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HERE, bench.port))
        [taken] = [f for f in examined(bench, 1) if f["subject"] == "ports"]
    assert taken["level"] == "fail" and "in use" in taken["said"]


@pytest.mark.parametrize("path", ["state.db", "site.key", "members/press-7/psk", "members", "."])
def test_a_secret_that_others_can_read(bench, path):
    bench.member("press-7")
    target = bench.root / path
    os.chmod(target, os.stat(target).st_mode | 0o044)
    [found] = [f for f in examined(bench, 1) if f["subject"] == "files"]
    assert found["level"] == "fail" and str(target) in found["said"] and "chmod" in found["fix"]


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_what_an_image_leaves_is_no_secret_that_others_can_read(bench, mode):
    """covey image as a newcomer's shell runs it; the image itself has the key."""
    bench.member("press-7")
    was = os.umask(0o022)
    try:
        bench.covey("image", "press-7", "--board", "esp32c3")
    finally:
        os.umask(was)
    [found] = [f for f in examined(bench) if f["subject"] == "files"]
    assert found["level"] == "ok"
    names, image = (
        bench.root / "members" / "press-7" / f"press-7-esp32c3-files.{end}"
        for end in ("names.json", "bin")
    )
    secrets = [
        path.read_text().split()[0] for path in (image.parent / "psk", Site(bench.root).key)
    ]
    assert not [one for one in (*secrets, "press-7") if one in names.read_text()]
    os.chmod(image, mode)
    assert files.modes(Site(bench.root))[0].level == ("ok" if mode == 0o600 else "fail")


def test_a_disk_that_became_read_only_is_told(bench, monkeypatch):
    monkeypatch.setattr(files, "is_read_only", lambda path: path == bench.root)
    found = [one for one in files.findings(Site(bench.root)) if one.subject == "files"]
    assert [one.level for one in found] == ["ok", "fail"] and "is read-only" in found[1].said


def test_a_bad_policy_is_told_and_no_end(bench):
    bench.edit("[group.line1]", "[group.line1]\nadress = 1")
    found = examined(bench, 1)
    [policy] = [f for f in found if f["subject"] == "policy"]
    assert policy["level"] == "fail" and "adress" in policy["said"]
    assert [f for f in found if f["subject"] == "loopback"]


def test_choices_exclude_each_other(bench):
    assert "Choose one of" in bench.covey("doctor", "--listen", "--probe", HERE, status=2)
    assert "no port /dev/nothing" in bench.covey("doctor", "--port", "/dev/nothing", status=1)


def test_the_documents_name_each_subject_and_level():
    named = [name for table in tables(CLI) for name in table]
    source = "".join(
        path.read_text() for module in (judge, files, laptop) for path in [_path(module)]
    )
    for subject in set(re.findall(r"\b(?:ok|warn|fail)\(\s*\"([a-z -]+)\"", source)):
        assert f"`{subject}`" in named, subject
    assert {code(n) for n in named if n in ("`ok`", "`warn`", "`fail`")} == {
        finding.OK,
        finding.WARN,
        finding.FAIL,
    }


def _path(module):
    import pathlib

    return pathlib.Path(module.__file__)


# A board


@pytest.fixture
def board(tmp_path, monkeypatch):
    """board(address, **files): a board whose Wi-Fi has that address."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    monkeypatch.setenv("MICROPYPATH", "/lib:.frozen")
    made = []

    def make(address=HERE, **files):
        files = {f"/{name}.json": text for name, text in files.items()}
        files["/lib/network.py"] = NETWORK.replace("ADDRESS", address)
        made.append(board_with(tmp_path / "flash", files))
        return made[-1]

    yield make
    for one in made:
        one.power_off()


def examine(board, interface=HERE):
    return list(onboard.examine(board.port, interface, probes.GROUP))


def test_a_board_on_the_loopback(board, bench):
    bench.serve()
    servers = [[HERE, bench.port, False], {"host": HERE, "port": 9}]
    one = board(wifi=WIFI, covey=json.dumps({"servers": servers}))
    found = examine(one)
    said = {f.subject: f for f in found}
    assert said["firmware"].level == "ok" and "MicroPython 1.25" in said["firmware"].said
    assert said["wifi"].said == "connected as 127.0.0.1, -52 dBm"
    both = [f for f in found if f.subject == "multicast"]
    assert [f.level for f in both] == ["ok", "ok"], both
    assert f"{N} of {N} unicast" in both[0].said
    assert said["power-save"].level == "ok" and "PM_PERFORMANCE" in said["power-save"].said
    assert said["carrier"].said.startswith("udp works")
    servers = [f for f in found if f.subject == "key server"]
    assert [f.level for f in servers] == ["ok", "fail"]
    assert "sesame" not in repr(bytes(one.output)) + str(found), "the password was shown"


@pytest.mark.parametrize(
    "wifi, why",
    [
        (None, "no /wifi.json"),
        ("{", "can't be read"),
        ('{"ssid": "plant", "password": "wrong"}', "status 201"),
    ],
)
def test_a_board_without_a_network(board, monkeypatch, wifi, why):
    monkeypatch.setattr(onboard, "_WIFI_MS", 300)
    one = board(**({} if wifi is None else {"wifi": wifi}))
    found = examine(one)
    assert [f.subject for f in found] == ["firmware", "memory", "wifi", "clock"]
    assert found[2].level == "fail" and why in found[2].said


def test_a_port_with_no_board(tmp_path):
    master, slave = os.openpty()
    with pytest.raises(Problem, match="No MicroPython answers"):
        list(onboard.examine(os.ttyname(slave), HERE, probes.GROUP))
    os.close(master)
    os.close(slave)


# A network in between


def doctor_at(air, *words):
    command = air.command(sys.executable, "-m", "covey_host", "doctor", "--json", *words)
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=90)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("swallows", [False, True])
def test_a_board_behind_an_access_point(board, swallows):
    """The board here, this command at the far end, a switch that may swallow multicast between."""
    with Air() as air:
        if swallows:
            air.swallow_multicast()
        one = board(air.here, wifi=WIFI)
        found = doctor_at(air, "--port", one.port, "--interface", air.there)
    both = [f for f in found if f["subject"] == "multicast"]
    assert [f["level"] for f in both] == (["fail", "fail"] if swallows else ["ok", "ok"]), found
    for one in both:
        assert f"{N} of {N} unicast" in one["said"]
        assert ("IGMP snooping" in one["fix"]) == swallows
    assert [f for f in found if f["subject"] == "carrier"] if not swallows else True


@pytest.mark.parametrize("swallows", [False, True])
def test_two_machines(swallows):
    with Air() as air:
        if swallows:
            air.swallow_multicast()
        words = [sys.executable, "-m", "covey_host", "doctor", "--listen", "--seconds", "60"]
        listener = subprocess.Popen(
            [*words, "--interface", air.here],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert f"covey doctor --probe {air.here}" in listener.stderr.readline()
        [sent] = doctor_at(air, "--probe", air.here)
        said, _ = listener.communicate(timeout=PATIENCE_S)
    assert sent["level"] == "ok"
    assert listener.returncode == (1 if swallows else 0), said
    came = 0 if swallows else N
    assert f"{came} of {N} multicast probes came from {air.there}, {N} of {N} unicast" in said
    assert ("IGMP snooping" in said) == swallows
