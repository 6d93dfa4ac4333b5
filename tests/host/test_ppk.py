"""Post-quantum preshared keys at the key server (RFC 8784), against members written anew; and our
member against a key server that shares no line with it.
"""

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

import registration_peer as peer
from covey import registration
from covey.ppk import Ppk
from covey.registration import Registration
from covey_host.errors import Problem
from covey_host.gcks import issuing, policy, room, trust
from foreign_certs import HASHES, CertGM
from foreign_gm import (
    AUTH,
    AUTHENTICATION_FAILED,
    AUTHORIZATION_FAILED,
    GSA_AUTH,
    GSA_REGISTRATION,
    ForeignGM,
    Keys,
    notification,
    notifies,
    prf_plus,
)
from foreign_ppk import NO_PPK_AUTH, PPK_IDENTITY, USE_PPK, PpkGM
from foreign_ppk import Ppk as Mixing
from gcks_site import KEY, LINE1, PLAIN, SITE, take
from ike_peer import Peer
from test_certificates import CertSite
from test_registration_certs import CertServer, member_credentials
from test_registration_peer import KeyServer, config, work

PPK = bytes(range(32))
NEEDED = SITE + LINE1 + "ppk = true\n"


class PpkCertGM(Mixing, CertGM):
    pass


@pytest.fixture
def site(tmp_path):
    made = CertSite(tmp_path / "state.db")
    made.server.add_member("press-7", ["line1"], sender=True, psk=KEY, ppk=PPK)
    return made


def gm_of(site, name=b"press-7", ppk=PPK, ppk_id=None, optional=False, kind=PpkGM, **how):
    gm = kind(name, KEY, **how).with_ppk(ppk, ppk_id or name, optional)
    return site.connect(gm, name.decode())


def test_group_keys_hang_on_the_ppk(site):
    """RFC 9838 section 6.2: whoever breaks X25519 has SK_d', and so SK_er; not GSK_w."""
    gm = gm_of(site, wants=1)
    broken, was = prf_plus(gm.sk_d, b"Key Wrap for G-IKEv2", 16), gm.gsk_w
    answer = gm.open(site.talk(gm.gsa_auth(), "press-7"), GSA_AUTH)  # who is there is readable
    group = gm.check_identity(answer)
    assert gm.is_mixed and broken == was != gm.gsk_w
    with pytest.raises(InvalidUnwrap):
        Keys(group[1][1], broken)
    gm.take_group(group)
    assert gm.tek and len(gm.sender_ids) == 1
    pull = gm.open(site.talk(gm.gsa_registration(), "press-7"), GSA_REGISTRATION)
    gm.take_group(pull)
    site.send(site.server.rekey("line1", site.now))
    assert gm.rekey(site.air[-1].data) == "rekeyed"  # under a key that came so


def test_inband_keys_hang_on_it(tmp_path):
    site = CertSite(tmp_path / "state.db", text=SITE + LINE1 + 'rekey = "inband"\n')
    site.server.add_member("press-7", ["line1"], psk=KEY, ppk=PPK)
    one = _peer(site)
    before = one.tek
    site.send(site.server.rekey("line1", site.now))
    one.served()  # unwrapped under GSK_w with the PPK in it
    assert one.tek != before


def _peer(site):
    """A Peer that has registered with its PPK."""
    one = Peer(site, "press-7")
    one.gm = PpkGM(b"press-7", KEY).with_ppk(PPK, b"press-7")
    assert USE_PPK in one.connect(asked=[notification(USE_PPK)])
    found = one.authenticate()
    assert one.gm.is_mixed
    one.sa.sk_d, one.sa.gsk_w = one.gm.sk_d, one.gm.gsk_w
    one.take(found)
    return one


def test_new_keys_of_the_ike_sa_are_made_of_it(site):
    """CREATE_CHILD_SA: SKEYSEED = prf(SK_d, ...), so from then on all is covered."""
    one = _peer(site)
    one.rekey_ike().pull()
    assert one.tek


def test_who_has_to_wait_for_keys(tmp_path):
    """Its GSA_AUTH is looked at again, when its group has changed keys; nothing is mixed twice."""
    site = CertSite(tmp_path / "state.db", text=SITE + PLAIN + "backward_secrecy = true\n")
    site.server.add_member("lamp-1", ["line1"], sender=True, psk=KEY)
    site.server.add_member("press-7", ["line1"], sender=True, psk=KEY, ppk=PPK)
    site.come("lamp-1", wants=1)
    site.wait(60_000)
    gm = PpkGM(b"press-7", KEY).with_ppk(PPK, b"press-7")
    _, answer = site.begin(gm, "press-7")
    assert answer is None
    take(gm, site.answered(gm, "press-7"))
    assert gm.is_mixed and gm.tek
    assert site.server.counters["authentication_failed"] == 0


def test_by_certificate(site):
    key, made = _certified(site, "lamp-3", ppk=PPK)
    gm = PpkCertGM(key, made, site.ca, b"lamp-3", wants=1).with_ppk(PPK, b"lamp-3")
    site.connect(gm, extra=[HASHES])
    gm.take_group(site.ask(gm))
    assert gm.is_mixed
    gm = CertGM(key, made, site.ca, b"lamp-3")
    site.connect(gm)
    assert site.refuses(gm) == "ppk"
    gm = PpkCertGM(key, made, site.ca, b"lamp-3").with_ppk(bytes(32), b"lamp-3")
    site.connect(gm, extra=[HASHES])
    assert site.refuses(gm) == "signature"
    key, made = _certified(site, "lamp-4", ppk=PPK, is_ppk_optional=True)
    gm = PpkCertGM(key, made, site.ca, b"lamp-4").with_ppk(bytes(32), b"unknown", True)
    site.connect(gm, extra=[HASHES])
    gm.take_group(site.ask(gm))  # by the signature in NO_PPK_AUTH
    assert not gm.is_mixed


@pytest.mark.parametrize(
    "how, reason",
    [
        ({"ppk": bytes(32)}, "key"),  # another one
        ({"ppk_id": b"lamp-1"}, "ppk"),  # another's, which it has
        ({"ppk_id": b"nobody"}, "ppk"),
        ({"ppk_id": b"nobody", "optional": True}, "ppk"),  # unknown, and needed
        ({"ppk_id": b""}, "key"),
    ],
)
def test_refusals(site, how, reason):
    site.server.add_member("lamp-1", ["line1"], psk=KEY, ppk=PPK)
    how = {"ppk_id": b"press-7", **how}
    gm = PpkGM(b"press-7", KEY).with_ppk(how.get("ppk", PPK), how["ppk_id"], "optional" in how)
    site.connect(gm)
    if how["ppk_id"] == b"":
        gm.sk_pi = gm.mixed(gm.mixed(gm.sk_pi))
        reason = "ppk"
    assert site.refuses(gm) == reason


def test_who_must_use_it_and_does_not(site):
    """The right pre-shared key is not enough, whatever was said in IKE_SA_INIT."""
    for extra in ((), [notification(USE_PPK)]):
        gm = site.connect(ForeignGM(b"press-7", KEY), extra=extra)
        assert site.refuses(gm) == "ppk"
    assert site.server.counters["authentication_failed"] == 2


def test_use_ppk_that_somebody_takes_out(site):
    """The request as it came is under the member's AUTH, the answer under the server's."""
    gm = PpkGM(b"press-7", KEY).with_ppk(PPK, b"press-7")
    gm.sa_init()
    said = gm.init_request
    stripped = ForeignGM.sa_init(gm)
    ForeignGM.take_sa_init(gm, site.talk(stripped))
    gm.init_request = said
    assert site.refuses(gm) == "key"


def test_use_ppk_that_somebody_takes_out_of_the_answer(site):
    """Who may do without goes on without; that shows, and it gets no keys under X25519 alone."""
    site.server.add_member("lamp-1", ["line1"], psk=KEY, ppk=PPK, is_ppk_optional=True)
    gm = site.connect(ForeignGM(b"lamp-1", KEY), "lamp-1", extra=[notification(USE_PPK)])
    assert site.refuses(gm) == "ppk"
    site.add("lamp-2")  # which has none here, asked all the same
    gm = site.connect(ForeignGM(b"lamp-2", KEY), "lamp-2", extra=[notification(USE_PPK)])
    gm.take_group(site.ask(gm, "lamp-2"))


def test_optional(site):
    site.server.add_member("lamp-1", ["line1"], psk=KEY, ppk=PPK, is_ppk_optional=True)
    gm = gm_of(site, b"lamp-1")
    gm.take_group(site.ask(gm, "lamp-1"))
    assert gm.is_mixed
    gm = site.connect(ForeignGM(b"lamp-1", KEY), "lamp-1")
    gm.take_group(site.ask(gm, "lamp-1"))
    other = gm_of(site, b"lamp-1", bytes(32), b"unknown", optional=True)  # NO_PPK_AUTH
    other.take_group(site.ask(other, "lamp-1"))
    assert not other.is_mixed
    wrong = gm_of(site, b"lamp-1", bytes(32), b"unknown", optional=True)
    wrong.psk = bytes(32)
    assert site.refuses(wrong) == "key"


def test_a_member_without_one_may_ask_for_it(site):
    """It has a PPK for this server, which knows none: it goes on without where it may."""
    site.add("lamp-1")
    gm = gm_of(site, b"lamp-1", optional=True)
    gm.take_group(site.ask(gm, "lamp-1"))
    assert not gm.is_mixed
    assert site.refuses(gm_of(site, b"lamp-1")) == "ppk"


@pytest.mark.parametrize("named", [b"", b"\2", b"\1press-7", b"\3press-7", b"\2" + bytes(99)])
def test_identities_of_other_forms(site, named):
    """None of ours; with NO_PPK_AUTH who may do without does."""
    gm = site.connect(ForeignGM(b"press-7", KEY), extra=[notification(USE_PPK)])
    beside = [notification(PPK_IDENTITY, named)]
    answer = gm.open(site.talk(gm.gsa_auth(extra=beside)), GSA_AUTH)
    assert answer == [notification(AUTHENTICATION_FAILED)]
    site.server.add_member("lamp-1", ["line1"], psk=KEY, ppk=PPK, is_ppk_optional=True)
    for proof, is_taken in ((None, True), (b"", False), (bytes(32), False)):
        gm = site.connect(ForeignGM(b"lamp-1", KEY), "b", extra=[notification(USE_PPK)])
        plain = dict(gm.auth_payloads())[AUTH][4:] if proof is None else proof
        data = gm.gsa_auth(extra=[*beside, notification(NO_PPK_AUTH, plain)])
        answer = gm.open(site.talk(data, "b"), GSA_AUTH)
        assert (answer != [notification(AUTHENTICATION_FAILED)]) == is_taken


def test_identity_without_use_ppk_means_nothing(site):
    site.add("lamp-1")
    gm = site.connect(ForeignGM(b"lamp-1", KEY), "lamp-1")
    more = [notification(PPK_IDENTITY, b"\2press-7"), notification(NO_PPK_AUTH, bytes(32))]
    payloads = site.ask(gm, "lamp-1", extra=more)
    assert PPK_IDENTITY not in notifies(payloads)
    gm.take_group(payloads)


def test_a_group_that_needs_it(tmp_path):
    """At registration and at each pull; who may do without gets its keys only with it."""
    site = CertSite(tmp_path / "state.db", text=NEEDED)
    site.server.add_member("lamp-1", ["line1"], psk=KEY, ppk=PPK, is_ppk_optional=True)
    gm = site.connect(ForeignGM(b"lamp-1", KEY), "lamp-1")
    assert notifies(site.ask(gm, "lamp-1")) == [AUTHORIZATION_FAILED]
    pull = gm.open(site.talk(gm.gsa_registration(), "lamp-1"), GSA_REGISTRATION)
    assert pull == [notification(AUTHORIZATION_FAILED)]
    gm = gm_of(site, b"lamp-1")
    gm.take_group(site.ask(gm, "lamp-1"))
    (tmp_path / "covey.toml").write_text(NEEDED)
    with pytest.raises(
        Problem, match=r"covey.toml:6: group.line1: lamp-1 is a member of line1 without a PPK"
    ):
        room.check_room(policy.parse(NEEDED), site.server.authority, tmp_path / "covey.toml")


def test_a_removed_member_is_told_so_with_its_ppk_only(site):
    site.send(site.server.remove_members(["press-7"], site.now))
    gm = gm_of(site)
    assert notifies(site.ask(gm, "press-7")) == [AUTHORIZATION_FAILED]
    assert site.refuses(site.connect(ForeignGM(b"press-7", KEY))) == "ppk"


def test_rows_of_before_are_read(site):
    """And nothing of a PPK is shown."""
    member = site.server.authority.find("press-7")
    assert member.ppk == PPK and PPK.hex() not in repr(member) and str(PPK) not in repr(member)
    site.add("lamp-1")
    assert site.server.authority.find("lamp-1").ppk == b""
    row, _ = site.store.read("authority/member/lamp-1")
    assert b"ppk" not in row


def _certified(site, name, **more):
    key = issuing.new_key()
    made = site.trust.issue(key.public_key(), name, 30, site.clock)
    known = [(trust.id_of(made), trust.until_of(made))]
    site.server.add_member(name, ["line1"], sender=True, certificates=known, **more)
    return key, [issuing.der(made)]


# Our member, and a key server of others


class PpkServer(KeyServer):
    said = (*KeyServer.said, peer.notify(USE_PPK))
    says = (peer.notify(USE_PPK),)

    def check_auth(self, request):
        idi, idr, auth, identity, *rest = self.open(request, 39, 1)
        assert identity == (41, b"\0\0\x40\x34\2press-7")
        self.sk_d, self.sk_pi, self.sk_pr = (
            peer.prf_plus(PPK, key, 32) for key in (self.sk_d, self.sk_pi, self.sk_pr)
        )
        self.kwk = peer.prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", len(self.kwk))
        assert auth == (39, self._proof(self.request, self.nonce, self.sk_pi, idi[1]))
        self.check_wishes(rest)

    def answer_auth(self, epoch=1):
        idr = b"\2\0\0\0gcks.example"
        proof = self._proof(self.answer, self.nonce_i, self.sk_pr, idr)
        used = peer.notify(PPK_IDENTITY)
        return self.seal(39, 1, [(36, idr), (39, proof), used, *self.policy(epoch)])


@pytest.mark.parametrize("bits, kwa", [(256, 3), (128, 1)])
def test_a_strict_server_with_a_ppk(bits, kwa):
    server, own = PpkServer(bits, kwa), config()
    own.ppk = Ppk(bytearray(PPK), b"press-7")
    gm = Registration(own, 0)
    (request,) = work(gm)
    assert gm.receive(server.answer_init(request), 0) == 0
    (request,) = work(gm)
    server.check_auth(request)
    assert gm.receive(server.answer_auth(), 0) == 0 and work(gm) == []
    assert gm.state == registration.REGISTERED and gm.kwk == server.kwk
    assert gm.pull(0)
    (request,) = work(gm)
    server.check_wishes(server.open(request, 40, 2))
    assert gm.receive(server.seal(40, 2, server.policy(2)), 0) == 0
    assert gm.state == registration.REGISTERED and gm.drops.as_dict() == {}


class PpkCertServer(CertServer):
    """By certificates; SK_d, SK_pi and SK_pr are mixed when GSA_AUTH has come."""

    said = (*CertServer.said, peer.notify(USE_PPK))
    says = (*CertServer.says, peer.notify(USE_PPK))

    def check_auth(self, request):
        payloads = self.open(request, 39, 1)
        assert payloads[5] == (41, b"\0\0\x40\x34\2press-7")
        self.sk_d, self.sk_pi, self.sk_pr = (
            peer.prf_plus(PPK, key, 32) for key in (self.sk_d, self.sk_pi, self.sk_pr)
        )
        self.kwk = peer.prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", len(self.kwk))
        self.open = lambda *_: payloads[:5] + payloads[6:]
        super().check_auth(request)
        del self.open

    def proof(self):
        return [*super().proof(), peer.notify(PPK_IDENTITY)]


def test_a_strict_server_with_certificates_and_a_ppk():
    server, own = PpkCertServer(), config()
    own.credentials = member_credentials()
    own.ppk = Ppk(bytearray(PPK), b"press-7")
    gm = Registration(own, 0)
    (request,) = work(gm)
    assert gm.receive(server.answer_init(request), 0) == 0
    (request,) = work(gm)
    server.check_auth(request)
    assert gm.receive(server.answer_auth(), 0) == 0 and work(gm) == []
    assert gm.state == registration.REGISTERED and gm.kwk == server.kwk
    assert gm.drops.as_dict() == {}
