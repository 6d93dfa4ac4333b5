"""Reasons for a drop, for people: what has happened, by which clause, and what helps.

The names are those of covey.drops; docs/spec.md has the same clauses, and a test compares them.
"""

from typing import NamedTuple


class Words(NamedTuple):
    what: str  # "packets" or "messages" go in front
    clause: str
    advice: str = ""


_NETWORK = "Look at what the network does to them: `covey doctor` shows it."
_BEHIND = "Ask for new keys where it stands: restart the board, or `covey rekey` the group."
_APPLICATION = "It is the application on the board that has to change."

DROPS = {
    "length": Words(
        "too short, too long, or cut: they are no packets of ours", "RFC 4303 section 2"
    ),
    "ip_header": Words("with a damaged IP header", "RFC 791 section 3.1", _NETWORK),
    "ip_fragment": Words("in IP fragments", "RFC 4303 section 3.4.1", "Send shorter payloads."),
    "ip_destination": Words("to another address than the group's", "RFC 4303 section 2.1"),
    "socket": Words(
        "that the system could not hand out: no memory, or no network",
        "ours",
        "Look at the board's memory and its Wi-Fi: `covey doctor`.",
    ),
    "unknown_spi": Words("under keys that it does not have", "RFC 4303 section 3.4.2", _BEHIND),
    "retired_spi": Words(
        "under keys that are over",
        "RFC 9838 section 2.4.1.4",
        "Some sender still has old keys: `covey status` shows who is behind.",
    ),
    "stale_sender": Words(
        "of a sender that has registered again since",
        "ours",
        "Two devices may be sending under one name, or somebody sends old packets again.",
    ),
    "sender_table_full": Words(
        "of more senders than it has windows",
        "ours",
        "Raise `limits.senders` in its covey.json, and make its image anew.",
    ),
    "replay": Words(
        "that it had already, or that came very late",
        "RFC 4303 section 3.4.3",
        "Something on the way doubles or delays packets (a loop, two access points that repeat"
        " each other), or somebody plays them again; either way they do no harm.",
    ),
    "tag": Words(
        "that are forged or damaged: the tag is wrong",
        "RFC 4303 section 3.4.4.1",
        "Somebody sends who has no key of the group, or a device damages packets on the way.",
    ),
    "padding": Words("with wrong padding", "RFC 4303 section 2.4"),
    "next_header": Words("that hold no UDP", "RFC 4303 section 2.6"),
    "inner_length": Words("with a wrong length inside", "RFC 768"),
    "selector": Words(
        "to another port than policy has",
        "RFC 4301 section 5.2",
        "Compare `port` in covey.toml with what the senders are set to.",
    ),
    "source": Words(
        "that do not prove who sent them",
        "ours",
        "Another member may be posing as the sender, or the sender has not heard of this receiver"
        " yet: `covey rekey` tells all.",
    ),
    "not_rostered": Words(
        "of nobody who may send",
        "ours",
        "A member sends in a name that is on no roster: look for one that was taken over.",
    ),
    "crowded": Words(
        "more than can wait for the proof of who sent them",
        "ours",
        "A member may be sending in others' names, to fill that room: look for one that was taken"
        " over. Else its room is too small: raise `limits.waiting` in its covey.json to all"
        " senders' packets a second times (`tesla_lag` + 1) times `tesla_interval`,"
        " or to `ecdsa_batch`.",
    ),
    "unproven": Words(
        "whose proof of who sent them never came",
        "ours",
        "Their sender was cut off, or another member made them: look for one that was taken over.",
    ),
    "unsafe": Words(
        "that came too late to tell who made them",
        "RFC 4082 section 3.5",
        "Something on the way delays them for longer than `tesla_lag` intervals: raise it, or"
        " `tesla_interval`; or somebody keeps them back.",
    ),
    "early": Words(
        "of a time that has not come yet",
        "ours",
        "A member makes them in the name of a sender: look for one that was taken over.",
    ),
    "no_clock": Words(
        "while it knew too little of the key server's clock",
        "RFC 4082 section 3.3",
        "The key server is down or far away, or something delays its answers: `covey doctor`.",
    ),
    "no_chain": Words(
        "whose sender's chain of keys it does not know",
        "RFC 4082 section 3.4",
        "It asks the key server by itself: is that up?",
    ),
    "silent": Words(
        "while it heard nothing from its key server",
        "ours",
        "The key server is down, or something keeps its messages away: `covey doctor`.",
    ),
    "queue_full": Words("that the application did not take in time", "ours", _APPLICATION),
    "ike_header": Words("with a wrong version, length or flags", "RFC 7296 section 3.1"),
    "ike_spi": Words("of an IKE SA that it does not have", "RFC 7296 section 2.6"),
    "ike_message_id": Words("out of turn", "RFC 7296 section 2.2"),
    "ike_exchange": Words("of an exchange that it did not wait for", "RFC 7296 section 3.1"),
    "ike_tag": Words("from the key server's address that are forged", "RFC 7296 section 3.14"),
    "ike_format": Words("with payloads that do not parse", "RFC 7296 section 3"),
    "ike_critical": Words("with an unknown critical payload", "RFC 7296 section 2.5"),
    "ike_clear_error": Words(
        "with an error that nothing proves",
        "RFC 7296 section 2.21",
        "Somebody who is not the key server answers, or the key server refused before it knew the"
        " member.",
    ),
    "ike_auth": Words(
        "of somebody who did not prove to be the key server",
        "RFC 7296 section 2.15",
        "Compare its pre-shared key and `idr` with the site's: make its image anew.",
    ),
    "ike_proposal": Words("that choose what was not offered", "RFC 7296 section 2.7"),
    "ike_ke": Words("with a public value that is refused", "RFC 8031, RFC 7748 section 6.1"),
    "ike_fragment": Words("in fragments that can't be put together", "RFC 7383 section 2.6"),
    "ike_cert": Words(
        "of a key server with a certificate that does not hold, or with none",
        "RFC 4945",
        "Compare its `ca_file` and `idr` with the site's, and its clock with yours.",
    ),
    "ike_ppk": Words(
        "of a key server that uses no PPK with it",
        "RFC 8784 section 3",
        "Is the key server an older one? Was the member added without --ppk? Make its image anew.",
    ),
    "ike_redirect": Words(
        "of a key server that sent it to one that its covey.json doesn't name, or too often",
        "RFC 5685",
        "Name all key servers in `servers` of covey.toml, and make its image anew.",
    ),
    "gsa": Words("whose policy does not parse", "RFC 9838 section 4.4"),
    "kd": Words("whose keys do not parse", "RFC 9838 section 4.5"),
    "policy": Words(
        "with a policy that it does not take",
        "RFC 9838 section 2.3.3",
        "Is its software older than the key server's? Make its image anew.",
    ),
    "key_wrap": Words("with a wrapped key that does not open", "RFC 5649 section 3"),
    "key_path": Words(
        "from which no key leads on: it was put out, or missed a rekey",
        "RFC 9838 section 3.2.3",
        "It asks for other keys by itself.",
    ),
    "key_portion": Words(
        "the last of several, none of which had a way to its keys",
        "ours",
        "A part was lost, or it was put out. It asks for the current keys by itself.",
    ),
    "capacity": Words(
        "for which it had no memory",
        "ours",
        "Lower `limits` in its covey.json, or take a board with more memory.",
    ),
    "rekey_spi": Words(
        "under a Rekey SA that it does not have", "RFC 9838 section 2.4.1", _BEHIND
    ),
    "rekey_tag": Words("that are forged: the tag is wrong", "RFC 9838 section 2.4.1.4"),
    "rekey_format": Words("that do not parse", "RFC 9838 section 2.4.1"),
    "rekey_signature": Words(
        "whose signature is not the key server's",
        "RFC 9838 section 2.4.1.1",
        "A member, or somebody with the keys of one, poses as the key server.",
    ),
    "rekey_message_id": Words(
        "that are older than what it has heard",
        "RFC 9838 section 2.4.1.4",
        "Somebody plays rekeys again, or the network delays them.",
    ),
    "rekey_busy": Words("while it was still at work on another", "ours"),
    "unsigned": Words("that it had not signed", "ours", _APPLICATION),
    "no_sa": Words("while it has nothing to send under", "RFC 9838 section 4.4.3.1.1"),
    "not_sender": Words(
        "though it is a receiver",
        "RFC 9838 section 2.3.3",
        "Remove it, and add it again with `--sender`.",
    ),
    "oversize": Words("that are longer than `limits.payload`", "ours", _APPLICATION),
    "exhausted": Words("since the numbers of its keys are used up", "RFC 4303 section 3.3.3"),
}
_MESSAGES = ("ike_", "rekey_", "gsa", "kd", "policy", "key_", "capacity")
_ONE = (("that are ", "that is "), ("that do ", "that does "), ("that hold ", "that holds "))
_ONE += (("that choose ", "that chooses "),)
_OWN = ("unsigned", "no_sa", "not_sender", "oversize", "exhausted")


def in_words(name: str, count: int) -> str:
    """ "12 packets that it had already, or that came very late (replay; RFC 4303 ...)"."""
    known = DROPS.get(name)
    if known is None:
        return f"{count} for a reason called {name}"
    kind = "message" if name.startswith(_MESSAGES) else "packet"
    kind = "own packet" if name in _OWN else kind
    what = known.what
    for many, one in _ONE if count == 1 else ():
        what = one + what.removeprefix(many) if what.startswith(many) else what
    clause = "" if known.clause == "ours" else f"; {known.clause}"
    return f"{count} {kind}{'s' * (count != 1)} {what} ({name}{clause})"
