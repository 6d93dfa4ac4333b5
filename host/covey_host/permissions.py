"""What a command does to what members may do in groups, in a running server or under the lock: a
part of operations.py.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import site as sites
from .errors import MISUSE, Problem
from .gcks import policy, roles
from .gcks.authority import Authority, Member, lost_by
from .gcks.roles import Role
from .gcks.room import check_change
from .site import Site

DEFAULT = "default"  # in place of a role: no rule


def role_wanted(request: dict) -> Role:
    """Of a new member: what `role` says, else `sender`, else that it receives."""
    word = request.get("role")
    if word is None:
        return Role.BOTH if request.get("sender") is True else Role.RECEIVER
    if request.get("sender") is True:
        raise Problem("--sender is short for --role both: leave one of them out.", MISUSE)
    role = roles.role_named(word)
    if role is Role.NONE:
        raise Problem("A new member with the role none could do nothing: name another.", MISUSE)
    return role


def only_takes(authority: Authority, groups: Iterable[str], request: dict) -> bool:
    """Whether this `member allow` gives no right, in a group that is added later neither."""
    name, rule, word = (request.get(key) for key in ("member", "group", "role"))
    if request.get("do") != "member allow" or not isinstance(rule, str):
        return False
    try:
        role = None if word == DEFAULT else roles.role_named(word)
        check = roles.check_pattern(rule)
        was, now = authority.with_rule(sites.check_name("member", name), check, role)
    except (Problem, TypeError):
        return False
    if roles.is_pattern(rule):
        return role is not None and not role & ~was.groups.get(rule, Role.NONE)
    return not any(now.role(group) & ~was.role(group) for group in {*groups, rule})


def allow(
    site: Site,
    authority: Authority,
    running: Any,
    request: dict,
    now_ms: int,
    remember: Callable[..., None],
    rules: policy.SitePolicy,
) -> dict:
    """Give a member a rule, or take one away. running: an operations.Running, or None;
    remember(event, **facts): for who asks why, where no server does it; rules: without one."""
    rule, word = request.get("group"), request.get("role")
    if not isinstance(rule, str):
        raise Problem("The request lacks the name of its group.", MISUSE)
    role = None if word == DEFAULT else roles.role_named(word)
    rules = running.keyserver.policy if running else rules
    name = request["member"]
    was, now = authority.with_rule(name, roles.check_pattern(rule), role)
    is_known = roles.is_pattern(rule) or rule in rules.groups or rule in was.groups
    if not is_known:
        raise Problem(f"There is no group {rule!r}: see `covey group list`.", MISUSE)
    check_change(rules.groups, authority, was, now)
    lost = lost_by(was, now, rules.groups)
    if running:
        running.send(running.keyserver.change_member(was, now, now_ms))
        farewells = running.keyserver.farewells(now_ms)
    else:
        authority.change_without_server(was, now, rules.groups)
        remember("allowed", member=name, rules=roles.stored(now.groups), groups=lost)
        farewells = []
    changes = [
        {"group": group, "was": was.role(group).word, "role": now.role(group).word}
        for group in sorted({*was.roles(rules.groups), *now.roles(rules.groups)})
        if was.role(group) is not now.role(group)
    ]
    return {
        "member": name,
        "rules": roles.stored(now.groups),
        "changes": changes,
        "lost": lost,
        "open": [name for name in lost if _is_open(rules, name, now.role(name))],
        "deferred": not running,
        "groups": farewells,
        "file": _follow(site.members / name / "covey.json", now),
    }


def _is_open(rules: policy.SitePolicy, group: str, role: Role) -> bool:
    """Whether who has this role there can do more by the group's key, and nobody would notice."""
    if role is Role.NONE or group not in rules.groups:
        return False
    return role is Role.SENDER or rules.groups[group].source_auth == policy.NONE


def asks_as(role: Role) -> dict[str, bool]:
    """The fields of covey.json by which a member asks for no more than it may."""
    return {"sender": role.sends} | ({} if role.receives else {"receiver": False})


def _follow(path: Path, member: Member) -> str | None:
    """Have the member's file ask for what it may, if it is here → its path, if that changed it."""
    try:
        fields = json.loads(path.read_bytes())
        role = member.role(fields["group"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # kept elsewhere, or `covey why` says what is wrong with it
    if role is Role.NONE:
        return None
    kept = {key: value for key, value in fields.items() if key != "receiver"}
    wanted = kept | asks_as(role)
    if wanted == fields:
        return None
    sites.replace_private(path, (json.dumps(wanted, indent=2) + "\n").encode())
    return str(path)
