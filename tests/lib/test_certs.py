"""A member with a certificate: how it proves itself, and whom it takes for its key server."""

import json

from covey import certs, der, digital, ike, p256, p256_sign, registration
from covey.certs import Credentials
from covey.config import Config
from covey.digital import GENUINE
from covey.drops import DROP_IKE_AUTH, DROP_IKE_CERT, FormatError, names
from covey.job import finish
from covey.port import sha1, sha256
from covey.prf import prf
from covey.registration import Registration
from gcks_peer import FRAGMENTS, TRANSPORT, Gcks, notify, policy

_RECORDED = __file__[: -len("lib/test_certs.py")] + "recorded/certificates.json"
_NOW = b"20300101000000"
_HASHES = notify(ike.SIGNATURE_HASH_ALGORITHMS, b"\x00\x03\x00\x02")

with open(_RECORDED) as _file:
    _FOUND = json.load(_file)
_DER = {name: bytes.fromhex(_FOUND["certificates"][name]) for name in _FOUND["certificates"]}
_KEYS = {name: bytes.fromhex(_FOUND["keys"][name]) for name in _FOUND["keys"]}


def _credentials(now=_NOW, anchor="ca"):
    key = bytearray(_KEYS["member"])
    return Credentials(key, [_DER["member"]], _DER[anchor], utc=lambda: now)


def _signed(key, digest):
    """The data of an AUTH payload."""
    r, s = finish(p256_sign.sign_job(key, digest))
    body = b"".join([digital._integer(n) for n in (r, s)])
    signature = bytes((0x30, len(body))) + body
    return b"\x0c" + der.ECDSA_WITH_SHA256 + signature


class _Server(Gcks):
    """A key server with certificates. chain: what it sends; key: whose it signs with."""

    def __init__(self, chain=("server",), key="server", **how):
        Gcks.__init__(self, b"", **how)
        self.chain, self.key = chain, key
        self.name = b"gcks.example"

    def proof(self):
        idr = ike.emit_id(ike.ID_FQDN, self.name)
        covered = self.response + self.nonce_i + prf(self.keys.sk_pr, idr)
        auth = _signed(_KEYS[self.key], sha256(covered).digest())
        shown = [(ike.CERT, b"\x04" + _DER[name]) for name in self.chain]
        return [(ike.IDr, idr)] + shown + [(ike.AUTH, ike.emit_auth(14, auth))]


class _Gm:
    def __init__(self, **how):
        fields = {"version": 1, "group": "line1", "idi": "press-7", "idr": "gcks.example"}
        fields["servers"] = [{"host": "192.0.2.1"}]
        self.config = Config(fields, psk=bytes(16))
        self.config.credentials = _credentials(**how)
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

    def ask(self, server, more=(FRAGMENTS, _HASHES)):
        """Up to its GSA_AUTH, a list of datagrams."""
        (request,) = self.work() or (self.r._handshake.request,)
        drop, sent = self.hear(server.answer_init(request, more))
        assert drop is None
        return sent

    def join(self, server):
        """Its whole way in."""
        sent = self.ask(server)
        granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True) + [TRANSPORT]
        drop, more = self.hear(server.answer_auth(sent, granted))
        assert drop is None and more == []
        return self.r.state, self.r.reason


def _judged(server, now=_NOW, anchor="ca", idr=b"gcks.example", change=None, credentials=None):
    """What Credentials.judge says of a server, without a handshake around it."""
    nonce, sk, message = b"n" * 32, b"k" * 32, b"IKE_SA_INIT"
    id_body = ike.emit_id(ike.ID_FQDN, idr)
    digest = sha256(message + nonce + prf(sk, id_body)).digest()
    data = _signed(_KEYS[server.key], digest)
    payloads = [ike.Payload(ike.CERT, False, b"\x04" + _DER[name]) for name in server.chain]
    method = 14
    if change:
        payloads, method, data = change(payloads, method, data)
    credentials = credentials or _credentials(now, anchor)
    return finish(credentials.judge(payloads, (method, data), sk, message, nonce, id_body))


def _refused(*args, **how):
    try:
        found = _judged(*args, **how)
    except FormatError as error:
        return error.reason
    raise AssertionError(found)


def test_a_registration_with_certificates():
    gm, server = _Gm(), _Server()
    sent = gm.ask(server)
    init = ike.parse_message(server.request)[1]
    assert ike.parse_notify(init[-1].body).type == ike.SIGNATURE_HASH_ALGORITHMS
    assert ike.parse_notify(init[-1].body).data == b"\x00\x02"
    header, payloads = server.sa.open(*sent)
    kinds = [kind for kind, _ in payloads]
    middle = [ike.CERT, ike.CERTREQ, ike.AUTH] if sha1 else [ike.CERT, ike.AUTH]
    assert kinds == [ike.IDi, ike.IDr] + middle + [ike.IDg, ike.SA]
    found = dict(payloads)
    assert ike.parse_id(found[ike.IDi]) == (ike.ID_FQDN, b"press-7")
    assert found[ike.CERT] == b"\x04" + _DER["member"]
    method, data = ike.parse_auth(found[ike.AUTH])
    algorithm, _, signature = ike.parse_signature_auth(data)
    assert (method, algorithm) == (14, der.ECDSA_WITH_SHA256)
    idi = ike.emit_id(ike.ID_FQDN, b"press-7")
    covered = server.request + server.nonce + prf(server.keys.sk_pi, idi)
    verifier = p256.Verifier(finish(p256_sign.point_job(_KEYS["member"])))
    digest = sha256(covered).digest()
    assert finish(verifier.verify(digest, *der.parse_ecdsa(signature)))
    granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True) + [TRANSPORT]
    assert gm.hear(server.answer_auth(sent, granted)) == (None, [])
    assert gm.r.state == registration.REGISTERED and gm.r.take_outcome() == registration.REGISTERED
    assert gm.r.drops.as_dict() == {}


def test_the_proof_is_work_in_slices():
    gm, server = _Gm(), _Server()
    sent = gm.ask(server)
    granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True)
    answer = server.answer_auth(sent, granted)
    assert gm.r.receive(answer, 0) == 0 and gm.r.state == registration.AUTH
    slices = 0
    while gm.r.state == registration.AUTH:
        gm.r.step(0)
        if not slices:
            assert names()[gm.r.receive(answer, 0)] == "ike_message_id"
        slices += 1
    assert slices > 300 and gm.r.state == registration.REGISTERED


def test_an_answer_that_is_repeated_while_it_is_judged():
    """Anybody can do that: before the work begins, and in its midst."""
    for at in (0, 1, 200):
        gm, server = _Gm(), _Server()
        sent = gm.ask(server)
        granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True)
        answer = server.answer_auth(sent, granted)
        assert gm.r.receive(answer, 0) == 0
        slices = 0
        while gm.r.state == registration.AUTH:
            if slices == at:
                assert names()[gm.r.receive(answer, 0)] == "ike_message_id"
            gm.r.step(0)
            slices += 1
        assert gm.r.state == registration.REGISTERED and gm.r.kwk == server.sa.kwk, at
        assert gm.r.pull(0) and gm.work()


def test_an_intermediate_ca():
    assert _Gm().join(_Server(("server_below", "middle"), "server_below")) == (
        registration.REGISTERED,
        None,
    )


def test_who_is_no_key_server():
    for chain, key, reason in (
        (("server_other",), "server", "certificate_issuer"),
        (("server_below",), "server_below", "certificate_issuer"),
        (("client",), "server", "certificate_purpose"),
        (("server",), "server_below", "ike_auth"),  # the genuine certificate, another's key
    ):
        gm = _Gm()
        assert gm.join(_Server(chain, key)) == (registration.FAILED, reason), chain
        assert gm.r.drops.as_dict() == {"ike_auth" if reason == "ike_auth" else "ike_cert": 1}
        assert gm.r.kwk is None


def test_a_forger_does_not_keep_the_genuine_server_out():
    gm = _Gm()
    forger, server = _Server(("server_other",)), _Server(spi_r=b"genuine!", secret=bytes([9] * 32))
    (request,) = gm.work()
    sent = {}
    for one in (forger, server):
        drop, datagrams = gm.hear(one.answer_init(request, (FRAGMENTS, _HASHES)))
        sent[one] = datagrams
    granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True)
    for one in (forger, server):  # both are there before the first is judged
        assert gm.r.receive(one.answer_auth(sent[one], granted), 0) == 0
    gm.work()
    assert gm.r.state == registration.REGISTERED and gm.r.drops.as_dict() == {"ike_cert": 1}


def test_no_memory_proves_nothing():
    def verify(*_):
        yield
        raise MemoryError

    gm, server = _Gm(), _Server()
    sent = gm.ask(server)
    granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True)
    genuine, certs.verify = certs.verify, verify
    try:
        failures = 0
        assert gm.r.receive(server.answer_auth(sent, granted), 0) == 0
        for _ in range(100):
            try:
                gm.r.step(0)
            except MemoryError:
                failures += 1
    finally:
        certs.verify = genuine
    assert failures == 1 and (gm.r.state, gm.r.reason) == (registration.FAILED, "no_memory")
    assert gm.r.kwk is None and gm.r.drops.as_dict() == {"capacity": 1}


def test_closed_while_it_judges():
    gm, server = _Gm(), _Server()
    sent = gm.ask(server)
    granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True)
    assert gm.r.receive(server.answer_auth(sent, granted), 0) == 0
    for _ in range(20):
        gm.r.step(0)
    gm.r.close()
    assert gm.r.state == registration.CLOSED and gm.r.step(0) > 0 and gm.r.take_outgoing() is None


def test_time_runs_out_while_it_judges():
    gm, server = _Gm(), _Server()
    sent = gm.ask(server)
    granted = policy(server.sa.kwk, b"\0\0\1\1", with_rekey_sa=True)
    assert gm.r.receive(server.answer_auth(sent, granted), 0) == 0
    gm.r.step(0)
    assert gm.r.step(1000) == 0 and gm.r.take_outgoing() is None  # answered: not asked again
    gm.r.step(gm.config.retransmit_total_s * 1000)
    assert (gm.r.state, gm.r.reason) == (registration.FAILED, "timeout")


def test_a_server_that_knows_no_signatures_is_not_followed():
    gm, server = _Gm(), _Server()
    (request,) = gm.work()
    for more in ((), (FRAGMENTS,), (notify(ike.SIGNATURE_HASH_ALGORITHMS, b"\x00\x03\x00"),)):
        assert gm.hear(server.answer_init(request, more)) == ("ike_cert", [])
    assert gm.r.state == registration.INIT
    assert gm.ask(server) != []


def test_copies_of_an_answer_get_other_ivs():
    """Two peers with the same keys: what is signed twice differs, so the IV must, too."""
    gm, server = _Gm(), _Server()
    (request,) = gm.work()
    answer = server.answer_init(request, (_HASHES,))
    altered = server.answer_init(request, (_HASHES, notify(40000)))
    seen = []
    for data in (answer, altered):
        drop, (sent,) = gm.hear(data)
        assert drop is None
        seen.append(sent)
    assert seen[0][:24] == seen[1][:24] and seen[0][32:40] != seen[1][32:40]
    assert [server.sa.open(one)[1][0][0] for one in seen] == [ike.IDi, ike.IDi]


def test_chains():
    for chain, key, found in (
        (("server",), "server", GENUINE),
        (("server", "ca"), "server", GENUINE),
        (("server", "middle"), "server", GENUINE),  # which it doesn't need
        (("server_below", "middle"), "server_below", GENUINE),
        (("server_below", "middle", "ca"), "server_below", GENUINE),
        (("server_deep", "deeper"), "server", "certificate_issuer"),
        (("server_of_leaf", "server"), "server", "certificate_issuer"),
        (("server_ca",), "server", "certificate_of_a_ca"),
        (("other_name",), "server", "certificate_name"),
        (("no_name",), "server", "certificate_name"),
    ):
        assert _judged(_Server(chain, key)) == found, chain
    assert _judged(_Server(("server_below",), "server_below"), anchor="middle") == GENUINE
    flat = _Server(("server_flat", "middle_flat"))
    assert _judged(flat, anchor="ca_flat") == "certificate_issuer"
    for chain in ((), ("server_deep", "deeper", "middle"), ("server", "ca", "ca", "ca")):
        assert _refused(_Server(chain)) == DROP_IKE_CERT, chain
    for chain in (("constrained",), ("critical",)):
        assert _refused(_Server(chain)) == DROP_IKE_CERT, chain
    assert _judged(_Server(), idr=b"gcks.exampl") == "certificate_name"


def test_a_certificate_that_nobody_has_signed():
    forged = bytearray(_DER["server"])
    at = forged.find(b"gcks.example")
    forged[at] ^= 0x20
    _DER["forged"] = bytes(forged)
    assert _judged(_Server(("forged",))) == "certificate_signature"
    known = _credentials()  # and what has verified once lends nothing to another
    assert _judged(_Server(), credentials=known) == GENUINE
    assert _judged(_Server(("forged",)), credentials=known) == "certificate_signature"
    assert _judged(_Server(), credentials=known) == GENUINE


def test_validity_where_the_time_is_known():
    for now, found in (
        (None, GENUINE),
        (_NOW, GENUINE),
        (b"20200101000000", "certificate_not_yet_valid"),
        (b"20600101000000", "certificate_expired"),
    ):
        assert _judged(_Server(), now=now) == found
    known = _credentials()
    assert _judged(_Server(), credentials=known) == GENUINE
    known._utc = lambda: b"20600101000000"
    assert _judged(_Server(), credentials=known) == "certificate_expired"


def test_proofs_of_other_forms():
    def other(name):
        def change(payloads, method, data):
            if name == "method":
                method = 2
            elif name == "algorithm":
                data = data.replace(b"\x04\x03\x02", b"\x04\x03\x03")
            elif name == "cut":
                data = data[:-1]
            elif name == "short":
                data = data[:5]
            elif name == "empty":
                data = b""
            elif name == "encoding":
                payloads[0].body = b"\x07" + payloads[0].body[1:]
            elif name == "no body":
                payloads[0].body = b"\x04"
            return payloads, method, data

        return change

    for name in ("method", "algorithm", "cut"):
        assert _refused(_Server(), change=other(name)) == DROP_IKE_AUTH, name
    for name in ("encoding", "no body"):
        assert _refused(_Server(), change=other(name)) == DROP_IKE_CERT, name
    for name in ("short", "empty"):
        assert names()[_refused(_Server(), change=other(name))] == "ike_format", name


def test_numbers_as_der_has_them():
    for value, octets in (
        (1, b"\x02\x01\x01"),
        (0x7F, b"\x02\x01\x7f"),
        (0x80, b"\x02\x02\x00\x80"),
        (2**256 - 1, b"\x02\x21\x00" + b"\xff" * 32),
        (2**255 - 1, b"\x02\x20\x7f" + b"\xff" * 31),
    ):
        assert digital._integer(value) == octets


def test_a_wiped_key_is_gone():
    gm = _Gm()
    assert gm.config.secret == _KEYS["member"]
    gm.config.wipe()
    assert gm.config.secret == bytes(32)
