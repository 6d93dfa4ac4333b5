"""Keys and certificates in files, as OpenSSL's command and people write them."""

import json
import os

from covey import certfiles
from covey.config import Config, load
from covey.drops import ConfigError

_RECORDED = __file__[: -len("lib/test_certfiles.py")] + "recorded/certificates.json"

with open(_RECORDED) as _file:
    _FOUND = json.load(_file)
_DER = {name: bytes.fromhex(_FOUND["certificates"][name]) for name in _FOUND["certificates"]}
_FILES = {name: bytes.fromhex(_FOUND["files"][name]) for name in _FOUND["files"]}
_KEY = bytes.fromhex(_FOUND["keys"]["member"])


class _Folder:
    """Files here, gone in the end."""

    def __init__(self, **files):
        self.files = {name + ".testfile": files[name] for name in files}

    def __enter__(self):
        for name in self.files:
            with open(name, "wb") as file:
                file.write(self.files[name])
        return self

    def __exit__(self, *_):
        for name in self.files:
            os.remove(name)


def _read(key=_FILES["pkcs8_pem"], certificate=_DER["member"], ca=_DER["ca"]):
    with _Folder(key=key, certificate=certificate, ca=ca):
        return certfiles.read("key.testfile", "certificate.testfile", "ca.testfile")


def _sentence(call, *args, **how):
    try:
        call(*args, **how)
    except ConfigError as error:
        return str(error)
    raise AssertionError("not refused")


def test_keys_in_all_forms():
    for name in ("pkcs8_pem", "pkcs8_der", "sec1_pem", "sec1_der"):
        key = _read(key=_FILES[name]).key
        assert key == _KEY and isinstance(key, bytearray), name


def test_certificates_in_all_forms():
    for data, chain in (
        (_DER["member"], ["member"]),
        (_FILES["text_pem"], ["member"]),
        (_FILES["text_pem"].replace(b"\n", b"\r\n"), ["member"]),
        (_FILES["text_pem"] * 2, ["member", "member"]),
    ):
        assert _read(certificate=data)._chain == [_DER[name] for name in chain]


def test_files_that_hold_nothing_of_use():
    for key in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\n",
        _FILES["encrypted_pem"],
        _FILES["text_pem"],
        _FILES["sec1_der"].replace(_KEY, bytes(32)),
        _FILES["sec1_der"].replace(_KEY, b"\xff" * 32),
        _FILES["sec1_der"].replace(b"\x3d\x03\x01\x07", b"\x3d\x03\x01\x01"),
    ):
        assert "key.testfile holds no P-256 key" in _sentence(_read, key=key)
    assert "certificate.testfile holds no" in _sentence(_read, certificate=_FILES["sec1_pem"])
    for bad in (b"", b"nonsense", _DER["critical"]):
        assert "X.509" in _sentence(_read, certificate=bad)
        assert "X.509" in _sentence(_read, ca=bad)


def test_in_covey_json():
    fields = {
        "version": 1,
        "group": "line1",
        "idi": "press-7",
        "idr": "gcks.example",
        "servers": [{"host": "192.0.2.1"}],
        "key_file": "key.testfile",
        "certificate_file": "certificate.testfile",
        "ca_file": "ca.testfile",
    }
    here = {"key": _FILES["pkcs8_pem"], "certificate": _DER["member"], "ca": _DER["ca"]}
    with _Folder(json=json.dumps(fields).encode(), **here):
        config = load("json.testfile")
        assert config.psk is None and config.secret == _KEY
        for name, words in (
            ("idr", "by that name the key server has its certificate"),
            ("key_file", "is missing"),
            ("certificate_file", "is missing"),
            ("ca_file", "psk_file is missing"),
        ):
            less = {key: fields[key] for key in fields if key != name}
            assert words in _sentence(Config, less)
        fields["psk_file"] = "x"
        assert "left out where ca_file is given" in _sentence(Config, fields)
        del fields["psk_file"], fields["ca_file"]
        assert "key_file must be" in _sentence(Config, fields, psk=bytes(32))
