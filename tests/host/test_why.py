"""What the key server knows of its members: reports, history, `covey status`, `covey why`."""

import json
from dataclasses import replace

import pytest

import gcks_site
from covey import ike, report
from covey.drops import (
    DROP_OWN,
    DROP_REKEY_MESSAGE_ID,
    DROP_REKEY_SPI,
    DROP_REPLAY,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
    Drops,
)
from covey_host import causes, dropwords, operations, why
from covey_host.errors import MISUSE, Problem
from covey_host.gcks import diary, history, overview, states
from covey_host.gcks.keyserver import KeyServer
from covey_host.gcks.ledger import Ledger
from foreign_gm import INFORMATIONAL, ForeignGM, notification
from gcks_site import KEY, SITE, CutStore, FullDisk, Killed, Site
from markdown import code, table  # docs
from test_docs_tables import SPEC

LINE1 = gcks_site.LINE1 + 'report_interval = "5m"\n'
CLOCK = 1_700_000_000


class Clock:
    """Seconds since 1970, as the site's own clock has them."""

    def __init__(self, site):
        self.site = site

    def __call__(self):
        return CLOCK + self.site.now / 1000


@pytest.fixture
def site(tmp_path):
    return timed(Site(tmp_path / "state.db", SITE + LINE1))


def timed(site):
    clock = Clock(site)
    server = site.server
    server._time = server._diary.time = clock
    server._diary.history._time = server._diary.contacts._time = clock
    return site


def told(site, name="press-7"):
    """As Operations.why() would answer, without its look at files."""
    return {"running": True, "files": [], **site.server.why(name, site.now)}


def standing(site):
    return site.server.status(site.now)["groups"]["line1"]


def names(site, name="press-7"):
    return [cause.cause for cause in causes.causes(told(site, name))]


class Talker:
    """A member that registers and reports, by a peer that shares no protocol with ours."""

    def __init__(self, site, name="press-7", address=None, wants=1):
        self.site, self.name, self.address = site, name, address or name
        self.gm = ForeignGM(name.encode(), KEY, wants=wants)
        site.register(self.gm, self.address)

    def report(self, **facts):
        fields = {
            "state": 2,
            "spi": bytes(4),
            "epoch": standing(self.site)["epoch"],
            "seconds": 60,
            "opened": 5,
            "sent": 1,
            "changes": [],
            "drops": {},
        } | facts
        counted = Drops()
        for reason, count in fields["drops"].items():
            counted._counts[-reason] = count
        return self.say(report.emit_report(**fields | {"drops": counted}))

    def say(self, data):
        request = self.gm.seal(INFORMATIONAL, [notification(ike.COVEY_REPORT, data)])
        answer = self.site.talk(request, self.address)
        assert self.gm.open(answer, INFORMATIONAL) == []
        return data


# The states of members


def test_members_by_state(site):
    for name in ("a", "b", "c", "d", "e"):
        site.add(name)
    a, b, _ = Talker(site, "a"), Talker(site, "b"), Talker(site, "c")
    site.talk(b.gm.leave(), "b")
    assert standing(site)["counts"] == {
        "member": 2,
        "waiting": 0,
        "excluded": 0,
        "left": 1,
        "never": 2,
    }
    site.server._groups["line1"].exclude(site.now)
    assert standing(site)["counts"] | {"never": 2, "left": 1} == {
        "member": 0,
        "waiting": 0,
        "excluded": 2,
        "left": 1,
        "never": 2,
    }
    site.send(site.server.remove_member("d", site.now))
    assert standing(site)["counts"]["never"] == 1
    assert [told(site, n)["groups"]["line1"]["state"] for n in "abce"] == [
        states.EXCLUDED,
        states.LEFT,
        states.EXCLUDED,
        states.NEVER,
    ]
    assert told(site, "d")["removed"] and told(site, "d")["groups"] == {}
    assert a.gm.name == b"a"


def test_who_waits_for_other_keys(tmp_path):
    text = SITE + LINE1.replace("fresh_join = false", "fresh_join = true")
    site = timed(Site(tmp_path / "state.db", text))
    site.add("a")
    site.add("b")
    site.come("a", 1)
    site.wait(60_000)
    _, answer = site.begin(ForeignGM(b"b", KEY, wants=1), "b")
    assert answer is None
    assert standing(site)["counts"]["waiting"] == 1 and standing(site)["waiting"] == ["b"]
    events = [facts for name, facts in site.server.events if name == "waits"]
    assert events == [{"member": "b", "group": "line1", "until_s": 1}]
    assert names(site, "b") == ["waiting"]
    assert told(site, "b")["history"][0]["event"] == "waits"
    site.answered(ForeignGM(b"b", KEY), "b")
    assert standing(site)["counts"]["waiting"] == 0 and "waiting" not in names(site, "b")


def test_the_size_of_the_last_rekey(site):
    assert standing(site)["last_rekey"] is None  # nobody was there to be told
    site.add()
    Talker(site)
    site.air.clear()
    site.send(site.server.rekey("line1", site.now))
    once = site.air[0]
    expected = {"messages": 1, "datagrams": 1, "octets": len(once.data)}
    assert standing(site)["last_rekey"] == expected
    site.wait(100_000)
    assert standing(site)["last_rekey"] == expected and standing(site)["age_s"] == 100
    site.add("b")
    Talker(site, "b")
    site.air.clear()
    site.send(site.server.remove_member("b", site.now))
    site.wait(10_000)
    different = {out.data for out in site.air}
    assert standing(site)["last_rekey"] == {
        "messages": 2,
        "datagrams": len(different),
        "octets": sum(map(len, different)),
    }


# Reports


def test_a_report_says_who_lags(site):
    for name in ("a", "b", "c"):
        site.add(name)
    a, b = Talker(site, "a"), Talker(site, "b")
    Talker(site, "c")
    a.report()
    b.report()
    expected = {"current": 2, "behind": 0, "silent": 0, "unknown": 1}
    assert standing(site)["lag"] == expected
    first = standing(site)["epoch"]
    for _ in range(3):
        site.send(site.server.rekey("line1", site.now))
        site.wait(11_000)
    assert standing(site)["lag"] == expected  # as far as it is known: they were current
    a.report()
    b.report(epoch=first)
    assert standing(site)["lag"] == {"current": 1, "behind": 1, "silent": 0, "unknown": 1}
    assert standing(site)["behind"] == [
        {"member": "b", "epochs": 3, "told_s": 0, "state": "member"}
    ]
    assert names(site, "b") == ["behind"] and names(site, "a") == names(site, "c") == []
    b.gm.take_group(b.gm.open(site.talk(b.gm.gsa_registration(), "b"), ike.GSA_REGISTRATION))
    assert standing(site)["lag"]["behind"] == 0 and names(site, "b") == []
    site.wait(4 * 300_000 + 1000)
    assert standing(site)["lag"] == {"current": 0, "behind": 0, "silent": 0, "unknown": 3}


def test_a_rekey_has_the_time_that_it_takes(site):
    site.add()
    talker = Talker(site)
    before = standing(site)["epoch"]
    site.send(site.server.rekey("line1", site.now))
    talker.report(epoch=before)
    assert standing(site)["lag"]["current"] == 1
    site.wait(10_000)
    talker.report(epoch=before)
    assert standing(site)["lag"]["behind"] == 1
    assert [row["event"] for row in told(site)["history"]][:2] == ["behind", "registered"]
    talker.report()
    assert [row["event"] for row in told(site)["history"]][:2] == ["caught_up", "behind"]


def test_a_member_that_says_that_it_is_silent(site):
    site.add()
    Talker(site).report(state=report.STATES.index("silent"))
    assert standing(site)["lag"]["silent"] == 1 and names(site) == ["silent"]


def test_drops_are_told_since_the_report_before(site):
    site.add()
    talker = Talker(site)
    talker.report(drops={DROP_REPLAY: 3, DROP_OWN: 99})
    talker.report(drops={DROP_REPLAY: 3, DROP_OWN: 199}, seconds=400)
    talker.report(drops={DROP_REPLAY: 5, DROP_TAG: 1}, seconds=800)
    (row, *_) = told(site)["history"]
    assert row["event"] == "drops" and row["times"] == 2
    assert row["reasons"] == {"replay": 5, "tag": 1}
    talker.report(drops={DROP_UNKNOWN_SPI: 2}, seconds=5)  # it has begun anew
    assert told(site)["history"][0]["reasons"] == {"replay": 5, "tag": 1, "unknown_spi": 2}
    assert set(names(site)) == {"replay", "tag", "unknown_spi"}
    words = "\n".join(why.lines(told(site)))
    assert "5 packets that it had already" in words and "RFC 4303 section 3.4.3" in words
    site.wait(3_700_000)
    assert "replay" not in names(site)  # long ago


OF_STARTS = {DROP_UNKNOWN_SPI: 14, DROP_REKEY_SPI: 3, DROP_REKEY_MESSAGE_ID: 1}


def starts(site, seconds=5):
    """A member that has registered, and what its first report says."""
    talker = Talker(site)
    site.wait(3_000)
    talker.report(drops=OF_STARTS, seconds=seconds)
    return talker


def test_what_each_start_leaves_stands_in_nobody_s_way(site):
    site.add()
    for seconds in (7, 6, 5):
        starts(site, seconds)
        site.wait(60_000)
    assert names(site) == []
    [row] = [row for row in told(site)["history"] if row["event"] == "drops"]
    assert row["start"] and row["times"] == 3 and row["reasons"]["unknown_spi"] == 42
    words = "\n".join(why.lines(told(site)))
    assert "Nothing that is known here stands in press-7's way." in words
    assert "dropped as each does that begins, 42 packets under keys that it does not have" in words


def test_what_goes_on_after_a_start_is_told(site):
    site.add()
    talker = starts(site)
    more = {reason: count + 1 for reason, count in OF_STARTS.items()} | {DROP_TAG: 1}
    talker.report(drops=more, seconds=9)  # the time that old keys may take is not over
    assert names(site) == ["tag"]
    site.wait(60_000)
    talker.report(drops=more, seconds=70)
    assert names(site) == ["tag"]
    site.wait(60_000)
    talker.report(drops=more | {DROP_UNKNOWN_SPI: 99}, seconds=130)
    assert names(site) == ["unknown_spi", "tag"]
    assert told(site)["history"][0]["reasons"] == {"tag": 1, "unknown_spi": 84}


def test_one_is_told_as_one(site):
    one, two = (dropwords.in_words("rekey_message_id", count) for count in (1, 2))
    assert one.startswith("1 message that is older")
    assert two.startswith("2 messages that are older")
    assert dropwords.in_words("next_header", 1).startswith("1 packet that holds no UDP")
    assert dropwords.in_words("source", 1).startswith("1 packet that does not prove")
    assert dropwords.in_words("retired_spi", 1).startswith("1 packet under keys that are over")


def test_what_is_no_report_changes_nothing(site):
    site.add()
    talker = Talker(site)
    for data in (b"", b"\1", bytes(28), b"\2" + bytes(27), bytes(2000)):
        talker.say(data)
    assert site.server.counters["report_malformed"] == 5 and site.server.counters["reports"] == 0
    assert told(site)["report"] is None
    assert talker.report() and told(site)["report"]["opened"] == 5


def test_reports_are_asked_for_where_policy_says_so(tmp_path):
    def interval(number, text):
        made = Site(tmp_path / f"{number}.db", text)
        made.add()
        gm = ForeignGM(wants=1)
        gm.name, gm.psk = b"press-7", KEY
        made.connect(gm, "a")
        payloads = dict(made.ask(gm, "a"))
        from covey import gsa

        return gsa.parse_gsa(payloads[ike.GSA]).group_wide.report_s

    assert interval(0, SITE + gcks_site.LINE1) is None
    assert interval(1, SITE + LINE1) == 300
    private = SITE + LINE1 + 'carrier = "ip"\nprivate_attributes = false\n'
    assert interval(2, private) is None


def test_reports_keep_the_ike_sa(site):
    site.add("a")
    site.add("b")
    a = Talker(site, "a")
    Talker(site, "b")
    for _ in range(10):
        site.wait(300_000)
        a.report()
    assert site.server.why("a", site.now)["connected"]
    assert not site.server.why("b", site.now)["connected"]


# What survives


def test_history_and_reports_survive_a_kill(site):
    site.add()
    talker = Talker(site)
    talker.report(drops={DROP_TAG: 2})
    site.wait(12_000)
    before = told(site)
    again = timed(site.restart())  # nothing was said to the server that is gone
    after = told(again)
    assert [row["event"] for row in after["history"]] == ["drops", "registered", "added"]
    assert after["report"]["drops"] == before["report"]["drops"] == {"tag": 2}
    assert not after["connected"] and after["heard_s"] == 13
    assert standing(again)["lag"]["current"] == 1
    stopped = KeyServer(again.store, again.policy, time=Clock(again)).why("press-7", 0)
    assert stopped["history"] == after["history"] and stopped["report"] == after["report"]


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_write_of_the_history(tmp_path, after):
    """It is whole, and the group knows nothing of it."""
    at, cuts = 1, 0
    while True:
        path = tmp_path / f"{at}.db"
        Site(path, SITE + LINE1).store.close()
        stores = []

        def cutting(store, at=at, stores=stores):
            stores.append(CutStore(store, at, after, aside=True))
            return stores[-1]

        try:
            site = timed(Site(path, SITE + LINE1, wrap=cutting))
            site.add()
            Talker(site).report(drops={DROP_TAG: 1})
            site.wait(12_000)
        except Killed:
            pass
        done = stores[0].disarm()
        stores[0]._store.close()
        site = timed(Site(path, now=2_000_000))
        if site.server._authority.find("press-7"):
            events = [row["event"] for row in told(site)["history"]]
            assert events == ["drops", "registered", "added"][3 - len(events) :]
        site.store.close()
        if not done:
            assert len(events) == 3 and cuts > 5
            break
        at, cuts = at + 1, cuts + 1


def test_a_full_disk_costs_only_the_history(tmp_path):
    site = timed(Site(tmp_path / "state.db", wrap=FullDisk))
    site.add()
    talker = Talker(site)
    site.wait(2_000)
    site.store.full = True
    talker.report(drops={DROP_TAG: 1})
    site.wait(20_000)
    assert "trouble" in [name for name, _ in site.server.events]
    assert told(site)["history"][0]["event"] == "drops"  # in memory
    site.store.full = False
    site.wait(10_000)
    assert told(site.restart())["history"][0]["event"] == "drops"


def test_a_history_is_bounded():
    rows = []
    for number in range(100):
        history.note(rows, number, "moved", {"address": "a", "former": "b"})
        history.note(rows, number, "left", {"group": f"g{number}"})
    assert len(rows) == history.MOST == 32 and rows[-1][4] == {"group": "g99"}
    assert len(json.dumps(rows)) < 4096


def test_strangers_push_nothing_out(site):
    site.add()
    Talker(site)
    for number in range(40):
        stranger = ForeignGM(b"press-7", b"another key, of enough length", wants=1)
        site.connect(stranger, f"10.0.0.{number}")
        site.talk(stranger.gsa_auth(), f"10.0.0.{number}")
        Talker(site, address=f"10.0.1.{number}")
    rows = told(site)["history"]
    failed = [row for row in rows if row["event"] == "authentication_failed"]
    assert len(failed) == 1 and failed[0]["times"] == 40 and failed[0]["address"] == "10.0.0.39"
    assert "added" in [row["event"] for row in rows]  # nor do its own registrations
    stranger = ForeignGM(b"nobody", KEY, wants=1)
    site.connect(stranger, "x")
    site.talk(stranger.gsa_auth(), "x")
    site.wait(2_000)
    assert Ledger(site.store).read("history/nobody") is None


# Why?


def test_an_unknown_member_is_one_sentence(site):
    with pytest.raises(Problem, match="There is no member nobody") as caught:
        site.server.why("nobody", site.now)
    assert caught.value.status == MISUSE


def test_never_heard_of(site):
    site.add()
    assert names(site) == ["never_heard"]
    assert "never heard of press-7" in "\n".join(why.lines(told(site)))


def test_another_key(site):
    site.add()
    stranger = ForeignGM(b"press-7", b"another key, of enough length", wants=1)
    site.connect(stranger, "10.0.0.7")
    site.talk(stranger.gsa_auth(), "10.0.0.7")
    assert names(site)[0] == "wrong_psk"
    words = "\n".join(why.lines(told(site)))
    assert "at 10.0.0.7 has another pre-shared key" in words and "make its image" in words
    Talker(site)
    assert "wrong_psk" not in names(site)  # its own key is the right one


def test_not_authorised(site):
    site.add("a", sender=False)
    gm = ForeignGM(b"a", KEY, wants=1)
    site.connect(gm, "a")
    site.ask(gm, "a")
    assert names(site, "a")[0] == "authorization_failed"
    assert "`receiver` in its covey.json" in "\n".join(why.lines(told(site, "a")))


def test_two_devices_of_one_name(site):
    site.add()
    for number in range(4):
        Talker(site, address=f"10.0.0.{1 + number % 2}")
        site.wait(30_000)
    assert names(site) == ["two_devices"]
    words = "\n".join(why.lines(told(site)))
    assert "two devices have its name" in words and "10.0.0.2 in place of 10.0.0.1" in words


def test_one_that_was_restarted_is_no_twin(site):
    site.add()
    for _ in range(4):
        Talker(site)
        site.wait(300_000)
    assert names(site) == []


def test_nobody_to_listen_to(site):
    site.add("a", sender=False)
    Talker(site, "a", wants=None)
    assert names(site, "a") == ["no_sender"]


def test_a_removed_member(site):
    site.add()
    Talker(site)
    site.send(site.server.remove_member("press-7", site.now))
    assert names(site) == ["removed"] and told(site)["history"][0]["event"] == "removed"
    site.wait(1)  # what a command did is written before its answer is sent
    assert told(timed(site.restart()))["history"][0]["event"] == "removed"


def test_a_group_that_started_anew(site):
    site.add()
    Talker(site)
    site.server._groups["line1"].exclude(site.now)
    assert names(site)[0] == "excluded"


def test_it_moves(site):
    site.add()
    talker = Talker(site, address="10.0.0.1")
    talker.address = "10.0.0.9"
    talker.report()
    assert told(site)["history"][0] | {"times": 1} == {
        "event": "moved",
        "first_s": 0,
        "last_s": 0,
        "times": 1,
        "address": "10.0.0.9",
        "former": "10.0.0.1",
    }


def test_no_secret_is_told(site):
    site.add()
    Talker(site).report()
    site.wait(12_000)
    epoch = site.server._groups["line1"].epoch
    secrets = [KEY, epoch.tek_keymat, epoch.rekey.keymat]
    secrets += [bytes(sa.keys.sk_d) for sa in site.server._responder._sas.values()]
    shown = json.dumps([told(site), site.server.status(site.now), why.as_json(told(site))])
    kept = b"".join(
        value for prefix in ("history/", "contact/") for _, value, _ in site.store.scan(prefix)
    ).decode()
    for secret in secrets:
        assert secret.hex() not in shown + kept


def test_every_reason_has_words():
    spec = {code(cells[0]): cells[3] for cells in table(SPEC, "Reasons for a drop").values()}
    quiet = {"empty", "keepalive", "own", "dummy", "not_receiver"}
    quiet |= {"rekey_repeat", "rekey_portion", "disclosure"}
    assert diary._QUIET == quiet
    assert set(dropwords.DROPS) >= set(spec) - quiet
    assert set(dropwords.DROPS) - set(spec) <= {"silent"}
    for name in set(spec) - quiet:
        words = dropwords.DROPS[name]
        assert spec[name].split(",")[0] == words.clause.split(",")[0], name
        assert dropwords.in_words(name, 2).startswith("2 ")
    assert "reason 60" in dropwords.in_words("reason 60", 1)


def test_every_refusal_has_words():
    from covey_host.gcks.registrar import REASONS

    assert set(causes._REFUSALS) == set(REASONS.values())


# Its files


def test_files_that_do_not_fit(tmp_path):
    from covey_host import site as sites
    from covey_host.gcks import authority, policy
    from covey_host.gcks.roles import Role

    place = sites.Site(tmp_path)
    member = authority.Member("press-7", KEY, {"line1": Role.RECEIVER})
    rules = policy.parse(SITE + LINE1)
    assert why.check_files(place, member, rules) == []  # they are elsewhere
    folder = tmp_path / "members" / "press-7"
    folder.mkdir(parents=True)
    fields = {"idi": "press-7", "idr": "gcks.example", "group": "line1", "sender": False}

    def found(psk=None, text=None, **changes):
        (folder / "psk").write_text(psk or KEY.hex())
        (folder / "covey.json").write_text(text or json.dumps(fields | changes))
        said = why.check_files(place, member, rules)
        assert KEY.hex() not in "".join(said)
        return " ".join(said)

    assert found() == ""
    assert "is not the key" in found(psk="ab" * 16) and "is not the key" in found(psk="short")
    assert "idr 'other'" in found(idr="other") and "idi 'x'" in found(idi="x")
    assert "group 'line9'" in found(group="line9") and "sender true" in found(sender=True)
    member = replace(member, groups={"line*": Role.BOTH})
    assert found(sender=True) == found() == ""
    member = replace(member, groups={"line1": Role.SENDER})
    assert "sender false" in found() and "receiver false" in found(sender=True)
    assert found(sender=True, receiver=False) == ""
    member = replace(member, groups={"line1": Role.NONE})
    assert "join none" in found()
    assert "no JSON object" in found(text="[]") and "no JSON object" in found(text="{")
    (folder / "psk").unlink()
    assert "can't be read" in why.check_files(place, member, rules)[0]
    assert why.check_files(place, replace(member, removed=True), rules) == []


# Very many


def test_lists_are_cut_and_numbers_are_not(site):
    names = [f"m{number:03}" for number in range(150)]
    for name in names:
        site.add(name)
    for name in names[:120]:
        site.server._groups["line1"].admit(name, None, site.now)
    shown = site.server.status(site.now, "m149")
    group = shown["groups"]["line1"]
    assert group["members"] == names[:100] and len(shown["members"]) == 101 and shown["more"]
    assert shown["members"][0]["member"] == "m149"
    assert group["counts"]["member"] == 120 and group["counts"]["never"] == 30
    assert overview.LISTED == 100
    assert operations._WORK["why"] is operations.Operations.why
