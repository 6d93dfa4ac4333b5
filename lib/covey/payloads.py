"""What is in a list of payloads: the one of a kind, notifications, errors by name."""

from covey import ike
from covey.drops import DROP_IKE_FORMAT, FormatError

_NAMES = {
    ike.UNSUPPORTED_CRITICAL_PAYLOAD: "unsupported_critical_payload",
    ike.INVALID_IKE_SPI: "invalid_ike_spi",
    ike.INVALID_MAJOR_VERSION: "invalid_major_version",
    ike.INVALID_SYNTAX: "invalid_syntax",
    ike.INVALID_MESSAGE_ID: "invalid_message_id",
    ike.NO_PROPOSAL_CHOSEN: "no_proposal_chosen",
    ike.INVALID_KE_PAYLOAD: "invalid_ke_payload",
    ike.AUTHENTICATION_FAILED: "authentication_failed",
    ike.NO_ADDITIONAL_SAS: "no_additional_sas",
    ike.TEMPORARY_FAILURE: "temporary_failure",
    ike.CHILD_SA_NOT_FOUND: "child_sa_not_found",
    ike.INVALID_GROUP_ID: "invalid_group_id",
    ike.AUTHORIZATION_FAILED: "authorization_failed",
    ike.REGISTRATION_FAILED: "registration_failed",
}


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


def error_of(payloads):
    """Type of the first notification that is an error, or None. All unknown ones count, too:
    in a response they say that the request has failed (RFC 7296 section 3.10.1)."""
    for n in notifies(payloads):
        if n.type < ike.FIRST_STATUS:
            return n.type
    return None


def error_name(type):
    """A short name for people and logs: "no_proposal_chosen"."""
    return _NAMES.get(type) or "error_" + str(type)
