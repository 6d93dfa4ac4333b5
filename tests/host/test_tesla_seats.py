"""TESLA where senders get other secrets, and with them other chains, while members go on."""

from dataclasses import replace

from covey.drops import DROP_NO_SA
from covey_host.gcks.roles import Role
from gcks_site import KEY, LINE1, SITE, Site
from tesla_plant import Plant
from test_eviction import group_of

TESLA = 'source_auth = "tesla"\n'


def begun(tmp_path, senders, receivers, more=""):
    site = Site(tmp_path / "state.db", SITE + LINE1 + TESLA + more)
    plant = Plant(site, senders, receivers)
    plant.settle()
    plant.wait(12_000)
    return plant


def secrets(plant):
    return {seat.member: seat.secret for seat in group_of(plant.site).epoch.seats}


def proven(plant, sender, *receivers, ms=3_000):
    """Whether all that it sends now is confirmed by these."""
    before = len(plant.sent_by(sender))
    plant.wait(ms, speak=[sender])
    plant.wait(2_000)
    sent = set(plant.sent_by(sender)[before:])
    assert len(sent) > ms // 50
    return [not sent - set(plant.ones[name].confirmed) for name in receivers]


def excluded(plant):
    group_of(plant.site).exclude(plant.site.now)
    plant.said(plant.site.server._due(plant.site.now))
    plant.wait(30_000)


def test_after_an_exclusion(tmp_path):
    plant = begun(tmp_path, ["press"], ["valve", "drill"])
    before = secrets(plant)
    excluded(plant)
    plant.settle()
    assert not set(before.values()) & set(secrets(plant).values())
    assert proven(plant, "press", "valve", "drill") == [True, True]


def test_after_an_exclusion_when_the_next_chains_are_known(tmp_path):
    """What was told of them before it is of no use; and there is no gap where they begin."""
    plant = begun(tmp_path, ["press"], ["valve"], "tesla_chain = 12\n")
    clock, every = plant.site.server._clock, 100 << 12
    plant.wait(every * 29 // 32 - clock.now_ms() % every)
    (known,) = plant.ones["valve"].it.keeper.chains._of.values()
    assert len(known) == 2
    excluded(plant)
    plant.settle()
    left_ms = every - clock.now_ms() % every
    assert 5_000 < left_ms < every / 8
    plant.wait(left_ms - 3_000)
    assert proven(plant, "press", "valve", ms=6_000) == [True]


def test_who_is_removed_and_comes_again(tmp_path):
    plant = begun(tmp_path, ["press", "desk"], ["valve"])
    before = secrets(plant)
    plant.said(plant.site.server.remove_member("press", plant.site.now))
    plant.wait(300)
    plant.site.add("press")
    plant.wait(60_000)
    plant.settle()
    after = secrets(plant)
    assert after["press"] != before["press"] and after["desk"] == before["desk"]
    assert proven(plant, "press", "valve", "desk") == [True, True]
    assert proven(plant, "desk", "valve", "press") == [True, True]


def test_who_may_not_send_any_more(tmp_path):
    """It comes back as a receiver, by itself."""
    plant = begun(tmp_path, ["press", "desk"], ["valve"])
    server = plant.site.server
    was, now = server.authority.with_rule("press", "line1", Role.RECEIVER)
    plant.said(server.change_member(was, now, plant.site.now))
    assert set(secrets(plant)) == {"desk"}
    plant.wait(60_000)
    press = plant.ones["press"]
    assert press.it.state_name == "member" and press.it.sender_id is None
    assert press.send(b"on") == DROP_NO_SA
    assert proven(plant, "desk", "valve", "press") == [True, True]


def test_who_only_sends(tmp_path):
    plant = begun(tmp_path, ["press"], ["valve"])
    plant.site.server.add_member("mute", ["line1"], role=Role.SENDER, psk=KEY)
    mute = plant.begin("mute", True)
    mute.member.is_receiver = False
    mute.member.shut(False)
    plant.settle()
    assert proven(plant, "mute", "valve", "press") == [True, True]
    plant.wait(3_000, speak=["press"])
    assert mute.confirmed == {} and mute.kept == []
    assert set(mute.member.drops.as_dict()) <= {"not_receiver", "rekey_repeat", "rekey_spi"}


def test_after_the_eighth_start(tmp_path):
    """It excludes all members, as Sender-IDs are used up."""
    plant = begun(tmp_path, ["press"], ["valve"])
    era = group_of(plant.site).epoch.era
    for _ in range(8):
        plant.restart(later_ms=0)
        plant.wait(20_000)
    assert group_of(plant.site).epoch.era == era + 1
    plant.settle()
    assert proven(plant, "press", "valve") == [True]


def test_what_another_mode_is_about_excludes_nobody(tmp_path):
    plant = begun(tmp_path, ["press"], ["valve"])
    era = group_of(plant.site).epoch.era
    rules = plant.site.policy
    line1 = replace(rules.groups["line1"], ecdsa_batch=16)
    plant.said(plant.site.server.reload(replace(rules, groups={"line1": line1}), plant.site.now))
    assert group_of(plant.site).epoch.era == era
    line1 = replace(line1, tesla_lag=3)
    plant.said(plant.site.server.reload(replace(rules, groups={"line1": line1}), plant.site.now))
    assert group_of(plant.site).epoch.era == era + 1
    plant.wait(30_000)
    plant.settle()
    assert proven(plant, "press", "valve") == [True]


def test_nobody_is_given_the_index_of_who_was_removed(tmp_path):
    """While packets under the keys of before may come, its name stands for it there."""
    plant = begun(tmp_path, ["press", "desk"], ["valve"])
    site = plant.site
    (index,) = [s.index for s in group_of(site).epoch.seats if s.member == "press"]
    era = group_of(site).epoch.era
    plant.said(site.server.remove_member("press", site.now))
    plant.ones.pop("press")
    for name in ("mole", "press"):
        site.add(name)
        plant.begin(name, True)
    plant.until(lambda: {"desk", "mole", "press"} == secrets(plant).keys())
    for happens in (lambda: None, plant.restart):
        happens()
        group = group_of(plant.site)
        assert group.epoch.era == era and group.rows[index].owner == ""
        assert index not in [seat.index for seat in group.epoch.seats]


def test_when_all_indexes_have_been_names(tmp_path):
    """Then all are excluded, which makes them anybody's."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + TESLA + "sender_id_form = [2, 14]\n")
    plant = Plant(site, [f"press-{n}" for n in range(3)], ["valve"])
    plant.settle()
    era = group_of(site).epoch.era
    for n in range(2):
        assert group_of(site).epoch.era == era
        plant.said(site.server.remove_member(f"press-{n}", site.now))
        plant.ones.pop(f"press-{n}")
        site.add(f"oven-{n}")
        plant.begin(f"oven-{n}", True)
        plant.wait(40_000)
        plant.settle()
    assert group_of(site).epoch.era == era + 1
    assert proven(plant, "oven-1", "valve", "press-2") == [True, True]
