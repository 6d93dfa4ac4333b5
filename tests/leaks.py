"""Whether a secret was shown: all that a test wrote, held against every secret that was in use.

Loaded by conftest.py, it works by itself. Secrets are noted where they come into use in this
process: pre-shared and private keys, the site key, SK_*, and each key of AES, thus TEKs, KEKs,
KWKs and the keys of key trees. Text is what was printed, what stdout and stderr had, what every
Problem and every exception that a test waited for said, and what the processes of a Bench wrote.

A secret is found by eight octets of it in a row that begin at a multiple of eight, as hexadecimal
or base64, escaped, as a list of numbers or in one great number. Octets that are no secret whoever
has them (of a test's own key, "kkkkkkkk") are not looked for.
"""

import base64
import builtins
import json
import re
import sys
from contextlib import suppress
from functools import wraps

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

_LEN = 8  # octets that tell a secret
_MOST = 400_000  # pieces of secrets that are remembered
_MOST_TEXT = 4_000_000  # characters of a test that are looked at
_HEX = re.compile(r"[0-9A-Fa-f]{16,}")
_SPACED = re.compile(r"(?:[0-9A-Fa-f]{2}[ :]){7,}[0-9A-Fa-f]{2}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{11,}")
_ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2}|\\[\\'\"tnr]|[ -\[\]-~]){8,}")
_NUMBERS = re.compile(r"\d{1,3}(?:, ?\d{1,3}){7,}")
_GREAT = re.compile(r"\d{20,}")
_SECRET_FIELDS = ("psk", "keymat", "tek_keymat", "key", "seed", "ppk")
_PEM = re.compile(r"PRIVATE KEY-----")

_pieces = set()  # of secrets
_texts = {}  # what the running test has said, once each (a dict keeps the order)
_room = [0]


def note(secret):
    """These octets, or this text or number, are secret from now on."""
    if isinstance(secret, int):
        secret = secret.to_bytes((secret.bit_length() + 7) // 8, "big")
    if isinstance(secret, str):
        secret = secret.encode()
    secret = bytes(secret)
    if len(_pieces) > _MOST:
        _pieces.clear()
    for at in range(0, len(secret) - _LEN + 1, _LEN):
        piece = secret[at : at + _LEN]
        if not _is_plain(piece):
            _pieces.add(piece)


def note_stored(key, value):
    """What is secret in a value of a key server's store: see the tables in its sources."""
    if key == "audit/key":
        note(value)
    elif value.startswith(b"{"):
        _note_fields(json.loads(value))
    elif "/tree/" in key:  # IDs of four octets, then the keys
        note(value)
    elif value.startswith(b"\x30"):
        with suppress(ValueError, TypeError):
            note(load_der_private_key(value, None).private_numbers().private_value)


def _note_fields(fields):
    for name, value in fields.items():
        if isinstance(value, dict):
            _note_fields(value)
        elif name in _SECRET_FIELDS and isinstance(value, str):
            note(bytes.fromhex(value))


def said(text):
    """The running test has shown this."""
    if _room[0] > 0 and text and text not in _texts:
        _room[0] -= len(text)
        _texts[text] = None


def find(text):
    """Where a secret is in a text: what stands around it, without it; or None."""
    if _PEM.search(text):
        return "a private key in PEM"
    for form, decode in _FORMS.items():
        for match in form.finditer(text):
            if _holds(decode(match[0])):
                before = text[max(0, match.start() - 60) : match.start()]
                return f"{len(match[0])} characters behind {before!r}"
    return None


def look(text):
    """AssertionError where a secret is in the text."""
    found = find(text)
    assert found is None, f"a secret was shown: {found}"


def _is_plain(piece):
    steps = {(b - a) & 0xFF for a, b in zip(piece, piece[1:], strict=False)}
    return len(set(piece)) < 5 or len(steps) < 3 or all(32 <= octet < 127 for octet in piece)


def _holds(decoded):
    for octets in decoded:
        for at in range(len(octets) - _LEN + 1):
            if octets[at : at + _LEN] in _pieces:
                return True
    return False


def _of_hex(text):
    for start in (0, 1):
        yield bytes.fromhex(text[start : start + (len(text) - start) // 2 * 2])


def _of_base64(text):
    text = text.translate(str.maketrans("-_", "+/"))
    for start in range(4):
        whole = text[start : start + (len(text) - start) // 4 * 4]
        yield base64.b64decode(whole)


def _of_escaped(text):
    if "\\x" in text:
        yield text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def _of_numbers(text):
    yield bytes(number & 0xFF for number in map(int, text.split(",")))


def _of_great(text):
    number = int(text[:4000])
    yield number.to_bytes((number.bit_length() + 7) // 8, "big")
    yield number.to_bytes((number.bit_length() + 7) // 8, "little")


_FORMS = {
    _HEX: _of_hex,
    _SPACED: lambda text: [bytes.fromhex(text.replace(":", " "))],
    _BASE64: _of_base64,
    _ESCAPED: _of_escaped,
    _NUMBERS: _of_numbers,
    _GREAT: _of_great,
}


# Where secrets come into use: of a class, what its making is handed


def _first(self, key, *args, **kwargs):
    return [key]


def _psk_of(self, *args, **kwargs):
    return [self.psk, self.ppk]


def _config(self, *args, **kwargs):
    return [self.secret, self.ppk.key if self.ppk else b""]


def _all(self, *args, **kwargs):
    return args


def _keymat(self, *args, **kwargs):
    return [self.keymat]


def _tek(self, *args, **kwargs):
    return [self.tek_keymat]


def _octets(self, *args, **kwargs):
    return [self._octets]


def _scalar(self, key, *args, **kwargs):
    return [key.private_numbers().private_value]


def _sentence(self, *args, **kwargs):
    said(" ".join(map(str, args)))
    return ()


_SOURCES = [
    ("covey.port.cpy_gcm", "GCMContext", _first),
    ("covey.port.cpy", "AESBlock", _first),
    ("covey.ikesa", "Keys", _all),
    ("covey.config", "Config", _config),
    ("covey_host.gcks.authority", "Member", _psk_of),
    ("covey_host.gcks.epoch", "RekeySA", _keymat),
    ("covey_host.gcks.epoch", "Epoch", _tek),
    ("covey_host.gcks.rekeyer", "Rekeyer", _scalar),
    ("covey_host.store.sealed", "Seal", _first),
    ("covey_host.vault.sitekey", "SiteKey", _octets),
    ("covey.drops", "ConfigError", _sentence),
    ("covey_host.errors", "Problem", _sentence),
]


def _watch(cls, secrets_of):
    init = cls.__init__

    @wraps(init)
    def noting(self, *args, **kwargs):
        init(self, *args, **kwargs)
        for secret in secrets_of(self, *args, **kwargs):
            note(secret)

    cls.__init__ = noting


def _watch_what_is_loaded():
    for source in [source for source in _SOURCES if source[0] in sys.modules]:
        module, name, secrets_of = source
        _watch(getattr(sys.modules[module], name), secrets_of)
        _SOURCES.remove(source)


def pytest_collection_finish(session):
    _listen()


def _listen():
    print_, fill = builtins.print, pytest.ExceptionInfo.fill_unfilled

    @wraps(print_)
    def printing(*args, **kwargs):
        said(" ".join(map(str, args)))
        print_(*args, **kwargs)

    @wraps(fill)
    def filling(self, info):
        fill(self, info)
        said(f"{info[1]} {info[1]!r}")

    builtins.print = printing
    pytest.ExceptionInfo.fill_unfilled = filling


def pytest_runtest_setup(item):
    _watch_what_is_loaded()
    _texts.clear()
    _room[0] = _MOST_TEXT


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "setup" or report.outcome != "passed":
        return
    shown = [*_texts, *(text for _, text in report.sections)]
    _texts.clear()
    found = next(filter(None, map(find, shown)), None)
    if found is not None:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: a secret was shown: {found}"
