"""The name that members know their key server by, and what becomes of it when covey.toml has
another one: by real processes."""

import json

import pytest

from member_process import join, micropython
from site_bench import Bench

OTHER = "gcks.other.example"


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    made.members = []
    yield made
    for one in made.members:
        one.close()
    made.close()


def started(bench, name, make):
    one = make(bench.root / "members" / name / "covey.json")
    bench.members.append(one)
    return one


def identity(bench):
    policy = (bench.root / "covey.toml").read_text()
    return next(line for line in policy.splitlines() if line.startswith("identity")).split('"')[1]


def troubles(events):
    found = [e["reason"] for e in events if e["event"] == "trouble"]
    return [reason for reason in found if "identity" in reason]


def test_a_running_key_server_refuses_another_identity(bench):
    server = bench.serve()
    bench.member("eye")
    was = identity(bench)
    bench.edit(was, OTHER)
    text = (bench.root / "covey.toml").read_text()
    said = bench.covey("reload", status=2)
    assert f"identity in covey.toml is '{OTHER}'" in said and f"as '{was}': put it back" in said
    add = ("group", "add", "line2", "--address", "239.192.9.9", "--port", "2223")
    assert f"identity in covey.toml is '{OTHER}'" in bench.covey(*add, status=2)
    assert (bench.root / "covey.toml").read_text() == text
    eye = started(bench, "eye", join)
    eye.heard("registered")
    bench.edit(OTHER, was)
    bench.covey("reload")
    assert troubles(bench.events(server)) == []


@pytest.mark.parametrize("make", [join, micropython])
def test_a_start_under_another_one_says_so_and_the_member_who_refuses_whom(bench, make):
    bench.end(bench.serve())
    bench.member("eye")
    was = identity(bench)
    bench.edit(was, OTHER)
    server = bench.serve()
    eye = started(bench, "eye", make)
    told = eye.heard("unanswered")["detail"]
    assert told.startswith("This member refuses who answers as its key server (ike_auth)")
    done = bench.launch("doctor", "--json", "--interface", "127.0.0.1")
    found = [json.loads(line) for line in done.communicate(timeout=60)[0].splitlines()]
    [finding] = [one for one in found if one["subject"] == "identity"]
    assert finding["level"] == "fail" and "eye refuse" in finding["said"]
    [reason] = troubles(bench.events(server))
    assert f"is '{OTHER}' and was '{was}'" in reason
    assert troubles(bench.events(bench.serve())) == [], "it was told once"

    bench.edit(OTHER, was)
    server = bench.serve()
    started(bench, "eye", make).heard("registered")
    assert len(troubles(bench.events(server))) == 1
