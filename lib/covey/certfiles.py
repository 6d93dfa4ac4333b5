"""Certificates and keys in files, PEM (RFC 7468) or DER, as OpenSSL and `covey` write them.

Loaded when covey.json names some; a board lets go of it afterwards.
"""

from binascii import a2b_base64

from covey import x509
from covey.certs import Credentials
from covey.drops import ConfigError, FormatError
from covey.p256 import N
from covey.port import const, read_file

_BEGIN = b"-----BEGIN "
_END = b"-----END "
_DASHES = b"-----"
_KEY_LEN = const(32)
_P256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"  # prime256v1
_PRIVATE = b"\x02\x01\x01\x04\x20"  # of ECPrivateKey (RFC 5915): version 1, 32 octets


def read(key_file, certificate_file, ca_file):
    """→ Credentials. Raises ConfigError."""
    key = _private_key(key_file)
    try:
        chain = _certificates(certificate_file)
        return Credentials(key, chain, _certificates(ca_file)[0])
    except FormatError:
        raise ConfigError(
            ca_file + " and " + certificate_file + " must hold X.509 certificates of P-256 keys."
        )


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


def _blocks(path, label):
    try:
        return [d for kind, d in pem(read_file(path)) if kind is None or kind.endswith(label)]
    except ValueError:
        return []


def _certificates(path):
    found = _blocks(path, b"CERTIFICATE")
    if not found:
        raise ConfigError(path + " holds no certificate: write PEM or DER into it.")
    for data in found:
        x509.parse(data)
    return found


def _private_key(path):
    """PKCS #8 or RFC 5915, of P-256, not encrypted → a bytearray."""
    for data in _blocks(path, b"PRIVATE KEY"):
        at = data.find(_PRIVATE)
        key = bytearray(data[at + len(_PRIVATE) : at + len(_PRIVATE) + _KEY_LEN])
        if at >= 0 and _P256 in data and len(key) == _KEY_LEN:
            if 0 < int.from_bytes(key, "big") < N:
                return key
    raise ConfigError(path + " holds no P-256 key: write PEM or DER without a password into it.")
