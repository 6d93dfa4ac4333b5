"""The plant in a box: what must hold holds, for seeds that anybody can run again.

    .venv/bin/python tests/simulate.py --seed 3 --members 1000 --rekeys 200

The defects at the end are the simulator's own tests: it must find them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import covey.member
from covey import keystore, x25519
from covey.job import finish
from covey.refresh import Refresh
from covey_host.gcks import group as groups
from covey_host.gcks import keytree, senders
from covey_host.gcks.roster import Roster
from simulator import story
from simulator.air import Weather
from simulator.checker import Broken
from simulator.plant import Plant, Setting
from simulator.swift import Swift

ROOT = Path(__file__).resolve().parents[2]
CALM = Weather(twice=0.05, delay_ms=(1, 60))  # loses nothing
DEAF = Weather(rekey_loss=0.5, delay_ms=(1, 60))
_BACKWARD = "backward_secrecy = true\nfresh_join = false\n"
_STALE = "fresh_join = false\n"
PEACE = {"cuts": 0, "restarts": 0}


def tell(seed, weather=story.ROUGH, members=40, key_tree=4, more="fresh_join = false\n", **plot):
    given = {"rekeys": 15, "packets": 20, **plot}
    setting = Setting(members=members, key_tree=key_tree, more=more)
    return story.tell(seed, setting=setting, plot=story.Plot(**given), weather=weather)


@pytest.mark.parametrize("key_tree", [4, 2, 0])
@pytest.mark.parametrize("seed", range(3))
def test_on_a_rough_network_everybody_comes_back(seed, key_tree):
    plant, told = tell(seed, key_tree=key_tree, members=120, rekeys=30, restarts=0.05, cuts=0.1)
    assert told.done["joins"] > 10 and told.done["leaves"] > 5
    assert plant.checker.drops["unknown_spi"]  # rekeys were lost, and healed


@pytest.mark.parametrize("key_tree", [4, 0])
@pytest.mark.parametrize("seed", range(3))
def test_on_a_network_that_loses_nothing_no_rekey_does(seed, key_tree):
    evictions = 0.6 if key_tree else 3
    plant, _ = tell(seed, CALM, key_tree=key_tree, rekeys=25, evictions=evictions, **PEACE)
    assert plant.coalition.members
    for what in ("taken", "refused"):  # until DTD, and afterwards
        assert plant.checker.counts[f"injected and {what}"]
    assert plant.checker.counts["delivered"] > 5000


@pytest.mark.parametrize("weather", [CALM, story.ROUGH])
def test_a_newcomer_reads_nothing_earlier(weather):
    plant, told = tell(5, weather, more=_BACKWARD, joins=3)
    assert told.done["joins"] > 10 and plant.checker.counts["delivered"]


def test_a_newcomer_that_reads_the_past_is_found(monkeypatch):
    """Keys that stay as they are when somebody comes."""
    monkeypatch.setattr(Plant, "has_backward_secrecy", True)
    with pytest.raises(Broken) as broken:
        tell(5, CALM, more="fresh_join = false\n", joins=3, **PEACE)
    assert broken.value.invariants == ["backward"]


def test_a_thousand_members_and_two_hundred_rekeys():
    seed = int(os.environ.get("COVEY_SEED", "1"))
    plant, told = story.tell(seed, members=1000, rekeys=200)
    assert told.done["joins"] + told.done["leaves"] + told.done["evictions"] > 300
    assert plant.station.epochs >= 200 and len(plant.machines) == 1000


def test_a_seed_is_a_run():
    """Whatever the process, and however it orders its sets."""
    digests = set()
    for hash_seed in "17":
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "simulate.py", "--members", "40", "--rekeys", "10"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.split("digest ")[1].split()[0])
    assert len(digests) == 1


def test_the_swift_x25519_is_libs():
    slow = x25519.multiply
    with Swift(None):
        assert x25519.multiply is not slow
        for scalar, u in ((bytes(range(32)), x25519.BASE), (b"\xff" * 32, bytes(range(7, 39)))):
            assert finish(x25519.multiply(scalar, u)) == finish(slow(scalar, u))
        assert finish(x25519.multiply(bytes(32), bytes(32))) is None
    assert x25519.multiply is slow


# Defects: (what is wrong, which invariant says so)


def never_switches(patch):
    """A sender keeps the keys that it has: ATD never ends."""
    activate = keystore.KeyStore.activate

    def lazy(keys, spi, now_ms, atd_s):
        return activate(keys, spi, now_ms, atd_s if keys.sending is None else 3600)

    patch.setattr(keystore.KeyStore, "activate", lazy)


def evicts_by_a_rekey(patch):
    """The new keys go out under what the evicted one has."""
    patch.setattr(Roster, "leaving", lambda *_: {})
    patch.setattr(groups.Group, "_can_evict", lambda *_: True)


def forgets_a_node(patch):
    """The key over the evicted one's leaf stays what it was."""
    over = keytree.Draft._over
    patch.setattr(
        keytree.Draft, "_over", lambda d, leaves: {p for p in over(d, leaves) if p[0] > 1}
    )


def forgets_who_left(patch):
    """A leaf is freed, and nothing else becomes of it."""
    patch.setattr(keytree.Draft, "_round", lambda d, leaves: keytree.Round([], d.tops()))


def forgets_a_path(patch):
    """Under one top node the Rekey SA is not wrapped: those below it find no way."""
    tops = keytree.Draft.tops
    patch.setattr(keytree.Draft, "tops", lambda draft: tops(draft)[1:])


def never_asks(patch):
    """A member that has missed something waits for ever."""
    patch.setattr(Refresh, "soon", lambda *_: None)


def remembers_no_number(patch):
    """A packet that was accepted may come again."""
    accept = covey.member.accept

    def forgetful(words, payload_len):
        accept(words, payload_len)
        words[10][11].clear()
        table = words[10][10]
        for at in range(5, len(table), 7):
            table[at] = 0

    patch.setattr(covey.member, "accept", forgetful)


def gives_an_id_twice(patch):
    """A sender that comes again gets the Sender-ID that it had."""
    again = lambda shape, index, row: index << shape.incarnation_bits  # noqa: E731
    patch.setattr(senders, "sender_id", again)


def lets_them_in_at_once(patch):
    """Who starts anew gets the keys that are in use: what was recorded is taken as new."""
    patch.setattr(Plant, "has_fresh_join", True)


def skips_dtd(patch):
    """Old keys go at once."""
    retire = keystore.KeyStore.retire
    at_once = lambda keys, spi, now_ms, dtd_s: retire(keys, spi, now_ms, 0)  # noqa: E731
    patch.setattr(keystore.KeyStore, "retire", at_once)


def accepts_late(patch):
    """Old keys stay for as long as they live."""
    retire = keystore.KeyStore.retire
    never = lambda keys, spi, now_ms, dtd_s: retire(keys, spi, now_ms, 3600)  # noqa: E731
    patch.setattr(keystore.KeyStore, "retire", never)


def accepts_early(patch):
    """A number counts as used before the tag has been looked at."""
    admit = covey.member.admit

    def early(words, n, now_ms):
        slot = admit(words, n, now_ms)
        if slot >= 0:
            covey.member.accept(words, 0)
        return slot

    patch.setattr(covey.member, "admit", early)


def skips_atd(patch):
    """New keys are sent under at once."""
    activate = keystore.KeyStore.activate
    at_once = lambda keys, spi, now_ms, atd_s: activate(keys, spi, now_ms, 0)  # noqa: E731
    patch.setattr(keystore.KeyStore, "activate", at_once)


@pytest.mark.parametrize(
    "defect, weather, found",
    [
        (never_switches, CALM, "evicted"),
        (evicts_by_a_rekey, CALM, "evicted"),
        (forgets_a_node, CALM, "evicted"),
        (forgets_who_left, CALM, "evicted"),
        (forgets_a_path, CALM, "rollover"),
        (never_asks, DEAF, "healed"),
        (never_asks, DEAF, "agreed"),
        (remembers_no_number, CALM, "once"),
        (gives_an_id_twice, CALM, "nonces"),
        (lets_them_in_at_once, CALM, "fresh"),
        (skips_dtd, CALM, "rollover"),
        (accepts_late, CALM, "injected"),
        (accepts_late, story.ROUGH, "injected"),
        (accepts_early, CALM, "rollover"),
        (skips_atd, CALM, "rollover"),
    ],
)
def test_a_defect_is_found(monkeypatch, defect, weather, found):
    defect(monkeypatch)
    with pytest.raises(Broken) as broken:
        tell(6, weather, more=_STALE, reboots=3, evictions=1, packets=60, replays=2, **PEACE)
    assert found in broken.value.invariants
