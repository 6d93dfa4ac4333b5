"""Keys of P-256 in files, PEM (RFC 7468) or DER, as OpenSSL and `covey` write them.

Loaded when covey.json names some; a board lets go of it afterwards.
"""

from binascii import a2b_base64

from covey import der
from covey.drops import ConfigError
from covey.p256 import N, coordinates
from covey.port import const, read_file

_BEGIN = b"-----BEGIN "
_END = b"-----END "
_DASHES = b"-----"
_KEY_LEN = const(32)
_POINT_LEN = const(65)
_P256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"  # prime256v1
_PRIVATE = b"\x02\x01\x01\x04\x20"  # of ECPrivateKey (RFC 5915): version 1, 32 octets
_PUBLIC = b"\x03\x42\x00\x04"  # BIT STRING of an uncompressed point


def pem(data):
    """[(label, octets)] of a file in PEM; of any other one with the label None."""
    found = []
    at = data.find(_BEGIN)
    if at < 0:
        return [(None, bytes(data))]
    while at >= 0:
        label_at = at + len(_BEGIN)
        text_at = data.find(_DASHES, label_at)
        end = data.find(_END, label_at)
        if not 0 <= text_at < end:
            raise ValueError("PEM without an end")
        label = bytes(data[label_at:text_at])
        octets = a2b_base64(bytes(data[text_at + len(_DASHES) : end]))
        found.append((label, octets))
        at = data.find(_BEGIN, end)
    return found


def blocks(path, label):
    """The octets of each part of that kind; none where the file is no PEM or DER."""
    try:
        return [d for kind, d in pem(read_file(path)) if kind is None or kind.endswith(label)]
    except ValueError:
        return []


def private_key(path):
    """PKCS #8 or RFC 5915, of P-256, not encrypted → a bytearray."""
    return _private(path)[0]


def raw_key(key_file, server_key_file):
    """→ rawkeys.RawKey. Raises ConfigError."""
    from covey.rawkeys import RawKey

    key, octets = _private(key_file)
    at = octets.find(_PUBLIC)
    point = octets[at + len(_PUBLIC) - 1 :][:_POINT_LEN]
    spki = der.emit_spki(point) if at >= 0 and len(point) == _POINT_LEN else None
    for data in blocks(server_key_file, b"PUBLIC KEY"):
        point = der.parse_spki(data)
        if point is not None and coordinates(point) is not None:
            return RawKey(key, spki, point)
    raise ConfigError(server_key_file + " holds no public key of P-256: write PEM or DER into it.")


def _private(path):
    """→ (the key, a bytearray; the octets in which it was found)"""
    for data in blocks(path, b"PRIVATE KEY"):
        at = data.find(_PRIVATE)
        key = bytearray(data[at + len(_PRIVATE) : at + len(_PRIVATE) + _KEY_LEN])
        if at >= 0 and _P256 in data and len(key) == _KEY_LEN:
            if 0 < int.from_bytes(key, "big") < N:
                return key, data
    raise ConfigError(path + " holds no P-256 key: write PEM or DER without a password into it.")
