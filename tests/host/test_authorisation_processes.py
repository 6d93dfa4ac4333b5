"""A sender that may not send any more, and may again: real processes on both interpreters."""

import pytest

from member_process import join, micropython
from processes import wait_until
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    evict = 'evict_atd = "4s"\nevict_dtd = "8s"\nevict_gap = "200ms"\n'  # on a busy machine, too
    made.edit('atd = "0s"\ndtd = "1s"\n', f'atd = "4s"\ndtd = "8s"\n{evict}')
    made.members = []
    yield made
    for one in made.members:
        one.close()
    made.close()


def begun(bench, name, make, *how):
    bench.member(name, *how)
    one = make(bench.root / "members" / name / "covey.json")
    bench.members.append(one)
    one.heard("status")
    return one


def sender_id(member):
    last = [event for event in list(member.events) if event["event"] == "status"][-1]
    return (last.get("detail") or last)["sender_id"]


@pytest.mark.parametrize("make", [micropython, join])
def test_a_role_that_changes(bench, make):
    talks = make if make is micropython else lambda path: join(path, "--send", "-", "--listen")
    bench.serve()
    valve = begun(bench, "valve", join)
    desk = begun(bench, "desk", micropython, "--sender")
    press = begun(bench, "press", talks, "--sender")
    press.say("on")
    assert valve.packet(b"on")
    said = bench.covey("member", "allow", "press", "line1", "receiver")
    assert "comes back as receiver" in said
    press.heard("may_not_send")
    wait_until(lambda: sender_id(press) is None)
    press.say("off")  # which waits
    desk.say("go on")
    assert press.packet(b"go on") and valve.packet(b"go on")
    bench.covey("member", "allow", "press", "line1", "both")
    assert not valve.opened(b"off")
    bench.covey("rekey", "line1")
    assert valve.packet(b"off")
    bench.covey("member", "allow", "press", "line*", "none")
    bench.covey("member", "allow", "press", "line1", "default")
    press.heard("refused")
    assert bench.status()["groups"]["line1"]["members"] == ["desk", "valve"]
