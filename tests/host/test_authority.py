"""Members, their keys and roles, and the site's signing key: over a real store."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from covey_host.errors import MISUSE, Problem
from covey_host.gcks.authority import (
    PSK_LEN,
    Authority,
    Member,
    load_signing_key,
    make_signing_key,
)
from covey_host.gcks.ledger import Ledger, decode, encode
from covey_host.gcks.roles import Role
from covey_host.store import Fenced, sqlite


@pytest.fixture
def store(tmp_path):
    made = sqlite.create(tmp_path / "state.db")
    yield made
    made.close()


@pytest.fixture
def authority(store):
    return Authority(Ledger(store))


def test_add_find_list(authority, store):
    made = authority.add("press-7", ["line1"], sender=True)
    assert made == Member("press-7", made.psk, {"line1": Role.BOTH})
    assert len(made.psk) == PSK_LEN
    lamp = authority.add("lamp-1", ["line1", "line2"], psk=b"x" * 16)
    assert authority.find("press-7") == made
    assert list(Authority(Ledger(store)).members()) == [lamp, made]
    assert made.psk != authority.add("press-8", ["line1"]).psk
    assert authority.find("nobody") is None


def test_roles(authority):
    both = authority.add("a", ["line1"], sender=True)
    reader = authority.add("b", ["line1"])
    assert both.may_join("line1") and both.may_send("line1")
    assert reader.may_join("line1") and not reader.may_send("line1")
    for member in (both, reader):
        assert not member.may_join("line2") and not member.may_send("line2")


@pytest.mark.parametrize(
    "name, groups, psk, says",
    [
        ("press-7", ["line1"], None, "already"),
        ("x", [], None, "needs a group"),
        ("x", ["line1"], b"x" * 15, "at least 16"),
        ("x/y", ["line1"], None, "can't name a member"),
        ("", ["line1"], None, "can't name a member"),
        ("x" * 64, ["line1"], None, "can't name a member"),
        ("é", ["line1"], None, "can't name a member"),
    ],
)
def test_refuses_to_add(authority, store, name, groups, psk, says):
    authority.add("press-7", ["line1"])
    before = store.scan("")
    with pytest.raises(Problem, match=says) as raised:
        authority.add(name, groups, psk=psk)
    assert raised.value.status == MISUSE
    assert store.scan("") == before


def test_members_are_counted_as_they_come_and_go(store):
    authority = Authority(Ledger(store))
    authority.add("a", ["line1"], sender=True)
    authority.add("b", ["line1", "line2"])
    assert authority.count("line1") == (2, 1) and authority.count("line2") == (1, 0)
    authority.add("c", ["line1"], sender=True)
    assert authority.count("line1") == (3, 2)
    authority.remove_without_server("a")
    assert authority.count("line1") == (2, 1) and authority.count("line3") == (0, 0)
    again = Authority(Ledger(store))
    assert again.count("line1") == (2, 1) and again.count("line2") == (1, 0)


def test_a_removed_member_is_known_and_may_nothing(authority):
    made = authority.add("press-7", ["line1"], sender=True)
    authority.remove_without_server("press-7")
    gone = authority.find("press-7")
    assert gone.removed and gone.psk == made.psk  # so that it can be told so
    assert not gone.may_join("line1") and not gone.may_send("line1")
    assert list(authority.members()) == []
    assert authority.evicted("line1") == {"press-7"}
    with pytest.raises(Problem, match="removed already"):
        authority.remove_without_server("press-7")
    with pytest.raises(Problem, match="no member"):
        authority.remove_without_server("press-8")
    again = authority.add("press-7", ["line1"])
    assert again.psk != made.psk and again.may_join("line1")


def test_evictions_add_up_until_they_are_done(authority, store):
    for name in ("b", "a"):
        authority.add(name, ["line1", "line2"])
        authority.remove_without_server(name)
    assert authority.evicted("line1") == authority.evicted("line2") == {"a", "b"}
    ledger = Ledger(store)
    ledger.write(Authority(ledger).evicted_done("line1"))
    assert authority.evicted("line1") == set()
    assert authority.evicted("line2") == {"a", "b"}
    assert authority.evicted_done("line1") == {}


def test_no_secret_is_shown(authority, store):
    member = authority.add("press-7", ["line1"])
    for text in (repr(member), str(member), repr(authority), f"{member}"):
        assert member.psk.hex() not in text and repr(member.psk)[2:-1] not in text


@given(st.binary(max_size=100))
def test_names_from_the_network_leave_nothing_behind(tmp_path_factory, name):
    store = sqlite.create(tmp_path_factory.mktemp("a") / "state.db")
    ledger = Ledger(store)
    assert Authority(ledger).find(name.decode("latin-1")) is None
    assert ledger._versions._of == {}
    store.close()


def test_the_signing_key_is_made_once(store):
    with pytest.raises(Problem, match="covey init"):
        load_signing_key(store)
    make_signing_key(store)
    key = load_signing_key(store)
    assert isinstance(key.curve, ec.SECP256R1)
    with pytest.raises(Problem, match="already"):
        make_signing_key(store)
    assert load_signing_key(store).private_numbers() == key.private_numbers()


# The ledger under it


def test_ledger_writes_all_or_nothing_and_notices_others(store):
    one, other = Ledger(store), Ledger(store)
    one.write({"a": b"1", "b": b"1"})
    one.write({"a": b"2"})
    with pytest.raises(Problem, match="changed by another"):
        other.write({"b": b"3", "a": b"3"})  # never read: taken to be absent
    assert other.scan("") == {"a": b"2", "b": b"1"}
    other.write({"b": None, "a": b"4"})
    with pytest.raises(Problem, match="changed by another"):
        one.write({"a": b"5"})
    assert one.read("a") == b"4" and one.read("b") is None
    one.write({"a": b"5", "b": b"5"})
    one.write({})
    assert store.read("b")[0] == b"5"


def test_ledger_of_an_older_term_is_fenced(store):
    old = Ledger(store, store.acquire_term("one"))
    old.write({"a": b"1"})
    new = Ledger(store, store.acquire_term("two"))
    with pytest.raises(Fenced):
        old.write({"a": b"2"})
    assert new.read("a") == b"1"
    new.write({"a": b"2"})


def test_encoding():
    fields = {"psk": b"\0\xff", "n": 1, "t": ("a", [b"\1"]), "none": None, "yes": True}
    assert decode(encode(fields)) == {
        "psk": "00ff",
        "n": 1,
        "t": ["a", ["01"]],
        "none": None,
        "yes": True,
    }
    with pytest.raises(TypeError):
        encode({"x": object()})
