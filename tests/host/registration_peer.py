"""Both ends of a registration, laid down octet by octet without covey: struct and `cryptography`.

`python tests/host/registration_peer.py` writes tests/recorded/registration.json: what a key server
may say in many situations, and what a member whose randomness is fixed must say, to the bit. All
numbers stand here as RFC 7296, RFC 5282 and RFC 9838 print them; the X25519 secrets are those of
RFC 7748 section 6.1. An answer is recorded with what must come of it.
"""

import hashlib
import hmac
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "registration.json"

PSK = b"a pre-shared key of some length"
IDI, IDR, GROUP = b"press-7", b"gcks.example", b"line1"
SPI_I = bytes.fromhex("c0c1c2c3c4c5c6c7")
SPI_R = bytes.fromhex("5051525354555657")
NO_SPI = bytes(8)
NONCE_I = bytes(range(0x20, 0x40))
NONCE_R = bytes(range(0x60, 0x80))
SECRET_I = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
SECRET_R = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
PUBLIC_I = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
PUBLIC_R = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")

INIT, IKE_AUTH, CHILD, INFORMATIONAL, GSA_AUTH, REGISTRATION, INBAND = 34, 35, 36, 37, 39, 40, 42
SA, KE, IDi, IDr, AUTH, NONCE, N, D, SK, IDg, GSA, KD = (
    33,
    34,
    35,
    36,
    39,
    40,
    41,
    42,
    46,
    50,
    51,
    52,
)
FROM_I, FROM_R, ANSWER = 0x08, 0x00, 0x20

ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
LOW_ORDER = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")


# Messages


def chain(payloads):
    """[(kind, body) or (kind, body, critical)] → (kind of the first, octets)"""
    out = b""
    kinds = [p[0] for p in payloads] + [0]
    for i, p in enumerate(payloads):
        critical = 0x80 if p[2:] else 0
        out += struct.pack(">BBH", kinds[i + 1], critical, 4 + len(p[1])) + p[1]
    return kinds[0], out


def header(spi_r, first, exchange, flags, message_id, length, spi_i=SPI_I, version=0x20):
    return struct.pack(
        ">8s8sBBBBII", spi_i, spi_r, first, version, exchange, flags, message_id, length
    )


def clear(spi_r, exchange, flags, message_id, payloads, **changes):
    first, octets = chain(payloads)
    length = 28 + len(octets)
    return header(spi_r, first, exchange, flags, message_id, length, **changes) + octets


def notify(kind, data=b""):
    return N, struct.pack(">BBH", 0, 0, kind) + data


def identity(kind, data):
    return struct.pack(">B3x", kind) + data


def transform(kind, number, key_bits=None, algorithm=None):
    attributes = b"" if key_bits is None else struct.pack(">HH", 0x8000 | 14, key_bits)
    if algorithm:
        attributes += struct.pack(">HH", 18, len(algorithm)) + algorithm
    return kind, number, attributes


def transforms(*them):
    out = b""
    for i, (kind, number, attributes) in enumerate(them):
        more = 3 if i + 1 < len(them) else 0
        out += struct.pack(">BBHBBH", more, 0, 8 + len(attributes), kind, 0, number) + attributes
    return out


def proposals(*them):
    """(number, protocol, SPI, transforms) each"""
    out = b""
    for i, (number, protocol, spi, inner) in enumerate(them):
        more = 2 if i + 1 < len(them) else 0
        octets = transforms(*inner)
        length = 8 + len(spi) + len(octets)
        out += struct.pack(">BBHBBBB", more, 0, length, number, protocol, len(spi), len(inner))
        out += spi + octets
    return out


GCM_256, GCM_128 = transform(1, 20, 256), transform(1, 20, 128)
GMAC_256, GMAC_128 = transform(1, 21, 256), transform(1, 21, 128)  # RFC 4543 section 7
SHA2_256, CURVE25519 = transform(2, 5), transform(4, 31)
KW_128, KW_256 = transform(13, 1), transform(13, 3)

# What a member must offer
SAI = proposals(
    (1, 1, b"", [GCM_256, SHA2_256, CURVE25519, KW_256]),
    (2, 1, b"", [GCM_128, SHA2_256, CURVE25519, KW_128, KW_256]),
)
SAG = proposals(
    (1, 6, b"", [GCM_256, GCM_128, KW_256, KW_128, transform(14, 2, None, ECDSA_WITH_SHA256)]),
    (1, 3, b"", [GCM_256, GCM_128, GMAC_256, GMAC_128, transform(5, 2), transform(5, 0)]),
)


def choice(number=1, bits=256, kwa=3):
    inner = [transform(1, 20, bits), SHA2_256, CURVE25519, transform(13, kwa)]
    return proposals((number, 1, b"", inner))


# RFC 7296 section 2.23: who talks to whom, as each sees it
HERE, THERE = (bytes((192, 0, 2, 7)), 50000), (bytes((192, 0, 2, 1)), 4500)
FRAGMENTS = notify(16430)  # RFC 7383 section 2.3


def nat(kind, spi_i, spi_r, place):
    address, port = place
    seen = hashlib.sha1(spi_i + spi_r + address + struct.pack(">H", port)).digest()
    return notify(kind, seen)


def nat_answer(source=THERE, destination=HERE, spi_r=SPI_R):
    """What a server says that sees the member at destination, and itself at source."""
    return [nat(16388, SPI_I, spi_r, source), nat(16389, SPI_I, spi_r, destination)]


def init_request(cookie=None):
    first = [] if cookie is None else [notify(16390, cookie)]
    ke = struct.pack(">HH", 31, 0) + PUBLIC_I
    payloads = [*first, (SA, SAI), (KE, ke), (NONCE, NONCE_I)]
    payloads += [nat(16388, SPI_I, NO_SPI, HERE), nat(16389, SPI_I, NO_SPI, THERE), FRAGMENTS]
    return clear(NO_SPI, INIT, FROM_I, 0, payloads)


def init_answer(
    sa=None, group=31, public=PUBLIC_R, nonce=NONCE_R, more=(), spi_r=SPI_R, **changes
):
    ke = struct.pack(">HH", group, 0) + public
    payloads = [(SA, sa or choice()), (KE, ke), (NONCE, nonce), *more]
    return clear(spi_r, INIT, ANSWER, 0, payloads, **changes)


# Keys: RFC 7296 sections 2.13 to 2.15, RFC 9838 section 3.2.1


def prf(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def prf_plus(key, seed, length):
    out = block = b""
    count = 1
    while len(out) < length:
        block = prf(key, block + seed + bytes((count,)))
        out += block
        count += 1
    return out[:length]


class Session:
    """One IKE SA: both ends' keys, from the octets of IKE_SA_INIT."""

    def __init__(self, request=None, answer=None, bits=256, kwa=3, **changes):
        self.request = request or init_request()
        self.spi_r = changes.get("spi_r", SPI_R)
        nonce = changes.get("nonce", NONCE_R)
        self.answer = answer or init_answer(**changes)
        self.nonce = nonce
        secret = X25519PrivateKey.from_private_bytes(SECRET_R)
        shared = secret.exchange(X25519PublicKey.from_public_bytes(PUBLIC_I))
        skeyseed = prf(NONCE_I + nonce, shared)
        size = bits // 8 + 4
        stream = prf_plus(skeyseed, NONCE_I + nonce + SPI_I + self.spi_r, 96 + 2 * size)
        self.sk_d, stream = stream[:32], stream[32:]
        self.sk_ei, stream = stream[:size], stream[size:]
        self.sk_er, stream = stream[:size], stream[size:]
        self.sk_pi, self.sk_pr = stream[:32], stream[32:]
        self.kwk = prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", {1: 16, 3: 32}[kwa])

    def _seal(self, key, iv, exchange, flags, message_id, payloads, changes):
        first, inner = chain(payloads)
        inner = changes.pop("inner", inner)
        spi_r = changes.pop("spi_r", self.spi_r)
        size = 4 + 8 + len(inner) + 1 + 16
        head = header(spi_r, SK, exchange, flags, message_id, 28 + size, **changes)
        head += struct.pack(">BBH", first, 0, size)
        return head + iv + AESGCM(key[:-4]).encrypt(key[-4:] + iv, inner + b"\0", head)

    def member_says(self, exchange, flags, message_id, count, payloads):
        """count: how many messages the member has sealed, this one included."""
        iv = struct.pack(">Q", count)
        return self._seal(self.sk_ei, iv, exchange, FROM_I | flags, message_id, payloads, {})

    def server_says(self, exchange, flags, message_id, payloads, **changes):
        seed = repr((exchange, flags, message_id, payloads, changes)).encode()
        iv = hashlib.sha256(seed).digest()[:8]
        return self._seal(self.sk_er, iv, exchange, flags, message_id, payloads, changes)

    def auth_i(self, idi):
        data = self.request + self.nonce + prf(self.sk_pi, idi)
        return b"\2\0\0\0" + prf(prf(PSK, b"Key Pad for IKEv2"), data)

    def auth_r(self, idr, psk=PSK):
        data = self.answer + NONCE_I + prf(self.sk_pr, idr)
        return b"\2\0\0\0" + prf(prf(psk, b"Key Pad for IKEv2"), data)

    def auth_request(self, idr=True, sender=True):
        """The member's GSA_AUTH."""
        idi = identity(11, IDI)
        payloads = [(IDi, idi)]
        if idr:
            payloads.append((IDr, identity(2, IDR)))
        payloads.append((AUTH, self.auth_i(idi)))
        return self.member_says(GSA_AUTH, 0, 1, 1, payloads + wishes(sender))

    def proof(self, idr=None, psk=PSK):
        """IDr and AUTH of the server."""
        idr = idr or identity(2, IDR)
        return [(IDr, idr), (AUTH, self.auth_r(idr, psk))]

    def policy(self, epoch=1):
        return [(GSA, gsa(epoch)), (KD, kd(self.kwk, epoch)), notify(16391)]

    def auth_answer(self, payloads=None, **changes):
        if payloads is None:
            payloads = self.proof() + self.policy()
        return self.server_says(GSA_AUTH, ANSWER, 1, payloads, **changes)


def wishes(sender):
    """What asks for the group."""
    payloads = [(IDg, identity(11, GROUP)), (SA, SAG)]
    return payloads + [notify(16429, struct.pack(">I", 1))] if sender else payloads


# Policy and keys of a group, RFC 9838 sections 4.4 and 4.5


def selector(address, low, high):
    last = address if address != bytes(4) else b"\xff" * 4
    return struct.pack(">BBHHH4s4s", 7, 17, 16, low, high, address, last)


def tlv(kind, value):
    return struct.pack(">HH", kind, len(value)) + value


def tv(kind, value):
    return struct.pack(">HH", 0x8000 | kind, value)


def bag(protocol, spi, content):
    return struct.pack(">BBH", protocol, len(spi), 4 + len(spi) + len(content)) + spi + content


def rekey_spi(epoch):
    return hashlib.sha256(b"rekey %d" % epoch).digest()[:16]


def data_spi(epoch):
    return hashlib.sha256(b"data %d" % epoch).digest()[:4]


def gsa(epoch):
    group = b"\xef\xc0\x01\x20"
    anyone = selector(bytes(4), 0, 65535)
    rekey = anyone + selector(group, 4500, 4500)
    rekey += transforms(GCM_128, KW_128, transform(14, 2, None, ECDSA_WITH_SHA256))
    rekey += tlv(1, struct.pack(">I", 86400)) + tlv(2, struct.pack(">I", 7))
    data = anyone + selector(group, 2222, 2222) + transforms(GCM_128, transform(5, 2))
    data += tlv(1, struct.pack(">I", 3600))
    wide = tv(1, 0) + tv(2, 2) + tv(3, 16) + tv(16384, 4500) + tv(16385, 10 << 8 | 16)
    return bag(6, rekey_spi(epoch), rekey) + bag(3, data_spi(epoch), data) + bag(0, b"", wide)


def kd(kwk, epoch):
    def sa_key(length):
        key = hashlib.shake_128(b"%d %d" % (length, epoch)).digest(length)
        return tlv(1, bytes(8) + aes_key_wrap_with_padding(kwk, key))

    public = ec.derive_private_key(0xC0FE, ec.SECP256R1()).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    member = tlv(2, spki) + tlv(3, struct.pack(">I", 64 + epoch))
    return (
        bag(6, rekey_spi(epoch), sa_key(36))
        + bag(3, data_spi(epoch), sa_key(20))
        + bag(0, b"", member)
    )


# The record


def init_errors():
    """Name → (answer to IKE_SA_INIT, DROP_* by name). None of them may change anything."""

    def error(kind, data=b"", spi_r=NO_SPI):
        return clear(spi_r, INIT, ANSWER, 0, [notify(kind, data)])

    def chose(*inner, number=1, protocol=1, spi=b""):
        return init_answer(sa=proposals((number, protocol, spi, list(inner))))

    good = [GCM_256, SHA2_256, CURVE25519, KW_256]
    ke, nonce = (KE, struct.pack(">HH", 31, 0) + PUBLIC_R), (NONCE, NONCE_R)
    sa = SA, choice()
    genuine = init_answer()

    def of(*payloads, message_id=0, flags=ANSWER, exchange=INIT):
        return clear(SPI_R, exchange, flags, message_id, payloads)

    return {
        "no_proposal_chosen": (error(14), "ike_clear_error"),
        "invalid_ke_payload": (error(17, b"\0\x13"), "ike_clear_error"),
        "authentication_failed": (error(24), "ike_clear_error"),
        "invalid_major_version": (error(5), "ike_clear_error"),
        "error_9999": (error(9999, spi_r=SPI_R), "ike_clear_error"),
        "error beside an answer": (init_answer(more=[notify(14)]), "ike_clear_error"),
        "major version 1": (init_answer(version=0x10), "ike_header"),
        "major version 3": (init_answer(version=0x30), "ike_header"),
        "a longer length": (
            genuine[:24] + struct.pack(">I", len(genuine) + 1) + genuine[28:],
            "ike_header",
        ),
        "an octet behind": (genuine + b"\0", "ike_header"),
        "initiator's flag": (of(sa, ke, nonce, flags=FROM_I | ANSWER), "ike_header"),
        "no answer": (of(sa, ke, nonce, flags=FROM_R), "ike_exchange"),
        "IKE_AUTH": (of(sa, ke, nonce, exchange=IKE_AUTH), "ike_exchange"),
        "Message ID 1": (of(sa, ke, nonce, message_id=1), "ike_message_id"),
        "another SPI": (init_answer(spi_i=SPI_R), "ike_spi"),
        "no responder SPI": (init_answer(spi_r=NO_SPI), "ike_spi"),
        "in SK": (Session().auth_answer(), "ike_spi"),
        "no SA": (of(ke, nonce), "ike_format"),
        "no KE": (of(sa, nonce), "ike_format"),
        "no nonce": (of(sa, ke), "ike_format"),
        "two SA": (of(sa, sa, ke, nonce), "ike_format"),
        "two KE": (of(sa, ke, ke, nonce), "ike_format"),
        "nothing": (of(), "ike_format"),
        "short nonce": (init_answer(nonce=NONCE_R[:15]), "ike_format"),
        "long nonce": (init_answer(nonce=bytes(257)), "ike_format"),
        "empty cookie": (error(16390), "ike_format"),
        "long cookie": (error(16390, bytes(65)), "ike_format"),
        "critical": (of(sa, ke, nonce, (200, b"", True)), "ike_critical"),
        "method 19": (init_answer(group=19), "ike_ke"),
        "short KE": (init_answer(public=PUBLIC_R[:31]), "ike_ke"),
        "long KE": (init_answer(public=PUBLIC_R + b"\0"), "ike_ke"),
        "two proposals": (init_answer(sa=SAI), "ike_proposal"),
        "proposal 3": (chose(*good, number=3), "ike_proposal"),
        "protocol 3": (chose(*good, protocol=3), "ike_proposal"),
        "SPI in proposal": (chose(*good, spi=SPI_R), "ike_proposal"),
        "128 bits of number 1": (chose(GCM_128, *good[1:]), "ike_proposal"),
        "256 bits of number 2": (chose(*good, number=2), "ike_proposal"),
        "weak key wrap": (chose(*good[:3], KW_128), "ike_proposal"),
        "KW_5649_192": (chose(*good[:3], transform(13, 2)), "ike_proposal"),
        "no key wrap": (chose(*good[:3]), "ike_proposal"),
        "no PRF": (chose(GCM_256, CURVE25519, KW_256), "ike_proposal"),
        "no KE method": (chose(GCM_256, SHA2_256, KW_256), "ike_proposal"),
        "no cipher": (chose(*good[1:]), "ike_proposal"),
        "two key wraps": (chose(GCM_128, *good[1:3], KW_128, KW_256, number=2), "ike_proposal"),
        "two ciphers": (chose(GCM_256, *good), "ike_proposal"),
        "integrity": (chose(*good, transform(3, 12)), "ike_proposal"),
        "integrity none": (chose(*good, transform(3, 0)), "ike_proposal"),
        "PRF with key length": (chose(GCM_256, transform(2, 5, 256), *good[2:]), "ike_proposal"),
        "CBC": (chose(transform(1, 12, 256), *good[1:]), "ike_proposal"),
        "no key length": (chose(transform(1, 20), *good[1:]), "ike_proposal"),
        "192 bits": (chose(transform(1, 20, 192), *good[1:]), "ike_proposal"),
        "HMAC-SHA1": (chose(GCM_256, transform(2, 2), *good[2:]), "ike_proposal"),
        "P-256": (chose(*good[:2], transform(4, 19), KW_256), "ike_proposal"),
        "unknown attribute": (chose((1, 20, tv(14, 256) + tv(99, 1)), *good[1:]), "ike_proposal"),
        "no transforms": (chose(), "ike_proposal"),
    }


def auth_errors(s):
    """Name → (answer to GSA_AUTH, DROP_* or None, state, reason, noted)."""
    idr, auth = s.proof()
    group, keys, transport = s.policy()
    other = identity(2, b"gcks.example.org")

    def failed(payloads, drop, reason, noted=None, **changes):
        return s.auth_answer(payloads, **changes), drop, "failed", reason, noted

    def refused(kind, name, *more):
        return s.auth_answer([idr, auth, notify(kind), *more]), None, "refused", name, None

    def refusing(payloads, drop):
        return s.auth_answer([idr, auth, *payloads]), drop, "refusing", drop, None

    wrong = s.proof(psk=b"another pre-shared key")
    return {
        "authentication failed": failed([notify(24)], None, "authentication_failed"),
        "invalid syntax": failed([notify(7)], None, "invalid_syntax"),
        "unsupported critical": failed([notify(1, b"\x32")], None, "unsupported_critical_payload"),
        "authentication failed, proven": failed(
            [idr, auth, notify(24)], None, "authentication_failed"
        ),
        "group error without AUTH": failed(
            [notify(45)], "ike_auth", "ike_auth", "invalid_group_id"
        ),
        "group error, IDr without AUTH": failed(
            [idr, notify(14)], "ike_auth", "ike_auth", "no_proposal_chosen"
        ),
        "group error, wrong AUTH": failed(
            [*wrong, notify(46)], "ike_auth", "ike_auth", "authorization_failed"
        ),
        "policy without AUTH": failed([idr, group, keys, transport], "ike_auth", "ike_auth"),
        "nothing": failed([], "ike_auth", "ike_auth"),
        "wrong AUTH": failed([*wrong, group, keys, transport], "ike_auth", "ike_auth"),
        "AUTH cut": failed([idr, (AUTH, auth[1][:-1]), group, keys], "ike_auth", "ike_auth"),
        "AUTH of nothing": failed([idr, (AUTH, auth[1][:4]), group, keys], "ike_auth", "ike_auth"),
        "method 1": failed(
            [idr, (AUTH, b"\1" + auth[1][1:]), group, keys], "ike_auth", "ike_auth"
        ),
        "method 14": failed(
            [idr, (AUTH, b"\x0e" + auth[1][1:]), group, keys], "ike_auth", "ike_auth"
        ),
        "the member's own AUTH": failed(
            [(IDr, identity(11, IDI)), (AUTH, s.auth_i(identity(11, IDI))), group, keys],
            "ike_auth",
            "ike_auth",
        ),
        "another IDr under AUTH": failed(
            [(IDr, other), auth, group, keys], "ike_auth", "ike_auth"
        ),
        "another server": failed([*s.proof(other), group, keys], "ike_auth", "ike_auth"),
        "IDr of another type": failed(
            [*s.proof(identity(11, IDR)), group, keys], "ike_auth", "ike_auth"
        ),
        "no IDr": failed([auth, group, keys], "ike_format", "ike_format"),
        "two IDr": failed([idr, idr, auth, group, keys], "ike_format", "ike_format"),
        "two AUTH": failed([idr, auth, auth, group, keys], "ike_format", "ike_format"),
        "critical": failed(
            [idr, auth, group, keys, (200, b"", 1)], "ike_critical", "ike_critical"
        ),
        "bad chain": failed([idr, auth], "ike_format", "ike_format", inner=b"\0\0\0\xff"),
        "bad notification": failed([idr, auth, (N, b"\0\4\0\x0e")], "ike_format", "ike_format"),
        "invalid group": refused(45, "invalid_group_id"),
        "not authorised": refused(46, "authorization_failed"),
        "registration failed": refused(49, "registration_failed"),
        "no proposal chosen": refused(14, "no_proposal_chosen"),
        "unknown error": refused(8191, "error_8191"),
        "error beside policy": refused(46, "authorization_failed", group, keys),
        "no GSA": refusing([keys], "ike_format"),
        "no KD": refusing([group], "ike_format"),
        "neither": refusing([], "ike_format"),
        "two GSA": refusing([group, group, keys], "ike_format"),
        "bad GSA": refusing([(GSA, group[1][:-1]), keys], "gsa"),
        "bad KD": refusing([group, (KD, keys[1][:-1])], "kd"),
    }


def auth_strays(s):
    """Name → (datagram while GSA_AUTH is out, DROP_*): nothing comes of it."""
    good = s.proof() + s.policy()
    return {
        "Message ID 0": (s.server_says(GSA_AUTH, ANSWER, 0, good), "ike_message_id"),
        "Message ID 2": (s.server_says(GSA_AUTH, ANSWER, 2, good), "ike_message_id"),
        "IKE_AUTH": (s.server_says(IKE_AUTH, ANSWER, 1, good), "ike_exchange"),
        "GSA_REGISTRATION": (s.server_says(REGISTRATION, ANSWER, 1, good), "ike_exchange"),
        "no answer": (s.server_says(GSA_AUTH, FROM_R, 1, good), "ike_exchange"),
        "initiator's flag": (s.server_says(GSA_AUTH, FROM_I | ANSWER, 1, good), "ike_header"),
        "our own request": (s.auth_request(), "ike_header"),
        "another SPI": (s.auth_answer(spi_r=SPI_I), "ike_spi"),
        "another initiator": (s.auth_answer(spi_i=SPI_R), "ike_spi"),
        "liveness": (s.server_says(INFORMATIONAL, FROM_R, 0, []), "ike_exchange"),
        "clear": (clear(SPI_R, GSA_AUTH, ANSWER, 1, good), "ike_exchange"),
        "clear, alone": (clear(SPI_R, GSA_AUTH, ANSWER, 1, [notify(24)]), "ike_clear_error"),
        "clear, unknown SPI": (clear(SPI_R, GSA_AUTH, ANSWER, 1, [notify(4)]), "ike_clear_error"),
        "clear, to the group": (
            clear(SPI_R, GSA_AUTH, ANSWER, 1, s.proof() + [notify(46)]),
            "ike_clear_error",
        ),
        "other keys": (Session(nonce=NONCE_I).auth_answer(), "ike_tag"),
        "no text": (
            header(SPI_R, SK, GSA_AUTH, ANSWER, 1, 56) + b"\0\0\0\x1c" + bytes(24),
            "ike_format",
        ),
        "IKE_SA_INIT again": (s.answer, "ike_message_id"),
    }


def pull_errors(s):
    """Name → (answer to a pull, DROP_* or None, state, reason)."""

    def of(payloads, drop, state, reason, **changes):
        answer = s.server_says(REGISTRATION, ANSWER, 2, payloads, **changes)
        return answer, drop, state, reason

    group, keys, _ = s.policy(2)
    return {
        "invalid group": of([notify(45)], None, "refused", "invalid_group_id"),
        "not authorised": of([notify(46)], None, "refused", "authorization_failed"),
        "registration failed": of([notify(49)], None, "refused", "registration_failed"),
        "no proposal chosen": of([notify(14)], None, "refused", "no_proposal_chosen"),
        "for a while": of([notify(43)], None, "refused", "temporary_failure"),
        "error beside policy": of(
            [group, keys, notify(46)], None, "refused", "authorization_failed"
        ),
        "unsupported": of([notify(1, b"\x32")], None, "refused", "unsupported_critical_payload"),
        "invalid syntax": of([notify(7)], None, "closed", "invalid_syntax"),
        "critical": of([group, keys, (200, b"", 1)], "ike_critical", "refused", "ike_critical"),
        "bad chain": of([group], "ike_format", "refused", "ike_format", inner=b"\0\0\0\xff"),
        "bad notification": of([group, keys, (N, b"\0")], "ike_format", "refused", "ike_format"),
        "empty": of([], "ike_format", "refusing", "ike_format"),
        "bad GSA": of([(GSA, group[1][:-1]), keys], "gsa", "refusing", "gsa"),
        "bad KD": of([group, (KD, keys[1] + b"\0")], "kd", "refusing", "kd"),
    }


def server_requests(s):
    """Name → (request of the server, our answer, state, reason). All have Message ID 0."""

    def of(exchange, payloads, answer, state="registered", reason=None, drop=None, **changes):
        request = s.server_says(exchange, FROM_R, 0, payloads, **changes)
        return request, s.member_says(exchange, ANSWER, 0, 2, answer), state, reason, drop

    def ends(exchange, payloads, drop="ike_format", **changes):
        reason = "invalid_syntax" if drop != "ike_exchange" else f"exchange_{exchange}"
        return of(exchange, payloads, syntax, "closed", reason, drop, **changes)

    syntax = [notify(7)]
    delete_esp = D, struct.pack(">BBH", 3, 4, 1) + data_spi(1)
    delete_ike = D, struct.pack(">BBH", 1, 0, 0)
    group, keys, _ = s.policy(2)

    def again(cipher, kwa, *more, spi=b"12345678"):
        return proposals((1, 1, spi, [cipher, SHA2_256, CURVE25519, kwa, *more]))

    ke = KE, struct.pack(">HH", 31, 0) + PUBLIC_R
    child = proposals((1, 3, b"abcd", [GCM_256, transform(5, 0)]))
    mixed = proposals(
        (1, 3, b"abcd", [GCM_256, transform(5, 0)]),
        (2, 1, b"12345678", [GCM_256, SHA2_256, CURVE25519, KW_256]),
    )
    rekey_sa = struct.pack(">BBH", 3, 4, 16393) + data_spi(1)
    return {
        "liveness": of(INFORMATIONAL, [], []),
        "unknown status": of(INFORMATIONAL, [notify(40961, b"covey")], []),
        "unknown error": of(INFORMATIONAL, [notify(8191)], []),
        "unknown payload": of(INFORMATIONAL, [(200, b"later")], []),
        "critical payload": of(
            INFORMATIONAL, [(200, b"", 1)], [notify(1, b"\xc8")], drop="ike_critical"
        ),
        "Delete of a Child SA": of(INFORMATIONAL, [delete_esp], []),
        "Delete": of(INFORMATIONAL, [delete_ike], [], "closed", "deleted"),
        "Delete of both": of(INFORMATIONAL, [delete_esp, delete_ike], [], "closed", "deleted"),
        "a Child SA": of(CHILD, [(SA, child), (NONCE, NONCE_R)], [notify(35)]),
        "rekey of a Child SA": of(
            CHILD,
            [(N, rekey_sa), (SA, child), (NONCE, NONCE_R)],
            [(N, struct.pack(">BBH", 3, 4, 44) + data_spi(1))],
        ),
        "rekey without KE": ends(CHILD, [(SA, again(GCM_256, KW_256)), (NONCE, NONCE_R)]),
        "rekey without nonce": ends(CHILD, [(SA, again(GCM_256, KW_256)), ke]),
        "rekey with a short nonce": ends(
            CHILD, [(SA, again(GCM_256, KW_256)), (NONCE, NONCE_R[:15]), ke]
        ),
        "rekey with a short KE": ends(
            CHILD,
            [(SA, again(GCM_256, KW_256)), (NONCE, NONCE_R), (KE, ke[1][:-1])],
            "ike_ke",
        ),
        "rekey and Child SA": ends(CHILD, [(SA, mixed), (NONCE, NONCE_R), ke], "ike_proposal"),
        "rekey by method 19": of(
            CHILD,
            [(SA, again(GCM_256, KW_256)), (NONCE, NONCE_R), (KE, b"\0\x13\0\0" + bytes(64))],
            [notify(17, b"\0\x1f")],
        ),
        **{
            f"rekey with {name}": of(CHILD, [(SA, sa), (NONCE, NONCE_R), ke], [notify(14)])
            for name, sa in {
                "CBC": again(transform(1, 12, 256), KW_256),
                "weak key wrap": again(GCM_256, KW_128),
                "an unknown transform": again(GCM_256, KW_256, transform(99, 1)),
                "a PRF of a key length": again(GCM_256, KW_256, transform(2, 5, 256)),
                "no SPI": again(GCM_256, KW_256, spi=b""),
                "an SPI of zeros": again(GCM_256, KW_256, spi=bytes(8)),
                "a short SPI": again(GCM_256, KW_256, spi=b"abcd"),
            }.items()
        },
        "GSA_INBAND_REKEY": of(INBAND, [group, keys], []),
        "GSA_INBAND_REKEY without keys": of(INBAND, [delete_esp], []),
        "GSA_INBAND_REKEY, GSA alone": ends(INBAND, [group]),
        "GSA_INBAND_REKEY, KD alone": ends(INBAND, [keys]),
        "GSA_INBAND_REKEY, two GSA": ends(INBAND, [group, group, keys]),
        "GSA_INBAND_REKEY, two KD": ends(INBAND, [group, keys, keys]),
        "GSA_INBAND_REKEY, bad GSA": ends(INBAND, [(GSA, group[1][:-1]), keys], "gsa"),
        "GSA_INBAND_REKEY, bad KD": ends(INBAND, [group, (KD, keys[1][:-1])], "kd"),
        "GSA_INBAND_REKEY, critical": of(
            INBAND, [group, keys, (200, b"", 1)], [notify(1, b"\xc8")], drop="ike_critical"
        ),
        "GSA_AUTH": ends(GSA_AUTH, s.proof(), "ike_exchange"),
        "GSA_REGISTRATION": ends(REGISTRATION, [], "ike_exchange"),
        "unknown exchange": ends(240, [], "ike_exchange"),
        "bad Delete": ends(INFORMATIONAL, [(D, b"\1\0\0")]),
        "bad notification": ends(INFORMATIONAL, [(N, b"\0\5\0\0")]),
        "bad chain": ends(INFORMATIONAL, [(N, b"")], inner=b"\0\0\0\3"),
    }


def server_strays(s):
    """Name → (datagram once we are registered, DROP_*)."""
    return {
        "Message ID 1": (s.server_says(INFORMATIONAL, FROM_R, 1, []), "ike_message_id"),
        "initiator's flag": (s.server_says(INFORMATIONAL, FROM_I, 0, []), "ike_header"),
        "an answer": (s.server_says(INFORMATIONAL, ANSWER, 2, []), "ike_message_id"),
        "other keys": (Session(nonce=NONCE_I).server_says(INFORMATIONAL, 0, 0, []), "ike_tag"),
        "another SPI": (s.server_says(INFORMATIONAL, 0, 0, [], spi_r=SPI_I), "ike_spi"),
        "clear": (clear(SPI_R, INFORMATIONAL, 0, 0, []), "ike_exchange"),
        "clear Delete": (clear(SPI_R, INFORMATIONAL, 0, 0, [(D, b"\1\0\0\0")]), "ike_exchange"),
        "clear error": (clear(SPI_R, INFORMATIONAL, 0, 0, [notify(4)]), "ike_clear_error"),
        "IKE_SA_INIT": (s.answer, "ike_message_id"),
        "GSA_AUTH": (s.auth_answer(), "ike_message_id"),
    }


def whole(name, session, idr=True, sender=True, cookie=None):
    """A registration from its first to its last octet."""
    return {
        "name": name,
        "idr": idr,
        "sender": sender,
        "cookie": cookie,
        "init_request": session.request,
        "init_answer": session.answer,
        "auth_request": session.auth_request(idr, sender),
        "auth_answer": session.auth_answer(),
        "kwk": session.kwk,
    }


def wholes():
    def of(number, bits, kwa):
        return Session(sa=choice(number, bits, kwa), bits=bits, kwa=kwa)

    cookie = bytes(range(64))
    baked = Session(init_request(cookie))
    extras = [notify(16388, bytes(20)), (43, b"vendor"), (200, b"unknown"), notify(40999)]
    return [
        whole("256 bits", of(1, 256, 3)),
        whole("128 bits", of(2, 128, 1)),
        whole("128 bits, stronger key wrap", of(2, 128, 3)),
        whole("receiver of any server", of(1, 256, 3), idr=False, sender=False),
        whole("cookie", baked, cookie=cookie),
        whole("more payloads", Session(answer=init_answer(more=extras))),
        whole("longest nonce", Session(nonce=bytes(256))),
    ]


def record():
    """Everything, bytes still bytes."""
    s = Session()
    group, keys, transport = s.policy()
    proof = s.proof()
    idg = IDg, identity(11, GROUP)
    forged = Session(spi_r=bytes(range(8, 16)), nonce=bytes(32))  # by one who has no PSK
    return {
        "psk": PSK,
        "random": [SPI_I, NONCE_I, SECRET_I],
        "wholes": wholes(),
        "init_errors": init_errors(),
        "zero_secrets": [init_answer(public=p) for p in (bytes(32), b"\1" + bytes(31), LOW_ORDER)],
        "auth_errors": auth_errors(s),
        "auth_strays": auth_strays(s),
        "auth_orders": [
            s.auth_answer([transport, keys, group, proof[1], proof[0]]),
            s.auth_answer([(200, b"?"), *proof, notify(40999), group, (43, b""), keys, transport]),
        ],
        "auth_tunnel": s.auth_answer([*proof, group, keys]),
        "pull_request": s.member_says(REGISTRATION, 0, 2, 2, wishes(True)),
        "pull_answer": s.server_says(REGISTRATION, ANSWER, 2, s.policy(2)),
        "pull_errors": pull_errors(s),
        "pull_again": s.member_says(REGISTRATION, 0, 3, 3, wishes(True)),
        "pull_again_answer": s.server_says(REGISTRATION, ANSWER, 3, s.policy(3)),
        "leave_request": s.member_says(REGISTRATION, 0, 2, 2, [idg, notify(49)]),
        "refuse_request": s.member_says(REGISTRATION, 0, 2, 2, [idg, notify(14)]),
        "refuse_again": s.member_says(REGISTRATION, 0, 3, 3, [idg, notify(14)]),
        "empty_answer": s.server_says(REGISTRATION, ANSWER, 2, []),
        "empty_again": s.server_says(REGISTRATION, ANSWER, 3, []),
        "error_answer": s.server_says(REGISTRATION, ANSWER, 2, [notify(45)]),
        "server_requests": server_requests(s),
        "server_strays": server_strays(s),
        "liveness": [
            (
                s.server_says(INFORMATIONAL, FROM_R, i, []),
                s.member_says(INFORMATIONAL, ANSWER, i, 2 + i, []),
            )
            for i in range(3)
        ],
        "forged": {
            "init_answer": forged.answer,
            "auth_request": forged.auth_request(),
            "auth_answer": forged.auth_answer(forged.proof(psk=bytes(16)) + forged.policy()),
            "auth_failed": forged.auth_answer([notify(24)]),
        },
        "gsa": [gsa(epoch) for epoch in (1, 2, 3)],
    }


def as_json(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: as_json(value[name]) for name in value}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def text():
    source = {"source": "tests/host/registration_peer.py", "vectors": as_json(record())}
    return json.dumps(source, indent=1) + "\n"


if __name__ == "__main__":
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(text())
