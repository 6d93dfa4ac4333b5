"""What a member is given: the GSA and KD payloads of an epoch (RFC 9838 sections 4.4 and 4.5).

Order as in the RFC's figures: Rekey SA, Data-Security SA, group-wide policy; the same for keys,
the member's own bag last. A newcomer gets the current TEK only: what was sent under the one before
is none of its business, and senders go over to the current one within ATD.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from covey import gsa, ike
from covey.der import ECDSA_WITH_SHA256

from . import sources
from .epoch import Epoch, RekeySA, kwa_for
from .keytree import Node, Wrap
from .policy import INBAND, STOP, GroupPolicy, Shape
from .sources import Attribute

_UDP = 17
_IPV4 = ike.TS_IPV4_ADDR_RANGE
_ANY_PORT = (0, 0xFFFF)
_ANY_ADDRESS = (bytes(4), b"\xff\xff\xff\xff")
_KEY_ID = struct.Struct(">I")
_SENDER_ID = struct.Struct(">I")  # the RFC names no size: four octets, one value an attribute


def registration_gsa(
    epoch: Epoch,
    policy: GroupPolicy,
    *,
    age_s: int,
    atd_s: int,
    dtd_s: int,
    is_sender: bool,
    attributes: Sequence[Attribute] = (),
    relayed: bool = False,
) -> bytes:
    """For one member, age_s after the epoch began; atd_s: what is left of ATD then. attributes:
    of sources.of_group(). relayed: its delivery is unicast."""
    lifetime_s = max(1, policy.lifetime_s - age_s)
    rekey_lifetime_s = max(1, policy.rekey_lifetime_s - age_s)
    wide = _group_wide(epoch, policy, atd_s, dtd_s, attributes)
    if epoch.shape.private_attributes:
        wide.report_s = policy.report_interval_s or None
    if is_sender:
        wide.sender_id_bits = epoch.shape.sender_id_bits
    policies = [
        _kek(epoch, kek_transforms(epoch.shape), rekey_lifetime_s),
        _tek(epoch, lifetime_s),
    ]
    if relayed:
        wide.delivery = gsa.UNICAST
    if relayed or epoch.shape.rekey == INBAND:
        policies = [_inband_tek(epoch)]
    return bytes(gsa.emit_gsa(gsa.GSA(policies, wide)))


class SameGSA:
    """registration_gsa() as it was for the member before, where this one is told the same: of a
    plant that powers up, all that come within a second are."""

    def __init__(self):
        self._made: tuple[tuple, bytes] | None = None

    def of(
        self,
        epoch: Epoch,
        policy: GroupPolicy,
        attributes: Sequence[Attribute],
        how: dict[str, int | bool],
    ) -> bytes:
        """how: the other arguments."""
        what = epoch, policy, tuple(attributes), tuple(how.values())
        if self._made is None or self._made[0] != what:
            made = registration_gsa(epoch, policy, attributes=attributes, **how)
            self._made = what, made
        return self._made[1]


def registration_kd(
    epoch: Epoch,
    kwk: bytes,
    public_key: bytes | None,
    sender_ids: Sequence[int],
    path: Sequence[Node] = (),
    attributes: Sequence[Attribute] = (),
    *,
    relayed: bool = False,
) -> bytes:
    """kwk: GSK_w of the IKE SA; public_key: DER SubjectPublicKeyInfo, not for inband groups;
    path: the member's keys in the key tree, the top first; attributes: sources.of_member();
    relayed: as in registration_gsa()."""
    wrap_keys = []
    if relayed or epoch.shape.rekey == INBAND:
        bags, public_key = [_tek_bag(epoch, kwk)], None
    elif path:
        bags = [_rekey_bag(epoch.rekey, path[:1]), _tek_bag(epoch, kwk)]
        wraps = [Wrap(node, under) for node, under in pairwise(path)]
        wrap_keys = [*map(_wrapped, wraps), _wrapped_by(kwk, path[-1])]
    else:
        bags = _key_bags(epoch, kwk)
    member = gsa.MemberBag(wrap_keys, public_key, map(_SENDER_ID.pack, sender_ids), attributes)
    is_empty = public_key is None and not member.sender_ids
    return bytes(gsa.emit_kd(gsa.KD(bags, None if is_empty else member)))


def rekey_gsa(
    epoch: Epoch,
    policy: GroupPolicy,
    attributes: Sequence[Attribute] = (),
    *,
    atd_s: int,
    dtd_s: int,
) -> bytes:
    """For all members, at the moment the epoch begins. attributes: of sources.of_group()."""
    transforms = [t for t in kek_transforms(epoch.shape) if t.kind != ike.GCAUTH]
    policies = [
        _kek(epoch, transforms, policy.rekey_lifetime_s),
        _tek(epoch, policy.lifetime_s),
    ]
    wide = _group_wide(epoch, policy, atd_s, dtd_s, attributes)
    return bytes(gsa.emit_gsa(gsa.GSA(policies, wide)))


def rekey_kd(
    epoch: Epoch,
    kwk: bytes,
    tops: Sequence[Node] = (),
    wraps: Sequence[Wrap] = (),
    attributes: Sequence[Attribute] = (),
) -> bytes:
    """kwk: GSK_w of the Rekey SA over which this goes. tops, wraps: where the key tree changes,
    too, as in round_kd(). attributes: of sources.of_senders()."""
    has_bag = wraps or attributes
    member = gsa.MemberBag(map(_wrapped, wraps), attributes=attributes) if has_bag else None
    if not tops:
        return bytes(gsa.emit_kd(gsa.KD(_key_bags(epoch, kwk), member)))
    bags = [_rekey_bag(epoch.rekey, tops), _tek_bag(epoch, kwk)]
    return bytes(gsa.emit_kd(gsa.KD(bags, member)))


def round_gsa(
    epoch: Epoch, rekey: RekeySA, next_spi: bytes, policy: GroupPolicy, left: int | None = None
) -> bytes:
    """Another Rekey SA and nothing besides: what the group has otherwise is as it was. left: how
    many messages of this step come behind this one; None where it is the only one."""
    transforms = [t for t in kek_transforms(epoch.shape) if t.kind != ike.GCAUTH]
    between = replace(epoch, rekey=rekey, next_rekey_spi=next_spi)
    kek = _kek(between, transforms, policy.rekey_lifetime_s)
    if left is not None:
        kek.attributes.append((gsa.COVEY_PORTIONS, left))
    return bytes(gsa.emit_gsa(gsa.GSA([kek])))


def round_kd(rekey: RekeySA, tops: Sequence[Node], wraps: Sequence[Wrap]) -> bytes:
    """Its keys under each of the tops, and the way there (RFC 9838 appendix A)."""
    member = gsa.MemberBag(map(_wrapped, wraps)) if wraps else None
    return bytes(gsa.emit_kd(gsa.KD([_rekey_bag(rekey, tops)], member)))


def kek_transforms(shape: Shape) -> list[ike.Transform]:
    """Of the Rekey SA, as registration says it; a rekey leaves GCAUTH out (section 4.4.2.1.1)."""
    return [
        ike.Transform(ike.ENCR, ike.ENCR_AES_GCM_16, shape.key_bits),
        ike.Transform(ike.KWA, kwa_for(shape.key_bits)),
        ike.Transform(ike.GCAUTH, ike.GCAUTH_DIGITAL_SIGNATURE, algorithm=ECDSA_WITH_SHA256),
    ]


def tek_transforms(shape: Shape) -> list[ike.Transform]:
    """Of the Data-Security SA. Where several senders share it, numbers are unspecified.

    AES-GMAC is ESP with a cipher that encrypts nothing (RFC 4543 section 7), not one of AH.
    """
    cipher = ike.ENCR_NULL_AUTH_AES_GMAC if shape.integrity_only else ike.ENCR_AES_GCM_16
    numbers = ike.SN_32_SEQUENTIAL if shape.single_sender else ike.SN_32_UNSPECIFIED
    return [
        ike.Transform(ike.ENCR, cipher, shape.key_bits),
        ike.Transform(ike.SN, numbers),
    ]


def _kek(epoch: Epoch, transforms: list[ike.Transform], lifetime_s: int) -> gsa.SAPolicy:
    return gsa.SAPolicy(
        ike.GIKE_UPDATE,
        epoch.rekey.spi,
        _anyone(),
        _group(epoch.shape, epoch.shape.carrier_port),
        transforms,
        lifetime_s,
        epoch.rekey.next_message_id or None,  # section 4.4.2.2.2: left out where it is zero
        [epoch.next_rekey_spi],
    )


def _inband_tek(epoch: Epoch) -> gsa.SAPolicy:
    """Without what belongs to multicast rekeys: a lifetime and the next SPI (section 4.4.2.2)."""
    policy = _tek(epoch, 1)
    policy.lifetime_s, policy.next_spis = None, []
    return policy


def _tek(epoch: Epoch, lifetime_s: int) -> gsa.SAPolicy:
    return gsa.SAPolicy(
        ike.ESP,
        epoch.tek_spi,
        _anyone(),
        _group(epoch.shape, epoch.shape.port),
        tek_transforms(epoch.shape),
        lifetime_s,
        next_spis=[epoch.next_tek_spi],
        attributes=sources.of_tek(epoch),
    )


def _group_wide(
    epoch: Epoch,
    policy: GroupPolicy,
    atd_s: int,
    dtd_s: int,
    attributes: Sequence[Attribute] = (),
) -> gsa.GroupWide:
    shape = epoch.shape
    if not shape.private_attributes:
        return gsa.GroupWide(atd_s, dtd_s)
    return gsa.GroupWide(
        atd_s,
        dtd_s,
        udp_port=shape.carrier_port if shape.carrier == "udp" else None,
        sender_id_form=(shape.index_bits, shape.sender_id_bits),
        epoch=epoch.number,
        silence=(policy.max_silence_s, policy.on_silence == STOP)
        if policy.max_silence_s
        else None,
        attributes=attributes,
    )


def _key_bags(epoch: Epoch, kwk: bytes) -> list[gsa.KeyBag]:
    return [
        _key_bag(ike.GIKE_UPDATE, epoch.rekey.spi, kwk, epoch.rekey.keymat),
        _tek_bag(epoch, kwk),
    ]


def _rekey_bag(rekey: RekeySA, tops: Sequence[Node]) -> gsa.KeyBag:
    sa_keys = [_wrapped(Wrap(Node(0, rekey.keymat), top)) for top in tops]
    return gsa.KeyBag(ike.GIKE_UPDATE, rekey.spi, sa_keys)


def _wrapped(wrap: Wrap) -> gsa.WrappedKey:
    node, under = wrap.node, wrap.under
    data = aes_key_wrap_with_padding(bytes(under.key), bytes(node.key))
    return gsa.WrappedKey(_KEY_ID.pack(node.key_id), _KEY_ID.pack(under.key_id), data)


def _wrapped_by(kwk: bytes, node: Node) -> gsa.WrappedKey:
    """Under the default KWK."""
    return _wrapped(Wrap(node, Node(0, kwk)))


def _tek_bag(epoch: Epoch, kwk: bytes) -> gsa.KeyBag:
    return _key_bag(ike.ESP, epoch.tek_spi, kwk, epoch.tek_keymat)


def _key_bag(protocol: int, spi: bytes, kwk: bytes, keymat: bytes) -> gsa.KeyBag:
    return gsa.KeyBag(protocol, spi, [_wrapped_by(kwk, Node(0, keymat))])


def _anyone() -> ike.TrafficSelector:
    """Any source: senders are many, and the key server may answer from several addresses."""
    return ike.TrafficSelector(_IPV4, _UDP, *_ANY_PORT, *_ANY_ADDRESS)


def _group(shape: Shape, port: int) -> ike.TrafficSelector:
    address = socket.inet_aton(shape.address)
    return ike.TrafficSelector(_IPV4, _UDP, port, port, address, address)
