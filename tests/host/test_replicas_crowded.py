"""Several key servers over one store, with many groups, many members that wait, and others that
write all the time: what one costs does not grow with the rest, and nobody is kept out for ever."""

import sys

import pytest

from covey_host.errors import Problem
from covey_host.gcks import asks, ledger, sharedserver
from covey_host.gcks.asks import Ask
from covey_host.gcks.roles import Role
from covey_host.gcks.sharedgroup import SharedGroup
from foreign_gm import INFORMATIONAL
from gcks_site import LINE1, SITE, FullDisk
from replicas import Replicas, take

WAITING = [f"w{number}" for number in range(60)]


class Slow(FullDisk):
    """Reads of members take long; before(): what is done ahead of a write of a group's state."""

    site = before = None
    is_mute = False
    log: list[str] | None = None

    def _noted(self, what, keys):
        if self.log is not None and any(key.startswith("authority/member/") for key in keys):
            self.log.append(what)
            self.site.now += 300

    def read(self, key):
        self._noted("read", [key])
        return self._store.read(key)

    def read_many(self, keys):
        self._noted("read_many", keys)
        return self._store.read_many(keys)

    def beat(self, term, facts):
        if self.log is not None:
            self.log.append("beat")
        if self.is_mute:
            raise Problem("No answer.")
        return self._store.beat(term, facts)

    def compare_and_swap(self, changes, term):
        if self.before and any(key.endswith("/state") for key, _, _ in changes):
            self.before()
        return super().compare_and_swap(changes, term)


@pytest.fixture
def make(tmp_path):
    made = []

    def site(text=SITE + LINE1, **how):
        path = tmp_path / f"state{len(made)}.db"
        made.append(Replicas(path, text=text, **how))
        made[-1].settle()
        return made[-1]

    yield site
    for each in made:
        for one in each.all.values():
            one.store.close()


# Many groups


def lines(count):
    text = SITE
    for number in range(1, count + 1):
        group = LINE1.replace("line1", f"line{number}").replace("1.32", f"2.{number}")
        text += group
    return text


@pytest.mark.parametrize("holds", [True, False])
def test_a_turn_looks_at_each_group_as_often_however_many_there_are(make, monkeypatch, holds):
    looks = []

    def look(group, name):
        looks.append(name)
        return object.__getattribute__(group, name)

    costs = []
    for count in (10, 40):
        site = make(lines(count), names="ab")
        site.leap(60_000)
        one = site.holder if holds else site.followers[0]
        with monkeypatch.context() as patch:
            patch.setattr(SharedGroup, "__getattribute__", look, raising=False)
            looks.clear()
            one.server.step(site.now)
        costs.append(len(looks) / count)
    assert costs[1] < 1.2 * costs[0]


def test_a_take_over_asks_of_each_group_once_or_so_whether_it_is_stale(make, monkeypatch):
    looks = []

    def look(group, name):
        if name == "is_stale":
            looks.append(group)
        return object.__getattribute__(group, name)

    costs = []
    for count in (10, 40):
        site = make(lines(count), names="ab")
        one = site.followers[0]
        with monkeypatch.context() as patch:
            patch.setattr(SharedGroup, "__getattribute__", look, raising=False)
            looks.clear()
            one.replica.take(site.now)
        assert one.is_holder
        costs.append(len(looks) / count)
    assert costs[1] < 1.2 * costs[0]


def lines_of(work):
    """Lines of the key server that this runs."""
    count, former = 0, sys.gettrace()

    def trace(frame, event, _):
        nonlocal count
        if "covey_host" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(former)
    return count


def test_a_new_run_takes_as_long_for_each_group_however_many_there_are(make):
    costs = []
    for count in (10, 60):
        site = make(lines(count), names="a")
        one = site.holder
        one.server.step_down(site.now)
        one.server._office.run = "a former one"
        one.replica._has_seen = False
        costs.append(lines_of(lambda one=one: one.replica._take(None, one.now)) / count)
        assert one.is_holder and one.group.epoch.number == 2
    assert costs[1] < 1.1 * costs[0]


# Many that wait


def test_an_ask_of_many_is_read_at_once_and_beats_meanwhile(make, monkeypatch):
    monkeypatch.setattr(sharedserver, "_AT_ONCE", 20, raising=False)
    site = make(wrap=Slow)
    site.add(*WAITING)
    site.wait(300)
    holder, one = site.holder, site.followers[0]
    ask = Ask(holder.group.epoch.number, "", dict.fromkeys(WAITING, (True, Role.BOTH)))
    key = asks.key_of(one.name, "line1")
    one.server._ledger.read(key)
    one.server._ledger.write({key: asks.emitted(ask)})
    holder.server._ledger._kept.clear()
    Slow.site, holder.store.log = site, []
    holder.server.catch_up(holder.now)
    found, holder.store.log = holder.store.log, None
    assert found == ["read_many", "beat"] * 3
    assert sorted(holder.group.waiting(site.now)) == sorted(WAITING)
    site.wait(300)
    assert site.holder is holder


# Others that write all the time


def crowd_of(site, one):
    """Members that come there one after the other, as the holder is about to write; time passes
    for the others meanwhile. → [who was let in]"""
    let_in, names = [], iter(WAITING)

    def come():
        name = next(names, None)
        if name is None:
            return
        gm, auth = site.begun(name, one)
        answer = one.talk(auth, name)
        if answer is not None:
            let_in.append(take(gm, answer))
        site.now += 50
        for each in site.followers:
            each.step()

    return let_in, come


def test_a_removal_that_others_outrun_is_done(make):
    site = make(wrap=Slow)
    site.add("bad", "good", *WAITING)
    site.wait(300)
    holder, one = site.holder, site.followers[0]
    site.come("bad", one)
    site.wait(300)
    let_in, holder.store.before = crowd_of(site, one)
    site.send(holder.server.remove_members(["bad"], site.now), holder)
    holder.store.before = None
    assert holder.server.authority.find("bad").removed
    assert sharedserver._PATIENCE <= len(let_in) < 12, "then they leave the group alone"
    late = set(one.group.waiting(site.now))
    site.wait(3_000)
    assert not late & set(one.group.waiting(site.now))
    assert one.group.counts()["member"] > len(let_in), "who waited meanwhile is in by now"
    assert not holder.server.busy and not one.server._office.busy
    site.come("good", one, ms=0)


def test_a_removal_is_done_though_others_can_not_be_told_to_leave_the_group_alone(make):
    """What was lost until then was not done, for certain, so it is no reason to end."""
    site = make(wrap=Slow)
    site.add("bad", *WAITING)
    site.wait(300)
    holder, one = site.holder, site.followers[0]
    site.come("bad", one)
    site.wait(300)
    let_in, come = crowd_of(site, one)
    holder.store.before = lambda: len(let_in) > sharedserver._PATIENCE or come()
    holder.store.is_mute = True
    site.send(holder.server.remove_members(["bad"], site.now), holder)
    assert len(let_in) > sharedserver._PATIENCE and not holder.server.busy
    assert holder.server.authority.find("bad").removed


def test_a_group_is_left_alone_for_a_bounded_time(make):
    """Whatever the holder says."""
    site = make(wrap=Slow)
    site.add(*WAITING[:4])
    site.wait(300)
    one = site.followers[0]

    def waits_ms(name):
        gm, auth = site.begun(name, one)
        begun = site.now
        take(gm, one.talk(auth, name) or site.answered(one, name))
        return site.now - begun

    assert waits_ms("w0") == 0
    site.holder.server.busy = frozenset({"line1", "line7"})
    site.wait(400)
    assert 4_000 < waits_ms("w1") < 5_500 and waits_ms("w2") == 0
    site.holder.server.busy = frozenset()
    site.wait(400)
    site.holder.server.busy = frozenset({"line1"})
    site.wait(400)
    assert 4_000 < waits_ms("w3") < 5_500, "it is said anew"


@pytest.mark.parametrize("said", [b"", b"[]", b'{"busy": 3}', b'{"busy": {"line1": 1}}'])
def test_what_no_replica_says_of_itself_keeps_nobody_waiting(make, said):
    site = make()
    site.add("w0")
    site.holder.replica._said = lambda: said
    site.wait(600)
    site.come("w0", site.followers[0], ms=0)


def test_an_answer_that_waits_for_nothing_is_not_lost_when_others_were_faster(make, monkeypatch):
    monkeypatch.setattr(ledger, "_ROOM", 0)
    site = make()
    site.add(*WAITING[:4])
    site.wait(300)
    one, other = site.followers
    gm = site.come("w0", one)
    late, auth = site.begun("w1", one)
    site.wait(1_500)
    site.come("w2", other)  # which that one has not seen yet
    answers = one.at_once({"w1": auth, "w0": gm.seal(INFORMATIONAL, [])})
    site.send(one.server.step(one.now)[0], one)
    answers |= {out.address: out.data for by, out in site.unasked if by == one.name}
    assert gm.open(answers["w0"], INFORMATIONAL) == []
    assert take(late, answers["w1"]).tek and one.server.counters["moved"] == 1


def test_who_follows_from_a_command_on_does_so_from_now_on(make):
    """Not from when it looked last."""
    site = make(wrap=Slow)
    one, told = site.holder, []
    step_down = one.server.step_down
    one.server.step_down = lambda now_ms: told.append(now_ms) or step_down(now_ms)
    one.is_stopped = True
    site.wait(3_000)
    one.is_stopped = False
    with pytest.raises(Problem):
        one.server.rekey("line1", site.now)
    assert told[-1] == site.now and one.server.caught_up_ms <= site.now
