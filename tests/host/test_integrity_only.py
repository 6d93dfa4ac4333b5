"""Groups whose data go in clear (AES-GMAC, RFC 4543): policy, SAg, and what holds on the wire."""

import json

import pytest

from covey_host.gcks.epoch import decode_state, encode_state
from foreign_gm import (
    NO_PROPOSAL_CHOSEN,
    ForeignGM,
    key_length,
    notification,
    proposal,
    sa_body,
    sag,
    transform,
)
from gcks_site import KEY, LINE1, SITE, Flock, Site
from ike_peer import Peer

CLEAR = LINE1 + "integrity_only = true\n"
GCM, GMAC = 20, 21


@pytest.fixture
def site(tmp_path, request):
    made = Site(tmp_path / "state.db", SITE + getattr(request, "param", CLEAR))
    for name in "abc":
        made.add(name)
    yield made
    made.store.close()


def registered(site, name="a", **offer):
    gm = ForeignGM(name.encode(), KEY, wants=1, kwa=3)
    return site.register(gm, name, sag=sag(kwa=offer.pop("kwa", 1), **offer))


def answer(site, **offer):
    gm = site.connect(ForeignGM(b"a", KEY))
    return site.ask(gm, sag=sag(**offer))


def ciphers_of(gm):
    return {
        protocol: [(id, dict(found)[14]) for kind, id, found in sa["transforms"] if kind == 1]
        for protocol, sa in gm.policy.sas.items()
    }


def epoch_of(site):
    return site.server._groups["line1"].epoch


# The policy, and who is told it


@pytest.mark.parametrize("site", [CLEAR], indirect=True)
def test_the_data_are_in_clear_and_the_rekeys_are_not(site):
    gm = registered(site, cipher=GMAC)
    assert ciphers_of(gm) == {3: [(GMAC, 128)], 6: [(GCM, 128)]}
    assert len(gm.tek[1]) == 20  # AES key and salt: RFC 4543 section 5.3
    site.send(site.server.rekey("line1", site.now))
    assert gm.rekey(site.air[-1].data) == "rekeyed"
    assert ciphers_of(gm) == {3: [(GMAC, 128)], 6: [(GCM, 128)]}


@pytest.mark.parametrize("site", [CLEAR + "key_bits = 256\n"], indirect=True)
def test_of_256_bits(site):
    gm = ForeignGM(b"a", KEY, wants=1, kwa=3)
    gm.bits = 256
    gm = site.register(gm, "a", sag=sag(256, 3, cipher=GMAC))
    assert ciphers_of(gm) == {3: [(GMAC, 256)], 6: [(GCM, 256)]} and len(gm.tek[1]) == 36


@pytest.mark.parametrize(
    "ciphers, fits",
    [
        ([(GCM, 128)], False),
        ([(GMAC, 256)], False),
        ([(GMAC, None)], False),
        ([(GCM, 256), (GCM, 128), (GMAC, 256), (GMAC, 128)], True),  # as our members do
    ],
)
def test_who_does_not_offer_it_is_refused(site, ciphers, fits):
    offered = [transform(1, id, *([key_length(n)] if n else [])) for id, n in ciphers]
    rekey = [transform(1, GCM, key_length(128)), transform(13, 1), transform(14, 2)]
    body = sa_body([proposal(1, 6, rekey), proposal(1, 3, [*offered, transform(5, 2)])])
    gm = site.connect(ForeignGM(b"a", KEY))
    found = site.ask(gm, sag=body)
    assert (found != [notification(NO_PROPOSAL_CHOSEN)]) is fits
    assert site.server.status(site.now)["groups"]["line1"]["members"] == ["a"] * fits


@pytest.mark.parametrize("site", [LINE1], indirect=True)
def test_who_offers_nothing_else_is_refused_elsewhere(site):
    assert answer(site, cipher=GMAC) == [notification(NO_PROPOSAL_CHOSEN)]
    assert ciphers_of(registered(site))[3] == [(GCM, 128)]


@pytest.mark.parametrize("site", [CLEAR + 'rekey = "inband"\n'], indirect=True)
def test_inband(site):
    gm = Peer(site, "a", wants=1).join(sag=sag(cipher=GMAC))
    assert ciphers_of(gm) == {3: [(GMAC, 128)]}
    site.send(site.server.rekey("line1", site.now))
    gm.served()
    assert ciphers_of(gm) == {3: [(GMAC, 128)]} and gm.tek[1] == epoch_of(site).tek_keymat


def test_sender_ids_are_given_by_the_same_rules(site):
    """No (TEK, Sender-ID) ever belongs to two registrations."""
    flock = Flock()
    for _ in range(3):
        for name in "abc":
            flock.join(registered(site, name, cipher=GMAC))
            flock.hear(site)
        site.wait(30_000)
    site = site.restart(SITE + CLEAR)
    flock.follow(site).wait(60_000)
    flock.join(registered(site, "a", cipher=GMAC))
    site.store.close()


def test_another_cipher_begins_anew_under_another_key(site):
    """Neither key ever serves both: a nonce of one would be a nonce of the other."""
    gm = registered(site, cipher=GMAC)
    keys, era = {gm.tek[1]}, epoch_of(site).era
    for text, cipher in ((LINE1, GCM), (CLEAR, GMAC)):
        site = site.restart(SITE + text)
        assert [gm.rekey(out.data) for out in site.air].count("excluded") == 1
        assert epoch_of(site).era > era
        era = epoch_of(site).era
        site.wait(60_000)
        gm = registered(site, cipher=cipher)
        assert ciphers_of(gm)[3] == [(cipher, 128)] and gm.tek[1] not in keys
        keys.add(gm.tek[1])
    site.store.close()


def test_a_store_from_before_there_was_a_choice(site):
    state = json.loads(encode_state(epoch_of(site), ()))
    del state["epoch"]["shape"]["integrity_only"]
    assert not decode_state(json.dumps(state).encode())[0].shape.integrity_only
    assert decode_state(encode_state(epoch_of(site), ()))[0].shape.integrity_only


@pytest.mark.parametrize("site, told", [(CLEAR, True), (LINE1, False)], indirect=["site"])
def test_who_looks_is_told(site, told):
    assert site.server.status(site.now)["groups"]["line1"]["integrity_only"] is told
    found = site.server.keys(site.now, user=0, process=1)
    assert found["in_clear"] == ["line1"] * told
    kinds = [record["kind"] for record in found["keys"]]
    assert kinds == (["ike"] if told else ["esp", "ike"])
    assert (epoch_of(site).tek_keymat.hex() in str(found)) is not told
