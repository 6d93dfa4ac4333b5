"""What only the store in etcd does, with a real etcd that is killed, and with real TLS."""

import datetime
import ipaddress
import os
import signal
import time
from itertools import count

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import etcd_plant
from covey_host import site as sites
from covey_host.errors import MISUSE, Problem
from covey_host.site import Site
from covey_host.store import Fenced, Locked, Ousted, etcd, etcdclient, etcdlock, moving
from covey_host.store.etcdclient import Client, Unreachable, get, put
from covey_host.store.etcdrows import PART_LEN, span
from covey_host.store.place import Place
from covey_host.vault import copying
from covey_host.vault.opening import create_store
from processes import start


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with etcd_plant.running(tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def place(node):
    return etcd_plant.new_place(node)


@pytest.fixture
def store(place):
    made = etcd.open_existing(place, "this one")
    yield made
    made.close()


def raw(place):
    """Everything below its prefix."""
    client = Client(place)
    found = client.transact([], [get(*span(place.prefix))]).rows[0]
    client.close()
    return {each.key[len(place.prefix) :].decode(): each for each in found}


def again(place):
    return etcd.open_existing(place, "this one")


# What one request can't hold

LARGE = os.urandom(2 * PART_LEN + 5)
MANY = [(f"member/{i}", 0, b"%d" % i) for i in range(300)]


def test_more_than_one_transaction_holds_is_one_swap(store, place):
    version = store.compare_and_swap([("large", 0, LARGE), *MANY], None)
    assert store.read("large") == (LARGE, version)
    for one in (store, again(place)):
        assert one.scan("large") == [("large", LARGE, version)]
        rows = one.scan("member/")
        assert rows == sorted((key, value, version) for key, _, value in MANY)
    assert not store.compare_and_swap([("a", 0, b""), ("member/7", version - 1, b"x")], None)
    newer = store.compare_and_swap(
        [("large", version, b"short"), ("member/7", version, None)], None
    )
    assert newer > version and store.read("large") == (b"short", newer)
    wrong = [(key, version, None) for key, _, _ in MANY]
    assert not store.compare_and_swap(wrong, None)
    assert len(store.scan("member/")) == 299
    right = [(key, 0 if key == "member/7" else version, None) for key, _, _ in MANY]
    assert store.compare_and_swap(right, None)
    assert store.scan("") == [("large", b"short", newer)]
    left = {name.split("/")[0] for name in raw(place)}
    assert left == {"site", "head", "c", "e"}, "parts or journals are left"


def test_a_large_value_is_replaced_by_another(store, place):
    version = store.compare_and_swap([("large", 0, LARGE)], None)
    version = store.compare_and_swap([("large", version, LARGE[::-1])], None)
    assert again(place).read("large") == (LARGE[::-1], version)
    assert sum(name.startswith("p/") for name in raw(place)) == 3


def test_an_older_term_writes_nothing_by_a_journal_either(store):
    old = store.acquire_term("first")
    store.acquire_term("second")
    with pytest.raises(Fenced, match="second"):
        store.compare_and_swap(MANY, old)
    assert store.scan("") == []


class Crash(BaseException):
    pass


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_killed_at_any_request_it_is_all_or_nothing(store, place, is_done, monkeypatch):
    """The process ends at its nth request, which etcd has just not got, or has just done."""
    transact = Client.transact
    seen = set()
    for last in count(1):
        version = store.compare_and_swap([("large", 0, b"before"), ("b", 0, b"")], None)
        left = [last]

        def some(self, *what, left=left):
            left[0] -= 1
            if left[0] == 0 and not is_done:
                raise Crash
            done = transact(self, *what)
            if left[0] == 0:
                raise Crash
            return done

        dying = again(place)
        monkeypatch.setattr(Client, "transact", some)
        try:
            dying.compare_and_swap([("large", version, LARGE), ("b", version, None), *MANY], None)
            ended = True
        except Crash:
            ended = False
        monkeypatch.setattr(Client, "transact", transact)
        mine = again(place)
        value, now = mine.read("large")
        rows = mine.scan("member/")
        assert (value, len(rows)) in ((b"before", 0), (LARGE, len(MANY)))
        assert (mine.read("b")[0] is None) == bool(rows)
        if not rows:
            staged = [found for name, found in raw(place).items() if name.startswith("j/")]
            assert all(found.lease for found in staged), "it would stay for ever"
        seen.add(bool(rows))
        everything = [(key, version, None) for key, _, version in mine.scan("")]
        assert mine.compare_and_swap(everything, None)
        if ended:
            break
    assert seen == {False, True} and last > 8


# What becomes of requests whose answer is lost


@pytest.fixture
def losing(monkeypatch):
    """Answers of so many requests are lost after etcd has done what they ask."""
    ask = Client._ask
    left = []

    def lossy(self, path, body, end):
        done = ask(self, path, body, end)
        if left and path == "kv/txn":
            left.pop()
            raise ConnectionResetError(104, "Connection reset by peer")
        return done

    monkeypatch.setattr(Client, "_ask", lossy)
    return left


@pytest.mark.parametrize("n", [1, 3])
def test_a_write_whose_answer_is_lost_is_known_by_its_own_mark(store, losing, n):
    store.acquire_term("first")
    losing += [None] * n
    version = store.compare_and_swap([("a", 0, b"1")], None)
    assert not losing and store.read("a") == (b"1", version)
    losing += [None] * n
    assert store.reserve("n", 5) in range(0, 5 * n + 1) and not losing
    losing += [None]
    assert store.acquire_term("second") == 2
    store.compare_and_swap([("a", version, b"2")], None)
    assert store.read("a")[0] == b"2"
    losing += [None]
    version = store.compare_and_swap(MANY, None)
    assert version and len(store.scan("member/")) == 300


def test_a_write_that_was_given_up_can_not_be_done_later(store, place, monkeypatch):
    store.compare_and_swap([("other", 0, b"")], None)
    transact = Client.transact
    late = []

    def given_up(self, *what):
        late.append(what)
        raise Unreachable("etcd doesn't answer.")

    monkeypatch.setattr(Client, "transact", given_up)
    with pytest.raises(Unreachable) as given:
        store.compare_and_swap([("a", 0, b"late")], None)
    assert given.value.is_in_doubt
    with pytest.raises(Unreachable) as given:  # for that doubt comes first, and nothing is tried
        store.compare_and_swap([("b", 0, b"")], None)
    assert not given.value.is_in_doubt
    monkeypatch.setattr(Client, "transact", transact)
    assert store.read("a") == (None, 0)  # what the caller now believes
    assert len(late) == 2 and not Client(place).transact(*late[0]).is_done
    assert store.read("a") == (None, 0)


# The lock


def test_a_paused_holder_goes_on_where_nobody_has_written(store, place):
    store.lock("covey serve")
    version = store.compare_and_swap([("a", 0, b"1")], None)
    Client(place).revoke(store._lock._lease)  # as etcd does when it was not kept alive
    assert "lock" not in raw(place)
    version = store.compare_and_swap([("a", version, b"2")], None)
    assert version and "lock" in raw(place)
    Client(place).revoke(store._lock._lease)
    assert store.reserve("n", 1) == 0 and "lock" in raw(place)


def test_a_paused_holder_does_nothing_after_others_have(store, place):
    store.lock("covey serve")
    version = store.compare_and_swap([("a", 0, b"1")], None)
    Client(place).revoke(store._lock._lease)
    other = again(place)
    other.lock("another machine")
    for write in (
        lambda: store.compare_and_swap([("a", version, b"2")], None),
        lambda: store.compare_and_swap(MANY, None),
        lambda: store.reserve("n", 1),
        lambda: store.acquire_term("me"),
    ):
        with pytest.raises(Fenced, match="another machine.*taken over"):
            write()
    other.close()  # it has ended, and may have written
    with pytest.raises(Fenced, match="taken over"):
        store.reserve("n", 1)
    assert again(place).read("a") == (b"1", version)


def test_another_machine_has_the_lock_when_the_lease_of_a_killed_one_ends(place, tmp_path):
    code = """
import sys
from pathlib import Path
from covey_host.store import etcd, etcdlock
from covey_host.store.place import Place
etcdlock.TTL_S = 3
store = etcd.open_existing(Place(sys.argv[1]), "", Path(sys.argv[2]))
store.lock("covey serve")
print("locked", flush=True)
sys.stdin.read()
"""
    child = start("-c", code, place.url, tmp_path / "one.lock")
    assert child.stdout.readline() == "locked\n"
    other = etcd.open_existing(place, "", tmp_path / "two.lock")
    for _ in range(2):
        with pytest.raises(Locked, match=f"covey serve, process {child.pid} on .*stop it first"):
            other.lock("test")
        time.sleep(2)  # longer than it lives without being kept alive
    child.kill()
    child.communicate()
    while True:  # it ends by itself
        try:
            other.lock("test")
            break
        except Locked:
            time.sleep(0.1)
    other.close()


# etcd comes and goes


@pytest.fixture
def patience(monkeypatch):
    """Of calls, in seconds: little where nobody is there, much on a busy machine."""
    monkeypatch.setattr(etcdclient, "_REST_S", 0.1)

    def wait(seconds):
        monkeypatch.setattr(etcdclient, "_PATIENCE_S", seconds)
        monkeypatch.setattr(etcdclient, "_PROBE_S", seconds)

    wait(60)
    return wait


def test_etcd_killed_and_started_again_has_lost_nothing(tmp_path, patience):
    with etcd_plant.running(tmp_path) as node:
        place = Place(f"etcd://{node.here}")
        moving.create(place, "this one", etcd_plant.EMPTY)
        store = again(place)
        store.lock("covey serve")
        version, n = 0, 0
        for turn in range(3):
            version = store.compare_and_swap([("a", version, b"%d" % turn)], None)
            n = store.reserve("n", 3) + 3
            node.kill()
            patience(0.3)
            for call in (
                lambda: store.read("a"),
                lambda version=version: store.compare_and_swap([("a", version, b"lost")], None),
                lambda: store.compare_and_swap(MANY, None),
                lambda: store.reserve("n", 1),
            ):
                with pytest.raises(Unreachable, match="doesn't answer .*most of its nodes run"):
                    call()
            patience(60)
            node.start().wait()
            time.sleep(0.15)
            assert store.read("a") == (b"%d" % turn, version)
            assert store.scan("member/") == [] and store.reserve("n", 1) == n
        store.close()


def test_of_three_nodes_one_may_die_and_two_may_not(tmp_path, patience):
    nodes = etcd_plant.three(tmp_path)
    try:
        place = Place(f"etcd://{','.join(node.here for node in nodes)}/plant")
        moving.create(place, "this one", etcd_plant.EMPTY)
        store = again(place)
        store.lock("covey serve")
        term = store.acquire_term("me")
        version = 0
        for node in nodes:  # its leader is among them
            node.kill()
            version = store.compare_and_swap([("a", version, node.name.encode())], term)
            assert version
            node.start().wait()
        for node in nodes[:2]:
            node.kill()
        patience(1)
        with pytest.raises(Unreachable, match="doesn't answer"):
            store.compare_and_swap([("a", version, b"lost")], term)
        patience(60)
        nodes[0].start()
        while True:
            try:
                value, now = store.read("a")
                break
            except Unreachable:
                time.sleep(0.1)
        assert (value, now) == (b"n2", version)
        assert store.compare_and_swap([("a", now, b"more")], term)
        store.close()
    finally:
        for node in nodes:
            node.kill()


def test_a_node_that_is_stopped_is_passed_over(tmp_path, patience):
    nodes = etcd_plant.three(tmp_path)
    try:
        place = Place(f"etcd://{','.join(node.here for node in nodes)}/plant")
        moving.create(place, "this one", etcd_plant.EMPTY)
        store = again(place)
        nodes[0].signal(signal.SIGSTOP)
        assert store.reserve("n", 1) in range(5)
        assert store.compare_and_swap([("a", 0, b"1")], None)
    finally:
        for node in nodes:
            node.kill()


# What is refused


def test_nothing_there_foreign_newer_older_moved_or_another_site(node, place):
    other = Place(f"etcd://{node.here}/none")
    with pytest.raises(Problem, match="holds no site.*covey store copy"):
        etcd.open_existing(other, "")
    client = Client(place)
    client.transact([], [put(other.prefix + b"something", b"else")])
    with pytest.raises(Problem, match="is not a Covey store"):
        etcd.open_existing(other, "")
    with pytest.raises(Problem, match="holds something already"):
        moving.create(other, "x", etcd_plant.EMPTY)
    with pytest.raises(Problem, match="holds something already"):
        moving.create(place, "x", etcd_plant.EMPTY)
    with pytest.raises(Problem, match="holds another site"):
        etcd.open_existing(place, "that one")
    for value, words in (
        (b'{"covey":3,"id":"this one"}', "newer Covey"),
        (b'{"covey":0,"id":"this one"}', "no Covey wrote"),
        (b'{"id":3}', "is not a Covey store"),
        (b"[]", "is not a Covey store"),
        (b"\xff", "is not a Covey store"),
    ):
        client.transact([], [put(place.prefix + b"site", value)])
        with pytest.raises(Problem, match=words):
            again(place)


def test_a_site_that_moved_away_is_not_opened_nor_locked(store, place):
    early = again(place)
    store.mark_moved("/somewhere/state.db")
    with pytest.raises(Problem, match="has moved to /somewhere/state.db"):
        again(place)
    with pytest.raises(Problem, match="has moved to /somewhere/state.db"):
        early.lock("covey serve")
    assert "lock" not in raw(place)


def test_a_copy_that_was_stopped_leaves_the_site_where_others_have_worked_since(
    node, tmp_path, monkeypatch
):
    site, place = Site(tmp_path / "site"), Place(f"etcd://{node.here}/back")
    sites.create(site.root, "", lambda at: create_store(at, site.key, None).close())
    copying.into_etcd(site, place)
    mark, others = etcd.EtcdStore.mark_moved, []

    def late(store, where):
        if not others:
            Client(place).revoke(store._lock._lease)
            others.append(etcd.open_existing(place, ""))
            others[0].join("one")
            assert others[0].compare_and_swap([("member/m1", 0, b"")], None)
            with pytest.raises(Ousted, match="replica one, .*taken over"):
                mark(store, where)
            others[0].close()
        mark(store, where)

    monkeypatch.setattr(etcd.EtcdStore, "mark_moved", late)
    with pytest.raises(Ousted, match="which has ended"):
        copying.into_file(site)
    assert site.elsewhere.exists() and not site.store.exists()
    again = etcd.open_existing(place, "")
    at, version = again.read("member/m1")
    assert at == b"" and again.compare_and_swap([("member/m1", version, None)], None)
    again.close()
    copying.into_file(site)
    assert site.store.exists() and not site.elsewhere.exists()


def test_half_of_a_copy_is_no_site_and_is_done_again(node, monkeypatch):
    place = Place(f"etcd://{node.here}/half")
    all = moving.Content({"large": LARGE, "a": b"", "b": b"2"}, {"n": 7}, 3, "me")
    transact = Client.transact
    for last in count(1):
        left = [last]

        def some(self, *what, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Crash
            return transact(self, *what)

        monkeypatch.setattr(Client, "transact", some)
        try:
            moving.create(place, "this one", all)
            break
        except Crash:
            monkeypatch.setattr(Client, "transact", transact)
            with pytest.raises(Problem, match="holds half of a site|holds no site"):
                again(place)
    monkeypatch.setattr(Client, "transact", transact)
    store = again(place)
    assert last > 5 and moving.content(store) == all
    assert store.reserve("n", 1) == 7 and store.acquire_term("you") == 4
    assert "copying" not in raw(place)


@pytest.mark.parametrize(
    "url",
    [
        "etcd://",
        "etcd:///x",
        "etcd://h:0",
        "etcd://h:99999",
        "http://h",
        "etcd://a b",
        "etcd://a,,b",
    ]
    + [
        "etcd://h/../x",
        "etcd://h/a//b",
        "etcd://u@h",
        "state",
        "etcd://[1::g]",
        "etcd://h:2379?x",
    ],
)
def test_what_names_no_place(url):
    with pytest.raises(Problem, match=r"write etcd://") as refused:
        Place(url).check()
    assert refused.value.status == MISUSE


def test_without_tls_only_this_machine_is_trusted():
    for url in ("etcd://127.0.0.1", "etcd://localhost:1,[::1]:2/x"):
        Place(url).check()
    with pytest.raises(Problem, match="etcd at etcd1 could be read.*--store-ca"):
        Place("etcd://127.0.0.1,etcd1").check()
    with pytest.raises(Problem, match="Name all of"):
        Place("etcd://etcd1", ca="a").check()


def test_nobody_is_there(monkeypatch):
    monkeypatch.setattr(etcdclient, "_PATIENCE_S", 0.2)
    url = f"etcd://127.0.0.1:{etcd_plant.free_ports(1)[0]}"
    with pytest.raises(Unreachable) as refused:
        etcd.open_existing(Place(url), "")
    why = "connection refused"
    assert refused.value.sentence == (
        f"{url} doesn't answer ({why}): check that most of its nodes run."
    )


# TLS


class Ca:
    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = self._sign(name, self.key.public_key(), True)
        self.file = self._write(f"{name}.pem", self.cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, name):
        """→ (certificate, key) as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(name, key.public_key(), False)
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        octets = cert.public_bytes(serialization.Encoding.PEM)
        who = f"{self.name}-{name}"
        return self._write(f"{who}.pem", octets), self._write(f"{who}.key", text)

    def _sign(self, name, public, is_ca):
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
        made = made.public_key(public).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=1))
        made = made.not_valid_after(now + datetime.timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(is_ca, None), True)
        made = made.add_extension(x509.SubjectAlternativeName(names), False)
        ours = x509.SubjectKeyIdentifier.from_public_key(public)
        made = made.add_extension(ours, False)
        issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        made = made.add_extension(issuers, False)
        usage = [is_ca if i in (5, 6) else not is_ca and i == 0 for i in range(9)]
        made = made.add_extension(x509.KeyUsage(*usage), True)
        return made.sign(self.key, hashes.SHA256())

    def _write(self, name, data):
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)


def test_certificates_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.setattr(etcdclient, "_PATIENCE_S", 1.0)
    ours, foreign = Ca(tmp_path, "ours"), Ca(tmp_path, "foreign")
    node = etcd_plant.Node(tmp_path, tls=(*ours.issue("etcd"), ours.file))
    node.start().wait()
    try:
        url = f"etcd://{node.here}"
        good = Place(url, ours.file, *ours.issue("gcks"))
        moving.create(good, "this one", etcd_plant.EMPTY)
        store = again(good)
        store.lock("covey serve")
        assert store.compare_and_swap([("a", 0, LARGE)], None) and store.read("a")[0] == LARGE
        store.close()
        theirs = foreign.issue("gcks")
        for place, words in (
            (
                Place(url, foreign.file, good.cert, good.key),
                "don't take each other's certificates",
            ),
            (Place(url, ours.file, *theirs), "don't take each other's certificates"),
            (Place(url, ours.file, good.cert, theirs[1]), "can't be used for etcd"),
            (Place(url, str(tmp_path / "none"), good.cert, good.key), "can't be used for etcd"),
            (Place(url, good.key, good.cert, good.key), "can't be used for etcd"),
        ):
            with pytest.raises(Problem, match=words) as refused:
                again(place)
            print(refused.value.sentence)
        with pytest.raises(Unreachable):  # without TLS
            again(Place(url))
    finally:
        node.kill()


def test_lifetimes_of_the_lock_fit():
    """It outlives an election, by which keeping it alive is late."""
    assert etcdlock.TTL_S / 4 + etcdclient._PATIENCE_S < etcdlock.TTL_S
