"""covey.json read and taken apart field by field: see covey.config for what they mean.

Loaded when there is a file to be read; a board lets go of it afterwards.
"""

import json
from binascii import unhexlify

from covey.drops import ConfigError
from covey.port import WAITING_SLOTS, const, read_file
from covey.wrongfields import (
    CONTROLS,
    DOES_NOTHING,
    MISSING,
    NO_CHOICE,
    NO_FLAG,
    NO_JSON,
    NO_KEY,
    NO_LIST,
    NO_MARKER,
    NO_MARKERS,
    NO_OBJECT,
    NO_POWER,
    NO_SERVER,
    NO_TEXT,
    NO_WHOLE,
    NO_WHOLE_NOR_ZERO,
    NOT_THIS,
    SHORT_KEY,
    TOO_LONG,
    UNKNOWN,
)

_VERSION = const(1)
_PORT = const(4500)  # as in covey.config
_ID_MOST = const(255)  # octets of an identity
_PSK_LEAST = const(16)  # octets
_SPACE = const(32)  # what is below it in ASCII is for terminals
_HEX_LEAST = const(32)  # digits from which a text is taken for hexadecimal
_HEX = b"0123456789abcdefABCDEF"
_SERVER = ("host", "port", "marker")

_NEEDED = object()  # the default of a field that must be there


def fill(config, server, fields, folder, name, psk):
    """Check a JSON object, and give a config.Config its fields; see there. server: what makes a
    config.Server.
    """
    f = _Fields(fields, name, folder)
    f.whole("version", _VERSION, _VERSION)
    config.group = f.identity("group")
    config.idi = f.identity("idi")
    config.idr = f.identity("idr", None)
    config.servers = f.servers(server)
    config.has_markers = all([one.marker for one in config.servers])
    psk_file = f.text("psk_file", None)
    config.sender = f.flag("sender", False)
    config.receiver = f.flag("receiver", True)
    if not (config.sender or config.receiver):
        f.refuse("receiver", DOES_NOTHING)
    config.interface = f.text("interface", None)
    config.carrier = f.choice("carrier", ("udp", "ip"), "ip")
    config.carrier_port = f.whole("carrier_port", 1, 65535, _PORT)
    config.is_relayed = f.choice("delivery", ("multicast", "unicast"), "multicast") == "unicast"
    config.ttl = f.whole("ttl", 1, 255, 1)
    config.rejoin_spread_s = f.whole("rejoin_spread_s", 0, 3600, 2)
    if config.is_relayed and not config.has_markers:
        f.refuse("delivery", NO_MARKERS)
    r = f.object("retransmit")
    config.retransmit_first_ms = r.whole("first_ms", 10, 60000, 500)
    config.retransmit_total_s = r.whole("total_s", 1, 3600, 30)
    r.done()
    config.fragment_size = f.whole("fragment_size", 300, 1500, 1280, or_zero=True)
    config.liveness_s = f.whole("liveness_s", 0, 86400, 60)
    config.ike_lifetime_s = f.whole("ike_lifetime_s", 10, 2592000, 86400, or_zero=True)
    r = f.object("limits")
    config.limit_sas = r.whole("sas", 2, 64, 8)
    config.limit_senders = r.whole("senders", 1, 1024, 16)
    if config.limit_senders & config.limit_senders - 1:  # it indexes a table by masking
        r.refuse("senders", NO_POWER)
    config.limit_waiting = r.whole("waiting", 1, 256, WAITING_SLOTS)
    config.limit_payload = r.whole("payload", 1, 1472, 1400)
    r.done()
    if f.left or psk is None and psk_file is None:
        from covey import otherkeys

        if not otherkeys.fill(config, f, psk_file, psk):
            return
    if psk is None:
        psk = f.read_key("psk_file", psk_file, _PSK_LEAST)
    elif len(psk) < _PSK_LEAST:
        raise ConfigError(_sentence(SHORT_KEY))
    config.psk = bytearray(psk)


def read(path):
    """covey.json as the dict that it spells."""
    data = read_file(path)
    try:
        text = str(data, "utf-8")
        if not text.strip().endswith("}"):  # MicroPython's parser takes a file that was cut short
            raise ValueError
        return json.loads(text)
    except (ValueError, RuntimeError):  # the latter: nested too deep
        raise ConfigError(path + _sentence(NO_JSON))


def parse_psk(data):
    """The octets that a file of a pre-shared key stands for; None if there are fewer than 16.

    At least 32 hexadecimal digits, white space around them ignored, are the octets they spell (an
    odd number of them spells nothing: None); anything else is taken as it is, without one trailing
    newline.
    """
    digits = data.strip()
    if len(digits) >= _HEX_LEAST and not digits.strip(_HEX):
        if len(digits) % 2:
            return None
        return bytearray(unhexlify(digits))
    psk = bytearray(data[:-1] if data.endswith(b"\n") else data)
    return psk if len(psk) >= _PSK_LEAST else None


def _sentence(number, *args):
    from covey.wrongfields import SENTENCES

    return SENTENCES[number] % args


class _Fields:
    """One JSON object, taken apart field by field; what is left over at the end is a mistake."""

    def __init__(self, fields, where, folder="", dot=": "):
        self._where = where  # leads every sentence: the file, "covey.json: servers[0]"
        self._dot = dot  # between that and the name of a field
        self._folder = folder  # from where the paths in it lead
        if not isinstance(fields, dict):
            raise ConfigError(where + _sentence(NO_OBJECT))
        self.left = dict(fields)

    def refuse(self, name, number, *args):
        self.say(name, _sentence(number, *args))

    def say(self, name, what):
        """What is wrong with that field."""
        raise ConfigError(self._under(name) + what)

    def done(self):
        for name in sorted(self.left):
            self.refuse(name, UNKNOWN)

    def text(self, name, default=_NEEDED):
        value = self._take(name, default)
        if value is default:
            return value
        if not isinstance(value, str) or not value:
            self.refuse(name, NO_TEXT)
        try:
            least = min(value.encode())
        except ValueError:  # half of a character, which JSON can spell
            least = 0
        if least < _SPACE:
            self.refuse(name, CONTROLS)
        return value

    def identity(self, name, default=_NEEDED):
        """A text, as the octets of an Identification payload."""
        value = self.text(name, default)
        if value is default:
            return value
        data = value.encode()
        if len(data) > _ID_MOST:
            self.refuse(name, TOO_LONG)
        return data

    def choice(self, name, choices, default):
        """One of two texts."""
        value = self._take(name, default)
        if value not in choices:
            self.refuse(name, NO_CHOICE, *choices)
        return value

    def whole(self, name, least, most, default=_NEEDED, or_zero=False):
        value = self._take(name, default)
        if type(value) is int and (least <= value <= most or or_zero and value == 0):
            return value  # True is an int, too
        if least == most:
            self.refuse(name, NOT_THIS, least)
        self.refuse(name, NO_WHOLE_NOR_ZERO if or_zero else NO_WHOLE, least, most)

    def flag(self, name, default):
        value = self._take(name, default)
        if value is not True and value is not False:
            self.refuse(name, NO_FLAG)
        return value

    def object(self, name):
        """The fields of a nested object; none if it is absent."""
        return self._inner(self._take(name, {}), name)

    def _inner(self, fields, name):
        return _Fields(fields, self._under(name), dot=".")

    def servers(self, server):
        """[config.Server] of a list that is not empty; an entry in brackets has the arguments."""
        listed = self._take("servers", _NEEDED)
        if not isinstance(listed, list) or not listed:
            self.refuse("servers", NO_LIST)
        found = []
        for i in range(len(listed)):
            entry = listed[i]
            place = "servers[%d]" % i
            if isinstance(entry, list):
                if not 0 < len(entry) <= len(_SERVER):
                    self.refuse(place, NO_SERVER)
                entry = dict(zip(_SERVER, entry))
            f = self._inner(entry, place)
            host, port = f.text("host"), f.whole("port", 1, 65535, _PORT)
            marker = f.flag("marker", port == _PORT)
            if port == _PORT and not marker:
                f.refuse("marker", NO_MARKER)
            f.done()
            found.append(server(host, port, marker))
        return found

    def beside(self, path):
        """Where a path leads that stands in covey.json."""
        return path if path.startswith("/") else self._folder + path

    def read_key(self, name, path, least):
        """The key in the file that this field names, of so many octets at least."""
        path = self.beside(path)
        key = parse_psk(read_file(path))
        if key is None or len(key) < least:
            self.refuse(name, NO_KEY, path, least, 2 * least)
        return key

    def _take(self, name, default):
        value = self.left.pop(name, None)  # null is as good as absent
        if value is not None:
            return value
        if default is _NEEDED:
            self.refuse(name, MISSING)
        return default

    def _under(self, name):
        return self._where + self._dot + name
