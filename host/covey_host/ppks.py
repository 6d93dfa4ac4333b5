"""Post-quantum preshared keys (RFC 8784) as commands hand them out: a part of operations.py.

They are generated, never chosen: one that a person thinks up is no 256 bits.
"""

import os

from .errors import MISUSE, Problem
from .gcks.authority import PPK_LEN
from .gcks.policy import GroupPolicy

REQUIRED, OPTIONAL, NONE = "required", "optional", "none"


def made_for(name: str, group: GroupPolicy, wanted: str | None) -> dict:
    """What Authority.add() is told of a new member's PPK; its group may need one, whatever is
    wanted."""
    if wanted not in (None, REQUIRED, OPTIONAL):
        raise Problem("The request's ppk is neither required nor optional.", MISUSE)
    if wanted == OPTIONAL and group.ppk:
        raise Problem(
            f"Group {group.name} has ppk = true, so {name} must always use its PPK: leave"
            " --ppk-optional out.",
            MISUSE,
        )
    if wanted is None and not group.ppk:
        return {}
    return {"ppk": os.urandom(PPK_LEN), "is_ppk_optional": wanted == OPTIONAL}


def written(made: dict) -> tuple[dict[str, bytes], dict]:
    """The file of a board, and the fields of covey.json that speak of it."""
    if not made:
        return {}, {}
    fields = {"ppk_file": "ppk"} | ({"ppk_optional": True} if made["is_ppk_optional"] else {})
    return {"ppk": made["ppk"].hex().encode() + b"\n"}, fields


def shown(member) -> str:
    """Whether a member has one, in a word."""
    if not member.ppk:
        return NONE
    return OPTIONAL if member.is_ppk_optional else REQUIRED
