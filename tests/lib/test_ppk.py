"""Registration with a PPK against octets laid down without covey: see tests/host/ppk_peer.py."""

import json

from covey import ike, registration
from covey.config import Config
from covey.drops import names
from covey.ppk import Ppk
from covey.registration import Registration

_RECORDED = __file__[: -len("lib/test_ppk.py")] + "recorded/ppk.json"

with open(_RECORDED) as _file:
    R = json.load(_file)["vectors"]
R = {
    name: [bytes.fromhex(v) for v in R[name]]
    if isinstance(R[name], list)
    else bytes.fromhex(R[name])
    for name in R
}
_FIELDS = {
    "version": 1,
    "group": "line1",
    "idi": "press-7",
    "idr": "gcks.example",
    "servers": [{"host": "192.0.2.1"}],
    "sender": True,
    "liveness_s": 0,
    "ike_lifetime_s": 0,
}


class _Path:
    """A nat.Path whose hashes are those of the record."""

    def notify(self, spi_i):
        payloads = ike.parse_message(R["init_request"])[1]
        return [(p.kind, p.body) for p in payloads if p.kind == ike.NOTIFY][:2]

    def judge(self, spi_i, spi_r, payloads, is_relayed):
        return 0, False


class _Gm:
    def __init__(self, is_optional=False, ppk=True):
        self.config = Config(_FIELDS, psk=R["psk"])
        if ppk:
            self.config.ppk = Ppk(bytearray(R["ppk"]), R["ppk_id"], is_optional)
        left = list(R["random"])
        self.r = Registration(
            self.config, 0, lambda n: left.pop(0) if left else bytes(n), path=_Path()
        )
        assert self.work() == ([R["init_request"]] if ppk else self.sent)

    def work(self):
        self.sent = []
        while self.r.step(0) == 0:
            out = self.r.take_outgoing()
            while out:
                self.sent.append(bytes(out[0]))
                out = self.r.take_outgoing()
        return self.sent

    def hear(self, name):
        """→ (name of the DROP_* or None, what is sent then)"""
        reason = self.r.receive(R[name], 0)
        return names()[reason] if reason else None, self.work()


def test_a_key_that_must_be_used():
    gm = _Gm()
    assert gm.hear("init_answer") == (None, [R["auth_request"]])
    assert gm.hear("auth_answer") == (None, [])
    assert gm.r.state == registration.REGISTERED and gm.r.kwk == R["kwk"]
    assert gm.r.sas[0].sk_d == R["sk_d"]  # what the next IKE SA's keys are made of


def test_without_it_there_is_no_way_on():
    """Whatever is in clear, nothing is told but IKE_SA_INIT; the genuine answer may still come."""
    gm = _Gm()
    assert gm.hear("init_answer_without") == ("ike_ppk", [])
    assert gm.r.state == registration.INIT
    assert gm.hear("init_answer") == (None, [R["auth_request"]])
    assert gm.hear("auth_answer") == (None, [])
    assert gm.r.kwk == R["kwk"]


def test_a_server_that_did_not_use_it():
    for name, reason in (
        ("auth_answer_plain", "ike_ppk"),
        ("auth_answer_unsaid", "ike_ppk"),
        ("auth_answer_lying", "ike_auth"),
        ("auth_answer_other", "ike_auth"),
    ):
        gm = _Gm()
        gm.hear("init_answer")
        assert gm.hear(name) == (reason, [])
        assert gm.r.state == registration.FAILED and gm.r.reason == reason
        assert gm.r.kwk is None


def test_a_key_that_may_be_used():
    gm = _Gm(is_optional=True)
    assert gm.hear("init_answer") == (None, [R["auth_request_optional"]])
    assert gm.hear("auth_answer") == (None, [])
    assert gm.r.kwk == R["kwk"]
    gm = _Gm(is_optional=True)  # the server knows PPKs, and not this one
    gm.hear("init_answer")
    assert gm.hear("auth_answer_plain") == (None, [])
    assert gm.r.state == registration.REGISTERED and gm.r.kwk == R["kwk_plain"]
    gm = _Gm(is_optional=True)  # it knows of none
    assert gm.hear("init_answer_without") == (None, [R["auth_request_without"]])
    assert gm.hear("auth_answer_without") == (None, [])
    assert gm.r.state == registration.REGISTERED and gm.r.kwk == R["kwk_plain"]
    gm = _Gm(is_optional=True)
    gm.hear("init_answer")
    for name in ("auth_answer_lying", "auth_answer_other"):
        gm = _Gm(is_optional=True)
        gm.hear("init_answer")
        assert gm.hear(name)[0] == "ike_auth"


def test_who_has_none_says_nothing_of_it():
    gm = _Gm(ppk=False)
    assert gm.sent[0].find(b"\0\0" + bytes((16435 >> 8, 16435 & 255))) < 0
    assert len(gm.sent[0]) == len(R["init_request"]) - 8


def test_messages_to_two_who_have_the_same_keys_share_no_iv():
    """Somebody takes USE_PPK out of a copy of the genuine answer: the same keys, another GSA_AUTH.
    Under one IV both would be readable."""
    for first, then in (
        ("init_answer", "init_answer_without"),
        ("init_answer_without", "init_answer"),
    ):
        gm = _Gm(is_optional=True)
        (one,) = gm.hear(first)[1]
        (two,) = gm.hear(then)[1]
        assert one[32:40] != two[32:40] and one != two


def test_memory_that_ends_behind_it():
    """The answer is taken anew, and nothing is mixed twice."""
    gm = _Gm()
    gm.hear("init_answer")
    genuine, seen = ike.psk_auth, []

    def none(*args):
        seen.append(args)
        raise MemoryError

    ike.psk_auth = none
    try:
        gm.r.receive(R["auth_answer"], 0)
    except MemoryError:
        seen.append("told")
    finally:
        ike.psk_auth = genuine
    assert len(seen) == 2 and gm.r.state == registration.AUTH
    assert gm.hear("auth_answer") == (None, [])
    assert gm.r.state == registration.REGISTERED and gm.r.kwk == R["kwk"]


def test_the_key_is_wiped():
    gm = _Gm()
    gm.hear("init_answer")
    gm.config.wipe()
    assert not any(gm.config.ppk.key) and not any(gm.config.psk)
    assert "a0a1" not in repr(gm.config.ppk)
