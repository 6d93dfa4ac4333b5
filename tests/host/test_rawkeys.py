"""Raw public keys (RFC 7670) at the key server, against members written anew; and our member
against a key server that shares no line with it.
"""

import struct

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import registration_peer as peer
from covey import der, registration
from covey.rawkeys import RawKey
from covey.registration import Registration
from covey_host.gcks import issuing, trust
from covey_host.gcks.ledger import Ledger
from foreign_certs import HASHES, CertGM, RawGM, spki_of
from foreign_gm import (
    AUTHENTICATION_FAILED,
    AUTHORIZATION_FAILED,
    FQDN,
    GSA_AUTH,
    GSA_REGISTRATION,
    ForeignGM,
    identity,
    notification,
    notifies,
)
from foreign_ppk import Ppk
from gcks_site import KEY, Site
from test_certificates import CertSite
from test_registration_peer import KeyServer, config, work

PPK = bytes(range(32))


class RawPpkGM(Ppk, RawGM):
    pass


@pytest.fixture
def site(tmp_path):
    return CertSite(tmp_path / "state.db")


def added(site, name="press-7", **more):
    """→ the member's private key."""
    key = issuing.new_key()
    site.server.add_member(name, ["line1"], sender=True, key=spki_of(key.public_key()), **more)
    return key


def gm_of(site, key, name=b"press-7", kind=RawGM, **more):
    return site.connect(kind(key, site.trust.spki, name, **more), name.decode())


def test_a_foreign_member_registers(site):
    gm = gm_of(site, added(site), wants=1)
    gm.take_group(site.ask(gm, "press-7"))
    assert len(gm.sender_ids) == 1
    gm.take_group(gm.open(site.talk(gm.gsa_registration(), "press-7"), GSA_REGISTRATION))
    quiet = gm_of(site, gm.key)
    quiet.shows = False  # CERT isn't needed: the key is known
    quiet.idi = identity(FQDN, b"press-7")
    quiet.take_group(site.ask(quiet, "press-7"))
    assert site.server.status(site.now)["ike_sas"] >= 1


def test_with_a_ppk(site):
    key = added(site, ppk=PPK)
    gm = RawPpkGM(key, site.trust.spki, b"press-7").with_ppk(PPK, b"press-7")
    site.connect(gm, "press-7", extra=[HASHES])
    gm.take_group(site.ask(gm, "press-7"))
    assert gm.is_mixed
    assert site.refuses(gm_of(site, key)) == "ppk"


def test_whoever_has_another_key(site):
    """Shown or not; another member's, a certificate's, the key server's own name."""
    key = added(site)
    other = added(site, "lamp-1")
    for shows in (True, False):
        gm = gm_of(site, other)
        gm.shows = shows
        assert site.refuses(gm) == "raw_key"
    assert site.refuses(gm_of(site, issuing.new_key())) == "raw_key"
    assert site.refuses(gm_of(site, key, b"lamp-1")) == "raw_key"
    assert site.refuses(gm_of(site, key, b"nobody")) in ("no_certificate", "identity")
    made = site.trust.issue(other.public_key(), "press-7", 30, site.clock)
    gm = site.connect(CertGM(other, [issuing.der(made)], site.ca, b"press-7"))
    assert site.refuses(gm) == "raw_key"  # a certificate for a name that has a raw key
    made = site.trust.issue(key.public_key(), "press-7", 30, site.clock)
    gm = site.connect(CertGM(key, [issuing.der(made)], site.ca, b"press-7"))
    gm.check_identity = lambda payloads, **_: payloads[3:]
    gm.take_group(site.ask(gm))  # it is the key that counts


def test_one_way_of_proof_is_none_for_the_other(site):
    added(site)
    for psk in (b"", bytes(32), KEY):
        assert site.refuses(site.connect(ForeignGM(b"press-7", psk))) == "key"
    key, chain = site.certified("valve-3")
    assert site.refuses(gm_of(site, key, b"valve-3")) == "no_certificate"
    site.add("lamp-1")
    assert site.refuses(gm_of(site, key, b"lamp-1")) == "no_certificate"
    assert site.server.void() == []  # what is revoked is asked of certificates only
    gm = site.gm_of((key, chain), b"valve-3")
    gm.take_group(site.ask(gm))


def test_who_says_nothing_of_signatures(site):
    gm = RawGM(added(site), site.trust.spki)
    gm.more_kinds = frozenset()
    ForeignGM.take_sa_init(gm, site.talk(ForeignGM.sa_init(gm)))
    assert site.refuses(gm) == "no_signatures"


def test_removed_and_its_name_given_to_another(site):
    """Told so with its own key, and nothing once the name is another's."""
    key = added(site)
    gm = gm_of(site, key)
    gm.take_group(site.ask(gm, "press-7"))
    old = site.connect(RawGM(key, site.trust.spki), "b")
    site.ask(old, "b")
    site.send(site.server.remove_members(["press-7"], site.now))
    again = gm_of(site, key)
    assert notifies(site.ask(again, "press-7")) == [AUTHORIZATION_FAILED]
    added(site)
    assert site.refuses(gm_of(site, key)) == "raw_key"
    pull = again.open(site.talk(again.gsa_registration(), "press-7"), GSA_REGISTRATION)
    assert pull == [notification(AUTHORIZATION_FAILED)]


def test_another_ca_leaves_the_key_that_members_have_pinned(site):
    pinned = site.trust.spki
    ca_key = issuing.new_key()
    ca = issuing.make_ca(ca_key, "other", 30, site.clock)
    trust.adopt(site.server.ledger, "gcks.example", ca, ca_key, site.clock)
    site.server.refresh_trust()
    assert site.trust.spki == pinned and site.trust.ca == ca
    trust.adopt(site.server.ledger, "gcks.example", ca, None, site.clock)
    site.server.refresh_trust()
    assert site.trust.spki == pinned and not site.trust.is_ready
    gm = gm_of(site, added(site))  # no certificate of the key server: raw keys need none
    gm.take_group(site.ask(gm, "press-7"))


def test_another_key_for_a_key_server_whose_own_is_known(site):
    """Who has pinned the old one doesn't take it; certificates hold, for the new one too."""
    pinned, key = site.trust.spki, added(site)
    proof = site.certified("valve-3")
    trust.renew_key(site.server.ledger, site.trust, "gcks.example", site.clock)
    site.server.refresh_trust()
    assert site.trust.spki != pinned and site.trust.is_ready
    assert issuing.spki(site.trust.chain[0].public_key()) == site.trust.spki
    gm = site.connect(RawGM(key, pinned))
    with pytest.raises(AssertionError):
        site.ask(gm)
    gm = gm_of(site, key)
    gm.take_group(site.ask(gm, "press-7"))
    gm = site.gm_of(proof, b"valve-3")
    gm.take_group(site.ask(gm))


def test_a_site_without_a_ca(tmp_path):
    site = Site(tmp_path / "state.db")
    key = issuing.new_key()
    site.server.add_member("press-7", ["line1"], key=spki_of(key.public_key()))
    gm = RawGM(key, b"")
    gm.more_kinds = frozenset()
    ForeignGM.take_sa_init(gm, site.talk(gm.sa_init()))
    payloads = gm.open(site.talk(gm.gsa_auth()), GSA_AUTH)
    assert payloads == [notification(AUTHENTICATION_FAILED)]
    with pytest.raises(Exception, match="The site has no CA"):
        assert trust.load(Ledger(site.store)).spki


# Our member, and a key server of others


class RawServer(KeyServer):
    said = (*KeyServer.said, (41, b"\0\0" + struct.pack(">HH", 16431, 2)))
    says = ((38, b"\x0f"), (41, b"\0\0" + struct.pack(">HHH", 16431, 1, 2)))

    def __init__(self, bits, kwa, member, shows=True):
        super().__init__(bits, kwa)
        self.key, self.member, self.shows = issuing.new_key(), member, shows

    def check_auth(self, request):
        idi, idr, cert, auth, *rest = self.open(request, 39, 1)
        assert idi == (35, b"\x0b\0\0\0press-7")
        assert cert == (37, b"\x0f" + spki_of(self.member))
        octets = self.request + self.nonce + peer.prf(self.sk_pi, idi[1])
        assert auth[1][:17] == b"\x0e\0\0\0\x0c" + der.ECDSA_WITH_SHA256
        self.member.verify(auth[1][17:], octets, ec.ECDSA(hashes.SHA256()))
        self.check_wishes(rest)

    def answer_auth(self, epoch=1):
        idr = b"\2\0\0\0gcks.example"
        octets = self.answer + self.nonce_i + peer.prf(self.sk_pr, idr)
        signature = self.key.sign(octets, ec.ECDSA(hashes.SHA256()))
        auth = b"\x0e\0\0\0\x0c" + der.ECDSA_WITH_SHA256 + signature
        certs = [(37, b"\x0f" + spki_of(self.key.public_key()))] if self.shows else []
        return self.seal(39, 1, [(36, idr), *certs, (39, auth), *self.policy(epoch)])


@pytest.mark.parametrize("bits, kwa, shows", [(256, 3, True), (128, 1, False)])
def test_a_strict_server(bits, kwa, shows):
    key = issuing.new_key()
    server, own = RawServer(bits, kwa, key.public_key(), shows), config()
    scalar = bytearray(key.private_numbers().private_value.to_bytes(32))
    point = server.key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    own.credentials = RawKey(scalar, spki_of(key.public_key()), point)
    gm = Registration(own, 0)
    (request,) = work(gm)
    assert gm.receive(server.answer_init(request), 0) == 0
    (request,) = work(gm)
    server.check_auth(request)
    assert gm.receive(server.answer_auth(), 0) == 0 and work(gm) == []
    assert gm.state == registration.REGISTERED and gm.kwk == server.kwk
