"""Sender-IDs that run out, as our own members see it: a sender that starts again and again.

What is given to whom, and never twice, is in test_group.py.
"""

import pytest

from covey.membership import MEMBER
from gcks_site import LINE1, SITE, Site
from test_eviction_members import One, Plant

NAMES = ["talker", "restless", "left", "right"]  # each is a sender, and there are four indexes
FORM = "sender_id_form = [2, 6]\n"  # 32 incarnations in an era, 4 under one TEK
UNSTRUCTURED = 'carrier = "ip"\nprivate_attributes = false\n'
SPREAD_MS, ATD_MS, SLICE_MS = 3_000, 5_000, 250


@pytest.fixture
def plant(tmp_path, request):
    text = SITE + LINE1 + request.param
    site = Site(tmp_path / "state.db", text)
    for name in NAMES:
        site.add(name)
    made = Plant(site, NAMES)
    made.wait(20_000)
    made.pause_ms = made.longest_ms = 0
    yield made
    site.store.close()


def talk(plant, ms, listeners=("left", "right")):
    """One talks and two listen → the longest time so far in which it could not send."""
    for _ in range(ms // SLICE_MS):
        plant.wait(SLICE_MS)
        packet = plant.ones["talker"].send(b"go on")
        plant.pause_ms = plant.pause_ms + SLICE_MS if isinstance(packet, int) else 0
        plant.longest_ms = max(plant.longest_ms, plant.pause_ms)
        for name in listeners:
            assert plant.ones[name].member.keys.live(), "it has no keys"
            if not isinstance(packet, int):
                assert plant.ones[name].receive(packet) == b"go on", "it was stopped"
    return plant.longest_ms


def start_again(plant):
    """Without a word to anybody, as after a loss of power."""
    plant.ones["restless"] = One(plant.site, "restless")


@pytest.mark.parametrize("plant", [FORM], indirect=True)
def test_incarnations_of_one_key_that_run_out_bring_another_key_first(plant):
    """The fourth start, as the first registration was under this TEK, too."""
    group = plant.site.server._groups["line1"]
    number = group.epoch.number
    for left in (3, 2, 1, 0):
        start_again(plant)
        assert group.epoch.number == (number if left else number + 1)
        assert talk(plant, 3_000) == 0
    assert plant.site.server.counters["registered"] == len(NAMES) + 4  # the others followed


@pytest.mark.parametrize("plant", [FORM, UNSTRUCTURED + FORM], indirect=True)
def test_indexes_that_run_out_stop_senders_for_a_while_and_receivers_never(plant):
    """RFC 9838 section 2.5.1: all are excluded, and come back for keys under which the numbers
    begin anew. Old keys are good for receiving until new ones are there."""
    group = plant.site.server._groups["line1"]
    for _ in range(32):  # half of what an incarnation can count
        start_again(plant)
        talk(plant, 3_000)
    pause_ms = talk(plant, 10_000)
    assert group.epoch.era == 1
    assert ATD_MS <= pause_ms <= SPREAD_MS + ATD_MS + 2 * SLICE_MS
    plant.wait(20_000)
    assert {one.it.state for one in plant.ones.values()} == {MEMBER}
    assert len({one.it.sender_id for one in plant.ones.values()}) == len(NAMES)
