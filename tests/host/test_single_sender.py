"""Groups without our private attributes, and those with one sender (SN 0), at the key server."""

import json

import pytest

from covey_host.gcks.epoch import decode_state, encode_state
from foreign_gm import NO_PROPOSAL_CHOSEN, REGISTRATION_FAILED, ForeignGM, notification, sag
from gcks_site import KEY, LINE1, SITE, Site

IP = LINE1 + 'carrier = "ip"\n'
BARE = IP + "private_attributes = false\n"
ONE = BARE + "single_sender = true\n"
_PRIVATE = range(16384, 32768)


@pytest.fixture
def site(tmp_path, request):
    made = Site(tmp_path / "state.db", SITE + getattr(request, "param", ONE))
    for name in "abc":
        made.add(name)
    yield made
    made.store.close()


def join(site, name, wants=None, sn=0):
    gm = ForeignGM(name.encode(), KEY, wants=wants)
    return site.register(gm, name, sag=sag(sn=sn))


def refused(site, name, wants=None, sn=0):
    gm = site.connect(ForeignGM(name.encode(), KEY, wants=wants), name)
    return site.ask(gm, name, sag=sag(sn=sn))


def numbers_of(gm):
    return [id for kind, id, _ in gm.policy.sas[3]["transforms"] if kind == 5]


def group_of(site):
    return site.server._groups["line1"]


# What is said


@pytest.mark.parametrize("site", [IP], indirect=True)
def test_the_ip_carrier_names_no_udp_port(site):
    gm = join(site, "a", wants=1, sn=2)
    assert 16384 not in gm.policy.wide and {16385, 16386} <= set(gm.policy.wide)
    assert numbers_of(gm) == [2]


@pytest.mark.parametrize("site", [BARE], indirect=True)
def test_without_private_attributes(site):
    """Neither at registration nor in a rekey; what the RFC has is there."""
    sender, receiver = join(site, "a", wants=1, sn=2), join(site, "b", sn=2)
    for gm in (sender, receiver):
        assert not set(_PRIVATE) & set(gm.policy.wide)
        for sa in gm.policy.sas.values():
            assert not set(_PRIVATE) & {kind for kind, _ in sa["attributes"]}
    assert sender.policy.wide[3] == 16 and 3 not in receiver.policy.wide
    site.send(site.server.rekey("line1", site.now))
    [out] = site.air
    assert sender.rekey(out.data) == receiver.rekey(out.data) == "rekeyed"
    assert not set(_PRIVATE) & set(sender.policy.wide)


# Where rekeys go


@pytest.mark.parametrize(
    "site, port, marker",
    [(IP, 4500, True), (IP + "carrier_port = 848\n", 848, False), (LINE1, 4500, True)],
    indirect=["site"],
)
def test_the_marker_of_rekeys(site, port, marker):
    gm = join(site, "a", sn=2)
    assert gm.policy.sas[6]["destination"][1:3] == (port, port)
    site.send(site.server.rekey("line1", site.now))
    site.send(site.server.remove_member("b", site.now))
    site.wait(3000)
    assert {(out.destination, out.marker) for out in site.air} == {
        (("239.192.1.32", port), marker)
    }
    assert len(site.air) > 2


def test_another_carrier_is_told_where_members_still_are(site):
    """By the rules of the old one; so is a repeat after a restart."""
    join(site, "a", wants=1)
    old = decode_state(encode_state(group_of(site).epoch, ()))[0]
    site = site.restart(SITE + LINE1 + "carrier_port = 848\n")
    assert {(out.destination[1], out.marker) for out in site.air} == {(4500, True)}
    assert group_of(site).epoch.era == old.era + 1
    site.air.clear()
    site = site.restart(SITE + IP + "carrier_port = 847\n")
    assert {(out.destination[1], out.marker) for out in site.air} == {(4500, True), (848, True)}
    site.air.clear()
    site.wait(60_000)
    site.air.clear()
    for number in (846, 845):  # at the second start it comes from the store
        site = site.restart(SITE + IP + f"carrier_port = {number}\n")
        assert (847, False) in {(out.destination[1], out.marker) for out in site.air}


def test_a_store_from_before_there_was_a_choice(site):
    """Its rekeys went to the udp carrier, with the marker."""
    join(site, "a", wants=1)
    site.send(site.server.rekey("line1", site.now))
    state = json.loads(encode_state(group_of(site).epoch, group_of(site)._repeats.outbox))
    for name in ("private_attributes", "single_sender"):
        del state["epoch"]["shape"][name]
    for parcel in state["outbox"]:
        del parcel["marker"]
    epoch, outbox = decode_state(json.dumps(state).encode())
    assert epoch.shape.private_attributes and not epoch.shape.single_sender
    assert outbox and all(parcel.marker for parcel in outbox)


# One sender


def test_sequence_numbers_are_sequential(site):
    assert numbers_of(join(site, "a", wants=1)) == [0]
    assert refused(site, "b", sn=2) == [notification(NO_PROPOSAL_CHOSEN)]


def test_a_second_sender_is_refused(site):
    first, receiver = join(site, "a", wants=5), join(site, "b")
    assert len(first.sender_ids) == 1  # two modules would both count from 1
    assert receiver.sender_ids == []
    site.wait(30_000)
    epoch = group_of(site).epoch
    assert refused(site, "c", wants=1) == [notification(REGISTRATION_FAILED)]
    assert group_of(site).epoch == epoch and site.server.counters["registration_failed"] == 1
    assert join(site, "c").tek == first.tek  # it may receive
    site.send(site.server.remove_member("a", site.now))
    site.wait(30_000)
    epoch = group_of(site).epoch
    third = join(site, "c", wants=1)
    assert third.sender_ids and group_of(site).epoch == epoch  # nobody has sent under this TEK


def test_who_comes_again_gets_another_key(site):
    """RFC 9838 section 2.6, RFC 4303 section 3.3.3: its numbers begin at 1 once more."""
    first, receiver = join(site, "a", wants=1), join(site, "b")
    seen = {first.tek}
    for _ in range(40):  # more often than one index is good for
        site.wait(30_000)
        site.air.clear()
        again = join(site, "a", wants=1)
        assert again.tek not in seen
        seen.add(again.tek)
        [out] = [out for out in site.air if out.data[:16] == receiver.rekey_sa.spi][:1]
        assert receiver.rekey(out.data) in ("rekeyed", "excluded")
        if receiver.rekey_sa is None:
            site.wait(30_000)
            receiver = join(site, "b")
        assert receiver.tek == again.tek


def test_not_before_the_last_change_is_through(site):
    """Nobody makes a group change its keys faster than its members follow."""
    join(site, "a", wants=1)
    site.wait(30_000)
    join(site, "a", wants=1)
    epoch = group_of(site).epoch
    again = join(site, "a", wants=1)  # before ATD is over nobody has sent under it
    assert group_of(site).epoch == epoch and again.policy.wide[1] == 5
    site.wait(5000)
    assert refused(site, "a", wants=1) == [notification(REGISTRATION_FAILED)]
    assert group_of(site).epoch == epoch
    site.wait(5000)
    join(site, "a", wants=1)
    assert group_of(site).epoch.number == epoch.number + 1


@pytest.mark.parametrize("how", ["leaves", "becomes a receiver"])
def test_who_follows_another_gets_another_key(site, how):
    first = join(site, "a", wants=1)
    site.wait(30_000)
    if how == "leaves":
        site.talk(first.leave(), "a")
    else:
        join(site, "a")
    second = join(site, "b", wants=1)
    assert second.tek != first.tek and second.sender_ids != first.sender_ids


def test_a_restart_counts_as_a_change(site):
    first = join(site, "a", wants=1)
    site = site.restart(SITE + ONE)
    again = join(site, "a", wants=1)  # the new TEK is not sent under yet
    assert again.tek != first.tek and again.sender_ids != first.sender_ids
    assert refused(site, "b", wants=1) == [notification(REGISTRATION_FAILED)]
    site.store.close()
