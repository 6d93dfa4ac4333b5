"""New keys for an IKE SA, from either side (RFC 7296 sections 1.3.2, 2.8, 2.18, 2.25).

    HDR, SK{SA, Ni, KEi} -->     <-- HDR, SK{SA, Nr, KEr}     over the old one; SPIs in the SAs

Who asks is the original initiator of the new IKE SA and deletes the old one. Where both ask at
once there are two new ones for a while: the one made with the lowest of the four nonces goes,
deleted by whoever asked for it (section 2.8.2). No state is kept here.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from covey import ike
from covey.drops import DROP_IKE_KE, DROP_IKE_PROPOSAL, FormatError
from covey.job import finish

from . import proposals
from .epoch import Random
from .ikesa import OPEN, IkeSA
from .inband import Told
from .parts import Parts, Payloads, notify

_NONCE_LEN = 32
_SPI_LEN = 8


@dataclass(frozen=True)
class Asked:
    """What our request leaves behind until its answer comes."""

    spi: bytes
    nonce: bytes
    private: X25519PrivateKey = field(repr=False)
    offer: ike.Proposal


@dataclass(frozen=True)
class Rival:
    """The IKE SA that the peer made while our own request was under way."""

    sa: IkeSA
    lowest: bytes  # of its two nonces
    told: dict[str, Told]  # what the member holds: still known when the peer has deleted `sa`


class Refused(Exception):
    """By the payload in `answer`; the IKE SA stays. `reason` is counted."""

    def __init__(self, answer: tuple[int, bytes], reason: str):
        super().__init__(reason)
        self.answer, self.reason = answer, reason


def check_purpose(parts: Parts) -> list[ike.Proposal]:
    """What the peer offers for a new IKE SA. Refused where it wants something else."""
    child = next((n for n in parts.notifies if n.type == ike.REKEY_SA), None)
    if child is not None:  # section 2.25.1: we have no Child SAs
        gone = ike.Notify(child.protocol, child.spi, ike.CHILD_SA_NOT_FOUND, b"")
        raise Refused((ike.NOTIFY, ike.emit_notify(gone)), "child_sa_not_found")
    offered = ike.parse_sa(parts.needed(ike.SA))
    if all(p.protocol != ike.IKE for p in offered):  # section 4: what a minimal responder says
        raise Refused(notify(ike.NO_ADDITIONAL_SAS), "no_additional_sas")
    return offered


def respond(old: IkeSA, parts: Parts, spi: bytes, random: Random) -> tuple[IkeSA, bytes, Payloads]:
    """The peer asks: the new IKE SA, the lower of its nonces, our answer."""
    offered = check_purpose(parts)
    method, value = ike.parse_ke(parts.needed(ike.KE))
    nonce_i = ike.check_nonce(parts.needed(ike.NONCE))
    chosen = proposals.choose(offered, _SPI_LEN, old.chosen.kwk_bits)
    if chosen is None:
        raise Refused(notify(ike.NO_PROPOSAL_CHOSEN), "no_proposal_chosen")
    if method != ike.CURVE25519:
        wanted = ike.CURVE25519.to_bytes(2)
        raise Refused(notify(ike.INVALID_KE_PAYLOAD, wanted), "invalid_ke_payload")
    peer_spi = chosen.answer.spi
    private = X25519PrivateKey.from_private_bytes(random(32))
    shared = agree(private, value)
    nonce_r = random(_NONCE_LEN)
    bits, sk_d = chosen.key_bits, bytes(old.keys.sk_d)
    derived = finish(ike.derive(nonce_i, nonce_r, shared, peer_spi, spi, bits, sk_d))
    sa = _heir(old, IkeSA(peer_spi, spi, chosen, ike.Keys(*derived), random))
    chosen.answer.spi = spi
    answer = [
        (ike.SA, ike.emit_sa([chosen.answer])),
        (ike.NONCE, nonce_r),
        (ike.KE, ike.emit_ke(ike.CURVE25519, private.public_key().public_bytes_raw())),
    ]
    return sa, min(nonce_i, nonce_r), answer


def ask(old: IkeSA, spi: bytes, random: Random) -> tuple[Payloads, Asked]:
    """We ask: the same algorithms once more."""
    offer = proposals.again(old.chosen, spi)
    private = X25519PrivateKey.from_private_bytes(random(32))
    asked = Asked(spi, random(_NONCE_LEN), private, offer)
    payloads = [
        (ike.SA, ike.emit_sa([offer])),
        (ike.NONCE, asked.nonce),
        (ike.KE, ike.emit_ke(ike.CURVE25519, private.public_key().public_bytes_raw())),
    ]
    return payloads, asked


def conclude(old: IkeSA, asked: Asked, parts: Parts, random: Random) -> tuple[IkeSA, bytes]:
    """The answer to it: the new IKE SA, the lower of its nonces. FormatError: it is none."""
    found = ike.parse_sa(parts.needed(ike.SA))
    chosen = proposals.choose(found, _SPI_LEN, old.chosen.kwk_bits)
    method, value = ike.parse_ke(parts.needed(ike.KE))
    nonce_r = ike.check_nonce(parts.needed(ike.NONCE))
    if len(found) != 1 or chosen is None or found[0].num != asked.offer.num:
        raise FormatError(DROP_IKE_PROPOSAL)
    if _all(found[0]) != _all(asked.offer):
        raise FormatError(DROP_IKE_PROPOSAL)
    if method != ike.CURVE25519:
        raise FormatError(DROP_IKE_KE)
    shared = agree(asked.private, value)
    spis, sk_d = (asked.spi, found[0].spi), bytes(old.keys.sk_d)
    derived = finish(ike.derive(asked.nonce, nonce_r, shared, *spis, chosen.key_bits, sk_d))
    sa = IkeSA(*spis, chosen, ike.Keys(*derived), random, is_initiator=True)
    return _heir(old, sa), min(asked.nonce, nonce_r)


def agree(private: X25519PrivateKey, value: bytes) -> bytearray:
    """The shared secret, to be wiped; all-zero is refused (RFC 7748 section 6.1)."""
    try:
        return bytearray(private.exchange(X25519PublicKey.from_public_bytes(value)))
    except ValueError:
        raise FormatError(DROP_IKE_KE) from None


def _all(proposal: ike.Proposal) -> list[tuple[int, int, int]]:
    """Its transforms in order; an INTEG of NONE is as good as none (RFC 5282 section 8)."""
    none = ike.INTEG, ike.INTEG_NONE
    found = [t for t in proposal.transforms if (t.kind, t.id) != none]
    return sorted((t.kind, t.id, t.key_bits or 0) for t in found)


def _heir(old: IkeSA, new: IkeSA) -> IkeSA:
    """What an IKE SA hands on; Message IDs begin anew, in both directions with 0."""
    new.identity, new.address = old.identity, old.address
    new.proven_by, new.is_mixed = old.proven_by, old.is_mixed
    new.chain = old.chain
    new.has_fragments, new.most_len = old.has_fragments, old.most_len
    new.has_redirect, new.is_redirected = old.has_redirect, old.is_redirected
    new.told, new.tell_ms = dict(old.told), old.tell_ms
    new.registered = old.registered
    new.heard_ms, new.used_ms = old.heard_ms, old.used_ms
    new.next_request = 0
    new.state = OPEN
    return new
