"""Whom a site trusts: its CA, its key server's certificate, and what was revoked.

In the store, so that who is out and what is void change in one write:

    trust/ca        {"certificate": DER, "key": PKCS #8, or null where others sign}
    trust/server    {"key": PKCS #8, "chain": [DER, ...]}: the key server's own first; none yet: []
    trust/revoked   {ID: [when, until when it would have held]}: by us, see id_of()
    trust/crl       [DER, ...] of certificate revocation lists that were taken, one an issuer

Octets are hexadecimal there. All of it is read by refresh() and kept; whoever writes calls that.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from covey import der, ike

from ..errors import MISUSE, Problem
from ..store import Store
from . import issuing
from .issuing import Certificate, Key, Unfit, Untrusted
from .ledger import Changes, Ledger, encode
from .parts import Payloads, notify

DAYS = 3650  # of a certificate, unless somebody says otherwise
_CA_DAYS = 7300
_CRL_DAYS = 30
_CA, _SERVER = "trust/ca", "trust/server"
_REVOKED, _CRL = "trust/revoked", "trust/crl"
ROWS = (_CA, _SERVER, _REVOKED, _CRL)
SHA2_256 = b"\x00\x02"  # RFC 7427 section 7
_X509 = b"\x04"  # X.509 Certificate - Signature, RFC 7296 section 3.6
_RAW = b"\x0f"  # Raw Public Key, RFC 7670 section 3
_MOST_CERTS = 4  # of one message
_NO_CA = "The site has no CA: make one with `covey site ca --new`, or name one with --ca-cert."
_NO_KEY = (
    "The key of the site's CA is not here: have the certificate signed where it is, and name it"
    " with --cert."
)


@dataclass(frozen=True)
class Trust:
    """What is in the store, as objects."""

    ca: Certificate | None = None
    ca_key: Key | None = field(default=None, repr=False)
    key: Key | None = field(default=None, repr=False)
    chain: tuple[Certificate, ...] = ()
    revoked: dict[str, list[int]] = field(default_factory=dict)
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether members with certificates can register."""
        return self.ca is not None and bool(self.chain)

    @property
    def spki(self) -> bytes:
        """Our public key in DER, for members that have a raw one (RFC 7670). Problem: none yet."""
        if self.key is None:
            raise Problem(_NO_CA, MISUSE)
        return issuing.spki(self.key.public_key())

    # What the protocol asks for

    def announcement(self) -> Payloads:
        """What IKE_SA_INIT answers who says that it knows SHA2-256."""
        wanted = [(ike.CERTREQ, _X509 + issuing.key_id(self.ca))] if self.is_ready else []
        wanted.append((ike.CERTREQ, _RAW))  # which no CA belongs to
        return [*wanted, notify(ike.SIGNATURE_HASH_ALGORITHMS, SHA2_256)]

    def certs(self) -> Payloads:
        return [(ike.CERT, _X509 + issuing.der(one)) for one in self.chain]

    def raw_cert(self) -> Payloads:
        return [(ike.CERT, _RAW + self.spki)]

    def sign(self, octets: bytes) -> bytes:
        """The data of our AUTH payload (RFC 7427 section 3)."""
        signature = self.key.sign(octets, ec.ECDSA(hashes.SHA256()))
        return bytes(ike.emit_signature_auth(der.ECDSA_WITH_SHA256, signature))

    def judge(
        self, bodies: list[bytes], proof: bytes, octets: bytes, now: float
    ) -> list[Certificate]:
        """The chain of whoever has signed these octets, which may be revoked: see voids().
        Untrusted: nobody of ours.

        bodies: of CERT payloads, the signer's own first; proof: data of its AUTH payload.
        """
        chain = _parsed(bodies)
        if not issuing.is_p256(chain[0]):
            raise Untrusted("certificate_key")
        check_signature(chain[0].public_key(), proof, octets)
        return issuing.verify(self.ca, chain, issuing.MEMBER, now)

    def voids(self, chain: list[Certificate]) -> bool:
        """Whether one of it is revoked."""
        return any(self.is_revoked(one) for one in chain)

    def is_revoked(self, certificate: Certificate) -> bool:
        return self.is_void(id_of(certificate))

    def is_void(self, id: str) -> bool:
        """The same of a certificate of which only the ID is known."""
        if id in self.revoked:
            return True
        issuer, serial = id.split(":")
        for crl in self.crls:
            if _name_id(crl.issuer) == issuer:
                return crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
        return False

    # What commands ask for

    def issue(self, public, name: str, days: int, now: float) -> Certificate:
        """A certificate for a member of this name. Problem where none can be made here."""
        self.check_issues()
        return issuing.issue(self.ca, self.ca_key, public, name, issuing.MEMBER, days, now)

    def check_issues(self) -> None:
        """Problem where no certificate can be made here."""
        if self.ca is None:
            raise Problem(_NO_CA, MISUSE)
        if self.ca_key is None:
            raise Problem(_NO_KEY, MISUSE)

    def accept(self, data: bytes, name: str, now: float, where: str) -> list[Certificate]:
        """A member's certificate that was signed elsewhere. Problem where it is of no use."""
        if self.ca is None:
            raise Problem(_NO_CA, MISUSE)
        chain = self.check(data, name, issuing.MEMBER, now, where)
        if self.voids(chain):
            raise Problem(f"{where} holds a certificate that was revoked.", MISUSE)
        return chain

    def check(self, data: bytes, name: str, purpose, now: float, where: str) -> list[Certificate]:
        """A chain without the CA itself, for who has this name. Problem where it is of no use."""
        try:
            chain = issuing.load_chain(data)
            proven = issuing.verify(self.ca, chain, purpose, now)
        except Unfit as unfit:
            raise Problem(f"{where} {unfit}", MISUSE) from None
        except Untrusted as why:
            what = why.word.replace("_", " ")
            raise Problem(f"{where} does not hold for the site's CA ({what}).", MISUSE) from None
        if name not in issuing.names_of(chain[0]):
            raise Problem(f"{where} does not name {name} as a dNSName.", MISUSE)
        return proven[:-1]

    def crl(self, now: float) -> bytes | None:
        """What our CA has revoked, in PEM; None where its key is not here."""
        if self.ca_key is None:
            return None
        ours = _name_id(self.ca.subject)
        listed = {}
        for id, (when, _) in self.revoked.items():
            issuer, serial = id.split(":")
            if issuer == ours:
                listed[int(serial, 16)] = when
        return issuing.make_crl(self.ca, self.ca_key, listed, _CRL_DAYS, now)

    def facts(self) -> dict:
        """For people: no key."""
        if self.ca is None:
            return {"ca": None}
        server = self.chain[0].not_valid_after_utc if self.chain else None
        return {
            "ca": self.ca.subject.rfc4514_string(),
            "sha256": sha256(issuing.der(self.ca)).hexdigest(),
            "until": self.ca.not_valid_after_utc.isoformat(),
            "issues": self.ca_key is not None,
            "server_until": None if server is None else server.isoformat(),
            "revoked": len(self.revoked) + sum(len(crl) for crl in self.crls),
        }


def check_signature(public: ec.EllipticCurvePublicKey, proof: bytes, octets: bytes) -> None:
    """proof: data of an AUTH payload (RFC 7427 section 3). Untrusted: no signature of this key."""
    algorithm, _, signature = ike.parse_signature_auth(proof)
    try:
        public.verify(signature, octets, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Untrusted("signature") from None
    if algorithm != der.ECDSA_WITH_SHA256:
        raise Untrusted("signature")


def id_of(certificate: Certificate) -> str:
    """What it is revoked by: its issuer's name, digested, and its serial number."""
    return f"{_name_id(certificate.issuer)}:{certificate.serial_number:x}"


def until_of(certificate: Certificate) -> int:
    """Seconds since 1970."""
    return int(certificate.not_valid_after_utc.timestamp())


def _name_id(name: x509.Name) -> str:
    return sha256(name.public_bytes()).hexdigest()[:16]


def _parsed(bodies: list[bytes]) -> list[Certificate]:
    if not 1 <= len(bodies) <= _MOST_CERTS or not all(b[:1] == _X509 for b in bodies):
        raise Untrusted("no_certificate")
    try:
        return [x509.load_der_x509_certificate(body[1:]) for body in bodies]
    except issuing.MALFORMED:
        raise Untrusted("no_certificate") from None


def void_members(trust: Trust, members: Iterable) -> list[str]:
    """Whose certificate, the one used last, is revoked."""
    return [m.name for m in members if m.certificates and trust.is_void(m.certificates[-1][0])]


# In the store


def load(ledger: Ledger) -> Trust:
    """What the store holds; a site from before there were certificates has none of it."""
    ca = json.loads(ledger.read(_CA) or b"{}")
    server = json.loads(ledger.read(_SERVER) or b"{}")
    if not ca:
        return Trust()
    crls = json.loads(ledger.read(_CRL) or b"[]")
    return Trust(
        ca=x509.load_der_x509_certificate(bytes.fromhex(ca["certificate"])),
        ca_key=None if ca["key"] is None else issuing.load_key(bytes.fromhex(ca["key"])),
        key=issuing.load_key(bytes.fromhex(server["key"])),
        chain=tuple(x509.load_der_x509_certificate(bytes.fromhex(c)) for c in server["chain"]),
        revoked=json.loads(ledger.read(_REVOKED) or b"{}"),
        crls=tuple(x509.load_der_x509_crl(bytes.fromhex(crl)) for crl in crls),
    )


def make(ledger: Ledger, name: str, now: float) -> None:
    """A new CA, and with it the certificate of the key server of this name."""
    key = issuing.new_key()
    adopt(ledger, name, issuing.make_ca(key, name, _CA_DAYS, now), key, now)


def adopt(ledger: Ledger, name: str, ca: Certificate, key: Key | None, now: float) -> None:
    """Take a CA, in place of any before it. Without its key others sign, the key server's
    certificate too. The key server keeps its own key, which members may have pinned."""
    before = json.loads(ledger.read(_SERVER) or b"{}")
    own = issuing.load_key(bytes.fromhex(before["key"])) if before else issuing.new_key()
    chain = []
    if key is not None:
        public = own.public_key()
        chain = [issuing.issue(ca, key, public, name, issuing.SERVER, DAYS, now)]
    kept = {"certificate": issuing.der(ca), "key": None if key is None else issuing.key_der(key)}
    server = {"key": issuing.key_der(own), "chain": [issuing.der(one) for one in chain]}
    changes = {_CA: encode(kept), _SERVER: encode(server), _REVOKED: None, _CRL: None}
    there = {key: ledger.read(key) for key in changes}
    ledger.write({key: value for key, value in changes.items() if value or there[key]})


def renew_key(ledger: Ledger, trust: Trust, name: str, now: float) -> None:
    """Another key for the key server, and its certificate where the CA's key is here. The old
    certificate holds on, for whoever has the old key. Problem: there is none yet."""
    if trust.ca is None:
        raise Problem(_NO_CA, MISUSE)
    own, chain = issuing.new_key(), []
    if trust.ca_key is not None:
        how = own.public_key(), name, issuing.SERVER, DAYS, now
        chain = [issuing.issue(trust.ca, trust.ca_key, *how)]
    _keep_server(ledger, own, chain)


def read_ca(
    certificate: bytes, key: bytes | None, where: str, key_where: str, now: float
) -> tuple[Certificate, Key | None]:
    """A CA from files. Problem where they can't be one."""
    try:
        found = issuing.load_chain(certificate)[0]
    except Unfit as unfit:
        raise Problem(f"{where} {unfit}", MISUSE) from None
    try:
        is_ca = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *issuing.MALFORMED):
        is_ca = False
    if not is_ca:
        raise Problem(f"{where} holds a certificate that is not of a CA.", MISUSE)
    if found.not_valid_after_utc <= datetime.fromtimestamp(now, UTC):
        raise Problem(f"{where} holds a certificate that has expired.", MISUSE)
    if key is None:
        return found, None
    try:
        private = issuing.load_key(key)
    except Unfit as unfit:
        raise Problem(f"{key_where} {unfit}", MISUSE) from None
    if private.public_key() != found.public_key():
        raise Problem(f"{key_where} is not the key of {where}.", MISUSE)
    return found, private


def take_server(ledger: Ledger, trust: Trust, name: str, data: bytes, where: str, now) -> None:
    """The key server's certificate, signed elsewhere. Problem where it is of no use."""
    if trust.ca is None:
        raise Problem(_NO_CA, MISUSE)
    chain = trust.check(data, name, issuing.SERVER, now, where)
    if chain[0].public_key() != trust.key.public_key():
        raise Problem(f"{where} is for another key: ask for it with --csr.", MISUSE)
    _keep_server(ledger, trust.key, chain)


def renew_server(ledger: Ledger, trust: Trust, name: str, now: float) -> bool:
    """A new certificate for the key server if less than half of the old one's time is left, or if
    it is called otherwise by now; where the CA's key is here. → whether there is one."""
    if trust.ca_key is None:
        return False
    if trust.chain and name in issuing.names_of(trust.chain[0]):
        ends = trust.chain[0].not_valid_after_utc
        began = trust.chain[0].not_valid_before_utc
        if (ends - datetime.fromtimestamp(now, UTC)) * 2 > ends - began:
            return False
        if ends == trust.ca.not_valid_after_utc:
            return False  # no other would last longer
    public = trust.key.public_key()
    made = issuing.issue(trust.ca, trust.ca_key, public, name, issuing.SERVER, DAYS, now)
    _keep_server(ledger, trust.key, [made])
    return True


def _keep_server(ledger: Ledger, key: Key, chain: list[Certificate]) -> None:
    ledger.read(_SERVER)
    fields = {"key": issuing.key_der(key), "chain": [issuing.der(one) for one in chain]}
    ledger.write({_SERVER: encode(fields)})


def take_crl(ledger: Ledger, trust: Trust, data: bytes, where: str) -> None:
    """A list of what a CA has revoked, in place of an earlier one of the same CA. Problem where
    it is of no use, or older than that."""
    if trust.ca is None:
        raise Problem(_NO_CA, MISUSE)
    try:
        found = issuing.load_crl(data, trust.ca)
    except Unfit as unfit:
        raise Problem(f"{where} {unfit}", MISUSE) from None
    others = []
    for crl in trust.crls:
        if crl.issuer != found.issuer:
            others.append(crl)
        elif crl.last_update_utc > found.last_update_utc:
            raise Problem(f"{where} is older than the list that the site has.", MISUSE)
    ledger.read(_CRL)
    listed = [issuing.der(crl).hex() for crl in [*others, found]]
    ledger.write({_CRL: json.dumps(listed).encode()})


def revocation(ledger: Ledger, certificates: dict[str, int], now: float) -> Changes:
    """The write that makes certificates void: {ID: until when it holds}."""
    if not certificates:
        return {}
    known = json.loads(ledger.read(_REVOKED) or b"{}")
    left = {id: times for id, times in known.items() if times[1] > now}
    left |= {id: [int(now), until] for id, until in certificates.items()}
    return {_REVOKED: json.dumps(left).encode()}


def create(store: Store, name: str, ca: tuple[Certificate, Key | None] | None, now) -> None:
    """What `covey init` calls."""
    if ca is None:
        make(Ledger(store), name, now)
    else:
        adopt(Ledger(store), name, *ca, now)
