"""Certificates that OpenSSL has made, judged as a member judges its key server's."""

import json

from covey import x509
from covey.drops import DROP_IKE_CERT, FormatError

_RECORDED = __file__[: -len("lib/test_x509.py")] + "recorded/certificates.json"
_NAME = b"gcks.example"
_NOW = b"20300101000000"

with open(_RECORDED) as _file:
    _FOUND = json.load(_file)["certificates"]
_DER = {name: bytes.fromhex(_FOUND[name]) for name in _FOUND}


def _certificate(name):
    return x509.parse(_DER[name])


def _is_refused(data):
    try:
        x509.parse(data)
    except FormatError as error:
        assert error.reason == DROP_IKE_CERT
        return True
    return False


def test_fields():
    ca, server = _certificate("ca"), _certificate("server")
    assert ca.is_ca and ca.path_len is None and ca.usage == 0x06 and ca.purposes is None
    assert ca.subject == ca.issuer == server.issuer != server.subject
    assert b"Covey tests" in ca.subject and ca.subject.endswith(b"\x03\x0c\x02ca")
    assert not server.is_ca and server.usage == 0x80 and server.names == [b"gcks.example"]
    assert server.purposes == [b"\x2b\x06\x01\x05\x05\x07\x03\x01"]
    assert server.point[:1] == b"\x04" and server.spki.endswith(server.point)
    assert server.tbs in server.data and len(server.signature) == 2
    assert b"20260101000000" < server.not_before < _NOW < server.not_after < b"20500101000000"
    assert _certificate("middle").path_len == 0
    assert _certificate("server_plain").names == [b"other.example", b"GCKS.example"]


def test_who_may_be_the_key_server():
    words = {
        "server": None,
        "server_plain": None,
        "server_ike": None,
        "server_below": None,
        "uncritical": None,
        "no_name": "certificate_name",
        "other_name": "certificate_name",
        "member": "certificate_name",
        "client": "certificate_purpose",
        "no_signer": "certificate_key_usage",
        "server_ca": "certificate_of_a_ca",
    }
    for name in words:
        assert x509.server_problem(_certificate(name), _NAME) == words[name], name


def test_who_may_have_issued_it():
    for name, issuer, below, is_good in (
        ("server", "ca", 0, True),
        ("server", "other_ca", 0, False),
        ("server_below", "middle", 0, True),
        ("middle", "ca", 1, True),
        ("middle_flat", "ca_flat", 1, False),
        ("server_of_leaf", "server", 0, False),
        ("deeper", "middle", 1, False),
    ):
        found = x509.is_issued(_certificate(name), _certificate(issuer), below)
        assert found is is_good, (name, issuer)
    ca, server = _certificate("ca"), _certificate("server")
    ca.usage = 0x80
    assert not x509.is_issued(server, ca, 0)
    ca.usage = None
    assert x509.is_issued(server, ca, 0)
    server.signature = None
    assert not x509.is_issued(server, ca, 0)


def test_when():
    server = _certificate("server")
    for now, word in (
        (None, None),
        (b"20200101000000", "certificate_not_yet_valid"),
        (server.not_before, None),
        (server.not_after, None),
        (b"20991231235959", "certificate_expired"),
    ):
        assert x509.time_problem(server, now) == word


def test_times_up_to_2049_and_beyond():
    server = _DER["server"]
    at = server.find(b"\x17\x0d")  # notBefore and notAfter, as UTCTime
    assert x509._time(server, at, at + 15) == (b"20" + server[at + 2 : at + 14], at + 15)
    for text, digits in (
        (b"\x17\x0d500101000000Z", b"19500101000000"),
        (b"\x17\x0d491231235959Z", b"20491231235959"),
        (b"\x18\x0f20500101000000Z", b"20500101000000"),
        (b"\x18\x0f99991231235959Z", b"99991231235959"),
    ):
        assert x509._time(text, 0, len(text)) == (digits, len(text))
    for text in (
        b"\x17\x0d50010100000 Z",
        b"\x17\x0d500101000000+",
        b"\x17\x0b5001010000Z",
        b"\x18\x0d500101000000Z",
        b"\x17\x00",
        b"\x16\x0d500101000000Z",
    ):
        try:
            x509._time(text, 0, len(text))
        except FormatError:
            continue
        raise AssertionError(text)


def test_what_is_not_understood_is_refused():
    assert _is_refused(_DER["constrained"])
    assert _is_refused(_DER["critical"])
    assert _is_refused(b"")
    assert _is_refused(_DER["server"] + b"\0")
    assert _is_refused(b"\x30\x82\x08\x00" + bytes(2048))
    assert not _is_refused(_extended(1))
    assert _is_refused(_extended(2))


def _extended(times):
    """A certificate whose one extension is there so often, with all lengths made to fit."""
    data, found = _DER["server_plain"], _certificate("server_plain")
    at = data.find(found.spki) + len(found.spki)
    extension = data[at + 4 :][: data[at + 3]]
    extensions = _element(b"\x30", times * extension)
    tbs = _element(b"\x30", found.tbs[4 : at - 4] + _element(b"\xa3", extensions))
    return _element(b"\x30", tbs + data[4 + len(found.tbs) :])


def _element(tag, content):
    n = len(content)
    length = (
        bytes((n,)) if n < 128 else bytes((0x81, n)) if n < 256 else bytes((0x82, n >> 8, n & 255))
    )
    return tag + length + content


def test_every_truncation_and_every_length():
    data = _DER["server"]
    for n in range(len(data)):
        assert _is_refused(data[:n])
    at = data.find(b"\x03\x42\x00\x04")
    for i in range(len(data)):
        for change in (1, 0x80):
            bad = bytearray(data)
            bad[i] ^= change
            if not _is_refused(bad):  # then what it says has changed, and its signature's octets
                assert x509.parse(bad).tbs != x509.parse(data).tbs or i > at
