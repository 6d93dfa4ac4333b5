"""GSA_REKEY messages (RFC 9838 section 2.4.1): one signed datagram for a whole group.

    HDR, SK{GSA, KD, D, AUTH}     new keys; D names the TEK that they replace
                                  (with newcomers, also keys of the key tree: MP)
    HDR, SK{GSA, KD, AUTH}        a Rekey SA whose keys not all members can find: see steps()
    HDR, SK{D, D, AUTH}           all keys go; who may come back registers again (section 2.4.3)

The IV is random: it must not repeat under a Rekey SA, and a counter in the store would repeat if
the store were put back to an earlier state.
"""

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from covey import ike, ikefrag
from covey.der import ECDSA_WITH_SHA256
from covey.gcm import IV_LEN

from . import download
from .epoch import Epoch, Parcel, Random, RekeySA, sent_over
from .keytree import Round
from .policy import GroupPolicy
from .sources import Told

# A DER signature has 70 to 72 octets and rarely fewer, and its length is part of what is signed:
# it is fixed before signing, and signing is repeated until it comes out (every second time).
_SIGNATURE_LEN = 71

_ESP_ALL = ike.Delete(ike.ESP, 4, [bytes(4)])
_REKEY_ALL = ike.Delete(ike.GIKE_UPDATE, 16, [bytes(16)])


class Rekeyer:
    """The site's signing key, and what it signs."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, random: Random):
        self.most_len: int | None = None  # octets of one datagram, where all can do fragments
        self._key = key
        self._random = random
        self.public_key = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def rekey(
        self,
        old: Epoch,
        new: Epoch,
        policy: GroupPolicy,
        *,
        atd_s: int,
        dtd_s: int,
        in_fragments: bool = False,
        over: RekeySA | None = None,
        gap_ms: int = 0,
        joins: Round | None = None,
        sources: Told | None = None,
    ) -> Parcel:
        """From the old epoch to the new one, over the old one's Rekey SA or one that came after.

        in_fragments: all members have negotiated fragmentation (section 2.4.1.2). joins: what
        they need besides where keys of the tree are replaced for newcomers. sources: what source
        authentication adds.
        """
        tree = (joins.tops, joins.wraps) if joins else ()
        sources = sources or Told()
        times = {"atd_s": atd_s, "dtd_s": dtd_s}
        over = over or old.rekey
        gone = ike.Delete(ike.ESP, 4, [old.tek_spi])
        payloads = [
            (ike.GSA, download.rekey_gsa(new, policy, sources.group, **times)),
            (ike.KD, download.rekey_kd(new, over.kwk, *tree, attributes=sources.members)),
            (ike.DELETE, ike.emit_delete(gone)),
        ]
        messages = self._sealed(over, payloads, self.most_len if in_fragments else None)
        marker = old.shape.has_marker
        return Parcel(messages, old.destination, sent_over(over), False, marker, gap_ms)

    def steps(
        self,
        old: Epoch,
        steps: list[list[Round]],
        sas: list[RekeySA],
        next_spi: bytes,
        policy: GroupPolicy,
        gaps_ms: tuple[int, int],
        *,
        in_fragments: bool = False,
    ) -> list[Parcel]:
        """What leads all but some to the last of these Rekey SAs: one step to each, in messages
        of which each member needs one.

        Not a word of new TEKs: that comes over the last one (RFC 9838 section 3.2.1). next_spi:
        of the Rekey SA after it. gaps_ms: before a step but the first, before a further message.
        """
        parcels: list[Parcel] = []
        spis = [sa.spi for sa in sas[1:]] + [next_spi]
        for over, sa, spi, step in zip([old.rekey, *sas], sas, spis, steps, strict=False):
            gap_ms = gaps_ms[0] if parcels else 0
            for place, one in enumerate(step):
                left = len(step) - 1 - place if len(step) > 1 else None
                payloads = [
                    (ike.GSA, download.round_gsa(old, sa, spi, policy, left)),
                    (ike.KD, download.round_kd(sa, one.tops, one.wraps)),
                ]
                messages = self._sealed(over, payloads, self.most_len if in_fragments else None)
                over = sent_over(over)
                where = old.destination, over, False, old.shape.has_marker, gap_ms
                parcels.append(Parcel(messages, *where))
                gap_ms = gaps_ms[1]
        return parcels

    def exclude(self, over: RekeySA, destination: tuple[str, int], marker: bool) -> Parcel:
        """Everybody out, over one Rekey SA. No keys inside; short enough for any network."""
        payloads = [(ike.DELETE, ike.emit_delete(d)) for d in (_ESP_ALL, _REKEY_ALL)]
        messages = self._sealed(over, payloads, None)
        return Parcel(messages, destination, sent_over(over), True, marker)

    def _sealed(
        self, over: RekeySA, payloads: list[tuple[int, bytes]], most_len: int | None
    ) -> tuple[bytes, ...]:
        head = over.spi[:8], over.spi[8:], ike.GSA_REKEY, ike.FLAG_I, over.next_message_id
        payloads = self._signed(head, payloads)
        datagrams = ikefrag.seal(over.context(), *head, payloads, self._next_iv, most_len)
        return tuple(map(bytes, datagrams))

    def _next_iv(self) -> bytes:
        return self._random(IV_LEN)

    def _signed(self, head: tuple, payloads: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """The payloads, and AUTH over A | P (section 2.4.1.1) behind them."""
        unsigned = [*payloads, _auth(bytes(_SIGNATURE_LEN))]
        inner = ike.emit_chain(unsigned)[1]
        signed = ike.emit_head(*head, unsigned, len(inner)) + inner  # lengths without IV, pad, ICV
        while True:
            signature = self._key.sign(bytes(signed), ec.ECDSA(hashes.SHA256()))
            if len(signature) == _SIGNATURE_LEN:
                return [*payloads, _auth(signature)]


def _auth(signature: bytes) -> tuple[int, bytes]:
    data = ike.emit_signature_auth(ECDSA_WITH_SHA256, signature)
    return ike.AUTH, ike.emit_auth(ike.AUTH_DIGITAL_SIGNATURE, data)
