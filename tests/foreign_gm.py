"""A group member written from the RFCs alone, for tests of the key server: nothing of lib/covey.

Plain struct and `cryptography`; one figure of RFC 7296 or RFC 9838 after the other. Asserts are
what a strict foreign implementation would insist on.
"""

import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding

SA, KE, IDI, IDR, AUTH, NONCE, NOTIFY, DELETE = 33, 34, 35, 36, 39, 40, 41, 42
SK, SKF, IDG, GSA, KD = 46, 53, 50, 51, 52
IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL = 34, 35, 36, 37
GSA_AUTH, GSA_REGISTRATION, GSA_REKEY = 39, 40, 41
KEY_ID, FQDN = 11, 2
NO_PROPOSAL_CHOSEN, INVALID_KE, AUTHENTICATION_FAILED = 14, 17, 24
INVALID_GROUP_ID, AUTHORIZATION_FAILED, REGISTRATION_FAILED = 45, 46, 49
GROUP_SENDER, USE_TRANSPORT_MODE = 16429, 16391
KWK_LEN = {1: 16, 2: 24, 3: 32}
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def prf(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def prf_plus(key, seed, n):
    out, block, i = b"", b"", 0
    while len(out) < n:
        i += 1
        block = prf(key, block + seed + bytes([i]))
        out += block
    return out[:n]


def chain(payloads):
    """[(kind, body) or (kind, body, critical)] → (first kind, octets)"""
    out = b""
    for i, (_, body, *flag) in enumerate(payloads):
        after = payloads[i + 1][0] if i + 1 < len(payloads) else 0
        out += struct.pack(">BBH", after, 0x80 if flag and flag[0] else 0, 4 + len(body)) + body
    return (payloads[0][0] if payloads else 0), out


def unchain(kind, data):
    found = []
    while kind:
        after, critical, length = struct.unpack_from(">BBH", data)
        assert critical == 0 and 4 <= length <= len(data)
        found.append((kind, data[4:length]))
        kind, data = after, data[length:]
    assert data == b""
    return found


def header(spi_i, spi_r, first, exchange, flags, message_id, length, version=0x20):
    head = struct.pack(">BBBBII", first, version, exchange, flags, message_id, length)
    return spi_i + spi_r + head


def transform(kind, id, *attributes):
    body = b"".join(attributes)
    return kind, struct.pack(">BBH", kind, 0, id) + body


def key_length(bits):
    return struct.pack(">HH", 0x800E, bits)


def proposal(number, protocol, transforms):
    out = b""
    for i, (_, body) in enumerate(transforms):
        out += struct.pack(">BBH", 3 if i + 1 < len(transforms) else 0, 0, 4 + len(body)) + body
    return struct.pack(">BBBB", number, protocol, 0, len(transforms)) + out


def sa_body(proposals):
    out = b""
    for i, body in enumerate(proposals):
        out += struct.pack(">BBH", 2 if i + 1 < len(proposals) else 0, 0, 4 + len(body)) + body
    return out


def ike_proposal(number=1, bits=(128,), kwas=(1,), extra=()):
    encr = [transform(1, 20, key_length(b)) for b in bits]
    kwa = [transform(13, k) for k in kwas]
    return proposal(number, 1, [*encr, transform(2, 5), transform(4, 31), *kwa, *extra])


def sag(bits=128, kwa=1, number=1, esp_number=None, sn=2, algorithm=None, cipher=20):
    """cipher: of data; 21 is ENCR_NULL_AUTH_AES_GMAC (RFC 4543 section 7)."""
    attribute = b"" if algorithm is None else struct.pack(">HH", 18, len(algorithm)) + algorithm
    rekey = [transform(1, 20, key_length(bits)), transform(13, kwa), transform(14, 2, attribute)]
    esp = [transform(1, cipher, key_length(bits)), transform(5, sn)]
    return sa_body([proposal(number, 6, rekey), proposal(esp_number or number, 3, esp)])


def identity(id_type, data):
    return struct.pack(">BBH", id_type, 0, 0) + data


def notification(type, data=b""):
    return NOTIFY, struct.pack(">BBH", 0, 0, type) + data


def sender(count=1):
    return notification(GROUP_SENDER, struct.pack(">I", count))


def notifies(payloads):
    return [struct.unpack_from(">H", body, 2)[0] for kind, body in payloads if kind == NOTIFY]


def attributes(data):
    found = []
    while data:
        kind, value = struct.unpack_from(">HH", data)
        if kind & 0x8000:
            found.append((kind & 0x7FFF, value))
            data = data[4:]
        else:
            found.append((kind, data[4 : 4 + value]))
            assert len(data) >= 4 + value
            data = data[4 + value :]
    return found


def substructures(data):
    found = []
    while data:
        protocol, spi_len, length = struct.unpack_from(">BBH", data)
        found.append((protocol, data[4 : 4 + spi_len], data[4 + spi_len : length]))
        data = data[length:]
    return found


def selector(data):
    """→ ((protocol, port range, address range), rest)"""
    kind, protocol, length, low, high = struct.unpack_from(">BBHHH", data)
    assert kind == 7 and length == 16
    return (protocol, low, high, data[8:12], data[12:16]), data[16:]


def transforms_of(data):
    found = []
    while True:
        more, _, length, kind, _, id = struct.unpack_from(">BBHBBH", data)
        found.append((kind, id, attributes(data[8:length])))
        data = data[length:]
        if not more:
            return found, data
        assert more == 3


class Policy:
    """What a GSA payload says, laid bare."""

    def __init__(self, body):
        self.order = []
        self.wide = None
        self.sas = {}
        for protocol, spi, content in substructures(body):
            self.order.append(protocol)
            if protocol == 0:
                self.wide = dict(attributes(content))
                continue
            source, content = selector(content)
            destination, content = selector(content)
            transforms, content = transforms_of(content)
            self.sas[protocol] = {
                "spi": spi,
                "source": source,
                "destination": destination,
                "transforms": transforms,
                "attributes": attributes(content),
            }


class Keys:
    """What a KD payload holds, unwrapped. path: [(Key ID, key)], the one next to the SA first.

    keymat lacks SAs to which no way leads from kwk or from the path: then we are put out.
    """

    def __init__(self, body, kwk, path=()):
        self.order = []
        self.keymat = {}
        self.path = list(path)
        self.auth_key = None
        self.sender_ids = []
        self.wrapped = 0  # octets of wrapped keys, with their attributes' headers
        parts = [(p, spi, attributes(content)) for p, spi, content in substructures(body)]
        wraps = [value for p, _, found in parts if p == 0 for kind, value in found if kind == 1]
        for protocol, spi, found in parts:
            self.order.append(protocol)
            for kind, value in found:
                if protocol:
                    assert kind == 1 and value[:4] == bytes(4)
                    assert protocol == 6 or value[4:8] == bytes(4)
                    self._take(spi, value, wraps, kwk)
                elif kind == 2:
                    self.auth_key = value
                elif kind == 3:
                    self.sender_ids.append(int.from_bytes(value))
                if kind == 1:
                    self.wrapped += 4 + len(value)

    def _take(self, spi, value, wraps, kwk):
        """An SA_KEY: by the first way that is found."""
        if spi in self.keymat:
            return
        way = self._way(value, wraps)
        if way is None:
            return
        held = dict(self.path)
        key = kwk if way[0][4:8] == bytes(4) else held[way[0][4:8]]
        fresh = []
        for step in way:
            key = aes_key_unwrap_with_padding(key, step[8:])
            fresh.insert(0, (step[:4], key))
        self.keymat[spi] = key
        fresh = fresh[1:]  # without the SA's own
        if fresh:
            ends = [key_id for key_id, _ in self.path]
            at = len(ends) if way[0][4:8] == bytes(4) else ends.index(way[0][4:8])
            self.path = fresh + self.path[at:]

    def _way(self, value, wraps):
        """[what opens with a key that we have, ..., value], or None."""
        if value[4:8] == bytes(4) or value[4:8] in dict(self.path):
            return [value]
        for wrap in wraps:
            if wrap[:4] == value[4:8]:
                way = self._way(wrap, wraps)
                if way is not None:
                    return [*way, value]
        return None


class RekeySA:
    """What a member keeps of a Rekey SA."""

    def __init__(self, spi, keymat, key_bits, kwa, auth_key, next_id):
        self.spi = spi
        length = key_bits // 8 + 4
        assert len(keymat) == length + KWK_LEN[kwa]
        self.key, self.salt, self.kwk = (
            keymat[: length - 4],
            keymat[length - 4 : length],
            keymat[length:],
        )
        self.auth_key, self.next_id = auth_key, next_id

    def open(self, data):
        """A GSA_REKEY → its payloads; None where the Message ID was there already."""
        first, version, exchange, flags, message_id, length = struct.unpack_from(
            ">BBBBII", data, 16
        )
        assert (data[:16], first, version, exchange) == (self.spi, SK, 0x20, GSA_REKEY)
        assert flags in (0, 8) and length == len(data)
        inner_first, zero, sk_len = struct.unpack_from(">BBH", data, 28)
        assert zero == 0 and sk_len == len(data) - 28
        text = AESGCM(self.key).decrypt(self.salt + data[32:40], data[40:], data[:32])
        return self._take(data[:32], message_id, inner_first, text[: -1 - text[-1]])

    def open_parts(self, parts):
        """The same from all its fragments (RFC 7383 section 2.5), in their order."""
        inner, message_id = b"", struct.unpack_from(">I", parts[0], 20)[0]
        for place, data in enumerate(parts):
            kind, version, exchange, flags, number, length = struct.unpack_from(
                ">BBBBII", data, 16
            )
            assert (data[:16], kind, version, exchange) == (self.spi, SKF, 0x20, GSA_REKEY)
            assert flags == parts[0][19] and number == message_id and length == len(data)
            first, _, length, number, total = struct.unpack_from(">BBHHH", data, 28)
            assert (length, number, total) == (len(data) - 28, place + 1, len(parts))
            assert (first == 0) == (place > 0)
            text = AESGCM(self.key).decrypt(self.salt + data[36:44], data[44:], data[:36])
            assert len(text) > 1 + text[-1]
            inner += text[: -1 - text[-1]]
        head = bytearray(parts[0][:32])  # RFC 9838 section 2.4.1.2: as it would be in one piece
        head[16] = SK
        return self._take(bytes(head), message_id, head[28], inner)

    def _take(self, head, message_id, first, inner):
        payloads = unchain(first, inner)
        self._verify(head, inner, payloads)
        if message_id < self.next_id:
            return None
        self.next_id = message_id + 1
        return payloads

    def _verify(self, head, inner, payloads):
        """A | P as the figure in RFC 9838 section 2.4.1.1 lays it out."""
        kind, auth = payloads[-1]
        assert kind == AUTH and [k for k, _ in payloads].count(AUTH) == 1
        assert auth[:4] == b"\x0e\0\0\0" and auth[4] == len(ECDSA_WITH_SHA256)
        assert auth[5:17] == ECDSA_WITH_SHA256
        signature = auth[17:]
        a = head[:24] + struct.pack(">I", 32 + len(inner)) + head[28:30]
        a += struct.pack(">H", 4 + len(inner))
        p = inner[: -len(signature)] + bytes(len(signature))
        key = serialization.load_der_public_key(self.auth_key)
        key.verify(signature, a + p, ec.ECDSA(hashes.SHA256()))


class ForeignGM:
    """Registers at a key server: each step gives octets to send or takes octets that came."""

    more_kinds = (
        frozenset()
    )  # of payloads in the answer to IKE_SA_INIT, besides those that must be

    def __init__(self, name=b"press-7", psk=b"k" * 32, group=b"line1", *, wants=None, kwa=1):
        self.name, self.psk, self.group, self.wants = name, psk, group, wants
        self.bits, self.kwa = 128, kwa
        self.private = X25519PrivateKey.generate()
        self.spi_i, self.nonce_i = os.urandom(8), os.urandom(32)
        self.spi_r = bytes(8)
        self.next_id = 1
        self.tek = self.rekey_sa = None
        self.former = {}  # Rekey SAs that were replaced, still listened to for DTD
        self.sender_ids = []

    def sa_init(self, proposals=None, method=31, value=None, nonce=None, extra=(), first=()):
        if value is None:
            value = self.private.public_key().public_bytes_raw()
        body = sa_body(proposals or [ike_proposal(1, (self.bits,), (self.kwa,))])
        payloads = [
            *first,
            (SA, body),
            (KE, struct.pack(">HH", method, 0) + value),
            (NONCE, self.nonce_i if nonce is None else nonce),
            *extra,
        ]
        kind, octets = chain(payloads)
        told = [one[1] for one in (*first, *extra) if one[0] == NOTIFY]
        self.asked = {int.from_bytes(body[2:4]) for body in told}  # some are answered in kind
        self.init_request = (
            header(self.spi_i, bytes(8), kind, IKE_SA_INIT, 8, 0, 28 + len(octets)) + octets
        )
        return self.init_request

    def clear(self, data, exchange=IKE_SA_INIT, message_id=0):
        """A response without protection → its payloads."""
        first, version, got, flags, mid, length = struct.unpack_from(">BBBBII", data, 16)
        assert (data[:8], version, got, flags) == (self.spi_i, 0x20, exchange, 0x20)
        assert (mid, length) == (message_id, len(data))
        return unchain(first, data[28:])

    def take_sa_init(self, data):
        answered = self.clear(data)
        payloads = {kind: body for kind, body in answered if kind != NOTIFY}
        assert set(payloads) == {SA, KE, NONCE} | self.more_kinds
        assert set(notifies(answered)) <= self.asked, "nobody asked for it"
        self.init_response = data
        self.spi_r = data[8:16]
        assert self.spi_r != bytes(8)
        offer = payloads[SA]
        assert struct.unpack_from(">BBH", offer) == (0, 0, len(offer)) and offer[5:7] == b"\x01\0"
        self.proposal_number = offer[4]
        self.chosen, rest = transforms_of(offer[8:])
        assert rest == b"" and offer[7] == len(self.chosen)
        by_kind = {kind: (id, dict(found)) for kind, id, found in self.chosen}
        assert len(by_kind) == len(self.chosen)
        self.bits, self.kwa = by_kind[1][1][14], by_kind[13][0]
        assert by_kind[1][0] == 20 and by_kind[2][0] == 5 and by_kind[4][0] == 31
        method, zero = struct.unpack_from(">HH", payloads[KE])
        assert (method, zero, len(payloads[KE])) == (31, 0, 36)
        self.nonce_r = payloads[NONCE]
        assert 16 <= len(self.nonce_r) <= 256
        self._derive(self.private.exchange(X25519PublicKey.from_public_bytes(payloads[KE][4:])))

    def _derive(self, shared):
        nonces, n = self.nonce_i + self.nonce_r, self.bits // 8 + 4
        keys = prf_plus(prf(nonces, shared), nonces + self.spi_i + self.spi_r, 96 + 2 * n)
        self.sk_d, self.sk_ei, self.sk_er = keys[:32], keys[32 : 32 + n], keys[32 + n : 32 + 2 * n]
        self.sk_pi, self.sk_pr = keys[-64:-32], keys[-32:]
        self.gsk_w = prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", KWK_LEN[self.kwa])

    def seal(self, exchange, payloads, *, message_id=None, flags=8, octets=None, pad=0):
        """A request (or a response) under SK_ei. octets: (first kind, inner octets) instead."""
        if message_id is None:
            message_id, self.next_id = self.next_id, self.next_id + 1
        kind, inner = chain(payloads) if octets is None else octets
        text = inner + bytes(pad) + bytes([pad])
        total = 28 + 4 + 8 + len(text) + 16
        aad = header(self.spi_i, self.spi_r, SK, exchange, flags, message_id, total)
        aad += struct.pack(">BBH", kind, 0, total - 28)
        iv = os.urandom(8)
        return aad + iv + AESGCM(self.sk_ei[:-4]).encrypt(self.sk_ei[-4:] + iv, text, aad)

    def open(self, data, exchange, message_id=None, flags=0x20):
        """A protected message of the key server → its payloads."""
        first, version, got, got_flags, mid, length = struct.unpack_from(">BBBBII", data, 16)
        assert data[:16] == self.spi_i + self.spi_r
        assert (first, version, got, got_flags, length) == (SK, 0x20, exchange, flags, len(data))
        assert mid == (self.next_id - 1 if message_id is None else message_id)
        kind, zero, sk_len = struct.unpack_from(">BBH", data, 28)
        assert zero == 0 and sk_len == len(data) - 28
        key, salt = self.sk_er[:-4], self.sk_er[-4:]
        text = AESGCM(key).decrypt(salt + data[32:40], data[40:], data[:32])
        return unchain(kind, text[: -1 - text[-1]])

    def auth_payloads(self, *, idi=None, method=2, key=None):
        idi = identity(KEY_ID, self.name) if idi is None else idi
        padded = prf(self.psk if key is None else key, b"Key Pad for IKEv2")
        proof = prf(padded, self.init_request + self.nonce_r + prf(self.sk_pi, idi))
        return [(IDI, idi), (AUTH, struct.pack(">BBH", method, 0, 0) + proof)]

    def group_payloads(self, *, idg=None, sag=None, extra=()):
        payloads = [(IDG, identity(KEY_ID, self.group) if idg is None else idg)]
        if sag is not None:
            payloads.append((SA, sag))
        if self.wants is not None:
            payloads.append(sender(self.wants))
        return [*payloads, *extra]

    def gsa_auth(self, **group):
        return self.seal(GSA_AUTH, self.auth_payloads() + self.group_payloads(**group))

    def gsa_registration(self, **group):
        return self.seal(GSA_REGISTRATION, self.group_payloads(**group))

    def leave(self, type=REGISTRATION_FAILED):
        idg = identity(KEY_ID, self.group)
        return self.seal(GSA_REGISTRATION, [(IDG, idg), notification(type)])

    def check_identity(self, payloads, site=b"gcks.example"):
        """IDr and AUTH come first and prove who it is; the rest is handed back."""
        (k1, idr), (k2, auth) = payloads[:2]
        assert (k1, k2) == (IDR, AUTH) and idr == identity(FQDN, site)
        padded = prf(self.psk, b"Key Pad for IKEv2")
        proof = prf(padded, self.init_response + self.nonce_i + prf(self.sk_pr, idr))
        assert auth == b"\x02\0\0\0" + proof
        return payloads[2:]

    def take_group(self, payloads):
        """GSA, KD, N(USE_TRANSPORT_MODE): what a member keeps of them."""
        assert [k for k, _ in payloads] == [GSA, KD, NOTIFY]
        assert notifies(payloads) == [USE_TRANSPORT_MODE]
        self.policy, self.keys = Policy(payloads[0][1]), Keys(payloads[1][1], self.gsk_w)
        kek = self.policy.sas[6]
        kwa = next(id for kind, id, _ in kek["transforms"] if kind == 13)
        bits = next(dict(found)[14] for kind, _, found in kek["transforms"] if kind == 1)
        first = next((v for k, v in kek["attributes"] if k == 2), bytes(4))
        self.kek = kek
        self.algorithms = bits, kwa
        self.rekey_sa = RekeySA(
            kek["spi"],
            self.keys.keymat[kek["spi"]],
            bits,
            kwa,
            self.keys.auth_key,
            int.from_bytes(first),
        )
        self._take_tek()
        self.former = {}
        self.path = self.keys.path
        self.sender_ids = self.keys.sender_ids
        return self

    def _take_tek(self):
        spi = self.policy.sas[3]["spi"]
        self.tek = spi, self.keys.keymat[spi]

    def rekey(self, data, parts=None):
        """A GSA_REKEY: "rekeyed", "passed on" (another Rekey SA and no more), "put out" (no way to
        its keys), "excluded" (everybody), "repeat" or "unknown" (not our Rekey SA). parts: its
        fragments, of which data is the first."""
        over = self.former.get(data[:16])
        if self.rekey_sa is not None and data[:16] == self.rekey_sa.spi:
            over = self.rekey_sa
        if over is None:
            return "unknown"
        payloads = over.open_parts(parts) if parts else over.open(data)
        if payloads is None:
            return "repeat"
        kinds = [kind for kind, _ in payloads]
        deletes = [body for kind, body in payloads if kind == DELETE]
        if kinds == [DELETE, DELETE, AUTH]:
            assert deletes == [b"\x03\x04\0\x01" + bytes(4), b"\x06\x10\0\x01" + bytes(16)]
            self.tek = self.rekey_sa = None
            self.former = {}
            self.sender_ids = []
            return "excluded"
        if kinds == [GSA, KD, AUTH]:
            return self._pass_on(over, Policy(payloads[0][1]), payloads[1][1])
        assert kinds == [GSA, KD, DELETE, AUTH]
        assert len(deletes) == 1 and deletes[0][:4] == b"\x03\x04\0\x01"
        self.deleted = deletes[0][4:]
        self.policy = Policy(payloads[0][1])
        self.keys = Keys(payloads[1][1], over.kwk, self.path)
        assert not self.keys.sender_ids and self.keys.auth_key is None
        kek = self.policy.sas[6]
        assert 14 not in [kind for kind, _, _ in kek["transforms"]]  # GCAUTH: registration only
        if kek["spi"] not in self.keys.keymat:
            return "put out"
        self.path, self.kek = self.keys.path, kek
        assert 3 not in self.policy.wide  # GWP_SENDER_ID_BITS likewise
        self.rekey_sa = RekeySA(
            kek["spi"], self.keys.keymat[kek["spi"]], *self.algorithms, over.auth_key, 0
        )
        self.former[over.spi] = over
        self._take_tek()
        return "rekeyed"

    def _pass_on(self, over, policy, kd):
        """Only another Rekey SA: no new TEK before those who go have lost the way."""
        assert policy.order == [6] and policy.wide is None
        kek = policy.sas[6]
        assert 14 not in [kind for kind, _, _ in kek["transforms"]]
        self.keys = Keys(kd, over.kwk, self.path)
        assert self.keys.order in ([6], [6, 0]) and self.keys.auth_key is None
        if kek["spi"] not in self.keys.keymat:
            return "put out"
        self.path, self.kek = self.keys.path, kek
        keymat = self.keys.keymat[kek["spi"]]
        self.rekey_sa = RekeySA(kek["spi"], keymat, *self.algorithms, over.auth_key, 0)
        self.former[over.spi] = over
        return "passed on"
