"""`covey keys`: who is asked, which keys come out, where they go, and what the log says of it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from covey_host.gcks import disclosure
from covey_host.gcks.epoch import decode_state
from covey_host.site import Site as Directory
from covey_host.vault.opening import open_store
from covey_host.wireshark import ESP, IKE
from foreign_gm import ForeignGM
from gcks_site import KEY, Site
from processes import PATIENCE_S, wait_until
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db")
    made.add()
    yield made
    made.store.close()


def rows(out, name):
    return [line for line in (out / name).read_text().splitlines() if not line.startswith("#")]


def spis(out):
    """Of the keys of data."""
    return {line.split('"')[7].removeprefix("0x") for line in rows(out, ESP)}


def ike_spis(out):
    return {tuple(line.split(",")[:2]) for line in rows(out, IKE)}


def secrets(out):
    """All keys in the tables, salts cut off."""
    text = (out / ESP).read_text() + (out / IKE).read_text()
    return {key[:32] for key in re.findall(r"[0-9a-f]{40,72}", text)}


def stored(root, group="line1"):
    store = open_store(Directory(root))
    try:
        return decode_state(store.read(f"group/{group}/state")[0])[0]
    finally:
        store.close()


def log_of(bench, server):
    """The events of a server that is ended."""
    return [e for e in bench.events(server) if e["event"] == "keys_exported"]


# Who is asked


def test_without_a_terminal_and_without_yes_nothing_happens(bench, out):
    server = bench.serve()
    said = bench.covey("keys", "--export", out, status=2)
    assert said.count("\n") == 1 and "say --yes" in said and "can read" in said
    assert not out.exists()
    assert log_of(bench, server) == []


@pytest.mark.parametrize("typed, status", [("n", 1), ("", 1), ("yes please", 1), ("Y", 0)])
def test_a_person_is_asked(bench, out, typed, status):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "covey_host", "keys", "--export", out],
        env=bench.environment,
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    asked = b""
    while b"[y/N] " not in asked:
        asked += os.read(ours, 1000)
    assert not out.exists()
    os.write(ours, typed.encode() + b"\n")
    said, _ = child.communicate(timeout=PATIENCE_S)
    os.close(ours)
    assert child.returncode == status
    assert out.exists() == (status == 0) == bool(said)
    question = asked.decode()
    assert f"Write them to {out}?" in question and question.count("?") == 1


def test_a_bad_directory_is_told_before_any_key_is_asked_for(bench, out):
    server = bench.serve()
    out.mkdir(mode=0o700)
    out.chmod(0o777)
    assert "Others can write" in bench.covey("keys", "--yes", "--export", out, status=2)
    assert log_of(bench, server) == []


# Which keys


def keys_of(site):
    return site.server.keys(site.now, user=0, process=1)["keys"]


def test_what_a_member_has_is_what_comes_out(site):
    """Against a member that is not ours."""
    gm = site.gm()
    found = keys_of(site)
    (esp,) = [r for r in found if r["kind"] == "esp"]
    epoch = site.server._groups["line1"].epoch
    assert (esp["address"], esp["spi"]) == ("239.192.1.32", epoch.tek_spi.hex())
    assert esp["key"] == epoch.tek_keymat.hex()
    ike = {(r["spi_i"], r["spi_r"]): (r["sk_ei"], r["sk_er"]) for r in found if r["kind"] == "ike"}
    assert ike[gm.spi_i.hex(), gm.spi_r.hex()] == (gm.sk_ei.hex(), gm.sk_er.hex())
    spi = epoch.rekey.spi.hex()
    assert ike[spi[:16], spi[16:]] == (epoch.rekey.keymat[:20].hex(),) * 2
    assert len(found) == 3


def test_an_ike_sa_that_has_proven_nothing_comes_out_and_one_that_ended_does_not(site):
    gm = site.connect(ForeignGM(b"nobody", KEY))
    spi = gm.spi_r.hex()
    assert spi in str(keys_of(site))
    site.talk(gm.gsa_auth())
    assert spi not in str(keys_of(site)), "its keys are wiped"
    assert "0" * 40 not in str(keys_of(site))


def test_a_rekey_sa_comes_out_as_long_as_its_messages_are_on_their_way(site):
    first = site.server._groups["line1"].epoch.rekey.spi.hex()
    site.send(site.server.rekey("line1", site.now))
    assert first[:16] in str(keys_of(site))
    site.wait(60_000)
    assert first[:16] not in str(keys_of(site))


def test_with_no_server_the_store_says_what_it_has(bench, out):
    assert "No key server is running" in _alone(bench, out)
    assert rows(out, ESP) == []
    bench.end(bench.serve())
    assert "No key server is running" in _alone(bench, out)
    epoch = stored(bench.root)
    assert spis(out) == {epoch.tek_spi.hex()} and epoch.tek_keymat.hex() in rows(out, ESP)[0]
    spi = epoch.rekey.spi.hex()
    assert (spi[:16], spi[16:]) in ike_spis(out)


def _alone(bench, out):
    child = bench.launch("keys", "--yes", "--export", out)
    said, err = child.communicate(timeout=PATIENCE_S)
    bench.said += said + err
    assert child.returncode == 0
    return err


# Where they go


def test_a_running_servers_keys_are_in_the_files_and_nowhere_else(bench, out):
    bench.member("press-7")
    server = bench.serve()
    member = bench.launch("join", "press-7", "--listen", "--json")
    wait_until(lambda: "registered" in member.stdout.readline())
    said = bench.covey("keys", "--yes", "--export", out)
    first, last = said.splitlines()
    assert f"WIRESHARK_CONFIG_DIR={out} " in first
    assert f"udp.port=={bench.carrier_port},udpencap" in first
    assert f"udp.port=={bench.port},isakmp" in first
    assert last == f"Keys in {out}: 1 of data, 2 of IKE; 3 are new."
    status = bench.status()
    assert spis(out) == {status["groups"]["line1"]["spi"]}
    assert status["ike_sas"] == 1
    again = bench.covey("keys", "--yes", "--json", "--export", out)
    assert json.loads(again) == {
        "event": "exported",
        "directory": str(out),
        "esp": 1,
        "ike": 2,
        "new": 0,
    }
    bench.end(member)
    told = log_of(bench, server)
    assert [e["follow"] for e in told] == [False, False]
    assert told[0]["groups"] == ["line1"] and told[0]["ike_sas"] == 1
    if sys.platform == "linux":
        assert [(e["user"], e["process"]) for e in told] == [(os.getuid(), os.getpid())] * 2
    assert len(secrets(out)) == 4
    assert not any(secret in bench.said for secret in secrets(out))
    assert sorted(os.listdir(out)) == [ESP, IKE]


def test_rekeys_of_the_ip_carrier_are_bare_where_their_port_is(bench, out):
    bench.edit(f"carrier_port = {bench.carrier_port}", 'carrier = "ip"\ncarrier_port = 848')
    first = bench.covey("keys", "--yes", "--export", out).splitlines()[0]
    assert "udp.port==848,isakmp" in first and "848,udpencap" not in first


def test_of_a_group_in_clear_no_key_of_data_is_written(bench, out):
    port = f"carrier_port = {bench.carrier_port}"
    bench.edit(port, port + "\nintegrity_only = true")
    server = bench.serve()
    for _ in range(2):  # by a running server, and from the store
        child = bench.launch("keys", "--yes", "--json", "--export", out)
        said, err = child.communicate(timeout=PATIENCE_S)
        assert child.returncode == 0 and json.loads(said)["esp"] == 0
        assert [line for line in err.splitlines() if "integrity_only" in line] == [
            "Data of line1 can be read without a key (integrity_only), so none is written,"
            " and Wireshark does not check it: it has no name for AES-GMAC in ESP."
        ]
        if server:
            server = bench.end(server) and None
    assert rows(out, ESP) == [] and len(rows(out, IKE)) == 1
    assert stored(bench.root).tek_keymat.hex()[:32] not in (out / IKE).read_text()


def test_exports_collect_the_keys_of_all_epochs(bench, out):
    server = bench.serve()
    seen = set()
    for _ in range(3):
        bench.covey("keys", "--yes", "--export", out)
        seen.add(bench.status()["groups"]["line1"]["spi"])
        bench.covey("rekey", "line1")
    assert spis(out) == seen and len(seen) == 3
    bench.end(server)


# As they come


@pytest.fixture
def follower(bench, out):
    """Starts one, and has read its first line."""

    def start():
        child = bench.launch("keys", "--yes", "--json", "--follow", "--export", out)
        assert json.loads(child.stdout.readline())["event"] == "exported"
        return child

    return start


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_following_has_every_key_until_a_signal(bench, out, follower, number, status):
    """Epochs and IKE SAs that are over before it can ask again."""
    bench.member("press-7")
    server = bench.serve()
    child = follower()
    seen = {bench.status()["groups"]["line1"]["spi"]}
    for _ in range(4):
        bench.covey("rekey", "line1")
        seen.add(bench.status()["groups"]["line1"]["spi"])
    stranger = bench.root / "members" / "press-7"
    psk = (stranger / "psk").read_text()
    (stranger / "psk").write_text("00" * 32)
    bench.covey("join", "press-7", "--timeout", "5", "--interface", "127.0.0.1", status=1)
    (stranger / "psk").write_text(psk)
    ended, out_, err = bench.end(child, number)
    assert (ended, err) == (status, "")
    assert spis(out) == seen and len(seen) == 5
    assert len(rows(out, IKE)) == 5 + 1, "a Rekey SA an epoch, and the one that failed"
    told = log_of(bench, server)
    assert [e["follow"] for e in told] == [True]
    assert json.loads(out_.splitlines()[-1])["esp"] == 5


def test_a_killed_server_is_told_once_and_the_next_one_followed(bench, out, follower):
    server = bench.serve()
    child = follower()
    bench.end(server, signal.SIGKILL)
    line = child.stderr.readline()
    if "hung up" in line:  # it was killed in the midst of an answer
        line = child.stderr.readline()
    assert line == "The key server is not running: its keys are added when it is.\n"
    server = bench.serve()
    spi = bench.status()["groups"]["line1"]["spi"]
    wait_until(lambda: spi in spis(out))
    ended, _, err = bench.end(child)
    assert (ended, err) == (0, "")
    assert len(spis(out)) == 2
    assert len(log_of(bench, server)) == 1


def test_following_can_begin_before_the_server(bench, out, follower):
    child = follower()
    assert "No key server is running" in child.stderr.readline()
    server = bench.serve()
    spi = bench.status()["groups"]["line1"]["spi"]
    wait_until(lambda: spi in spis(out))
    assert bench.end(child)[0] == 0
    bench.end(server)


def test_keys_wait_while_they_cannot_be_written(bench, out, follower):
    """And are not lost: somebody puts a directory in the file's place, and takes it away."""
    server = bench.serve()
    child = follower()
    (out / ESP).unlink()
    (out / ESP).mkdir()
    bench.covey("rekey", "line1")
    bench.covey("rekey", "line1")
    assert child.stderr.readline() == f"{out / ESP} is no regular file: remove it first.\n"
    (out / ESP).rmdir()
    wait_until(lambda: (out / ESP).exists() and len(spis(out)) == 2)
    assert bench.end(child)[::2] == (0, "")
    bench.end(server)


def test_what_could_not_be_written_to_the_end_is_a_failure(bench, out, follower):
    server = bench.serve()
    child = follower()
    (out / ESP).unlink()
    (out / ESP).mkdir()
    bench.covey("rekey", "line1")
    assert "regular file" in child.stderr.readline()
    ended, _, err = bench.end(child)
    assert ended == 1 and "regular file" in err and err.count("\n") == 1
    bench.end(server)


def test_two_followers_do_not_disturb_each_other(bench, out, follower):
    server = bench.serve()
    one, two = follower(), follower()
    bench.covey("rekey", "line1")
    assert bench.end(one)[0] == bench.end(two)[0] == 0
    assert len(spis(out)) == 2 == len(rows(out, ESP))
    if sys.platform == "linux":  # elsewhere they look the same
        assert len(log_of(bench, server)) == 2


# What the server keeps for a follower


def records(*spis):
    return [disclosure.of_ike_sa(bytes([n] * 8), bytes(8), bytes(20), bytes(20)) for n in spis]


def test_nothing_is_kept_where_nobody_follows():
    made = disclosure.Disclosure()

    def never():
        raise AssertionError("nobody wants to know")
        yield

    made.note(never(), 0)
    assert made.with_kept(records(1), 0) == records(1)


def test_what_went_is_told_while_somebody_follows():
    made = disclosure.Disclosure()
    assert made.follow(("a",), 0)
    made.note(records(1, 2), 10)
    assert made.with_kept(records(2, 3), 20) == records(1, 2, 3)
    assert made.with_kept(records(), 10 + disclosure.FOLLOWED_MS) == []


def test_keys_go_when_the_follower_has_gone():
    made = disclosure.Disclosure()
    made.follow(("a",), 0)
    made.note(records(1), 0)
    made.note(records(2), disclosure.FOLLOWED_MS)
    assert made._kept == {} and made.with_kept([], disclosure.FOLLOWED_MS) == []


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(disclosure, "_MOST_KEPT", 3)
    made = disclosure.Disclosure()
    made.follow(("a",), 0)
    made.note(records(*range(10)), 0)
    assert made.with_kept([], 0) == records(7, 8, 9)


def test_a_follower_is_told_of_at_once_and_then_every_minute():
    made = disclosure.Disclosure()
    told = [(who, ms) for ms in range(0, 150_000, 500) for who in "ab" if made.follow((who,), ms)]
    assert told == [(who, ms) for ms in (0, 60_000, 120_000) for who in "ab"]
