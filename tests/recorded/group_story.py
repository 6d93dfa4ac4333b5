"""Writes group_story.json: the life of one group as octets, for a member's control half.

Nothing of lib/ is used: every payload is laid out here by struct from RFC 9838 and RFC 7296, and
encrypted, wrapped and signed by `cryptography`. `python tests/published/group_story.py` makes the
same file each time (ECDSA is deterministic, all keys are drawn from labels).
"""

import hashlib
import json
import pathlib
import struct

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

GROUP = bytes([239, 192, 1, 32])
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_WITH_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")


def octets(label, n):
    return hashlib.shake_128(label.encode()).digest(n)


def signing_key(label):
    return ec.derive_private_key(int.from_bytes(octets(label, 31), "big"), ec.SECP256R1())


GCKS, IMPOSTOR = signing_key("gcks"), signing_key("impostor")


def spki(key):
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def tv(kind, value):
    return struct.pack(">HH", 0x8000 | kind, value)


def tlv(kind, value):
    return struct.pack(">HH", kind, len(value)) + value


def selector(address_lo, address_hi, port_lo, port_hi):
    return struct.pack(">BBHHH", 7, 17, 16, port_lo, port_hi) + address_lo + address_hi


ANYWHERE = selector(bytes(4), b"\xff" * 4, 0, 65535)


def transforms(*listed):
    out = b""
    for i, (kind, number, attributes) in enumerate(listed):
        last = i + 1 == len(listed)
        out += struct.pack(">BBHBBH", 0 if last else 3, 0, 8 + len(attributes), kind, 0, number)
        out += attributes
    return out


def substructure(protocol, spi, content):
    return struct.pack(">BBH", protocol, len(spi), 4 + len(spi) + len(content)) + spi + content


def rekey_policy(spi, lifetime=3600, gcauth=None, message_id=None, method=2):
    listed = [(1, 20, tv(14, 128)), (13, 1, b"")]
    if gcauth:
        listed.append((14, method, tlv(18, gcauth)))
    content = ANYWHERE + selector(GROUP, GROUP, 4500, 4500) + transforms(*listed)
    content += tlv(1, struct.pack(">I", lifetime))
    if message_id is not None:
        content += tlv(2, struct.pack(">I", message_id))
    return substructure(6, spi, content)


def esp_policy(spi, next_spi=None, lifetime=3600, cipher=20, bits=128):
    content = ANYWHERE + selector(GROUP, GROUP, 2222, 2222)
    content += transforms((1, cipher, tv(14, bits)), (5, 2, b""))
    content += tlv(1, struct.pack(">I", lifetime))
    if next_spi:
        content += tlv(3, next_spi)
    return substructure(3, spi, content)


def group_wide(atd, dtd, sender_bits=None, silence=None):
    content = tv(1, atd) + tv(2, dtd)
    if sender_bits:
        content += tv(3, sender_bits)
    content += tv(16384, 4500) + tv(16385, 10 << 8 | 16)
    if silence is not None:
        content += tlv(16388, struct.pack(">I", silence))
    return substructure(0, b"", content)


def sa_key(protocol, spi, kwk, keymat):
    wrapped = bytes(8) + keywrap.aes_key_wrap_with_padding(kwk, keymat)
    return substructure(protocol, spi, tlv(1, wrapped))


def member_bag(*attributes):
    return substructure(0, b"", b"".join(attributes))


def payload(following, body):
    return struct.pack(">BBH", following, 0, 4 + len(body)) + body


def chain(payloads):
    kinds = [kind for kind, _ in payloads[1:]] + [0]
    return b"".join(payload(k, body) for k, (_, body) in zip(kinds, payloads, strict=True))


class Kek:
    """A Rekey SA: GSK_e (16 + 4 octets of salt) and GSK_w (16)."""

    def __init__(self, name):
        self.spi = octets("spi " + name, 16)
        self.keymat = octets("kek " + name, 36)
        self.kwk = self.keymat[20:]

    def seal(self, message_id, payloads, label):
        inner = chain(payloads)
        head = self.head(message_id, payloads[0][0], 8 + len(inner) + 1 + 16)
        iv = octets("iv " + label, 8)
        sealed = AESGCM(self.keymat[:16]).encrypt(self.keymat[16:20] + iv, inner + b"\0", head)
        return head + iv + sealed

    def head(self, message_id, first, inner_len):
        header = self.spi + struct.pack(">BBBBII", 46, 0x20, 41, 0x08, message_id, 32 + inner_len)
        return header + struct.pack(">BBH", first, 0, 4 + inner_len)

    def signed(self, message_id, payloads, label, key=GCKS, algorithm=ECDSA_WITH_SHA256):
        """A GSA_REKEY with AUTH: RFC 9838 section 2.4.1.1."""
        lead = struct.pack(">BBBB", 14, 0, 0, 0) + bytes([len(algorithm)]) + algorithm
        for attempt in range(100):  # until the signature is as long as what it covers says
            noise = [(41, struct.pack(">BBHB", 0, 0, 40999, attempt))] if attempt else []
            before = payloads + noise
            inner = chain(before + [(39, lead + bytes(71))])
            covered = self.head(message_id, before[0][0], len(inner)) + inner
            signature = key.sign(covered, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
            if len(signature) == 71:
                return self.seal(message_id, before + [(39, lead + signature)], label)
        raise AssertionError("no signature of 71 octets in 100 attempts")


class Tek:
    def __init__(self, name):
        self.spi = octets("spi " + name, 4)
        self.keymat = octets("tek " + name, 20)

    def packet(self, sender_id, seq, text):
        """ESP, RFC 4303 and 4106: UDP 2222 to 2222 inside."""
        plain = struct.pack(">HHHH", 2222, 2222, 8 + len(text), 0) + text
        pad = -(len(plain) + 2) % 4
        plain += bytes(range(1, pad + 1)) + bytes([pad, 17])
        iv = struct.pack(">HHI", sender_id, 0, seq)
        aad = self.spi + struct.pack(">I", seq)
        sealed = AESGCM(self.keymat[:16]).encrypt(self.keymat[16:] + iv, plain, aad)
        return aad + iv + sealed


def delete(protocol, *spis):
    size = len(spis[0]) if spis else 0
    return 42, struct.pack(">BBH", protocol, size, len(spis)) + b"".join(spis)


def renewal(over, kek, tek, old, atd=1, dtd=2, next_spi=None, **changed):
    """GSA, KD, Delete of a rekey; `changed` replaces parts of it."""
    policies = changed.get(
        "policies", [rekey_policy(kek.spi), esp_policy(tek.spi, next_spi), group_wide(atd, dtd)]
    )
    bags = changed.get(
        "bags",
        [sa_key(6, kek.spi, over.kwk, kek.keymat), sa_key(3, tek.spi, over.kwk, tek.keymat)],
    )
    return [(51, b"".join(policies)), (52, b"".join(bags)), delete(3, old.spi)]


def main():
    ike_kwk = octets("ike kwk", 16)
    k1, k2, k3 = Kek("k1"), Kek("k2"), Kek("k3")
    t1, t2, t3 = Tek("t1"), Tek("t2"), Tek("t3")
    whole = [delete(3, bytes(4)), delete(6, bytes(16))]

    def gsa1(sending, silence=None, **rekey):
        wide = group_wide(0, 2, 16 if sending else None, silence)
        policy = rekey_policy(k1.spi, gcauth=ECDSA_WITH_SHA256, **rekey)
        return policy + esp_policy(t1.spi, t2.spi) + wide

    def kd1(*attributes):
        bags = sa_key(6, k1.spi, ike_kwk, k1.keymat) + sa_key(3, t1.spi, ike_kwk, t1.keymat)
        return bags + member_bag(tlv(2, spki(GCKS)), *attributes)

    first = renewal(k1, k2, t2, t1, next_spi=t3.spi)
    bad_key = sa_key(3, t2.spi, k1.kwk, t2.keymat[:16])
    not_wrapped = sa_key(3, t2.spi, octets("another kwk", 16), t2.keymat)
    kek_key = sa_key(6, k2.spi, k1.kwk, k2.keymat)
    cbc = [rekey_policy(k2.spi), esp_policy(t2.spi, cipher=12), group_wide(1, 2)]
    gcauth = [rekey_policy(k2.spi, gcauth=ECDSA_WITH_SHA256), esp_policy(t2.spi)]
    again = [
        rekey_policy(k2.spi),
        esp_policy(t2.spi, t3.spi),
        group_wide(1, 2, silence=1 << 24 | 60),
    ]
    story = {
        "kwk": ike_kwk,
        "spis": b"".join([t1.spi, t2.spi, t3.spi]),
        "sender": {"gsa": gsa1(True), "kd": kd1(tlv(3, struct.pack(">I", 0x41)))},
        "receiver": {"gsa": gsa1(False), "kd": kd1()},
        "late": {"gsa": gsa1(False, message_id=7), "kd": kd1()},
        "tells": {"gsa": gsa1(False, silence=60), "kd": kd1()},
        "stops": {"gsa": gsa1(False, silence=1 << 24 | 60), "kd": kd1()},
        "stops_again": k1.signed(0, renewal(k1, k2, t2, t1, policies=again), "r7"),
        "policies": {
            "implicit": {"gsa": gsa1(False, method=1), "kd": kd1()},
            "no_sender_id": {"gsa": gsa1(True), "kd": kd1()},
            "wide_sender_id": {"gsa": gsa1(True), "kd": kd1(tlv(3, b"\1\0\0"))},
            "no_auth_key": {"gsa": gsa1(False), "kd": kd1()[: -8 - len(spki(GCKS))]},
            "no_tek": {"gsa": gsa1(False), "kd": sa_key(6, k1.spi, ike_kwk, k1.keymat)},
        },
        "rekey1": k1.signed(0, first, "r1"),
        "rekey2": k2.signed(0, renewal(k2, k3, t3, t2), "r2"),
        "delete_all": k3.signed(0, whole, "r3"),
        "later": k1.signed(9, first, "r4"),
        "esp_only": k1.signed(
            1, [(51, esp_policy(t2.spi)), (52, sa_key(3, t2.spi, k1.kwk, t2.keymat))], "r5"
        ),
        "delete_tek": k1.signed(0, [delete(3, t1.spi)], "r6"),
        "forged": {
            "impostor": k1.signed(0, first, "f1", key=IMPOSTOR),
            "no_auth": k1.seal(0, first, "f2"),
            "other_algorithm": k1.signed(0, first, "f3", algorithm=ECDSA_WITH_SHA384),
        },
        "wrong": {
            "gcauth": k1.signed(0, renewal(k1, k2, t2, t1, policies=gcauth), "w1"),
            "sender_id": k1.signed(
                0,
                renewal(
                    k1,
                    k2,
                    t2,
                    t1,
                    bags=[
                        kek_key,
                        sa_key(3, t2.spi, k1.kwk, t2.keymat),
                        member_bag(tlv(3, bytes(4))),
                    ],
                ),
                "w2",
            ),
            "short_key": k1.signed(0, renewal(k1, k2, t2, t1, bags=[kek_key, bad_key]), "w3"),
            "not_wrapped": k1.signed(
                0, renewal(k1, k2, t2, t1, bags=[kek_key, not_wrapped]), "w4"
            ),
            "cipher": k1.signed(0, renewal(k1, k2, t2, t1, policies=cbc), "w5"),
            "gsa_without_kd": k1.signed(0, first[:1], "w6"),
            "kd_twice": k1.signed(0, first + [first[1]], "w7"),
            "empty": k1.signed(0, [(41, struct.pack(">BBH", 0, 0, 40999))], "w8"),
        },
        "packets": {
            name: [tek.packet(0x81, seq, b"%s %d" % (name.encode(), seq)) for seq in (1, 2, 3)]
            for name, tek in (("t1", t1), ("t2", t2), ("t3", t3))
        },
    }
    here = pathlib.Path(__file__).with_suffix(".json")
    here.write_text(json.dumps(story, default=bytes.hex, indent=1) + "\n")


if __name__ == "__main__":
    main()
