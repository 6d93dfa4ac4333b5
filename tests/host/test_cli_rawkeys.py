"""`covey` and raw public keys: what is written for a board, and members of both interpreters."""

import json
import stat

import pytest

import member_process
from covey import config
from covey_host.board import files, members
from covey_host.board.boards import load as load_board
from processes import wait_until
from site_bench import Bench
from test_cli_certificates import folder_of, openssl, quick


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    evict = 'evict_atd = "0s"\nevict_dtd = "1s"\nevict_gap = "200ms"'
    made.edit('dtd = "1s"', f'dtd = "2s"\n{evict}')
    yield made
    made.close()
    for file in [*made.root.glob("members/*/key.pem"), *made.root.glob("members/*/ppk")]:
        assert file.read_text().splitlines()[-2:][0] not in made.said, "a secret was shown"


def owned(tmp_path):
    """A key that stays with its owner, and its public half."""
    key, public = tmp_path / "own.key", tmp_path / "own.pub"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    return key, public


def test_what_a_board_needs(bench):
    said = bench.member("press-7", "--sender", "--auth", "key")
    folder = folder_of(bench, "press-7")
    assert "(covey.json, key.pem, server.pem, seed)" in said
    names = {"covey.json", "key.pem", "server.pem", "seed"}
    assert {file.name for file in folder.iterdir()} == names
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    own = config.load(str(folder / "covey.json"))
    assert own.psk is None and len(own.secret) == 32
    server = bench.root.parent / "server.csr"
    bench.covey("site", "ca", "--csr", server)  # the same key as that of its certificate
    assert (
        openssl("req", "-in", server, "-noout", "-pubkey") == (folder / "server.pem").read_text()
    )
    board = load_board("esp32c3")
    found = files.contents(members.load(None, str(folder / "covey.json")), board)
    for name in ("key.pem", "server.pem"):
        assert found.files["/" + name] == (folder / name).read_bytes()
    assert "/lib/covey/rawkeys.mpy" in found.files
    assert {"covey/certs.py", "covey/certfiles.py", "covey/x509.py"} <= set(found.left)
    row = json.loads(bench.covey("member", "list", "--json"))
    assert row["auth"] == "key"
    assert "need new files" in bench.covey("site", "ca", "--new-key")
    bench.member("valve-3", "--auth", "key")
    changed = (folder_of(bench, "valve-3") / "server.pem").read_text()
    assert changed != (folder / "server.pem").read_text()


def test_a_key_that_stays_with_its_owner(bench, tmp_path):
    key, public = owned(tmp_path)
    said = bench.member("press-7", "--auth", "key", "--public-key", public)
    folder = folder_of(bench, "press-7")
    assert "for its owner to add" in said and not (folder / "key.pem").exists()
    (folder / "key.pem").write_bytes(key.read_bytes())
    assert config.load(str(folder / "covey.json")).secret
    assert json.loads(bench.covey("why", "press-7", "--json"))["files"] == []
    (tmp_path / "other").mkdir()
    (folder / "key.pem").write_bytes(owned(tmp_path / "other")[0].read_bytes())
    (said,) = json.loads(bench.covey("why", "press-7", "--json"))["files"]
    assert "is not the key whose public half" in said


def test_a_name_that_is_given_anew(bench, tmp_path):
    """Nothing of the member before stays but a key whose public half is given again."""
    key, public = owned(tmp_path)
    folder = folder_of(bench, "press-7")

    def anew(*how):
        bench.covey("member", "remove", "press-7")
        said = bench.member("press-7", *how)
        assert json.loads(bench.covey("why", "press-7", "--json"))["files"] == []
        return said, {file.name for file in folder.iterdir()} - {"covey.json", "seed"}

    bench.member("press-7", "--auth", "key", "--ppk")
    assert anew("--auth", "key", "--public-key", public)[1] == {"server.pem"}
    (folder / "key.pem").write_bytes(key.read_bytes())
    said, files = anew("--auth", "key", "--public-key", public)
    assert files == {"key.pem", "server.pem"} and "for its owner to add" not in said
    csr = tmp_path / "own.csr"
    openssl("req", "-new", "-key", key, "-subj", "/CN=whatever", "-out", csr)
    assert anew("--auth", "cert", "--csr", csr)[1] == {"key.pem", "cert.pem", "ca.pem"}
    assert anew("--auth", "psk")[1] == {"psk"}


def test_mistakes(bench, tmp_path):
    bad, rsa = tmp_path / "bad", tmp_path / "rsa"
    bad.write_text("nothing")
    openssl("genrsa", "-out", tmp_path / "rsa.key", "2048")
    openssl("rsa", "-in", tmp_path / "rsa.key", "-pubout", "-out", rsa)
    bench.member("valve-3", "--auth", "key")
    own = folder_of(bench, "valve-3") / "server.pem"
    add = ("member", "add", "x", "--group", "line1")
    for words, said in (
        ((*add, "--auth", "key", "--public-key", bad), "--public-key holds no public key"),
        ((*add, "--auth", "key", "--public-key", rsa), "not of P-256"),
        ((*add, "--auth", "key", "--public-key", own), "the key server's own"),
        ((*add, "--auth", "key", "--public-key", tmp_path / "none"), "can't be read"),
        ((*add, "--public-key", bad), "--public-key goes with --auth key"),
        ((*add, "--auth", "key", "--csr", bad), "go with --auth cert"),
        ((*add, "--auth", "key", "--psk-file", bad), "--psk-file goes with --auth psk"),
        ((*add, "--auth", "eap"), "use psk, cert or key"),
        (("member", "revoke", "valve-3"), "a raw public key, no certificate"),
        (("member", "renew", "valve-3"), "a raw public key, and no certificate"),
    ):
        assert said in bench.covey(*words, status=2), words
    assert not folder_of(bench, "x").exists()


@pytest.fixture
def started():
    running = []

    def start(path, on=lambda path: member_process.join(path, "--listen", "--send", "-")):
        running.append(on(path))
        return running[-1]

    yield start
    for member in running:
        member.close()


def test_members_of_both_interpreters_with_and_without_a_ppk(bench, started):
    """And one whose key another has; one without its PPK."""
    bench.member("press-7", "--sender", "--auth", "key", "--ppk")
    bench.member("valve-3", "--sender", "--auth", "key", "--ppk")
    bench.member("drill-2", "--sender", "--ppk")
    bench.member("lamp-1", "--sender")
    bench.member("saw-4", "--sender", "--ppk")
    path = quick(bench, "saw-4")
    fields = json.loads(path.read_text())
    del fields["ppk_file"]
    path.write_text(json.dumps(fields))
    server = bench.serve()
    press = started(quick(bench, "press-7"))
    lamp = started(quick(bench, "lamp-1"))
    valve = started(quick(bench, "valve-3"), member_process.micropython)
    drill = started(quick(bench, "drill-2"), member_process.micropython)
    for member in (press, lamp, valve, drill):
        member.heard("registered")
        member.heard("status")
    valve.say("one")
    for member in (press, lamp, drill):
        member.packet(b"one")
    drill.say("two")
    for member in (press, lamp, valve):
        member.packet(b"two")
    saw = started(path)
    saw.heard("unanswered", detail="The key server refused: authentication_failed.")
    assert "doesn't use the PPK that it must" in bench.covey("why", "saw-4")
    bench.covey("member", "remove", "valve-3")
    valve.heard("refused", detail="The key server refused: authorization_failed.")
    wait_until(lambda: press.count("rekeyed") and drill.count("rekeyed"))
    press.say("three")
    drill.packet(b"three")
    assert valve.opened(b"three") == 0
    failed = [e for e in bench.events(server) if e["event"] == "authentication_failed"]
    assert {(e["member"], e["reason"]) for e in failed} == {("saw-4", "ppk")}
