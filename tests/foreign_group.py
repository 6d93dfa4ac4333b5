"""A group's keys and policy as a foreign key server hands them out: nothing of lib/ or host/.

GSA, KD and GSA_REKEY octets by struct and `cryptography`, after RFC 9838 sections 2.4 and 4. With
`junk` everything is there that a receiver must ignore: unknown attributes, unknown payloads that
are not critical, reserved bits that are set.
"""

import os
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from foreign_esp import AES_GCM, AES_GMAC
from foreign_gm import (
    AUTH,
    DELETE,
    ECDSA_WITH_SHA256,
    GSA,
    GSA_REKEY,
    KD,
    KWK_LEN,
    NOTIFY,
    SK,
    SKF,
    USE_TRANSPORT_MODE,
    header,
    notification,
)

ESP, GIKE_UPDATE = 3, 6
VENDOR = 43
RESERVED = 0x7F  # all but the critical bit


def tv(kind, value):
    return struct.pack(">HH", 0x8000 | kind, value)


def tlv(kind, value):
    return struct.pack(">HH", kind, len(value)) + value


def selector(address_lo, address_hi, port_lo, port_hi, protocol=17):
    head = struct.pack(">BBHHH", 7, protocol, 16, port_lo, port_hi)
    return head + address_lo + address_hi


ANYWHERE = selector(bytes(4), b"\xff" * 4, 0, 65535)


def transforms(listed, reserved=0):
    """[(type, ID, attributes)]"""
    out = b""
    for i, (kind, number, attributes) in enumerate(listed):
        more = 3 if i + 1 < len(listed) else 0
        out += struct.pack(">BBH", more, reserved, 8 + len(attributes))
        out += struct.pack(">BBH", kind, reserved, number) + attributes
    return out


def substructure(protocol, spi, content, second=None):
    """second: the octet that is the SPI's size, or RESERVED where protocol is 0."""
    second = len(spi) if second is None else second
    return struct.pack(">BBH", protocol, second, 4 + len(spi) + len(content)) + spi + content


def wrapped(kwk, keymat):
    """Key ID 0 under KWK ID 0."""
    return bytes(8) + aes_key_wrap_with_padding(kwk, keymat)


def chain(payloads):
    """[(kind, body) or (kind, body, flags)] → (first kind, octets)"""
    out = b""
    for i, (_, body, *flags) in enumerate(payloads):
        after = payloads[i + 1][0] if i + 1 < len(payloads) else 0
        out += struct.pack(">BBH", after, flags[0] if flags else 0, 4 + len(body)) + body
    return (payloads[0][0] if payloads else 0), out


def delete(protocol, *spis):
    size = len(spis[0]) if spis else 0
    return DELETE, struct.pack(">BBH", protocol, size, len(spis)) + b"".join(spis)


def u32(number):
    return struct.pack(">I", number)


def littered(payloads):
    """The same message to whoever ignores what it must."""
    noise = [
        (200, b"later", RESERVED),
        notification(40999, b"status"),
        (VENDOR, b"somebody"),
        (NOTIFY, NOISE),
    ]
    out = [(kind, body, RESERVED) for kind, body in payloads]
    return [noise[0], *out[:1], noise[1], noise[2], *out[1:], noise[3]]


NOISE = struct.pack(">BBH", 3, 4, 16500) + b"\1\2\3\4data"  # a status about an SA nobody has


class Signer:
    """The key under which a key server signs, and its AUTH payloads (RFC 7427 section 3)."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, octets):
        return self._key.sign(octets, ec.ECDSA(hashes.SHA256()))


class Tek:
    """A Data-Security SA: ESP, AES-GCM-16 or AES-GMAC (ENCR 20, 21)."""

    def __init__(self, address, port=2222, bits=128, sn=2, source=ANYWHERE, spi=None, encr=20):
        self.spi = spi or b"\x7e" + os.urandom(3)
        self.keymat = os.urandom(bits // 8 + 4)
        self.address, self.port, self.bits, self.sn, self.source = address, port, bits, sn, source
        self.encr, self.cipher = encr, {20: AES_GCM, 21: AES_GMAC}[encr]

    def policy(self, attributes=b"", junk=False):
        listed = [(1, self.encr, tv(14, self.bits)), (5, self.sn, b"")]
        if junk:
            listed = [listed[1], (3, 0, b""), listed[0]]
        content = self.source + selector(self.address, self.address, self.port, self.port)
        content += transforms(listed, 0xA5 if junk else 0) + attributes
        return substructure(ESP, self.spi, content)

    def bag(self, kwk, attributes=b""):
        return substructure(ESP, self.spi, attributes + tlv(1, wrapped(kwk, self.keymat)))


class Kek:
    """A Rekey SA: GSK_e | GSK_w, and the next Message ID."""

    def __init__(self, address, port, bits=128, kwa=1, spi=None):
        self.spi = spi or b"\x6b" + os.urandom(15)
        self.keymat = os.urandom(bits // 8 + 4 + KWK_LEN[kwa])
        self.address, self.port, self.bits, self.kwa = address, port, bits, kwa
        self.next_id = 0

    @property
    def kwk(self):
        return self.keymat[self.bits // 8 + 4 :]

    def policy(self, attributes=b"", registering=False, junk=False):
        listed = [(1, 20, tv(14, self.bits)), (13, self.kwa, b"")]
        if registering:
            listed.insert(1, (14, 2, tlv(18, ECDSA_WITH_SHA256)))
        if junk:
            listed = [*listed[1:], (3, 0, b""), listed[0]]
        content = ANYWHERE + selector(self.address, self.address, self.port, self.port)
        content += transforms(listed, 0xA5 if junk else 0) + attributes
        return substructure(GIKE_UPDATE, self.spi, content)

    def bag(self, kwk, attributes=b""):
        return substructure(GIKE_UPDATE, self.spi, attributes + tlv(1, wrapped(kwk, self.keymat)))

    def message(
        self,
        payloads,
        signer,
        *,
        message_id=None,
        length=71,
        flags=8,
        version=0x20,
        at=None,
        pad=0,
        reserved=0,
        room=None,
    ):
        """A GSA_REKEY, its AUTH before payload `at` (None: last) with so long a signature.

        room: in fragments of so many inner octets, as a list. reserved: of SK, or of the first."""
        if message_id is not None:
            self.next_id = message_id
        message_id, self.next_id = self.next_id, self.next_id + 1
        shape = message_id, flags, version, reserved
        if signer is not None:
            at = len(payloads) if at is None else at
            payloads = self._signed(payloads, signer, length, shape, at)
        first, inner = chain(payloads)
        if room is not None:
            return self._parts(first, inner, shape, room)
        text = inner + os.urandom(pad) + bytes([pad])
        return self._sealed(self._head(first, 8 + len(text) + 16, *shape), text)

    def _parts(self, first, inner, shape, room):
        """RFC 7383 section 2.5."""
        parts = [inner[at : at + room] for at in range(0, len(inner), room)]
        out = []
        for number, part in enumerate(parts, 1):
            head = bytearray(self._head(first, 4 + 8 + len(part) + 1 + 16, *shape))
            head[16] = SKF
            if number > 1:
                head[28:30] = b"\0\0"
            out.append(
                self._sealed(bytes(head) + struct.pack(">HH", number, len(parts)), part + b"\0")
            )
        return out

    def _sealed(self, head, text):
        iv, end = os.urandom(8), self.bits // 8
        aead = AESGCM(self.keymat[:end])
        return head + iv + aead.encrypt(self.keymat[end : end + 4] + iv, text, head)

    def _signed(self, payloads, signer, length, shape, at):
        """A | P of section 2.4.1.1: no IV, pad or ICV in the lengths; zeros for the signature."""
        lead = b"\x0e\0\0\0" + bytes([len(ECDSA_WITH_SHA256)]) + ECDSA_WITH_SHA256
        unsigned = [*payloads[:at], (AUTH, lead + bytes(length)), *payloads[at:]]
        first, inner = chain(unsigned)
        covered = self._head(first, len(inner), *shape) + inner
        while len(signature := signer.sign(covered)) != length:
            pass
        return [*payloads[:at], (AUTH, lead + signature), *payloads[at:]]

    def _head(self, first, content, message_id, flags, version, reserved):
        head = header(
            self.spi[:8],
            self.spi[8:],
            SK,
            GSA_REKEY,
            flags,
            message_id,
            32 + content,
            version,
        )
        return head + struct.pack(">BBH", first, reserved, 4 + content)


class ForeignGroup:
    """What is in force. Attributes are set by tests to whatever shape they want."""

    def __init__(self, address, rekey_port, ports=(2222,)):
        """address: dotted."""
        self.dotted = address
        self.address = bytes(map(int, address.split(".")))
        self.rekey_port = rekey_port
        self.ports = ports
        self.tek_bits, self.kek_bits, self.kwa, self.sn = 128, 128, 1, 2
        self.tek_encr = 20
        self.lifetime_s = 3600
        self.atd_s, self.dtd_s = 0, 1
        self.sender_bits = 16  # GWP_SENDER_ID_BITS, None: never told
        self.id_octets = 4  # of a GM_SENDER_ID
        self.wide_always = True  # a group-wide policy also where it has nothing to say
        self.reverse = self.junk = False
        self.transport = [notification(USE_TRANSPORT_MODE)]
        self.sender_ids = iter(range(1, 256))
        self.given = []  # Sender-IDs
        self.next_spis = []  # of ESP, promised
        self.signer = Signer()
        self.renew()

    def renew(self, spi=None):
        """New keys throughout; → the TEKs before."""
        old = getattr(self, "teks", [])
        self.kek = Kek(self.address, self.rekey_port, self.kek_bits, self.kwa)
        shape = {"bits": self.tek_bits, "sn": self.sn, "encr": self.tek_encr}
        self.teks = [Tek(self.address, p, spi=spi, **shape) for p in self.ports]
        return old

    def gsa(self, *, kek=True, teks=None, wide=True, wants=None, registering=False):
        teks = self.teks if teks is None else teks
        lifetime = tlv(1, u32(self.lifetime_s)) if self.lifetime_s else b""
        more = tlv(700, b"unknown") + tv(16999, 7) if self.junk else b""
        promises = b"".join(tlv(3, spi) for spi in self.next_spis)
        parts = []
        if kek:
            number = tlv(2, u32(self.kek.next_id)) if self.kek.next_id else b""
            parts.append(self.kek.policy(more + lifetime + number, registering, self.junk))
        parts += [tek.policy(lifetime + promises + more, self.junk) for tek in teks]
        if wide:
            parts += self._wide(wants)
        return GSA, b"".join(reversed(parts) if self.reverse else parts)

    def _wide(self, wants):
        content = b"" if self.atd_s is None else tv(1, self.atd_s)
        content += b"" if self.dtd_s is None else tv(2, self.dtd_s)
        if wants is not None and self.sender_bits is not None:
            content += tv(3, self.sender_bits)
        if self.junk:
            content = tlv(4, b"") + content + tlv(20000, b"not yours")
        if not content and not self.wide_always:
            return []
        return [substructure(0, b"", content, 0xA5 if self.junk else 0)]

    def kd(self, kwk, *, kek=True, teks=None, wants=None, auth_key=False):
        more = tlv(800, b"unknown") + tv(16999, 7) if self.junk else b""
        parts = [self.kek.bag(kwk, more)] if kek else []
        parts += [tek.bag(kwk, more) for tek in (self.teks if teks is None else teks)]
        content = b""
        if auth_key:
            content += tlv(2, self.signer.public)
        if wants is not None and self.sender_bits is not None:
            self.given = [next(self.sender_ids) for _ in range(max(1, wants))]
            content += b"".join(tlv(3, n.to_bytes(self.id_octets)) for n in self.given)
        if content:
            parts.append(substructure(0, b"", more + content, 0xA5 if self.junk else 0))
        return KD, b"".join(reversed(parts) if self.reverse else parts)

    def registration(self, kwk, wants):
        """wants: the number in N(GROUP_SENDER), or None."""
        payloads = [
            self.gsa(wants=wants, registering=True),
            self.kd(kwk, wants=wants, auth_key=True),
            *self.transport,
        ]
        payloads = payloads[::-1] if self.reverse else payloads
        return littered(payloads) if self.junk else payloads
