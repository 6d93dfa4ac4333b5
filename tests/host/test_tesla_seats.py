"""TESLA where senders get other secrets, and with them other chains, while members go on."""

from dataclasses import replace

import pytest

from gcks_site import LINE1, SITE, Site
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
