"""make cluster: what is judged of its acts can fail; who comes one after another.

The acts themselves are real processes, of `make cluster` alone.
"""

import json
import shutil
import subprocess
import sys
import time

import pytest

from covey_host.bench import failover
from covey_host.cluster import judged, machines, nodes
from covey_host.cluster.acts import Done
from covey_host.cluster.history import History, Row
from covey_host.gcks.ledger import encode
from gcks_site import LINE1, SITE, Site

NAME = "panel"


def done(what="an act", let_in=3, slowest_s=0.2, **facts):
    return Done(what, let_in, slowest_s, facts)


STOPPED = {"spi": "aa", "epoch": 4, "victim": "s0"}
STOOD = {**STOPPED, "spi_then": "aa", "epoch_then": 4, "leads_then": "s1"}
GOOD = [
    (judged.let_in, ([done(), done()], [])),
    (judged.kept_out, (NAME, {"state": "refused"})),
    (judged.stood_still, (done(**STOOD),)),
    (judged.said_no, (done(sentence="etcd doesn't answer."),)),
    (judged.drained, (done(status=0, victim="s0"),)),
]
BAD = [
    (judged.let_in, ([done(), done(let_in=0)], [])),
    (judged.let_in, ([done()], [{"member": "probe-1", "why": "it was refused"}])),
    (judged.kept_out, (NAME, {"state": "member"})),
    (judged.stood_still, (done(**{**STOOD, "spi_then": "bb"}),)),
    (judged.stood_still, (done(**{**STOOD, "epoch_then": 5}),)),
    (judged.stood_still, (done(**{**STOOD, "leads_then": "s0"}),)),
    (judged.said_no, (done(sentence=""),)),
    (judged.said_no, (done(sentence="Traceback (most recent call last).\n"),)),
    (judged.drained, (done(status=1, victim="s0"),)),
]


@pytest.mark.parametrize(("judge", "facts"), GOOD)
def test_what_holds(judge, facts):
    assert judge(*facts).ok


@pytest.mark.parametrize(("judge", "facts"), BAD)
def test_what_does_not(judge, facts):
    verdict = judge(*facts)
    assert not verdict.ok and verdict.detail


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """The states of a group before and after new keys."""
    site = Site(tmp_path_factory.mktemp("site") / "state.db", SITE + LINE1)
    found = [site.store.read("group/line1/state")[0]]
    site.server.rekey("line1", site.now)
    found.append(site.store.read("group/line1/state")[0])
    site.store.close()
    return found


def member(revision, removed, name=NAME):
    row = encode({"psk": b"", "groups": {}, "removed": removed})
    return Row(revision, f"authority/member/{name}", row)


def state(revision, value):
    return Row(revision, "group/line1/state", value)


def of(*rows):
    history = History("line1")
    history.rows += rows
    return history


def test_a_removal_is_one_write_with_new_keys(states):
    before, after = states
    begin = state(1, before), member(2, False), member(3, False, "desk")
    once = of(*begin, member(5, True), state(5, after))
    assert judged.removals(once, NAME) == 1 and judged.removed_once(once, NAME).ok
    for rows, count in (
        (begin, 0),
        ((*begin, member(5, True), state(5, before)), 0),  # the keys stayed
        ((*begin, member(5, True), state(6, after)), 0),  # not together
        ((*begin, member(5, True, "desk"), state(5, after)), 0),
        (
            (
                *begin,
                *(member(5, True), state(5, after)),
                *(member(6, False), member(7, True), state(7, before)),
            ),
            2,
        ),
    ):
        assert judged.removals(of(*rows), NAME) == count
        assert not judged.removed_once(of(*rows), NAME).ok


def test_new_members_come_one_after_another_and_say_so():
    """Where nobody answers: they begin, and go on asking."""
    order = {"group": "line1", "psk": "00" * 32, "names": ["a", "b", "c"], "period_ms": 10}
    order["servers"] = [[machines.HOST, 9], [machines.HOST, 19]]
    words = [sys.executable, "-m", "covey_host.cluster.prober"]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline()) == {"event": "ready"}
        child.stdin.write("go\n")
        child.stdin.flush()
        said = [json.loads(child.stdout.readline()) for _ in range(3)]
        assert [(each["event"], each["member"]) for each in said] == [
            ("begins", name) for name in ("a", "b", "c")
        ]
        assert said[0]["began_s"] < said[1]["began_s"] < said[2]["began_s"] < time.monotonic()
        child.stdin.close()
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.stdout.close()


def test_without_etcd_the_bench_is_left_out_by_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(nodes, "_HOME", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(failover.Missing, match="There is no etcd"):
        failover.run(failover.Table(), quick=True)
