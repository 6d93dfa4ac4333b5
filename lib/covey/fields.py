"""covey.json read and taken apart field by field: see covey.config for what they mean.

Loaded when there is a file to be read; a board lets go of it afterwards.
"""

import json

from covey.drops import ConfigError
from covey.port import WAITING_SLOTS, const, read_file

_VERSION = const(1)
_PORT = const(4500)  # as in covey.config
_ID_MOST = const(255)  # octets of an identity
_PSK_LEAST = const(16)  # octets
_PPK_LEAST = const(32)  # RFC 8784 section 4: 256 bits of entropy
_SPACE = const(32)  # what is below it in ASCII is for terminals
_HEX_LEAST = const(32)  # digits from which a text is taken for hexadecimal
_HEX = b"0123456789abcdefABCDEF"

_NEEDED = object()  # the default of a field that must be there


def fill(config, fields, folder, name, psk):
    """Check a JSON object, and give a config.Config its fields; see there. Of a server they are
    the arguments.
    """
    f = _Fields(fields, name)
    f.whole("version", _VERSION, _VERSION)
    config.group = f.identity("group")
    config.idi = f.identity("idi")
    config.idr = f.identity("idr", None)
    config.servers = [_server(s) for s in f.objects("servers", ("host", "port", "marker"))]
    ca_file = f.text("ca_file", None)
    server_key_file = f.text("server_key_file", None)
    by_psk = psk is not None or (ca_file or server_key_file) is None
    psk_file = f.text("psk_file", _NEEDED if psk is None and by_psk else None)
    key_file = f.text("key_file", None if by_psk else _NEEDED)
    certificate_file = f.text("certificate_file", _NEEDED if ca_file and not by_psk else None)
    if ca_file and not by_psk and config.idr is None:
        f.refuse("idr", "there: by that name the key server has its certificate")
    for n, file in (("ca_file", ca_file), ("server_key_file", server_key_file)):
        if psk_file is not None and file is not None:
            f.refuse("psk_file", "left out where " + n + " is given")
    if by_psk and key_file:
        f.refuse("key_file", "beside a ca_file or a server_key_file")
    if certificate_file and not ca_file:
        f.refuse("certificate_file", "beside a ca_file")
    if ca_file and server_key_file:
        f.refuse("server_key_file", "left out where ca_file is given")
    ppk_file = f.text("ppk_file", None)
    ppk = f.identity("ppk_id", None), f.flag("ppk_optional", False)
    if ppk_file is None and ppk != (None, False):
        f.refuse("ppk_file", "there, too, for ppk_id and ppk_optional")
    config.sender = f.flag("sender", False)
    config.receiver = f.flag("receiver", True)
    if not (config.sender or config.receiver):
        f.refuse("receiver", "true where sender is false")
    config.interface = f.text("interface", None)
    config.carrier = f.choice("carrier", ("udp", "ip"), "ip")
    config.carrier_port = f.whole("carrier_port", 1, 65535, _PORT)
    config.is_relayed = f.choice("delivery", ("multicast", "unicast"), "multicast") == "unicast"
    config.ttl = f.whole("ttl", 1, 255, 1)
    config.rejoin_spread_s = f.whole("rejoin_spread_s", 0, 3600, 2)
    if config.is_relayed and not all([marker for _, _, marker in config.servers]):
        f.refuse("delivery", '"multicast" where a server has no marker')
    r = f.object("retransmit")
    config.retransmit_first_ms = r.whole("first_ms", 10, 60000, 500)
    config.retransmit_total_s = r.whole("total_s", 1, 3600, 30)
    r.done()
    config.fragment_size = f.whole("fragment_size", 300, 1500, 1280, or_zero=True)
    config.liveness_s = f.whole("liveness_s", 0, 86400, 60)
    config.ike_lifetime_s = f.whole("ike_lifetime_s", 10, 2592000, 86400, or_zero=True)
    r = f.object("limits")
    config.limit_sas = r.whole("sas", 2, 64, 8)
    config.limit_senders = r.power("senders", 1, 1024, 16)
    config.limit_waiting = r.whole("waiting", 1, 256, WAITING_SLOTS)
    config.limit_payload = r.whole("payload", 1, 1472, 1400)
    r.done()
    f.done()
    if not by_psk:
        key_file = _beside(folder, key_file)
        if ca_file:
            from covey import certfiles

            files = [_beside(folder, path) for path in (certificate_file, ca_file)]
            config.credentials = certfiles.read(key_file, *files)
        else:
            from covey import keyfiles

            config.credentials = keyfiles.raw_key(key_file, _beside(folder, server_key_file))
    elif psk is None:
        config.psk = _read_key("psk_file", name, folder, psk_file, _PSK_LEAST)
    elif len(psk) < _PSK_LEAST:
        raise ConfigError("The pre-shared key must have at least 16 octets.")
    else:
        config.psk = bytearray(psk)
    if ppk_file is not None:
        from covey.ppk import Ppk

        key = _read_key("ppk_file", name, folder, ppk_file, _PPK_LEAST)
        config.ppk = Ppk(key, ppk[0] or config.idi, ppk[1])


def read(path):
    """covey.json as the dict that it spells."""
    data = read_file(path)
    try:
        text = str(data, "utf-8")
        if not text.strip().endswith("}"):  # MicroPython's parser takes a file that was cut short
            raise ValueError
        return json.loads(text)
    except (ValueError, RuntimeError):  # the latter: nested too deep
        raise ConfigError(path + " is not JSON: check its commas, quotes and braces.")


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


def _read_key(field, name, folder, file, least):
    path = _beside(folder, file)
    key = parse_psk(read_file(path))
    if key is None or len(key) < least:
        raise ConfigError(
            name
            + ": "
            + field
            + " names "
            + path
            + ", which must hold a key of at least "
            + str(least)
            + " octets, or an even number of hexadecimal digits, at least "
            + str(2 * least)
            + "."
        )
    return key


def _beside(folder, path):
    return path if path.startswith("/") else folder + path


def _server(f):
    host = f.text("host")
    port = f.whole("port", 1, 65535, _PORT)
    marker = f.flag("marker", port == _PORT)
    if port == _PORT and not marker:
        f.refuse("marker", "true on port 4500 (RFC 7296 section 2.23)")
    f.done()
    return host, port, marker


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
        if value is default:
            return value
        if not isinstance(value, str) or not value:
            self.refuse(name, "a text in quotes that is not empty")
        try:
            least = min(value.encode())
        except ValueError:  # half of a character, which JSON can spell
            least = 0
        if least < _SPACE:
            self.refuse(name, "a text without control characters")
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
