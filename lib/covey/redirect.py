"""REDIRECT and REDIRECTED_FROM, data of notifications: another key server to ask (RFC 5685, 6).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |     Kind      |    Length     |  Who, of that length          ~
    +---------------+---------------+-------------------------------+
    ~     Ni of whoever is redirected, in IKE_SA_INIT only          ~
    +---------------------------------------------------------------+

There is no port in it: the member knows it, or uses the one that it has asked at.
"""

from covey.drops import DROP_IKE_FORMAT, FormatError
from covey.port import const

_IPV4 = const(1)  # 4 octets
_IPV6 = const(2)
_FQDN = const(3)  # a name's text


def emit_redirect(host, nonce=b""):
    """host: text, an IPv4 address with dots, or a name of 255 octets at most."""
    parts = host.split(".")
    if len(parts) == 4 and all([part.isdigit() and int(part) < 256 for part in parts]):
        return bytes([_IPV4, 4] + [int(part) for part in parts]) + nonce
    name = host.encode()[:255]
    return bytes([_FQDN, len(name)]) + name + nonce


def parse_redirect(data):
    """→ (host as text, the nonce's octets). FormatError: malformed, or an address that is none of
    IPv4."""
    if len(data) < 2 or len(data) < 2 + data[1]:
        raise FormatError(DROP_IKE_FORMAT)
    who = bytes(data[2 : 2 + data[1]])
    if data[0] == _IPV4 and len(who) == 4:
        host = "%d.%d.%d.%d" % tuple(who)
    elif data[0] == _FQDN and who and min(who) > 32 and max(who) < 127:
        host = who.decode()
    else:
        raise FormatError(DROP_IKE_FORMAT)
    return host, bytes(data[2 + len(who) :])
