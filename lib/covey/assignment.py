"""GSA and KD become SAs: policy checked, keys unwrapped, nothing installed yet.

A registration and a rekey bring the same two payloads (RFC 9838 sections 2.3.3, 2.4.1.4). Here
they are turned into what the member will install; whoever installs it can no longer fail for
the peer's fault, so that no half-changed group exists.
"""

from covey import der, ike, kd, keywrap, octets, p256
from covey.drops import (
    DROP_GSA,
    DROP_KD,
    DROP_KEY_PATH,
    DROP_KEY_PORTION,
    DROP_KEY_WRAP,
    DROP_POLICY,
    FormatError,
    need,
)
from covey.gsa import UNICAST, GroupWide
from covey.port import collect
from covey.sa import DataSA, RekeySA

_SALT = 4
_MOST_DATA_SAS = 4


class Terms:
    """What a rekey inherits: said at registration, or by the last policy that said it."""

    atd_s = 0
    dtd_s = 0
    silence = None  # (most seconds of the key server's, whether nothing is delivered then)
    sender_bits = None  # width of Sender-IDs in the IV; None: unknown to a receiver
    sender_form = None  # (index bits, bits), or None: Sender-IDs have no structure
    udp_port = None  # the udp carrier's port; None: IP protocol 50
    is_relayed = False  # the key server carries data, to and from us alone
    sender_ids = ()  # ours, as integers
    auth_key = None  # the key server's SubjectPublicKeyInfo, and
    verifier = None  # p256.Verifier of its signatures
    key_path = ()  # the Working Key Path, see keypath.py
    sources = None  # who may send, and how they prove it: see proofs.py
    generation = 0  # of the GSA, as we count: which SA is newer
    epoch = 0  # the same for people: the key server's count where it tells


class Assignment:
    """What a registration, a GSA_REKEY or a GSA_INBAND_REKEY brings: as it came, then what becomes
    of it, one generation of a group, ready to install. group.give_up() comes behind it in any
    case.
    """

    registering = False  # RFC 9838 section 2.3.3: it replaces all that was known before
    is_rekey = False  # a GSA_REKEY; else it came over an IKE SA
    sends = False  # whether this member is to be a sender
    goes_on = False  # of a registration: see keywork.take()
    turns = 0  # the same
    terms = Terms()  # from now on
    rekey_sa = None
    excludes = False  # whether its deletes leave nobody in the group
    has_news = False  # once it is installed: whether a data SA of it was not there yet

    def __init__(self, policy=None, keys=None, kwk=None, deletes=()):
        self.policy = policy  # gsa.GSA and
        self.keys = keys  # kd.KD, until they are worked out; None: it only deletes
        self.kwk = kwk  # the default KWK (GSK_w), a bytearray
        self.deletes = deletes  # ike.Delete
        self.data_sas = []
        self.next_spis = []  # ESP SPIs announced by GSA_NEXT_SPI, 4 octets each


def build(made, was, sender_slots):
    """Job: what becomes of what an Assignment brings, or a FormatError.

    was: the Terms so far, of which a rekey keeps what it doesn't say. Of a registration GCAUTH,
    AUTH_KEY and, beside data SAs, Sender-IDs are expected; GCAUTH may be in a GSA_INBAND_REKEY,
    which is built like a registration (section 2.4.2.1). sender_slots: how many senders a DataSA
    tells apart.
    """
    policy, keys = made.policy, made.keys
    made.terms = was
    if policy is None:
        need(not made.registering, DROP_POLICY)  # it is not for transport mode
        return
    yield
    keys.member = keys.member or kd.MemberBag()
    collect()  # keys stay: let them not lie scattered among what parsing has left
    yield
    made.terms = _terms(made, was)
    yield
    is_proven = False
    for sa_policy in policy.policies:
        for bag in keys.bags:
            if bag.protocol == sa_policy.protocol and bag.spi == sa_policy.spi:
                break
        else:
            raise FormatError(DROP_KD)
        if sa_policy.protocol == ike.GIKE_UPDATE:
            _check_authentication(sa_policy, made)
            made.rekey_sa = yield from _rekey_sa(sa_policy, bag, made)
        else:
            is_esp = sa_policy.protocol == ike.ESP  # else AH
            need(is_esp and len(made.data_sas) < _MOST_DATA_SAS, DROP_POLICY)
            yield from _data_sa(sa_policy, bag, made, sender_slots)
            made.next_spis.extend(sa_policy.next_spis)
            if ike.COVEY_SOURCE_AUTH in dict(sa_policy.attributes):
                is_proven = True
        yield
    need(len(keys.bags) == len(policy.policies), DROP_KD)  # a key for an SA without policy
    if is_proven:
        try:
            from covey.proving import build_job
        except ImportError:  # an image for a group without
            raise FormatError(DROP_POLICY)
        yield from build_job(made, was)
    elif made.data_sas:
        made.terms.sources = None
    made.policy = made.keys = None


def _terms(made, was):
    terms = Terms()
    policy, registering = made.policy, made.registering
    member = made.keys.member
    said = policy.group_wide or GroupWide()
    # A policy that is silent on a delay means none (section 4.4.3.1.1)
    last = said if policy.group_wide or registering else was
    terms.atd_s = last.atd_s or 0
    terms.dtd_s = last.dtd_s or 0
    terms.silence = last.silence
    before = terms if registering else was  # at a registration nothing is inherited
    terms.udp_port = said.udp_port or before.udp_port
    terms.is_relayed = before.is_relayed if said.delivery is None else said.delivery == UNICAST
    terms.sender_form = form = said.sender_id_form or before.sender_form
    terms.sender_bits = bits = said.sender_id_bits or before.sender_bits or (form and form[1])
    terms.key_path = before.key_path
    terms.sources = before.sources
    terms.sender_ids = before.sender_ids
    protocols = [sa_policy.protocol for sa_policy in policy.policies]
    has_data = protocols != [ike.GIKE_UPDATE]
    if has_data and made.sends:
        if registering:
            terms.sender_ids = tuple([int.from_bytes(value, "big") for value in member.sender_ids])
        need(terms.sender_ids, DROP_POLICY)  # section 2.4.1.4: it must register again
    for sender_id in terms.sender_ids:  # section 2.5.2: they must fit, too
        need(bits and bits <= 32 and not sender_id >> bits, DROP_POLICY)
    need(registering or not member.sender_ids, DROP_KD)  # MUST NOT be in a rekey (section 2.4.1)
    if ike.GIKE_UPDATE in protocols or not registering:
        terms.auth_key = member.auth_key or before.auth_key
    if terms.auth_key == was.auth_key:
        terms.verifier = was.verifier  # its tables are made
    elif terms.auth_key:
        terms.verifier = verifier_of(terms.auth_key)
    terms.generation = was.generation + 1
    terms.epoch = said.epoch or (terms.generation if has_data else was.epoch)
    return terms


def _check_authentication(policy, made):
    """Of a Rekey SA: what a registration has settled can't be settled otherwise by a rekey."""
    how = policy.transform(ike.GCAUTH)
    if how is not None or made.registering:
        need(not made.is_rekey, DROP_GSA)  # it never changes by rekey (4.4.2.1.1)
        # Implicit, any member could pose as the GCKS
        is_signed = how is not None and how.id == ike.GCAUTH_DIGITAL_SIGNATURE
        need(is_signed and how.algorithm == der.ECDSA_WITH_SHA256, DROP_POLICY)
    # No AUTH_KEY was ever told: nobody could be believed
    need(made.terms.verifier, DROP_KD if made.registering else DROP_POLICY)


def verifier_of(spki):
    """p256.Verifier of a SubjectPublicKeyInfo, or a FormatError."""
    try:
        return p256.Verifier(der.parse_spki(spki) or b"")
    except ValueError:
        raise FormatError(DROP_POLICY)


def _algorithms(policy, kind, ciphers, other=None):
    """(ID of the cipher, one of these; its key bits; ID of the transform of that kind).

    What must be there and what may be (section 4.4.2.1): also a transform of the other kind.
    """
    for one in policy.transforms:
        is_no_integrity = one.kind == ike.INTEG and one.id == ike.INTEG_NONE  # beside an AEAD
        is_known = one.kind in (ike.ENCR, kind, other) or is_no_integrity
        need(is_known and not one.unknown_attribute, DROP_POLICY)
    cipher = policy.transform(ike.ENCR)
    chosen = policy.transform(kind)
    need(cipher and chosen, DROP_GSA)
    need(cipher.id in ciphers and cipher.key_bits in (128, 256), DROP_POLICY)
    return cipher.id, cipher.key_bits, chosen.id


def _unwrap(bag, kwk, key_len):
    """Job: the SA_KEY that this member can open: KWK ID zero = under GSK_w."""
    for wrapped in bag.keys:
        if wrapped.kwk_id == kd.ZERO_ID:
            keymat = yield from keywrap.unwrap_job(kwk, wrapped.data, key_len)
            need(keymat, DROP_KEY_WRAP)
            return keymat
    raise FormatError(DROP_KEY_WRAP)


def _unwrap_rekey(policy, bag, kwk_len, key_len, made):
    """Job: the same of a Rekey SA, to which a key path may lead, that is part of what is made."""
    path = made.terms.key_path
    wrap_keys = made.keys.member.wrap_keys
    if not path and not wrap_keys:
        keymat = yield from _unwrap(bag, made.kwk, key_len)
        return keymat
    from covey import keypath

    yield
    found = yield from keypath.unwrap_job(bag.keys, wrap_keys, path, made.kwk, kwk_len, key_len)
    if found is None:
        lone = keypath.left_of(policy) is None
        raise FormatError(DROP_KEY_PATH if lone else DROP_KEY_PORTION)
    keymat, made.terms.key_path = found
    return keymat


def _rekey_sa(policy, bag, made):
    terms = made.terms
    _, bits, kwa = _algorithms(policy, ike.KWA, (ike.ENCR_AES_GCM_16,), ike.GCAUTH)
    kwk_len = ike.KWK_LEN.get(kwa, 0)
    need(kwk_len != 24 and kwk_len * 8 >= bits, DROP_POLICY)  # no board has AES-192
    place = _destination(policy, True)
    yield
    key_len = bits // 8 + _SALT + kwk_len
    keymat = yield from _unwrap_rekey(policy, bag, kwk_len, key_len, made)
    try:
        yield
        return RekeySA(
            policy.spi,
            keymat,
            kwa,
            bits,
            terms.verifier,
            policy.initial_message_id or 0,
            place,
            policy.lifetime_s,
            terms.generation,
        )
    finally:
        octets.wipe(keymat)


def _data_sa(policy, bag, made, sender_slots):
    """Job: one more of them."""
    terms = made.terms
    ciphers = ike.ENCR_AES_GCM_16, ike.ENCR_NULL_AUTH_AES_GMAC
    cipher, bits, numbers = _algorithms(policy, ike.SN, ciphers)
    # 64-bit numbers MUST NOT be used in a group
    is_narrow = numbers in (ike.SN_32_SEQUENTIAL, ike.SN_32_UNSPECIFIED)
    # RFC 4303 section 2.1: SPIs from 0 to 255 are nobody's to give
    need(is_narrow and any(policy.spi[:3]), DROP_POLICY)
    place = _destination(policy, False)
    source = _selector(policy.source)
    yield
    keymat = yield from _unwrap(bag, made.kwk, bits // 8 + _SALT)
    try:
        yield
        sa = DataSA(
            policy.spi,
            None,
            place,
            source,
            numbers,
            terms.sender_bits,
            terms.sender_form,
            policy.lifetime_s,
            terms.generation,
            sender_slots,
        )
        made.data_sas.append(sa)
        yield
        sa.take_key(keymat, cipher == ike.ENCR_NULL_AUTH_AES_GMAC)
    finally:
        octets.wipe(keymat)


def _destination(policy, is_single):
    """Its selector: of one IPv4 multicast address (section 4.4.2); is_single: of one port, too."""
    ts = policy.destination
    selector = _selector(ts)
    is_one = ts.start_addr == ts.end_addr and ts.start_addr[0] & 0xF0 == 0xE0
    need(is_one and (not is_single or 0 < ts.start_port == ts.end_port), DROP_POLICY)
    return selector


def _selector(ts):
    """ike.TrafficSelector → the tuple that an SA compares, of UDP, which is all that the inner
    packet can be.
    """
    is_udp = ts.kind == ike.TS_IPV4_ADDR_RANGE and ts.proto in (0, 17)
    need(is_udp and ts.start_port <= ts.end_port, DROP_POLICY)
    return ts.start_addr, ts.end_addr, ts.start_port, ts.end_port, ts.proto
