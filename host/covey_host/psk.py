"""Pre-shared keys: always generated. One that is brought, for a peer of another make, is judged.

RFC 7296 section 2.15: a key that a person thought up is found by trying, by whoever has answered
one IKE_SA_INIT. What looks random may still be guessable; what is refused here surely is.
"""

import os
from pathlib import Path

from covey.fields import parse_psk

from .errors import MISUSE, Problem
from .gcks.authority import PSK_LEN

_LEAST_DISTINCT = 16  # octets; of 32 random ones 30 are, fewer than 16 never
_LEAST_STEPS = 8  # differences between neighbours


def read_psk(path: Path) -> bytes:
    """From a file, as a member reads its own. Problem where it holds none, or a guessable one."""
    try:
        psk = parse_psk(path.read_bytes())
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from error
    if psk is None:
        raise Problem(f"{path} holds no pre-shared key: {_WHAT_TO_DO}", MISUSE)
    check(bytes(psk), str(path))
    return bytes(psk)


def psk_of(value: object) -> bytes:
    """As a request has it: hexadecimal, or None for a new one."""
    if value is None:
        return os.urandom(PSK_LEN)
    try:
        psk = bytes.fromhex(value)
    except (ValueError, TypeError):
        raise Problem("The pre-shared key of the request is not hexadecimal.", MISUSE) from None
    check(psk, "The request")
    return psk


def check(psk: bytes, holder: str) -> None:
    """Problem where it is too short or can be guessed; its words are none of the key's."""
    weakness = _weakness(psk)
    if weakness:
        raise Problem(f"{holder} holds a weak pre-shared key, {weakness}: {_WHAT_TO_DO}", MISUSE)


_WHAT_TO_DO = (
    f"let a machine draw {PSK_LEN} random octets, as `openssl rand -hex {PSK_LEN}` does, or leave"
    " --psk-file out."
)


def _weakness(psk: bytes) -> str | None:
    if len(psk) < PSK_LEN:
        return f"of {len(psk)} octets"
    if _is_text(psk):
        return "which is text"
    if len(set(psk)) < _LEAST_DISTINCT:
        return "of few different octets"
    if len({(b - a) & 0xFF for a, b in zip(psk, psk[1:], strict=False)}) < _LEAST_STEPS:
        return "which counts"
    if any(psk[n:] == psk[:-n] for n in range(1, len(psk) // 2 + 1)):
        return "which repeats itself"
    return None


def _is_text(psk: bytes) -> bool:
    """In whichever language: of random keys one in a hundred million is."""
    try:
        psk.decode()
    except UnicodeDecodeError:
        return False
    return True
