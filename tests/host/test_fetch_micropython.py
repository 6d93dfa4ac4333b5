"""tools/fetch_micropython.py: where a mirror is, which interpreter will do, what is left out."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fetch_micropython.py"


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """The script as a module, with a build directory of its own and nothing but files on PATH."""
    spec = importlib.util.spec_from_file_location("fetch_micropython", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(sys, "argv", [str(TOOL), "x86"])
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)
    return module


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def answers(path, version, mpy, native):
    """A program that answers the probe as a MicroPython would."""
    answer = json.dumps([version, mpy & 0xFF, mpy >> 8 & 3, native])
    program(path, f"echo '{answer}'")


def test_one_line_sources(fetch):
    text = """
# deb http://a.example/debian bookworm main
deb-src http://a.example/debian bookworm main
deb http://b.example/debian bookworm contrib
deb http://c.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/x.gpg] http://d.example/debian/ bookworm main contrib # local
  deb http://e.example/debian trixie main
"""
    assert list(fetch.parse_one_line(text)) == [
        "http://d.example/debian/",
        "http://e.example/debian",
    ]


def test_deb822_sources(fetch):
    text = """# a comment
Types: deb deb-src
# URIs: http://old.example/debian
URIs: http://a.example/debian
 http://b.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQ

Types: deb
URIs: http://c.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://d.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://e.example/debian
Suites: bookworm
Components: main
"""
    found = list(fetch.parse_deb822(text))
    assert found == ["http://a.example/debian", "http://b.example/debian"]


def test_a_named_mirror_wins(fetch, monkeypatch):
    monkeypatch.setenv("DEBIAN_MIRROR", "http://mine.example/debian")
    assert fetch.mirrors() == ["http://mine.example/debian"]


@pytest.mark.parametrize(
    "version, mpy, native, reason",
    [
        ([1, 24, 1], 0x306, 1, "older than 1.25"),
        ([1, 25, 0], 0x106, 1, ".mpy version"),
        ([1, 25, 0], 0x306, 2, "no native code emitter for x86"),
        ([1, 25, 0], 0x306, 0, "no native code emitter for x86"),
    ],
)
def test_an_unfit_interpreter_is_refused(fetch, tmp_path, version, mpy, native, reason):
    answers(tmp_path / "micropython", version, mpy, native)
    with pytest.raises(fetch.Unavailable, match=reason):
        fetch.probe([str(tmp_path / "micropython")], "x86")


def test_the_systems_own_is_taken(fetch, tmp_path):
    answers(tmp_path / "bin" / "micropython", [1, 26, 1], 0x306, 1)
    fetch.main()
    assert fetch.is_ready("x86") == "1.26.1"
    assert sorted(path.name for path in fetch.BUILD.iterdir()) == [".lock", "x86"]


def no_system_package(fetch, monkeypatch):
    """As on macOS, or on a kernel that runs no 32-bit programs."""

    def fail(arch, home):
        raise fetch.Unavailable("without apt and dpkg it cannot be fetched")

    monkeypatch.setattr(fetch, "fetch", fail)


def test_a_leg_is_left_out_by_name(fetch, tmp_path, monkeypatch):
    program(tmp_path / "bin" / "micropython", "exit 1")
    no_system_package(fetch, monkeypatch)
    fetch.main()
    reason = (fetch.BUILD / "x86.skipped").read_text()
    assert reason.startswith("MicroPython x86 (32-bit) cannot be had here: ")
    answers(tmp_path / "bin" / "micropython", [1, 25, 0], 0x306, 1)
    fetch.main()
    assert sorted(path.name for path in fetch.BUILD.iterdir()) == [".lock", "x86"]


def test_in_ci_nothing_is_left_out(fetch, tmp_path, monkeypatch):
    program(tmp_path / "bin" / "micropython", "exit 1")
    no_system_package(fetch, monkeypatch)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(SystemExit) as ending:
        fetch.main()
    assert "With CI=true that is a failure." in str(ending.value)


def test_a_killed_run_counts_for_nothing(fetch, tmp_path):
    half = fetch.BUILD / ".new-x86-dead"
    program(half / "micropython", "exit 0")
    broken = fetch.BUILD / "x86"  # of another recipe
    program(broken / "micropython", "exit 0")
    (broken / "made.json").write_text(json.dumps({"recipe": 0, "version": "1.25.0"}))
    answers(tmp_path / "bin" / "micropython", [1, 25, 0], 0x306, 1)
    fetch.main()
    assert not half.exists()
    assert fetch.is_ready("x86") == "1.25.0"
