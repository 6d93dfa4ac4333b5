"""Signed packets between real processes, on both interpreters, and through other keys."""

import pytest

import member_process
from processes import wait_until
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    timing = 'atd = "1s"\ndtd = "2s"\nevict_dtd = "2s"\nevict_atd = "1s"\nbatch_window = "100ms"'
    made.edit('atd = "0s"\ndtd = "1s"', f'source_auth = "ecdsa"\n{timing}')
    yield made
    made.close()


def sender(path):
    return member_process.join(path, "--listen", "--send", "-")


def is_heard(members, talker):
    """By all others: newcomers have the newest keys alone, and until ATD it sends under others."""
    text = f"{talker} is here"
    members[talker].say(text)
    others = [member for name, member in members.items() if name != talker]
    return all(member.opened(text.encode()) for member in others)


def test_each_process_is_sure_who_sent_it(bench):
    bench.serve()
    members = {}
    try:
        for name, on in (
            ("press", sender),
            ("desk", member_process.micropython),
            ("valve", member_process.micropython),
            ("panel", member_process.join),
        ):
            bench.member(name, *(["--sender"] if name in ("press", "desk") else []))
            members[name] = on(bench.root / "members" / name / "covey.json")
            members[name].heard("registered")
            members[name].heard("status")  # from then on it listens
        for talker in ("press", "desk"):
            wait_until(lambda talker=talker: is_heard(members, talker), step_s=0.3)
        for number in range(2):
            for talker in ("press", "desk"):
                payload = f"{talker} {number}".encode()
                members[talker].say(payload.decode())
                for name, member in members.items():
                    if name != talker:
                        member.packet(payload)
                        assert member.opened(payload) == 1
            facts = members["panel"].packet(b"press %d" % number)
            assert facts["confirmed"] is True and facts["source"] == "press"
            if number == 0:
                told = {name: member.count("rekeyed") for name, member in members.items()}
                bench.covey("rekey", "line1")
                for name, member in members.items():
                    member.heard("rekeyed", told[name] + 1)
        for member in members.values():
            assert member.leave()[0] == 0
    finally:
        for member in members.values():
            member.close()
