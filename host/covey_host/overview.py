"""`covey status` for a person: tables that stay short however many members there are."""

from . import output
from .causes import ago
from .gcks.states import BEHIND, CURRENT, EXCLUDED, LEFT, MEMBER, NEVER, SILENT, UNKNOWN, WAITING

_COLUMNS = ["group", "address", "rekey", "integrity_only", "epoch", "spi"]
_COUNTS = ["members", "senders", "unicast", "absent", "holders", "rekey_in_s"]
_STATES = [MEMBER, WAITING, EXCLUDED, LEFT, NEVER]
_LAGS = [CURRENT, BEHIND, SILENT, UNKNOWN]
_NAMED = 20  # members that lag, of each group


_REPLICAS = ["replica", "at", "host", "process", "leads", "takes", "revision", "lag_ms"]


def show_cluster(found: dict) -> None:
    """Of several key servers on one store."""
    if not found["ready"]:
        what = "does not know yet what the others have done"
    elif found["away"]:
        what = "does not reach its store: another one may lead by now"
    elif found["draining"]:
        what = "sends its members to the others, and ends"
    elif found["leads"]:
        what = f"leads (term {found['term']})"
    else:
        what = f"follows {found['holder'] or 'nobody'} (term {found['term']})"
    known = "" if found["lag_ms"] is None else f" It knew all there was {found['lag_ms']} ms ago."
    output.line(f"It is replica {found['name']}, and {what}.{known}")
    rows = [[row[column] for column in _REPLICAS] for row in found["replicas"]]
    output.table("replica", _REPLICAS, rows)


def show(found: dict) -> None:
    """The answer to {"do": "status"}, but for the server's line."""
    rows = [_keys_of(name, group) for name, group in found["groups"].items()]
    output.table("group", _COLUMNS + _COUNTS, rows)
    rows = [_states_of(name, group) for name, group in found["groups"].items()]
    output.table("state", ["group", *_STATES, *_LAGS, "last_rekey"], rows)
    for name, group in found["groups"].items():
        for row in group["behind"][:_NAMED]:
            how = f"{row['epochs']} epochs behind" if row["epochs"] else row["state"]
            output.line(f"{name}: {row['member']} is {how}, as it said {ago(row['told_s'])}.")
        if group["lag"][UNKNOWN] and not group["report_interval_s"]:
            output.line(f"{name}: members don't report who lags: see report_interval, covey.toml.")
        for member in group.get("untimed", ())[:_NAMED]:
            output.line(f"{name}: {member} does not know the time, and confirms nothing.")
        for member in group["waiting"][:_NAMED]:
            output.line(f"{name}: {member} waits for keys under which nothing was sent yet.")
    rows = [_member(m) for m in found["members"]]
    output.table("member", ["member", "groups", "roles", "connected", "state", "keys"], rows)
    if found["more"]:
        output.line(
            "There are more members: `covey member list`; of one of them: `covey why NAME`."
        )


def _keys_of(name: str, group: dict) -> list:
    counts = group["counts"]
    absent = counts[EXCLUDED] + counts[LEFT]
    numbers = [counts[MEMBER], group["sender_count"], group["unicast_count"], absent]
    numbers.append(group.get("holder_count"))
    at = f"{group['address']}:{group['port']}"
    facts = [group["rekey"], group["integrity_only"], group["epoch"], group.get("spi")]
    return [name, at, *facts, *numbers, group.get("rekey_in_s")]


def _states_of(name: str, group: dict) -> list:
    states = [group["counts"][state] for state in _STATES]
    rekey, said = group.get("last_rekey"), None
    if rekey:
        size = f"{rekey['octets']} octets in {rekey['datagrams']} datagrams"
        said = f"{ago(group['age_s'])}, {size}"
    return [name, *states, *(group["lag"][lag] for lag in _LAGS), said]


def _member(member: dict) -> list:
    roles = member["roles"]
    states = [member["states"].get(group, "-") for group in roles]
    lags = [member["lags"].get(group) or "-" for group in roles]
    what = " ".join(roles), " ".join(roles.values()), member["connected"]
    return [member["member"], *what, " ".join(states), " ".join(lags)]
