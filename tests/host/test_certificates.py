"""Members with certificates at the key server; their side of RFC 7427 is written anew.

Certificates of the CA are made by OpenSSL's command where a site would have them from elsewhere.
"""

import datetime
import json
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from covey import x509 as member
from covey.drops import FormatError
from covey_host.errors import MISUSE, Problem
from covey_host.gcks import authority, issuing, trust
from covey_host.gcks.authority import Authority
from covey_host.gcks.issuing import Untrusted
from covey_host.gcks.ledger import Ledger
from covey_host.store import sqlite
from foreign_certs import CERT, DN, CertGM, body_of_auth
from foreign_gm import (
    AUTHENTICATION_FAILED,
    AUTHORIZATION_FAILED,
    GSA_AUTH,
    GSA_REGISTRATION,
    ForeignGM,
    identity,
    notification,
    notifies,
)
from gcks_site import KEY, Site

TESTS = Path(__file__).resolve().parents[1]
RECORDED = json.loads((TESTS / "recorded" / "certificates.json").read_text())["certificates"]
NOW = time.time() + 3600  # later than all that is made here
DAY = 86400


class CertSite(Site):
    """A Site with a CA, whose clock can be set."""

    def __init__(self, path, **how):
        if not path.exists():
            store = sqlite.create(path)
            authority.make_signing_key(store)
            trust.create(store, "gcks.example", None, NOW)
            store.close()
        super().__init__(path, **how)
        self.clock = NOW
        self.server._time = lambda: self.clock
        self.server._responder._proof._time = lambda: self.clock

    @property
    def trust(self):
        return self.server.trust

    @property
    def ca(self):
        return issuing.der(self.trust.ca)

    def certified(self, name="press-7", days=30, groups=("line1",)):
        """A member by certificate, as `covey member add` makes it → what it needs to register."""
        key = issuing.new_key()
        made = self.trust.issue(key.public_key(), name, days, self.clock)
        known = [(trust.id_of(made), trust.until_of(made))]
        self.server.add_member(name, list(groups), sender=True, certificates=known)
        return key, [issuing.der(made)]

    def gm_of(self, proof, name=b"press-7", **more):
        gm = CertGM(*proof, self.ca, name, **more)
        self.connect(gm)
        return gm

    def refuses(self, gm):
        """AUTHENTICATION_FAILED, alone, as for whoever is not there → the reason in the log."""
        self.server.events.clear()
        payloads = gm.open(self.talk(gm.gsa_auth()), GSA_AUTH)
        assert payloads == [notification(AUTHENTICATION_FAILED)]
        (facts,) = [f for name, f in self.server.events if name == "authentication_failed"]
        return facts["reason"]


@pytest.fixture
def site(tmp_path):
    return CertSite(tmp_path / "state.db")


# Registration


def test_a_foreign_member_registers_by_certificate(site):
    gm = site.gm_of(site.certified(), wants=1)
    gm.take_group(site.ask(gm))
    assert len(gm.sender_ids) == 1
    assert site.server.status(site.now)["ike_sas"] == 1
    again = site.gm_of((gm.key, gm.chain), wants=1)
    again.take_group(site.ask(again))


def test_by_the_distinguished_name(site):
    gm = site.gm_of(site.certified())
    subject = x509.load_der_x509_certificate(gm.chain[0]).subject.public_bytes()
    gm.idi = identity(DN, subject)
    gm.take_group(site.ask(gm))
    other = site.gm_of((gm.key, gm.chain))
    other.idi = identity(DN, subject[:-1] + b"8")
    assert site.refuses(other) == "identity"


def test_who_says_nothing_of_signatures_is_answered_as_before(site):
    site.add("lamp-1")
    gm = site.register(ForeignGM(b"lamp-1", KEY))  # which takes no payload that it doesn't know
    assert gm.tek
    key, chain = site.certified()
    gm = CertGM(key, chain, site.ca)
    gm.more_kinds = frozenset()
    ForeignGM.take_sa_init(gm, site.talk(ForeignGM.sa_init(gm)))
    assert site.refuses(gm) == "no_certificates"


def test_a_site_without_a_ca_takes_no_signature(tmp_path):
    site = Site(tmp_path / "state.db")
    assert not site.server.trust.is_ready
    gm = CertGM(issuing.new_key(), [], bytes.fromhex(RECORDED["ca"]))
    gm.more_kinds = frozenset()
    ForeignGM.take_sa_init(gm, site.talk(gm.sa_init()))
    payloads = gm.answer(site.talk(gm.gsa_auth()))
    assert payloads == [notification(AUTHENTICATION_FAILED)]


def test_one_way_of_proof_is_none_for_the_other(site):
    """A member with a certificate has no key, and the empty one is none; nor the other way."""
    site.certified("press-7")
    for psk in (b"", bytes(32)):
        gm = ForeignGM(b"press-7", psk)
        site.connect(gm)
        payloads = gm.open(site.talk(gm.gsa_auth()), GSA_AUTH)
        assert payloads == [notification(AUTHENTICATION_FAILED)]
    site.add("lamp-1")
    key = issuing.new_key()
    made = issuing.der(site.trust.issue(key.public_key(), "lamp-1", 9, NOW))
    assert site.refuses(site.gm_of((key, [made]), b"lamp-1")) == "member"


def test_whoever_proves_nothing(site):
    key, chain = site.certified()
    other_key, other_chain = site.certified("lamp-1")
    stranger = issuing.new_key()
    strange_ca = issuing.make_ca(stranger, "gcks.example", 9, NOW)  # of the very same name
    forged = issuing.issue(
        strange_ca, stranger, key.public_key(), "press-7", issuing.MEMBER, 9, NOW
    )
    late = issuing.issue(
        site.trust.ca,
        site.trust.ca_key,
        key.public_key(),
        "press-7",
        issuing.MEMBER,
        9,
        NOW - 10 * DAY,
    )
    early = issuing.issue(
        site.trust.ca,
        site.trust.ca_key,
        key.public_key(),
        "press-7",
        issuing.MEMBER,
        9,
        NOW + 2 * DAY,
    )
    server = issuing.issue(
        site.trust.ca, site.trust.ca_key, key.public_key(), "press-7", issuing.SERVER, 9, NOW
    )
    nobody = issuing.issue(
        site.trust.ca, site.trust.ca_key, key.public_key(), "nobody", issuing.MEMBER, 9, NOW
    )
    cases = {
        "another's key": (other_key, chain, b"press-7", "signature"),
        "another's certificate": (other_key, other_chain, b"press-7", "identity"),
        "another CA": (key, [issuing.der(forged)], b"press-7", "certificate_untrusted"),
        "itself as CA": (stranger, [issuing.der(strange_ca)], b"press-7", "certificate_untrusted"),
        "expired": (key, [issuing.der(late)], b"press-7", "certificate_expired"),
        "not yet": (key, [issuing.der(early)], b"press-7", "certificate_not_yet_valid"),
        "a key server's": (key, [issuing.der(server)], b"press-7", "certificate_untrusted"),
        "no member": (key, [issuing.der(nobody)], b"nobody", "member"),
        "other case": (key, chain, b"Press-7", "identity"),
        "none": (key, [], b"press-7", "no_certificate"),
        "many": (key, chain * 5, b"press-7", "no_certificate"),
        "rubbish": (key, [b"rubbish"], b"press-7", "no_certificate"),
    }
    for what, (signer, shown, name, reason) in cases.items():
        assert site.refuses(site.gm_of((signer, shown), name)) == reason, what
    gm = site.gm_of((key, chain))
    gm.take_group(site.ask(gm))
    assert site.server.counters["authentication_failed"] == len(cases)


def test_a_member_that_posed_as_the_key_server_would_be_refused_by_members(site):
    """Members' certificates have another purpose (RFC 5280 section 4.2.1.12)."""
    key = issuing.new_key()
    made = site.trust.issue(key.public_key(), "gcks.example", 9, NOW)
    purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [issuing.MEMBER]
    assert (
        member.server_problem(member.parse(issuing.der(made)), b"gcks.example")
        == "certificate_purpose"
    )
    own = site.trust.chain[0]
    assert member.server_problem(member.parse(issuing.der(own)), b"gcks.example") is None
    assert list(own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        issuing.SERVER
    ]


def test_malformed_proofs(site):
    key, chain = site.certified()
    for data in (b"", b"\x0c", b"\xff" * 40):
        gm = site.gm_of((key, chain))
        gm.auth_payloads = lambda data=data, gm=gm: [
            (35, gm.idi),
            (CERT, b"\4" + chain[0]),
            (39, b"\x0e\0\0\0" + data),
        ]
        payloads = gm.answer(site.talk(gm.gsa_auth()))
        assert notifies(payloads) in ([7], [AUTHENTICATION_FAILED])


# Revocation


def test_who_is_removed_is_out_and_its_certificate_void(site):
    proof = site.certified()
    gm = site.gm_of(proof)
    gm.take_group(site.ask(gm))
    tek = gm.tek
    site.send(site.server.remove_members(["press-7"], site.now))
    assert notifies(site.ask(site.gm_of(proof))) == [AUTHORIZATION_FAILED]
    assert site.server._groups["line1"].epoch.tek_spi != tek[0]
    site.certified()  # another of the same name
    assert site.refuses(site.gm_of(proof)) == "certificate_revoked"
    site.store.close()
    site = CertSite(site.path, now=site.now + 1000)
    assert site.refuses(site.gm_of(proof)) == "certificate_revoked"


@pytest.mark.parametrize("is_certified", [False, True])
def test_an_ike_sa_of_before_gives_no_way_in_under_a_name_that_others_have_now(site, is_certified):
    """A removed member may open an IKE SA, to be told so; the next of its name is another."""
    if is_certified:
        proof = site.certified()
        site.send(site.server.remove_members(["press-7"], site.now))
        gm = site.gm_of(proof)
    else:
        site.add()
        site.send(site.server.remove_members(["press-7"], site.now))
        gm = site.connect(ForeignGM(b"press-7", KEY))
    assert notifies(site.ask(gm)) == [AUTHORIZATION_FAILED]
    if is_certified:
        newer = site.certified()
    else:
        site.server.add_member("press-7", ["line1"], psk=b"z" * 32)
    for ask in (gm.gsa_registration, gm.leave):
        payloads = gm.open(site.talk(ask()), GSA_REGISTRATION)
        assert notifies(payloads) == [AUTHORIZATION_FAILED]
    gm = site.gm_of(newer) if is_certified else site.connect(ForeignGM(b"press-7", b"z" * 32))
    gm.take_group(site.ask(gm))
    gm.take_group(gm.open(site.talk(gm.gsa_registration()), GSA_REGISTRATION))


def test_a_revocation_is_kept_as_long_as_the_certificate_would_have_held(tmp_path):
    store = sqlite.create(tmp_path / "state.db")
    trust.create(store, "gcks.example", None, NOW)
    ledger = Ledger(store)
    ledger.write(trust.revocation(ledger, {"a:1": int(NOW) + 10, "a:2": int(NOW) + 99}, NOW))
    ledger.write(trust.revocation(ledger, {"b:1": int(NOW) + 500}, NOW + 50))
    assert set(trust.load(ledger).revoked) == {"a:2", "b:1"}
    assert trust.revocation(ledger, {}, NOW) == {}
    store.close()


def test_what_has_proven_a_member_is_remembered(site):
    """A certificate that was made elsewhere is known from its first use on, and then revoked."""
    key, _ = site.certified()
    found = site.server.authority.find("press-7")
    newer = site.trust.issue(key.public_key(), "press-7", 9, NOW)
    gm = site.gm_of((key, [issuing.der(newer)]))
    gm.take_group(site.ask(gm))
    ids = [id for id, _ in site.server.authority.find("press-7").certificates]
    assert ids == [found.certificates[0][0], trust.id_of(newer)]
    revision = site.revision()
    site.server.authority.used(
        site.server.authority.find("press-7"), trust.id_of(newer), trust.until_of(newer)
    )
    assert site.revision() == revision
    site.send(site.server.remove_members(["press-7"], site.now))
    assert set(ids) <= set(site.trust.revoked)


def test_renewed_while_it_is_in(site):
    """The next certificate is used at the next registration; the old one until it ends."""
    key, chain = site.certified(days=30)
    gm = site.gm_of((key, chain))
    gm.take_group(site.ask(gm))
    newer = site.trust.issue(key.public_key(), "press-7", 60, NOW)
    member = site.server.authority.find("press-7")
    site.server.authority.issued(member, trust.id_of(newer), trust.until_of(newer))
    site.clock = NOW + 40 * DAY
    assert site.refuses(site.gm_of((key, chain))) == "certificate_expired"
    gm = site.gm_of((key, [issuing.der(newer)]))
    gm.take_group(site.ask(gm))
    last = site.server.authority.find("press-7").certificates[-1]
    assert last == (trust.id_of(newer), trust.until_of(newer))


def test_members_survive_in_the_store(tmp_path):
    store = sqlite.create(tmp_path / "state.db")
    first = Authority(Ledger(store))
    made = first.add("press-7", ["line1"], certificates=[("a:1", 5)])
    assert made.auth == "cert" and made.psk == b"" and first.count("line1") == (1, 0)
    known = Authority(Ledger(store)).find("press-7")
    assert known == made and known.certificates == (("a:1", 5),)
    assert first.add("lamp-1", ["line1"]).auth == "psk"
    for n in range(50):
        first.used(first.find("press-7"), f"b:{n}", n)
    assert len(first.find("press-7").certificates) == 32
    assert Authority(Ledger(store)).count("line1") == (2, 0)
    store.close()


# Certificates of others


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class ForeignCA:
    """OpenSSL's command: a CA, one below it, and what they sign."""

    def __init__(self, folder):
        self.folder = folder
        self.index = 0
        usage = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        self.make("ca", None, usage)
        self.make("middle", "ca", usage)

    def __getitem__(self, name):
        return self.folder / name

    def make(self, name, issuer, extensions, days=30, request=None):
        self.index += 1
        key, csr, crt, ext = (self[f"{name}.{end}"] for end in ("key", "csr", "crt", "ext"))
        if request is None:
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
            openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", csr)
        else:
            csr.write_bytes(request)
        ext.write_text(extensions)
        by = ["-signkey", key]
        if issuer:
            by = ["-CA", self[f"{issuer}.crt"], "-CAkey", self[f"{issuer}.key"]]
        how = ["-sha256", "-days", days, "-extfile", ext, "-set_serial", self.index]
        openssl("x509", "-req", "-in", csr, *by, *how, "-out", crt)
        return crt.read_bytes()

    def crl(self, issuer, *revoked):
        """PEM of a list of these certificates."""
        conf, database = self["ca.cnf"], self[f"{issuer}.index"]
        database.touch()
        conf.write_text(
            f"[ca]\ndefault_ca=x\n[x]\ndatabase={database}\ndefault_md=sha256\n"
            "default_crl_days=9\nunique_subject=no\n"
        )
        how = ["-config", conf, "-keyfile", self[f"{issuer}.key"], "-cert", self[f"{issuer}.crt"]]
        for name in revoked:
            openssl("ca", *how, "-revoke", self[f"{name}.crt"])
        openssl("ca", *how, "-gencrl", "-out", self[f"{issuer}.crl"])
        return self[f"{issuer}.crl"].read_bytes()


@pytest.fixture
def foreign(tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    return ForeignCA(folder)


def adopted(tmp_path, foreign):
    """A site that has only the certificate of OpenSSL's CA, and gets its own signed there."""
    path = tmp_path / "state.db"
    store = sqlite.create(path)
    authority.make_signing_key(store)
    files = "ca.crt", "ca.key"
    found = trust.read_ca(foreign["ca.crt"].read_bytes(), None, *files, NOW)
    trust.create(store, "gcks.example", found, NOW)
    ledger = Ledger(store)
    known = trust.load(ledger)
    assert not known.is_ready and known.facts()["issues"] is False
    request = issuing.request_pem(known.key, "gcks.example")
    names = "subjectAltName=DNS:gcks.example\nextendedKeyUsage=serverAuth\n"
    signed = foreign.make("server", "ca", names, request=request)
    trust.take_server(ledger, known, "gcks.example", signed, "--cert", NOW)
    store.close()
    return CertSite(path)


def test_a_ca_that_lives_elsewhere(tmp_path, foreign):
    site = adopted(tmp_path, foreign)
    assert site.trust.is_ready and site.trust.crl(NOW) is None
    with pytest.raises(Problem, match="key of the site's CA is not here"):
        site.trust.issue(issuing.new_key().public_key(), "press-7", 9, NOW)
    names = "subjectAltName=DNS:press-7\nextendedKeyUsage=clientAuth\n"
    direct = foreign.make("press-7", "ca", names)
    (known,) = site.trust.accept(direct, "press-7", NOW, "--cert")
    ids = [(trust.id_of(known), trust.until_of(known))]
    site.server.add_member("press-7", ["line1"], certificates=ids)
    key = issuing.load_key(foreign["press-7.key"].read_bytes())
    gm = site.gm_of((key, [issuing.der(known)]))
    gm.take_group(site.ask(gm))
    # and one that an intermediate CA has signed
    below = foreign.make("lamp-1", "middle", "subjectAltName=DNS:lamp-1\n")
    bundle = below + foreign["middle.crt"].read_bytes()
    chain = site.trust.accept(bundle, "lamp-1", NOW, "--cert")
    assert [one.subject.rfc4514_string() for one in chain] == ["CN=lamp-1", "CN=middle"]
    site.server.add_member("lamp-1", ["line1"], certificates=[])
    key = issuing.load_key(foreign["lamp-1.key"].read_bytes())
    gm = site.gm_of((key, [issuing.der(one) for one in chain]), b"lamp-1")
    gm.take_group(site.ask(gm))
    alone = site.gm_of((key, [issuing.der(chain[0])]), b"lamp-1")
    assert site.refuses(alone) == "certificate_untrusted"


def test_a_list_of_revocations_evicts(tmp_path, foreign):
    site = adopted(tmp_path, foreign)
    ledger = site.server.ledger
    for name, issuer in (("press-7", "ca"), ("lamp-1", "middle"), ("lamp-2", "ca")):
        data = foreign.make(name, issuer, f"subjectAltName=DNS:{name}\n")
        data += foreign["middle.crt"].read_bytes() if issuer == "middle" else b""
        chain = site.trust.accept(data, name, NOW, "--cert")
        site.server.add_member(name, ["line1"], certificates=[])
        key = issuing.load_key(foreign[f"{name}.key"].read_bytes())
        proof = key, [issuing.der(one) for one in chain]
        gm = site.gm_of(proof, name.encode())
        gm.take_group(site.ask(gm))
    first = foreign.crl("ca")
    trust.take_crl(ledger, site.trust, first, "--crl")
    site.server.refresh_trust()
    assert site.server.void() == []
    trust.take_crl(ledger, site.trust, foreign.crl("ca", "press-7"), "--crl")
    site.server.refresh_trust()
    assert site.server.void() == ["press-7"]
    list_below = foreign.crl("middle", "lamp-1")
    with pytest.raises(Problem, match="not signed by the site's CA"):
        trust.take_crl(ledger, site.trust, list_below, "--crl")
    both = list_below + foreign["middle.crt"].read_bytes()
    trust.take_crl(ledger, site.trust, both, "--crl")
    site.server.refresh_trust()
    assert site.server.void() == ["lamp-1", "press-7"] and len(site.trust.crls) == 2
    key = issuing.load_key(foreign["lamp-1.key"].read_bytes())
    chain = [site_cert(foreign, "lamp-1"), site_cert(foreign, "middle")]
    assert site.refuses(site.gm_of((key, chain), b"lamp-1")) == "certificate_revoked"
    trust.take_crl(ledger, site.trust, foreign.crl("ca", "middle"), "--crl")
    site.server.refresh_trust()
    assert site.refuses(site.gm_of((key, chain), b"lamp-1")) == "certificate_revoked"


def site_cert(foreign, name):
    return issuing.der(issuing.load_chain(foreign[f"{name}.crt"].read_bytes())[0])


def test_lists_that_are_of_no_use(tmp_path, foreign):
    site = adopted(tmp_path, foreign)
    ledger = site.server.ledger
    newest = issuing.make_crl(
        site.trust.ca, issuing.load_key(foreign["ca.key"].read_bytes()), {}, 9, NOW + DAY
    )
    trust.take_crl(ledger, site.trust, newest, "--crl")
    site.server.refresh_trust()
    stranger = issuing.new_key()
    strange = issuing.make_ca(stranger, "x", 9, NOW)
    for data, words in (
        (foreign.crl("ca"), "older"),
        (b"", "no certificate revocation list"),
        (foreign["ca.crt"].read_bytes(), "no certificate revocation list"),
        (issuing.make_crl(strange, stranger, {}, 9, NOW), "not signed"),
        (issuing.make_crl(strange, stranger, {}, 9, NOW) + issuing.pem([strange]), "not signed"),
    ):
        with pytest.raises(Problem, match=words):
            trust.take_crl(ledger, site.trust, data, "--crl")
    assert len(trust.load(ledger).crls) == 1


def test_files_that_hold_no_ca(tmp_path, foreign):
    ca, key = foreign["ca.crt"].read_bytes(), foreign["ca.key"].read_bytes()
    leaf = foreign.make("leaf", "ca", "subjectAltName=DNS:x\n")
    openssl("genrsa", "-out", foreign["rsa.key"], 2048)
    openssl(
        "req",
        "-x509",
        "-new",
        "-key",
        foreign["rsa.key"],
        "-subj",
        "/CN=r",
        "-out",
        foreign["rsa.crt"],
    )
    rsa = foreign["rsa.crt"].read_bytes()
    for certificate, private, now, words in (
        (b"", None, NOW, "no X.509"),
        (leaf, None, NOW, "not of a CA"),
        (rsa, None, NOW, "not of P-256"),
        (ca, None, NOW + 31 * DAY, "expired"),
        (ca, foreign["middle.key"].read_bytes(), NOW, "not the key of"),
        (ca, foreign["rsa.key"].read_bytes(), NOW, "not of P-256"),
        (ca, b"", NOW, "no private key"),
    ):
        with pytest.raises(Problem, match=words) as raised:
            trust.read_ca(certificate, private, "FILE", "KEY", now)
        assert raised.value.status == MISUSE
    assert trust.read_ca(ca, key, "FILE", "KEY", NOW)[1] is not None


def test_certificates_of_no_use_for_a_member(site, foreign):
    data = foreign.make("press-7", "ca", "subjectAltName=DNS:press-7\n")
    with pytest.raises(Problem, match="does not hold for the site's CA"):
        site.trust.accept(data, "press-7", NOW, "--cert")
    made = site.trust.issue(issuing.new_key().public_key(), "press-7", 9, NOW)
    with pytest.raises(Problem, match="does not name press-8"):
        site.trust.accept(issuing.pem([made]), "press-8", NOW, "--cert")
    with pytest.raises(Problem, match="no X.509"):
        site.trust.accept(b"x", "press-7", NOW, "--cert")


def test_requests(foreign):
    foreign.make("press-7", "ca", "subjectAltName=DNS:press-7\n")
    data = foreign["press-7.csr"].read_bytes()
    key = issuing.load_key(foreign["press-7.key"].read_bytes())
    assert issuing.load_request(data) == key.public_key()
    forged = x509.load_pem_x509_csr(data).public_bytes(serialization.Encoding.DER)
    forged = forged.replace(b"press-7", b"press-8")
    for bad, words in ((forged, "own key has not signed"), (b"", "no certificate request")):
        with pytest.raises(issuing.Unfit, match=words):
            issuing.load_request(bad)


# The site's own


def test_the_key_servers_certificate_is_made_anew_in_time(tmp_path):
    store = sqlite.create(tmp_path / "state.db")
    trust.create(store, "gcks.example", None, NOW)
    ledger = Ledger(store)
    first = trust.load(ledger)
    half = trust.DAYS * DAY / 2
    assert not trust.renew_server(ledger, first, "gcks.example", NOW + half - 2 * DAY)
    assert trust.renew_server(ledger, first, "gcks.example", NOW + half + 2 * DAY)
    second = trust.load(ledger)
    assert second.chain != first.chain and second.chain[0].public_key() == first.key.public_key()
    assert trust.renew_server(ledger, second, "other.example", NOW)
    assert issuing.names_of(trust.load(ledger).chain[0]) == {"other.example"}
    store.close()


def test_no_key_is_shown(site):
    key = issuing.key_der(site.trust.ca_key)
    for one in (site.trust, site.server.authority, site.trust.facts()):
        assert key.hex() not in repr(one) and "PrivateKey" not in repr(one)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_both_ends_judge_alike(name):
    """What the key server's judge takes of OpenSSL's certificates, the member's takes too; and
    the other way round, but for name constraints, which only a desktop understands."""
    ca = x509.load_der_x509_certificate(bytes.fromhex(RECORDED["ca"]))
    data = bytes.fromhex(RECORDED[name])
    above = [RECORDED[one] for one in ("middle", "deeper")]
    at = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC).timestamp()
    chain = [x509.load_der_x509_certificate(d) for d in (data, *map(bytes.fromhex, above))]
    try:
        proven = issuing.verify(ca, chain, issuing.SERVER, at)
        is_taken = "gcks.example" in {n.lower() for n in issuing.names_of(proven[0])}
    except Untrusted:
        is_taken = False
    try:
        found = member.parse(data)
        anchor, middle = (member.parse(bytes.fromhex(RECORDED[n])) for n in ("ca", "middle"))
        direct = member.is_issued(found, anchor, 0)
        below = member.is_issued(found, middle, 0) and member.is_issued(middle, anchor, 1)
        is_fit = (direct or below) and member.server_problem(found, b"gcks.example") is None
    except FormatError:
        is_fit = False
    assert is_fit == is_taken or name == "constrained" and not is_fit


def test_a_removed_member_with_another_certificate_is_told_so(site):
    """Who is proven and may not: AUTHORIZATION_FAILED, as with a key."""
    key, _ = site.certified()
    before = site.server.authority.find("press-7").certificates
    site.send(site.server.remove_members(["press-7"], site.now))
    newer = issuing.der(site.trust.issue(key.public_key(), "press-7", 9, NOW))
    gm = site.gm_of((key, [newer]))
    assert notifies(site.ask(gm)) == [AUTHORIZATION_FAILED]
    assert site.server.authority.find("press-7").certificates == before


# Whatever is shown

PLACES = st.integers(0, 700)
CHANGES = st.lists(st.tuples(PLACES, st.binary(max_size=5), st.integers(0, 6)), max_size=4)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A trust, a key that signs, and its certificate: what is shown of it anybody can alter."""
    store = sqlite.create(tmp_path_factory.mktemp("shown") / "state.db")
    trust.create(store, "gcks.example", None, NOW)
    known = trust.load(Ledger(store))
    store.close()
    key = issuing.new_key()
    return known, key, issuing.der(known.issue(key.public_key(), "press-7", 9, NOW))


@settings(max_examples=300, deadline=None)
@given(changes=CHANGES, twice=st.booleans())
def test_no_certificate_does_harm(shown, changes, twice):
    """Octets are replaced, put in and taken out: refused with a word, or it is the genuine one."""
    known, key, genuine = shown
    data = bytearray(genuine)
    for at, octets, gone in changes:
        at %= len(data) + 1
        data[at : at + gone] = octets
    octets = b"what is signed"
    proof = body_of_auth(key, octets)[4:]
    try:
        bodies = [b"\4" + bytes(data)] + [b"\4" + genuine] * twice
        found = known.judge(bodies, proof, octets, NOW)[0]
    except Untrusted as why:
        assert data != genuine and why.word.replace("_", "").isalpha()
    else:
        assert issuing.der(found) == genuine == data
