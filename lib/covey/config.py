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
    servers          list of objects      in the order to be tried: host; port (4500); marker: four
                                          zero octets lead each message (true on port 4500)
    psk_file         path                 the pre-shared key, see parse_psk
    sender           true, false; false   whether we ask for a Sender-ID
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

A relative psk_file lies beside covey.json. A field that is not in the table is refused, since a
misspelt one would otherwise be ignored in silence.
"""

import json

from covey.drops import ConfigError
from covey.port import const, read_file

_VERSION = const(1)
_PORT = const(4500)  # RFC 7296 section 2.23, RFC 3948: ESP, or IKE behind the marker
_ID_MOST = const(255)  # octets of an identity
_PSK_LEAST = const(16)  # octets
_HEX_LEAST = const(32)  # digits from which a text is taken for hexadecimal
_HEX = b"0123456789abcdefABCDEF"

_NEEDED = object()  # the default of a field that must be there


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
    """covey.json, checked. The owner of the pre-shared key: wipe() ends it."""

    def __init__(self, fields, folder="", name="covey.json", psk=None):
        """Check a JSON object (a dict). `psk` (octets) takes the place of psk_file.

        Raises ConfigError, one sentence that names the field.
        """
        f = _Fields(fields, name)
        f.whole("version", _VERSION, _VERSION)
        self.group = f.identity("group")
        self.idi = f.identity("idi")
        self.idr = f.identity("idr", None)
        self.servers = [_server(s) for s in f.objects("servers", ("host", "port", "marker"))]
        psk_file = f.text("psk_file", _NEEDED if psk is None else None)
        self.sender = f.flag("sender", False)
        self.interface = f.text("interface", None)
        self.carrier = f.choice("carrier", ("udp", "ip"), "ip")
        self.carrier_port = f.whole("carrier_port", 1, 65535, _PORT)
        self.is_relayed = f.choice("delivery", ("multicast", "unicast"), "multicast") == "unicast"
        self.ttl = f.whole("ttl", 1, 255, 1)
        self.rejoin_spread_s = f.whole("rejoin_spread_s", 0, 3600, 2)
        if self.is_relayed and not all([server.marker for server in self.servers]):
            f.refuse("delivery", '"multicast" where a server has no marker')
        r = f.object("retransmit")
        self.retransmit_first_ms = r.whole("first_ms", 10, 60000, 500)
        self.retransmit_total_s = r.whole("total_s", 1, 3600, 30)
        r.done()
        self.fragment_size = f.whole("fragment_size", 300, 1500, 1280, or_zero=True)
        self.liveness_s = f.whole("liveness_s", 0, 86400, 60)
        self.ike_lifetime_s = f.whole("ike_lifetime_s", 10, 2592000, 86400, or_zero=True)
        r = f.object("limits")
        self.limit_sas = r.whole("sas", 2, 64, 8)
        self.limit_senders = r.power("senders", 1, 1024, 16)
        self.limit_payload = r.whole("payload", 1, 1472, 1400)
        r.done()
        f.done()
        if psk is None:
            self.psk = _read_psk(name, folder, psk_file)
        elif len(psk) < _PSK_LEAST:
            raise ConfigError("The pre-shared key must have at least 16 octets.")
        else:
            self.psk = bytearray(psk)

    def wipe(self):
        """Overwrite the pre-shared key: nothing can be registered with this object afterwards."""
        for i in range(len(self.psk)):
            self.psk[i] = 0


def load(path):
    """Read and check covey.json; return a Config. Raises ConfigError."""
    data = read_file(path)
    try:
        text = str(data, "utf-8")
        if not text.strip().endswith("}"):  # MicroPython's parser takes a file that was cut short
            raise ValueError
        fields = json.loads(text)
    except ValueError:
        raise ConfigError(path + " is not JSON: check its commas, quotes and braces.")
    return Config(fields, path[: path.rfind("/") + 1], path)


def parse_psk(data):
    """The octets that a file of a pre-shared key stands for; None if there are fewer than 16.

    At least 32 hexadecimal digits, white space around them ignored, are the octets they spell (an
    odd number of them spells nothing: None); anything else is taken as it is, without one trailing
    newline.
    """
    digits = data.strip()
    if len(digits) >= _HEX_LEAST and all(d in _HEX for d in digits):
        if len(digits) % 2:
            return None
        return bytearray(int(digits[i : i + 2], 16) for i in range(0, len(digits), 2))
    psk = bytearray(data[:-1] if data.endswith(b"\n") else data)
    return psk if len(psk) >= _PSK_LEAST else None


def _read_psk(name, folder, psk_file):
    path = psk_file if psk_file.startswith("/") else folder + psk_file
    psk = parse_psk(read_file(path))
    if psk is None:
        raise ConfigError(
            name + ": psk_file names " + path + ", which must hold a key of at least 16 octets, "
            "or an even number of hexadecimal digits, at least 32."
        )
    return psk


def _server(f):
    host = f.text("host")
    port = f.whole("port", 1, 65535, _PORT)
    marker = f.flag("marker", port == _PORT)
    if port == _PORT and not marker:
        f.refuse("marker", "true on port 4500 (RFC 7296 section 2.23)")
    f.done()
    return Server(host, port, marker)


class _Fields:
    """One JSON object, taken apart field by field; what is left over at the end is a mistake."""

    def __init__(self, fields, file, path=""):
        self._file = file  # leads every sentence
        self._path = path  # from the outermost object to this one: "servers[0]"
        if not isinstance(fields, dict):
            where = file + ": " + path if path else file
            raise ConfigError(where + " must be an object in braces.")
        self._left = dict(fields)

    def refuse(self, name, what):
        raise ConfigError(self._where(name) + " must be " + what + ".")

    def done(self):
        for name in sorted(self._left):
            raise ConfigError(
                self._where(name) + " is not a field of covey.json: correct or remove it."
            )

    def text(self, name, default=_NEEDED):
        value = self._take(name, default)
        if value is not default and (not isinstance(value, str) or not value):
            self.refuse(name, "a text in quotes that is not empty")
        return value

    def identity(self, name, default=_NEEDED):
        """A text, as the octets of an Identification payload."""
        value = self.text(name, default)
        if value is default:
            return value
        data = value.encode()
        if len(data) > _ID_MOST:
            self.refuse(name, "at most 255 octets long")
        return data

    def choice(self, name, choices, default):
        value = self._take(name, default)
        if value not in choices:
            self.refuse(name, " or ".join('"' + c + '"' for c in choices))
        return value

    def whole(self, name, least, most, default=_NEEDED, or_zero=False):
        value = self._take(name, default)
        if or_zero and value == 0 and type(value) is int:
            return value
        if type(value) is not int or not least <= value <= most:  # True is an int, too
            if least == most:
                self.refuse(name, str(least))
            zero = ", or 0" if or_zero else ""
            self.refuse(name, "a whole number from " + str(least) + " to " + str(most) + zero)
        return value

    def power(self, name, least, most, default):
        """A power of two: what indexes a table by masking."""
        value = self.whole(name, least, most, default)
        if value & (value - 1):
            self.refuse(name, "a power of two, such as " + str(default))
        return value

    def flag(self, name, default):
        value = self._take(name, default)
        if value is not True and value is not False:
            self.refuse(name, "true or false")
        return value

    def object(self, name):
        """The fields of a nested object; none if it is absent."""
        return _Fields(self._take(name, {}), self._file, self._under(name))

    def objects(self, name, order):
        """The fields of each object of a list that is not empty; an entry in brackets has the
        values of the fields in `order`."""
        value = self._take(name, _NEEDED)
        if not isinstance(value, list) or not value:
            self.refuse(name, "a list in brackets with at least one entry")
        found = []
        for i in range(len(value)):
            entry = value[i]
            place = name + "[" + str(i) + "]"
            if isinstance(entry, list):
                if not 0 < len(entry) <= len(order):
                    self.refuse(place, "[" + ", ".join(order) + "]")
                entry = {order[k]: entry[k] for k in range(len(entry))}
            found.append(_Fields(entry, self._file, self._under(place)))
        return found

    def _take(self, name, default):
        value = self._left.pop(name, None)  # null is as good as absent
        if value is not None:
            return value
        if default is _NEEDED:
            raise ConfigError(self._where(name) + " is missing: add it.")
        return default

    def _under(self, name):
        return self._path + "." + name if self._path else name

    def _where(self, name):
        return self._file + ": " + self._under(name)
