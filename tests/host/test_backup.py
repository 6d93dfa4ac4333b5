"""Backups and the site key's commands: whole or not at all, sealed, and nothing is overwritten."""

import io
import json
import os
import re
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from covey_host import site as sites
from covey_host.audit import reader
from covey_host.errors import Problem
from covey_host.site import Site
from covey_host.store import sqlite
from covey_host.vault import backup, opening, sitekey, stream
from gcks_site import Killed
from processes import start
from site_bench import Bench


@pytest.fixture(autouse=True)
def no_key_given(monkeypatch):
    for name in (sitekey.VARIABLE, "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def values(root):
    """Of the store; the audit log's mark goes on."""
    store = opening.open_store(Site(root))
    try:
        found = {key: value for key, value, _ in store.scan("")}
        return {key: found[key] for key in found.keys() - {"audit/mark", "seal/state"}}
    finally:
        store.close()


def files(root):
    """Of members and the top, but what the store and its key consist of."""
    left = ("state.", "site.key", "run/")
    found = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
    return {n: p.read_bytes() for n, p in found.items() if not n.startswith(left)}


# The sealed file


def sealed(data, now=7):
    out = io.BytesIO()
    sealing = stream.Sealing(out, KEY, now)
    for at in range(0, len(data), 300_000):
        sealing.write(data[at : at + 300_000])
    sealing.finish()
    return out.getvalue()


def opened(octets, key=None):
    opening = stream.Opening(io.BytesIO(octets), key or KEY, "b.covey", "site.key")
    data = b"".join(iter(lambda: opening.read(77_777), b""))
    opening.finish()
    return data


KEY = sitekey.SiteKey(bytearray(range(32)))
_HEAD = 15 + 8 + 8 + 32
_PIECE = (1 << 20) + 16


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_stream_comes_back_as_it_was(size):
    data = os.urandom(size)
    octets = sealed(data)
    assert opened(octets) == data
    assert len(octets) == _HEAD + size + 16 * (size // (1 << 20) + 1)


def test_a_stream_that_was_altered_cut_or_put_together_anew_is_refused():
    octets = sealed(os.urandom((2 << 20) + 100))
    pieces = [octets[at : at + _PIECE] for at in range(_HEAD, len(octets), _PIECE)]
    head, (a, b, c) = octets[:_HEAD], pieces
    bad = [
        octets[:-1],
        octets + b"x",
        head,
        head + a + b,
        head + a,
        head + a + c,
        head + b + a + c,
    ]
    bad += [head + c, head + a + b + c + c]
    for at in (15 + 8, _HEAD - 1, _HEAD, len(octets) - 1):
        flipped = bytearray(octets)
        flipped[at] ^= 1
        bad.append(bytes(flipped))
    other = sealed(os.urandom((2 << 20) + 100))
    bad.append(head + a + other[_HEAD + _PIECE :])
    for each in bad:
        with pytest.raises(Problem, match="b.covey is damaged or cut short"):
            opened(each)
    assert opened(octets)


def test_what_is_no_backup_and_what_is_under_another_key():
    for octets in (b"", b"covey", bytes(500), b"covey backup 2\n" + bytes(500), sealed(b"")[:40]):
        with pytest.raises(Problem, match="b.covey is no backup"):
            opened(octets)
    other = sitekey.generate()
    with pytest.raises(Problem) as caught:
        opened(sealed(b"x"), other)
    assert KEY.id.hex() in caught.value.sentence and other.id.hex() in caught.value.sentence


# Backup and restore


def test_a_backup_beside_a_running_server_is_restored_whole(bench, tmp_path):
    bench.member("press-7", "--sender")
    bench.member("press-8", "--auth", "cert")
    server = bench.serve()
    assert "(covey serve, process" in bench.covey("site", "key", "--new", status=1)
    entry = json.loads(reader.last_lines(bench.root, 1)[0])
    assert (entry["event"], entry["command"]) == ("failed", "site key")
    for name in ("wifi.json", "audit-000000000000.log", "notes.txt"):
        (bench.root / name).write_text("{}")
    said = bench.covey("backup", tmp_path / "b.covey")
    assert "which is not in it" in said
    key = (bench.root / "site.key").read_text()
    octets = (tmp_path / "b.covey").read_bytes()
    psk = (bench.root / "members/press-7/psk").read_bytes().strip()
    assert stat.S_IMODE((tmp_path / "b.covey").stat().st_mode) == 0o600
    assert psk not in octets and key.strip().encode() not in octets and b"press-7" not in octets
    before = files(bench.root)
    del before["notes.txt"]  # no part of a site
    bench.covey("rekey", "line1")
    bench.covey("member", "remove", "press-7")
    bench.end(server)
    root = tmp_path / "there"
    bench.covey("site", "key", "--move", tmp_path / "kept.key")
    child = start(
        *("-m", "covey_host", "restore", tmp_path / "b.covey", root),
        *("--key-file", tmp_path / "kept.key"),
    )
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert "Whoever was removed since then is a member again" in out and "UTC" in out
    after = files(root)
    log = after.pop("audit.log").removeprefix(before.pop("audit.log"))
    assert b'"command":"restore"' in log and log.count(b"\n") == 1  # of the same chain
    assert after == before and "members/press-8/key.pem" in before
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.lstat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    now, then = values(bench.root), values(root)
    bench.environment["COVEY_SITE"] = str(root)
    bench.end(bench.serve())
    found = json.loads(values(root)["group/line1/state"])["epoch"]
    for each in (now, then):
        epoch = json.loads(each["group/line1/state"])["epoch"]
        assert found["tek_keymat"] != epoch["tek_keymat"] and found["tek_spi"] != epoch["tek_spi"]
        assert found["rekey"]["keymat"] != epoch["rekey"]["keymat"]
    assert b'"removed":true' in now["authority/member/press-7"].replace(b" ", b"")
    assert b'"removed":true' not in then["authority/member/press-7"].replace(b" ", b"")


def test_a_restore_refuses_and_leaves_nothing(bench, tmp_path):
    bench.covey("backup", tmp_path / "b.covey")
    key, used = bench.root / "site.key", tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    new = tmp_path / "new"
    short, other = tmp_path / "short", tmp_path / "other.key"
    short.write_bytes((tmp_path / "b.covey").read_bytes()[:-1])
    sitekey.write(other, sitekey.generate(), put=sites.write_private)
    for file, root, key_file, words in (
        (tmp_path / "b.covey", used, key, "not empty"),
        (tmp_path / "b.covey", bench.root, None, "a site already"),
        (tmp_path / "b.covey", bench.root, other, "leave --key-file out"),
        (tmp_path / "b.covey", new, None, "site key is missing"),
        (tmp_path / "b.covey", new, other, "sealed under the site key with the ID"),
        (tmp_path / "b.covey", new, tmp_path / "none", "can't be read"),
        (short, new, key, "cut short"),
        (tmp_path / "none", new, key, "none can't be used: No such file"),
        (bench.root / "covey.toml", new, key, "no backup"),
    ):
        with pytest.raises(Problem, match=words):
            backup.restore(file, root, key_file)
        assert not new.exists() and os.listdir(used) == ["notes.txt"], words
    backup.restore(tmp_path / "b.covey", new, key)
    assert values(new) == values(bench.root)


def test_the_key_may_be_there_before_the_restore(bench, tmp_path, monkeypatch):
    bench.covey("backup", tmp_path / "b.covey")
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(bench.root / "site.key", new / "site.key")
    backup.restore(tmp_path / "b.covey", new, None)
    assert values(new) == values(bench.root)
    monkeypatch.setenv(sitekey.VARIABLE, (new / "site.key").read_text())
    backup.restore(tmp_path / "b.covey", tmp_path / "third", None)
    assert values(tmp_path / "third") == values(bench.root)
    assert not (tmp_path / "third" / "site.key").exists()


def test_no_backup_is_overwritten_and_a_failed_one_is_gone(bench, tmp_path, monkeypatch):
    there = tmp_path / "b.covey"
    there.write_text("mine")
    assert "no backup is overwritten" in bench.covey("backup", there, status=2)
    assert there.read_text() == "mine"
    last = json.loads(reader.last_lines(bench.root, 1)[0])
    assert (last["event"], last["command"]) == ("failed", "backup")
    assert "no backup is overwritten" in last["reason"] and last["by"]["uid"] == os.getuid()
    assert "can't be written" in bench.covey("backup", tmp_path / "no" / "b", status=1)
    for error, kind in ((OSError(28, "No space left on device"), Problem), (Killed(), Killed)):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(stream.Sealing, "finish", fail)
        with pytest.raises(kind):
            backup.make(Site(bench.root), tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_odd_files_are_named_and_left_out_at_both_ends(bench, tmp_path, monkeypatch, capsys):
    """An editor's, a person's: the backup is one that can be restored."""
    bench.member("press-7")
    for name in ("covey.json~", "a note.txt", "schlüssel", "up\x1b[A"):
        (bench.root / "members/press-7" / name).write_text("mine")
    (bench.root / "members/my boards").mkdir()
    (bench.root / "members/my boards/note").write_text("mine")
    backup.make(Site(bench.root), tmp_path / "b.covey")
    said = capsys.readouterr().err
    for name in ("my boards/note", "covey.json~", "a note.txt", "schlüssel", "up\\x1b[A"):
        assert f"members/{'' if 'my' in name else 'press-7/'}{name}" in said
    key = bench.root / "site.key"
    backup.restore(tmp_path / "b.covey", tmp_path / "new", key)
    assert sorted(os.listdir(tmp_path / "new/members/press-7")) == ["covey.json", "psk", "seed"]
    assert not capsys.readouterr().err
    monkeypatch.setattr(backup, "_OF_MEMBER", re.compile("members/.*", re.DOTALL))
    backup.make(Site(bench.root), tmp_path / "of-before.covey")  # as one that took them along
    monkeypatch.undo()
    backup.restore(tmp_path / "of-before.covey", tmp_path / "newer", key)
    assert "covey.json~" in capsys.readouterr().err
    assert files(tmp_path / "newer") == files(tmp_path / "new")


def test_a_backup_beside_a_full_log_and_a_removal(bench, tmp_path, monkeypatch):
    """The log's file becomes a full one, and a member goes, between a look and a reading."""
    bench.member("press-7")
    bench.member("press-8")
    log, full = bench.root / "audit.log", bench.root / "audit-000000000001.log"
    (bench.root / "audit-000000000000.log").write_text("{}")
    before, listed = log.read_bytes(), Path.iterdir

    def meanwhile(path):
        found = list(listed(path))
        if path == bench.root and not full.exists():
            log.rename(full)
            log.write_text("{}")
        if path == bench.root / "members/press-7":
            shutil.rmtree(path)
        if path == bench.root / "members" and (path / "press-8").exists():
            shutil.rmtree(path / "press-8")
        return iter(found)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", meanwhile)
        backup.make(Site(bench.root), tmp_path / "b.covey")
    backup.restore(tmp_path / "b.covey", tmp_path / "new", bench.root / "site.key")
    assert not list(tmp_path.glob("new/members/*"))
    assert (tmp_path / "new/audit.log").read_bytes() == before
    logs = sorted(p.name for p in tmp_path.glob("new/audit*"))
    assert logs == ["audit-000000000000.log", "audit.log"]


@pytest.mark.parametrize("at", range(5))
def test_a_restore_that_is_killed_can_be_run_again(bench, tmp_path, at, monkeypatch):
    """Between its renamings: members, covey.toml and others are there, and no site is."""
    bench.member("press-7")
    backup.make(Site(bench.root), tmp_path / "b.covey")
    new, key, rename, left = tmp_path / "new", bench.root / "site.key", os.rename, [at]

    def rename_or_die(*names):
        if not left[0]:
            raise Killed
        left[0] -= 1
        rename(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename_or_die)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if nobody had cleaned up
        patch.setattr(sites, "_take_back", lambda _: None)
        with pytest.raises(Killed):
            backup.restore(tmp_path / "b.covey", new, key)
    assert len(list(new.glob("[!.]*"))) >= at - 1 and not (new / "state.db").exists()
    (new / "notes.txt").write_text("mine")
    with pytest.raises(Problem, match="not empty"):
        backup.restore(tmp_path / "b.covey", new, key)
    assert (new / "notes.txt").read_text() == "mine"
    (new / "notes.txt").unlink()
    backup.restore(tmp_path / "b.covey", new, key)
    assert files(new) == files(bench.root) and values(new) == values(bench.root)


def test_a_tar_with_other_names_is_refused(tmp_path):
    """Only who has the site key can have made one; still it writes nowhere else."""
    for name, kind in (
        ("../out", tarfile.REGTYPE),
        ("/tmp/out", tarfile.REGTYPE),
        ("members/../../out", tarfile.REGTYPE),
        ("members/press-7/psk", tarfile.SYMTYPE),
        ("members/press-7/psk", tarfile.LNKTYPE),
        ("members/press-7/odd name", tarfile.FIFOTYPE),
        ("covey.toml", tarfile.SYMTYPE),
        ("state.db", tarfile.DIRTYPE),
    ):
        out = io.BytesIO()
        sealing = stream.Sealing(out, KEY, 7)
        with tarfile.open(fileobj=sealing, mode="w|") as tar:
            head = tarfile.TarInfo(name)
            head.type = kind
            tar.addfile(head)
        sealing.finish()
        (tmp_path / "b.covey").write_bytes(out.getvalue())
        sitekey.write(tmp_path / "key", KEY)
        with pytest.raises(Problem, match="no backup that this Covey can read"):
            backup.restore(tmp_path / "b.covey", tmp_path / "new", tmp_path / "key")
        assert not (tmp_path / "new").exists()


def test_a_backup_of_an_old_site_seals_it_first(tmp_path):
    root = tmp_path / "old"
    root.mkdir(0o700)
    (root / "covey.toml").write_text('identity = "gcks.example"\n')
    store = sqlite.create(root / "state.db")
    store.compare_and_swap([("a", 0, b"plain as day")], None)
    store.close()
    backup.make(Site(root), tmp_path / "b.covey")
    backup.restore(tmp_path / "b.covey", tmp_path / "new", root / "site.key")
    assert values(tmp_path / "new")["a"] == b"plain as day"


# The site key's commands


def test_another_key_and_another_place(bench, tmp_path):
    bench.member("press-7")
    before, key = values(bench.root), (bench.root / "site.key").read_text()
    said = bench.covey("site", "key")
    assert f"is in {bench.root}/site.key" in said and key.strip() not in said
    store = bench.store()
    store.lock("covey serve")
    for words in (("--new",), ("--move", tmp_path / "kept.key")):
        assert "(covey serve, process" in bench.covey("site", "key", *words, status=1)
    store.close()
    assert (bench.root / "site.key").read_text() == key and not (tmp_path / "kept.key").exists()
    bench.covey("site", "key", "--new", "--move", tmp_path / "kept.key")
    assert (bench.root / "site.key").readlink() == tmp_path / "kept.key"
    assert values(bench.root) == before
    assert key not in (tmp_path / "kept.key").read_text()
    assert stat.S_IMODE((tmp_path / "kept.key").stat().st_mode) == 0o600
    (bench.root / "site.key").unlink()
    (bench.root / "site.key").write_text(key)
    (bench.root / "site.key").chmod(0o600)
    with pytest.raises(Problem, match="another key"):
        values(bench.root)
    (bench.root / "site.key").unlink()
    (bench.root / "site.key").symlink_to(tmp_path / "kept.key")
    bench.covey("site", "key", "--move", bench.root / "site2.key")
    assert not (tmp_path / "kept.key").exists() and values(bench.root) == before
    assert "exists" in bench.covey("site", "key", "--move", bench.root / "site2.key", status=2)
    assert values(bench.root) == before


def test_a_key_that_others_give_is_theirs_to_change(bench, monkeypatch):
    text = (bench.root / "site.key").read_text()
    (bench.root / "site.key").unlink()
    monkeypatch.setenv(sitekey.VARIABLE, text)
    before = values(bench.root)
    with pytest.raises(Problem, match="COVEY_SITE_KEY gives the site key"):
        opening.change_key(Site(bench.root))
    monkeypatch.setenv(sitekey.VARIABLE, "5a" * 32 + " " + text)
    bench.covey("member", "list")
    monkeypatch.setenv(sitekey.VARIABLE, "5a" * 32)
    assert values(bench.root) == before


@pytest.mark.parametrize("at", range(7))
def test_a_change_of_keys_that_is_killed_is_brought_to_its_end(bench, at, monkeypatch):
    """At each write of a file or of the store."""
    left, before = [at], values(bench.root)

    def dying(work):
        def call(*args, **kwargs):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return work(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(sqlite.SQLiteStore, "checkpoint", dying(sqlite.SQLiteStore.checkpoint))
        swap = dying(sqlite.SQLiteStore.compare_and_swap)
        patch.setattr(sqlite.SQLiteStore, "compare_and_swap", swap)
        was_killed = False
        try:
            opening.change_key(Site(bench.root))
        except Killed:
            was_killed = True
    assert was_killed == (at < 5)
    assert values(bench.root) == before
    bench.covey("member", "list")  # takes the lock
    assert values(bench.root) == before
    assert len((bench.root / "site.key").read_text().split()) == 1
    keys = sitekey.find(bench.root / "site.key")
    raw = sqlite.open_existing(bench.root / "state.db")
    assert all(opening.seal_of(keys.newest).has_made(value) for _, value, _ in raw.scan(""))
    raw.close()
