"""What is read from files, from the control socket, and from the memory of a member that slept.

A mistake in them is told in one sentence (ConfigError, Problem); nothing else is raised.
"""

import json
import re
import shutil
import struct
import tempfile
from hashlib import sha256
from pathlib import Path
from unittest import mock

import test_resume
from covey import fields, registration, resume, several
from covey import membership as memberships
from covey.config import Config
from covey.drops import ConfigError
from covey.prf import PRF_LEN, prf
from covey_host import site as sites
from covey_host.board import boards, espressif, firmware, mpyfile, uf2
from covey_host.errors import Problem
from covey_host.gcks import authority, policy
from covey_host.gcks.policy import groups, reading
from covey_host.operations import Operations
from covey_host.store import sqlite
from fuzz.program import Program
from fuzz.spoil import spoil_octets
from gcks_site import LINE1, SITE, Site
from story import STORY
from test_bad_input import Running

_PSK = b"sixteen octets, or more"


_GOOD = {
    "version": 1,
    "group": "line1",
    "idi": "press-7",
    "idr": "gcks.example",
    "servers": [{"host": "192.0.2.1", "port": 848, "marker": False}, ["192.0.2.2"]],
    "psk_file": "psk",
    "sender": True,
    "interface": "192.0.2.7",
    "carrier": "udp",
    "carrier_port": 4500,
    "delivery": "multicast",
    "ttl": 3,
    "rejoin_spread_s": 1,
    "retransmit": {"first_ms": 100, "total_s": 5},
    "fragment_size": 400,
    "liveness_s": 0,
    "ike_lifetime_s": 0,
    "limits": {"sas": 4, "senders": 2, "payload": 9},
}
_WORDS = ("", "line1", "press-7", "mole", "../a", "\ud800", "\0", "a" * 300, "239.192.1.33", "udp")
_NUMBERS = (0, 1, -1, 4500, 65536, 1 << 40, -(1 << 80), 0.5, float("nan"), True, False, None)


def _value(program, depth=3):
    """What JSON may hold."""
    kind = program.u8() % 8
    if kind == 0:
        return program.pick(_NUMBERS)
    if kind == 1:
        return program.octets().decode("utf-8", "surrogateescape")
    if kind == 2:
        return program.u16()
    if kind < 5 and depth:
        values = [_value(program, depth - 1) for _ in range(program.u8() & 3)]
        if kind == 3:
            return values
        return {program.pick((*_WORDS, "host", "port", "marker", "sas")): v for v in values}
    return program.pick(_WORDS)


def configs(data):
    """covey.json, as its octets lie in flash; and the pre-shared key beside it."""
    program = Program(data)
    is_text = program.u8() & 1
    if is_text:
        text = program.rest()
    else:
        found = dict(_GOOD)
        while not program.is_over:
            found[program.pick((*_GOOD, "other"))] = _value(program)
        text = json.dumps(found).encode()
    with mock.patch.object(fields, "read_file", lambda path: text):
        try:
            Config(fields.read("covey.json"), "", "covey.json", psk=_PSK).wipe()
        except ConfigError as error:
            assert str(error).endswith("."), error
    fields.parse_psk(text)


_LITERALS = (
    *("0", "1", "-1", "5", "4500", "65536", "1e9", "nan", "true", "false", "1979-05-27", "{}"),
    *('""', '"1h"', '"0s"', '"9999999d"', '"inband"', '"multicast"', '"unicast"', '"mac"', '"ip"'),
    *(
        '"udp"',
        '"stop"',
        '"tell"',
        '"239.192.1.33"',
        '"192.0.2.1"',
        '"none"',
        '"a.b"',
        '"\\u0000"',
    ),
    *("[]", "[10, 6]", "[0, 0]", '["0.0.0.0:4500"]', "[{port = 848, marker = false}]", "[[1]]"),
    *('"bin"', '"uf2"', '"armv6m"', '"esp32"', "0x1000", "0x200000", '["1.25.0"]', '["udp"]'),
)


def changed_toml(program, text, keys, values=()):
    """The text, with lines taken out, put in, and other values."""
    lines = text.split("\n")
    for _ in range(program.u8() & 15):
        at = program.u8() % len(lines)
        how = program.u8() & 7
        value = program.pick((*_LITERALS, *values))
        if how == 0:
            lines[at] = program.octets().decode("utf-8", "replace")
        elif how == 1 and len(lines) > 1:
            del lines[at]
        elif how < 5 and "=" in lines[at]:
            lines[at] = lines[at].split("=")[0] + "= " + value
        elif how == 5:
            lines.insert(
                at, program.pick(("[group.line2]", "[x]", "[[group]]", "[group.line1.a]"))
            )
        else:
            lines.insert(at, f"{program.pick(keys)} = {value}")
    return "\n".join(lines)


_KEYS = sorted(reading.SITE | groups.GROUP)


def policies(data):
    """covey.toml."""
    try:
        policy.parse(changed_toml(Program(data), SITE + LINE1, _KEYS))
    except Problem as problem:
        _check_sentence(problem.sentence)


def _plain(name):
    """A board file without its comments."""
    text = (boards.HOME / f"{name}.toml").read_text()
    return re.sub(r"(?m)^#.*\n| +#.*$", "", text)


_BOARD_FILES = [_plain(name) for name in boards.names()]
_BOARD_KEYS = sorted(set(re.findall(r"(?m)^(\w+) =", "\n".join(_BOARD_FILES))))


def board_files(data):
    """boards/NAME.toml."""
    program = Program(data)
    text = changed_toml(program, program.pick(_BOARD_FILES), _BOARD_KEYS)
    try:
        boards.parse(text, "board", "board.toml")
    except Problem as problem:
        _check_sentence(problem.sentence)


def _check_sentence(sentence):
    assert sentence.endswith(".") and "\n" not in sentence, sentence


_COMMANDS = (
    {"do": "group add", "group": "b", "settings": {"address": "239.192.1.33", "port": 5}},
    {"do": "reload"},
    {"do": "rekey", "group": "line1"},
    {"do": "member add", "member": "c", "group": "line1", "sender": True, "psk": "00" * 16},
    {"do": "member add", "member": "d", "group": "line1", "servers": [["192.0.2.1", 5]]},
    {"do": "member remove", "members": ["mole"]},
    {"do": "member list"},
    {"do": "status", "member": "mole"},
    {"do": "why", "member": "mole"},
    {"do": "keys", "follow": True},
)
_FIELDS = (
    *("group", "member", "members", "settings", "sender", "psk", "servers", "delivery"),
    *("interface", "ttl", "follow", "do", "ppk", "auth", "public_key"),
)
_SETTINGS = "address", "port", "carrier", "lifetime", "delivery", "source_auth", "members", "\n"


def commands(data):
    """What clients of the control socket ask of a running key server of two members."""
    program = Program(data)
    root = Path(tempfile.mkdtemp(dir=_quick_disk()))
    try:
        place = sites.create(root / "site", SITE + LINE1, _fill)
        made = Site(place.store)
        try:
            for name in ("press-7", "mole"):
                made.add(name)
            operations = Operations(place, made.store, _Server(made))
            for _ in range(8):
                if not program.is_over:
                    _perform(operations, _request(program), made.now)
        finally:
            made.store.close()
    finally:
        shutil.rmtree(root)


def _request(program):
    request = json.loads(json.dumps(program.pick(_COMMANDS)))
    for _ in range(program.u8() & 3):
        field = program.pick(_FIELDS)
        if field == "settings":
            request["settings"] = {program.pick(_SETTINGS): _value(program) for _ in range(2)}
        else:
            request[field] = _value(program)
    return json.loads(json.dumps(request))


def _perform(operations, request, now_ms):
    """As control.py does, but for its last resort."""
    try:
        json.dumps(operations.perform(request, now_ms))
    except Problem as problem:
        assert problem.sentence and "\n" not in problem.sentence


class _Server(Running):
    def facts(self):
        return {}

    def cluster(self):
        return None

    def drain(self):
        raise Problem("This key server is the only one of its site: stop it.")


def _fill(path):
    store = sqlite.create(path)
    authority.make_signing_key(store)
    store.close()


def _quick_disk():
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def sleepers(data):
    """What a member kept over its sleep, changed; under the key that it has, and without."""
    program = Program(data)
    with mock.patch.object(
        memberships, "Registration", None, create=True
    ):  # others put scripts in its place
        with (
            mock.patch.object(registration, "Registration", None),
            mock.patch.object(several, "Hop", None),
        ):
            _revive(program)


def _revive(program):
    sending = program.u8() & 1
    life = test_resume.Life(bool(sending)).registered(STORY["sender" if sending else "receiver"])
    life.run(100 * (program.u8() & 127))
    octets = bytes(test_resume.asleep(life))[:-PRF_LEN]
    for _ in range(4):
        how = program.u8()
        if how & 8:
            octets = spoil_octets(octets, how & 7, program)
    if program.u8() & 7:
        octets += prf(resume._key(life.it.settings), octets)
    again, is_member = test_resume.awake(bytearray(octets), program.u16(), bool(sending))
    if is_member:
        again.run(500)
        assert again.it.state_name in ("member", "silent", "registering")
    else:
        assert not again.member.keys.live() and again.it._group.rekey.current is None


_BOARDS = {name: boards.load(name) for name in ("esp32c3", "rpi_pico_w")}


def firmwares(data):
    """Files of MicroPython for boards, whose outermost sums are right; and .mpy files."""
    program = Program(data)
    kind = program.u8() % 3
    if kind == 0:
        return _mpy(program.rest())
    board = _BOARDS["esp32c3" if kind == 1 else "rpi_pico_w"]
    file = _espressif(program) if kind == 1 else _uf2(program)
    try:
        read = firmware._of_espressif if kind == 1 else firmware._of_uf2
        firmware._checked(read(file, board), board)
    except (espressif.Unfit, Problem):
        pass


def _mpy(data):
    try:
        mpyfile.parse(data)
    except mpyfile.NoMpy:
        pass


def _espressif(program):
    file = bytearray(b"\xff" * 0x8000)
    boot = _image(program)
    file[: len(boot)] = boot
    for _ in range(program.u8() & 7):
        kind, offset = program.u8() & 1, program.u32()
        if offset & 1:
            offset = 0x9000  # where the next part of the file lies
        file += struct.pack("<HBBII16sI", 0x50AA, kind, 0, offset, program.u32(), b"vfs", 0)
    file += b"\xff" * (0x9000 - len(file)) + _image(program) + program.rest()
    return bytes(file)


def _image(program):
    out = bytearray([0xE9, program.u8() & 15, 0, 0]) + bytes(8)
    out += bytes([program.pick((5, 5, 0, 99)), *bytes(10), program.u8() & 1])
    for _ in range(out[1]):
        octets = program.octets()
        out += struct.pack("<II", 0, len(octets) + 256 * (program.u8() == 255)) + octets
    out += bytes(15 - len(out) % 16)
    folded = 0xEF
    at = 24
    for _ in range(out[1]):
        length = int.from_bytes(out[at + 4 : at + 8], "little")
        for octet in out[at + 8 : at + 8 + length]:
            folded ^= octet
        at += 8 + length
    out.append(folded)
    return bytes(out) + (sha256(out).digest() if out[23] else b"")


def _uf2(program):
    count = program.u8() & 7
    file = b""
    for number in range(count):
        address = 0x10000000 + 256 * number if program.u8() & 7 else program.u32()
        flags = 0x2000 if program.u8() & 7 else program.u16()
        head = 0x9E5D5157, flags, address, 256, number, count, _BOARDS["rpi_pico_w"].family
        payload = b""
        if program.u8() & 1:
            payload = struct.pack("<5I", 0x7188EBF2, program.u32(), program.u32(), 0, 0xE71AA390)
        if program.u8() & 1:
            payload += b"MicroPython v1.25.0 on 2025-04-15; Raspberry Pi Pico W with RP2040\0"
        payload += program.octets(200)
        file += struct.pack("<4s7I476sI", uf2.MAGIC, *head, payload, 0x0AB16F30)
    return file


TARGETS = {
    "config": configs,
    "policy": policies,
    "board": board_files,
    "control": commands,
    "sleep": sleepers,
    "firmware": firmwares,
}
