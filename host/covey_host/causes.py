"""Why a member gets no packets: what stands in its way, from what `covey why` was told.

Each cause is a name for programs, a sentence that says what is, and one that says what helps.
"""

from collections.abc import Iterator
from typing import NamedTuple

from .dropwords import DROPS, in_words

_RECENT_S = 3600  # what happened longer ago stands in nobody's way now, unless nothing came since
_TWICE = 3  # takeovers from which on two devices are suspected, not one that was restarted
_HEARD_S = 120  # a device that was heard so short a time before is alive


class Cause(NamedTuple):
    cause: str
    words: str
    advice: str


_REFUSALS = {
    "authorization_failed": (
        "it asked for more than it may: another group than its own, to send as a receiver, or to"
        " receive as one that only sends",
        "Compare `group`, `sender` and `receiver` in its covey.json with `covey member list`;"
        " `covey member allow` changes what it may.",
    ),
    "invalid_group_id": (
        "it asked for a group that covey.toml does not have",
        "Compare `group` in its covey.json with `covey group list`.",
    ),
    "no_proposal_chosen": (
        "it can't do what the group's policy demands",
        "Is its software older, or of another make? Compare `key_bits`, `integrity_only` and"
        " `single_sender` in covey.toml with what it can do.",
    ),
    "registration_failed": (
        "its group has no room now: `members` are registered, all sender indexes are used, the"
        " one sender of a `single_sender` group is another, or with `source_auth` all slots are"
        " taken; or it is to have unicast delivery where it can't; or the store failed",
        "Raise `members` or widen `sender_id_form` in covey.toml, or remove who is not needed."
        " The key server's log says what else it is: `trouble`.",
    ),
}
_NEVER_HEARD = (
    "Has it power and Wi-Fi, and can it reach the key server by UDP? `covey doctor` finds out;"
    " compare `servers` in its covey.json with where the key server listens (`covey status`)."
)


def causes(told: dict) -> list[Cause]:
    """Most likely first."""
    if told["removed"]:
        what = f"{told['member']} was removed: it can register no more."
        again = "Add it again with `covey member add`: it gets another key, so its image is new."
        return [Cause("removed", what, again)]
    found = [*_server(told), *_files(told), *_at_the_door(told), *_twins(told)]
    for name, group in told["groups"].items():
        if group["role"] == "none":
            what = f"It may not join {name}."
            yes = f"`covey member allow {told['member']} {name} receiver` lets it."
            found.append(Cause("role_none", what, yes))
        else:
            found += _in_group(told, name, group)
    return found + list(_drops(told))


def _server(told: dict) -> Iterator[Cause]:
    if not told["running"]:
        what = "No key server is running: nobody can register, and no keys are renewed."
        yield Cause("no_server", what, "Start it: `covey serve`.")


def _files(told: dict) -> Iterator[Cause]:
    for what in told["files"]:
        again = "Make its image anew (`covey image`) if that is what its board has, or mend it."
        yield Cause("files", what, again)


# Why a certificate proves nothing: in words, and what to do.
_CERTIFICATES = {
    "certificate_revoked": ("that was revoked", "Remove it, and add it again."),
    "certificate_expired": (
        "that has ended",
        "Make another one with `covey member renew`, and bring its cert.pem to the board.",
    ),
    "certificate_not_yet_valid": (
        "that is not valid yet",
        "Compare the clock of this machine with that of the CA's.",
    ),
}

# What else a proof may lack.
_KEYS = {
    "ppk": ("wrong_ppk", "doesn't use the PPK that it must"),
    "raw_key": ("wrong_raw_key", "doesn't have the key whose public half the site has for it"),
    "no_signatures": ("wrong_raw_key", "says that it knows no signatures, and has a raw key here"),
}


def _by_certificate(name: str, row: dict, why: str) -> Cause:
    words, advice = _CERTIFICATES.get(
        why,
        (
            f"that proves nothing ({why.replace('_', ' ')})",
            "If that is its board, make its image or its files anew.",
        ),
    )
    what = f"Whoever calls itself {name} at {row.get('address')} shows a certificate {words}:"
    return Cause("certificate", f"{what} turned away {_times(row)}, {ago(row['last_s'])}.", advice)


def _at_the_door(told: dict) -> Iterator[Cause]:
    """It comes, and is not let in."""
    for row in _since_registered(told, "authentication_failed"):
        why = row.get("reason", "key")
        if why in _KEYS:
            cause, words = _KEYS[why]
            who = f"Whoever calls itself {told['member']} at {row.get('address')}"
            what = f"{who} {words}: turned away {_times(row)}, {ago(row['last_s'])}."
            yield Cause(cause, what, "If that is its board, make its image or its files anew.")
            continue
        if why != "key":
            yield _by_certificate(told["member"], row, why)
            continue
        what = (
            f"Whoever calls itself {told['member']} at {row.get('address')} has another pre-shared"
            f" key: turned away {_times(row)}, {ago(row['last_s'])}."
        )
        again = "If that is its board, it needs the site's key: make its image or its files anew."
        yield Cause("wrong_psk", what, again)
    for row in _since_registered(told, "refused"):
        words, advice = _REFUSALS.get(row["reason"], (f"the reason is {row['reason']}", ""))
        what = f"It was refused {_times(row)}, {ago(row['last_s'])}: {words}."
        yield Cause(row["reason"], what, advice)


def _twins(told: dict) -> Iterator[Cause]:
    rows = [
        row
        for row in _rows(told, "replaced")
        if row["last_s"] <= _RECENT_S and row["heard_s"] <= _HEARD_S
    ]
    times = sum(row["times"] for row in rows)
    if times >= _TWICE:
        since_s = max(row["first_s"] for row in rows)
        what = (
            f"In the last {span(since_s)} it registered {times} times while it was still there,"
            f" lastly from {rows[0]['address']} in place of {rows[0]['former']}: two devices have"
            " its name and key, or one starts again and again. The newest wins each time."
        )
        again = "Give each device a name of its own; look at the board's power and its log."
        yield Cause("two_devices", what, again)


def _in_group(told: dict, name: str, group: dict) -> Iterator[Cause]:
    state, member = group["state"], told["member"]
    if state == "never" and told["heard_s"] is None:
        what = f"The key server has never heard of {member}."
        yield Cause("never_heard", what, _NEVER_HEARD)
    elif state == "never":
        what = (
            f"{member} is not in {name}: it never came, or what it may do there was changed"
            " (`covey member allow`) and it has not come back."
        )
        yield Cause("never_registered", what, "")
    elif state == "waiting":
        what = (
            f"It has asked, and waits for other keys of {name}, so that nothing old can be played"
            " or shown to it, or until all are told of it."
        )
        again = (
            "That is over by itself, with the next change of keys. What it waits for is in"
            " covey.toml: `fresh_join`, `backward_secrecy` or `source_auth`."
        )
        yield Cause("waiting", what, again)
    elif state == "excluded":
        what = (
            f"Its keys of {name} are over, and {member} has not come back: all had to register"
            " again, or it began to and did not end."
        )
        yield Cause("excluded", what, _NEVER_HEARD)
    elif state == "left":
        yield Cause("left", f"It said that it goes, and left {name}.", "Start it again.")
    elif group["lag"] == "behind":
        what = f"It is {_epochs(group['behind'])} behind: it can't open what is sent now."
        again = (
            "It misses rekeys: multicast from the key server does not reach it. It asks by itself"
            ' soon; `covey doctor` finds out why, and `rekey = "inband"` does without multicast.'
        )
        yield Cause("behind", what, again)
    elif group["lag"] == "silent":
        what = "It hears nothing from the key server, and says so."
        yield Cause("silent", what, _NEVER_HEARD)
    elif any(_since_registered(told, "unanswered")):
        what = "It does not answer the key server any more."
        yield Cause("unanswered", what, _NEVER_HEARD)
    says = told["report"]["state"] if told["report"] else None
    if group["untimed"] and not group["unsure"]:
        what = (
            f"It does not ask the key server for the time: it confirms no packet of {name}, and"
            " sends none."
        )
        yield Cause("untimed", what, _NEVER_HEARD)
    elif group["unsure"] or state == "member" and says == "untimed":
        what = (
            "It asks the key server for the time, and knows too little of it: it says that it"
            " confirms nothing, and sends nothing."
        )
        again = (
            "Answers take longer than half of `tesla_lag` times `tesla_interval`: mend the way"
            " between them, or raise these."
        )
        yield Cause("unsure_of_time", what, again)
    if state == "member" and not group["senders"]:
        what = f"No sender is registered in {name}: there is nothing to receive."
        yield Cause("no_sender", what, "Start one, or add one: `covey member add --sender`.")


def _drops(told: dict) -> Iterator[Cause]:
    row = next((row for row in _rows(told, "drops") if not row.get("start")), None)
    if row is None or row["last_s"] > _RECENT_S:
        return
    for name, count in sorted(row["reasons"].items(), key=lambda item: -item[1]):
        what = f"It dropped {in_words(name, count)}."
        yield Cause(name, what, DROPS[name].advice if name in DROPS else "")


def _rows(told: dict, event: str) -> list[dict]:
    return [row for row in told["history"] if row["event"] == event]


def _since_registered(told: dict, event: str) -> list[dict]:
    """Rows of that event, newest first, that no registration has come after."""
    found = []
    for row in told["history"]:
        if row["event"] == "registered":
            break
        if row["event"] == event:
            found.append(row)
    return found


def _times(row: dict) -> str:
    return "once" if row["times"] == 1 else f"{row['times']} times"


def _epochs(number: int) -> str:
    return "one epoch" if number == 1 else f"{number} epochs"


def ago(seconds: int) -> str:
    """ "12 s ago"."""
    return f"{span(seconds)} ago"


def span(seconds: int) -> str:
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
