"""The text of a site key, sealed values, and backups: also under the right key, by who has it.

A mistake is told in one sentence; nothing is written outside of the site that is made.
"""

import io
import shutil
import tarfile
import tempfile
from pathlib import Path

from covey_host.errors import Problem
from covey_host.store.sealed import Seal
from covey_host.vault import backup, sitekey, stream
from fuzz.files import _quick_disk
from fuzz.program import Program
from fuzz.spoil import spoil_octets

_KEY = bytes(range(7, 39))
_SEAL = Seal(_KEY, _KEY[:8])
_SEALED = _SEAL.close("group/line1/state", b'{"epoch":{}}')
_DIGITS = _KEY.hex().encode()
_NAMES = (
    *(
        "state.db",
        "covey.toml",
        "members/a/psk",
        "audit.log",
        "../covey.toml",
        "/tmp/psk",
        "site.key",
    ),
    *("members/../psk", "members/a", "", "members/a/psk/x", "a" * 300),
)
_KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)


def vault(data):
    program = Program(data)
    (_text, _value, _backup)[program.u8() % 3](program)


def _text(program):
    words = (_DIGITS, _DIGITS.upper(), b"plain", b"\n", b" ", b"\0", _DIGITS[:-1])
    text = b""
    while not program.is_over:
        text += program.pick(words) if program.u8() & 3 else program.octets(80)
    try:
        keys = sitekey._parse(bytearray(text), "site.key", None)
        assert len(keys.newest.text()) == 65 and keys.newest.id
    except Problem as problem:
        assert problem.sentence.endswith(".") and "\n" not in problem.sentence


def _value(program):
    octets = _SEALED
    while not program.is_over:
        octets = spoil_octets(octets, program.u8() & 7, program)
    opened = _SEAL.open("group/line1/state", octets)
    assert opened is None or octets[12:] == _SEALED[12:]


def _backup(program):
    key = sitekey.SiteKey(bytearray(_KEY))
    sealed = program.u8() & 1
    plain = _tar(program)
    if sealed & 1:
        plain = spoil_octets(plain, program.u8() & 7, program)
    out = io.BytesIO()
    sealing = stream.Sealing(out, key, program.u32())
    sealing.write(plain)
    sealing.finish()
    octets = out.getvalue()
    if program.u8() & 7 == 7:
        octets = spoil_octets(octets, program.u8() & 7, program)
    outside = Path(tempfile.mkdtemp(prefix="covey-fuzz-", dir=_quick_disk()))
    try:
        (outside / "in").mkdir()
        (outside / "file").write_bytes(octets)
        keys = sitekey.SiteKeys(key, (), False, "site.key", None)
        try:
            backup._read(outside / "file", outside / "in", keys)
        except Problem as problem:
            assert "\n" not in problem.sentence
        assert sorted(each.name for each in outside.iterdir()) == ["file", "in"]
    finally:
        shutil.rmtree(outside)


def _tar(program):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for _ in range(program.u8() & 3):
            head = tarfile.TarInfo(program.pick(_NAMES))
            head.type = program.pick(_KINDS) if program.u8() & 1 else tarfile.REGTYPE
            head.linkname = program.pick(_NAMES)
            content = program.octets()
            head.size = len(content) if head.type == tarfile.REGTYPE else 0
            tar.addfile(head, io.BytesIO(content))
    return out.getvalue()


TARGETS = {"vault": vault}
