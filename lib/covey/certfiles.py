"""Certificates in files, PEM (RFC 7468) or DER, as OpenSSL and `covey` write them.

Loaded when covey.json names some; a board lets go of it afterwards.
"""

from covey import x509
from covey.certs import Credentials
from covey.drops import ConfigError, FormatError
from covey.keyfiles import blocks, private_key


def read(key_file, certificate_file, ca_file):
    """→ Credentials. Raises ConfigError."""
    key = private_key(key_file)
    try:
        chain = _certificates(certificate_file)
        return Credentials(key, chain, _certificates(ca_file)[0])
    except FormatError:
        raise ConfigError(
            ca_file + " and " + certificate_file + " must hold X.509 certificates of P-256 keys."
        )


def _certificates(path):
    found = blocks(path, b"CERTIFICATE")
    if not found:
        raise ConfigError(path + " holds no certificate: write PEM or DER into it.")
    for data in found:
        x509.parse(data)
    return found
