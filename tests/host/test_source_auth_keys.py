"""Receiver-specific MACs: where their keys die."""

import pytest

from covey import proofs
from covey.drops import DROP_CAPACITY, FormatError
from test_source_auth import NAMES, SENDERS, plant, site, users

__all__ = ("plant", "site")  # fixtures


def is_good(context):
    buf = bytearray(64)
    try:
        context.sign(buf, 8, bytearray(4), 32, 8)
    except OSError:
        return False
    return True


def test_keys_of_who_has_gone_are_wiped_with_the_last_sa(plant, site):
    """A sender's for the slot, a receiver's for the sender: not before, not much later."""
    press, valve = plant.ones["press"], plant.ones["valve"]
    slot = bytes(proofs.sources.slot_id(plant.ones["panel"].it._group.terms.sources.secret))
    gone = [
        press.it._group.terms.sources.told[slot],
        valve.it._group.terms.sources.heard[b"desk"],
    ]
    for name in ("panel", "desk"):
        site.send(site.server.remove_member(name, site.now))
        plant.ones.pop(name)
    for _ in range(80):
        plant.wait(250)
        for one, context in zip((press, valve), gone, strict=True):
            assert is_good(context) == (context in users(one))
    assert not any(is_good(context) for context in gone)
    assert plant.all_hear("press", b"on") == {"valve", "drill"}


def test_what_is_told_again_takes_the_new_keys(plant):
    """An answer to a pull brings the SA that is here: its numbers stay, its old keys can go."""
    valve = plant.ones["valve"]
    plant.all_hear("press", b"before")
    (sa,) = valve.member.keys.live()
    was, sources = sa.auth, valve.it._group.terms.sources
    valve.member.missed_rekey = True
    plant.wait(20_000)
    assert valve.it._group.terms.sources is not sources and not any(sources.secret)
    assert valve.member.keys.live() == [sa] and sa.auth is not was and not sources.heard
    assert plant.all_hear("press", b"after") == set(NAMES) - {"press"}


@pytest.mark.parametrize("where", ["enlisting", "installing"])
def test_nothing_is_left_of_keys_that_are_not_taken(plant, monkeypatch, where):
    """What was here works on."""
    valve = plant.ones["valve"]
    before = valve.it._group.terms.sources
    made, secrets = [], []

    def watched(key):
        made.append(CMACContext(key))
        return made[-1]

    def unwrapped(*args):
        found = yield from unwrap(*args)
        secrets.append(found)
        # Another R than ours, so that all is made anew
        found[0] ^= len(found) == 32
        return found

    def refuse(*_):
        raise FormatError(DROP_CAPACITY)

    CMACContext, unwrap = proofs.CMACContext, proofs.sources.unwrap_job
    monkeypatch.setattr(proofs, "CMACContext", watched)
    monkeypatch.setattr(proofs.sources, "unwrap_job", unwrapped)
    if where == "enlisting":
        monkeypatch.setattr(proofs.sources, "enlist", refuse)
    else:
        monkeypatch.setattr(valve.it._group, "_check", refuse)
    valve.member.missed_rekey = True
    for _ in range(20):
        plant.wait(250)
        if secrets and valve.member.drops.of(DROP_CAPACITY):
            break
    assert valve.member.drops.of(DROP_CAPACITY)
    assert len(made) == len(SENDERS) and len(secrets) == 1
    assert not any(map(is_good, made)) and not any(secrets[0])
    assert valve.it._group.terms.sources is before and any(before.secret)
    assert "valve" in plant.all_hear("press", b"on")
