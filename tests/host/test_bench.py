"""make bench: that it runs, the form of what it writes, what it says of what is not there.

No figure is judged here: which ones are aimed at stands in docs/bench.md.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from covey_host.bench import (
    board,
    callgrind,
    confirmation,
    curve,
    gcm,
    heap,
    loopback,
    peers,
)
from covey_host.bench.__main__ import SUBJECTS, measure
from covey_host.bench.results import Missing, Table
from markdown import ROOT, TEXTS, code, tables
from processes import run
from test_micropython import compile_lib, interpreter, without

DOC = TEXTS[ROOT / "docs" / "bench.md"]
ON_A_BOARD = ("gcm", "path", "heap", "publickey")  # what needs the 32-bit MicroPython and no group


@pytest.fixture
def on_micropython():
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    assert not compile_lib()


@pytest.fixture
def fresh(monkeypatch):
    """What is found out once a run is found out anew, and forgotten afterwards."""
    board._counter.cache_clear()
    yield monkeypatch
    board._counter.cache_clear()


def is_documented(row):
    """Whether a table of docs/bench.md has the row; it may name several at once, with `*`."""
    names = [code(name) for table in tables(DOC) for name in table if name.startswith("`")]
    return any(
        row == name or "*" in name and row.startswith(name[: name.index("*")]) for name in names
    )


def check_form(rows):
    seen = {}
    for row in rows:
        assert list(row) == ["name", "value", "unit", "against", "ratio"]
        assert row["name"] not in seen, row
        assert isinstance(row["value"], int | float) and row["value"] >= 0, row
        if row["against"] is None:
            assert row["ratio"] is None
        else:
            other = seen[row["against"]]
            assert other["unit"] == row["unit"], "a ratio of the same run, in the same unit"
            if other["value"]:
                assert row["ratio"] == pytest.approx(row["value"] / other["value"], abs=0.01)
        assert is_documented(row["name"]), row["name"]
        seen[row["name"]] = row
    return seen


def test_the_whole_of_it(on_micropython, tmp_path):
    out = tmp_path / "new" / "results.json"
    done = run("-m", "covey_host.bench", "--quick", "--out", out, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = check_form(json.loads(out.read_text()))
    for row in rows.values():
        assert row["name"] in done.stdout
    assert rows["rush: 200 members at once: registered"]["value"] == 200
    assert rows["rush: 200 members at once: given up"]["value"] == 0
    for subject in (
        "GCM open, 64 octets",
        "Member.receive, 256 octets",
        "heap for a packet delivered",
        "P-256: verification",
        "longest gap for packets meanwhile",
        "CPython: Member.send + receive, 64 octets",
        "Member.send + receive, 64 octets, beside scapy",
        "loopback: packets lost",
        "relay: relayed, half come within",
        "leave of 200, degree 4: unwraps of a member",
        "covey: registrations, for a second of CPU, PSK",
        "covey: IKE SAs, 32 at once, P-256: p99",
        "RPI 10 ms, MicroPython, plain UDP: quiet: longest gap",
    ):
        assert subject in rows, done.stdout
    pictures = [] if find_spec("matplotlib") is None else [out.with_name("keytree.png")]
    assert sorted(out.parent.iterdir()) == [*pictures, out], "nothing half-written"


def test_no_packet_takes_heap(on_micropython):
    table = Table()
    heap.run(table, quick=True)
    assert len(table.rows) == 6 and {row["value"] for row in table.rows} == {0}


def test_counts_are_the_same_each_time(on_micropython):
    if board._counter()[0] is None:
        pytest.skip(board._counter()[1])
    first, again = (measure(["gcm", "path"], quick=True) for _ in range(2))
    assert first.rows == again.rows and not first.notes
    assert {row["unit"] for row in first.rows} == {board.INSTRUCTIONS}
    rows = check_form(first.rows)
    assert rows["GCM seal, 64 octets"]["ratio"] > 1, "below its floor?"
    assert rows["AES, 5 blocks in one call"]["ratio"] is None
    assert rows["AES, 1 block"]["value"] > 500, "a mark was taken for another"


def test_without_valgrind_it_is_time_and_says_so(on_micropython, fresh):
    fresh.setattr(shutil, "which", lambda name: None)
    table = measure(["gcm"], quick=True)
    assert {row["unit"] for row in table.rows} == {board.TIME}
    [note] = table.notes
    assert note.startswith("Timed, not counted: valgrind is not installed")
    check_form(table.rows)


def test_without_micropython_the_subject_is_left_out_by_name(fresh, tmp_path):
    fresh.setattr(board, "BUILD", tmp_path)
    (tmp_path / "micropython").mkdir()
    (tmp_path / "micropython" / "x86.skipped").write_text("it does not fit this machine.\n")
    table = measure(list(ON_A_BOARD), quick=True)
    assert table.rows == []
    assert len(table.notes) == len(ON_A_BOARD)
    assert gcm.TITLE in table.notes[0] and "it does not fit this machine" in table.notes[0]


def test_a_script_that_fails_is_a_sentence(on_micropython, fresh):
    fresh.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Missing, match=r"heap.py failed: ValueError"):
        board.run("heap", Table(), "no number")


def test_a_peer_that_is_not_there_is_named(monkeypatch):
    for module in ("pylibsrtp", "aiocoap"):
        monkeypatch.setitem(sys.modules, module, None)
    table = Table()
    peers.run(table, quick=True)
    assert [note.split(";")[0] for note in table.notes] == [
        "Left out: pylibsrtp: AES-GCM protect + unprotect",
        "Left out: aiocoap: Group OSCORE protect + unprotect",
    ]
    assert all("not installed" in note for note in table.notes)
    assert [row["against"] for row in table.rows][1] == "scapy: ESP encrypt + decrypt, 64 octets"
    assert len(table.rows) == 2


def test_every_peer_is_an_extra_or_there_anyway():
    files = ("requirements.lock", "requirements-bench.lock")
    locks = [(ROOT / name).read_text() for name in files]
    for package, _, _ in peers.PEERS.values():
        assert any(f"\n{package}==" in lock for lock in locks), package
    pinned = [set(re.findall(r"^(.+?)==", lock, re.M)) for lock in locks]
    assert not pinned[0] & pinned[1], "pinned twice"


def test_a_leave_costs_more_keys_in_a_larger_group_and_fewer_than_by_unicast():
    first, again = (measure(["keytree"], quick=True) for _ in range(2))
    rows = check_form(first.rows)
    counted = {name for name, row in rows.items() if row["unit"] in ("keys", "datagrams")}
    assert counted and all(row in again.rows for row in first.rows if row["name"] in counted)

    def of(members, what, degree=4):
        return rows[f"leave of {members}, degree {degree}: {what}"]["value"]

    assert of(50, "wrapped keys") < of(200, "wrapped keys") < 4 * 4
    assert of(200, "octets of wrapped keys") == of(200, "wrapped keys") * (4 + 8 + 24)
    assert of(200, "unwraps of a member") == 4 and of(200, "unwraps of a member", 2) == 8
    assert (
        of(200, "octets of all datagrams")
        < 50 * rows["new keys to one member by unicast"]["value"]
    )
    many = "many leave: 400 of 2,000: wrapped keys"
    assert 1 <= rows[many]["ratio"] < 1.2 and rows[many]["against"] == f"{many} needed"
    parts = [
        r["value"]
        for name, r in rows.items()
        if name.startswith("leave of 200, degree 4: CPU of it")
    ]
    assert 0 < sum(parts) <= of(200, "CPU of the server")


def test_the_plot_is_a_picture_or_a_notice(monkeypatch):
    pytest.importorskip("matplotlib")
    found = [(100, 400, 1_000), (1_000, 500, 1_200)]
    assert curve.draw(found, 437, 4).startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    table = measure(["keytree"], quick=True)
    assert table.notes == ["Left out: keytree.png; matplotlib is not installed."]
    assert not table.pictures and table.rows


def test_subjects_can_be_chosen(tmp_path):
    words = ("-m", "covey_host.bench", "--quick", "--out", tmp_path / "out.json")
    done = run(*words, "cpython")
    assert done.returncode == 0
    assert len(json.loads((tmp_path / "out.json").read_text())) == 3
    done = run(*words, "cpu")
    assert done.returncode == 2 and "cpu is no subject" in done.stderr
    assert all(f"`{name}`" in DOC for name in SUBJECTS)


def test_rows_and_ratios():
    table = Table()
    table.add("a", 4, "octets")
    table.add("b", 5, "octets", "a")
    table.add("none", 0, "octets")
    table.add("c", 5, "octets", "none")
    assert [row["ratio"] for row in table.rows] == [None, 1.25, None, None]
    with pytest.raises(AssertionError):
        table.add("d", 1, "ns", "a")
    table.note("once")
    table.note("once")
    assert table.notes == ["once"]


def test_what_callgrind_writes():
    text = """version: 1
part: 1
desc: Trigger: --dump-before=getenv
events: Ir
fn=(1) ???
totals: 1457854
part: 2
desc: Trigger: --dump-before=getenv
totals: 814
part: 3
desc: Trigger: Program termination
totals: 4002
"""
    assert callgrind.read_counts(text) == [1457854, 814]
    assert callgrind.read_counts("") == []


def test_a_copy_of_an_interpreter_differs_in_nops_only(tmp_path):
    nop = bytes.fromhex("2e8db42600000000")
    source = tmp_path / "source"
    (source / "lib").mkdir(parents=True)
    (source / "lib" / "ld.so").write_bytes(b"\x7fELF" + b"a" + nop + b"b")
    (source / "lib" / "text").write_bytes(nop)
    (source / "lib" / "link").symlink_to("ld.so")
    copy = callgrind._copy(source, tmp_path / "copy")
    assert (copy / "lib" / "ld.so").read_bytes() == b"\x7fELF" + b"a\x3e" + nop[1:] + b"b"
    assert (copy / "lib" / "text").read_bytes() == nop
    assert (copy / "lib" / "link").is_symlink()
    assert (source / "lib" / "ld.so").read_bytes() == b"\x7fELF" + b"a" + nop + b"b"


def test_delays_to_confirmation_and_what_never_was():
    table = Table()
    confirmation.add_delays(table, 20, 250, [n / 1000 for n in range(200, 0, -1)])
    rows = check_form(table.rows)
    name = "TESLA: delivered to confirmed, 20 % of packets lost"
    assert rows[f"{name}, p50"]["value"] == pytest.approx(100.5)
    assert rows[f"{name}, p99"]["value"] == pytest.approx(199)
    assert rows["TESLA: packets confirmed, 20 % lost"]["ratio"] == 0.8


def test_the_most_members_are_those_that_policy_takes():
    assert confirmation.most_members("tesla") == 11_000
    assert confirmation.most_members("ecdsa") == 10_000_000


def test_time_in_a_call_and_in_a_job_is_counted():
    def job():
        time.sleep(0.002)
        yield
        time.sleep(0.002)
        return "done"

    spent = [0]
    steps = confirmation.timed_job(spent, job)()
    next(steps)
    time.sleep(0.05)  # not its own
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "done" and spent[0] >= 4_000_000
    before = spent[0]
    assert confirmation.timed(spent, sorted)([2, 1]) == [1, 2] and spent[0] > before


def test_loopback_counts_what_is_missing(monkeypatch):
    """Of three packets one was not sent, one was lost."""
    answers = ["", "", '{"seconds": 0.5, "unsent": 1}', '{"got": 1, "drops": {"replay": 1}}']

    class Stub:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def member(self, *_):
            return "path"

        def start(self, command):
            return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, text=True)

        def wait_for(self, stream, word):
            return answers.pop(0)

    monkeypatch.setattr(loopback, "Plant", Stub)
    monkeypatch.setattr(loopback, "COUNTS", {True: 3})
    table = Table()
    loopback.run(table, quick=True)
    values = [row["value"] for row in table.rows]
    assert values == [2, 1, 4]
    assert "'replay': 1" in table.notes[0]


def test_make_bench_sets_its_peers_up():
    text = (ROOT / "Makefile").read_text()
    assert "$(setup) venv micropython mpy peers\n\t@exec $(PY) -m covey_host.bench" in text
    assert "/bench/" in (ROOT / ".gitignore").read_text().splitlines()
