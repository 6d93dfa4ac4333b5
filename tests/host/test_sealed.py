"""The store's values under the site key: nothing in clear, nothing moved, keys changed."""

import hmac
import io
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from covey_host import commands
from covey_host import site as sites
from covey_host.errors import MISUSE, Problem
from covey_host.gcks import authority
from covey_host.site import Site
from covey_host.store import KEEP, sealed, sqlite
from covey_host.store.sealed import Seal, SealedStore
from covey_host.vault import sitekey, stream
from covey_host.vault.opening import create_store, open_store, seal_of
from gcks_site import CutStore, Killed
from processes import ENVIRONMENT
from replicas import lead_of

_SECRET = b"0123456789abcdef secret" * 3


@pytest.fixture(autouse=True)
def no_key_given(monkeypatch):
    for name in (sitekey.VARIABLE, "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site(tmp_path):
    """With one value, closed."""
    commands.init(tmp_path / "site", "gcks.example")
    made = Site(tmp_path / "site")
    store = open_store(made)
    store.compare_and_swap([("a", 0, _SECRET), ("b", 0, b"")], None)
    store.close()
    return made


def everything(root):
    """What the store consists of, as octets."""
    return b"".join(f.read_bytes() for f in root.glob("state.db*"))


def seal(number=1):
    return Seal(bytes([number]) * 32, bytes([number]) * 8)


def old_site(root):
    """As a Covey without a site key left it."""
    root.mkdir(0o700)
    made = Site(root)
    made.policy.write_text('identity = "gcks.example"\n')
    store = sqlite.create(made.store)
    authority.make_signing_key(store)
    assert store.compare_and_swap(
        [(f"k/{i:03}", 0, _SECRET + b"%d" % i) for i in range(250)], None
    )
    store.close()
    return made


def plain_values(site):
    store = open_store(site)
    try:
        return {key: value for key, value, _ in store.scan("") if key != "seal/state"}
    finally:
        store.close()


# The layer


def test_what_is_written_is_read_and_nothing_of_it_is_in_the_files(site):
    store = open_store(site)
    assert store.read("a")[0] == _SECRET and store.read("b")[0] == b""
    assert [key for key, value, _ in store.scan("a", "", 1)] == ["a"]
    assert store.read("none") == (None, 0)
    version = store.read("a")[1]
    assert not store.compare_and_swap([("a", version + 1, b"x")], None)
    assert store.compare_and_swap([("a", version, _SECRET * 2), ("b", version, None)], None)
    assert store.read("b") == (None, 0)
    assert store.reserve("n", 2) == 0 and store.reserve("n", 1) == 2
    assert b"secret" not in everything(site.root)
    assert b"-----" not in everything(site.root) and b'"epoch"' not in everything(site.root)
    store.close()


def test_what_is_kept_open_is_what_the_store_holds(tmp_path):
    """Written by others, not written after all, deleted, or too much to be kept."""
    inner = sqlite.create(tmp_path / "state.db")
    store = SealedStore(inner, seal())
    assert store.compare_and_swap([("a", 0, b"one")], None)
    assert store.read("a")[0] == b"one"
    _put(inner, "a", seal().close("a", b"two"))
    assert store.read("a")[0] == b"two"
    assert not store.compare_and_swap([("a", 99, b"three")], None)
    assert store.read("a")[0] == b"two"
    assert not store.compare_and_swap([("a", 99, None)], None)
    assert store.read("a")[0] == b"two"
    changes = [(f"k{i}", 0, bytes(i * 40)) for i in range(200)]
    assert store.compare_and_swap(changes, None)
    assert all(store.read(key)[0] == value for key, _, value in changes)
    assert len(store._kept) <= 64 and sum(len(p) for _, p in store._kept.values()) <= 64 * 4096
    store.close()
    assert not store._kept


def test_equal_values_do_not_look_equal(tmp_path):
    inner = sqlite.create(tmp_path / "state.db")
    store = SealedStore(inner, seal())
    store.compare_and_swap([("a", 0, _SECRET), ("b", 0, _SECRET)], None)
    one, other = (inner.read(key)[0] for key in "ab")
    assert one != other and len(one) == len(other) == len(_SECRET) + 4 + 8 + 12 + 16


def test_a_value_that_is_altered_moved_in_clear_or_of_another_key_is_refused(tmp_path):
    inner = sqlite.create(tmp_path / "state.db")
    SealedStore(inner, seal()).compare_and_swap([("a", 0, _SECRET), ("b", 0, b"b")], None)
    good, _ = inner.read("a")
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1
        _put(inner, "a", bytes(bad))
        with pytest.raises(Problem, match="^a in the store"):
            SealedStore(inner, seal()).read("a")
    for value, words in (
        (inner.read("b")[0], "altered"),
        (_SECRET, "not sealed"),
        (b"", "not sealed"),
        (good[:30], "altered"),
        (good[:12], "altered"),
        (seal(2).close("a", _SECRET), "another site key"),
    ):
        _put(inner, "a", value)
        with pytest.raises(Problem, match=words) as caught:
            SealedStore(inner, seal()).scan("")
        assert "secret" not in caught.value.sentence
    _put(inner, "a", good)
    assert SealedStore(inner, seal()).read("a")[0] == _SECRET


def _put(store, key, value):
    assert store.compare_and_swap([(key, store.read(key)[1], value)], None)


def test_a_value_under_an_older_key_is_read_and_sealed_anew_under_the_lock(tmp_path):
    inner = sqlite.create(tmp_path / "state.db")
    SealedStore(inner, seal(1)).compare_and_swap([(f"k{i}", 0, b"x") for i in range(205)], None)
    _put(inner, "k7", b"plain")
    done = []
    store = SealedStore(inner, seal(2), (seal(1),), True, lambda: done.append(True))
    assert store.read("k3")[0] == b"x" and store.read("k7")[0] == b"plain"
    store.lock("test")
    assert done == [True]
    assert all(seal(2).has_made(value) for _, value, _ in inner.scan(""))
    assert {k: v for k, v, _ in SealedStore(inner, seal(2)).scan("k")}["k7"] == b"plain"
    _put(inner, "k7", seal(1).close("k7", b"old"))
    with pytest.raises(Problem, match="another site key"):
        store.read("k7")


def test_somebody_who_writes_meanwhile_loses_nothing(tmp_path):
    """While all is sealed anew, a value that has moved on is looked at again."""
    inner = sqlite.create(tmp_path / "state.db")
    inner.compare_and_swap([("a", 0, b"1"), ("b", 0, b"1")], None)

    class Busy:
        def __init__(self):
            self.left = 2

        def __getattr__(self, name):
            return getattr(inner, name)

        def compare_and_swap(self, changes, term):
            if self.left:
                self.left -= 1
                _put(inner, "b", b"late%d" % self.left)
            return inner.compare_and_swap(changes, term)

    store = SealedStore(Busy(), seal(), (), True)
    store.lock("test")
    assert store.read("b")[0] == b"late0" and store.read("a")[0] == b"1"
    assert all(sealed.is_sealed(value) for _, value, _ in inner.scan(""))


# The key


def test_the_key_is_private_and_random(tmp_path, site):
    commands.init(tmp_path / "other", "gcks.example")
    texts = {file.read_text() for file in (site.key, tmp_path / "other" / "site.key")}
    assert len(texts) == 2 and all(re.fullmatch(r"[0-9a-f]{64}\n", text) for text in texts)
    assert stat.S_IMODE(site.key.stat().st_mode) == 0o600
    site.key.chmod(0o640)
    with pytest.raises(Problem, match="chmod 600"):
        open_store(site)


def test_the_key_shows_itself_nowhere(site):
    keys = sitekey.find(site.key)
    digits = site.key.read_text().strip()
    shown = [repr(keys), repr(keys.newest), str(keys), repr(seal()), keys.newest.id.hex()]
    assert not any(digits[:16] in text or r"\x" in text for text in shown)
    assert keys.newest.text().decode() == digits + "\n"
    assert len({keys.newest.derive(p) for p in ("id", "store", "backup")}) == 3
    keys.wipe()
    assert keys.newest.text() == b"0" * 64 + b"\n"


@pytest.mark.parametrize("text", ["", "plain", "00" * 31, "0g" * 32, "00" * 32 + " x", "é" * 64])
def test_what_is_no_key_is_one_sentence(site, text):
    site.key.write_text(text)
    with pytest.raises(Problem, match="holds no site key: it must be 64 hex") as caught:
        open_store(site)
    assert caught.value.status == MISUSE


def test_a_key_may_be_written_in_capitals(site):
    site.key.write_text(site.key.read_text().upper())
    assert plain_values(site)["a"] == _SECRET


def test_without_the_key_and_with_a_wrong_one(site):
    text = site.key.read_text()
    site.key.write_text("5a" * 32)
    with pytest.raises(Problem, match="sealed under another key than .*site.key gives"):
        open_store(site)
    site.key.unlink()
    with pytest.raises(Problem, match="key of .*state.db is missing: bring it back"):
        open_store(site)
    assert not site.key.exists(), "a new key was made for values that it can't open"
    site.key.symlink_to("nowhere")
    with pytest.raises(Problem, match="a link to nowhere, can't be read: No such file"):
        open_store(site)
    site.key.unlink()
    site.key.write_text(text)
    site.key.chmod(0o600)
    assert plain_values(site)["a"] == _SECRET


def test_the_environment_and_systemd_give_the_key(site, tmp_path, monkeypatch):
    text = site.key.read_text()
    site.key.unlink()
    monkeypatch.setenv(sitekey.VARIABLE, text)
    assert plain_values(site)["a"] == _SECRET
    monkeypatch.delenv(sitekey.VARIABLE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(Problem, match="is missing"):
        open_store(site)
    (tmp_path / "covey-site-key").write_text(text)
    (tmp_path / "covey-site-key").chmod(0o440)
    assert plain_values(site)["a"] == _SECRET
    monkeypatch.setenv(sitekey.VARIABLE, "77" * 32)
    with pytest.raises(Problem, match="COVEY_SITE_KEY gives"):
        open_store(site)


def test_init_with_a_key_from_elsewhere(tmp_path, monkeypatch):
    file = tmp_path / "kept" / "plant.key"
    with pytest.raises(Problem, match="plant.key can't be written: No such file"):
        commands.init(tmp_path / "a", "gcks.example", key_file=file)
    file.parent.mkdir()
    commands.init(tmp_path / "a", "gcks.example", key_file=file)
    assert (tmp_path / "a" / "site.key").readlink() == file
    with pytest.raises(Problem, match="each site has its own key"):
        commands.init(tmp_path / "b", "gcks.example", key_file=file)
    assert not (tmp_path / "b").exists()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shutil.copytree(tmp_path / "a", tmp_path / "copy", symlinks=True)
    assert file.read_text().strip() not in str(everything(tmp_path / "copy"))
    monkeypatch.setenv(sitekey.VARIABLE, "5a" * 32)
    commands.init(tmp_path / "c", "gcks.example")
    assert not (tmp_path / "c" / "site.key").exists()
    assert "authority/signing-key" in plain_values(Site(tmp_path / "c"))
    with pytest.raises(Problem, match="leave --key-file out"):
        commands.init(tmp_path / "d", "gcks.example", key_file=file)


def test_init_keeps_a_key_that_is_there(tmp_path):
    """Of an init that was killed, or brought by a person."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "site.key").write_text("5a" * 32)
    (root / "site.key").chmod(0o600)
    commands.init(root, "gcks.example")
    assert (root / "site.key").read_text() == "5a" * 32
    assert "authority/signing-key" in plain_values(Site(root))


def test_a_store_is_made_over_none(site):
    with pytest.raises(Problem, match="exists already"):
        create_store(site.store, site.key, None)


# A site of before


def test_an_old_site_is_sealed_at_its_next_start(tmp_path):
    site = old_site(tmp_path / "old")
    assert b"secret" in everything(site.root)
    before = {k: v for k, v, _ in _raw(site)}
    store = open_store(site)
    assert store.read("k/007")[0] == before["k/007"]  # reading needs no lock
    store.lock("test")
    assert b"secret" not in everything(site.root), "beside the running server, too"
    store.close()
    found = plain_values(site)
    assert {key: found.pop(key) for key in before} == before
    assert set(found) == {"audit/key", "audit/mark"}
    assert re.fullmatch(r"[0-9a-f]{64}\n", site.key.read_text()), "`plain` would stay believed"
    assert all(sealed.is_sealed(value) for _, value, _ in _raw(site))


def _raw(site):
    store = sqlite.open_existing(site.store)
    try:
        return store.scan("")
    finally:
        store.close()


def test_killed_while_an_old_site_is_sealed(tmp_path, monkeypatch):
    opened = sqlite.open_existing
    before = None
    for at in range(1, 6):  # of five writes: 251 values, and twice the state
        for after in (False, True):
            site = old_site(tmp_path / f"old-{at}-{after}")
            before = before or {k: v for k, v, _ in _raw(site) if k.startswith("k/")}
            cut = [None]

            def cutting(path, at=at, after=after, cut=cut):
                made = opened(path)
                swap = CutStore(sqlite.SQLiteStore(path, made._db), at, after).compare_and_swap
                made.compare_and_swap = swap
                cut[0] = made
                return made

            monkeypatch.setattr(sqlite, "open_existing", cutting)
            with pytest.raises(Killed):
                open_store(site).lock("test")
            monkeypatch.setattr(sqlite, "open_existing", opened)
            cut[0].close()
            store = open_store(site)
            store.lock("test")
            store.close()
            found = plain_values(site)
            assert {k: v for k, v in found.items() if k.startswith("k/")} == before
            assert b"secret" not in everything(site.root)
            assert b"plain" not in site.key.read_bytes()


def test_two_commands_seal_an_old_site_at_once(tmp_path, monkeypatch):
    """Each between the other's look and its key: there is one key, and never half of it."""
    site = old_site(tmp_path / "old")
    write, others = sites.write_private, []

    def write_after_another(path, data):
        if not others:
            others.append(None)
            others[0] = open_store(site)
        write(path, data)
        assert not site.key.exists() or len(site.key.read_text().split()) == 2

    monkeypatch.setattr(sites, "write_private", write_after_another)
    mine = open_store(site)
    monkeypatch.undo()
    others[0].lock("another")
    others[0].close()
    mine.lock("me")
    assert mine.read("k/001")[0] == _SECRET + b"1"
    mine.close()
    assert plain_values(site)["k/001"] == _SECRET + b"1"
    assert sorted(p.name for p in site.root.iterdir() if "key" in p.name) == ["site.key"]


def test_an_old_site_whose_key_comes_from_elsewhere(tmp_path, monkeypatch):
    site = old_site(tmp_path / "old")
    monkeypatch.setenv(sitekey.VARIABLE, "5a" * 32)
    with pytest.raises(Problem, match="is not sealed.*`plain`"):
        open_store(site)
    monkeypatch.setenv(sitekey.VARIABLE, "5a" * 32 + " plain")
    store = open_store(site)
    store.lock("test")
    store.close()
    monkeypatch.setenv(sitekey.VARIABLE, "5a" * 32)
    assert plain_values(site)["k/001"] == _SECRET + b"1"
    assert not site.key.exists()


def test_a_forgotten_word_lets_nothing_in_once_all_is_sealed(tmp_path, monkeypatch, capsys):
    """`plain`, or an older key, still in the environment: the store says that it is over."""
    site, old = old_site(tmp_path / "old"), seal(1)
    monkeypatch.setenv(sitekey.VARIABLE, "5a" * 32 + " plain")
    for _ in range(2):
        store = open_store(site)
        store.lock("test")
        store.close()
        assert "take away what is written behind it" in capsys.readouterr().err
    with closing(sqlite.open_existing(site.store)) as raw:
        _put(raw, "member/evil", b"{}")
    with closing(open_store(site)) as store:
        with pytest.raises(Problem, match="member/evil in the store is not sealed"):
            store.read("member/evil")
    with closing(sqlite.open_existing(site.store)) as raw:
        raw.compare_and_swap([("seal/state", raw.read("seal/state")[1], None)], None)
    with pytest.raises(Problem, match="seal/state was taken out"):
        open_store(site)
    with closing(sqlite.open_existing(site.store)) as raw:
        _put(raw, "seal/state", b"changing")
    with pytest.raises(Problem, match="seal/state in the store is not sealed"):
        open_store(site)
    inner = sqlite.create(tmp_path / "state.db")
    with closing(SealedStore(inner, seal(2), (old,), True)) as store:
        store.begin()
        _put(inner, "k", old.close("k", b"of long ago"))
        with pytest.raises(Problem, match="another site key"):
            store.read("k")
        with pytest.raises(Problem, match="another site key"):
            SealedStore(inner, seal(2), (old,)).read("k")


def test_while_somebody_reads_the_log_is_not_taken_for_empty(tmp_path, monkeypatch):
    """What was replaced lies in SQLite's log as long as a reader's view needs it."""
    monkeypatch.setattr(sqlite, "_BUSY_S", 0)
    site = old_site(tmp_path / "old")
    reader = sqlite3.connect(site.store, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM entries").fetchall()
    with closing(open_store(site)) as store, pytest.raises(Problem, match="is being read by ano"):
        store.lock("test")
    assert b"secret" in everything(site.root) and b"plain" in site.key.read_bytes()
    reader.close()
    with closing(open_store(site)) as store:
        store.lock("test")
        assert b"secret" not in everything(site.root)
    assert b"plain" not in site.key.read_bytes()


def test_a_plain_store_in_place_of_a_sealed_one_is_not_believed(site):
    db = sqlite3.connect(site.store)
    db.execute("UPDATE entries SET value = x'7b7d'")
    db.commit()
    db.close()
    with pytest.raises(Problem, match="not sealed"):
        open_store(site)


def test_a_command_in_a_child_reads_what_this_one_wrote(site):
    """No state in memory: the key is in its file."""
    words = [sys.executable, "-m", "covey_host", "member", "list", "--json", "--site", site.root]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    os.rename(site.key, site.root / "gone")
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "missing" in done.stderr


def test_no_core_is_dumped():
    script = """
import resource
from covey_host import __main__, cli
limit = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
cli.main = lambda: print(resource.getrlimit(resource.RLIMIT_CORE) == (0, limit[1]))
__main__.main()
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
    refused = (
        "def setrlimit(*limits):\n    raise PermissionError\nresource.setrlimit = setrlimit\n"
    )
    script = script.replace("cli.main = ", refused + "cli.main = ")
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.stdout in ("True\n", "False\n") and not done.stderr


def test_the_octets_are_those_of_the_specification():
    """Written apart, from docs/spec.md."""
    octets = bytes(range(100, 132))
    key = sitekey.SiteKey(bytearray(octets))
    id, store, backup = (
        hmac.digest(octets, b"covey " + what + b"\1", "sha256")
        for what in (b"id", b"store", b"backup")
    )
    value = seal_of(key).close("group/g/state", b"plain")
    assert value[:12] == b"\x93cvs" + id[:8]
    opened = AESGCMSIV(store).decrypt(value[12:24], value[24:], b"covey store group/g/state")
    assert opened == b"plain"
    out = io.BytesIO()
    sealing = stream.Sealing(out, key, 0x0102030405)
    sealing.write(bytes(1 << 20) + b"rest")
    sealing.finish()
    file = out.getvalue()
    assert file[:31] == b"covey backup 1\n" + id[:8] + bytes.fromhex("0000000102030405")
    cipher, end = AESGCMSIV(hmac.digest(backup, file[:63], "sha256")), 63 + (1 << 20) + 16
    assert cipher.decrypt(bytes(12), file[63:end], None) == bytes(1 << 20)
    assert cipher.decrypt(bytes(10) + b"\1\1", file[end:], None) == b"rest"


# Replicas


def test_what_replicas_say_is_sealed_and_what_was_altered_was_not_said(tmp_path):
    inner = sqlite.create(tmp_path / "state.db")
    store = SealedStore(inner, seal(1))
    store.begin()
    store.join("one")
    term = store.acquire_term("one", None, "a run", b"at 192.0.2.1")
    assert lead_of(store)[:4] == (term, "one", "a run", b"at 192.0.2.1")
    store.beat(term, b"at 192.0.2.2")
    store.present(b"at 192.0.2.3")
    assert lead_of(store).facts == store.changed("", 0).lead.facts == b"at 192.0.2.2"
    assert store.replicas()[0][:2] == ("one", b"at 192.0.2.3")
    assert b"192.0.2" not in lead_of(inner).facts + inner.replicas()[0].facts
    sealed = inner.replicas()[0].facts
    for said in (sealed, b"plain", b"", lead_of(inner).facts[:-1]):  # of another name, too
        inner.beat(term, said)
        assert lead_of(store).facts == b"" and lead_of(store).version
    other = SealedStore(sqlite.open_existing(tmp_path / "state.db"), seal(2))
    assert other.replicas()[0][:2] == ("one", b"")
    store.close()


def test_what_is_only_compared_and_what_has_changed_pass_through(tmp_path):
    store = SealedStore(sqlite.create(tmp_path / "state.db"), seal(1))
    store.begin()
    version = store.compare_and_swap([("a", 0, b"1"), ("b", 0, b"1")], None)
    newer = store.compare_and_swap([("a", version, KEEP), ("b", version, b"2")], None)
    assert store.read("a") == (b"1", version)
    assert store.changed("", version).rows == [("b", b"2", newer)]
    assert store.read_many(["b", "c", "a"]) == [(b"2", newer), (None, 0), (b"1", version)]
    assert not store.compare_and_swap([("a", newer, KEEP), ("b", newer, b"3")], None)
    store.close()


def test_replicas_begin_only_where_all_is_under_the_newest_key(tmp_path):
    inner = sqlite.create(tmp_path / "state.db")
    inner.compare_and_swap([("a", 0, b"plain")], None)
    store = SealedStore(inner, seal(1), takes_plain=True)
    with pytest.raises(Problem, match="being sealed under another site key: finish that first"):
        store.join("one")
    store.close()
    alone = SealedStore(sqlite.open_existing(tmp_path / "state.db"), seal(1), takes_plain=True)
    alone.lock("test")
    alone.close()
    store = SealedStore(sqlite.open_existing(tmp_path / "state.db"), seal(1), takes_plain=True)
    store.join("one")
    assert store.read("a")[0] == b"plain" and store.is_settled
    store.close()
