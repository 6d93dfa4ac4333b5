"""Project Wycheproof's cases on both interpreters: how they are drawn says wycheproof.py, and that
they notice what is broken, tests/host/test_mutants.py.

What is asked of each function, by a case's result:

    valid       it must hold: sealed and opened; wrapped and unwrapped; the shared secret; verified
    invalid     it must be refused, and nothing else may come of it
    acceptable  x25519: RFC 7748 section 5 takes points on the twist, of small order and not
                canonical; section 6.1 lets us refuse a shared secret of zeros alone, and we do
                kw (RFC 3394): see below

    gcm        GCMContext on each kernel, and RareContext. On a board AAD has at most 112 octets
    kwp        keywrap, RFC 5649
    kw         RFC 3394, of which keywrap has the passes but not the check value: the passes must
               give what its cases have wrapped; and none of its cases is a key in ours
    ecdsa      der.parse_ecdsa and p256.Verifier; ecdsa_raw: r | s, 32 octets each
"""

import gc

from covey import der, p256, x25519
from covey.gcm import SALT_LEN
from covey.job import finish
from covey.keywrap import _decipher, unwrap, wrap
from covey.port import AESBlock, sha256
from test_gcm import BOARD, Rare, laid_out, makers
from vectors import load

_MOST_AAD = 112
_CHECK_3394 = b"\xa6" * 8


def octets(case, *names):
    found = [bytes.fromhex(case[name]) for name in names]
    return found if len(found) > 1 else found[0]


def wrong(cases, holds, *how):
    """The ids of the cases that do not come out as they must; all are asked."""
    return [case["id"] for case in cases if not holds(case, *how)]


def drawn(name, least):
    """A set, of which no case has gone."""
    cases = load("wycheproof_" + name)
    assert len(cases) >= least, len(cases)
    return cases


# ---- AES-GCM


def gcm_holds(case, make):
    key, iv, aad, text, ct, tag = octets(case, "key", "iv", "aad", "msg", "ct", "tag")
    context = make(key + iv[:SALT_LEN])
    off = case["id"] & 3
    sealed = laid_out(off, aad, iv[SALT_LEN:], ct, tag)
    clear = laid_out(off, aad, iv[SALT_LEN:], text)
    layout = off, len(aad), len(text)
    buf = bytearray(sealed)
    try:
        opened = context.open(buf, *layout)
    except ValueError:
        return BOARD and len(aad) > _MOST_AAD and buf == sealed
    if case["result"] == "invalid":
        return opened is False and buf == sealed
    if opened is not True or buf[:-18] != clear[:-18]:
        return False
    context.seal(clear, *layout)
    return clear == sealed


def test_gcm():
    cases = drawn("gcm", 133)
    assert len([case for case in cases if case["result"] == "invalid"]) == 54
    for make in makers() + [Rare]:
        assert wrong(cases, gcm_holds, make) == []
        gc.collect()


# ---- key wrap


def kwp_holds(case):
    kek, key, wrapped = octets(case, "key", "msg", "ct")
    if case["result"] == "invalid":
        return unwrap(kek, wrapped) is None
    return unwrap(kek, wrapped) == key and wrap(kek, key) == wrapped


def test_kwp():
    cases = drawn("kwp", 169)
    assert len([case for case in cases if case["result"] == "invalid"]) == 119
    assert wrong(cases, kwp_holds) == []
    if not BOARD:
        assert wrong(drawn("kwp_192", 85), kwp_holds) == []


def passes(kek, wrapped):
    """What RFC 3394's six passes give: the check value and the key."""
    data = bytearray(wrapped)
    finish(_decipher(AESBlock(kek).decrypt, data, len(data) // 8 - 1))
    return bytes(data)


def kw_holds(case):
    kek, key, wrapped = octets(case, "key", "msg", "ct")
    if unwrap(kek, wrapped) is not None:
        return False
    if len(wrapped) % 8 or len(wrapped) < 24:  # of less, RFC 5649 makes a single block
        return True
    return (passes(kek, wrapped) == _CHECK_3394 + key) is (case["result"] == "valid")


def test_kw():
    assert wrong(drawn("kw", 110), kw_holds) == []


# ---- X25519


def x25519_holds(case):
    scalar, u, shared = octets(case, "private", "public", "shared")
    is_zero = "ZeroSharedSecret" in case["flags"]
    assert is_zero is not any(shared) and (case["result"] == "acceptable" or not is_zero)
    return finish(x25519.multiply(scalar, u)) == (None if is_zero else shared)


def test_x25519():
    cases = drawn("x25519", 518)
    assert len([case for case in cases if case["result"] == "acceptable"]) == 254
    assert wrong(cases, x25519_holds) == []


# ---- ECDSA on P-256 with SHA-256


class Verifiers:
    """Of the key that was asked for last: its table serves all cases of one key."""

    def __init__(self):
        self._key = self._verifier = None

    def verify(self, case, pair):
        if case["key"] != self._key:
            self._key = case["key"]
            self._verifier = p256.Verifier(octets(case, "key"))
        digest = sha256(octets(case, "msg")).digest()
        return finish(self._verifier.verify(digest, *pair))


def of_der(case):
    return der.parse_ecdsa(octets(case, "sig"))


def of_raw(case):
    """As signatures.py has them in a packet, where 64 octets are all there can be."""
    sig = octets(case, "sig")
    if len(sig) != 64:
        return None
    return int.from_bytes(sig[:32], "big"), int.from_bytes(sig[32:], "big")


def ecdsa_holds(case, verifiers, parse):
    pair = parse(case)
    is_valid = pair is not None and verifiers.verify(case, pair)
    return is_valid is (case["result"] == "valid")


def test_ecdsa():
    cases = drawn("ecdsa", 484)
    assert len([case for case in cases if case["result"] == "valid"]) == 174
    assert wrong(cases, ecdsa_holds, Verifiers(), of_der) == []


def test_ecdsa_raw():
    cases = drawn("ecdsa_raw", 262)
    assert len([case for case in cases if case["result"] == "valid"]) == 173
    assert wrong(cases, ecdsa_holds, Verifiers(), of_raw) == []
