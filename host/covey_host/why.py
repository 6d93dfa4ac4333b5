"""`covey why`: what is known of one member, in words."""

import json
import os
import time
from pathlib import Path

from covey.fields import parse_psk

from .causes import ago, causes, span
from .dropwords import in_words
from .gcks import issuing, trust
from .gcks.authority import KEY, PSK, Member
from .gcks.policy import SitePolicy
from .gcks.roles import Role
from .output import printable
from .site import Site

_SOON_S = 30 * 86400  # a certificate is to be renewed before
_STATES = {
    "member": "has its keys",
    "waiting": "waits for keys",
    "excluded": "had keys, which are over, and has not come back",
    "left": "has left it",
    "never": "is not in it",
}
_ROLES = {
    "receiver": "be a receiver of",
    "sender": "be a sender, and no receiver, of",
    "both": "be a sender of",
    "none": "not join",
}
_EVENTS = {
    "added": "added to the site",
    "removed": "removed from the site",
    "left": "said that it goes, and left {group}",
    "waits": "asked for {group}, and was told to wait for keys that nobody has used",
    "unanswered": "did not answer the key server any more",
    "replaced": "registered from {address} while it was still there at {former}, heard {heard_s} s"
    " before",
    "moved": "went on from {address}, no longer {former}",
    "behind": "reported old keys, {epochs} epochs behind",
    "caught_up": "reported the newest keys again",
}


def lines(told: dict) -> list[str]:
    """For a person: what it is, what stands in its way, what happened, newest first."""
    name = told["member"]
    said = [_standing(name, group, facts) for group, facts in told["groups"].items()]
    said += [_contact(told)]
    if told["report"]:
        said += _report(told["report"])
    found = causes(told)
    said += ["", "In its way:" if found else f"Nothing that is known here stands in {name}'s way."]
    for cause in found:
        said.append(f"  {cause.words}" + (f" {cause.advice}" if cause.advice else ""))
    said += [
        "",
        "What happened, newest first:" if told["history"] else "Nothing has happened yet.",
    ]
    said += [f"  {_event(row)}" for row in told["history"]]
    return [printable(line) for line in said]


def as_json(told: dict) -> dict:
    return {"event": "why", **told, "causes": [cause._asdict() for cause in causes(told)]}


def check_files(site: Site, member: Member, rules: SitePolicy) -> list[str]:
    """What in members/NAME/ does not fit the site, a sentence each. No key is told."""
    folder = site.members / member.name
    if member.removed or not folder.exists():
        return []  # or it is kept elsewhere
    found = []
    try:
        found += _check_proof(folder, member)
        fields = json.loads((folder / "covey.json").read_bytes())
        idi, idr, group = (fields.get(key) for key in ("idi", "idr", "group"))
        ppk_file = fields.get("ppk_file")
        sender, receiver = fields.get("sender", False), fields.get("receiver", True)
    except OSError as error:
        return [*found, f"{error.filename} can't be read: {os.strerror(error.errno or 0)}."]
    except (ValueError, AttributeError):
        return [*found, f"{folder / 'covey.json'} is no JSON object."]
    file = folder / "covey.json"
    if idi != member.name:
        found.append(f"{file} has idi {idi!r}: it must be {member.name!r}.")
    if idr not in (None, rules.identity):
        found.append(f"{file} has idr {idr!r}, but the key server is {rules.identity!r}.")
    if member.ppk and not member.is_ppk_optional and ppk_file is None:
        found.append(f"{file} has no ppk_file, but {member.name} must use its PPK.")
    role = member.role(str(group))
    if role is Role.NONE:
        some = [name for name, one in member.roles(rules.groups).items() if one]
        where = f"it may join {', '.join(some)}" if some else "it may join none"
        found.append(f"{file} has group {group!r}: {where}.")
    elif sender is True and not role.sends:
        found.append(f"{file} has sender true, but it may only receive.")
    elif sender is not True and not role.receives:
        found.append(f"{file} has sender false, but it may only send.")
    elif receiver is not False and not role.receives:
        found.append(f"{file} lacks receiver false, and it may only send.")
    return found


def _check_proof(folder: Path, member: Member) -> list[str]:
    if member.ppk and parse_psk((folder / "ppk").read_bytes()) != member.ppk:
        return [f"{folder / 'ppk'} is not the PPK that the site has for it."]
    if member.auth == PSK:
        if parse_psk((folder / "psk").read_bytes()) != member.psk:
            return [f"{folder / 'psk'} is not the key that the site has for it."]
        return []
    if member.auth == KEY:
        return _check_raw(folder / "key.pem", member)
    path, now = folder / "cert.pem", time.time()
    try:
        shown = issuing.load_chain(path.read_bytes())[0]
    except issuing.Unfit as unfit:
        return [f"{path} {unfit}"]
    left_s = trust.until_of(shown) - now
    if left_s < _SOON_S:
        ends = "has ended" if left_s < 0 else f"ends in {int(left_s // 86400)} days"
        return [f"{path} {ends}: make another one with `covey member renew {member.name}`."]
    if member.name not in issuing.names_of(shown):
        return [f"{path} does not name {member.name}."]
    key = folder / "key.pem"  # which may be on the board alone
    try:
        if key.exists() and issuing.load_key(key.read_bytes()).public_key() != shown.public_key():
            return [f"{path} is not for the key in {key}."]
    except issuing.Unfit as unfit:
        return [f"{key} {unfit}"]
    return []


def _check_raw(path: Path, member: Member) -> list[str]:
    """Its private key, which may be on the board alone."""
    try:
        if path.exists():
            public = issuing.load_key(path.read_bytes()).public_key()
            if issuing.spki(public) != member.key:
                return [f"{path} is not the key whose public half the site has for it."]
    except issuing.Unfit as unfit:
        return [f"{path} {unfit}"]
    return []


def _standing(name: str, group: str, facts: dict) -> str:
    if facts["role"] == "none" and facts["state"] == "never":
        return f"{name} may not join {group}."
    words = f"{name} may {_ROLES[facts['role']]} {group}, and {_STATES[facts['state']]}"
    if facts["state"] != "member":
        return words + "."
    lag = {
        "current": "the newest ones",
        "behind": f"but old ones, {facts['behind']} epochs behind",
        "silent": "and hears nothing from its key server",
        "unknown": "the newest ones or not: it does not say",
    }
    return f"{words}: {lag[facts['lag']]}. The group is at epoch {facts['epoch']}."


def _contact(told: dict) -> str:
    if told["heard_s"] is None:
        return "It was never heard of."
    where = f" at {told['address']}" if told["address"] else ""
    return f"It was heard {ago(told['heard_s'])}{where}."


def _report(report: dict) -> list[str]:
    epoch, began = report["epoch"] or "unknown", span(report["seconds"])
    said = (
        f"It said {ago(report['age_s'])}: {report['state']}, epoch {epoch}, {report['opened']}"
        f" packets opened and {report['sent']} sent in {began}, software {report['software']}."
    )
    changes = [f"{state} {ago(age)}" for state, age in report["changes"]]
    return [said] + ([f"Before that it became {', '.join(changes)}."] if changes else [])


def _event(row: dict) -> str:
    words = _words(row)
    if row["times"] == 1:
        return f"{ago(row['last_s'])}: {words}"
    return f"{ago(row['last_s'])}: {words}; {row['times']} times since {ago(row['first_s'])}"


def _words(row: dict) -> str:
    match row["event"]:
        case "registered":
            anew = ", having started anew" if row["boots"] else ""
            at = f" at {row['address']}" if row.get("address") else ""
            return f"was given the keys of {row['group']}, epoch {row['epoch']}{at}{anew}"
        case "refused":
            asked = {"send": ", to send", "receive": ", to receive"}.get(row.get("asked"), "")
            return f"was refused{asked}: {row['reason'].replace('_', ' ')}"
        case "allowed":
            rules = ", ".join(f"{rule} {word}" for rule, word in row["rules"].items())
            out = f", and was put out of {', '.join(row['groups'])}" if row["groups"] else ""
            return f"was given the rules {rules or 'none'}{out}"
        case "authentication_failed":
            why = row.get("reason", "key").replace("_", " ")
            how = "with another key" if why == "key" else f"and proved nothing: {why}"
            return f"somebody at {row['address']} claimed this name, {how}"
        case "drops":
            some = sorted(row["reasons"].items(), key=lambda item: -item[1])
            began = "as each does that begins, " if row.get("start") else ""
            return f"dropped {began}" + ", ".join(in_words(*each) for each in some)
    return _EVENTS.get(row["event"], row["event"]).format_map(row)
