"""Who is there: AUTH of a member is checked, and ours is made (RFC 7296 section 2.15).

By a pre-shared key; or by digital signatures on both sides (RFC 7427), with certificates or raw
public keys (RFC 7670): as the member was added. With any a PPK may be needed (ppk.py).
"""

import hmac
from collections import Counter
from collections.abc import Callable

from covey import ike
from covey.prf import prf

from . import issuing, ppk, trust
from .authority import CERT, KEY, PSK, PSK_LEN, Authority, Member, key_id, raw_id
from .epoch import Random
from .ikesa import IkeSA
from .issuing import Certificate, Untrusted
from .natd import host_of
from .parts import Parts, Payloads
from .policy import SitePolicy
from .registrar import NAMED, shown


class Proof:
    def __init__(
        self,
        policy: SitePolicy,
        authority: Authority,
        counters: Counter,
        tell: Callable[..., None],
        random: Random,
        time: Callable[[], float],
    ):
        """time(): seconds since 1970, by which certificates are judged."""
        self._time = time
        self.policy = policy
        self.trust = trust.Trust()
        self.trust_rows: dict[str, int] = {}  # from which it was made: key → version
        self._authority = authority
        self._counters = counters
        self._tell = tell
        self._random = random

    def check(self, sa: IkeSA, exchange: int, parts: Parts) -> Payloads | None:
        """GSA_AUTH: the member is known and has its key, and this proves us in turn; None: no.

        An unknown identity, a wrong key, another method, no AUTH (EAP is wanted): all the same.
        """
        if exchange == ike.IKE_AUTH:  # this server makes no Child SAs: not our kind of peer
            return self._fail(sa, b"", "exchange")
        idi = parts.needed(ike.IDi)
        parts.needed(ike.IDg)
        id_type, name = ike.parse_id(idi)
        auth = parts.one(ike.AUTH)
        method, proof = (0, b"") if auth is None else ike.parse_auth(auth)
        mixing = ppk.Mixing(sa, parts, proof, self._authority, self._random)
        member = self._authority.find(name.decode("latin-1")) if id_type in NAMED else None
        if method == ike.AUTH_DIGITAL_SIGNATURE and member is not None and member.auth == KEY:
            return self._check_raw(sa, member, idi, mixing)
        if method == ike.AUTH_DIGITAL_SIGNATURE:
            return self._check_signature(sa, parts, idi, mixing)
        if member is not None and member.auth != PSK:
            member = None
        psk = self._random(PSK_LEN) if member is None else member.psk  # the same work for both
        wanted = ike.psk_auth(psk, mixing.sk_pi, sa.request, sa.nonce_r, idi)
        is_proven = hmac.compare_digest(mixing.proof, wanted)
        if member is None or method != ike.AUTH_SHARED_KEY or not is_proven:
            return self._fail(sa, name, "ppk" if mixing.is_lost else "key")
        if not mixing.suits(member):
            return self._fail(sa, name, "ppk")
        mixed = mixing.settle()
        sa.identity, sa.proven_by = member.name, key_id(member.psk)
        idr = self._idr()
        auth = ike.psk_auth(member.psk, sa.keys.sk_pr, sa.response, sa.nonce_i, idr)
        return [(ike.IDr, idr), (ike.AUTH, ike.emit_auth(ike.AUTH_SHARED_KEY, auth)), *mixed]

    def _check_signature(
        self, sa: IkeSA, parts: Parts, idi: bytes, mixing: ppk.Mixing
    ) -> Payloads | None:
        """The same by certificates. Who can't show one of ours learns nothing of members."""
        id_type, name = ike.parse_id(idi)
        if not sa.has_signatures or not self.trust.is_ready:
            return self._fail(sa, name, "no_certificates")
        octets = sa.request + sa.nonce_r + prf(mixing.sk_pi, idi)
        try:
            chain = self.trust.judge(parts.all(ike.CERT), mixing.proof, octets, self._time())
            member = self._named(id_type, name, chain[0])
            if self.trust.voids(chain) and not member.removed:
                raise Untrusted("certificate_revoked")
            if not mixing.suits(member):
                raise Untrusted("ppk")
        except Untrusted as why:
            return self._fail(sa, name, "ppk" if mixing.is_lost else why.word)
        mixed = mixing.settle()
        sa.identity, sa.proven_by = member.name, trust.id_of(chain[0])
        sa.chain = tuple((trust.id_of(one), trust.until_of(one)) for one in chain)
        idr, auth = self._signed(sa)
        return [idr, *self.trust.certs(), auth, *mixed]

    def _check_raw(
        self, sa: IkeSA, member: Member, idi: bytes, mixing: ppk.Mixing
    ) -> Payloads | None:
        """The same by raw public keys. What CERT shows is not looked at: we know the key."""
        if not sa.has_signatures:
            return self._fail(sa, member.name.encode(), "no_signatures")
        octets = sa.request + sa.nonce_r + prf(mixing.sk_pi, idi)
        try:
            trust.check_signature(issuing.load_public(member.key), mixing.proof, octets)
        except Untrusted:
            return self._fail(sa, member.name.encode(), "ppk" if mixing.is_lost else "raw_key")
        if not mixing.suits(member):
            return self._fail(sa, member.name.encode(), "ppk")
        mixed = mixing.settle()
        sa.identity, sa.proven_by = member.name, raw_id(member.key)
        idr, auth = self._signed(sa)
        return [idr, *self.trust.raw_cert(), auth, *mixed]

    def _signed(self, sa: IkeSA) -> Payloads:
        """Our IDr and AUTH."""
        idr = self._idr()
        auth = self.trust.sign(sa.response + sa.nonce_i + prf(sa.keys.sk_pr, idr))
        return [(ike.IDr, idr), (ike.AUTH, ike.emit_auth(ike.AUTH_DIGITAL_SIGNATURE, auth))]

    def holds(self, sa: IkeSA) -> bool:
        """Whether what check() found, perhaps in another process, still holds now that the member
        is about to be answered. What is remembered of it is in the store then. Of a pre-shared
        key the registrar sees that by itself."""
        if not sa.chain:
            return True
        member = self._authority.find(sa.identity)
        if member is None or member.removed:
            return True  # it is told that it may do nothing
        self._authority.rests_on(self.trust_rows)
        (id, until), *_ = sa.chain
        is_void = any(self.trust.is_void(one) for one, _ in sa.chain)
        if is_void or not self.trust.is_ready or sa.chain[-1][0] != trust.id_of(self.trust.ca):
            self._fail(sa, sa.identity.encode(), "certificate_revoked")
            return False
        if member.certificates is not None:
            self._authority.used(member, id, until)
        return True

    def is_void(self, sa: IkeSA) -> bool:
        """Whether what has proven an open IKE SA was revoked since."""
        ids = [id for id, _ in sa.chain] or [sa.proven_by]
        if ids[0].startswith((f"{PSK}:", f"{KEY}:")):
            return False
        self._authority.rests_on(self.trust_rows)
        return any(self.trust.is_void(id) for id in ids)

    def _named(self, id_type: int, identity: bytes, certificate: Certificate) -> Member:
        """The member that IDi and certificate agree on (RFC 4945 section 3.1): letter by letter,
        since names of ours can differ in their case alone."""
        names = issuing.names_of(certificate)
        name = identity.decode("latin-1")
        if id_type == ike.ID_DER_ASN1_DN and identity == certificate.subject.public_bytes():
            name = issuing.common_name(certificate) or ""
            names = names or {name}
        elif id_type != ike.ID_FQDN:
            raise Untrusted("identity")
        if name not in names:
            raise Untrusted("identity")
        member = self._authority.find(name)
        if member is None or member.auth != CERT:
            raise Untrusted("member")
        return member

    def _fail(self, sa: IkeSA, name: bytes, reason: str) -> None:
        self._counters["authentication_failed"] += 1
        facts = {"member": shown(name), "address": str(host_of(sa.address)), "reason": reason}
        self._tell("authentication_failed", **facts)

    def _idr(self) -> bytes:
        """Always the same, whatever IDr was asked for (section 3.5)."""
        return ike.emit_id(ike.ID_FQDN, self.policy.identity.encode())
