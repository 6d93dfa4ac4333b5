"""covey.json: what is taken, and the sentence for each thing that is not."""

import gc
import json
import os
import sys

from covey.config import Config, load
from covey.drops import ConfigError
from covey.fields import parse_psk

_PSK = b"sixteen octets.."


def _fields(**changes):
    fields = {
        "version": 1,
        "group": "line1",
        "idi": "press-7",
        "servers": [{"host": "192.0.2.10"}],
        "psk_file": "press-7.psk",
    }
    fields.update(changes)
    return {name: fields[name] for name in fields if fields[name] != "absent"}


def _config(**changes):
    return Config(_fields(**changes), psk=_PSK)


def _sentence(call, *args, **changes):
    try:
        call(*args, **changes)
    except ConfigError as e:
        return str(e)
    raise AssertionError("not refused")


def test_the_least_that_is_needed():
    c = _config()
    assert (c.group, c.idi, c.idr) == (b"line1", b"press-7", None)
    (server,) = c.servers
    assert (server.host, server.port, server.marker) == ("192.0.2.10", 4500, True)
    assert c.sender is False and c.interface is None and c.carrier == "ip" and c.ttl == 1
    assert c.carrier_port == 4500 and c.is_relayed is False
    assert (c.rejoin_spread_s, c.retransmit_first_ms, c.retransmit_total_s) == (2, 500, 30)
    assert (c.fragment_size, c.liveness_s, c.ike_lifetime_s) == (1280, 60, 86400)
    assert (c.limit_sas, c.limit_senders, c.limit_payload) == (8, 16, 1400)
    assert c.limit_waiting == (16 if sys.implementation.name == "micropython" else 64)
    assert c.psk == _PSK and isinstance(c.psk, bytearray)


def test_unicast_delivery():
    assert _config(delivery="unicast").is_relayed is True
    assert _config(delivery="multicast").is_relayed is False


def test_everything_that_may_be_said():
    c = _config(
        idr="gcks.example",
        servers=[
            {"host": "gcks.example", "port": 848},
            {"host": "192.0.2.11", "port": 14500, "marker": True},
        ],
        sender=True,
        interface="192.0.2.7",
        carrier="udp",
        carrier_port=14500,
        ttl=8,
        rejoin_spread_s=0,
        retransmit={"first_ms": 100, "total_s": 5},
        limits={"sas": 4, "senders": 64, "payload": 256, "waiting": 5},
    )
    assert c.idr == b"gcks.example" and c.sender is True and c.interface == "192.0.2.7"
    assert [(s.port, s.marker) for s in c.servers] == [(848, False), (14500, True)]
    assert (c.carrier, c.carrier_port, c.ttl, c.rejoin_spread_s) == ("udp", 14500, 8, 0)
    assert (c.retransmit_first_ms, c.retransmit_total_s) == (100, 5)
    assert (c.limit_sas, c.limit_senders, c.limit_payload) == (4, 64, 256)
    assert c.limit_waiting == 5


def test_null_is_as_good_as_absent():
    c = _config(idr=None, interface=None, limits=None, sender=None)
    assert c.receiver and not _config(sender=True, receiver=False).receiver
    assert c.idr is None and c.interface is None and c.limit_sas == 8 and c.sender is False


_MISSING = "covey.json: %s is missing: add it."
_WRONG = (
    ({"version": "absent"}, _MISSING % "version"),
    ({"version": 2}, "covey.json: version must be 1."),
    ({"version": True}, "covey.json: version must be 1."),
    ({"group": "absent"}, _MISSING % "group"),
    ({"group": ""}, "covey.json: group must be a text in quotes that is not empty."),
    ({"group": 7}, "covey.json: group must be a text in quotes that is not empty."),
    ({"group": "a\0b"}, "covey.json: group must be a text without control characters."),
    ({"psk_file": "a\0b"}, "covey.json: psk_file must be a text without control characters."),
    (
        {"servers": [["a\nb"]]},
        "covey.json: servers[0].host must be a text without control characters.",
    ),
    ({"group": "g" * 256}, "covey.json: group must be at most 255 octets long."),
    ({"idi": "absent"}, _MISSING % "idi"),
    ({"idi": ["x"]}, "covey.json: idi must be a text in quotes that is not empty."),
    ({"idr": 1}, "covey.json: idr must be a text in quotes that is not empty."),
    ({"servers": "absent"}, _MISSING % "servers"),
    ({"servers": []}, "covey.json: servers must be a list in brackets with at least one entry."),
    ({"servers": {}}, "covey.json: servers must be a list in brackets with at least one entry."),
    ({"servers": ["h"]}, "covey.json: servers[0] must be an object in braces."),
    ({"servers": [{}]}, _MISSING % "servers[0].host"),
    ({"servers": [[]]}, "covey.json: servers[0] must be [host, port, marker]."),
    ({"servers": [["h", 1, True, 2]]}, "covey.json: servers[0] must be [host, port, marker]."),
    (
        {"servers": [["h"], ["h", "848"]]},
        "covey.json: servers[1].port must be a whole number from 1 to 65535.",
    ),
    (
        {"servers": [{"host": "h"}, {"host": "h", "port": 0}]},
        "covey.json: servers[1].port must be a whole number from 1 to 65535.",
    ),
    (
        {"servers": [{"host": "h", "port": "848"}]},
        "covey.json: servers[0].port must be a whole number from 1 to 65535.",
    ),
    (
        {"servers": [{"host": "h", "marker": 1}]},
        "covey.json: servers[0].marker must be true or false.",
    ),
    (
        {"servers": [{"host": "h", "marker": False}]},
        "covey.json: servers[0].marker must be true on port 4500 (RFC 7296 section 2.23).",
    ),
    (
        {"servers": [{"host": "h", "prot": 1}]},
        "covey.json: servers[0].prot is not a field of covey.json: correct or remove it.",
    ),
    ({"sender": "yes"}, "covey.json: sender must be true or false."),
    ({"sender": 1}, "covey.json: sender must be true or false."),
    ({"receiver": False}, "covey.json: receiver must be true where sender is false."),
    ({"interface": ""}, "covey.json: interface must be a text in quotes that is not empty."),
    ({"carrier": "tcp"}, 'covey.json: carrier must be "udp" or "ip".'),
    (
        {"carrier_port": 0},
        "covey.json: carrier_port must be a whole number from 1 to 65535.",
    ),
    (
        {"delivery": "broadcast"},
        'covey.json: delivery must be "multicast" or "unicast".',
    ),
    (
        {"delivery": "unicast", "servers": [["192.0.2.1"], ["192.0.2.1", 848]]},
        'covey.json: delivery must be "multicast" where a server has no marker.',
    ),
    ({"ttl": 0}, "covey.json: ttl must be a whole number from 1 to 255."),
    ({"ttl": 256}, "covey.json: ttl must be a whole number from 1 to 255."),
    ({"ttl": True}, "covey.json: ttl must be a whole number from 1 to 255."),
    (
        {"rejoin_spread_s": -1},
        "covey.json: rejoin_spread_s must be a whole number from 0 to 3600.",
    ),
    (
        {"fragment_size": 299},
        "covey.json: fragment_size must be a whole number from 300 to 1500, or 0.",
    ),
    (
        {"fragment_size": False},
        "covey.json: fragment_size must be a whole number from 300 to 1500, or 0.",
    ),
    (
        {"liveness_s": 86401},
        "covey.json: liveness_s must be a whole number from 0 to 86400.",
    ),
    (
        {"ike_lifetime_s": 9},
        "covey.json: ike_lifetime_s must be a whole number from 10 to 2592000, or 0.",
    ),
    ({"retransmit": 5}, "covey.json: retransmit must be an object in braces."),
    (
        {"retransmit": {"first_ms": 1.5}},
        "covey.json: retransmit.first_ms must be a whole number from 10 to 60000.",
    ),
    (
        {"retransmit": {"total_s": 0}},
        "covey.json: retransmit.total_s must be a whole number from 1 to 3600.",
    ),
    (
        {"retransmit": {"total": 1}},
        "covey.json: retransmit.total is not a field of covey.json: correct or remove it.",
    ),
    ({"limits": {"sas": 1}}, "covey.json: limits.sas must be a whole number from 2 to 64."),
    (
        {"limits": {"senders": 24}},
        "covey.json: limits.senders must be a power of two, such as 16.",
    ),
    (
        {"limits": {"payload": 1473}},
        "covey.json: limits.payload must be a whole number from 1 to 1472.",
    ),
    (
        {"pskfile": "typo"},
        "covey.json: pskfile is not a field of covey.json: correct or remove it.",
    ),
)


def test_a_server_in_brackets():
    c = _config(servers=[["a"], ["b", 848], ["c", 14500, True]])
    seen = [(s.host, s.port, s.marker) for s in c.servers]
    assert seen == [("a", 4500, True), ("b", 848, False), ("c", 14500, True)]


def test_each_mistake_has_its_sentence():
    for changes, sentence in _WRONG:
        assert _sentence(_config, **changes) == sentence, (changes, sentence)


def test_half_of_a_character():
    """Found by fuzzing: JSON can spell what UTF-8 can't. MicroPython has no such texts."""
    if sys.implementation.name == "cpython":
        for field in ("group", "idi", "interface"):
            sentence = "covey.json: " + field + " must be a text without control characters."
            assert _sentence(_config, **{field: json.loads('"\\ud800"')}) == sentence


def test_what_is_no_object():
    for fields in ([], "x", 1, None):
        assert _sentence(Config, fields) == "covey.json must be an object in braces."


def test_a_missing_psk_file_and_a_short_psk():
    assert _sentence(Config, _fields(psk_file="absent")) == _MISSING % "psk_file"
    sentence = _sentence(Config, _fields(), psk=b"fifteen octets.")
    assert sentence == "The pre-shared key must have at least 16 octets."


def test_wipe_leaves_nothing():
    c = _config()
    c.wipe()
    assert c.psk == bytearray(len(_PSK))


def test_psk_forms():
    digits = b"00112233445566778899aABBccddeeff"
    octets = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert parse_psk(digits) == octets
    assert parse_psk(b"\n\t " + digits + b" \r\n") == octets
    assert parse_psk(digits + b"01") == octets + b"\1"
    assert parse_psk(digits + b"0") is None  # an odd digit spells nothing
    assert parse_psk(digits[:30]) == digits[:30]  # too short for digits: octets
    assert parse_psk(b"correct horse battery\n") == b"correct horse battery"
    assert parse_psk(b"correct horse battery\n\n") == b"correct horse battery\n"
    assert parse_psk(b" spaces count here ") == b" spaces count here "
    assert parse_psk(bytes(16)) == bytes(16)
    assert parse_psk(bytes(15)) is None
    assert parse_psk(b"") is None
    assert parse_psk(b"fifteen octets.\n") is None
    assert isinstance(parse_psk(digits), bytearray)


class _Folder:
    """A folder for files, gone at the end."""

    def __init__(self):
        base = __file__[: -len("tests/lib/test_config.py")] + ".build"
        self.path = base + "/test_config." + str(id(self))
        self._names = set()

    def __enter__(self):
        for path in (self.path[: self.path.rfind("/")], self.path):
            try:
                os.mkdir(path)
            except OSError:
                pass
        return self

    def write(self, name, data):
        self._names.add(name)
        with open(self.path + "/" + name, "wb") as file:
            file.write(data)
        return self.path + "/" + name

    def __exit__(self, *_):
        for name in self._names:
            os.remove(self.path + "/" + name)
        os.rmdir(self.path)


_FILE = (
    b'{"version": 1, "group": "line1", "idi": "press-7", "psk_file": "press-7.psk",\n'
    b' "servers": [{"host": "192.0.2.10"}]}\n'
)


def test_a_board_lets_go_of_what_has_read_the_file():
    """Else its code would lie about for a member's life: 4 KB."""
    is_board = sys.implementation.name == "micropython"
    with _Folder() as folder:
        folder.write("press-7.psk", _PSK)
        path = folder.write("covey.json", _FILE)
        taken = []
        for _ in range(3):
            config = load(path)
            assert ("covey.fields" in sys.modules) is not is_board
            config = config.servers[0].host
            gc.collect()
            if is_board:
                taken.append(gc.mem_alloc())
    assert not is_board or taken[2] <= taken[1] + 256


def test_load_finds_the_psk_beside_the_file():
    with _Folder() as folder:
        path = folder.write("covey.json", _FILE)
        folder.write("press-7.psk", b"correct horse battery\n")
        assert load(path).psk == b"correct horse battery"


def test_load_takes_an_absolute_psk_file():
    with _Folder() as folder:
        where = folder.write("other.psk", b"0" * 32)
        if not where.startswith("/"):
            where = os.getcwd() + "/" + where
        path = folder.write("covey.json", _FILE.replace(b"press-7.psk", where.encode()))
        assert load(path).psk == bytes(16)


def test_load_names_what_it_can_not_read():
    with _Folder() as folder:
        path = folder.path + "/covey.json"
        assert path in _sentence(load, path)
        folder.write("covey.json", _FILE)
        assert folder.path + "/press-7.psk" in _sentence(load, path)
        folder.write("press-7.psk", b"short\n")
        assert _sentence(load, path) == (
            path + ": psk_file names " + folder.path + "/press-7.psk, which must hold a key of at "
            "least 16 octets, or an even number of hexadecimal digits, at least 32."
        )


def test_load_of_what_is_no_json():
    with _Folder() as folder:
        for data in (b"", b"{", b'{"version": 1,}}', b"\xff\xfe", b"{'version': 1}", b"nonsense"):
            path = folder.write("covey.json", data)
            sentence = path + " is not JSON: check its commas, quotes and braces."
            assert _sentence(load, path) == sentence, data


def test_what_is_nested_without_end():
    """MicroPython's parser takes it, and then a field is missing."""
    with _Folder() as folder:
        path = folder.write("covey.json", b'{"group": ' + b"[" * 3000 + b"]" * 3000 + b"}")
        assert _sentence(load, path).startswith(path)


def test_every_sentence_names_the_file_that_was_loaded():
    with _Folder() as folder:
        path = folder.write("covey.json", _FILE.replace(b"idi", b"idy"))
        assert _sentence(load, path) == path + ": idi is missing: add it."


def test_fields_that_zero_switches_off():
    c = _config(fragment_size=0, liveness_s=0, ike_lifetime_s=0)
    assert (c.fragment_size, c.liveness_s, c.ike_lifetime_s) == (0, 0, 0)
    c = _config(fragment_size=300, liveness_s=1, ike_lifetime_s=10)
    assert (c.fragment_size, c.liveness_s, c.ike_lifetime_s) == (300, 1, 10)


def test_a_ppk():
    assert _config().ppk is None
    assert _sentence(_config, ppk_id="x").startswith("covey.json: ppk_file must be there, too")
    assert _sentence(_config, ppk_optional=True).startswith("covey.json: ppk_file must be there")
    with _Folder() as folder:
        for text in (b"0" * 62, b"sixteen octets.." * 2 + b"\n", b"ab" * 33):
            folder.write("own.ppk", text)
            fields = _fields(ppk_file="own.ppk", ppk_id="a key")
            if text == b"0" * 62:
                said = _sentence(Config, fields, folder.path + "/", psk=_PSK)
                assert said.startswith("covey.json: ppk_file names ") and "at least 32" in said
                continue
            c = Config(fields, folder.path + "/", psk=_PSK)
            assert len(c.ppk.key) == (32 if text[:1] == b"s" else 33)
            c.wipe()
            assert not any(c.ppk.key) and not any(c.psk)
