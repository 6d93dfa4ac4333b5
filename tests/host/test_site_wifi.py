"""`covey site wifi`: asked once, kept 0600, never shown; by a pipe and at a terminal."""

import json
import os
import pty
import stat
import subprocess
import sys

import pytest

from covey_host import cli
from processes import ENVIRONMENT, run, wait_until

SSID, PASSWORD = "Halle 3 Süd", "correct horse battery"


@pytest.fixture
def site(tmp_path):
    with pytest.raises(SystemExit):
        cli.main(["init", str(tmp_path / "site")])
    return tmp_path / "site"


def wifi(site, *arguments, typed="", status=0):
    done = run("-m", "covey_host", "site", "wifi", "--site", site, *arguments, input=typed)
    assert done.returncode == status, done.stderr
    for shown in (done.stdout, done.stderr):
        assert PASSWORD not in shown and "Traceback" not in shown
    return done.stderr if status else done.stdout


def kept(site):
    return json.loads((site / "wifi.json").read_text())


def test_from_a_pipe(site):
    said = wifi(site, typed=f"{SSID}\n{PASSWORD}\n")
    assert SSID not in said and str(site / "wifi.json") in said
    assert kept(site) == {"ssid": SSID, "password": PASSWORD}
    assert stat.S_IMODE((site / "wifi.json").stat().st_mode) == 0o600
    wifi(site, "--ssid", "other", typed="another one\r\n")
    assert kept(site) == {"ssid": "other", "password": "another one"}
    wifi(site, "--ssid", "guests", "--open")
    assert kept(site) == {"ssid": "guests", "password": ""}
    assert sorted(os.listdir(site)) == [
        ".gitignore",
        "covey.toml",
        "site.key",
        "state.db",
        "wifi.json",
    ]


@pytest.mark.parametrize(
    "arguments, typed, hint",
    [
        (["--ssid", "x" * 33], PASSWORD, "1 to 32 octets"),
        (["--ssid", "ä" * 17], PASSWORD, "1 to 32 octets"),
        (["--ssid", ""], "", "1 to 32 octets"),  # before a password is typed in vain
        ([], f"\n{PASSWORD}\n", "1 to 32 octets"),
        (["--ssid", SSID], "seven77\n", "8 to 63"),
        (["--ssid", SSID], "x" * 64 + "\n", "8 to 63"),
        (["--ssid", SSID], "pässwörter\n", "8 to 63"),
        (["--ssid", SSID], "", "stdin ended"),
        ([], "", "stdin ended"),
    ],
)
def test_what_is_refused(site, arguments, typed, hint):
    said = wifi(site, *arguments, typed=typed, status=2)
    assert hint in said and said.count("\n") == 1
    assert typed.strip("\n") == "" or typed.strip("\n").split("\n")[-1] not in said
    assert not (site / "wifi.json").exists()


def test_the_password_can_not_be_an_argument(site):
    wifi(site, "--ssid", SSID, "--password", "x" * 9, status=2)


def test_at_a_terminal_without_echo(site):
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "covey_host", "site", "wifi", "--site", str(site)]
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=ENVIRONMENT, start_new_session=True
    )
    os.close(its)
    shown = b""

    def until(words):
        def has_come():
            nonlocal shown
            shown += os.read(ours, 1024)
            return words in shown

        wait_until(has_come)

    try:
        until(b"(SSID): ")
        os.write(ours, SSID.encode() + b"\n")
        until(b"(not shown): ")
        os.write(ours, PASSWORD.encode() + b"\n")
        until(b"Wrote ")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert PASSWORD.encode() not in shown
    assert kept(site) == {"ssid": SSID, "password": PASSWORD}
