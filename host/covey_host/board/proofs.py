"""What source authentication takes of a board's heap, beside what a member takes without it.

Reckoned, in octets: what objects of 32-bit MicroPython take in blocks of 16, and its code as an
image has it (measured: a member's modules imported with it and without). A test counts again what
the waiting room and chains take, which is most of what limits and groups change.
"""

from ..gcks.policy import ECDSA, MAC, NONE, TESLA
from ..gcks.seats import MOST_SENDERS
from .members import Member

IN_RAM, IN_ROMFS = "heap", "heap_romfs"  # where the code lies
WAITING = 16  # what MicroPython's port has as limits.waiting
_CODE = {
    MAC: {IN_RAM: 6_000, IN_ROMFS: 3_200},
    TESLA: {IN_RAM: 18_500, IN_ROMFS: 9_900},
    ECDSA: {IN_RAM: 14_000, IN_ROMFS: 7_200},
}
_KEEPER = 1_600  # TESLA's clock, and what is asked of it; a sender's ring of keys, too
_CONTEXT = 2_700  # a key of AES-CMAC: one to check, one to send
_CHAINS = 3 * 235  # of a sender, as others know them
_STONES = 2 * 1_280  # of one's own chain and the next
_SIGNER = 460  # its public key, and what it was found to have signed


def octets(member: Member, has: dict[str, int], where: str) -> int:
    """All of it; has: the limits of its covey.json. 0 where nobody knows the group's policy."""
    mode = member.policy.source_auth if member.policy else NONE
    if mode == NONE:
        return 0
    senders = min(member.senders or 0, MOST_SENDERS)
    found = _CODE[mode][where]
    if mode == TESLA:
        sends = bool(member.fields.get("sender"))
        found += _KEEPER + _CONTEXT + senders * _CHAINS + sends * (_CONTEXT + _STONES)
    if mode == ECDSA:
        found += senders * _SIGNER
    if waits(member):
        found += room(has.get("waiting", WAITING), has["payload"])
    return found


def waits(member: Member) -> bool:
    """Whether packets of its group wait for their proof."""
    return member.policy is not None and member.policy.source_auth in (TESLA, ECDSA)


def room(slots: int, payload: int) -> int:
    """Of covey.waiting.WaitingRoom, with rx as covey.aio makes it."""
    rx = 1536 if payload >= 1400 else payload + 56
    packet = (rx + 14 + 15) // 16 * 16 + 16
    return 580 + (slots + 1) * (packet + 47)


def fitting(member: Member, has: dict[str, int], lacking: int, where: str) -> int:
    """The most packets that may wait, so that it takes less by what is lacking; 0: none may."""
    most = octets(member, has, where) - lacking
    slots = range(has.get("waiting", WAITING) - 1, 0, -1)
    return next((n for n in slots if octets(member, {**has, "waiting": n}, where) <= most), 0)
