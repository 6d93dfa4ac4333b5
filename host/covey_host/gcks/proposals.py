"""What a member offers: proposals for the IKE SA (RFC 7296 section 3.3), and SAg (RFC 9838).

A proposal is taken as a whole or not at all; within it each transform type is one choice.
"""

from dataclasses import dataclass

from covey import ike

from .download import kek_transforms, tek_transforms
from .policy import INBAND, Shape

_KNOWN_TYPES = {ike.ENCR, ike.PRF, ike.INTEG, ike.KE_METHOD, ike.KWA}
_KEY_BITS = (128, 256)
_KWK_BITS = {ike.KW_5649_128: 128, ike.KW_5649_256: 256}


@dataclass(frozen=True)
class Chosen:
    """The IKE SA's algorithms; all others are fixed."""

    answer: ike.Proposal  # for the SA payload of the response
    key_bits: int  # of AES-GCM
    kwa: int

    @property
    def kwk_bits(self) -> int:
        return _KWK_BITS[self.kwa]


def choose(
    proposals: list[ike.Proposal], spi_len: int = 0, least_kwk_bits: int = 0
) -> Chosen | None:
    """The first proposal that can be taken: its first cipher, and its strongest key wrap.

    spi_len: where new keys for an IKE SA are asked for, the peer's SPI stands in the proposal.
    least_kwk_bits: the new key wrap is not to be weaker than the old one.
    """
    for proposal in proposals:
        if len(proposal.spi) == spi_len and any(proposal.spi) == bool(spi_len):
            chosen = _chosen(proposal)
            if chosen is not None and chosen.kwk_bits >= least_kwk_bits:
                return chosen
    return None


def again(chosen: Chosen, spi: bytes) -> ike.Proposal:
    """An offer of what was chosen once, for new keys of that IKE SA."""
    return ike.Proposal(1, ike.IKE, spi, chosen.answer.transforms)


def covers(sag: list[ike.Proposal], shape: Shape) -> bool:
    """Whether a member that offers SAg can do what the group's policy asks.

    For the Rekey SA and for the Data-Security SA some proposal must hold every transform, and
    both must have the same Proposal Num. SPIs in SAg mean nothing. An inband group has no Rekey
    SA: what is said of one is not looked at, and its keys are wrapped by the IKE SA's own KWA.
    """
    wanted = {ike.ESP: tek_transforms(shape)}
    if shape.rekey != INBAND:
        wanted[ike.GIKE_UPDATE] = kek_transforms(shape)
    numbers = [
        {p.num for p in sag if p.protocol == protocol and _holds(p, transforms)}
        for protocol, transforms in wanted.items()
    ]
    return bool(set.intersection(*numbers))


def _chosen(proposal: ike.Proposal) -> Chosen | None:
    transforms = proposal.transforms
    if proposal.protocol != ike.IKE:
        return None
    if any(t.kind not in _KNOWN_TYPES or not _has_valid_key_length(t) for t in transforms):
        return None
    pair = _cipher_and_wrap(_usable(proposal, ike.ENCR), _usable(proposal, ike.KWA))
    prf = _with_id(_usable(proposal, ike.PRF), ike.PRF_HMAC_SHA2_256)
    method = _with_id(_usable(proposal, ike.KE_METHOD), ike.CURVE25519)
    integ = _with_id(_usable(proposal, ike.INTEG), ike.INTEG_NONE)
    if pair is None or prf is None or method is None:
        return None
    if proposal.of_kind(ike.INTEG) and integ is None:
        return None  # RFC 5282 section 8: with an AEAD there is no other integrity algorithm
    cipher, wrap = pair
    answer = [t for t in (cipher, prf, integ, method, wrap) if t is not None]
    return Chosen(
        ike.Proposal(proposal.num, ike.IKE, proposal.spi, answer), cipher.key_bits, wrap.id
    )


def _has_valid_key_length(transform: ike.Transform) -> bool:
    """AES says how long its key is, all others that are known don't (RFC 7296 section 3.3.5).
    Where this is wrong, the whole proposal is to be rejected."""
    if transform.kind == ike.ENCR:
        takes_one = transform.id in (ike.ENCR_AES_GCM_16, ike.ENCR_NULL_AUTH_AES_GMAC)
        return transform.key_bits is not None or not takes_one
    return transform.key_bits is None


def _cipher_and_wrap(ciphers, wraps) -> tuple[ike.Transform, ike.Transform] | None:
    """The key wrap is never weaker than the cipher: what it wraps could not be stronger."""
    wraps = sorted((w for w in wraps if w.id in _KWK_BITS), key=lambda w: -_KWK_BITS[w.id])
    for cipher in ciphers:
        if cipher.id == ike.ENCR_AES_GCM_16 and cipher.key_bits in _KEY_BITS:
            if wraps and _KWK_BITS[wraps[0].id] >= cipher.key_bits:
                return cipher, wraps[0]
    return None


def _usable(proposal: ike.Proposal, kind: int) -> list[ike.Transform]:
    return [t for t in proposal.of_kind(kind) if not t.unknown_attribute]


def _with_id(transforms: list[ike.Transform], wanted: int) -> ike.Transform | None:
    return next((t for t in transforms if t.id == wanted), None)


def _holds(proposal: ike.Proposal, wanted: list[ike.Transform]) -> bool:
    return all(any(_fits(t, w) for t in proposal.transforms) for w in wanted)


def _fits(offered: ike.Transform, wanted: ike.Transform) -> bool:
    """GCAUTH may be offered without saying which signature algorithms (section 4.3)."""
    same = (offered.kind, offered.id, offered.key_bits) == (
        wanted.kind,
        wanted.id,
        wanted.key_bits,
    )
    return same and not offered.unknown_attribute and offered.algorithm in (None, wanted.algorithm)
