"""A story of several key servers, drawn from a seed: joins, leaves, removals, rekeys, reloads,
take-overs, kills, stops, stores that fail or lie; and at any call of the store another key server
may act first. What must hold is checked all along (replicas.Crowd), and at its end all are back.

    python tests/replica_story.py [FIRST [LAST]]    seeds; tells the first that fails
"""

import random
import sys
import tempfile
from pathlib import Path

from covey_host.errors import Problem
from covey_host.gcks.treelevel import page_count
from foreign_gm import GSA_AUTH
from gcks_site import PLAIN, SITE
from replicas import Crowd, Replicas, copy

NAMES = [f"m{number}" for number in range(8)]
TEXTS = [
    SITE + PLAIN + "fresh_join = false\n",
    SITE + PLAIN,
    SITE + PLAIN + "fresh_join = false\nbackward_secrecy = true\n",
    SITE + PLAIN + "fresh_join = false\nlifetime = 60\n",
    SITE + PLAIN + "fresh_join = false\nsender_id_form = [8, 4]\n",
]
MORE = ["", "key_tree = 0\n", "key_tree = 2\n", "key_tree = 3\n", "key_bits = 256\n"]  # of reloads
_STRONG = 3  # the key wrap that serves keys of 256 bits, too: RFC 5649 with such
_MOST_DEEP = 2
_FAILS = 0.02  # of the calls of a store
_CALLS = "compare_and_swap", "changed", "scan", "read", "read_many", "acquire_term", "beat"


class Meddled:
    """A store at each call of which others may act first, or it fails: before, or after it has
    done it all the same."""

    def __init__(self, store, story):
        self._store, self._story = store, story

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name not in _CALLS:
            return method

        def call(*args):
            story = self._story
            story.meddle(self)
            fails = story.fails()
            if fails == "before":
                raise Problem("The store doesn't answer.")
            result = method(*args)
            if fails == "after":
                raise Problem("The store doesn't answer any more.")
            return result

        return call


class Story:
    """goes_back: older copies of the store are put in its place."""

    def __init__(self, path, seed, goes_back=False):
        self.chance = random.Random(seed)
        self.goes_back, self.older = goes_back, path.with_suffix(".older")
        self.text = TEXTS[seed % len(TEXTS)]
        self.deep = 0  # of store calls in others' store calls
        self.is_calm = True
        how = {"text": self.text, "seed": seed, "kwa": _STRONG}
        self.site = Replicas(path, wrap=lambda s: Meddled(s, self), **how)
        self.crowd = Crowd(self.site)
        self.out = {}  # removed: name → the epoch that it has no keys of
        self.busy = []  # who is in a call
        self.site.settle()
        for name in NAMES:
            self.site.add(name)

    def run(self, steps=60):
        self.is_calm = False
        for _ in range(steps):
            self.act()
            self.site.wait(self.chance.choice((10, 20, 50, 100, 400)))
            self.crowd.hear()
            self.check()
        self.end()

    def end(self):
        self.is_calm = True
        for name, one in self.site.all.items():
            one.is_stopped = False
            if one.is_dead:
                self.site.restart(name)
        self.site.settle()
        self.site.wait(20_000)
        self.crowd.hear()
        self.check()
        authority = self.site.holder.server.authority
        gone = {name for name in NAMES if authority.find(name).removed}  # some, though it failed
        assert self.out.keys() <= gone
        for name in NAMES:
            if name not in gone and name not in self.crowd.current():
                self.back(name)
                self.site.wait(500)
                self.crowd.hear()
        self.site.wait(20_000)
        self.crowd.hear()
        self.check()
        assert self.crowd.current() == set(NAMES) - gone
        holder = self.site.holder
        for one in self.site.followers:
            assert one.group.epoch == holder.group.epoch
            assert one.group._roster._members == holder.group._roster._members
            assert one.group._roster.rows == holder.group._roster.rows
            assert rows_of(one.group._tree) == rows_of(holder.group._tree)

    def back(self, name):
        """It comes until it is let in: it may be too soon for the numbers that are left."""
        for left in reversed(range(4)):
            one = self.chance.choice(self.site.living)
            gm, auth = self.site.begun(name, one)
            answer = one.talk(auth, name) or self.site.answered(one, name, 40_000)
            payloads = gm.check_identity(gm.open(answer, GSA_AUTH))
            if len(payloads) == 3 or not left:
                break
            self.site.wait(15_000)
            self.crowd.hear()
        self.crowd.join(name, gm.take_group(payloads))

    # What happens

    def act(self):
        kinds = [self.join] * 6 + [self.rekey, self.remove, self.leave, self.take, self.kill]
        kinds += [self.stop, self.go_on, self.go_on, self.restart, self.resign, self.reload]
        kinds += [self.keep, self.put_back] if self.goes_back else []
        self.chance.choice(kinds)()

    def meddle(self, store):
        """Before a call of this store: others do something."""
        if self.is_calm or self.deep >= _MOST_DEEP or self.chance.random() > 0.05:
            return
        self.deep += 1
        busy = len(self.busy)
        self.busy += [one.name for one in self.site.all.values() if one.store is store]
        kinds = [self.join, self.join, self.rekey, self.look, self.take, self.reload]
        try:
            self.chance.choice(kinds)()
        finally:
            del self.busy[busy:]
            self.deep -= 1

    def fails(self):
        if self.is_calm or self.chance.random() > _FAILS:
            return None
        return self.chance.choice(["before", "after"])

    def one(self, *, holds=False):
        """Who is in no call."""
        some = [one for one in self.site.living if one.name not in self.busy]
        some = [one for one in some if one.is_holder or not holds]
        return self.chance.choice(some) if some else None

    def by(self, one, work):
        """The work's result; None where there is nobody, or it failed."""
        if one is None:
            return None
        self.busy.append(one.name)
        try:
            return work(one)
        except Problem:
            return None
        finally:
            self.busy.remove(one.name)

    def join(self):
        self.by(self.one(), self._join)

    def _join(self, one):
        some = self.chance.sample(NAMES, self.chance.randint(1, 3))
        begun = {name: self.site.begun_or_not(name, one) for name in some}
        begun = {name: found for name, found in begun.items() if found[0] is not None}
        former = {name: self.crowd.gms.pop(name) for name in begun if name in self.crowd.gms}
        answers = one.at_once({name: auth for name, (_, auth) in begun.items()})
        for name, (gm, _) in begun.items():
            if name in answers and answers[name][18] == GSA_AUTH:
                payloads = gm.check_identity(gm.open(answers[name], GSA_AUTH))
                if len(payloads) == 3:
                    self.crowd.join(name, gm.take_group(payloads))
                    assert name not in self.out, f"{name} was removed, and has keys"
                elif name in former:  # refused: what it has it keeps, and must not follow
                    self.crowd.gms[name] = former[name]

    def look(self):
        def looked(one):
            outs, _ = one.replica.step(self.site.now)
            self.site.send(outs, one)

        self.by(self.one(), looked)

    def rekey(self):
        def rekeyed(one):
            self.site.send(one.server.rekey("line1", self.site.now), one)

        self.by(self.one(holds=True), rekeyed)

    def reload(self):
        text = self.text + self.chance.choice(MORE)

        def reloaded(one):
            self.site.send(one.replica.take(self.site.now), one)
            one.reload(text)

        self.by(self.one(), reloaded)

    def remove(self):
        if len(self.out) > 3 or self.busy:
            return
        name = self.chance.choice(NAMES)

        def removed(one):
            self.site.send(one.replica.take(self.site.now), one)
            self.site.send(one.server.remove_member(name, self.site.now), one)
            return one.group.epoch.number

        number = self.by(self.one(), removed)
        if number is not None:
            self.out[name] = number
            self.crowd.check()

    def leave(self):
        name = self.chance.choice(NAMES)
        gm = self.crowd.gms.get(name)

        def left(one):
            if gm is not None and one.server._responder.open_sa(name):
                self.crowd.gms.pop(name)
                one.talk(gm.leave(), name)

        self.by(self.one(), left)

    def take(self):
        def taken(one):
            self.site.send(one.replica.take(self.site.now), one)

        self.by(self.one(), taken)

    def resign(self):
        def resigned(one):
            self.site.send(one.replica.resign(self.site.now), one)
            one.kill()

        if len(self.site.living) > 1 and not self.busy:
            self.by(self.one(holds=True), resigned)

    def kill(self):
        if len(self.site.living) > 1 and not self.busy:
            self.one().kill()

    def stop(self):
        if len(self.site.living) > 1 and not self.busy:
            self.one().is_stopped = True

    def go_on(self):
        for one in self.site.all.values():
            if one.is_stopped and not one.is_dead:
                one.is_stopped = False
                return

    def restart(self):
        for name, one in self.site.all.items():
            if one.is_dead and not self.busy:
                try:
                    self.site.restart(name)
                except Problem:
                    pass
                return

    def keep(self):
        """A copy of the store."""
        copy(self.site.path, self.older)

    def put_back(self):
        """All die, and are started anew over a copy that was made before."""
        if not self.older.exists():
            return
        for one in self.site.all.values():
            if not one.is_dead:
                one.kill()
        copy(self.older, self.site.path)
        self.crowd.went_back()
        calm, self.is_calm = self.is_calm, True
        for name in self.site.all:
            self.site.restart(name)
        authority = self.site.settle().server.authority
        self.out = {n: e for n, e in self.out.items() if authority.find(n).removed}
        self.is_calm = calm

    # What must hold

    def check(self):
        numbers = {keys[0]: number for number, keys in self.crowd.epochs.items()}
        for name, number in self.out.items():
            gm = self.crowd.gms.get(name)
            if gm is not None and gm.tek is not None:
                known = numbers.get(gm.tek[1])
                assert known is None or known < number, f"{name} was removed, and follows"


def rows_of(tree):
    """All that is stored of it, and the leaves that are free. None of none."""
    if tree is None:
        return None
    pages = [
        f"tree/{level}/{page}"
        for level, size in enumerate(tree.sizes)
        for page in range(page_count(size))
    ]
    return {tail: tree.row(tail) for tail in ("tree", *pages)}, list(tree._free)


def main(first=0, last=None):
    seed = int(first)
    while last is None or seed <= int(last):
        with tempfile.TemporaryDirectory() as folder:
            print("seed", seed, flush=True)
            Story(Path(folder) / "state.db", seed, goes_back=seed % 3 == 2).run()
        seed += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
