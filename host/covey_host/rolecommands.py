"""What `covey member allow` does with its arguments: see commands.py."""

from pathlib import Path

from . import output
from . import site as sites
from .commands import dismissal, perform
from .gcks.roles import check_pattern, role_named
from .permissions import DEFAULT
from .site import check_name


def member_allow(option: Path | None, name: str, group: str, role: str) -> None:
    check_name("member", name)
    check_pattern(group)
    if role != DEFAULT:
        role_named(role)
    request = {"do": "member allow", "member": name, "group": group, "role": role}
    answer = perform(sites.find(option), request)
    rules = ", ".join(f"{rule}: {word}" for rule, word in answer["rules"].items())
    output.line(f"{name} now has the rules: {rules or 'none'}.")
    for change in answer["changes"]:
        output.line(f"Group {change['group']}: {change['role']}, no longer {change['was']}.")
    if not answer["changes"]:
        output.line("In the groups that there are, that changes nothing.")
    _say_lost(name, answer)
    if any(change["role"] in ("sender", "both") for change in answer["changes"]):
        output.line(
            f"{name} gets a Sender-ID when it asks for one: as it starts, or, if `sender` is true"
            " in its covey.json, at its group's next change of keys (`covey rekey` makes it now)."
        )
    if answer["file"] is not None:
        output.line(f"Wrote {answer['file']}: bring it to the member.")


def _say_lost(name: str, answer: dict) -> None:
    if answer["deferred"] and answer["lost"]:
        some = ", ".join(answer["lost"])
        output.line(
            f"No key server is running: until one is started, {name} can still use the keys that"
            f" it has of {some}."
        )
    words = {change["group"]: change["role"] for change in answer["changes"]}
    for group in answer["open"]:
        keeps = "opens nothing" if words[group] == "sender" else "sends nothing"
        why = "" if words[group] == "sender" else " has no source_auth, and"
        output.line(f"Group {group}{why} has one key for all: whether {name} {keeps} is up to it.")
    for group in answer["groups"]:
        role = words[group["group"]]
        back = "" if role == "none" else f", and comes back as {role}"
        output.line(
            f"Group {group['group']}: {dismissal(group)}it is put out{back}. With the keys that it"
            f" had it reads nothing that is sent {group['reads_s']} s from now or later, and"
            f" nobody takes what it sends under them {group['heard_s']} s from now."
        )
