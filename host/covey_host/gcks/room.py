"""Whether what policy allows is enough for who is authorised: Sender-IDs, windows, MACs."""

from collections.abc import Mapping

from ..errors import MISUSE, Problem
from . import seats
from .authority import Authority, Member
from .policy import NONE, GroupPolicy, SitePolicy, place_of


def check_room(rules: SitePolicy, authority: Authority, path) -> None:
    """Problem, with the line in that covey.toml, where a group has more senders than indexes, or
    more members than its source authentication serves, or who has no PPK where that is needed."""
    for group in rules.groups.values():
        senders = authority.count(group.name).senders
        if senders > most_senders(group):
            raise Problem(f"{place_of(path, group.name)}{_short(group, senders)}", MISUSE)
        if group.ppk:
            _check_ppks(group, authority, path)
        if group.source_auth == NONE:
            continue
        try:
            seats.check_room(group.name, group.source_auth, authority.of_group(group.name))
        except Problem as problem:
            place = place_of(path, group.name, "source_auth")
            raise Problem(f"{place}{problem.sentence}", MISUSE) from None


def _check_ppks(group: GroupPolicy, authority: Authority, path) -> None:
    for member in authority.members():
        if member.may_join(group.name) and not _has_ppk(member):
            place = place_of(path, group.name, "ppk")
            raise Problem(
                f"{place}{member.name} is a member of {group.name} without a PPK that it must use:"
                " leave ppk out, or remove it and add it anew with --ppk.",
                MISUSE,
            )


def _has_ppk(member: Member) -> bool:
    """One that it always uses."""
    return bool(member.ppk) and not member.is_ppk_optional


def check_group(group: GroupPolicy, authority: Authority) -> None:
    """Problem where who may join a group, before it is there, has no room in it."""
    senders = authority.count(group.name).senders
    if senders > most_senders(group):
        raise Problem(f"Group {group.name}: {_short(group, senders)}", MISUSE)
    if group.source_auth != NONE:
        seats.check_room(group.name, group.source_auth, authority.of_group(group.name))


def check_change(
    groups: Mapping[str, GroupPolicy], authority: Authority, was: Member, now: Member
) -> None:
    """Problem where what a member may do besides has no room in one of these groups, or takes a
    PPK that it lacks."""
    for name, role in now.roles(groups).items():
        more = role & ~was.role(name)
        group = groups.get(name)
        if group is None or not more:
            continue
        if group.ppk and not _has_ppk(now):
            raise Problem(
                f"Group {name} has ppk = true, and {now.name} has no PPK that it must use: remove"
                " it and add it anew with --ppk.",
                MISUSE,
            )
        if more.sends:
            check_sender(group, authority)
        if group.source_auth != NONE:
            members = {**authority.of_group(name), now.name: role}
            seats.check_room(name, group.source_auth, members)


def check_sender(group: GroupPolicy, authority: Authority) -> None:
    """Problem where one more sender has no room."""
    senders = authority.count(group.name).senders
    if senders >= most_senders(group):
        raise Problem(f"Group {group.name}: {_short(group, senders + 1)}", MISUSE)


def most_senders(group: GroupPolicy) -> int:
    """With single_sender they take turns, each with an index that is new."""
    return 1 << group.sender_id_form[0]


def _short(group: GroupPolicy, senders: int) -> str:
    index, incarnation = group.sender_id_form
    return (
        f"sender_id_form = [{index}, {incarnation}] tells {most_senders(group)} senders apart, and"
        f" there would be {senders}: raise its first number, or remove senders."
    )
