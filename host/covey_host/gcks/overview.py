"""What `covey status` and `covey why` are told: plain values, no secrets, and never too many.

However many members there are, what status costs depends on how many report; its lists are cut.
"""

from collections import Counter
from itertools import islice

from covey.drops import name_of

from ..errors import MISUSE, Problem
from . import states
from .authority import Authority, Member
from .contacts import Contact
from .diary import Diary
from .group import Group
from .policy import SitePolicy
from .responder import Responder
from .roles import Role, stored

LISTED = 100  # names in each list
_STALE = 4  # report intervals after which a report says nothing of now


class Overview:
    """responder: None where no key server runs; then times mean nothing."""

    def __init__(
        self,
        policy: SitePolicy,
        groups: dict[str, Group],
        authority: Authority,
        diary: Diary,
        responder: Responder | None,
    ):
        self._policy = policy
        self._groups = groups
        self._authority = authority
        self._diary = diary
        self._responder = responder

    def status(self, now_ms: int, member: str | None = None) -> dict:
        """member: is among those that are listed."""
        groups = {name: self._group(name, now_ms) for name in self._policy.groups}
        some = list(islice(self._authority.members(), LISTED + 1))
        found = {m.name: m for m in some[:LISTED]}
        wanted = self._authority.find(member) if member else None
        if wanted is not None and not wanted.removed:
            found = {wanted.name: wanted} | found
        members = [self._listed(m, now_ms) for m in found.values()]
        return {"groups": groups, "members": members, "more": len(some) > LISTED}

    def why(self, name: str, now_ms: int) -> dict:
        """All that is known of one member. Problem where there is none."""
        member = self._authority.find(name)
        if member is None:
            raise Problem(f"There is no member {name}: see `covey member list`.", MISUSE)
        diary = self._diary
        rows = diary.history.of(name)
        roles = member.roles(self._policy.groups)
        groups = {group: self._standing(member, group, now_ms) for group in roles}
        sa = self._responder.open_sa(name) if self._responder else None
        heard_s = None if sa is None else max(0, now_ms - sa.heard_ms) // 1000
        if heard_s is None and (spoken := [row[1] for row in rows if row[3] in _SPOKEN]):
            heard_s = max(0, int(diary.time()) - max(spoken))
        contact = diary.contacts.of(name)
        return {
            "member": name,
            "removed": member.removed,
            "rules": stored(member.groups),
            "groups": groups,
            "connected": sa is not None,
            "address": None if sa is None else str(sa.address),
            "heard_s": _least(heard_s, None if contact is None else diary.contacts.age_s(contact)),
            "report": None if contact is None else self._told(contact),
            "history": [self._row(*row) for row in reversed(rows)],
        }

    # Groups

    def _group(self, name: str, now_ms: int) -> dict:
        policy, group = self._policy.groups[name], self._groups[name]
        is_running = self._responder is not None
        facts = {
            "address": policy.address,
            "port": policy.port,
            "carrier": policy.carrier,
            "carrier_port": policy.carrier_port,
            "report_interval_s": policy.report_interval_s,
            **group.status(now_ms, is_running, LISTED),
        }
        if is_running:
            is_told = group.is_inband or facts["unicast"]
            holders = self._responder.holders(group) if is_told else None
            facts["holders"] = None if holders is None else holders[:LISTED]
            facts["holder_count"] = None if holders is None else len(holders)
        facts["sender_count"] = group.sender_count()
        facts["counts"] = self._counts(group, now_ms)
        facts["lag"], facts["behind"] = self._lag(group)
        return facts

    def _counts(self, group: Group, now_ms: int) -> dict[str, int]:
        counts = dict.fromkeys(states.STATES[:-1], 0) | group.counts()
        waiting = group.waiting(now_ms)
        for state in map(group.kept_state_of, waiting):
            counts[state] -= state != states.NEVER  # one who waits counts as that alone
        counts[states.WAITING] = len(waiting)
        known = sum(counts.values())
        may_register = self._authority.count(group.policy.name).all
        counts[states.NEVER] = max(0, may_register - known)
        return counts

    def _lag(self, group: Group) -> tuple[dict[str, int], list[dict]]:
        """Of those who have keys: how many have the newest ones, as far as they say; and some of
        those that are behind, who reported last first."""
        lag = Counter(dict.fromkeys(states.LAGS, 0))
        if group.epoch is None:
            return dict(lag), []
        contacts, behind = self._diary.contacts, []
        for name in contacts.members():
            if group.has(name):
                word = self._lag_of(name, group)
                lag[word] += 1
                if word in (states.BEHIND, states.SILENT):
                    contact = contacts.of(name)
                    told_s = contacts.age_s(contact)
                    row = {
                        "member": name,
                        "epochs": contact.behind[group.policy.name],
                        "told_s": told_s,
                    }
                    behind.append(row | {"state": contact.report.state})
        lag[states.UNKNOWN] += group.counts()[states.MEMBER] - sum(lag.values())
        return dict(lag), behind[: -LISTED - 1 : -1]

    def _lag_of(self, name: str, group: Group) -> str:
        stale_s = _STALE * group.policy.report_interval_s
        return self._diary.contacts.lag_of(name, group.policy.name, stale_s)

    # Members

    def _listed(self, member: Member, now_ms: int) -> dict:
        sa = self._responder.open_sa(member.name) if self._responder else None
        roles = member.roles(self._policy.groups)
        may_join = {g: role for g, role in roles.items() if role is not Role.NONE}
        standing = {g: self._standing(member, g, now_ms) for g in may_join}
        contact = self._diary.contacts.of(member.name)
        told_s = None if contact is None else self._diary.contacts.age_s(contact)
        return {
            "member": member.name,
            "groups": {g: role.sends for g, role in may_join.items()},
            "roles": stored(roles),
            "connected": sa is not None,
            "states": {group: facts["state"] for group, facts in standing.items()},
            "lags": {group: facts["lag"] for group, facts in standing.items()},
            "told_s": told_s,
        }

    def _standing(self, member: Member, name: str, now_ms: int) -> dict:
        """What a member is to a group that a rule of it covers."""
        role = member.role(name)
        facts = {"sender": role.sends, "role": role.word}
        facts |= {"state": states.NEVER, "lag": None, "behind": 0}
        facts |= {"epoch": None, "senders": 0, "untimed": False, "unsure": False}
        group = self._groups.get(name)
        if group is None:
            return facts
        group.refresh(now_ms)
        facts["epoch"] = None if group.epoch is None else group.epoch.number
        facts["senders"] = group.sender_count()
        facts["state"] = group.state_of(member.name, now_ms)
        if facts["state"] == states.MEMBER:
            facts["lag"] = self._lag_of(member.name, group)
            contact = self._diary.contacts.of(member.name)
            facts["behind"] = contact.behind.get(name, 0) if contact else 0
            if self._responder is not None:
                facts["untimed"] = group.is_untimed(member.name, now_ms)
                facts["unsure"] = group.is_unsure(member.name, now_ms)
        return facts

    def _told(self, contact: Contact) -> dict:
        report = contact.report
        return {
            "age_s": self._diary.contacts.age_s(contact),
            "state": report.state,
            "software": report.software,
            "spi": report.spi.hex() if any(report.spi) else None,
            "epoch": report.epoch or None,
            "seconds": report.seconds,
            "opened": report.opened,
            "sent": report.sent,
            "changes": [list(change) for change in report.changes],
            "drops": {_name(reason): count for reason, count in report.drops.items()},
        }

    def _row(self, first: int, last: int, times: int, event: str, facts: dict) -> dict:
        now = int(self._diary.time())
        ages = {"first_s": max(0, now - first), "last_s": max(0, now - last)}
        return {"event": event, **ages, "times": times, **facts}


# Events that show that the member itself, or somebody with its key, has spoken.
_SPOKEN = {"registered", "left", "waits", "refused", "moved", "replaced", "drops", "behind"}


def _name(reason: int) -> str:
    try:
        return name_of(reason)
    except KeyError:
        return f"reason {-reason}"


def _least(*ages: int | None) -> int | None:
    return min((age for age in ages if age is not None), default=None)
