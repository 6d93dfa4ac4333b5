"""`covey serve` and its members against a foreign member on real sockets."""

import pytest

from foreign_gm import (
    AUTHENTICATION_FAILED,
    AUTHORIZATION_FAILED,
    DELETE,
    FQDN,
    GSA_REGISTRATION,
    INFORMATIONAL,
    INVALID_GROUP_ID,
    INVALID_KE,
    NO_PROPOSAL_CHOSEN,
    REGISTRATION_FAILED,
    identity,
    ike_proposal,
    key_length,
    notification,
    proposal,
    sa_body,
    sag,
    transform,
)
from foreign_plant import Plant

NAT_SOURCE, NAT_DESTINATION, INITIAL_CONTACT, FRAGMENTATION = 16388, 16389, 16384, 16430
VENDOR, CERTREQ = 43, 38
UNSUPPORTED_CRITICAL = 1


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = Plant(tmp_path_factory.mktemp("plant"), marker=False)
    yield made
    made.close()


@pytest.fixture
def plant(running):
    yield running
    running.clear()


def shuffled(bits=128, kwa=1):
    """Transforms in another order, with INTEG NONE and more than one of each."""
    return proposal(
        1,
        1,
        [
            transform(13, 4),
            transform(13, kwa),
            transform(4, 19),
            transform(4, 31),
            transform(3, 0),
            transform(2, 7),
            transform(2, 5),
            transform(1, 20, key_length(bits)),
        ],
    )


CBC = proposal(
    1,
    1,
    [
        transform(1, 12, key_length(256)),
        transform(2, 5),
        transform(3, 12),
        transform(4, 31),
        transform(13, 1),
    ],
)
EXTRAS = [
    notification(NAT_SOURCE, bytes(20)),
    notification(NAT_DESTINATION, bytes(20)),
    notification(FRAGMENTATION),
    (VENDOR, b"a foreign stack"),
    notification(40999, b"?"),
]
# Name → (IKE_SA_INIT, GSA_AUTH, how many Sender-IDs come)
REGISTRATIONS = {
    "plain": ({}, {"sag": sag()}, 1),
    "without SAg": ({}, {}, 1),
    "other order": ({"proposals": [shuffled()]}, {}, 1),
    "several proposals": (
        {"proposals": [CBC, ike_proposal(2), ike_proposal(3, (256,), (3,))]},
        {},
        1,
    ),
    "a better one last": (
        {"proposals": [ike_proposal(1, (192,), (2,)), ike_proposal(2, (256,), (3,))]},
        {},
        1,
    ),
    "more payloads": ({"extra": EXTRAS}, {"extra": [notification(INITIAL_CONTACT), *EXTRAS]}, 1),
    "payloads before": ({"first": EXTRAS}, {}, 1),
    "a long nonce": ({"nonce": bytes(range(256))}, {}, 1),
    "three Sender-IDs": ({"wants": 3}, {}, 3),
    "no number of Sender-IDs": ({"wants": 0}, {}, 1),
    "receiver": ({"wants": None}, {"sag": sag()}, 0),
    "group by FQDN": ({}, {"idg": identity(FQDN, b"line1")}, 1),
    "group by address": ({}, {"idg": "address"}, 1),
    "SAg of several proposals": (
        {},
        {
            "sag": sa_body(
                [
                    proposal(
                        1,
                        6,
                        [transform(1, 20, key_length(256)), transform(13, 3), transform(14, 2)],
                    ),
                    proposal(1, 3, [transform(1, 20, key_length(256)), transform(5, 2)]),
                    proposal(
                        2,
                        3,
                        [
                            transform(5, 0),
                            transform(5, 2),
                            transform(3, 0),
                            transform(1, 12, key_length(128)),
                            transform(1, 20, key_length(128)),
                        ],
                    ),
                    proposal(
                        2,
                        6,
                        [
                            transform(14, 1),
                            transform(14, 2),
                            transform(13, 1),
                            transform(3, 0),
                            transform(1, 20, key_length(128)),
                        ],
                    ),
                ]
            )
        },
        1,
    ),
}


@pytest.mark.parametrize("name", REGISTRATIONS)
def test_registrations(plant, name):
    offer, group, count = REGISTRATIONS[name]
    offer, group = dict(offer), dict(group)
    if group.get("idg") == "address":
        group["idg"] = identity(1, bytes(map(int, plant.address.split("."))))
    gm = plant.gm(wants=offer.pop("wants", 1))
    if "nonce" in offer:
        gm.nonce_i = offer.pop("nonce")
    gm.connect(**offer).join(**group)
    assert len(set(gm.sender_ids)) == count
    assert gm.rekey_sa.spi[:4] != bytes(4) and gm.tek[0][:3] != bytes(3)
    again = {k: v for k, v in group.items() if k != "extra"}
    fresh = gm.sender_ids
    gm.pull(**again)  # section 2.5.1: fresh ones each time
    assert len(gm.sender_ids) == count and not set(fresh) & set(gm.sender_ids)


def test_identities(plant):
    """IDi by FQDN; the payload CERTREQ and a wish for another IDr change nothing."""
    gm = plant.gm("press-7").connect()
    idi, auth = gm.auth_payloads(idi=identity(FQDN, b"press-7"))
    gm.join(auth=[idi, (CERTREQ, b"\4" + bytes(20)), (36, identity(FQDN, b"other.example")), auth])


def alone(gm, payloads):
    """RFC 7296 section 2.21.2: nothing but the error, and the IKE SA is no more."""
    answer = gm.open(gm.wire.ask(gm.seal(39, payloads)), 39)
    assert answer == [notification(AUTHENTICATION_FAILED)]
    gm.wire.send(gm.seal(INFORMATIONAL, []))
    assert gm.wire.receive(0.2) is None


def test_authentication_fails_alone(plant):
    gm = plant.gm().connect()
    alone(gm, gm.auth_payloads(key=b"x" * 32) + gm.group_payloads())
    gm = plant.gm("nobody").connect()
    alone(gm, gm.auth_payloads() + gm.group_payloads())
    gm = plant.gm().connect()
    alone(gm, gm.auth_payloads(method=1) + gm.group_payloads())


KEK_ONLY = sa_body(
    [proposal(1, 6, [transform(1, 20, key_length(128)), transform(13, 1), transform(14, 2)])]
)
WEAK, STRONG = ike_proposal(1, (128,), (1,)), ike_proposal(1, (256,), (3,))

# Name → (who, IKE proposal, what is asked for, the error, what is then asked for and given)
REFUSALS = {
    "unknown group": ("press-7", WEAK, {"group": b"line9"}, INVALID_GROUP_ID, {}),
    "not authorised": ("press-7", WEAK, {"group": b"line2"}, AUTHORIZATION_FAILED, {}),
    "no sender": ("lamp", WEAK, {}, AUTHORIZATION_FAILED, {"wants": None}),
    "a weak key wrap": ("oven", WEAK, {"group": b"line2"}, NO_PROPOSAL_CHOSEN, None),
    "SAg too weak": (
        "oven",
        STRONG,
        {"group": b"line2", "sag": sag(128, 1)},
        NO_PROPOSAL_CHOSEN,
        {"group": b"line2", "sag": sag(256, 3)},
    ),
    "SAg without ESP": ("press-7", WEAK, {"sag": KEK_ONLY}, NO_PROPOSAL_CHOSEN, {}),
    "SAg, another number": ("saw", WEAK, {"sag": sag(esp_number=2)}, NO_PROPOSAL_CHOSEN, {}),
    "SAg, sequential only": ("saw", WEAK, {"sag": sag(sn=0)}, NO_PROPOSAL_CHOSEN, {}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(plant, name):
    """RFC 9838 section 2.3.1: with IDr and AUTH. The IKE SA stands: better can be asked for."""
    who, offer, wish, error, better = REFUSALS[name]
    gm = plant.gm(who, group=wish.get("group", b"line1")).connect(proposals=[offer])
    assert gm.ask_for_group(sag=wish.get("sag")) == [notification(error)]
    again = gm.group_payloads(sag=wish.get("sag"))
    assert gm.talk(GSA_REGISTRATION, again) == [notification(error)]
    assert gm.talk(INFORMATIONAL, []) == []
    if better is not None:
        gm.group, gm.wants = better.get("group", b"line1"), better.get("wants", 1)
        gm.pull(sag=better.get("sag"))


def in_clear(gm, **offer):
    """An IKE_SA_INIT that no IKE SA comes of: the one notification, with our SPI zero."""
    answer = gm.wire.ask(gm.sa_init(**offer))
    assert answer[8:16] == bytes(8)
    (found,) = gm.clear(answer)
    return found


def test_no_ike_sa(plant):
    assert in_clear(plant.gm(), proposals=[CBC]) == notification(NO_PROPOSAL_CHOSEN)
    without_kwa = proposal(
        1, 1, [transform(1, 20, key_length(128)), transform(2, 5), transform(4, 31)]
    )
    assert in_clear(plant.gm(), proposals=[without_kwa]) == notification(NO_PROPOSAL_CHOSEN)
    p256 = {"proposals": [shuffled()], "method": 19, "value": bytes(64)}
    assert in_clear(plant.gm(), **p256) == notification(INVALID_KE, b"\0\x1f")
    critical = {"extra": [(200, b"", 1)]}
    assert in_clear(plant.gm(), **critical) == notification(UNSUPPORTED_CRITICAL, b"\xc8")
    gm = plant.gm()
    gm.wire.send(gm.sa_init(value=bytes(32)))  # X25519: all zeros whatever the secret is
    assert gm.wire.receive(0.2) is None


def test_inside_the_ike_sa(plant):
    gm = plant.gm().connect().join()
    assert gm.talk(INFORMATIONAL, [(VENDOR, b"?"), (200, b"?")]) == []
    assert gm.talk(INFORMATIONAL, [(200, b"", 1)]) == [notification(UNSUPPORTED_CRITICAL, b"\xc8")]
    for type in (NO_PROPOSAL_CHOSEN, REGISTRATION_FAILED):
        assert gm.open(gm.wire.ask(gm.leave(type)), GSA_REGISTRATION) == []
        members = plant.status()["groups"]["line1"]["members"]
        assert "press-7" not in members
        gm.pull()
    assert gm.talk(INFORMATIONAL, [(DELETE, b"\1\0\0\0")]) == []
    gm.wire.send(gm.seal(INFORMATIONAL, []))
    assert gm.wire.receive(0.2) is None
