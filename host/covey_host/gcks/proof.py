"""Who is there: AUTH of a member is checked, and ours is made (RFC 7296 section 2.15)."""

import hmac
from collections import Counter
from collections.abc import Callable

from covey import ike

from .authority import PSK_LEN, Authority
from .epoch import Random
from .ikesa import IkeSA
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
    ):
        self.policy = policy
        self._authority = authority
        self._counters = counters
        self._tell = tell
        self._random = random

    def check(self, sa: IkeSA, exchange: int, parts: Parts) -> Payloads | None:
        """GSA_AUTH: the member is known and has its key, and this proves us in turn; None: no.

        An unknown identity, a wrong key, another method, no AUTH (EAP is wanted): all the same.
        """
        if exchange == ike.IKE_AUTH:  # this server makes no Child SAs: not our kind of peer
            return self._fail(sa, b"")
        idi = parts.needed(ike.IDi)
        parts.needed(ike.IDg)
        id_type, name = ike.parse_id(idi)
        auth = parts.one(ike.AUTH)
        method, proof = (0, b"") if auth is None else ike.parse_auth(auth)
        member = self._authority.find(name.decode("latin-1")) if id_type in NAMED else None
        psk = self._random(PSK_LEN) if member is None else member.psk  # the same work for both
        wanted = ike.psk_auth(psk, sa.keys.sk_pi, sa.request, sa.nonce_r, idi)
        is_proven = hmac.compare_digest(proof, wanted)
        if member is None or method != ike.AUTH_SHARED_KEY or not is_proven:
            return self._fail(sa, name)
        sa.identity = member.name
        return self._ours(sa, member.psk)

    def _fail(self, sa: IkeSA, name: bytes) -> None:
        self._counters["authentication_failed"] += 1
        address = str(host_of(sa.address))
        self._tell("authentication_failed", member=shown(name), address=address)

    def _ours(self, sa: IkeSA, psk: bytes) -> Payloads:
        """IDr, always, whatever IDr was asked for (section 3.5), and AUTH."""
        idr = ike.emit_id(ike.ID_FQDN, self.policy.identity.encode())
        auth = ike.psk_auth(psk, sa.keys.sk_pr, sa.response, sa.nonce_i, idr)
        return [(ike.IDr, idr), (ike.AUTH, ike.emit_auth(ike.AUTH_SHARED_KEY, auth))]
