"""`covey serve` among others: several on one store, on a virtual clock."""

import re
from functools import partial

import pytest

from covey_host import overview
from covey_host import site as sites
from covey_host.errors import Problem
from covey_host.gcks import Out, among, authority, policy, sitepolicy
from covey_host.gcks.epoch import decode_state
from covey_host.gcks.keyserver import OTHER_IDENTITY
from covey_host.gcks.sharedserver import SharedKeyServer
from covey_host.operations import _WORK, Operations, changes_state
from covey_host.store import Fenced, sqlite
from foreign_gm import REGISTRATION_FAILED, notification
from gcks_site import LINE1, SITE, FullDisk
from ike_peer import Peer
from markdown import CLI, codes, table

REDIRECT, SUPPORTED = 16407, 16406
STEP_MS = 10
LINE2 = LINE1.replace("line1", "line2").replace("1.32", "1.33")


class Machine:
    """One key server among others, with a covey.toml of its own."""

    def __init__(self, plant, name, text):
        self.plant, self.name = plant, name
        self.folder = plant.folder / name
        self.folder.mkdir(exist_ok=True)
        self.site = sites.Site(self.folder)
        self.site.policy.write_text(text)
        self.troubles, self.unasked, self.is_dead = [], [], False
        self.store = FullDisk(sqlite.open_existing(plant.folder / "state.db"))
        self.among = self.server = None
        self.begin()

    def begin(self):
        rules = policy.load(self.site.policy)
        at = f"192.0.2.{ord(self.name)}"
        how = self.store, self.name, rules, self.site.policy, at, self.troubles.append
        self.among = among.Among(*how, now=lambda: self.now)
        self.server = self.among.keyserver
        self.send(self.among.start(self.plant.now))

    @property
    def now(self):
        return self.plant.now

    def step(self):
        self.send(self.among.step(self.now)[0])

    def send(self, outs):
        self.unasked += [out for out in outs if out.address is not None]

    def put(self, text):
        """As `covey reload` there, of another file."""
        self.site.policy.write_text(text)
        return self.perform({"do": "reload"})

    def perform(self, request):
        made = Operations(self.site, self.store, self)
        made._who = self.name

        def work():
            return made.perform(request, self.now)

        if changes_state(request):
            return self.among.lead_for(work, self.send, lambda: self.now)
        return work()

    def kill(self):
        self.is_dead = True
        self.store.close()

    # What Operations wants of a server

    keyserver = property(lambda self: self.server)
    listen = property(lambda self: self.server.policy.listen)
    facts = dict

    def cluster(self):
        return self.among.status(self.now)

    def check_routes(self, groups):
        pass

    def drain(self):
        hosts, outs = self.among.drain(self.now)
        self.send(outs)
        return hosts

    def reload(self, rules, text, now_ms):
        return self.among.reload(rules, text, now_ms)


class Plant:
    def __init__(self, folder, texts):
        self.folder, self.now = folder, 1_000_000
        made = sqlite.create(folder / "state.db")
        authority.make_signing_key(made)
        made.close()
        self.all = {name: Machine(self, name, text) for name, text in texts.items()}
        self.wait(5_000)

    def __getitem__(self, name):
        return self.all[name]

    @property
    def living(self):
        return [machine for machine in self.all.values() if not machine.is_dead]

    @property
    def holder(self):
        [found] = [machine for machine in self.living if machine.server.is_holder]
        return found

    @property
    def follower(self):
        return next(machine for machine in self.living if not machine.server.is_holder)

    def wait(self, ms):
        end = self.now + ms
        while self.now < end:
            self.now += STEP_MS
            for machine in self.living:
                machine.step()

    def close(self):
        for machine in self.living:
            machine.kill()


@pytest.fixture
def make(tmp_path, monkeypatch):
    made = []

    def clock():
        return 1_700_000_000 + made[-1].now / 1000

    def plant(**texts):
        plant = Plant.__new__(Plant)
        made.append(plant)
        plant.__init__(tmp_path, texts)
        return plant

    monkeypatch.setattr(among, "SharedKeyServer", partial(SharedKeyServer, time=clock))

    yield plant
    for each in made:
        each.close()


@pytest.fixture
def plant(make):
    text = SITE + LINE1
    return make(a=text, b=text, c=text)


def in_force(machine):
    return list(machine.server.policy.groups)


# Policy


def test_the_first_holders_file_is_in_force_and_others_that_differ_say_so(make):
    plant = make(a=SITE + LINE1, b=SITE + LINE1)
    other = Machine(plant, "c", SITE + LINE1 + LINE2)
    plant.all["c"] = other
    plant.wait(3_000)
    assert [in_force(machine) for machine in plant.living] == [["line1"]] * 3
    assert other.troubles == [sitepolicy.DIFFERS]
    assert plant["a"].troubles == plant["b"].troubles == []


def test_after_a_power_cut_an_older_file_takes_nothing_back(plant):
    plant["a"].put(SITE + LINE1 + LINE2)
    plant.wait(500)
    for machine in plant.living:
        machine.kill()
    plant.all = {"b": Machine(plant, "b", SITE + LINE1)}
    plant.wait(5_000)
    assert plant["b"].server.is_holder
    assert in_force(plant["b"]) == ["line1", "line2"]
    assert plant["b"].troubles == [sitepolicy.DIFFERS]


def test_a_reload_anywhere_is_in_force_everywhere(plant):
    plant.follower.put('listen = ["192.0.2.9:4500"]\n' + SITE + LINE1 + LINE2)
    plant.wait(500)
    for machine in plant.living:
        assert in_force(machine) == ["line1", "line2"]
        assert machine.server.policy.listen == policy.parse(SITE).listen
    assert {m.server.epochs()["line2"] for m in plant.living} == {1}
    plant.holder.put(SITE + LINE2)
    plant.wait(500)
    assert [in_force(machine) for machine in plant.living] == [["line2"]] * 3


def test_a_reload_of_another_identity_is_told(plant):
    """Not refused: among several the policy is in the store, and has no other way there."""
    plant.holder.server.events.clear()
    plant.follower.put(SITE.replace("gcks.example", "gcks.new.example") + LINE1)
    plant.wait(500)
    assert {m.server.policy.identity for m in plant.living} == {"gcks.new.example"}
    told = [f["reason"] for e, f in plant.holder.server.events if e == "trouble"]
    assert told == [OTHER_IDENTITY.format(was="gcks.example", now="gcks.new.example")]


def test_a_reload_that_failed_halfway_goes_on(plant):
    """The policy is in the store, the group's new keys were not."""
    holder = plant.holder
    writes, swap = [], holder.store._store.compare_and_swap

    def fails(changes, term):
        writes.append([key for key, _, _ in changes])
        if any(key.startswith("group/line2/") for key, _, _ in changes) and len(writes) < 9:
            raise Problem("The disk is full: make room.")
        return swap(changes, term)

    holder.store._store.compare_and_swap = fails
    with pytest.raises(Problem, match="disk is full.* The policy is in force all the same"):
        holder.put(SITE + LINE1 + LINE2)
    plant.wait(1_000)
    assert [in_force(machine) for machine in plant.living] == [["line1", "line2"]] * 3
    assert {machine.server.epochs().get("line2") for machine in plant.living} == {1}


def trap(machine, prefix):
    """Its next write of such a row fails, and nothing reaches its store afterwards, until the
    list that is returned is emptied."""
    store, caught = machine.store._store, []

    class Away:
        def __getattr__(self, name):
            def work(*what):
                if name == "compare_and_swap":
                    caught.extend(key for key, _, _ in what[0] if key.startswith(prefix))
                if caught and name != "close":
                    raise Problem("etcd doesn't answer.")
                return getattr(store, name)(*what)

            return work

    machine.store._store = Away()

    def mend():
        machine.store._store = store

    return mend


def test_an_older_policy_does_not_come_back(plant):
    """Its reload failed halfway, and then another one was put in force elsewhere."""
    former = plant.holder
    mend = trap(former, "group/line2/")
    with pytest.raises(Problem, match="doesn't answer"):
        former.put(SITE + LINE1 + LINE2)
    plant.wait(4_000)
    other = next(m for m in plant.living if m is not former and m.server.is_holder)
    assert in_force(other) == ["line1", "line2"]  # done to its end
    other.put(SITE + LINE1)
    mend()
    plant.wait(2_000)
    former.perform({"do": "rekey", "group": "line1"})
    plant.wait(1_000)
    assert plant.holder is former
    assert [in_force(machine) for machine in plant.living] == [["line1"]] * 3


def test_who_fails_halfway_and_follows_has_the_policy_in_force(plant):
    former = plant.holder
    mend = trap(former, "group/line2/")
    with pytest.raises(Problem, match="doesn't answer"):
        former.put(SITE + LINE1 + LINE2)
    plant.wait(4_000)
    mend()
    plant.wait(1_000)
    assert not former.server.is_holder
    assert [in_force(machine) for machine in plant.living] == [["line1", "line2"]] * 3


def test_a_policy_that_was_written_though_nobody_was_told(plant):
    """Its writer has it in force as everybody else."""
    holder = plant.holder
    swap = holder.store._store.compare_and_swap

    def lies(changes, term):
        done = swap(changes, term)
        if any(key == sitepolicy.ROW for key, _, _ in changes):
            holder.store._store.compare_and_swap = swap
            raise Problem("etcd doesn't answer.")
        return done

    holder.store._store.compare_and_swap = lies
    with pytest.raises(Problem, match="doesn't answer"):
        holder.put(SITE + LINE1 + LINE2)
    plant.wait(1_000)
    assert [in_force(machine) for machine in plant.living] == [["line1", "line2"]] * 3
    assert {machine.server.epochs()["line2"] for machine in plant.living} == {1}


def test_a_group_that_was_taken_out_ends_though_its_holder_died(make):
    """Between the policy and the group's end; and again before the end was told."""
    text = SITE + LINE1 + LINE2
    plant = make(**dict.fromkeys("abc", text))
    plant.holder.perform({"do": "member add", "member": "press-7", "group": "line2"})
    plant.wait(300)
    peer = Peer(Air(plant.holder))
    peer.gm.psk = plant.holder.server.authority.find("press-7").psk
    peer.gm.group = b"line2"
    peer.connect()
    peer.authenticate()
    store = sqlite.open_existing(plant.folder / "state.db")
    era = decode_state(store.read("group/line2/state")[0])[0].era
    assert store.scan("group/line2/member/")
    first = plant.holder
    trap(first, "group/")
    with pytest.raises(Problem, match="doesn't answer"):
        first.put(SITE + LINE1)
    first.is_dead = True
    plant.wait(2_000)
    second = plant.holder
    ended, outbox = decode_state(store.read("group/line2/state")[0])
    assert ended.era == era + 1 and outbox[-1].excludes
    assert [group.policy.name for group in second.server._retired] == ["line2"]
    second.is_dead = True
    plant.wait(2_000)
    third = plant.holder
    assert [group.policy.name for group in third.server._retired] == ["line2"]
    assert decode_state(store.read("group/line2/state")[0])[0] == ended  # said again, as it is
    plant.wait(120_000)
    assert not third.server._retired and not store.scan("site/former/")
    assert in_force(third) == ["line1"]
    store.close()


def test_a_policy_of_which_half_the_groups_had_keys_is_done_to_its_end(make):
    """It changes nothing in what the keys are, but in how long they live."""
    text = SITE + LINE1 + LINE2
    plant = make(**dict.fromkeys("abc", text))
    former = plant.holder
    trap(former, "group/line2/")
    with pytest.raises(Problem, match="doesn't answer"):
        former.put(SITE + LINE1 + "lifetime = 7200\n" + LINE2 + "lifetime = 7200\n")
    former.is_dead = True
    plant.wait(3_000)
    assert plant.holder.server.epochs() == {"line1": 2, "line2": 2}


def test_what_a_newer_covey_put_in_force_is_told_by_an_older_one(plant):
    holder = plant.holder
    sitepolicy.write(holder.server.ledger, SITE + LINE1 + "later = 1\n")
    plant.wait(500)
    for machine in plant.living:
        if machine is not holder:
            assert in_force(machine) == ["line1"]
            told = [facts["reason"] for name, facts in machine.server.events if name == "trouble"]
            assert any("older than the others" in said for said in told)
            assert machine.server.receive(b"whatever it is", "a", plant.now) == []  # nobody


def test_a_group_is_added_only_to_what_is_in_force(plant):
    """Else whatever else differs in that machine's file would come into force with it."""
    settings = {"address": "239.192.1.40", "port": 2230}
    plant["a"].site.policy.write_text(SITE + LINE1 + LINE2)
    add = {"do": "group add", "group": "line9", "settings": settings}
    with pytest.raises(Problem) as e:
        plant["a"].perform(add)
    assert e.value.sentence == sitepolicy.DIFFERS
    plant["b"].perform(add)
    plant.wait(500)
    assert [in_force(machine) for machine in plant.living] == [["line1", "line9"]] * 3


def test_commands_go_by_what_is_in_force(plant):
    plant["a"].put(SITE + LINE1 + LINE2)
    plant.wait(500)
    assert plant["b"].perform({"do": "policy"}) == {"text": SITE + LINE1 + LINE2}
    plant["b"].perform({"do": "member add", "member": "press-7", "group": "line2"})
    plant.wait(500)
    rows = plant["c"].perform({"do": "member list"})["members"]
    assert [(row["member"], row["group"]) for row in rows] == [("press-7", "line2")]


# Commands


def test_a_command_is_done_where_it_is_asked_for(plant):
    former = plant.holder
    follower = plant.follower
    follower.perform({"do": "member add", "member": "press-7", "group": "line1"})
    assert follower.server.is_holder
    plant.wait(300)
    assert plant.holder is follower and former.server.authority.find("press-7") is not None
    former.perform({"do": "member remove", "members": ["press-7"]})
    plant.wait(300)
    assert follower.server.authority.find("press-7").removed


def test_two_that_ask_at_once_are_both_served(plant):
    """Who was faster is the holder; who was slower becomes it then, and does its work."""
    a, b = plant["a"], plant["b"]
    done = []

    def slow():
        if not done:
            done.append(b.perform({"do": "rekey", "group": "line1"}))
        return a.server.rekey("line1", plant.now)

    epoch = a.server.epochs()["line1"]
    a.among.lead_for(slow, a.send, lambda: plant.now)
    plant.wait(300)
    assert plant.holder is a and a.server.epochs()["line1"] == epoch + 2


def test_who_loses_each_time_says_so(plant):
    a, b = plant["a"], plant["b"]

    def never():
        b.perform({"do": "rekey", "group": "line1"})
        return a.server.rekey("line1", plant.now)

    with pytest.raises(Fenced):
        a.among.lead_for(never, a.send, lambda: plant.now)
    plant.wait(300)
    assert plant.holder is b


@pytest.mark.parametrize("was_done", [True, False])
def test_a_command_of_which_nobody_knows_whether_it_was_done_says_so(plant, was_done):
    holder = plant.holder
    holder.perform({"do": "member add", "member": "press-7", "group": "line1"})
    swap = holder.store._store.compare_and_swap

    def lost(changes, term):
        if was_done:
            swap(changes, term)
        problem = Problem("etcd doesn't answer.")
        problem.is_in_doubt = True
        raise problem

    holder.store._store.compare_and_swap = lost
    rekey, remove = {"do": "rekey", "group": "line1"}, {"do": "member remove"}
    for request in (rekey, remove | {"members": ["press-7"]}):
        with pytest.raises(Problem, match="answer. Whether this was done is not known: see"):
            holder.perform(request)
    holder.store._store.compare_and_swap = swap
    plant.wait(1_000)
    assert holder.server.authority.find("press-7").removed == was_done
    holder.store.full = True
    with pytest.raises(Problem) as known:
        holder.perform(rekey)
    assert known.value.sentence == "The disk is full: make room."


def test_what_a_look_gave_is_said_later_where_the_step_behind_it_fails(plant):
    follower = plant.follower
    catch_up, step, said = follower.server.catch_up, follower.server.step, []
    follower.server.catch_up = lambda now_ms: [*catch_up(now_ms), Out(b"a look's", None)]

    def fails(now_ms):
        raise Problem("No answer.")

    follower.server.step = fails
    with pytest.raises(Problem):
        follower.among.step(plant.now + 100)
    follower.server.catch_up, follower.server.step = catch_up, step
    said, _ = follower.among.step(plant.now + 110)
    assert [out.data for out in said] == [b"a look's"]


def test_who_was_overtaken_as_it_took_over_does_so_again(plant):
    """Another one has the term before it has read what was written last."""
    a, b = [machine for machine in plant.living if not machine.server.is_holder]
    acquire, done = a.store.acquire_term, []

    def overtaken(*how):
        term = acquire(*how)
        if not done:
            done.append(b.perform({"do": "rekey", "group": "line1"}))
        return term

    a.store.acquire_term = overtaken
    a.perform({"do": "rekey", "group": "line1"})
    plant.wait(300)
    assert plant.holder is a and a.server.epochs()["line1"] == 3


def test_a_machine_that_cannot_have_the_policy_says_so(plant, monkeypatch, capsys):
    one = plant.follower
    with monkeypatch.context() as patch:

        def refused(value):
            raise Problem("No.")

        patch.setattr(one.server, "on_policy", refused)
        plant.holder.put(SITE + LINE1 + LINE2)
        plant.wait(500)
    with pytest.raises(Problem, match="This machine can't have the policy in force"):
        one.perform({"do": "rekey", "group": "line1"})
    [said] = one.among.faults(plant.now)
    assert said.startswith("This machine can't have the policy in force")
    overview.show_cluster(one.among.status(plant.now))
    assert "can't have the policy in force" in capsys.readouterr().out


def test_every_command_is_known_to_change_something_or_not():
    reads = {"status", "why", "member list", "keys", "policy"}
    entered = {"backup", "restore", "site key", "store copy", "failed"}
    own = {"drain", "audit archive"}  # of this machine alone
    for command in _WORK:
        request = {"do": command, "crl": "x"}
        assert changes_state(request) == (command not in reads | entered | own), command
    assert not changes_state({"do": "site ca"}) and not changes_state({"do": "health"})
    assert not changes_state({}) and not changes_state({"do": ["rekey"]})


# Ends, and what goes wrong


def test_a_drain_hands_over_at_once(plant):
    leaves = plant.holder
    others = {f"192.0.2.{ord(m.name)}" for m in plant.living if m is not leaves}
    assert set(leaves.perform({"do": "drain"})["hosts"]) == others
    assert set(leaves.server.redirects.hosts) == others
    plant.wait(300)  # not the second that silence takes
    assert plant.holder is not leaves
    assert leaves.among.status(plant.now)["draining"] and leaves.among.is_drained
    assert "It is about to end." in leaves.among.faults(plant.now)
    plant.wait(1_500)
    assert plant.holder.server.redirects.hosts != ()
    assert f"192.0.2.{ord(leaves.name)}" not in plant.holder.server.redirects.hosts
    leaves.kill()
    plant.wait(3_000)
    epochs = {machine.server.epochs()["line1"] for machine in plant.living}
    assert epochs == {1}, "nobody needed new keys"


def test_no_rekey_is_missed_while_each_is_upgraded(make):
    """Drained, ended, started again, one after the other, the holder too; keys are due at 48 s."""
    text = SITE + LINE1 + "lifetime = 60\n"
    plant = make(a=text, b=text, c=text)
    begun, born = plant.now, {1: plant.now}

    def wait(ms):
        for _ in range(ms // 100):
            plant.wait(100)
            for machine in plant.living:
                born.setdefault(machine.server.epochs()["line1"], plant.now)

    while plant.now < begun + 150_000:
        for name in "abc":
            plant[name].perform({"do": "drain"})
            wait(1_000)
            plant[name].kill()
            wait(4_000)
            plant.all[name] = Machine(plant, name, text)
            wait(2_000)
    assert list(born) == list(range(1, len(born) + 1)) and len(born) >= 3
    apart = [born[n + 1] - born[n] for n in range(1, len(born))]
    assert all(41_000 <= ms <= 49_000 for ms in apart), apart


def test_who_is_alone_does_not_drain(make):
    plant = make(a=SITE + LINE1)
    with pytest.raises(Problem, match="No other key server takes members"):
        plant["a"].perform({"do": "drain"})
    plant.wait(500)
    assert plant["a"].server.is_holder
    assert not plant["a"].server.redirects.is_draining


def test_without_its_store_it_sends_members_on_and_comes_back(plant, monkeypatch, capsys):
    one = plant.follower

    def away(*_):
        raise Problem("etcd doesn't answer.")

    with monkeypatch.context() as patch:
        for name in ("changed", "present", "replicas"):
            patch.setattr(one.store._store, name, away)
        plant.wait(3_000)
        assert one.server.redirects.is_away and one.troubles == ["etcd doesn't answer."] * len(
            one.troubles
        )
        assert one.among.faults(plant.now) == ["It has not reached its store for 3 s."]
        overview.show_cluster(one.among.status(plant.now))
        assert "does not reach its store: another one may lead by now" in capsys.readouterr().out
    plant.wait(500)
    overview.show_cluster(one.among.status(plant.now))
    assert ", and follows " in capsys.readouterr().out
    assert not one.server.redirects.is_away and one.among.faults(plant.now) == []


def test_an_hour_without_a_quorum(make, monkeypatch):
    """Nothing is half-written; keys that were due come once, and who leads is as it was."""
    plant = make(**dict.fromkeys("abc", SITE + LINE1 + 'lifetime = "30m"\n'))
    holder = plant.holder
    term = holder.server.term

    def away(*_):
        raise Problem("etcd doesn't answer.")

    with monkeypatch.context() as patch:
        for machine in plant.living:
            for name in ("changed", "present", "replicas", "beat", "read", "scan", "acquire_term"):
                patch.setattr(machine.store._store, name, away)
            machine.store.full = True
        for _ in range(3600):
            plant.now += 1_000
            for machine in plant.living:
                machine.step()
        with pytest.raises(Problem):
            holder.perform({"do": "rekey", "group": "line1"})
        with pytest.raises(Problem):
            plant.follower.perform({"do": "rekey", "group": "line1"})
    for machine in plant.living:
        machine.store.full = False
        assert set(machine.troubles) == {"etcd doesn't answer."}
    plant.wait(8_000)
    assert [machine.server.epochs() for machine in plant.living] == [{"line1": 2}] * 3
    assert plant.holder is holder and holder.server.term == term


def test_what_only_the_holder_lets_in_is_sent_there(make):
    text = SITE + LINE1 + 'rekey = "inband"\n'
    plant = make(a=text, b=text)
    plant.holder.perform({"do": "member add", "member": "press-7", "group": "line1"})
    plant.wait(1_500)
    follower = plant.follower

    def answer(*said):
        peer = Peer(Air(follower))
        peer.gm.psk = follower.server.authority.find("press-7").psk
        peer.connect(extra=[notification(type) for type in said])
        return peer.authenticate()

    [(_, body)] = answer(SUPPORTED)
    assert body == b"\0\0\x40\x17\x01\x04\xc0\0\x02" + plant.holder.name.encode()
    assert answer() == [notification(REGISTRATION_FAILED)]


class Air:
    """What a Peer needs of a site."""

    def __init__(self, machine):
        self.machine, self.server, self.unasked = machine, machine.server, []

    now = property(lambda self: self.machine.now)

    def send(self, outs):
        self.unasked += [out for out in outs if out.address is not None]


def test_what_is_told_of_them(plant):
    told = plant.follower.among.status(plant.now)
    assert set(told) == codes(table(CLI, "The server's status", 2))
    assert told["holder"] == plant.holder.name and not told["leads"] and told["ready"]
    assert [row["replica"] for row in told["replicas"]] == ["a", "b", "c"]
    assert [row["replica"] for row in told["replicas"] if row["leads"]] == [plant.holder.name]
    assert all(row["takes"] and row["lag_ms"] <= 100 for row in told["replicas"])
    listed = table(CLI, "The server's status", 2)["`replicas`"][1]
    assert set(told["replicas"][0]) == set(re.findall(r"`(\w+)`", listed))


def test_one_that_has_just_come_is_not_ready(plant):
    late = Machine(plant, "d", SITE + LINE1)
    assert late.among.faults(plant.now)[0].startswith("It does not know yet")
    with pytest.raises(Problem, match="just started"):
        late.perform({"do": "rekey", "group": "line1"})
    plant.all["d"] = late
    plant.wait(1_000)
    assert late.among.faults(plant.now) == []
