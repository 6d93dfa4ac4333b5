"""Registrations with a post-quantum preshared key (RFC 8784), laid down without covey.

`python tests/host/ppk_peer.py` writes tests/recorded/ppk.json, as registration_peer.py its own.
"""

import json
from pathlib import Path

import registration_peer as peer
from registration_peer import AUTH, GSA_AUTH, IDI, IDR, IDi, IDr, Session, identity, notify

RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "ppk.json"

PPK, PPK_ID = bytes(range(0xA0, 0xC0)), b"a key of press-7"
USE_PPK, PPK_IDENTITY, NO_PPK_AUTH = 16435, 16436, 16437


def init_request():
    """With USE_PPK as the last payload."""
    plain = peer.init_request()
    last = len(plain) - 8  # of IKEV2_FRAGMENTATION_SUPPORTED, behind which there is none
    octets = plain[28:last] + bytes((peer.N,)) + plain[last + 1 :]
    octets += peer.chain([notify(USE_PPK)])[1]
    return peer.header(peer.NO_SPI, plain[16], 34, 8, 0, 28 + len(octets)) + octets


class Mixed(Session):
    """Section 3: SK_d = prf+ (PPK, SK_d'), and SK_pi, SK_pr likewise."""

    def __init__(self, ppk=PPK, **changes):
        super().__init__(init_request(), **{"more": [notify(USE_PPK)], **changes})
        self.plain = self.sk_pi
        self.sk_d, self.sk_pi, self.sk_pr = (
            peer.prf_plus(ppk, key, 32) for key in (self.sk_d, self.sk_pi, self.sk_pr)
        )
        self.kwk = peer.prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", 32)

    def auth_request(self, is_optional=False):
        idi = identity(11, IDI)
        payloads = [(IDi, idi), (IDr, identity(2, IDR)), (AUTH, self.auth_i(idi))]
        payloads.append(notify(PPK_IDENTITY, b"\2" + PPK_ID))
        if is_optional:
            mixed, self.sk_pi = self.sk_pi, self.plain
            payloads.append(notify(NO_PPK_AUTH, self.auth_i(idi)[4:]))
            self.sk_pi = mixed
        return self.member_says(GSA_AUTH, 0, 1, 1, payloads + peer.wishes(True))

    def auth_answer(self, says=True):
        """says: whether N(PPK_IDENTITY) is there."""
        more = [notify(PPK_IDENTITY)] if says else []
        return super().auth_answer(self.proof() + more + self.policy())


def record():
    mixed, plain = Mixed(), Session(init_request(), peer.init_answer(more=[notify(USE_PPK)]))
    silent = Session(init_request())
    other = Mixed(bytes(32))
    lying = plain.proof() + [notify(PPK_IDENTITY)] + plain.policy()
    return {
        "psk": peer.PSK,
        "ppk": PPK,
        "ppk_id": PPK_ID,
        "random": [peer.SPI_I, peer.NONCE_I, peer.SECRET_I],
        "init_request": mixed.request,
        "init_answer": mixed.answer,
        "init_answer_without": silent.answer,
        "auth_request": mixed.auth_request(),
        "auth_request_optional": mixed.auth_request(is_optional=True),
        "auth_request_without": silent.auth_request(),
        "auth_answer": mixed.auth_answer(),
        "kwk": mixed.kwk,
        "sk_d": mixed.sk_d,
        "auth_answer_unsaid": mixed.auth_answer(says=False),
        "auth_answer_other": other.auth_answer(),
        "auth_answer_lying": plain.auth_answer(lying),
        "auth_answer_plain": plain.auth_answer(),
        "auth_answer_without": silent.auth_answer(),
        "kwk_plain": plain.kwk,
    }


def text():
    vectors = {
        name: value.hex() if isinstance(value, bytes) else [v.hex() for v in value]
        for name, value in record().items()
    }
    return json.dumps({"source": "tests/host/ppk_peer.py", "vectors": vectors}, indent=1) + "\n"


if __name__ == "__main__":
    RECORDED.write_text(text())
