"""SAg, sentence by sentence (RFC 9838 sections 2.3.2, 2.3.3): what a member says it can do."""

import struct

import pytest

from foreign_gm import (
    ECDSA_WITH_SHA256,
    GSA_REGISTRATION,
    NO_PROPOSAL_CHOSEN,
    ForeignGM,
    key_length,
    notification,
    notifies,
    proposal,
    sa_body,
    transform,
)
from gcks_site import KEY, LINE1, SITE, Site

GCM, GCM256 = transform(1, 20, key_length(128)), transform(1, 20, key_length(256))
CBC, HMAC, NONE = transform(1, 12, key_length(128)), transform(3, 12), transform(3, 0)
SN, SN0 = transform(5, 2), transform(5, 0)
KWA, KWA256, ARX = transform(13, 1), transform(13, 3), transform(13, 4)
SIGNED, IMPLICIT = transform(14, 2), transform(14, 1)
ATTRIBUTE = b"\x80\x63\0\1"  # unknown, TV


def esp(*transforms, number=1):
    return proposal(number, 3, list(transforms or (GCM, SN)))


def kek(*transforms, number=1):
    return proposal(number, 6, list(transforms or (GCM, KWA, SIGNED)))


def with_spi(body, spi):
    return body[:2] + bytes([len(spi)]) + body[3:4] + spi + body[4:]


@pytest.fixture(params=[1, 2], ids=["GSA_AUTH", "GSA_REGISTRATION"])
def ask(request, tmp_path):
    """Ask for the group with this SAg, in either exchange → whether the policy came."""
    site = Site(tmp_path / "state.db", SITE + LINE1)
    site.add("press-7")

    def ask(*proposals, extra=()):
        gm = site.connect(ForeignGM(psk=KEY))
        body = sa_body(list(proposals))
        if request.param == 1:
            found = site.ask(gm, sag=body, extra=extra)
        else:
            site.ask(gm)
            data = site.talk(gm.gsa_registration(sag=body, extra=extra))
            found = gm.open(data, GSA_REGISTRATION)
        if found == [notification(NO_PROPOSAL_CHOSEN)]:
            return False
        assert notifies(found) == [16391]
        return True

    yield ask
    site.store.close()


# "Each Proposal contains a list of Transforms that the GM is able and willing to support"


@pytest.mark.parametrize("order", [1, -1])
def test_more_than_is_needed(ask, order):
    data = esp(*[GCM256, CBC, GCM, SN0, SN][::order])
    rekey = kek(*[GCM256, CBC, GCM, ARX, KWA256, KWA, IMPLICIT, SIGNED][::order])
    assert ask(*[data, rekey][::order])


@pytest.mark.parametrize(
    "data, rekey",
    [
        ((GCM256, SN), (GCM, KWA, SIGNED)),
        ((CBC, HMAC, SN), (GCM, KWA, SIGNED)),
        ((GCM,), (GCM, KWA, SIGNED)),
        ((GCM, SN0), (GCM, KWA, SIGNED)),
        ((SN,), (GCM, KWA, SIGNED)),
        ((GCM, SN), (GCM256, KWA, SIGNED)),
        ((GCM, SN), (KWA, SIGNED)),
        ((GCM, SN), (GCM, SIGNED)),
        ((GCM, SN), (GCM, KWA256, SIGNED)),
        ((GCM, SN), (GCM, ARX, SIGNED)),
        ((GCM, SN), (GCM, KWA)),
        ((GCM, SN), (GCM, KWA, IMPLICIT)),
        ((transform(1, 20), SN), (GCM, KWA, SIGNED)),  # a cipher whose key length isn't said
    ],
)
def test_less_than_is_needed(ask, data, rekey):
    assert not ask(esp(*data), kek(*rekey))


def test_one_protocol_is_missing(ask):
    assert not ask(esp())
    assert not ask(kek())
    assert not ask(proposal(1, 2, [HMAC, SN]), kek())  # AH instead


# "Other transform types SHOULD NOT be included as they will be ignored by the GCKS"


def test_other_transform_types_are_ignored(ask):
    strange = [transform(2, 5), transform(4, 31), transform(99, 1), KWA, SIGNED]
    assert ask(esp(GCM, SN, *strange), kek(GCM, KWA, SIGNED, transform(2, 5), SN, NONE))


# "The GCKS MUST NOT use SPI length and SPI fields in the SAg payload"


@pytest.mark.parametrize("spi", [b"x", b"spi!", b"8 octets", b"sixteen octets.."])
def test_spis_mean_nothing(ask, spi):
    assert ask(with_spi(esp(), spi), with_spi(kek(), spi))
    assert not ask(with_spi(esp(), spi), kek(number=2))


# "AEAD and non-AEAD transforms not be combined in a single proposal doesn't hold"


def test_aead_and_other_ciphers_in_one_proposal(ask):
    assert ask(esp(CBC, GCM, HMAC, SN), kek(CBC, GCM, HMAC, NONE, KWA, SIGNED))


# "if the GM has restrictions on combination of algorithms, this can be expressed by sending
# several proposals"


def test_a_combination_stands_in_one_proposal(ask):
    assert not ask(esp(GCM, SN0), esp(CBC, SN), kek())
    assert ask(esp(GCM, SN0), esp(CBC, SN), esp(GCM, SN), kek())
    assert not ask(esp(), kek(GCM, KWA256, SIGNED), kek(GCM256, KWA, SIGNED))
    assert ask(esp(), kek(GCM256, KWA, SIGNED), kek(GCM, KWA, SIGNED))


# "Proposals for different protocols having the same value in Proposal Num field are treated as
# a set, so that if GCKS uses transforms from one of such Proposal for one protocol, then it MUST
# only use transforms from one of the Proposals with the same value in Proposal Num field for
# other protocols"


@pytest.mark.parametrize(
    "numbers, fits",
    [
        (([1], [1]), True),
        (([7], [7]), True),
        (([0], [0]), True),
        (([1], [2]), False),
        (([1, 2], [2]), True),
        (([2, 1], [3, 2]), True),
        (([1, 3], [2, 4]), False),
        (([255, 1], [255, 254]), True),
    ],
)
def test_proposal_numbers_make_sets(ask, numbers, fits):
    data = [esp(number=n) for n in numbers[0]]
    rekey = [kek(number=n) for n in numbers[1]]
    assert ask(*data, *rekey) == ask(*rekey, *data) == fits


def test_the_example_of_the_rfc(ask):
    """X with X and Y with Y only."""
    x = esp(GCM256, SN, number=1), kek(GCM256, KWA256, SIGNED, number=1)
    y = esp(number=2), kek(number=2)
    assert ask(*x, *y)
    assert not ask(*x)
    assert not ask(x[0], kek(number=1), esp(number=2), kek(GCM256, KWA256, SIGNED, number=2))


# What we are not asked for, and attributes


def test_other_protocols_are_ignored(ask):
    ike = proposal(1, 1, [GCM, transform(2, 5), transform(4, 31), KWA])
    assert ask(ike, proposal(1, 2, [HMAC, SN]), esp(), kek(), proposal(1, 200, [SN]))


def test_a_transform_with_an_unknown_attribute_is_none(ask):
    odd = transform(1, 20, key_length(128), ATTRIBUTE)
    assert not ask(esp(odd, SN), kek())
    assert ask(esp(odd, GCM, SN), kek())


def test_signature_algorithms(ask):
    def of(algorithm):
        attribute = struct.pack(">HH", 18, len(algorithm)) + algorithm
        return transform(14, 2, attribute)

    assert ask(esp(), kek(GCM, KWA, of(ECDSA_WITH_SHA256)))
    assert ask(esp(), kek(GCM, KWA, of(b"\x30\0"), of(ECDSA_WITH_SHA256)))
    assert not ask(esp(), kek(GCM, KWA, of(b"\x30\0")))


def test_ip_compression_is_not_taken_up(ask):
    """Section 2.3.2: IPCOMP_SUPPORTED is allowed beside SAg; we give none."""
    assert ask(esp(), kek(), extra=[notification(16387, b"\0\0\x02")])
