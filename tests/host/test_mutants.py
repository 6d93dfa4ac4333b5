"""Whether the tests of every length and Project Wycheproof's cases notice what is broken: a fault
is put into one file of lib/, compiled for the 32-bit MicroPython, and one of them has to fail.

What to do where a line is not there any more: put the fault into what stands in its place.
"""

import os
import shutil

import pytest

from covey_host.board.code import SOURCE, compile_file
from test_micropython import BUILD, TESTS, compile_lib, run

ARCH = "x86"
GCM, GCM_LENGTHS = ("wycheproof", "test_gcm"), ("gcm_lengths", "test_gcm")
GMAC = ("gcm_lengths", "test_gmac")
MEMBER, MEMBER_GMAC = ("member_lengths", "test_gcm_128"), ("member_lengths", "test_gmac_128")
KWP, KW, X25519 = [("wycheproof", f"test_{name}") for name in ("kwp", "kw", "x25519")]
ECDSA, ECDSA_RAW = ("wycheproof", "test_ecdsa"), ("wycheproof", "test_ecdsa_raw")

# What is broken: the file, what stands there, what is put in its place, the tests of which each
# has to fail.
FAULTS = {
    # AES-GCM
    "a wrong tag is no matter": (
        "port/mpy_ghash.py",
        "            if int(z0):\n                return False\n",
        "",
        (GCM, GCM_LENGTHS, GMAC, MEMBER),
    ),
    "a word of the tag is not compared": (
        "port/mpy_ghash.py",
        "            z0 |= z2 ^ uint(ptr32(k)[2]) | z3 ^ uint(ptr32(k)[3])\n",
        "            z0 |= z2 ^ uint(ptr32(k)[2])\n",
        (GCM, GCM_LENGTHS, MEMBER),
    ),
    "an octet of the tag is not compared, without tables": (
        "port/mpy_crypt.py",
        "            z0 |= z2 ^ uint(ptr32(k)[2]) | z3 ^ uint(ptr32(k)[3])\n",
        "            z0 |= z2 ^ uint(ptr32(k)[2]) | z3 ^ uint(ptr32(k)[3]) << 8\n",
        (GCM, MEMBER_GMAC),
    ),
    "of the length of a text its low octet counts": (
        "port/mpy_ghash.py",
        "        k[14] = n >> 5\n",
        "        k[14] = 0\n",
        (GCM, GCM_LENGTHS, MEMBER),
    ),
    "blocks are counted in one octet": (
        "port/mpy_ghash.py",
        "        i = number << 24  # most",
        "        i = (number & 31) << 24  # most",
        (GCM, GCM_LENGTHS, MEMBER),
    ),
    "the rest of a block stays in clear": (
        "port/mpy_ghash.py",
        "            n &= 15\n            while d < stop:\n",
        "            n = 0\n            while d < stop:\n",
        (GCM, GCM_LENGTHS, MEMBER),
    ),
    "AAD that is misaligned is not padded": (
        "port/mpy_ghash.py",
        "                k[0] = 0\n                if aad_len:\n",
        "                if aad_len:\n",
        (GCM, GCM_LENGTHS),
    ),
    "a seal takes heap": (
        "port/mpy_ghash.py",
        "    rest = text_len\n    if s",
        "    object()\n    rest = text_len\n    if s",
        (GCM_LENGTHS, GMAC, MEMBER, MEMBER_GMAC),
    ),
    # A member's path
    "a frame on the heap, which the lock hides": (
        "member.py",
        "        sa = self._sas[slot]\n        n -=",
        "        sa = self._sas[slot]\n        a = b = c = d = e = f = g = h = n\n        n -=",
        (MEMBER, MEMBER_GMAC),
    ),
    "a refusal takes heap": (
        "member.py",
        "            return self.drops.count(DROP_TAG)\n",
        "            return self.drops.count(max(DROP_TAG, *self.rx[:1], -99) and DROP_TAG)\n",
        (MEMBER, MEMBER_GMAC),
    ),
    "padding is not looked at": (
        "port/mpy_path.py",
        "        if q[pad_len] != pad_len:\n            return _DROP_PADDING\n",
        "",
        (MEMBER, MEMBER_GMAC),
    ),
    "ports are not looked at": (
        "port/mpy_path.py",
        "    if (outside | port - s[_PORT_LO] | s[_PORT_HI] - port) < 0:\n",
        "    if outside < 0:\n",
        (MEMBER, MEMBER_GMAC),
    ),
    "packets are taken twice": (
        "port/mpy_path.py",
        "        p[n] = p[n] | 1 << ptr32(w)[_BIT]\n",
        "",
        (MEMBER, MEMBER_GMAC),
    ),
    # Key wrap
    "the check value is not looked at": (
        "keywrap.py",
        "        diff |= data[i] ^ _CHECK[i]\n",
        "        pass\n",
        (KWP,),
    ),
    "a length is not looked at": (
        "keywrap.py",
        "    diff |= pad & ~7\n",
        "",
        (KWP,),
    ),
    "padding of a key is not looked at": (
        "keywrap.py",
        "        diff |= data[-i] & -(i <= pad)",
        "        pass",
        (KWP,),
    ),
    "steps of a wrapping are counted in one octet": (
        "keywrap.py",
        "            block[6] ^= t >> 8\n            block[7] ^= t & 0xFF\n            low",
        "            block[7] ^= t & 0xFF\n            low",
        (KWP, KW),
    ),
    # X25519
    "a shared secret of zeros": (
        "x25519.py",
        " if shared else None\n",
        "\n",
        (X25519,),
    ),
    "the highest bit of a point counts": (
        "x25519.py",
        "    u[31] &= 127\n",
        "",
        (X25519,),
    ),
    "a scalar is taken as it is": (
        "x25519.py",
        "    k[0] &= 248\n",
        "",
        (X25519,),
    ),
    "a carry is lost at the end of a turn": (
        "x25519.py",
        "        z3 = t - (t >> 255) * p\n",
        "        z3 = t & low\n",
        (X25519,),
    ),
    # ECDSA
    "r and s of any size": (
        "p256.py",
        "        if not (0 < r < N and 0 < s < N):\n",
        "        if not (r and s):\n",
        (ECDSA, ECDSA_RAW),
    ),
    "an x beyond n": (
        "p256.py",
        " or r + N < P and x == (r + N) * zz % P",
        "",
        (ECDSA, ECDSA_RAW),
    ),
    "an x beyond p": (
        "p256.py",
        "r + N < P and x == (r + N) * zz % P",
        "x == (r + N) * zz % P",
        (ECDSA, ECDSA_RAW),
    ),
    "negative numbers in a signature": (
        "der.py",
        " or data[off] & 0x80:\n",
        ":\n",
        (ECDSA,),
    ),
    "octets behind a signature": (
        "der.py",
        " or data[1] != len(data) - 2:\n",
        ":\n",
        (ECDSA,),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_noticed(tmp_path, name):
    file, stands, instead, tests = FAULTS[name]
    assert compile_lib() is None
    text = (SOURCE / "covey" / file).read_text()
    assert text.count(stands) == 1, f"{file} has not, or not once: {stands}"
    broken = tmp_path / "source" / "covey" / file
    broken.parent.mkdir(parents=True)
    broken.write_text(text.replace(stands, instead))
    lib = tmp_path / "lib"
    shutil.copytree(BUILD / f"lib-{ARCH}", lib, copy_function=os.symlink)
    target = (lib / "covey" / file).with_suffix(".mpy")
    target.unlink()
    compile_file(broken, target, ARCH, tmp_path / "source")
    for stem, test in tests:
        results, ending = run(ARCH, TESTS / f"test_{stem}.py", lib, (test,))
        assert test in results, (results, ending)
        assert not results[test]["ok"], f"{test} has not noticed"
