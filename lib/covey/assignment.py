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
)
from covey.port import collect
from covey.sa import DataSA, RekeySA, new_context, new_senders

# Transform types a policy may hold: kind → mandatory (RFC 9838 section 4.4.2.1). GCAUTH is
# asked for separately: it comes at registration and never in a rekey.
_REKEY_TYPES = {ike.ENCR: True, ike.INTEG: False, ike.KWA: True, ike.GCAUTH: False}
_ESP_TYPES = {ike.ENCR: True, ike.INTEG: False, ike.SN: True}
_SALT = 4
_MOST_DATA_SAS = 4
_UNICAST = 1  # of COVEY_DELIVERY, as gsa.py has it
_ANY = (b"\0\0\0\0", b"\xff\xff\xff\xff", 0, 65535, 0)  # a selector


class Terms:
    """What a rekey inherits: said at registration, or by the last policy that said it."""

    silence = None  # (most seconds of the key server's, whether nothing is delivered then)

    def __init__(self):
        self.atd_s = 0
        self.dtd_s = 0
        self.sender_bits = None  # width of Sender-IDs in the IV; None: unknown to a receiver
        self.sender_form = None  # (index bits, bits), or None: Sender-IDs have no structure
        self.udp_port = None  # the udp carrier's port; None: IP protocol 50
        self.is_relayed = False  # the key server carries data, to and from us alone
        self.sender_ids = ()  # ours, as integers
        self.auth_key = None  # the key server's SubjectPublicKeyInfo, and
        self.verifier = None  # p256.Verifier of its signatures
        self.key_path = ()  # the Working Key Path, see keypath.py
        self.sources = None  # who may send, and how they prove it: see proofs.py
        self.generation = 0  # of the GSA, as we count: which SA is newer
        self.epoch = 0  # the same for people: the key server's count where it tells


class Assignment:
    """One generation of a group, ready to install."""

    def __init__(self):
        self.terms = Terms()
        self.rekey_sa = None
        self.data_sas = []
        self.next_spis = []  # ESP SPIs announced by GSA_NEXT_SPI, 4 octets each
        self.deletes = []  # ike.Delete
        self.excludes = False  # whether they leave nobody in the group
        self.new_keys = []  # of the Working Key Path
        self.new_sources = None  # proofs.Sources that only this one knows
        self.goes_on = False  # of a registration: see keywork.take()
        self.turns = 0  # the same
        self.has_news = False  # once it is installed: whether a data SA of it was not there yet

    def wipe(self, was):
        """Of an assignment that is given up: nothing of it is in use. was: the Terms in force."""
        for key in self.new_keys:
            octets.wipe(key)
        for sa in self.data_sas:
            sa.wipe()
        if self.rekey_sa:
            self.rekey_sa.wipe()
        self.give_up_sources(was)

    def give_up_sources(self, terms):
        """What is not in use under these Terms is wiped. Takes no heap."""
        made, self.new_sources = self.new_sources, None
        if made is not None and made is not terms.sources:
            made.release(terms.sources)


def build(policy, keys, kwk, was, registering, sending, sender_slots, is_inband=False):
    """Job: gsa.GSA, kd.KD and the default KWK (GSK_w) → Assignment, or a FormatError.

    was: the Terms so far, of which a rekey keeps what it doesn't say. registering: GCAUTH,
    AUTH_KEY and, beside data SAs, Sender-IDs are expected. sending: this member asked to be a
    sender. sender_slots: how many senders a DataSA tells apart. is_inband: GCAUTH may be there, as
    a GSA_INBAND_REKEY is built like a registration (section 2.4.2.1).
    """
    made = Assignment()
    is_whole = authenticated = False
    try:
        yield
        collect()  # keys stay: let them not lie scattered among what parsing has left
        yield
        made.terms = _terms(policy, keys, was, registering, sending)
        yield
        for sa_policy in policy.policies:
            bag = _bag_of(keys, sa_policy)
            if sa_policy.protocol == ike.GIKE_UPDATE:
                if made.rekey_sa:
                    raise FormatError(DROP_GSA)
                _check_authentication(sa_policy, registering, is_inband, made.terms)
                wrap_keys = keys.member.wrap_keys if keys.member else ()
                made.rekey_sa = yield from _rekey_sa(sa_policy, bag, wrap_keys, kwk, made)
            elif sa_policy.protocol == ike.ESP:
                if len(made.data_sas) == _MOST_DATA_SAS:
                    raise FormatError(DROP_POLICY)
                sa = yield from _data_sa(sa_policy, bag, kwk, made.terms, sender_slots)
                made.data_sas.append(sa)
                made.next_spis.extend(sa_policy.next_spis)
                authenticated = authenticated or _proves_sources(sa_policy)
            else:
                raise FormatError(DROP_POLICY)  # AH
            yield
        if len(keys.bags) != len(policy.policies):
            raise FormatError(DROP_KD)  # a key for an SA that has no policy
        if authenticated:
            yield from _sources(policy, keys.member, kwk if registering else None, was, made)
        elif made.data_sas:
            made.terms.sources = None
        is_whole = True
        return made
    finally:
        if not is_whole:  # refused, or the job was dropped
            made.wipe(was)


def _proves_sources(policy):
    """Whether what is sent under this SA proves who sent it (COVEY_SOURCE_AUTH)."""
    for kind, _ in policy.attributes:
        if kind == ike.COVEY_SOURCE_AUTH:
            return True
    return False


def _sources(policy, bag, kwk, was, made):
    try:
        from covey import sources
    except ImportError:  # an image for a group without
        raise FormatError(DROP_POLICY)
    terms = made.terms
    esp = [p for p in policy.policies if p.protocol == ike.ESP]
    build_job = _builder(sources.mode_of(esp[0].attributes), sources)
    yield
    made.new_sources, each = yield from build_job(esp, policy.group_wide, bag, kwk, was, terms)
    for i in range(len(each)):
        made.data_sas[i].auth = each[i]  # which wipes it, from now on
    terms.sources = made.new_sources
    for sa in made.data_sas:
        sources.enlist(sa, terms.sources.rows)


def _builder(mode, sources):
    """What makes the proofs of a mode."""
    try:
        if mode == sources.MACS:
            from covey import proofs

            return proofs.build_job
        if mode == sources.TESLA:
            from covey import timed

            return timed.build_job
        if mode == sources.SIGNED:
            from covey import vouched

            return vouched.build_job
    except ImportError:  # an image for a group without this one
        pass
    raise FormatError(DROP_POLICY)


def nothing_new(was):
    """The Assignment of a message that only deletes."""
    made = Assignment()
    made.terms = was
    return made


def _terms(policy, keys, was, registering, sending):
    terms = Terms()
    said = policy.group_wide
    if said or registering:  # a policy that is silent on a delay means none (section 4.4.3.1.1)
        terms.atd_s = said and said.atd_s or 0
        terms.dtd_s = said and said.dtd_s or 0
    else:
        terms.atd_s, terms.dtd_s = was.atd_s, was.dtd_s
    silence = said and said.silence if said or registering else was.silence
    if silence:
        terms.silence = silence
    terms.udp_port = said and said.udp_port or (None if registering else was.udp_port)
    delivery = said and said.delivery
    if delivery is None and not registering:
        terms.is_relayed = was.is_relayed
    else:
        terms.is_relayed = delivery == _UNICAST
    form = said and said.sender_id_form or (None if registering else was.sender_form)
    terms.sender_form = form
    bits = said and said.sender_id_bits or (None if registering else was.sender_bits)
    terms.sender_bits = bits or (form and form[1])
    member = keys.member
    has_data = any([p.protocol != ike.GIKE_UPDATE for p in policy.policies])
    if registering:
        terms.auth_key = _auth_key(policy, member)
        if sending and has_data:
            terms.sender_ids = _sender_ids(member, terms.sender_bits)
    else:
        terms.sender_ids = was.sender_ids
        terms.key_path = was.key_path
        terms.sources = was.sources
        if sending and has_data and not terms.sender_ids:
            raise FormatError(DROP_POLICY)  # section 2.4.1.4: the GM must register again
        for sender_id in terms.sender_ids:
            _check_width(sender_id, terms.sender_bits)
        terms.auth_key = member and member.auth_key or was.auth_key
        if member and member.sender_ids:  # MUST NOT be in a rekey (section 2.4.1)
            raise FormatError(DROP_KD)
    if terms.auth_key == was.auth_key:
        terms.verifier = was.verifier  # its tables are made
    elif terms.auth_key:
        terms.verifier = _verifier(terms.auth_key)
    terms.generation = was.generation + 1
    terms.epoch = said and said.epoch or (terms.generation if has_data else was.epoch)
    return terms


def _sender_ids(member, bits):
    if not member or not member.sender_ids:
        raise FormatError(DROP_POLICY)
    ids = tuple([int.from_bytes(value, "big") for value in member.sender_ids])
    for sender_id in ids:
        _check_width(sender_id, bits)
    return ids


def _check_width(sender_id, bits):
    """Section 2.5.2: it must fit, else it is fatal and the GM registers again."""
    if not bits or bits > 32 or sender_id >> bits:
        raise FormatError(DROP_POLICY)


def _auth_key(policy, member):
    """AUTH_KEY, which must be there if the group has a Rekey SA; None where it has none."""
    for sa_policy in policy.policies:
        if sa_policy.protocol == ike.GIKE_UPDATE:
            _check_gcauth(_only(sa_policy.transforms, ike.GCAUTH))
            if not member or not member.auth_key:
                raise FormatError(DROP_KD)
            return member.auth_key
    return None


def _check_gcauth(how):
    if how is None or how.id != ike.GCAUTH_DIGITAL_SIGNATURE:
        raise FormatError(DROP_POLICY)  # implicit: any member could pose as the GCKS
    if how.algorithm != der.ECDSA_WITH_SHA256:
        raise FormatError(DROP_POLICY)


def _check_authentication(policy, registering, is_inband, terms):
    """Of a Rekey SA: what a registration has settled can't be settled otherwise by a rekey."""
    how = _only(policy.transforms, ike.GCAUTH)
    if how is not None and not registering:
        if not is_inband:
            raise FormatError(DROP_GSA)  # it never changes by rekey (section 4.4.2.1.1)
        _check_gcauth(how)
    if terms.verifier is None:
        raise FormatError(DROP_POLICY)  # no AUTH_KEY was ever told: nobody could be believed


def _verifier(spki):
    point = der.parse_spki(spki)
    if point is None:
        raise FormatError(DROP_POLICY)
    try:
        return p256.Verifier(point)
    except ValueError:
        raise FormatError(DROP_POLICY)


def _only(transforms, kind):
    """The one transform of a kind, or None; two of them are not a policy (section 4.4.2.1)."""
    found = None
    for transform in transforms:
        if transform.kind == kind:
            if found:
                raise FormatError(DROP_GSA)
            found = transform
    return found


def _check_types(transforms, types):
    for transform in transforms:
        if transform.kind not in types or transform.unknown_attribute:
            raise FormatError(DROP_POLICY)
    for kind in types:
        if types[kind] and _only(transforms, kind) is None:
            raise FormatError(DROP_GSA)
    integrity = _only(transforms, ike.INTEG)
    if integrity and integrity.id != 0:  # only NONE beside an AEAD cipher
        raise FormatError(DROP_POLICY)


def _cipher(transforms, *ids):
    """(one of these ids, its key bits)"""
    cipher = _only(transforms, ike.ENCR)
    if cipher.id not in ids or cipher.key_bits not in (128, 256):
        raise FormatError(DROP_POLICY)
    return cipher.id, cipher.key_bits


def _bag_of(keys, sa_policy):
    found = None
    for bag in keys.bags:
        if bag.protocol == sa_policy.protocol and bag.spi == sa_policy.spi:
            if found:
                raise FormatError(DROP_KD)
            found = bag
    if found is None:
        raise FormatError(DROP_KD)
    return found


def _unwrap(bag, kwk, key_len):
    """Job: the SA_KEY that this member can open: Key ID zero, KWK ID zero = under GSK_w."""
    for wrapped in bag.keys:
        if wrapped.key_id != kd.ZERO_ID:
            raise FormatError(DROP_KD)
        if wrapped.kwk_id == kd.ZERO_ID:
            keymat = yield from keywrap.unwrap_job(kwk, wrapped.data)
            if keymat is None or len(keymat) != key_len:
                octets.wipe(keymat or b"")
                raise FormatError(DROP_KEY_WRAP)
            return keymat
    raise FormatError(DROP_KEY_WRAP)


def _unwrap_rekey(policy, bag, wrap_keys, kwk, kwk_len, key_len, made):
    """Job: the same of a Rekey SA, to which a key path may lead, that is part of what is made."""
    path = made.terms.key_path
    if not path and not wrap_keys:
        keymat = yield from _unwrap(bag, kwk, key_len)
        return keymat
    from covey import keypath

    yield
    found = yield from keypath.unwrap_job(bag.keys, wrap_keys, path, kwk, kwk_len, key_len)
    if found is None:
        lone = keypath.left_of(policy) is None
        raise FormatError(DROP_KEY_PATH if lone else DROP_KEY_PORTION)
    keymat, made.terms.key_path = found
    made.new_keys = [key for key_id, key in found[1] if (key_id, key) not in path]
    return keymat


def _rekey_sa(policy, bag, wrap_keys, kwk, made):
    terms = made.terms
    _check_types(policy.transforms, _REKEY_TYPES)
    _, bits = _cipher(policy.transforms, ike.ENCR_AES_GCM_16)
    kwa = _only(policy.transforms, ike.KWA).id
    if kwa not in (ike.KW_5649_128, ike.KW_5649_256) or ike.KWK_LEN[kwa] * 8 < bits:
        raise FormatError(DROP_POLICY)
    _check_destination(policy, single_port=True)
    yield
    kwk_len = ike.KWK_LEN[kwa]
    key_len = bits // 8 + _SALT + kwk_len
    keymat = yield from _unwrap_rekey(policy, bag, wrap_keys, kwk, kwk_len, key_len, made)
    try:
        yield
        return RekeySA(
            policy.spi,
            keymat,
            kwa,
            bits,
            terms.verifier,
            policy.initial_message_id or 0,
            _selector(policy.destination),
            lifetime_s=policy.lifetime_s,
            epoch=terms.generation,
        )
    finally:
        octets.wipe(keymat)


def _data_sa(policy, bag, kwk, terms, sender_slots):
    _check_types(policy.transforms, _ESP_TYPES)
    cipher, bits = _cipher(policy.transforms, ike.ENCR_AES_GCM_16, ike.ENCR_NULL_AUTH_AES_GMAC)
    if not any(policy.spi[:3]):
        raise FormatError(DROP_POLICY)  # RFC 4303 section 2.1: 0 to 255 are nobody's to give
    numbers = _only(policy.transforms, ike.SN).id
    if numbers not in (ike.SN_32_SEQUENTIAL, ike.SN_32_UNSPECIFIED):
        raise FormatError(DROP_POLICY)  # 64-bit numbers MUST NOT be used in a group
    _check_destination(policy, single_port=False)
    if policy.source.kind != ike.TS_IPV4_ADDR_RANGE:
        raise FormatError(DROP_POLICY)
    yield
    places = _selector(policy.destination), _selector(policy.source)
    keymat = yield from _unwrap(bag, kwk, bits // 8 + _SALT)
    context = senders = None
    try:
        yield
        context = new_context(keymat, cipher == ike.ENCR_NULL_AUTH_AES_GMAC)
        yield
        senders = new_senders(numbers, terms.sender_bits, terms.sender_form, sender_slots)
        yield
        sa = DataSA(
            policy.spi,
            keymat,
            *places,
            numbers,
            terms.sender_bits,
            terms.sender_form,
            policy.lifetime_s,
            terms.generation,
            sender_slots,
            context=context,
            senders=senders,
        )
        context = senders = None
        return sa
    finally:
        octets.wipe(keymat)
        if context is not None:
            context.wipe()
        if senders is not None:
            senders.release()


def _check_destination(policy, single_port):
    """One IPv4 multicast address (section 4.4.2), and UDP: all that the inner packet can be."""
    chosen = policy.destination
    if chosen.kind != ike.TS_IPV4_ADDR_RANGE or chosen.start_addr != chosen.end_addr:
        raise FormatError(DROP_POLICY)
    if chosen.start_addr[0] & 0xF0 != 0xE0 or chosen.proto not in (0, 17):
        raise FormatError(DROP_POLICY)
    if single_port and not 0 < chosen.start_port == chosen.end_port:
        raise FormatError(DROP_POLICY)


def _selector(ts):
    """ike.TrafficSelector → the tuple that an SA compares."""
    start = bytes(ts.start_addr)
    end = start if start == ts.end_addr else bytes(ts.end_addr)
    selector = (start, end, ts.start_port, ts.end_port, ts.proto)
    return _ANY if selector == _ANY else selector  # as most sources are
