"""Requests of the key server, judged: what is answered, what comes of it. No state.

RFC 7296 sections 1.3 to 1.5, 2.5, 2.21.3, 2.25; RFC 9838 sections 2.4.2, 2.4.3. What is malformed
inside a genuine envelope, or of an exchange that has no place here, is INVALID_SYNTAX, and that is
the end of the IKE SA on both sides.
"""

import struct

from covey import gsa, ike
from covey.drops import (
    DROP_IKE_CRITICAL,
    DROP_IKE_EXCHANGE,
    DROP_IKE_FORMAT,
    DROP_IKE_PROPOSAL,
    FormatError,
)
from covey.job import finish

_DONE = ()  # an empty SK


class Judged:
    """reply: payloads of the answer; None while a rekey of the IKE SA is to be worked on."""

    redirect = None  # data of a REDIRECT: another server is to be asked

    def __init__(self, reply=_DONE, end=None, reason=0, inband=None, rekey=None):
        self.reply = None if rekey else list(reply)
        self.end = end  # why the IKE SA ends, or None
        self.reason = reason  # DROP_* of what is wrong with it, or 0
        self.inband = inband  # an Inband, or None
        self.rekey = rekey  # payloads of a CREATE_CHILD_SA for the IKE SA, or None


class Inband:
    """A GSA_INBAND_REKEY: policy and keys (or neither), Deletes; kwk is the IKE SA's, a copy."""

    def __init__(self, policy, keys, deletes):
        self.policy = policy
        self.keys = keys
        self.deletes = deletes
        self.kwk = None


def judge(opened):
    """A genuine request (ike.Opened) → Judged."""
    try:
        payloads = opened.clear + finish(ike.parse_chain_job(opened.first, opened.inner))
        kind = ike.unsupported_critical(payloads)
        if kind is not None:
            reply = ike.notify(ike.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((kind,)))
            return Judged([reply], reason=DROP_IKE_CRITICAL)
        said = ike.notifies(payloads)  # none of them ends anything, but all must parse
        exchange = opened.header.exchange
        if exchange == ike.INFORMATIONAL:
            deletes = [d.protocol for d in _deletes(payloads)]
            judged = Judged(end="deleted" if ike.IKE in deletes else None)
            for n in said:
                if n.type == ike.REDIRECT:
                    judged.redirect = n.data
            return judged
        if exchange == ike.GSA_INBAND_REKEY:
            return Judged(inband=_inband(payloads))
        if exchange == ike.CREATE_CHILD_SA:
            return _create(payloads, said)
        return malformed(DROP_IKE_EXCHANGE, "exchange_%d" % exchange)
    except FormatError as error:
        return malformed(error.reason)


def malformed(reason, end="invalid_syntax"):
    """The Judged of what ends the IKE SA on both sides (RFC 7296 section 2.21.3)."""
    return Judged([ike.notify(ike.INVALID_SYNTAX)], end, reason)


def _deletes(payloads):
    return [ike.parse_delete(body) for body in ike.every(payloads, ike.DELETE)]


def _inband(payloads):
    """GSA and KD come together; without them only what is deleted counts."""
    policies = ike.every(payloads, ike.GSA)
    keys = ike.every(payloads, ike.KD)
    if len(policies) != len(keys) or len(keys) > 1:
        raise FormatError(DROP_IKE_FORMAT)
    if not keys:
        return Inband(None, None, _deletes(payloads))
    policy = finish(gsa.parse_gsa_job(policies[0]))
    return Inband(policy, finish(gsa.parse_kd_job(keys[0])), _deletes(payloads))


def _create(payloads, said):
    """CREATE_CHILD_SA: only the IKE SA can be rekeyed; there are no Child SAs."""
    for n in said:
        if n.type == ike.REKEY_SA:  # of a Child SA (section 2.25.1)
            head = n.protocol, len(n.spi), ike.CHILD_SA_NOT_FOUND
            return Judged([(ike.NOTIFY, struct.pack(">BBH", *head) + n.spi)])
    if not _is_of_ike_sa(payloads):
        return Judged([ike.notify(ike.NO_ADDITIONAL_SAS)])
    return Judged(rekey=payloads)


def _is_of_ike_sa(payloads):
    """Whether a CREATE_CHILD_SA wants an IKE SA, not a Child SA."""
    proposals = ike.parse_sa(ike.only(payloads, ike.SA))
    kinds = [p.protocol == ike.IKE for p in proposals]
    if any(kinds) and not all(kinds):
        raise FormatError(DROP_IKE_PROPOSAL)
    return kinds[0]
