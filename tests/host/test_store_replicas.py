"""Several replicas over one etcd: what they know of each other's writes, and what a process does
that was stopped, cut off, or finds an older etcd."""

import os
import random
import shutil
import socket
import threading
import time

import pytest

import etcd_plant
from covey_host.errors import Problem
from covey_host.store import (
    KEEP,
    Fenced,
    Locked,
    Ousted,
    WentBack,
    etcd,
    etcdclient,
    etcdrows,
    etcdwriter,
    moving,
)
from covey_host.store.etcdclient import Client, Unreachable, get, put
from covey_host.store.etcdrows import PART_LEN
from covey_host.store.place import Place
from replicas import lead_of


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with etcd_plant.running(tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def place(node):
    return etcd_plant.new_place(node)


@pytest.fixture
def joined(place):
    """Replicas by name."""
    made = []

    def join(name):
        store = etcd.open_existing(place, "this one")
        made.append(store)
        store.join(name)
        return store

    yield join
    for store in made:
        store.close()


def expire(place, key):
    """As etcd does to what was not kept alive."""
    client = Client(place)
    found = client.transact([], [get(place.prefix + key.encode())]).rows[0][0]
    client.revoke(found.lease)
    client.close()


# What has changed


@pytest.mark.parametrize("seed", range(6))
def test_followers_know_what_others_have_written(place, joined, seed, monkeypatch):
    """By what has changed alone, but for deletions, however the writes come: many, few, in
    parts, by a journal, with answers that are lost."""
    rng = random.Random(seed)
    monkeypatch.setattr(etcdwriter, "SLOTS", rng.choice((2, 4, 32)))
    ask, lost = Client._ask, [0]

    def lossy(self, path, body, end):
        done = ask(self, path, body, end)
        if path == "kv/txn" and rng.random() < lost[0]:
            raise ConnectionResetError(104, "Connection reset by peer")
        return done

    monkeypatch.setattr(Client, "_ask", lossy)
    monkeypatch.setattr(etcdclient, "_PAUSE_S", 0)
    replicas = [joined(name) for name in "abc"]
    lost[0] = 0.1
    known = [{} for _ in replicas]
    since = [0] * 3
    truth = {}

    def catch_up(i):
        rows, revision, _ = replicas[i].changed("", since[i])
        assert all(version > since[i] for _, _, version in rows)
        assert revision >= since[i] and [row[0] for row in rows] == sorted(row[0] for row in rows)
        known[i].update({key: (value, version) for key, value, version in rows})
        since[i] = revision

    for _ in range(60):
        i = rng.randrange(3)
        if rng.random() < 0.4:
            catch_up(i)
        n = rng.choice((1, 1, 2, 5, 120))
        keys = rng.sample([f"{'xy'[k % 2]}/{k}" for k in range(150)], n)
        length = rng.choice((3, 3, 3, PART_LEN + 9)) if n < 3 else 3
        changes = []
        for key in keys:
            value = rng.choice((KEEP, None, *[os.urandom(length)] * 6))
            changes.append((key, truth.get(key, (None, 0))[1], value))
        version = replicas[i].compare_and_swap(changes, None)
        assert version
        for key, _, value in changes:
            if value is None:
                truth.pop(key, None)
            elif value is not KEEP:
                truth[key] = (value, version)
        if rng.random() < 0.2:
            wrong = [
                (key, rng.choice((0, truth[key][1] - 1)), KEEP) for key in keys if key in truth
            ]
            assert not wrong or not replicas[i].compare_and_swap(wrong, None)
    for i in range(3):
        catch_up(i)
        assert {key: known[i].get(key) for key in truth} == truth
        assert {key: (value, n) for key, value, n in replicas[i].scan("")} == truth
        newest = max(n for _, n in truth.values())
        for prefix in ("", "x/", "y/1"):
            rows = replicas[i].changed(prefix, newest - 1).rows
            new = {k: v for k, v in truth.items() if k.startswith(prefix) and v[1] == newest}
            assert {key: (value, n) for key, value, n in rows} == new


def test_asking_where_nothing_was_written_reads_no_entry(place, joined, monkeypatch):
    one, two = joined("one"), joined("two")
    version = two.compare_and_swap([(f"member/{i}", 0, bytes(100)) for i in range(300)], None)
    since = one.changed("", version).revision
    two.present(b"here")
    two.beat(two.acquire_term("two"), b"")
    asked = []
    call = Client.call
    monkeypatch.setattr(Client, "call", lambda *a, **k: asked.append(call(*a, **k)) or asked[-1])
    found = one.changed("", since)
    assert found.rows == [] and found.lead.owner == "two" and found.revision > since
    assert len(asked) == 1 and len(str(asked)) < 2000
    two.compare_and_swap([("member/7", version, b"new")], None)
    asked.clear()
    assert [row[0] for row in one.changed("", since).rows] == ["member/7"]
    assert len(asked) == 2 and len(str(asked)) < 4000


def test_a_swap_of_many_keys_is_done_though_others_write_all_the_time(joined, monkeypatch):
    one, two = joined("one"), joined("two")
    version = two.compare_and_swap([("busy", 0, b"")], None)
    commit, seen = etcd.EtcdStore._write, []

    def meanwhile(self, *what, **how):
        nonlocal version
        if self is one and len(seen) < 4:
            seen.append(None)
            version = two.compare_and_swap([("busy", version, b"")], None)
        return commit(self, *what, **how)

    monkeypatch.setattr(etcd.EtcdStore, "_write", meanwhile)
    many = [(f"member/{i}", 0, b"") for i in range(300)]
    assert one.compare_and_swap(many, None) and len(seen) == 4
    seen.clear()
    first = one.read("member/7")[1]
    monkeypatch.setattr(etcd.EtcdStore, "_write", commit)

    def before(self, *what, **how):
        if self is one and not seen:
            seen.append(two.compare_and_swap([("member/7", first, b"mine")], None))
        return commit(self, *what, **how)

    monkeypatch.setattr(etcd.EtcdStore, "_write", before)
    again = [(key, first, None) for key, _, _ in many]
    assert one.compare_and_swap(again, None) == 0 and seen[0]
    assert len(two.scan("member/")) == 300 and two.read("member/7")[0] == b"mine"


def test_many_comparisons_are_one_swap_too(joined):
    one, two = joined("one"), joined("two")
    version = one.compare_and_swap([(f"k/{i}", 0, b"") for i in range(250)], None)
    all_kept = [(f"k/{i}", version, KEEP) for i in range(250)]
    assert one.compare_and_swap([*all_kept, ("a", 0, b"1")], None) > version
    assert two.compare_and_swap([("k/200", version, None)], None)
    assert not one.compare_and_swap([*all_kept, ("b", 0, b"1")], None)
    assert one.compare_and_swap(all_kept[:200], None) and two.read("b") == (None, 0)


# Who may write


def test_what_one_gave_up_is_too_late_though_only_others_have_written(place, joined, monkeypatch):
    """Others' writes don't hinder it: what it was conditional on does, and its own next step."""
    one, two = joined("one"), joined("two")
    version = one.compare_and_swap([("a", 0, b"1"), ("b", 0, b"1")], None)
    transact, late = Client.transact, []

    def given_up(self, *what):
        late.append(what)
        raise Unreachable("etcd doesn't answer.")

    monkeypatch.setattr(Client, "transact", given_up)
    with pytest.raises(Unreachable):
        one.compare_and_swap([("a", version, b"late")], None)
    monkeypatch.setattr(Client, "transact", transact)
    assert two.compare_and_swap([("b", version, b"2")], None)
    assert one.read("a")[0] == b"1"  # what its caller now believes
    assert len(late) == 1 and not Client(place).transact(*late[0]).is_done
    assert two.read("a")[0] == b"1"


@pytest.mark.parametrize("lands", ["never", "before", "after"])
@pytest.mark.parametrize("is_alone", [False, True], ids=["replica", "alone"])
def test_an_attempt_that_was_given_up_is_done_or_too_late(
    place, joined, lands, is_alone, monkeypatch
):
    """The next one met a journal: when that is gone it could be done behind our back, and the
    same swap tried anew be told that another's write was there first."""
    two = joined("two")
    one = etcd.open_existing(place, "this one") if is_alone else joined("one")
    version = one.compare_and_swap([("a", 0, b"0")], None)
    carry, ask, bump = etcd.EtcdStore._carry_out, one._client._ask, etcdwriter.Writer.bump
    mine, late = one._writer, []
    monkeypatch.setattr(etcd.EtcdStore, "_carry_out", lambda *_: None)
    many = two.compare_and_swap([(f"k/{i}", 0, b"") for i in range(200)], None)  # not carried out

    def land():
        done = Client(place)._ask("kv/txn", late[0], time.monotonic() + 5)[1]
        return done.get("succeeded", False)

    def given_up(path, body, end):
        if not late:
            late.append(body)
            raise TimeoutError
        return ask(path, body, end)

    landed = []

    def carried(store, journal):
        carry(store, journal)
        if lands == "after" and store is one:
            landed.append(land())

    def bumped(writer):
        if lands == "before" and writer is mine and not landed:
            carry(two, one._client.transact([], [get(place.prefix + b"journal")]).rows[0][0])
            landed.append(land())
        return bump(writer)

    monkeypatch.setattr(one._client, "_ask", given_up)
    monkeypatch.setattr(etcd.EtcdStore, "_carry_out", carried)
    monkeypatch.setattr(etcdwriter.Writer, "bump", bumped)
    written = one.compare_and_swap([("a", version, b"1")], None)
    assert landed == {"never": [], "before": [True], "after": [False]}[lands]
    assert written > many and two.read("a") == (b"1", written)
    assert not land() and two.changed("", many).rows == [("a", b"1", written)]
    assert one.compare_and_swap([("a", written, b"2")], None)
    one.close()


def test_a_beat_or_another_term_between_looking_and_taking_over(joined, monkeypatch):
    one, two = joined("one"), joined("two")
    term = one.acquire_term("one", None, "a run")
    write, meanwhile = etcd.EtcdStore._write, []

    def late(self, *what, **how):
        if self is two and meanwhile:
            meanwhile.pop()()
        return write(self, *what, **how)

    monkeypatch.setattr(etcd.EtcdStore, "_write", late)
    for seen in (lead_of(two).version, None):
        meanwhile.append(lambda: one.beat(term, b"still here"))
        took = two.acquire_term("two", seen)
        assert not meanwhile and (took == 0 if seen else took == term + 1)
    for seen in (lead_of(two).version, None):
        meanwhile.append(lambda: one.acquire_term("one"))
        took = two.acquire_term("two", seen)
        assert not meanwhile and (took == 0 if seen else took == lead_of(one).term == term + 4)
    assert lead_of(two)[:3] == (term + 4, "two", "a run")


def test_a_replica_that_was_stopped_goes_on_unless_its_place_is_taken(place, joined):
    one, two = joined("one"), joined("two")
    version = one.compare_and_swap([("a", 0, b"1")], None)
    term = one.acquire_term("one")
    expire(place, "r/one")
    assert [each.name for each in two.replicas()] == ["two"]
    version = two.compare_and_swap([("a", version, b"2")], None)
    assert not one.compare_and_swap([("a", version - 1, b"3")], term)
    assert one.compare_and_swap([("a", version, b"3")], term)
    assert [each.name for each in two.replicas()] == ["one", "two"]
    expire(place, "r/one")
    one.beat(term, b"")
    assert [each.name for each in two.replicas()] == ["one", "two"]
    expire(place, "r/one")
    another = joined("one")
    for write in (
        lambda: one.compare_and_swap([("a", version, b"4")], term),
        lambda: one.compare_and_swap([(f"k{i}", 0, b"") for i in range(300)], term),
        lambda: one.reserve("n", 1),
        lambda: one.acquire_term("me"),
        lambda: one.beat(term, b""),
        lambda: one.present(b""),
    ):
        with pytest.raises(Ousted, match="replica one, process.*taken over"):
            write()
    another.close()
    for each in ("r/two", "r/one"):
        if each == "r/two":
            expire(place, each)
    alone = etcd.open_existing(place, "this one")
    alone.lock("covey restore")
    with pytest.raises(Ousted, match="covey restore, process.*taken over"):
        two.reserve("n", 1)
    alone.close()


@pytest.mark.parametrize("how", ["a command that writes", "a copy to elsewhere"])
def test_a_replica_that_was_stopped_ends_if_somebody_worked_alone_and_went(place, joined, how):
    one = joined("one")
    version = one.compare_and_swap([("authority/evict/line1", 0, b"")], None)
    term = one.acquire_term("one", None, "a run")
    expire(place, "r/one")
    alone = etcd.open_existing(place, "this one")
    alone.lock("covey remove")
    if how == "a command that writes":
        assert alone.compare_and_swap([("authority/evict/line1", version, b"m1")], None)
    else:
        copied = moving.content(alone)
        alone.mark_moved("/srv/plant/state.db")
    alone.close()
    for write in (
        lambda: one.beat(term, b"alive"),
        lambda: one.compare_and_swap([("group/line1/state", 0, b"")], term),
        lambda: one.compare_and_swap([(f"k{i}", 0, b"") for i in range(300)], term),
        lambda: one.reserve("n", 1),
        lambda: one.acquire_term("one"),
        lambda: one.present(b""),
    ):
        with pytest.raises(
            Ousted, match="covey remove, process .*, which has ended. has taken over"
        ):
            write()
    assert one.replicas() == []
    if how == "a command that writes":
        again = joined("one")  # started anew it knows all of it
        assert again.read("authority/evict/line1")[0] == b"m1"
        assert again.acquire_term("one", again.changed("", 0).lead.version) == term + 1
    else:
        assert moving.content(one) == copied
        with pytest.raises(Problem, match="has moved to /srv/plant/state.db"):
            joined("one")


def test_who_worked_alone_before_a_replica_came_is_nothing_to_it(place, joined):
    for _ in range(2):
        alone = etcd.open_existing(place, "this one")
        alone.lock("covey remove")
        alone.close()
        one = joined("one")
        for _ in range(2):
            expire(place, "r/one")
            assert one.reserve("n", 1) is not None
        one.close()


def test_one_that_was_alone_and_stopped_does_nothing_after_a_replica_was_there(place, joined):
    alone = etcd.open_existing(place, "this one")
    alone.lock("covey serve")
    version = alone.compare_and_swap([("a", 0, b"1")], None)
    expire(place, "lock")
    one = joined("one")
    assert one.compare_and_swap([("a", version, b"2")], None)
    with pytest.raises(Ousted, match="replica one, process.*taken over"):
        alone.reserve("n", 1)
    one.close()
    with pytest.raises(Ousted, match="which has ended"):
        alone.reserve("n", 1)
    alone.close()


def test_the_next_process_of_a_killed_replica_need_not_wait(place, tmp_path):
    """It sees by the lock of the operating system that the one before is dead."""
    one = etcd.open_existing(place, "this one", tmp_path / "state.lock")
    one.join("one")
    os.close(one._lock._fd)  # as the system does for a dead process
    one._lock._fd = None
    two = etcd.open_existing(place, "this one", tmp_path / "other.lock")
    with pytest.raises(Locked, match="replica one"):
        two.join("one")  # of another machine
    again = etcd.open_existing(place, "this one", tmp_path / "state.lock")
    again.join("one")
    assert again.reserve("n", 1) == 0
    with pytest.raises(Fenced):
        one.reserve("n", 1)
    for store in (one, two, again):
        store.close()


def test_a_site_of_the_layout_before_is_taken_over(place):
    client = Client(place)
    said = b'{"covey": 1, "id": "this one"}'
    client.transact(
        [], [put(place.prefix + b"site", said), put(place.prefix + b"head", b"12345678")]
    )
    store = etcd.open_existing(place, "this one")
    assert store.compare_and_swap([("a", 0, b"1")], None)
    assert client.transact([], [get(place.prefix + b"site")]).rows[0][0].value == said
    store.join("one")
    site = client.transact([], [get(place.prefix + b"site")]).rows[0][0].value
    assert b'"covey": %d' % etcdrows.SCHEMA in site
    store.close()
    client.close()


def test_a_copy_takes_no_replica_along(place, joined, node):
    one = joined("one")
    one.present(b"facts")
    one.acquire_term("one", None, "a run", b"facts")
    one.compare_and_swap([("a", 0, b"1")], None)
    one.close()
    alone = etcd.open_existing(place, "this one")
    alone.lock("covey store copy")
    there = Place(f"etcd://{node.here}/copy")
    moving.create(there, "this one", moving.content(alone))
    alone.close()
    copy = etcd.open_existing(there, "this one")
    assert copy.replicas() == [] and lead_of(copy)[:4] == (1, "one", "", b"")
    assert [row[:2] for row in copy.changed("", 0).rows] == [("a", b"1")]
    assert copy.acquire_term("two", lead_of(copy).version) == 2
    copy.close()


# An older etcd


@pytest.mark.parametrize("has_gone_on", [False, True], ids=["just restored", "and gone on"])
def test_an_older_copy_of_etcd_is_found_out_and_nothing_is_written_there(tmp_path, has_gone_on):
    """Its revision says so; that of one's own head, where others have written since."""
    with etcd_plant.running(tmp_path) as node:
        place = Place(f"etcd://{node.here}")
        moving.create(place, "this one", etcd_plant.EMPTY)
        names = ("reads", "swaps", "reserves", "beats", "asks")
        stores = {name: etcd.open_existing(place, "this one") for name in names}
        for name, store in stores.items():
            store.join(name)
        term = stores["beats"].acquire_term("beats")
        version = stores["swaps"].compare_and_swap([("a", 0, b"1")], None)
        node.kill()
        data = tmp_path / "n0"
        shutil.copytree(data, tmp_path / "copy")
        node.start().wait()
        for store in stores.values():
            store.reserve("n", 10)
            store.present(b"")
        since = stores["asks"].changed("", version).revision
        lead = lead_of(stores["asks"])
        node.kill()
        shutil.rmtree(data)
        (tmp_path / "copy").rename(data)
        node.start().wait()
        client = Client(place)
        while has_gone_on and client.transact([], [put(b"other", b"")]).revision < since + 10:
            pass
        client.close()
        many = [(f"k{i}", 0, b"") for i in range(300)]
        reading = [
            ("reads", lambda store: store.read("a")),
            ("asks", lambda store: store.changed("", since)),
        ]
        writing = [
            ("swaps", lambda store: store.compare_and_swap([("a", version, b"2")], None)),
            ("swaps", lambda store: store.compare_and_swap(many, None)),
            ("reserves", lambda store: store.reserve("n", 1)),
            ("beats", lambda store: store.beat(term, b"")),
            *((name, lambda store: store.present(b"")) for name in names),  # every second
        ]
        for name, call in writing if has_gone_on else reading + writing:
            for _ in range(2):
                with pytest.raises(WentBack, match="went back in time: start the key servers"):
                    call(stores[name])
        fresh = etcd.open_existing(place, "this one")
        assert fresh.read("a") == (b"1", version) and fresh.numbers()[0] == {}
        assert lead_of(fresh) == lead and fresh.scan("k") == []
        if not has_gone_on:
            with pytest.raises(WentBack):
                fresh.changed("", since)
        for store in (*stores.values(), fresh):
            store.close()


# While others wait for the caller


@pytest.fixture
def silent():
    """A node that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield f"127.0.0.1:{made.getsockname()[1]}"


def test_a_silent_node_is_asked_once(node, place, silent):
    name = place.prefix.strip(b"/").decode()
    store = etcd.open_existing(Place(f"etcd://{silent},{node.here}/{name}"), "this one")
    store.join("one")
    assert store._client._at == 1
    for n in range(3):
        assert store.reserve("n", 1) == n and store._client.tries == 1
    store.close()


def test_while_no_node_answers_the_caller_is_not_kept(tmp_path, silent, monkeypatch):
    node = etcd_plant.Node(tmp_path)
    node.start().wait()
    monkeypatch.setattr(etcdclient, "_HURRY_S", 0.3)
    try:
        place = Place(f"etcd://{node.here},{silent}")
        moving.create(place, "this one", etcd_plant.EMPTY)
        store = etcd.open_existing(place, "this one")
        store.join("one")
        node.kill()
        with pytest.raises(Unreachable, match="most of its nodes run"):
            store.read("a")
        ask = store._client._ask
        store._client._ask = None  # it asks nobody
        for _ in range(50):
            with pytest.raises(Unreachable, match="most of its nodes run"):
                store.reserve("n", 1)
        store._client._ask = ask
        node.start().wait()
        while True:
            try:
                assert store.reserve("n", 1) in (0, 1)
                break
            except Unreachable:
                pass
        assert store.compare_and_swap([("a", 0, b"1")], None)
        store.close()
    finally:
        node.kill()


def test_looking_for_a_node_that_writes_leaves_nothing_in_an_etcd_that_was_emptied(node):
    there = Place(f"etcd://{node.here}/emptied")
    scout = etcdclient._Scout(there)
    while not scout.has_found:
        time.sleep(0.01)
    client = Client(there)
    assert client.transact([], [get(there.prefix, there.prefix + b"\xff")]).rows == [[]]
    client.close()
    moving.create(there, "this one", etcd_plant.EMPTY)


class Pace:
    """Time that passes only while etcd works, and an etcd that takes so long."""

    def __init__(self, *took_s):
        self.now, self._took, self.asked = 0.0, took_s, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def __call__(self, node, address, tls, end):
        self.asked.append(node[0])
        self._node = node[0]
        return self

    def post(self, path, body, end):
        took = self._took[int(self._node[-1]) - 1]
        if self.now + took > end:
            self.now = end
            raise TimeoutError
        self.now += took
        return 200, {"header": {"revision": "1", "cluster_id": "1"}}

    def close(self):
        pass


@pytest.fixture
def paced(monkeypatch):
    def make(*took_s):
        pace = Pace(*took_s)
        monkeypatch.setattr(etcdclient, "time", pace)
        monkeypatch.setattr(etcdclient, "Connection", pace)
        monkeypatch.setattr(etcdclient, "_Scout", lambda place: None)
        client = Client(Place("etcd://127.0.0.1,127.0.0.2,127.0.0.3"))
        client.hurry()
        return client, pace

    return make


def test_dead_nodes_cost_the_caller_less_than_a_second(paced):
    client, pace = paced(99, 99, 0.01)
    client.transact([], [get(b"a")])
    assert client.tries == 3 and pace.now < 1
    before = pace.now
    client.transact([], [get(b"a")])
    assert client.tries == 1 and pace.now - before < 0.02
    client, pace = paced(99, 99, 99)
    with pytest.raises(Unreachable):
        client.transact([], [get(b"a")])
    assert pace.now <= 1.1


def test_slow_nodes_are_given_more_time(paced):
    client, pace = paced(0.4, 0.4, 0.4)
    for turn in range(5):
        client.transact([], [get(b"a")])
        assert client.tries == (2 if turn == 0 else 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-x\r\n" + bytes(1 << 17),
        b"\r\n\r\n",
    ],
)
def test_what_is_no_etcd_is_named(monkeypatch, answer):
    monkeypatch.setattr(etcdclient, "_PATIENCE_S", 0)

    def serve():
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        client = Client(Place(f"etcd://127.0.0.1:{server.getsockname()[1]}"))
        with pytest.raises(Unreachable, match="no etcd|ended the connection|reset by peer"):
            client.transact([], [get(b"a")])
        thread.join()
        client.close()
