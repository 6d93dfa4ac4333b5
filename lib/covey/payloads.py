"""What is in a list of payloads: the one of a kind, notifications, errors."""

from covey import ike
from covey.drops import DROP_IKE_FORMAT, FormatError


def every(payloads, kind):
    """The bodies of all payloads of a kind."""
    return [p.body for p in payloads if p.kind == kind]


def only(payloads, kind):
    """The body of the one payload of a kind; FormatError if there is none, or another."""
    found = every(payloads, kind)
    if len(found) != 1:
        raise FormatError(DROP_IKE_FORMAT)
    return found[0]


def notify(type, data=b""):
    """A notification that concerns no Child SA, as (kind, body)."""
    return ike.NOTIFY, ike.emit_notify(ike.Notify(0, b"", type, data))


def notifies(payloads):
    """All notifications → [ike.Notify]."""
    return [ike.parse_notify(body) for body in every(payloads, ike.NOTIFY)]


def said(payloads, type):
    """The data of all notifications of a type."""
    return [n.data for n in notifies(payloads) if n.type == type]


def error_of(payloads):
    """Type of the first notification that is an error, or None. All unknown ones count, too:
    in a response they say that the request has failed (RFC 7296 section 3.10.1)."""
    for n in notifies(payloads):
        if n.type < ike.FIRST_STATUS:
            return n.type
    return None


def error_name(type):
    """A short name for people and logs: "no_proposal_chosen"; the table is loaded when asked."""
    from covey.errornames import NAMES

    return NAMES.get(type) or "error_" + str(type)
