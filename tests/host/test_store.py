"""The store's promises, by SQLite and by etcd, with real files, real processes and real `kill -9`.

What only etcd does is in test_store_etcd.py.
"""

import os
import random
import shutil
import sqlite3
import stat
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etcd_plant
from covey_host.errors import Problem
from covey_host.store import KEEP, Fenced, Lead, Locked, WentBack, etcd, moving, sqlite
from covey_host.store.place import Place
from processes import run, start
from replicas import lead_of

# Writes and reserves until it is killed, naming each promise after the store has made it.
_WRITER = """
term = store.acquire_term("writer")
print("term", term, flush=True)
i = 0
while True:
    i += 1
    print("reserved", store.reserve("number", 3), flush=True)
    a, b = (store.read(k) for k in ("pair/a", "pair/b"))
    value = b"%d.%d" % (term, i) * 50
    assert store.compare_and_swap([("pair/a", a[1], value), ("pair/b", b[1], value)], term)
    print("wrote", term, i, flush=True)
"""


class File:
    """One store of each kind, opened as often as asked for, here or in other processes."""

    code = """
import sys
from pathlib import Path
from covey_host.store import sqlite
store = sqlite.open_existing(Path(sys.argv[1]))
"""

    def __init__(self, folder):
        self.words = [folder / "state.db"]

    def create(self):
        return sqlite.create(*self.words)

    def open(self, machine=1):
        return sqlite.open_existing(*self.words)


class InEtcd:
    code = """
import sys
from pathlib import Path
from covey_host.store import etcd
from covey_host.store.place import Place
store = etcd.open_existing(Place(sys.argv[1]), "", Path(sys.argv[2]))
"""

    def __init__(self, folder, node):
        self.words = [f"etcd://{node.here}/{os.urandom(4).hex()}", folder / "state.lock"]

    def create(self):
        moving.create(Place(self.words[0]), "a site", moving.Content({}, {}, 0, ""))
        return self.open()

    def open(self, machine=1):
        lock = self.words[1].with_suffix(f".lock{machine}")
        return etcd.open_existing(Place(self.words[0]), "", lock if machine > 1 else self.words[1])


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A real etcd."""
    with etcd_plant.running(tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture(params=["sqlite", "etcd"])
def home(request, tmp_path):
    if request.param == "sqlite":
        return File(tmp_path)
    return InEtcd(tmp_path, request.getfixturevalue("node"))


@pytest.fixture
def store(home):
    made = home.create()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def file_store(path):
    made = sqlite.create(path)
    yield made
    made.close()


def test_reads_what_was_written_after_reopening(store, home):
    assert store.read("group/a") == (None, 0)
    assert store.compare_and_swap([("group/a", 0, b"\x00one"), ("group/b", 0, b"")], None)
    version = store.read("group/a")[1]
    assert version > 0
    store.close()
    again = home.open()
    assert again.read("group/a") == (b"\x00one", version)
    assert again.read("group/b") == (b"", version)
    again.close()


def test_swap_is_all_or_nothing(store):
    assert store.compare_and_swap([("a", 0, b"1")], None)
    assert not store.compare_and_swap([("b", 0, b"2"), ("a", 0, b"3")], None)
    assert store.read("b") == (None, 0)
    assert store.read("a")[0] == b"1"
    assert not store.compare_and_swap([("a", 99, None)], None)
    assert store.read("a")[0] == b"1"


def test_a_key_made_again_never_looks_unchanged(store):
    store.compare_and_swap([("a", 0, b"1")], None)
    first = store.read("a")[1]
    assert store.compare_and_swap([("a", first, None)], None)
    assert store.read("a") == (None, 0)
    assert store.compare_and_swap([("a", 0, b"1")], None)
    assert store.read("a")[1] > first
    assert not store.compare_and_swap([("a", first, b"2")], None)


def test_many_keys_at_once(store):
    rows = [(f"k/{i}", 0, bytes([i % 256]) * (i % 7)) for i in range(250)]
    version = store.compare_and_swap([*rows, ("large", 0, bytes(600_000))], None)
    assert store.compare_and_swap([("k/7", version, None)], None)
    asked = ["k/9", "large", "none", "k/7", *[key for key, _, _ in rows]]
    found = store.read_many(asked)
    assert found == [store.read(key) for key in asked] and len(found) == 254
    assert found[:4] == [(b"\x09\x09", version), (bytes(600_000), version), (None, 0), (None, 0)]
    assert store.read_many([]) == []


def test_scan_keeps_to_its_prefix(store):
    keys = ["m/a", "m/b", "m", "m0", "n/a", "l~"]
    store.compare_and_swap([(key, 0, key.encode()) for key in keys], None)
    assert [key for key, _, _ in store.scan("m/")] == ["m/a", "m/b"]
    assert [key for key, _, _ in store.scan("")] == sorted(keys)
    assert store.scan("m/")[0] == ("m/a", b"m/a", store.read("m/a")[1])
    assert store.scan("zz") == []


def test_scan_in_portions(store):
    keys = ["m", "m/a", "m/b", "m/c", "m0"]
    store.compare_and_swap([(key, 0, b"") for key in keys], None)
    assert [key for key, _, _ in store.scan("m/", "", 2)] == ["m/a", "m/b"]
    assert [key for key, _, _ in store.scan("m/", "m/b", 2)] == ["m/c"]
    assert [key for key, _, _ in store.scan("m/", "m/a")] == ["m/b", "m/c"]
    assert store.scan("m/", "m/c", 2) == [] and store.scan("m/", "", 0) == []


def test_an_older_term_writes_nothing(store):
    old = store.acquire_term("first")
    assert store.compare_and_swap([("a", 0, b"1")], old)
    new = store.acquire_term("second")
    assert new > old
    with pytest.raises(Fenced, match="second"):
        store.compare_and_swap([("a", 1, b"2"), ("b", 0, b"2")], old)
    with pytest.raises(Fenced):
        store.compare_and_swap([("b", 0, b"2")], new + 1)  # a term that was never given out
    assert store.read("b") == (None, 0)
    assert store.compare_and_swap([("a", store.read("a")[1], b"2")], new)


def test_reserved_numbers_are_consecutive_and_by_name(store):
    assert [store.reserve("spi", n) for n in (1, 5, 1)] == [0, 1, 6]
    assert store.reserve("other", 2) == 0
    for n in (0, -1):
        with pytest.raises(ValueError):
            store.reserve("spi", n)
    assert store.reserve("spi", 1) == 7


def test_reserve_refuses_to_wrap(store):
    store.reserve("n", 2**63 - 2)
    with pytest.raises(Problem, match="used up"):
        store.reserve("n", 2)
    assert store.reserve("n", 1) == 2**63 - 2


def test_what_is_only_compared(store):
    first = store.compare_and_swap([("a", 0, b"1"), ("b", 0, b"1")], None)
    second = store.compare_and_swap([("a", first, KEEP), ("c", 0, KEEP), ("b", first, b"2")], None)
    assert second > first and store.read("c") == (None, 0)
    assert store.read("a") == (b"1", first) and store.read("b") == (b"2", second)
    for kept in (("a", second, KEEP), ("a", 0, KEEP), ("c", first, KEEP)):
        assert not store.compare_and_swap([kept, ("b", second, b"3")], None)
    assert store.compare_and_swap([("a", first, KEEP)], None) > second
    assert store.read("a") == (b"1", first) and store.read("b") == (b"2", second)


def test_what_has_changed_since(store, home):
    other = home.open()
    assert store.changed("", 0).rows == []
    first = other.compare_and_swap([(key, 0, key.encode()) for key in ("m/b", "m/a", "n")], None)
    rows, revision, lead = store.changed("", 0)
    assert rows == [(key, key.encode(), first) for key in ("m/a", "m/b", "n")]
    assert revision >= first and lead == Lead()
    assert store.changed("", revision).rows == [] == store.changed("", first).rows
    second = store.compare_and_swap([("m/a", first, None), ("m/b", first, b"x")], None)
    third = other.compare_and_swap([("n", first, b"y"), ("m/c", 0, b"")], None)
    assert store.changed("m/", first).rows == [("m/b", b"x", second), ("m/c", b"", third)]
    assert store.changed("", second).rows == [("m/c", b"", third), ("n", b"y", third)]
    other.close()
    again = home.open()
    assert again.changed("", third).rows == []
    with pytest.raises(WentBack, match="went back in time: start the key servers anew"):
        again.changed("", third + 1000)
    again.close()


def test_who_leads_and_how_others_see_that_it_lives(store, home):
    assert lead_of(store) == Lead()
    one = store.acquire_term("one", 0, "a run", b"here")
    assert one and not store.acquire_term("two", 0)
    lead = lead_of(store)
    assert lead == Lead(one, "one", "a run", b"here", lead.version) and lead.version
    assert home.open().changed("", 0) == ([], lead.version, lead)
    store.beat(one, b"still here")
    assert lead_of(store).facts == b"still here" and lead_of(store).version > lead.version
    assert not store.acquire_term("two", lead.version) and store.numbers()[1] == one
    two = store.acquire_term("two", lead_of(store).version)
    assert two > one and lead_of(store)[:4] == (two, "two", "a run", b"")
    seen = lead_of(store)
    for term in (one, two + 1):
        with pytest.raises(Fenced, match="two"):
            store.beat(term, b"it is me")
    assert lead_of(store) == seen
    assert store.acquire_term("three", None, "another") > two
    assert lead_of(store).run == "another" and store.changed("", 0).rows == []


def test_beats_take_nothing_from_entries(store):
    term = store.acquire_term("one")
    version = store.compare_and_swap([("a", 0, b"1")], term)
    store.beat(term, b"")
    version = store.compare_and_swap([("a", version, b"2")], term)
    assert store.changed("", version).rows == []
    store.beat(term, b"")
    assert store.changed("", version).rows == [] and store.changed("", version - 1).rows


def test_replicas_know_of_each_other_and_keep_the_lock_from_others(store, home):
    one, two = home.open(), home.open(2)
    with pytest.raises(ValueError):
        one.present(b"")
    one.join("one")
    one.join("one")
    two.join("two")
    assert one.compare_and_swap([("a", 0, b"1")], None)
    assert two.compare_and_swap([("b", 0, b"1")], None)
    for each in (one, two, one):
        each.present(b"at " + each.read("a")[0])
    a, b = two.replicas()
    assert a[:2] == ("one", b"at 1") and b[:2] == ("two", b"at 1") and a.version > b.version
    assert {key for key, _, _ in one.changed("", 0).rows} == {"a", "b"}
    with pytest.raises(Locked, match=r"\(replica (one|two), process \d+.*stop it first"):
        store.lock("covey restore")
    third = home.open(3)
    with pytest.raises(Locked, match=r"\(replica (one|two), process \d+.*stop it first"):
        third.lock("covey restore")
    with pytest.raises(Locked, match="replica two, process"):
        third.join("two")
    third.close()
    one.close()
    again = home.open()
    again.join("one")
    again.present(b"anew")
    assert again.replicas()[0][:2] == ("one", b"anew")
    again.close()
    two.close()
    store.lock("covey restore")
    with pytest.raises(Locked, match="covey restore"):
        home.open(2).join("two")


_KEYS = st.sampled_from(["a", "b", "c"])
_STEPS = st.lists(
    st.tuples(
        st.lists(
            st.tuples(_KEYS, st.booleans(), st.none() | st.binary(max_size=4)),
            min_size=1,
            max_size=3,
            unique_by=lambda change: change[0],
        )
    ),
    max_size=12,
)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(_STEPS)
def test_it_behaves_as_a_dictionary_with_versions(home, steps):
    directory = Path(tempfile.mkdtemp())
    try:
        mine = File(directory) if isinstance(home, File) else home
        if mine is not home:
            store = mine.create()
        else:
            home.words[0] += "0"  # another place
            store = home.create()
        _follow(store, steps)
        store.close()
    finally:
        shutil.rmtree(directory)


def _follow(store, steps):
    model, seen = {}, set()
    for (changes,) in steps:
        swap = [(k, model.get(k, (0, 0))[1] + (not right), v) for k, right, v in changes]
        before = dict(model)
        done = store.compare_and_swap(swap, None)
        assert bool(done) == all(right for _, right, _ in changes)
        for key, _, value in changes if done else ():
            version = store.read(key)[1]
            model.pop(key, None)
            if value is not None:
                assert (key, version) not in seen
                seen.add((key, version))
                model[key] = (value, version)
        assert done or model == before
        assert {k: (v, n) for k, v, n in store.scan("")} == model


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_every_file_is_private_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        store = sqlite.create(tmp_path / "state.db")
        store.lock("test")
        store.reserve("n", 1)
        files = sorted(tmp_path.iterdir())
        assert [f.suffix for f in files] == [".db", ".db-shm", ".db-wal", ".lock"]
        assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    finally:
        os.umask(before)
    store.close()


def test_a_replaced_or_deleted_secret_leaves_no_copy(file_store, path):
    secrets = [os.urandom(32) for _ in range(40)]
    file_store.compare_and_swap([(f"key/{i}", 0, s) for i, s in enumerate(secrets)], None)
    for i in range(40):
        version = file_store.read(f"key/{i}")[1]
        file_store.compare_and_swap([(f"key/{i}", version, b"x" if i % 2 else None)], None)
    file_store.close()  # the log goes into the file
    left = b"".join(f.read_bytes() for f in path.parent.iterdir())
    for secret in secrets:
        assert secret[:16] not in left and secret[16:] not in left


def test_kill_nine_loses_no_promise_and_repeats_no_number(store, home):
    store.close()
    rounds = random.Random(7)
    numbers, terms = set(), set()
    for _ in range(30):
        child = start("-c", home.code + _WRITER, *home.words)
        terms.add(child.stdout.readline())
        time.sleep(rounds.random() * 0.12)
        child.kill()
        lines = child.communicate()[0].splitlines()
        wrote = None
        for line in lines:
            words = line.split()
            if words[0] == "reserved" and len(words) == 2:
                three = range(int(words[1]), int(words[1]) + 3)
                assert numbers.isdisjoint(three), "a number was reserved twice"
                numbers.update(three)
            elif words[0] == "wrote" and len(words) == 3:
                wrote = (int(words[1]), int(words[2]))
        again = home.open()
        a, b = again.read("pair/a"), again.read("pair/b")
        assert a == b, "half of a swap was written"
        if wrote:
            term, i = map(int, a[0].decode()[: len(a[0]) // 50].split("."))
            assert (term, i) in (wrote, (wrote[0], wrote[1] + 1)), "an acknowledged swap is lost"
        first = again.reserve("number", 1)
        assert not numbers or first > max(numbers)
        numbers.add(first)
        again.close()
    assert len(terms) == 30 and len(numbers) > 50


def test_concurrent_processes_share_no_number_and_lose_no_swap(store, home):
    worker = """
for _ in range(60):
    print(store.reserve("n", 2))
    while True:
        value, version = store.read("sum")
        if store.compare_and_swap([("sum", version, b"%d" % (int(value or 0) + 1))], None):
            break
"""
    children = [start("-c", home.code + worker, *home.words) for _ in range(3)]
    numbers = []
    for child in children:
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        numbers += map(int, out.split())
    assert sorted(numbers) == list(range(0, 360, 2))
    assert store.read("sum")[0] == b"180"


def test_one_holder_of_the_lock_until_it_is_killed(store, home):
    holder = """
store.lock("covey serve")
print("locked", flush=True)
sys.stdin.read()
"""
    child = start("-c", home.code + holder, *home.words)
    assert child.stdout.readline() == "locked\n"
    with pytest.raises(Problem, match=rf"covey serve, process {child.pid}.*stop it first"):
        store.lock("test")
    assert store.read("a") == (None, 0)  # reading needs no lock
    child.kill()
    child.communicate()
    store.lock("test")
    store.lock("test")  # ours already
    second = run("-c", home.code + holder, *home.words)
    assert "test, process" in second.stderr.splitlines()[-1]
    store.close()
    assert run("-c", home.code + holder, *home.words).stdout == "locked\n"


def test_disk_full_by_a_file_size_limit(file_store, path):
    """The process may not write past 300 KB: the same path as a disk with no more room."""
    file_store.compare_and_swap([("kept", 0, b"before")], None)
    file_store.close()
    filler = """
import resource, sys
from pathlib import Path
from covey_host.errors import Problem
from covey_host.store import sqlite
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
store = sqlite.open_existing(Path(sys.argv[1]))
try:
    for i in range(10_000):
        store.compare_and_swap([(f"fill/{i}", 0, bytes(5000)), (f"twin/{i}", 0, b"")], None)
        print(i, flush=True)
except Problem as problem:
    print(problem.sentence, file=sys.stderr)
    for call in (lambda: store.reserve("n", 1), lambda: store.acquire_term("me")):
        try:
            call()
        except Problem as problem:
            print(problem.sentence, file=sys.stderr)
    print("read", store.read("kept")[0].decode())
"""
    child = run("-c", filler, path)
    assert child.returncode == 0, child.stderr
    for line in child.stderr.splitlines():
        assert line.startswith(str(path)) and "check the disk and its limits" in line
    *done, last = child.stdout.splitlines()
    assert last == "read before" and len(done) > 10
    again = sqlite.open_existing(path)
    assert {key.split("/")[1] for key, _, _ in again.scan("fill/")} >= set(done)
    assert len(again.scan("fill/")) == len(again.scan("twin/"))
    assert again.reserve("n", 1) in (0, 1)
    again.close()


def test_disk_full_as_sqlite_says_it(file_store):
    pages = file_store._db.execute("PRAGMA page_count").fetchone()[0]
    file_store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Problem, match="is full: make room"):
        file_store.compare_and_swap([("a", 0, bytes(100_000))], None)
    assert file_store.read("a") == (None, 0)
    assert file_store.compare_and_swap([("a", 0, b"small")], None)


def test_a_writer_that_never_ends_is_named(file_store, path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    file_store._db.execute("PRAGMA busy_timeout = 30")
    for call in (
        lambda: file_store.reserve("n", 1),
        lambda: file_store.acquire_term("me"),
        lambda: file_store.compare_and_swap([("a", 0, b"")], None),
    ):
        with pytest.raises(Problem, match="in use by another program"):
            call()
    other.execute("ROLLBACK")
    other.close()
    assert file_store.reserve("n", 1) == 0


def test_it_is_never_overwritten(file_store, path):
    file_store.compare_and_swap([("a", 0, b"1")], None)
    with pytest.raises(Problem, match="exists already"):
        sqlite.create(path)
    assert file_store.read("a")[0] == b"1"


def test_missing_foreign_newer_older_and_open_to_others(tmp_path):
    path = tmp_path / "state.db"
    with pytest.raises(Problem, match="missing.*covey init"):
        sqlite.open_existing(path)
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE other (x)")
    foreign.close()
    path.chmod(0o600)
    octets = path.read_bytes()
    with pytest.raises(Problem, match="not a Covey store"):
        sqlite.open_existing(path)
    assert path.read_bytes() == octets, "somebody else's file was touched"
    path.unlink()
    sqlite.create(path).close()
    for version, words in ((2, "newer Covey"), (0, "no Covey wrote")):
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA user_version = {version}")
        db.close()
        with pytest.raises(Problem, match=words):
            sqlite.open_existing(path)
    path.chmod(0o640)
    with pytest.raises(Problem, match="chmod 600"):
        sqlite.open_existing(path)
    with pytest.raises(Problem, match="Not a directory"):
        sqlite.open_existing(path / "below")
    with pytest.raises(Problem, match="can't be opened"):
        sqlite.create(tmp_path / "no" / "state.db")


def _damaged(path, octets, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(octets)


def test_a_damaged_file_is_named(tmp_path):
    for name, offset in (("head", 0), ("page", 4096)):
        path = tmp_path / name
        store = sqlite.create(path)
        store.compare_and_swap([(f"k{i}", 0, bytes(3000)) for i in range(20)], None)
        store.close()
        _damaged(path, b"\xff" * 12000, offset)
        with pytest.raises(Problem, match="not a Covey store|damaged"):
            again = sqlite.open_existing(path)
            again.scan("")
    empty = tmp_path / "empty"
    empty.touch(0o600)
    with pytest.raises(Problem, match="not a Covey store"):
        sqlite.open_existing(empty)
    directory = tmp_path / "directory"
    directory.mkdir(0o700)
    with pytest.raises(Problem, match="can't be opened"):
        sqlite.open_existing(directory)


def test_a_read_only_store_says_so():
    """By a child without root's rights, which no permission stops."""
    directory = Path(tempfile.mkdtemp())
    try:
        path = directory / "state.db"
        sqlite.create(path).close()
        path.chmod(0o400)
        directory.chmod(0o500)
        if os.geteuid() == 0:
            for each in (directory, path):
                os.chown(each, 65534, 65534)
        assert "read-only" in _as_nobody(path) or "can't be opened" in _as_nobody(path)
        path.chmod(0)
        assert "can't be opened" in _as_nobody(path)
    finally:
        directory.chmod(0o700)
        shutil.rmtree(directory)


@pytest.mark.parametrize("flag, said", [(os.ST_RDONLY, "is read-only"), (0, "check that it is")])
def test_a_disk_that_became_read_only_is_named(tmp_path, monkeypatch, flag, said):
    """SQLite says only that it can't open something; here what it writes beside the store."""
    path = tmp_path / "state.db"
    sqlite.create(path).close()
    (tmp_path / "state.db-wal").mkdir()
    monkeypatch.setattr(sqlite.os, "statvfs", lambda _: SimpleNamespace(f_flag=flag))
    with pytest.raises(Problem, match=said):
        sqlite.open_existing(path).read("a")


def _as_nobody(path):
    """The sentence that a write to this store ends with, in a process that is not root."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            try:
                sqlite.open_existing(path).reserve("n", 1)
                os.write(into, b"no problem")
            except Problem as problem:
                os.write(into, problem.sentence.encode())
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    with os.fdopen(out) as pipe:
        return pipe.read()
