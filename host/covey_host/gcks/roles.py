"""What a member may do in a group, by rules that name groups or patterns of them.

    {"line1": BOTH, "line*": RECEIVER, "*": NONE}

`*` stands for any characters, `?` for one. A rule that names the group outranks all patterns; of
these the one with most characters of its own does. Where several have as many, only what all of
them allow is allowed. A group without a rule is as one with NONE.

Rules are looked at whenever there is a question, so that a group that is added later is covered.
"""

import re
from collections.abc import Iterable, Mapping
from enum import IntFlag
from fnmatch import fnmatchcase
from functools import reduce

from ..errors import MISUSE, Problem

_PATTERN = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,62}")
_WILD = re.compile(r"[*?]")


class Role(IntFlag):
    """Values are in a store as words; see word()."""

    NONE = 0
    RECEIVER = 1
    SENDER = 2
    BOTH = 3

    @property
    def receives(self) -> bool:
        return bool(self & Role.RECEIVER)

    @property
    def sends(self) -> bool:
        return bool(self & Role.SENDER)

    @property
    def word(self) -> str:
        return _WORDS[self]


Rules = Mapping[str, Role]  # group, or pattern of groups → role

_WORDS = {Role.RECEIVER: "receiver", Role.SENDER: "sender", Role.BOTH: "both", Role.NONE: "none"}
_ROLES = {word: role for role, word in _WORDS.items()}
WORDS = tuple(_ROLES)


def role_named(word: object) -> Role:
    """Problem where that is none."""
    if not isinstance(word, str) or word not in _ROLES:
        raise Problem(f"{word!r} is no role: use {', '.join(WORDS)}.", MISUSE)
    return _ROLES[word]


def role_in(rules: Rules, group: str) -> Role:
    """The role of who has these rules."""
    if group in rules:
        return rules[group]
    found = [p for p in rules if is_pattern(p) and fnmatchcase(group, p)]
    most = max(map(_own, found), default=0)
    best = [rules[pattern] for pattern in found if _own(pattern) == most]
    return reduce(Role.__and__, best) if best else Role.NONE


def roles_in(rules: Rules, groups: Iterable[str]) -> dict[str, Role]:
    """Of those groups that a rule covers, and of all that it names: group → role."""
    named = [name for name in rules if not is_pattern(name)]
    patterns = [name for name in rules if is_pattern(name)]
    covered = [g for g in groups if g not in rules and any(fnmatchcase(g, p) for p in patterns)]
    return {group: role_in(rules, group) for group in (*named, *covered)}


def is_pattern(name: str) -> bool:
    return _WILD.search(name) is not None


def check_pattern(name: str) -> str:
    """The name of a group, or a pattern of such. Problem where it is neither."""
    if not _PATTERN.fullmatch(name):
        shown = name if len(name) <= 40 else name[:40] + "..."
        raise Problem(
            f"{shown!r} names no groups: use 1 to 63 letters, digits, '.', '_' and '-', with '*'"
            " for any of them and '?' for one.",
            MISUSE,
        )
    return name


def stored(rules: Rules) -> dict[str, str]:
    return {name: role.word for name, role in rules.items()}


def loaded(fields: Mapping[str, object]) -> dict[str, Role]:
    """What stored() gave; or, as it was before there were roles: whether it may send, too."""
    return {name: _loaded(value) for name, value in fields.items()}


def _loaded(value: object) -> Role:
    if isinstance(value, bool):
        return Role.BOTH if value else Role.RECEIVER
    return _ROLES[value]


def _own(pattern: str) -> int:
    """How many characters of its own it has."""
    return len(_WILD.sub("", pattern))
