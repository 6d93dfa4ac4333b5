"""What a foreign key server refuses, or does wrong: the member says why, and ends with status 1.

All of these members run side by side, each against a server of its own: those at a desktop (they
start slowly) in some cases, those on MicroPython in all.
"""

import pytest

from foreign_bench import Bench
from foreign_gm import GSA, KD, notification
from foreign_group import ANYWHERE, Tek, substructure, tlv, transforms, tv

NO_PROPOSAL_CHOSEN, INVALID_KE, AUTHENTICATION_FAILED = 14, 17, 24
INVALID_GROUP_ID, AUTHORIZATION_FAILED, REGISTRATION_FAILED = 45, 46, 49


def group_error(type):
    """RFC 9838 section 2.3.1: HDR, SK{IDr, AUTH, N}"""

    def arrange(bench):
        bench.server.on_auth = lambda session, wants: [*session.proof(), notification(type)]
        bench.server.on_pull = lambda session, wants: [notification(type)]

    return arrange


def alone(type, data=b""):
    """RFC 7296 section 2.21.2: the error comes alone, and there is no IKE SA."""

    def arrange(bench):
        bench.server.on_auth = lambda session, wants: [notification(type, data)]

    return arrange


def in_clear(type, data=b""):
    """Nobody can prove an error in clear: it is told when nothing better has come."""

    def arrange(bench):
        server = bench.server
        server.on_init = lambda request: server.clear(request, [notification(type, data)])

    return arrange


def answers(change):
    """GSA_AUTH is answered by what change(session, payloads of a good answer) returns."""

    def arrange(bench):
        def on_auth(session, wants):
            granted = bench.group.registration(session.kwk, wants)
            return change(session, [*session.proof(), *granted])

        bench.server.on_auth = on_auth

    return arrange


def shaped(**shape):
    def arrange(bench):
        for name, value in shape.items():
            setattr(bench.group, name, value)
        bench.group.renew()

    return arrange


def wrong_proof(session, payloads):
    return [*session.proof(psk=b"x" * 32), *payloads[2:]]


def more_policy(*octets):
    def change(session, payloads):
        return [
            (kind, body + b"".join(octets) if kind == GSA else body) for kind, body in payloads
        ]

    return answers(change)


def more_keys(*octets):
    def change(session, payloads):
        return [(kind, body + b"".join(octets) if kind == KD else body) for kind, body in payloads]

    return answers(change)


# Nothing ends these but time: nobody proves anything.
IN_VAIN = ("no proposal for the IKE SA", "another KE method", "silence")
QUICK = {"retransmit": {"first_ms": 100, "total_s": 2}}, 6
PATIENT = {"retransmit": {"first_ms": 100, "total_s": 30}}, 60
DESKTOP = ("group unknown", "wrong AUTH", "another KE method", "tunnel mode")

AH = substructure(2, b"ah-1", ANYWHERE + ANYWHERE + transforms([(3, 12, b""), (5, 2, b"")]))

# Name → (what the server does, a word in what the member says, what the server hears at the end)
CASES = {
    "group unknown": (group_error(INVALID_GROUP_ID), "invalid_group_id", None),
    "not authorised": (group_error(AUTHORIZATION_FAILED), "authorization_failed", None),
    "group full": (group_error(REGISTRATION_FAILED), "registration_failed", None),
    "SAg does not fit": (group_error(NO_PROPOSAL_CHOSEN), "no_proposal_chosen", None),
    "error nobody knows": (group_error(8190), "error_8190", None),
    "authentication failed": (alone(AUTHENTICATION_FAILED), "authentication_failed", None),
    "critical payload of ours": (alone(1, b"\x32"), "unsupported_critical", None),
    "wrong AUTH": (answers(wrong_proof), "ike_auth", None),
    "no AUTH": (answers(lambda s, p: p[2:]), "ike_auth", None),
    "another IDr": (lambda bench: setattr(bench.server, "identity", b"mallory"), "ike_auth", None),
    "critical unknown payload": (answers(lambda s, p: [*p, (200, b"", 0x80)]), "critical", None),
    "no proposal for the IKE SA": (in_clear(NO_PROPOSAL_CHOSEN), "no_proposal_chosen", None),
    "another KE method": (in_clear(INVALID_KE, b"\0\x13"), "invalid_ke_payload", None),
    "silence": (lambda bench: setattr(bench.server, "deaf", True), "No answer", None),
    # what the member does not take, it refuses by GSA_REGISTRATION {IDg, N(NO_PROPOSAL_CHOSEN)}
    "tunnel mode": (shaped(transport=[]), "policy", "refused"),
    "64-bit sequence numbers": (shaped(sn=1), "policy", "refused"),
    "a weak key wrap": (shaped(kek_bits=256, kwa=1), "policy", "refused"),
    "Sender-ID too wide": (shaped(sender_bits=8, sender_ids=iter([256])), "policy", "refused"),
    "no Sender-ID": (shaped(sender_bits=None), "policy", "refused"),
    "64 bits of Sender-ID": (shaped(sender_bits=64), "policy", "refused"),
    "AH too": (more_policy(AH), "kd", "refused"),
    "a policy without key": (more_policy(Tek(bytes([239, 1, 1, 1])).policy()), "kd", "refused"),
    "two group-wide policies": (more_policy(substructure(0, b"", b"")), "gsa", "refused"),
    "two bags of the member": (more_keys(substructure(0, b"", tlv(3, b"\1"))), "kd", "refused"),
    "no GSA": (answers(lambda s, p: [one for one in p if one[0] != GSA]), "format", "refused"),
    "GSA cut": (more_policy(tv(1, 0)[:3]), "gsa", "refused"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Case → (exit status, the last event, what the server heard)."""
    benches, members = {}, {}
    try:
        for name, (arrange, _, _) in CASES.items():
            bench = benches[name] = Bench(tmp_path_factory.mktemp("case"))
            arrange(bench)
            fields, timeout_s = QUICK if name in IN_VAIN else PATIENT
            members[name] = bench.script(timeout_s=timeout_s, **fields)
            if name in DESKTOP:
                words = ("--count", "1", "--timeout", timeout_s)
                members[name, "desktop"] = bench.join(*words, **fields)
        yield {name: (*member.end(), member.heard("failed")) for name, member in members.items()}
        for name, (_, _, told) in CASES.items():
            heard = benches[name].server
            assert heard.count("refused") == (told == "refused") * (1 + (name in DESKTOP))
            assert heard.count("left") == 0
            # who may not send asks whether it may receive
            assert heard.count("pull") == (name == "not authorised")
    finally:
        for bench in benches.values():
            bench.close()


@pytest.mark.parametrize("name", CASES)
def test_refusal(outcomes, name):
    status, _, event = outcomes[name]
    assert status == 1 and CASES[name][1] in event["detail"]


@pytest.mark.parametrize("name", DESKTOP)
def test_one_sentence_at_a_desktop(outcomes, name):
    status, errors, event = outcomes[name, "desktop"]
    assert status == 1 and CASES[name][1] in event["detail"]
    assert errors == event["detail"] + "\n"
