"""What is sealed for every length of a text and of a payload, and what must come of it.

Both interpreters make the same cases of POOL; `sets()` (CPython) has `cryptography` seal them,
with nothing of ours, and keeps four octets of SHA-256 of each: see test_gcm_lengths.py and
test_member_lengths.py.
"""

MOST_TEXT = 1536  # what a board's context takes unless told
MOST_PAYLOAD = 1492  # the most that a Member can be made for
AAD_LENS = (8, 12, 32, 36, 0)  # ESP, with 64-bit numbers, IKE's SK and its SKF; none
SPI = b"\x9f\x3a\x12\xc4"
SENDER = 65  # a Sender-ID of 16 bits
PORT = 2222
DIGEST_LEN = 4


def _pool(n):
    out = bytearray(n)
    x = 4711
    for i in range(n):
        x = x * 75 % 65537  # Lehmer's generator with the prime 2^16 + 1: never a long int
        out[i] = x & 255
    return bytes(out)


POOL = _pool(2 * MOST_TEXT + 128)
KEYMATS = {128: POOL[:20], 256: POOL[20:56]}  # AES key, salt


def case(n, aad_len):
    """(AAD, IV, text) of the text of n octets: IVs differ."""
    return POOL[n + 64 : n + 64 + aad_len], b"IV of" + bytes((0, n >> 8, n & 255)), text_of(n)


def text_of(n):
    """n octets, others for each n."""
    return POOL[n + 100 : n + 100 + n]


def datagram_parts(n, number):
    """(SPI and number, IV, text) of the packet with a payload of n octets, RFC 4303 and 768."""
    seq = number.to_bytes(4, "big")
    iv = SENDER.to_bytes(2, "big") + bytes(2) + seq
    port, length = PORT.to_bytes(2, "big"), (n + 8).to_bytes(2, "big")
    padding = bytes(range(1, 1 + (2 - n) % 4))
    text = port + port + length + bytes(2) + text_of(n) + padding + bytes((len(padding), 17))
    return SPI + seq, iv, text


def sets():
    """The one vector of the set `lengths`: {kind: digests of all lengths, in hex}."""
    made = {}
    for bits in KEYMATS:
        for aad_len in AAD_LENS:
            cases = [case(n, aad_len) for n in range(MOST_TEXT + 1)]
            made[f"gcm {bits} {aad_len}"] = _digests(bits, cases, False)
        cases = [case(n, 8) for n in range(MOST_TEXT + 1)]
        made[f"gmac {bits} 8"] = _digests(bits, cases, True)
        cases = [datagram_parts(n, n + 1) for n in range(MOST_PAYLOAD + 1)]
        made[f"esp gcm {bits}"] = _digests(bits, cases, False)
        made[f"esp gmac {bits}"] = _digests(bits, cases, True)
    return {"lengths": [made]}


def _digests(bits, cases, integrity_only):
    from hashlib import sha256

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, salt = KEYMATS[bits][:-4], KEYMATS[bits][-4:]
    aead = AESGCM(key)
    out = ""
    for aad, iv, text in cases:
        if integrity_only:  # RFC 4543 section 3.3
            sealed = text + aead.encrypt(salt + iv, b"", aad + iv + text)
        else:
            sealed = aead.encrypt(salt + iv, text, aad)
        out += sha256(aad + iv + sealed).hexdigest()[: 2 * DIGEST_LEN]
    return out
