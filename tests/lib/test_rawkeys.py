"""Members that know their key server's public key, and it theirs (RFC 7670); and the files."""

import json
import os

from covey import der, digital, ike, keyfiles, p256, p256_sign, rawkeys, registration, x509
from covey.config import Config, load
from covey.drops import ConfigError, names
from covey.job import finish
from covey.port import sha256
from covey.prf import prf
from covey.rawkeys import RawKey
from covey.registration import Registration
from gcks_peer import FRAGMENTS, TRANSPORT, Gcks, policy

_RECORDED = __file__[: -len("lib/test_rawkeys.py")] + "recorded/certificates.json"

with open(_RECORDED) as _file:
    _FOUND = json.load(_file)
_KEYS = {name: bytes.fromhex(_FOUND["keys"][name]) for name in _FOUND["keys"]}
_FILES = {name: bytes.fromhex(_FOUND["files"][name]) for name in _FOUND["files"]}
_SPKI = {
    name: x509.parse(bytes.fromhex(_FOUND["certificates"][name])).spki
    for name in ("server", "member", "server_below")
}
_POINT = {name: der.parse_spki(_SPKI[name]) for name in _SPKI}
_HASHES = (ike.NOTIFY, b"\0\0" + bytes((16431 >> 8, 16431 & 255, 0, 2)))


class _Server(Gcks):
    """key: whose it signs with; shows: what it sends in CERT, or nothing."""

    def __init__(self, key="server", shows="server"):
        Gcks.__init__(self, b"")
        self.key, self.shows = key, shows

    def proof(self):
        idr = ike.emit_id(ike.ID_FQDN, b"gcks.example")
        covered = self.response + self.nonce_i + prf(self.keys.sk_pr, idr)
        r, s = finish(p256_sign.sign_job(_KEYS[self.key], sha256(covered).digest()))
        body = digital._integer(r) + digital._integer(s)
        auth = b"\x0c" + der.ECDSA_WITH_SHA256 + bytes((0x30, len(body))) + body
        shown = [(ike.CERT, b"\x0f" + _SPKI[self.shows])] if self.shows else []
        return [(ike.IDr, idr)] + shown + [(ike.AUTH, ike.emit_auth(14, auth))]


class _Gm:
    def __init__(self, spki=_SPKI["member"], pinned="server"):
        fields = {"version": 1, "group": "line1", "idi": "press-7", "idr": "gcks.example"}
        fields["servers"] = [{"host": "192.0.2.1"}]
        self.config = Config(fields, psk=bytes(16))
        self.config.credentials = RawKey(bytearray(_KEYS["member"]), spki, _POINT[pinned])
        self.r = Registration(self.config, 0)

    def work(self):
        sent = []
        while self.r.step(0) == 0:
            out = self.r.take_outgoing()
            while out:
                sent.append(bytes(out[0]))
                out = self.r.take_outgoing()
        return sent

    def hear(self, data):
        reason = self.r.receive(data, 0)
        return names()[reason] if reason else None, self.work()

    def join(self, server, more=(FRAGMENTS, _HASHES)):
        """Its whole way in → the payloads of its GSA_AUTH."""
        (request,) = self.work()
        drop, sent = self.hear(server.answer_init(request, more))
        if drop:
            return drop
        opened = server.sa.open(*sent)[1]
        granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True) + [TRANSPORT]
        assert self.hear(server.answer_auth(sent, granted)) == (None, [])
        return opened


def test_a_registration():
    for spki in (_SPKI["member"], None):
        for shows in ("server", "member", None):  # CERT is not looked at
            gm, server = _Gm(spki), _Server(shows=shows)
            payloads = gm.join(server)
            assert gm.r.state == registration.REGISTERED and gm.r.drops.as_dict() == {}
            kinds = [kind for kind, _ in payloads]
            certs = [ike.CERT] if spki else []
            assert kinds == [ike.IDi, ike.IDr] + certs + [ike.AUTH, ike.IDg, ike.SA]
            found = dict(payloads)
            assert found.get(ike.CERT) == (b"\x0f" + spki if spki else None)
            assert ike.parse_id(found[ike.IDi]) == (ike.ID_KEY_ID, b"press-7")
    method, data = ike.parse_auth(found[ike.AUTH])
    algorithm, _, signature = ike.parse_signature_auth(data)
    assert (method, algorithm) == (14, der.ECDSA_WITH_SHA256)
    idi = ike.emit_id(ike.ID_KEY_ID, b"press-7")
    covered = server.request + server.nonce + prf(server.keys.sk_pi, idi)
    digest = sha256(covered).digest()
    assert finish(p256.Verifier(_POINT["member"]).verify(digest, *der.parse_ecdsa(signature)))


def test_whoever_has_another_key_is_not_the_key_server():
    """Whatever it shows."""
    for key, shows in (("server_below", "server"), ("server_below", "server_below")):
        gm = _Gm()
        gm.join(_Server(key, shows))
        assert gm.r.state == registration.FAILED and gm.r.reason == "ike_auth"
    gm = _Gm(pinned="server_below")
    gm.join(_Server())
    assert gm.r.state == registration.FAILED and gm.r.reason == "ike_auth"


def test_a_pre_shared_key_proves_nothing():
    gm = _Gm()
    server = Gcks(bytes(16))
    (request,) = gm.work()
    sent = gm.hear(server.answer_init(request, (FRAGMENTS, _HASHES)))[1]
    granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True) + [TRANSPORT]
    gm.hear(server.answer_auth(sent, granted))
    assert gm.r.state == registration.FAILED and gm.r.reason == "ike_auth"
    assert _Gm().join(_Server(), more=(FRAGMENTS,)) == "ike_cert"  # it knows no signatures


# Files


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


def _sentence(call, *args, **how):
    try:
        call(*args, **how)
    except ConfigError as error:
        return str(error)
    raise AssertionError("not refused")


def _pem(spki):
    from binascii import b2a_base64

    text = b2a_base64(spki)
    return b"-----BEGIN PUBLIC KEY-----\n" + text + b"-----END PUBLIC KEY-----\n"


def _raw(key, server):
    with _Folder(rawkey=key, rawserver=server):
        return keyfiles.raw_key("rawkey.testfile", "rawserver.testfile")


def test_keys_in_all_forms():
    for name in ("pkcs8_pem", "pkcs8_der", "sec1_pem", "sec1_der"):
        for server in (_SPKI["server"], _pem(_SPKI["server"])):
            made = _raw(_FILES[name], server)
            assert made.key == _KEYS["member"] and isinstance(made.key, bytearray)
            assert made._spki == _SPKI["member"] and made._point == _POINT["server"]
    bare = b"\x30\x31\x02\x01\x01\x04\x20" + _KEYS["member"] + b"\xa0\x0a" + keyfiles._P256
    assert _raw(bare, _SPKI["server"])._spki is None  # RFC 5915: publicKey is optional


def test_files_that_hold_nothing_of_use():
    for key in (b"", b"nonsense", _SPKI["member"]):
        assert "rawkey.testfile holds no P-256 key" in _sentence(_raw, key, _SPKI["server"])
    off_curve = _SPKI["server"][:-1] + bytes((_SPKI["server"][-1] ^ 1,))
    for server in (b"", b"x", _SPKI["server"][:-1], off_curve, _FILES["pkcs8_pem"]):
        said = _sentence(_raw, _FILES["pkcs8_pem"], server)
        assert said.startswith("rawserver.testfile holds no public key of P-256")


def test_in_covey_json():
    fields = {
        "version": 1,
        "group": "line1",
        "idi": "press-7",
        "servers": [{"host": "192.0.2.1"}],
        "key_file": "rawkey.testfile",
        "server_key_file": "rawserver.testfile",
    }
    here = {"rawkey": _FILES["pkcs8_pem"], "rawserver": _SPKI["server"]}
    with _Folder(rawjson=json.dumps(fields).encode(), **here):
        config = load("rawjson.testfile")
        assert config.psk is None and config.secret == _KEYS["member"]
        assert isinstance(config.credentials, rawkeys.RawKey)
        config.wipe()
        assert not any(config.credentials.key)
        for more, words in (
            ({"psk_file": "x"}, "psk_file must be left out where server_key_file is given"),
            (
                {"ca_file": "x", "idr": "a", "certificate_file": "x"},
                "server_key_file must be left",
            ),
            ({"certificate_file": "x"}, "certificate_file must be beside a ca_file"),
        ):
            both = dict(fields)
            both.update(more)
            assert words in _sentence(Config, both), more
        assert "key_file is missing" in _sentence(
            Config, {name: fields[name] for name in fields if name != "key_file"}
        )
        del fields["server_key_file"]
        assert "key_file must be beside" in _sentence(Config, fields, psk=bytes(32))
