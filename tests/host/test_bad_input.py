"""What a person may get wrong about members and policy: one sentence, and nothing has changed."""

import pytest

from covey_host import site as sites
from covey_host.errors import MISUSE, Problem
from covey_host.gcks import authority, policy
from covey_host.operations import Operations
from covey_host.store import sqlite
from gcks_site import LINE1, SITE, Site


class Running:
    """What Operations needs of a server, around a key server on a virtual clock."""

    def __init__(self, made):
        self.made, self.keyserver = made, made.server
        self.listen = made.policy.listen

    def send(self, outs):
        self.made.send(outs)

    def reload(self, rules, text, now_ms):
        return self.keyserver.reload(rules, now_ms)

    def check_routes(self, groups):
        pass


@pytest.fixture
def place(tmp_path):
    """A site's directory without a server."""

    def fill(path):
        store = sqlite.create(path)
        authority.make_signing_key(store)
        store.close()

    return sites.create(tmp_path / "site", SITE + LINE1, fill)


@pytest.fixture
def made(place):
    return Site(place.store)


@pytest.fixture
def work(place, made):
    """perform(request) at the running server."""
    operations = Operations(place, made.store, Running(made))
    return lambda **request: operations.perform(request, made.now)


def facts(made, place):
    """All that must not change."""
    all_files = [p for p in place.root.rglob("*") if p.is_file() and "state.db" not in p.name]
    files = {str(p): p.read_bytes() for p in all_files}
    group = made.server._groups["line1"]
    return made.revision(), files, group.epoch, group.policy, len(made.air)


def refused(made, place, work, **request):
    before = facts(made, place)
    with pytest.raises(Problem) as caught:
        work(**request)
    assert facts(made, place) == before
    sentence = caught.value.sentence
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


def test_whom_nobody_can_evict(made, place, work):
    for name in ("a", "b"):
        work(**{"do": "member add", "member": name, "group": "line1"})
    work(**_remove("b"))
    made.wait(20_000)
    assert "no member nobody" in refused(made, place, work, **_remove("nobody"))
    assert "removed already" in refused(made, place, work, **_remove("b"))
    assert "can't name a member" in refused(made, place, work, **_remove("../a"))


@pytest.mark.parametrize("member", [5, True, ["a"], {"a": 1}])
def test_who_is_asked_after_has_a_name(made, place, work, member):
    """Found by fuzzing the control socket."""
    assert "name of its member" in refused(made, place, work, do="status", member=member)


def test_a_key_of_several_lines_is_told_on_one(made, place, work):
    """Found by fuzzing: TOML's keys may be anything."""
    place.policy.write_text(SITE + LINE1 + '"a\\nb" = 1\n')
    assert r"'a\nb' is no key of this table" in refused(made, place, work, do="reload")


def test_whom_nobody_can_evict_without_a_server(place):
    store = sqlite.open_existing(place.store)
    operations = Operations(place, store)
    with pytest.raises(Problem, match="no member nobody"):
        operations.perform(_remove("nobody"), 0)
    operations.perform({"do": "member add", "member": "a", "group": "line1"}, 0)
    operations.perform(_remove("a"), 0)
    before = store.scan("")
    with pytest.raises(Problem, match="removed already"):
        operations.perform(_remove("a"), 0)
    assert store.scan("") == before


@pytest.mark.parametrize(
    "settings, line, word",
    [
        ('atd = "10m"\ndtd = "20m"\nlifetime = "5m"\n', 8, "lifetime (300 s) must be at least"),
        ('atd = "9s"\ndtd = "8s"\n', 7, "dtd (8 s) must be more than atd (9 s)"),
        ('dtd = "4s"\n', 6, "dtd (4 s) must be more than atd (5 s)"),
        ('atd = "10s"\n', 6, "dtd (10 s) must be more than atd (10 s)"),
        ('evict_atd = "5s"\n', 6, "evict_dtd (4 s) must be more than evict_atd (5 s)"),
        ("sender_id_form = [1, 7]\nsender_ids = 4\n", 7, "sender_ids must not be more"),
        ("sender_id_form = [1, 7]\nsender_ids = 2\n", 6, "tells 2 senders apart"),
        ('report_interval = "10m"\n', 6, "must not be more than half of ike_idle"),
        ('report_interval = "5s"\n', 6, "from 10 to 3600, or 0"),
    ],
)
def test_contradictory_policy(made, place, work, settings, line, word):
    for name in ("a", "b", "c"):
        work(**{"do": "member add", "member": name, "group": "line1", "sender": True})
    place.policy.write_text(SITE + LINE1 + settings)
    sentence = refused(made, place, work, do="reload")
    assert f"covey.toml:{line}: group.line1: " in sentence and word in sentence
    assert made.server._policy == made.policy


def test_one_sender_too_many(made, place, work):
    narrow = SITE + LINE1 + "sender_id_form = [1, 7]\nsender_ids = 1\n"
    place.policy.write_text(narrow)
    work(do="reload")
    for name in ("a", "b"):
        work(**{"do": "member add", "member": name, "group": "line1", "sender": True})
    request = {"do": "member add", "member": "c", "group": "line1", "sender": True}
    assert "tells 2 senders apart, and there would be 3" in refused(made, place, work, **request)
    assert not (place.members / "c").exists()
    work(**request | {"sender": False})
    work(**_remove("a"))
    work(**request | {"member": "d"})
    assert policy.load(place.policy).groups["line1"].sender_id_form == (1, 7)


def test_a_server_does_not_start_without_room(place):
    from covey_host.gcks.room import check_room

    store = sqlite.open_existing(place.store)
    operations = Operations(place, store)
    for name in ("a", "b", "c"):
        operations.perform(
            {"do": "member add", "member": name, "group": "line1", "sender": True}, 0
        )
    place.policy.write_text(SITE + LINE1 + "sender_id_form = [1, 7]\nsender_ids = 1\n")
    rules = policy.load(place.policy)
    with pytest.raises(Problem, match="covey.toml:6: group.line1: ") as caught:
        check_room(rules, operations._authority(), place.policy)
    assert caught.value.status == MISUSE


@pytest.mark.parametrize(
    "source_auth, is_sender, word",
    [("mac", False, "serves 16 receivers"), ("tesla", True, "serves 16 senders")],
)
def test_source_auth_without_room_is_refused_with_no_server_too(
    place, source_auth, is_sender, word
):
    store = sqlite.open_existing(place.store)
    operations = Operations(place, store)
    for number in range(17):
        request = {"member": f"m{number}", "group": "line1", "sender": is_sender}
        operations.perform({"do": "member add", **request}, 0)
    place.policy.write_text(SITE + LINE1 + f'source_auth = "{source_auth}"\n')
    with pytest.raises(Problem, match=f"covey.toml:6: group.line1: .* {word}") as caught:
        operations.perform({"do": "reload"}, 0)
    assert caught.value.status == MISUSE


def _remove(name):
    return {"do": "member remove", "members": [name]}
