"""`covey` and certificates: what is written for a board, and members of both interpreters."""

import json
import shutil
import stat
import subprocess

import pytest

import member_process
from covey import config
from covey_host.board import code, files, members
from covey_host.board.boards import load as load_board
from processes import wait_until
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    evict = 'evict_atd = "0s"\nevict_dtd = "1s"\nevict_gap = "200ms"'
    made.edit('dtd = "1s"', f'dtd = "2s"\n{evict}')
    yield made
    made.close()
    for file in made.root.glob("members/*/key.pem"):
        assert file.read_text().splitlines()[1] not in made.said, "a private key was shown"


def folder_of(bench, name):
    return bench.root / "members" / name


def openssl(*arguments, **how):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, **how)
    return done.stdout.decode() + done.stderr.decode()


def request(tmp_path):
    """A key that stays with its owner, and the request for it."""
    key, csr = tmp_path / "own.key", tmp_path / "own.csr"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", "/CN=whatever", "-out", csr)
    return key, csr


def test_what_a_board_needs(bench):
    said = bench.member("press-7", "--sender", "--auth", "cert")
    folder = folder_of(bench, "press-7")
    assert "(covey.json, key.pem, cert.pem, ca.pem, seed)" in said
    names = {"covey.json", "key.pem", "cert.pem", "ca.pem", "seed"}
    assert {file.name for file in folder.iterdir()} == names
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    settings = config.load(str(folder / "covey.json"))
    assert settings.psk is None and len(settings.secret) == 32 and settings.idr
    checked = openssl("verify", "-CAfile", folder / "ca.pem", folder / "cert.pem")
    assert checked.endswith("cert.pem: OK\n")
    shown = openssl("x509", "-in", folder / "cert.pem", "-noout", "-text")
    assert "DNS:press-7" in shown and "TLS Web Client Authentication" in shown
    board = load_board("esp32c3")
    member = members.load(None, str(folder / "covey.json"))
    found = files.contents(member, board)
    for name in ("key.pem", "cert.pem", "ca.pem"):
        assert found.files["/" + name] == (folder / name).read_bytes()
    assert "/lib/covey/certs.mpy" in found.files and "/psk" not in found.files
    bench.member("lamp-1")
    plain = files.contents(
        members.load(None, str(folder_of(bench, "lamp-1") / "covey.json")), board
    )
    left = {"covey/certs.py", "covey/certfiles.py", "covey/x509.py", "covey/p256_sign.py"}
    left |= {"covey/digital.py", "covey/keyfiles.py"}
    assert left <= set(plain.left) and not left & set(found.left)
    assert code.SOURCE.joinpath("covey", "certs.py").exists()


def test_a_request_for_a_key_that_stays_with_its_owner(bench, tmp_path):
    key, csr = request(tmp_path)
    said = bench.member("press-7", "--auth", "cert", "--csr", csr, "--days", 20)
    folder = folder_of(bench, "press-7")
    assert "for its owner to add" in said and not (folder / "key.pem").exists()
    (folder / "key.pem").write_bytes(key.read_bytes())
    assert config.load(str(folder / "covey.json")).secret
    first = (folder / "cert.pem").read_bytes()
    told = json.loads(bench.covey("why", "press-7", "--json"))
    assert "ends in 19 days: make another one" in told["files"][0]
    said = bench.covey("member", "renew", "press-7", "--days", 60)
    assert "holds until" in said and (folder / "cert.pem").read_bytes() != first
    public = openssl("x509", "-in", folder / "cert.pem", "-noout", "-pubkey")
    assert public == openssl("ec", "-in", key, "-pubout").replace(
        "read EC key\nwriting EC key\n", ""
    )
    told = json.loads(bench.covey("why", "press-7", "--json"))
    assert told["files"] == []
    (folder / "key.pem").write_bytes(issued_elsewhere(tmp_path).read_bytes())
    told = json.loads(bench.covey("why", "press-7", "--json"))
    assert "is not for the key" in told["files"][0]


def issued_elsewhere(tmp_path):
    (tmp_path / "other").mkdir()
    return request(tmp_path / "other")[0]


def test_mistakes(bench, tmp_path):
    identity = json.loads(bench.covey("site", "ca", "--json"))["ca"].removeprefix("CN=Covey CA ")
    bad = tmp_path / "bad"
    bad.write_text("nothing")
    bench.member("lamp-1")
    for words, said in (
        (("member", "add", identity, "--group", "line1", "--auth", "cert"), "own name"),
        (("member", "add", "x", "--group", "line1", "--auth", "cert", "--csr", bad), "request"),
        (("member", "add", "x", "--group", "line1", "--auth", "cert", "--cert", bad), "no X.509"),
        (("member", "revoke", "lamp-1"), "pre-shared key"),
        (("member", "renew", "lamp-1"), "pre-shared key"),
        (("member", "renew", "nobody"), "no member"),
        (("site", "ca", "--new"), "already"),
        (("site", "ca", "--ca-key", bad), "--ca-cert"),
        (("site", "ca", "--ca-cert", bad), "no X.509"),
        (("site", "ca", "--cert", bad), "no X.509"),
        (("site", "ca", "--crl", bad), "revocation list"),
    ):
        assert said in bench.covey(*words, status=2), words
    assert not folder_of(bench, "x").exists()


def test_a_site_from_before_there_were_certificates(bench):

    store = bench.store()
    for key in ("trust/ca", "trust/server"):
        _, version = store.read(key)
        assert store.compare_and_swap([(key, version, None)], None)
    store.close()
    assert "no CA" in bench.covey("site", "ca")
    add = ("member", "add", "x", "--group", "line1", "--auth", "cert")
    assert "site ca --new" in bench.covey(*add, status=2)
    assert "here" in bench.covey("site", "ca", "--new")
    bench.member("x", "--auth", "cert")


def test_another_ca(bench, tmp_path):
    key, crt, pem = tmp_path / "ca.key", tmp_path / "ca.crt", tmp_path / "own.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-x509", "-new", "-key", key, "-subj", "/CN=ours", "-days", 30, "-out", crt)
    told = json.loads(bench.covey("site", "ca", "--ca-cert", crt, "--ca-key", key, "--json"))
    assert told["ca"] == "CN=ours" and told["issues"] and told["server_until"]
    bench.member("press-7", "--auth", "cert")
    folder = folder_of(bench, "press-7")
    assert openssl("verify", "-CAfile", crt, folder / "cert.pem").endswith("OK\n")
    bench.covey("site", "ca", "--export", pem)
    assert pem.read_bytes() == (folder / "ca.pem").read_bytes()
    assert bench.covey("member", "revoke", "press-7").startswith("Removed press-7")
    listed = openssl("crl", "-in", bench.root / "crl.pem", "-CAfile", crt, "-noout", "-text")
    serial = openssl("x509", "-in", folder / "cert.pem", "-noout", "-serial").split("=")[1].strip()
    assert "verify OK" in listed and serial.lstrip("0") in listed


@pytest.fixture
def started():
    """Members on CPython, or as `on` says; they end with the test."""
    running = []

    def start(path, on=lambda path: member_process.join(path, "--listen", "--send", "-")):
        running.append(on(path))
        return running[-1]

    yield start
    for member in running:
        member.close()


def quick(bench, name):
    path = folder_of(bench, name) / "covey.json"
    fields = json.loads(path.read_text())
    fields |= {"retransmit": {"first_ms": 200, "total_s": 10}, "rejoin_spread_s": 0}
    path.write_text(json.dumps(fields))
    return path


def test_members_of_both_interpreters_and_one_that_is_revoked(bench, tmp_path, started):
    for name in ("press-7", "valve-3", "drill-2"):
        bench.member(name, "--sender", "--auth", "cert")
    bench.member("desk-1", "--sender")  # by a pre-shared key, in the same group
    server = bench.serve()
    press = started(quick(bench, "press-7"))
    desk = started(quick(bench, "desk-1"))
    valve = started(quick(bench, "valve-3"), member_process.micropython)
    drill = started(quick(bench, "drill-2"))
    for member in (press, desk, valve, drill):
        member.heard("registered")
        member.heard("status")  # from then on it listens
    press.say("one")
    for member in (desk, valve, drill):
        member.packet(b"one")
    valve.say("two")
    for member in (press, desk, drill):
        member.packet(b"two")
    bench.covey("member", "revoke", "valve-3", "drill-2")
    for member in (valve, drill):
        member.heard("refused", detail="The key server refused: authorization_failed.")
    wait_until(lambda: press.count("rekeyed") and desk.count("rekeyed"))
    press.say("three")
    desk.packet(b"three")
    assert valve.opened(b"three") == drill.opened(b"three") == 0
    old = shutil.copytree(folder_of(bench, "drill-2"), tmp_path / "old")
    bench.member("drill-2", "--auth", "cert")  # another board has its name now
    drill = started(old / "covey.json")
    drill.heard("unanswered", detail="The key server refused: authentication_failed.")
    told = json.loads(bench.covey("why", "drill-2", "--json"))
    assert "certificate_revoked" in [row.get("reason") for row in told["history"]]
    assert "certificate" in [cause["cause"] for cause in told["causes"]]
    assert "shows a certificate that was revoked" in bench.covey("why", "drill-2")
    log = bench.events(server)
    failed = [e for e in log if e["event"] == "authentication_failed"]
    assert {(e["member"], e["reason"]) for e in failed} == {("drill-2", "certificate_revoked")}
