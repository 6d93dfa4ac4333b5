"""An IKEv2 initiator that costs little, to load a responder: RFC 7296, 7427, 9838 from their text.

    IKE_SA_INIT   HDR, [N(COOKIE),] SA, KE, Ni, [N(SIGNATURE_HASH_ALGORITHMS)]
    GSA_AUTH      HDR, SK{IDi, [CERT,] AUTH, IDg}     of a key server: it registers with a group
    IKE_AUTH      HDR, SK{IDi, [CERT,] AUTH,          of charon: an IKE SA and, unless that is left
                          [SA, TSi, TSr]}             out (RFC 6023), a Child SA

X25519, AES-GCM of 128 bits, HMAC-SHA2-256. All initiators of a process have one X25519 key, which
a responder can't tell; nothing of covey is used. What the responder proves is checked.
"""

import hmac
import os
import struct
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SA, _KE, _IDI, _IDR, _CERT, _AUTH, _NONCE, _NOTIFY = 33, 34, 35, 36, 37, 39, 40, 41
_TSI, _TSR, _SK, _IDG, _GSA = 44, 45, 46, 50, 51
_IKE_SA_INIT, _IKE_AUTH, _GSA_AUTH = 34, 35, 39
_FQDN, _KEY_ID = 2, 11
_NAT_DETECTION, _COOKIE, _HASHES = (16388, 16389), 16390, 16431
_INVALID_GROUP_ID = 45
_FIRST_STATUS = 16384
_RESPONSE = 0x20
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA = ec.ECDSA(hashes.SHA256())
_SHA2_256 = b"\0\2"


class Refused(Exception):
    """By an error notification, or by an answer that proves nothing."""


def _transform(kind: int, number: int, *attribute: int) -> bytes:
    attributes = struct.pack(">HH", *attribute) if attribute else b""
    return struct.pack(">BBH", kind, 0, number) + attributes


def _proposal(transforms: list[bytes], protocol: int = 1, spi: bytes = b"") -> bytes:
    parts = [
        struct.pack(">BBH", 3 if at + 1 < len(transforms) else 0, 0, 4 + len(body)) + body
        for at, body in enumerate(transforms)
    ]
    body = struct.pack(">BBBB", 1, protocol, len(spi), len(parts)) + spi + b"".join(parts)
    return struct.pack(">BBH", 0, 0, 4 + len(body)) + body


_COMMON = [
    _transform(1, 20, 0x800E, 128),  # AES-GCM with an ICV of 16 octets
    _transform(2, 5),  # PRF_HMAC_SHA2_256
    _transform(4, 31),  # Curve25519
]
_PLAIN = _proposal(_COMMON)
_GROUP = _proposal([*_COMMON, _transform(13, 1)])  # with KW_5649_128, RFC 9838


def _esp(spi: bytes) -> bytes:
    """AES-GCM, no extended sequence numbers."""
    return _proposal([_transform(1, 20, 0x800E, 128), _transform(5, 0)], 3, spi)


class Us:
    """What all initiators of a process share. psk: of everyone; else certificates and their keys.

    group: IDg, to register with; empty: one that nobody has, so that an IKE SA is all that comes
    of it; None: IKE_AUTH, as charon has it. child: with a Child SA.
    """

    def __init__(self, group: bytes | None, psk: bytes | None, *, child: bool = False):
        self.group, self.psk, self.child = group, psk, child
        self.private = X25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()
        self.padded = None if psk is None else _prf(psk, b"Key Pad for IKEv2")
        self.known: dict[bytes, x509.Certificate] = {}  # certificates of responders

    @property
    def id_type(self) -> int:
        return _KEY_ID if self.psk is not None and self.group is not None else _FQDN


class Initiator:
    """begin() → octets; then take() what comes, until it says that nothing more is to be sent."""

    def __init__(self, us: Us, name: bytes, key=None, certificate: bytes = b""):
        """key, certificate (DER): where there is no psk."""
        self._us, self._name = us, name
        self._key, self._certificate = key, certificate
        self.spi = os.urandom(8)
        self._nonce = os.urandom(32)
        self._keys = None

    def begin(self, cookie: bytes | None = None) -> bytes:
        us = self._us
        payloads = [] if cookie is None else [_notify(_COOKIE, cookie)]
        payloads += [
            (_SA, _PLAIN if us.group is None else _GROUP),
            (_KE, struct.pack(">HH", 31, 0) + us.public),
            (_NONCE, self._nonce),
        ]
        if us.psk is None:
            payloads.append(_notify(_HASHES, _SHA2_256))
        if us.child:  # a NAT, as it seems: charon's userland IPsec has UDP only
            payloads += [_notify(kind, os.urandom(20)) for kind in _NAT_DETECTION]
        first, body = _chain(payloads)
        head = struct.pack(">BBBBII", first, 0x20, _IKE_SA_INIT, 8, 0, 28 + len(body))
        self._request = self.spi + bytes(8) + head + body
        return self._request

    def take(self, data: bytes) -> bytes | None:
        """What came → what to send next; None: the IKE SA is there; empty: that was no answer to
        what was sent last."""
        if not data[19] & _RESPONSE or int.from_bytes(data[20:24]) != (self._keys is not None):
            return b""
        return self._take_init(data) if self._keys is None else self._take_auth(data)

    def _take_init(self, data: bytes) -> bytes:
        payloads = dict(found := _unchain(data[16], data[28:]))
        _check(found, but=_COOKIE)
        notify = payloads.get(_NOTIFY, b"")
        if _SA not in payloads:
            return self.begin(notify[4:])
        us, spi_r, nonce_r = self._us, data[8:16], payloads[_NONCE]
        public = X25519PublicKey.from_public_bytes(payloads[_KE][4:])
        nonces = self._nonce + nonce_r
        seed = _prf(nonces, us.private.exchange(public))
        stream, block = b"", b""
        for number in range(1, 6):
            block = _prf(seed, block + nonces + self.spi + spi_r + bytes([number]))
            stream += block
        self._spis, self._answer, self._nonce_r = self.spi + spi_r, data, nonce_r
        self._keys = stream[32:52], stream[52:72], stream[72:104], stream[104:136]
        return self._seal(self._proof())

    def _proof(self) -> list[tuple[int, bytes]]:
        us = self._us
        idi = struct.pack(">B3x", us.id_type) + self._name
        signed = self._request + self._nonce_r + _prf(self._keys[2], idi)
        payloads = [(_IDI, idi)]
        if us.psk is None:
            proof = bytes([12]) + _ECDSA_WITH_SHA256 + self._key.sign(signed, _ECDSA)
            payloads += [(_CERT, b"\4" + self._certificate), (_AUTH, b"\x0e\0\0\0" + proof)]
        else:
            payloads.append((_AUTH, b"\2\0\0\0" + _prf(us.padded, signed)))
        if us.group is not None:
            payloads.append((_IDG, struct.pack(">B3x", _KEY_ID) + us.group))
        if us.child:
            own = b"\xc6\x12" + os.urandom(2)  # 198.18.0.0/16, which RFC 2544 keeps for benches
            selectors = (_TSI, _selector(own, own)), (_TSR, _selector(bytes(4), b"\xff" * 4))
            payloads += [(_SA, _esp(os.urandom(4))), *selectors]
        return payloads

    def _seal(self, payloads: list[tuple[int, bytes]]) -> bytes:
        first, body = _chain(payloads)
        exchange = _IKE_AUTH if self._us.group is None else _GSA_AUTH
        length = 28 + 4 + 8 + len(body) + 1 + 16
        head = self._spis + struct.pack(">BBBBII", _SK, 0x20, exchange, 8, 1, length)
        head += struct.pack(">BBH", first, 0, length - 28)
        key, iv = self._keys[0], bytes(8)
        return head + iv + AESGCM(key[:16]).encrypt(key[16:] + iv, body + b"\0", head)

    def _take_auth(self, data: bytes) -> None:
        key = self._keys[1]
        text = AESGCM(key[:16]).decrypt(key[16:] + data[32:40], data[40:], data[:32])
        found = _unchain(data[28], text[: -1 - text[-1]])
        _check(found, but=0 if self._us.group else _INVALID_GROUP_ID)
        payloads = dict(found)
        idr, auth = payloads[_IDR], payloads[_AUTH]
        signed = self._answer + self._nonce + _prf(self._keys[3], idr)
        if self._us.psk is not None:
            if auth != b"\2\0\0\0" + _prf(self._us.padded, signed):
                raise Refused("AUTH of the responder")
        else:
            own = next(body[1:] for kind, body in found if kind == _CERT)
            certificate = self._us.known.get(own) or x509.load_der_x509_certificate(own)
            self._us.known[own] = certificate
            certificate.public_key().verify(auth[17:], signed, _ECDSA)
        wanted = _GSA if self._us.group else _TSR if self._us.child else _AUTH
        if wanted not in payloads:
            raise Refused(f"no payload {wanted}")


def _selector(first: bytes, last: bytes) -> bytes:
    return struct.pack(">B3xBBHHH", 1, 7, 0, 16, 0, 0xFFFF) + first + last


def _prf(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, sha256().name)


def _notify(kind: int, data: bytes) -> tuple[int, bytes]:
    return _NOTIFY, struct.pack(">BBH", 0, 0, kind) + data


def _chain(payloads: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """→ (kind of the first, octets)"""
    kinds = [kind for kind, _ in payloads[1:]] + [0]
    parts = [
        struct.pack(">BBH", after, 0, 4 + len(body)) + body
        for after, (_, body) in zip(kinds, payloads, strict=True)
    ]
    return payloads[0][0], b"".join(parts)


def _unchain(kind: int, data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while kind:
        after, _, length = struct.unpack_from(">BBH", data, at)
        found.append((kind, data[at + 4 : at + length]))
        kind, at = after, at + length
    return found


def _check(payloads: list[tuple[int, bytes]], but: int = 0) -> None:
    """Refused where a notification says so."""
    for kind, body in payloads:
        if kind == _NOTIFY:
            number = int.from_bytes(body[2:4])
            if number < _FIRST_STATUS and number != but:
                raise Refused(f"notification {number}")
