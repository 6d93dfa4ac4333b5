"""covey.json: what a member must know before it can ask for its group.

    {
      "version": 1,
      "group": "line1",
      "idi": "press-7",
      "idr": "gcks.example",
      "servers": [{"host": "192.0.2.10", "port": 4500, "marker": true}],
      "psk_file": "press-7.psk",
      "sender": true
    }

    field            form; default        meaning
    version          1                    of this format
    group            text                 IDg, ID_KEY_ID (RFC 9838 section 4.2)
    idi              text                 who we are, ID_KEY_ID
    idr              text; anyone         who the key server must prove to be, ID_FQDN
    servers          list of objects      all of them; each start draws in which order to ask them:
                                          host; port (4500); marker: four zero octets lead each
                                          message (true on port 4500)
    psk_file         path                 the pre-shared key, see parse_psk; or in its place all of
    key_file         path                 our private key, P-256, without a password
    certificate_file path                 our certificate; behind it the intermediate CA's, if any
    ca_file          path                 the CA whose key server we trust; needs idr
    server_key_file  path                 with key_file alone, in place of certificates: the key
                                          server's public key (RFC 7670)
    ppk_file         path; none           a post-quantum preshared key, RFC 8784: 32 octets or more
    ppk_id           text; idi            by which the key server knows it, PPK_ID_FIXED
    ppk_optional     true, false; false   whether a key server that doesn't use it will do
    sender           true, false; false   whether we ask for a Sender-ID
    receiver         true, false; true    false: we only send, and nothing is delivered
    interface        address; OS's choice where the group is joined and sent to, IPv4
    carrier          "udp", "ip"; "ip"    of data, where the server's policy says nothing
    carrier_port     1 to 65535; 4500     of the udp carrier, likewise
    delivery         "multicast",         "unicast": the key server will relay all data, so the way
                     "unicast";           to it is kept open (NAT keep-alives whether or not a NAT
                     "multicast"          was found); each server must have a marker
    ttl              1 to 255; 1          of the multicast packets that we send
    rejoin_spread_s  0 to 3600; 2         greatest random delay before we register again
    retransmit       object               first_ms (500), total_s (30): RFC 7296 section 2.4
    fragment_size    0, 300 to 1500; 1280 of IP datagrams: longer IKE messages leave in fragments
    liveness_s       0 to 86400; 60       silence after which the key server is asked for a sign of
                                          life; 0: never
    ike_lifetime_s   0, 10 to 2592000; 86400
                                          of the IKE SA's keys, where it is kept; 0: no end
    limits           object               sas (8), senders (16), payload (1400): memory

A relative path leads from where covey.json lies. Certificates and keys are PEM or DER. A field
that is not in the table is refused, since a misspelt one would otherwise be ignored in silence.
"""

from covey.octets import wipe
from covey.port import const, unload

_PORT = const(4500)  # RFC 7296 section 2.23, RFC 3948: ESP, or IKE behind the marker


class Server:
    """Where a key server listens, and whether four zero octets lead each message there."""

    def __init__(self, host, port, marker):
        self.host = host
        self.port = port
        self.marker = marker

    def floated(self):
        """Where it is spoken to once a NAT was found (RFC 7296 section 2.23)."""
        return self if self.marker else Server(self.host, _PORT, True)


class Config:
    """covey.json, checked. The owner of the keys in it: wipe() ends them."""

    psk = None  # either this, a bytearray, or
    credentials = None  # these, see digital.py
    ppk = None  # ppk.Ppk

    def __init__(self, fields, folder="", name="covey.json", psk=None):
        """Check a JSON object (a dict). `psk` (octets) takes the place of psk_file.

        Raises ConfigError, one sentence that names the field.
        """
        from covey.fields import fill  # what reads and checks is needed once

        fill(self, Server, fields, folder, name, psk)

    def wipe(self):
        """Overwrite the keys: nothing can be registered with this object afterwards."""
        wipe(self.secret)
        if self.ppk:
            wipe(self.ppk.key)

    @property
    def secret(self):
        """The key that nobody else has but perhaps the key server."""
        return self.psk if self.credentials is None else self.credentials.key


def load(path):
    """Read and check covey.json; return a Config. Raises ConfigError."""
    from covey.fields import read

    try:
        return Config(read(path), path[: path.rfind("/") + 1], path)
    finally:
        for name in ("fields", "otherkeys", "wrongfields", "certfiles", "keyfiles"):
            unload(name)
