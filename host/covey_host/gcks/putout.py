"""Members lose what they may do in groups: all of it, or some.

Whoever loses a right is put out of the group by new keys (RFC 9838 section 3.2), also where it
may do something else there: what was told to it before is void, and it comes back as what it may
be. With one TEK a key server can take no right from who holds the key but by another key.
"""

from collections.abc import Callable, Iterable

from .authority import Member
from .group import Group
from .ledger import Changes
from .succession import Plan

Plans = list[tuple[Group, Plan]]


def planned(
    groups: Iterable[Group],
    members: Iterable[Member],
    now_ms: int,
    between: Callable[[], None] = lambda: None,
) -> tuple[Plans, Changes]:
    """What puts members, as they were, out of these groups; and the write that goes first. Then:
    believe(). between: called after each group."""
    known = {member.name: member for member in members}
    plans: Plans = []
    changes: Changes = {}
    for group in groups:
        group.refresh(now_ms)
        for name in known:
            group.forget_waiting(name)
        gone = frozenset(m.name for m in known.values() if group.may_hold_keys(m))
        seated = known.keys() & group.seated
        if gone or seated:
            absent = frozenset(name for name in known if group.knows(name))
            plan = group.evicting(gone, absent | seated, now_ms)
            plans.append((group, plan))
            changes |= plan.changes
        else:
            for name in known:
                changes |= group.forgetting(name)
        between()
    return plans, changes


def believe(plans: Plans, now_ms: int) -> None:
    """They are in the store."""
    for group, plan in plans:
        group.believe(plan, now_ms)
