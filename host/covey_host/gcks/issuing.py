"""Certificates as objects: made, read and judged by `cryptography`; nothing of a site is kept.

All are X.509 version 3 of P-256 keys, signed by ecdsa-with-SHA256 (RFC 5280, RFC 4945). A purpose
keeps members from posing as key servers: members' have clientAuth, key servers' serverAuth.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey
Certificate = x509.Certificate

MEMBER, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_IKE = ExtendedKeyUsageOID.IPSEC_IKE  # either, by RFC 4945 section 5.1.3.12
_ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
# What `cryptography` raises of certificates that are none, or of a kind that it doesn't know.
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_SLACK = timedelta(days=1)  # other clocks are behind
_AGNOSTIC = verification.Criticality.AGNOSTIC
_DER = serialization.Encoding.DER
_PEM = serialization.Encoding.PEM


class Unfit(ValueError):
    """Not what is wanted: the rest of a sentence."""


class Untrusted(Exception):
    """A chain that proves nothing; `word` is for the log."""

    def __init__(self, word: str):
        super().__init__(word)
        self.word = word


# Keys


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def key_der(key: Key) -> bytes:
    return key.private_bytes(_DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def key_pem(key: Key) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def spki(public: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return public.public_bytes(_DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki_pem(data: bytes) -> bytes:
    """The same key in PEM."""
    public = serialization.load_der_public_key(data)
    return public.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public(data: bytes) -> ec.EllipticCurvePublicKey:
    """PEM or DER of a SubjectPublicKeyInfo. Unfit: no P-256 key."""
    load = serialization.load_der_public_key
    if b"-----BEGIN" in data:
        load = serialization.load_pem_public_key
    try:
        public = load(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unfit("holds no public key.") from None
    if not _is_p256(public):
        raise Unfit("holds a key that is not of P-256.")
    return public


def load_key(data: bytes) -> Key:
    """PEM or DER without a password. Unfit: no P-256 key."""
    load = serialization.load_der_private_key
    if b"-----BEGIN" in data:
        load = serialization.load_pem_private_key
        data = data[data.rfind(b"-----BEGIN") :]  # behind "EC PARAMETERS"
    try:
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unfit("holds no private key without a password.") from None
    if not _is_p256(key):
        raise Unfit("holds a key that is not of P-256.")
    return key


def _is_p256(key) -> bool:
    return isinstance(getattr(key, "curve", None), ec.SECP256R1)


# Certificates and requests


def load_chain(data: bytes) -> list[Certificate]:
    """PEM or DER, the owner's first. Unfit: none, or one of another kind of key."""
    try:
        if b"-----BEGIN" in data:
            found = x509.load_pem_x509_certificates(data)
        else:
            found = [x509.load_der_x509_certificate(data)]
        fits = all(_is_p256(one.public_key()) for one in found)
    except MALFORMED:
        raise Unfit("holds no X.509 certificate.") from None
    if not fits:
        raise Unfit("holds a certificate of a key that is not of P-256.")
    return found


def load_request(data: bytes) -> ec.EllipticCurvePublicKey:
    """A PKCS #10 request, PEM or DER → the key whose owner has signed it. Unfit: none."""
    is_pem = b"-----BEGIN" in data
    try:
        request = (x509.load_pem_x509_csr if is_pem else x509.load_der_x509_csr)(data)
        if not request.is_signature_valid:
            raise InvalidSignature
        public = request.public_key()
    except InvalidSignature:
        raise Unfit("holds a request that its own key has not signed.") from None
    except MALFORMED:
        raise Unfit("holds no certificate request.") from None
    if not _is_p256(public):
        raise Unfit("holds a request for a key that is not of P-256.")
    return public


def request_pem(key: Key, name: str) -> bytes:
    """What another CA signs for the key server of this name."""
    made = x509.CertificateSigningRequestBuilder().subject_name(_named(name))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    made = made.add_extension(x509.ExtendedKeyUsage([SERVER]), False)
    return made.sign(key, hashes.SHA256()).public_bytes(_PEM)


def make_ca(key: Key, name: str, days: int, now: float) -> Certificate:
    """A CA that signs itself, and may have one intermediate CA below it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Covey CA {name}"[:64])])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    made = _builder(subject, subject, key.public_key(), days, now)
    made = made.add_extension(x509.BasicConstraints(True, 1), True).add_extension(usage, True)
    return made.sign(key, hashes.SHA256())


def issue(
    ca: Certificate, ca_key: Key, public, name: str, purpose, days: int, now: float
) -> Certificate:
    """For a member or the key server of this name, no longer than the CA itself lasts."""
    made = _builder(_named(name), ca.subject, public, days, now, ca.not_valid_after_utc)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())
    for extension, is_critical in (
        (x509.BasicConstraints(False, None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([purpose]), False),
        (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
        (issuer, False),
    ):
        made = made.add_extension(extension, is_critical)
    return made.sign(ca_key, hashes.SHA256())


def _builder(subject, issuer, public, days, now, latest=None) -> x509.CertificateBuilder:
    began = datetime.fromtimestamp(int(now), UTC)
    ends = began + timedelta(days=days)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(began - _SLACK)
    made = made.not_valid_after(ends if latest is None else min(ends, latest))
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
    names += " key_cert_sign crl_sign encipher_only decipher_only"
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names.split()})


def pem(certificates: Iterable[Certificate]) -> bytes:
    return b"".join(one.public_bytes(_PEM) for one in certificates)


def der(certificate: Certificate | x509.CertificateRevocationList) -> bytes:
    return certificate.public_bytes(_DER)


def names_of(certificate: Certificate) -> set[str]:
    """Its dNSNames."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, *MALFORMED):
        return set()
    return set(found.value.get_values_for_type(x509.DNSName))


def common_name(certificate: Certificate) -> str | None:
    """The one CN of its subject."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return found[0].value if len(found) == 1 else None


def is_p256(certificate: Certificate) -> bool:
    """Whether its key is of the one kind that signs here."""
    try:
        return _is_p256(certificate.public_key())
    except MALFORMED:
        return False


def key_id(certificate: Certificate) -> bytes:
    """SHA-1 of its SubjectPublicKeyInfo: what a CERTREQ asks for (RFC 7296 section 3.7)."""
    digest = hashes.Hash(hashes.SHA1())  # names a key, and protects nothing
    digest.update(
        certificate.public_key().public_bytes(
            _DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return digest.finalize()


# Chains


def verify(ca: Certificate, chain: list[Certificate], purpose, now: float) -> list[Certificate]:
    """The chain from its first certificate to the CA, proven. Untrusted: it proves nothing.

    One intermediate CA may stand between. Revocation is not looked at.
    """
    moment = datetime.fromtimestamp(int(now), UTC).replace(tzinfo=None)
    above = verification.ExtensionPolicy.permit_all()
    above = above.require_present(x509.BasicConstraints, _AGNOSTIC, _check_ca)
    above = above.may_be_present(x509.KeyUsage, _AGNOSTIC, _check_issues)
    own = verification.ExtensionPolicy.permit_all()
    own = own.may_be_present(x509.BasicConstraints, _AGNOSTIC, _check_leaf)
    own = own.may_be_present(x509.KeyUsage, _AGNOSTIC, _check_signs)
    own = own.may_be_present(
        x509.ExtendedKeyUsage, _AGNOSTIC, lambda *args: _check_purpose(purpose, *args)
    )
    policy = verification.PolicyBuilder().store(verification.Store([ca])).time(moment)
    policy = policy.max_chain_depth(1).extension_policies(ca_policy=above, ee_policy=own)
    try:
        return policy.build_client_verifier().verify(chain[0], chain[1:]).chain
    except (verification.VerificationError, *MALFORMED):
        raise Untrusted(_why_not(chain, now)) from None


def _why_not(chain: list[Certificate], now: float) -> str:
    moment = datetime.fromtimestamp(int(now), UTC)
    if any(moment > one.not_valid_after_utc for one in chain):
        return "certificate_expired"
    if any(moment < one.not_valid_before_utc for one in chain):
        return "certificate_not_yet_valid"
    return "certificate_untrusted"


def _check_ca(policy, certificate, found) -> None:
    if not found.ca:
        raise ValueError("it is no CA")


def _check_leaf(policy, certificate, found) -> None:
    if found is not None and found.ca:
        raise ValueError("it is a CA")


def _check_issues(policy, certificate, found) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("it may not issue certificates")


def _check_signs(policy, certificate, found) -> None:
    if found is not None and not found.digital_signature:
        raise ValueError("it may not sign")


def _check_purpose(purpose, policy, certificate, found) -> None:
    if found is not None and not {purpose, _IKE, _ANY} & set(found):
        raise ValueError("it has another purpose")


# Lists of what is revoked


def make_crl(
    ca: Certificate, ca_key: Key, revoked: dict[int, int], days: int, now: float
) -> bytes:
    """revoked: {serial: when, in seconds since 1970} → PEM."""
    moment = datetime.fromtimestamp(int(now), UTC)
    made = x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
    made = made.last_update(moment).next_update(moment + timedelta(days=days))
    made = made.add_extension(x509.CRLNumber(int(now)), False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())
    made = made.add_extension(issuer, False)
    for serial, when in sorted(revoked.items()):
        one = x509.RevokedCertificateBuilder().serial_number(serial)
        one = one.revocation_date(datetime.fromtimestamp(when, UTC))
        made = made.add_revoked_certificate(one.build())
    return made.sign(ca_key, hashes.SHA256()).public_bytes(_PEM)


def load_crl(data: bytes, ca: Certificate) -> x509.CertificateRevocationList:
    """PEM or DER, signed by the CA or by an intermediate one whose certificate stands beside it
    in the file. Unfit: none of these."""
    at = data.find(b"-----BEGIN X509 CRL")
    issuers = [ca]
    try:
        if b"-----BEGIN" in data:
            found = x509.load_pem_x509_crl(data[max(at, 0) :])
            if b"-----BEGIN CERTIFICATE-----" in data:
                issuers += x509.load_pem_x509_certificates(data)
        else:
            found = x509.load_der_x509_crl(data)
    except MALFORMED:
        raise Unfit("holds no certificate revocation list.") from None
    for issuer in issuers:
        if issuer is not ca and not _is_below(issuer, ca):
            continue
        if issuer.subject == found.issuer and found.is_signature_valid(issuer.public_key()):
            return found
    raise Unfit("holds a list that is not signed by the site's CA, nor by one beside it.")


def _is_below(issuer: Certificate, ca: Certificate) -> bool:
    try:
        issuer.verify_directly_issued_by(ca)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, x509.ExtensionNotFound, *MALFORMED):
        return False
