"""`make run` as a program: a whole run holds, and however it ends it leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import processes
from covey_host.demo import __main__ as program
from covey_host.demo import attacks, cast
from covey_host.demo.screen import Screen
from covey_host.demo.verdicts import Verdict

LEAST_S = "15"
ON_LINUX = sys.platform == "linux"  # where /proc tells what runs


def test_a_verdict_is_a_line(capsys):
    screen = Screen(as_json=False)
    screen.verdict(Verdict("nothing is lost", True, "5 packets"))
    screen.verdict(Verdict("nothing comes twice", False, "2 did"))
    out = capsys.readouterr().out.splitlines()
    assert out == ["ok   nothing is lost: 5 packets", "FAIL nothing comes twice: 2 did"]


@pytest.mark.parametrize(
    "setting",
    [
        {"SECONDS": "0"},
        {"SECONDS": "x"},
        {"SECONDS": "-20"},
        {"SEED": "x"},
        {"CAPTURE": "/dev/null/x"},
        {"CAPTURE": "/tmp"},
    ],
)
def test_misuse_is_one_sentence(setting):
    done = processes.run("-m", "covey_host.demo", env={**processes.ENVIRONMENT, **setting})
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert next(iter(setting)) in line


def test_too_short_a_run_is_as_short_as_it_can_be(monkeypatch):
    monkeypatch.setattr(program, "architectures", lambda: (["x86", "x64"], []))
    demo = program.Demo(3, 1, Screen(as_json=True))
    assert demo.summary()["seconds"] == int(LEAST_S)
    assert demo._notes == ["All of it takes 15 s at least, 3 were asked for."]


@pytest.fixture(scope="module")
def environment():
    """That of a run as short as it can be; skipped where no MicroPython runs at all."""
    try:
        cast.architectures()
    except cast.Lost as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))
    build = [sys.executable, processes.ROOT / "tools" / "build_mpy.py"]
    subprocess.run(build, check=True, capture_output=True)
    return {**processes.ENVIRONMENT, "SECONDS": LEAST_S, "SEED": "7"}


@pytest.fixture
def running(environment):
    """A run that has come to its traffic, and its folder."""
    run = processes.start("-m", "covey_host.demo", env=environment, start_new_session=True)
    folder = Path(run.stdout.readline().rsplit(" ", 1)[1].strip())
    try:
        for line in run.stdout:
            if " go: " in line:
                break
        assert folder.is_dir() and (len(those_in(folder)) >= 6 or not ON_LINUX)
        yield run, folder
    finally:
        run.kill()
        run.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def those_in(folder):
    """(id, command) of each process that works in that folder; it may have been removed."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd").startswith(str(folder)):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append((int(entry.name), command))
        except OSError:
            continue  # gone, or not ours
    return found


def test_a_whole_run_holds(environment):
    done = processes.run("-m", "covey_host.demo", env={**environment, "JSON": "1"}, timeout=240)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    assert summary["ok"] is True and summary["seed"] == 7 and summary["folder"] is None
    assert all(e["ok"] for e in summary["expectations"])
    by_name = {m["member"]: m for m in summary["members"]}
    assert set(by_name) == {"press", "drill", "desk", "panel", "guest"}
    assert [n for n, m in by_name.items() if "micropython" in m["interpreter"]] == [
        "press",
        "drill",
    ]
    assert by_name["press"]["sent"] > 100 and by_name["desk"]["sent"] > 100
    assert by_name["drill"]["opened"] == by_name["press"]["sent"] + by_name["desk"]["sent"]
    assert {a["kind"] for a in summary["attacks"]} == set(attacks.KINDS)
    # a removal takes two messages
    assert summary["wire"]["rekeys"] == 5 and summary["wire"]["keys"] == 5
    folder = Path(done.stderr.splitlines()[0].rsplit(" ", 1)[1])
    assert not folder.exists() and not those_in(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(running, number):
    run, folder = running
    run.send_signal(number)
    run.communicate(timeout=60)
    assert run.returncode == 128 + number
    assert not those_in(folder) and not folder.exists()


def test_a_killed_stage_leaves_nothing_running(running):
    run, folder = running
    run.kill()
    run.communicate(timeout=60)
    processes.wait_until(lambda: not those_in(folder), timeout_s=60)


def test_a_member_that_dies_fails_the_run(running):
    run, folder = running
    if not ON_LINUX:
        pytest.skip("finds the process by /proc")
    player = next(pid for pid, command in those_in(folder) if "player.py drill" in command)
    os.kill(player, signal.SIGKILL)
    out, _ = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "FAIL" in out and "drill" in out
    assert str(folder) in out.splitlines()[-1] and (folder / "drill.log").exists()
    assert not those_in(folder)


def builds(tmp_path, monkeypatch, made, **skipped):
    home = tmp_path / ".build" / "micropython"
    for arch in made:
        (home / arch).mkdir(parents=True)
        (home / arch / "micropython").touch()
    for arch, reason in skipped.items():
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{arch}.skipped").write_text(reason + "\n")
    monkeypatch.setattr(cast, "ROOT", tmp_path)
    return cast.architectures()


def test_both_builds_of_micropython_take_part(tmp_path, monkeypatch):
    assert builds(tmp_path, monkeypatch, ["x64", "x86"]) == (["x86", "x64"], [])


def test_one_build_stands_in_for_the_other_and_it_is_said(tmp_path, monkeypatch):
    archs, notes = builds(tmp_path, monkeypatch, ["x64"], x86="no 32-bit programs run here")
    assert archs == ["x64", "x64"]
    assert notes == [
        "MicroPython x86 is not here (no 32-bit programs run here): x64 is used twice."
    ]


def test_without_micropython_there_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(cast.Lost, match="make setup"):
        builds(tmp_path, monkeypatch, [], x86="no", x64="no")
