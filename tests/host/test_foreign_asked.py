"""What a foreign member may ask of our key server and will not get: EAP, configuration, child SAs,
exchanges of extensions; and payloads that nobody knows, in every message.
"""

import struct

import pytest

from foreign_city import City
from foreign_gm import (
    AUTHENTICATION_FAILED,
    GSA_AUTH,
    GSA_REGISTRATION,
    IDG,
    IKE_AUTH,
    INFORMATIONAL,
    KEY_ID,
    identity,
    key_length,
    notification,
    proposal,
    sa_body,
    sag,
    transform,
)

UNSUPPORTED_CRITICAL = 1
INTERMEDIATE, SESSION_RESUME = 43, 38
VENDOR, TSI, TSR, CP, EAP, CERTREQ = 43, 44, 45, 47, 48, 38
SELECTOR = b"\1\0\0\0" + struct.pack(">BBHHH", 7, 0, 16, 0, 65535) + bytes(4) + b"\xff" * 4


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


@pytest.fixture
def city(running):
    yield running
    running.clear()


def alone(gm, payloads, exchange=GSA_AUTH):
    """Nothing but AUTHENTICATION_FAILED, and the IKE SA is no more (RFC 7296 section 2.21.2)."""
    assert gm.talk(exchange, payloads) == [notification(AUTHENTICATION_FAILED)]
    gm.silence(INFORMATIONAL, [])


def test_eap(city):
    """Asked for by leaving AUTH away (RFC 7296 section 2.16): there is none."""
    gm = city.gm().connect()
    idi, _ = gm.auth_payloads()
    alone(gm, [idi, *gm.group_payloads()])
    gm = city.gm().connect()
    idi, auth = gm.auth_payloads()
    alone(gm, [idi, *gm.group_payloads(), (EAP, b"\2\1\0\5\1")])


def test_ike_auth(city):
    """A peer that wants child SAs, and no group."""
    gm = city.gm().connect()
    esp = sa_body([proposal(1, 3, [transform(1, 20, key_length(128)), transform(5, 0)])])
    child = [(33, esp), (TSI, SELECTOR), (TSR, SELECTOR)]
    alone(gm, gm.auth_payloads() + child, IKE_AUTH)


ADDRESS = (CP, b"\1\0\0\0" + b"\0\1\0\0" + b"\0\3\0\0")  # CFG_REQUEST: an address, a DNS server
BESIDE = {
    "configuration": [ADDRESS],
    "traffic selectors": [(TSI, SELECTOR), (TSR, SELECTOR)],
    "vendor IDs": [(VENDOR, b"one"), (VENDOR, b"two" * 20)],
    "unknown": [(200, b"?"), (255, b"")],
    "certificate request": [(CERTREQ, b"\4" + bytes(20))],
    "IPCOMP_SUPPORTED": [notification(16387, b"\0\0\2"), notification(16387, b"\0\0\3")],
    "INITIAL_CONTACT": [notification(16384)],
    "NON_FIRST_FRAGMENTS_ALSO": [notification(16395)],
    "MOBIKE, EAP only, multiple AUTH": [notification(t) for t in (16396, 16417, 16404)],
    "an error": [notification(8000, b"?")],
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_passed_over(city, name):
    """Beside a good request, in each exchange."""
    more = BESIDE[name]
    gm = city.gm().connect(extra=more)
    gm.join(extra=more)
    gm.pull(extra=more)
    assert gm.talk(INFORMATIONAL, more) == []


@pytest.mark.parametrize("place", ("first", "last"))
def test_an_unknown_critical_payload(city, place):
    """Section 2.5: nothing of the request is done."""
    critical = (200, b"?", True)

    def with_it(payloads):
        return [critical, *payloads] if place == "first" else [*payloads, critical]

    refused = [notification(UNSUPPORTED_CRITICAL, b"\xc8")]
    gm = city.gm()
    where = {"first": [critical]} if place == "first" else {"extra": [critical]}
    assert gm.clear(gm.wire.ask(gm.sa_init(**where))) == refused
    gm.connect()
    assert gm.talk(GSA_AUTH, with_it(gm.auth_payloads() + gm.group_payloads())) == refused
    gm.silence(INFORMATIONAL, [])  # RFC 7296 section 2.21.2
    gm = city.gm().connect().join()
    before = gm.sender_ids
    assert gm.talk(GSA_REGISTRATION, with_it(gm.group_payloads())) == refused
    assert gm.talk(INFORMATIONAL, with_it([])) == refused
    gm.pull()
    assert gm.sender_ids != before


def test_extensions_are_not_answered(city):
    """INTERMEDIATE_EXCHANGE_SUPPORTED, USE_PPK_INT, REDIRECT_SUPPORTED. What is answered to
    SIGNATURE_HASH_ALGORITHMS: test_certificates.py; to USE_PPK: test_ppk.py."""
    offered = [(16438, b""), (16445, b""), (16406, b"")]
    gm = city.gm(fragments=False, nat=False)
    gm.connect(extra=[notification(*one) for one in offered])
    assert gm.types == []
    gm.join()


@pytest.mark.parametrize("exchange", (INTERMEDIATE, SESSION_RESUME, 200))
def test_other_exchanges(city, exchange):
    """Silence before GSA_AUTH: nobody has proven anything."""
    gm = city.gm().connect()
    gm.sa.exchanges.append(exchange)
    gm.silence(exchange, [])
    gm.sa.own_id -= 1
    gm.join()


def test_a_second_registration_auth(city):
    """GSA_AUTH belongs to the beginning: INVALID_SYNTAX, and the IKE SA ends."""
    gm = city.gm().connect().join()
    payloads = gm.auth_payloads() + gm.group_payloads()
    assert gm.talk(GSA_AUTH, payloads) == [notification(7)]
    gm.silence(INFORMATIONAL, [])


# SAg: RFC 9838 sections 2.3.2, 2.3.4, 4.3

GCM128, GCM256 = transform(1, 20, key_length(128)), transform(1, 20, key_length(256))
CBC, INTEG = transform(1, 12, key_length(256)), transform(3, 12)
KEK = [GCM128, transform(13, 1), transform(14, 2)]
TEK = [GCM128, transform(5, 2)]


def with_spi(number, protocol, spi, transforms):
    """SPI fields are to be passed over."""
    out = b""
    for i, (_, body) in enumerate(transforms):
        out += struct.pack(">BBH", 3 if i + 1 < len(transforms) else 0, 0, 4 + len(body)) + body
    return struct.pack(">BBBB", number, protocol, len(spi), len(transforms)) + spi + out


def of(*proposals):
    return sa_body(list(proposals))


FITS = {
    "plain": sag(),
    "ESP first": of(proposal(1, 3, TEK), proposal(1, 6, KEK)),
    "any number": of(proposal(200, 6, KEK), proposal(200, 3, TEK)),
    "one for each": of(
        proposal(1, 6, KEK), proposal(1, 3, [GCM256, transform(5, 0)]), proposal(1, 3, TEK)
    ),
    "AEAD and not in one": of(
        proposal(1, 6, [CBC, INTEG, *KEK, transform(3, 0)]),
        proposal(1, 3, [CBC, INTEG, *TEK, transform(3, 0)]),
    ),
    "set of number 2": of(
        proposal(1, 6, [GCM256, *KEK[1:]]),
        proposal(1, 3, [GCM256, TEK[1]]),
        proposal(2, 6, KEK),
        proposal(2, 3, TEK),
    ),
    "sets mixed up": of(
        proposal(2, 3, TEK),
        proposal(1, 6, [GCM256, *KEK[1:]]),
        proposal(1, 3, [GCM256, TEK[1]]),
        proposal(2, 6, KEK),
    ),
    "SPIs": of(with_spi(1, 6, b"junk" * 4, KEK), with_spi(1, 3, b"junk", TEK)),
    "SPIs of odd length": of(with_spi(1, 6, b"j", KEK), with_spi(1, 3, b"junk" * 5, TEK)),
    "other transform types": of(
        proposal(1, 6, [transform(2, 5), transform(4, 31), transform(99, 1), *KEK]),
        proposal(1, 3, [*TEK, transform(4, 31), transform(99, 1)]),
    ),
    "AH too": of(
        proposal(1, 2, [transform(3, 12), transform(5, 2)]),
        proposal(1, 6, KEK),
        proposal(1, 3, TEK),
    ),
    "transforms backwards": of(proposal(1, 6, KEK[::-1]), proposal(1, 3, TEK[::-1])),
    "more of each": of(
        proposal(1, 6, [GCM256, GCM128, transform(13, 3), transform(13, 1), transform(14, 2)]),
        proposal(1, 3, [GCM256, GCM128, transform(5, 0), transform(5, 2), transform(5, 1)]),
    ),
}
DOES_NOT_FIT = {
    "two numbers": of(proposal(1, 6, KEK), proposal(2, 3, TEK)),
    "no set is whole": of(
        proposal(1, 6, KEK),
        proposal(1, 3, [GCM256, TEK[1]]),
        proposal(2, 6, [GCM256, *KEK[1:]]),
        proposal(2, 3, TEK),
    ),
    "no KWA": of(proposal(1, 6, [KEK[0], KEK[2]]), proposal(1, 3, TEK)),
    "other KWA": of(proposal(1, 6, [KEK[0], transform(13, 4), KEK[2]]), proposal(1, 3, TEK)),
    "implicit": of(proposal(1, 6, [*KEK[:2], transform(14, 1)]), proposal(1, 3, TEK)),
    "KWA with ESP": of(proposal(1, 6, [KEK[0], KEK[2]]), proposal(1, 3, [*TEK, transform(13, 1)])),
    "no Rekey SA": of(proposal(1, 3, TEK)),
    "AH for ESP": of(proposal(1, 6, KEK), proposal(1, 2, TEK)),
    "in halves": of(
        proposal(1, 6, KEK), proposal(1, 3, TEK[:1]), proposal(1, 3, [GCM256, TEK[1]])
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_sag_fits(city, name):
    gm = city.gm().connect().join(sag=FITS[name])
    gm.pull(sag=FITS[name])


@pytest.mark.parametrize("name", DOES_NOT_FIT)
def test_sag_does_not_fit(city, name):
    gm = city.gm().connect()
    refused = [notification(14)]
    assert gm.ask_for_group(sag=DOES_NOT_FIT[name]) == refused
    assert gm.talk(GSA_REGISTRATION, gm.group_payloads(sag=DOES_NOT_FIT[name])) == refused
    gm.pull()


def test_who_dislikes_the_policy_is_out(city):
    """Section 2.3.2: removed from the group; what it asks for later is a registration again."""
    gm = city.gm("saw").connect().join()
    disliked = [(IDG, identity(KEY_ID, gm.group)), notification(14)]
    assert gm.talk(GSA_REGISTRATION, disliked) == []
    assert "saw" not in city.members()
    assert gm.talk(GSA_REGISTRATION, disliked) == []
    before = gm.sender_ids
    gm.pull()
    assert "saw" in city.members() and gm.sender_ids != before


def test_an_unauthenticated_wish_to_leave(city):
    """Whoever has proven nothing removes nobody."""
    gm = city.gm().connect().join()
    other = city.gm().connect()
    disliked = [(IDG, identity(KEY_ID, gm.group)), notification(14)]
    other.silence(GSA_REGISTRATION, disliked)
    assert "press-7" in city.members()
