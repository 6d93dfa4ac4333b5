"""Post-quantum preshared keys at the key server (RFC 8784): whose key was mixed in, and whether.

    IKE_SA_INIT  N(USE_PPK) is answered by N(USE_PPK)
    GSA_AUTH     HDR, SK{..., AUTH, N(PPK_IDENTITY), [N(NO_PPK_AUTH)]} --> <-- ..., N(PPK_IDENTITY)

A PPK is one member's, and its PPK_ID is that member's name. So it is found before anybody has
proven anything, and AUTH under it proves that the peer has it. What is decided is the table of
section 3:

    the peer names one  | we have it | NO_PPK_AUTH | the member may do without | then
    yes                 | yes        | any         | any                       | it is used
    yes                 | no         | no          | any                       | no
    yes                 | no         | yes         | yes                       | IKEv2 as ever
    no, with USE_PPK    | yes        |             | any                       | no
    no, with USE_PPK    | no         |             | any                       | IKEv2 as ever
    no, without         | any        |             | yes                       | IKEv2 as ever
    any, and it is not used          |             | no                        | no

Who said USE_PPK, was answered so and names none has not heard the answer: somebody has taken it
out on the way, to have the group's keys sent under X25519 alone.
"""

from covey import ike
from covey.prf import prf_plus

from .authority import PPK_LEN, Authority, Member
from .epoch import Random
from .ikesa import IkeSA
from .parts import Parts, Payloads, notify

_FIXED = b"\x02"  # PPK_ID_FIXED, section 5.1


def answer(parts: Parts) -> Payloads:
    """What IKE_SA_INIT says of it: who asks is known later, so everybody who asks hears yes."""
    said = any(n.type == ike.USE_PPK for n in parts.notifies)
    return [notify(ike.USE_PPK)] if said else []


class Mixing:
    """What a GSA_AUTH says of a PPK; sk_pi and proof are what its AUTH is to be checked by."""

    def __init__(
        self, sa: IkeSA, parts: Parts, proof: bytes, authority: Authority, random: Random
    ):
        self._sa = sa
        self._owner: Member | None = None  # whose PPK is used
        self.is_lost = False  # one is named that we don't have, and there is no way without
        self.sk_pi, self.proof = bytes(sa.keys.sk_pi), proof
        named = _data(parts, ike.PPK_IDENTITY) if sa.has_ppk else None
        self._is_unnamed = sa.has_ppk and named is None
        if named is None:
            return
        owner = None
        if named[:1] == _FIXED:
            owner = authority.find(named[1:].decode("latin-1"))
        plain = _data(parts, ike.NO_PPK_AUTH)
        if owner is not None and owner.ppk:
            self._owner = owner
            self.sk_pi = _mixed(owner.ppk, self.sk_pi)
        elif plain is not None:
            self.proof = plain
        else:  # the same work
            self.is_lost = True
            self.sk_pi = _mixed(random(PPK_LEN), self.sk_pi)

    def suits(self, member: Member) -> bool:
        """Whether that will do for the member who has proven itself."""
        if self._owner is None:
            return not member.ppk or member.is_ppk_optional and not self._is_unnamed
        return self._owner.name == member.name

    def settle(self) -> Payloads:
        """It is used from now on, if it is: what the answer says of it."""
        if self._owner is None:
            return []
        self._sa.mix(lambda key: _mixed(self._owner.ppk, key))
        return [notify(ike.PPK_IDENTITY)]


def _mixed(ppk: bytes, key: bytes) -> bytes:
    return bytes(prf_plus(ppk, bytes(key), len(key)))


def _data(parts: Parts, type: int) -> bytes | None:
    return next((n.data for n in parts.notifies if n.type == type), None)
