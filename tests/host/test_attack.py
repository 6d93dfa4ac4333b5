"""covey attack: a live group of real processes, what a watching member counts, whom it spares."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from covey_host.demo import capture
from covey_host.demo.attacks import KINDS
from covey_host.demo.verdicts import Attack, Verdict
from covey_host.desk import attack, knock, raid
from covey_host.errors import Problem
from covey_host.gcks.policy import GroupPolicy, SitePolicy
from markdown import CLI, codes, section, tables
from processes import ROOT, wait_until
from site_bench import GROUP, Bench

HERE = "127.0.0.1"


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def start_group(bench):
    """A sender, and a receiver whose lines go to a file."""
    bench.member("press-7", "--sender")
    bench.member("valve-3")
    bench.member("eye")
    bench.serve()
    said = bench.root / "valve-3.said"
    with open(said, "w") as file:
        bench.launch("join", "valve-3", "--json", stdout=file, stderr=subprocess.DEVNULL)
    words = ("--send", "genuine", "--count", "100000", "--interval", "0.02")
    bench.launch("join", "press-7", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: '"packet"' in said.read_text())
    return said


# It sends nonces again, as attackers do, and says so to the witness of the bench.
OUTSIDER = """\
import sys
sys.path.append({!r})
import nonces
nonces.mark_own()
from covey_host.__main__ import main
main()
""".format(str(ROOT / "tests"))


def attacked(bench, *words):
    """(status, what it said: a list of objects)."""
    command = [sys.executable, "-c", OUTSIDER, "attack", "line1", "--json"]
    command += ["--interface", HERE, "--seconds", "20", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=bench.environment, timeout=200
    )
    assert done.stdout, done.stderr
    bench.said += done.stdout + done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def end(bench):
    for child in list(bench._running):
        child.kill()
        child.wait()
        bench._running.remove(child)


def test_nothing_comes_of_any_of_it(bench):
    """The watching member counts each packet for its reason; the other receiver hears no other."""
    said = start_group(bench)
    status, events = attacked(bench, "--watch", "eye")
    done = {e["kind"]: e for e in events if e["event"] == "attack"}
    assert set(done) == set(KINDS), [e for e in events if e["event"] == "skipped"]
    for one in done.values():
        assert one["ok"], one
        assert one["sent"] > 0 and one["what"] == KINDS[one["kind"]].what
        assert sum(one["counted"]["eye"].values()) in (0, one["sent"])
    verdicts = {e["what"]: e for e in events if e["event"] == "verdict"}
    assert len(verdicts) == 3 and all(v["ok"] for v in verdicts.values()), verdicts
    assert "eye registered meanwhile" in str(verdicts)
    last = events[-1]
    assert (last["event"], last["bad"], status) == ("end", 0, 0)
    assert last["attacks"] == len(KINDS) + 3
    end(bench)
    packets = [json.loads(line) for line in said.read_text().splitlines() if '"packet"' in line]
    assert {p["text"] for p in packets} == {"genuine"} and len(packets) > 100


def test_without_a_watcher_or_new_keys(bench):
    start_group(bench)
    status, events = attacked(bench, "--no-rekey")
    assert status == 0 and bench.epoch() == 1
    skipped = {e["kind"] for e in events if e["event"] == "skipped"}
    assert {"replay_old", "seal_retired"} <= skipped, skipped
    done = [e for e in events if e["event"] == "attack"]
    assert {e["kind"] for e in done} | skipped == set(KINDS)
    assert all(e["ok"] is None and e["reasons"] is not None for e in done)
    assert events[-1]["what"].endswith("Does it?")
    end(bench)


def test_silence_is_a_sentence(bench):
    said = bench.covey("attack", "line1", "--interface", HERE, "--seconds", "5", status=1)
    assert "Nothing was heard of line1" in said and "covey doctor" in said


# Whom it may aim at


def rules(**settings):
    settings = {"name": "line1", "address": "239.192.1.32", "port": 2222} | settings
    return SitePolicy("gcks.example", groups={"line1": GroupPolicy(**settings)})


@pytest.mark.parametrize("address", ["239.192.0.1", "239.195.255.255", "239.255.7.7"])
def test_groups_that_stay_in_the_house(address):
    assert attack.target(rules(address=address), "line1").address == address


@pytest.mark.parametrize(
    "settings, why",
    [
        ({"address": "224.0.1.1"}, "leave the house"),
        ({"address": "239.196.0.1"}, "leave the house"),
        ({"address": "239.254.0.1"}, "leave the house"),
        ({"address": "232.1.1.1"}, "leave the house"),
        ({"carrier": "ip"}, "ip carrier"),
        ({"single_sender": True}, "single sender"),
    ],
)
def test_groups_that_are_spared(settings, why):
    with pytest.raises(Problem, match=why):
        attack.target(rules(**settings), "line1")


def test_groups_of_others_are_spared(bench):
    said = bench.covey("attack", "line2", "--interface", HERE, status=2)
    assert "no other is ever attacked" in said
    said = bench.covey("attack", GROUP, "--interface", HERE, status=2)
    assert "no other is ever attacked" in said
    assert "no address of this machine" in bench.covey(
        "attack", "line1", "--interface", "192.0.2.77", status=2
    )


def test_who_may_watch(bench):
    group = rules().groups["line1"]
    known = (
        ("press-7", "line1", "member", "receiver"),
        ("eye", "line1", "never", "both"),
        ("far", "line2", "never", "receiver"),
        ("mute", "line1", "never", "sender"),
    )
    on_air = {
        "members": [
            {"member": name, "roles": {group: role}, "states": {group: state}}
            for name, group, state, role in known
        ]
    }
    attack.check_watcher(on_air, "eye", group)
    for name, why in (
        ("press-7", "is in the group now"),
        ("far", "no receiver of line1"),
        ("mute", "no receiver of line1"),
        ("nobody", "no receiver of line1"),
        ("../x", "can't name"),
    ):
        with pytest.raises(Problem, match=why):
            attack.check_watcher(on_air, name, group)
    with pytest.raises(Problem, match="No key server"):
        attack.check_watcher(None, "eye", group)
    bench.member("eye")
    assert "No key server" in bench.covey("attack", "line1", "--watch", "eye", status=1)


# What is left out


def heard(packets):
    """A capture with so many packets of one sender."""
    found = capture.Capture()
    for number in range(packets):
        found.note(b"\1\2\3\4" + number.to_bytes(4) + b"\0\x41" + bytes(30))
    return found


def test_what_too_little_was_heard_for(monkeypatch):
    monkeypatch.setattr(capture, "_SETTLED_S", 0)
    group = rules().groups["line1"]
    few, enough = heard(raid._LEAST - 1), heard(raid._LEAST)
    for kind in KINDS:
        assert raid.lacking(kind, few, group) is None or raid.lacking(kind, few, group)
    assert "too little" in raid.lacking("cut", few, group)
    assert raid.lacking("cut", enough, group) is None
    assert "no keys have ended" in raid.lacking("replay_old", enough, group)
    assert "not known" in raid.lacking("rekey_by_member", enough, group)
    assert "no rekey" in raid.lacking("replay_rekeys", enough, group)
    assert raid.lacking("guess_spi", few, group) is None
    other = rules(sender_id_form=(8, 8)).groups["line1"]
    assert "default form" in raid.lacking("flip_sender", enough, other)


def test_an_attack_that_came_to_something_is_told(capsys):
    screen = attack.Screen(False, "eye")
    bad = Attack("cut", "truncated packets", 3, {"eye": Counter(length=3)}, {"eye": Counter()})
    screen.attacked(bad, {"length": 3}, attack_verdict := Verdict("cut", False, "eye counted 0"))
    screen.judged(Verdict("a flood", True, "100 sent"))
    assert screen.end() == 1 and not attack_verdict.ok
    out = capsys.readouterr().out
    assert "FAIL cut: eye counted 0" in out and "1 of 2 attacks came to something" in out


def test_what_begins_a_registration_is_taken_for_one(bench):
    """The flood is of the real thing: the key server begins an IKE SA for it."""
    import socket

    bench.serve()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(knock.beginning(), (HERE, bench.port))
        assert len(sock.recv(2000)) > 100
    assert bench.status()["counters"]["sa_init"] == 1


def test_the_document_says_what_comes_out():
    below = [codes(each) for each in tables(section(CLI, "covey attack"))]
    assert {"--watch", "--seconds", "--rekey", "--seed"} <= below[0]
    assert {"phase", "skipped", "attack", "verdict", "end"} == below[1]
