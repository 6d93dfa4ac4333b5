"""`kill -9` and a full disk at each write of a key server, as members come and go.

The store is the real one; members are another implementation (foreign_gm.py). Whatever happens,
what was reported stays done, nobody else is lost for longer than a rekey, and Message IDs and
epochs only go forward. test_group.py has groups without a key tree and restored backups,
test_inband.py those whose rekeys come over IKE SAs, test_store.py the store itself.
"""

import shutil

import pytest

from covey_host.errors import Problem
from covey_host.gcks import moves
from foreign_gm import GSA_AUTH, REGISTRATION_FAILED, ForeignGM, notification
from gcks_site import KEY, PLAIN, SITE, CutStore, Flock, FullOnce, Killed, Site

NAMES = [f"m{number}" for number in range(6)]
NEW = ["n0", "n1", "n2"]
FORM = "sender_id_form = [4, 8]\n"
PLAINLY = SITE + PLAIN + "fresh_join = false\n" + FORM
STRICT = SITE + PLAIN + "backward_secrecy = true\n" + FORM  # and fresh_join

BREAKS = {
    "killed before": lambda store, at: CutStore(store, at, after=False),
    "killed behind": lambda store, at: CutStore(store, at, after=True),
    "full": lambda store, at: FullOnce(store, at, lies=False),
    "full, and written": lambda store, at: FullOnce(store, at, lies=True),
}


class Story:
    """What happens to a site, with one break; each step is done again until it is through."""

    def __init__(self, path, text, wrap):
        self.path, self.text = path, text
        self.flock = Flock(is_one_store=True)
        self.inside = set()  # who has registered, and was not removed
        self.reported = {}  # who was removed: the first epoch that it must know nothing of
        self.used = set()  # TEKs under which somebody may have sent
        try:
            self.site = Site(path, text, wrap)
        except (Killed, Problem):
            self.site = Site(path, text, now=2_000_000)

    def do(self, step):
        for _ in range(4):
            try:
                is_through = step(self.site)
            except Killed:
                self.hear()
                self.site.store.close()
                later = self.site.now + 1_000
                self.site = self.flock.follow(Site(self.path, self.text, now=later))
                is_through = False
            except Problem as problem:
                assert "disk is full" in problem.sentence
                is_through = False
            self.hear()
            if is_through is not False:
                return
            self.site.wait(1_000)
        raise AssertionError("it never gets through")

    def hear(self):
        self.flock.hear(self.site)
        teks = self.flock.epochs
        for gm in self.flock.gms:
            first = self.reported.get(gm.name.decode())
            if first is not None and gm.tek is not None:
                assert gm.tek[1] not in [tek for number, tek in teks.items() if number >= first]

    def coming(self, *names):
        def step(site):
            asked = []
            for name in names:
                if name not in self.inside:
                    gm = ForeignGM(name.encode(), KEY, wants=1)
                    asked.append((name, gm, site.begin(gm, name)[1]))
            if not any(answer for *_, answer in asked):
                self.used.add(self.epoch.tek_keymat)
            return all([self._take(site, *one) for one in asked])

        return step

    def _take(self, site, name, gm, answer):
        answer = answer or site.answered(gm, name, ms=28_000)  # a member gives up after 30 s
        found = gm.check_identity(gm.open(answer, GSA_AUTH))
        if found == [notification(REGISTRATION_FAILED)]:
            return False
        gm.take_group(found)
        assert self.text != STRICT or gm.tek[1] not in self.used
        self.flock.join(gm)
        self.inside.add(name)
        return True

    def removing(self, *names):
        def step(site):
            try:
                site.send(site.server.remove_members(list(names), site.now))
            except Problem as problem:
                if "already" not in problem.sentence:
                    raise
            self.inside -= set(names)
            self.reported |= dict.fromkeys(names, self.epoch.number)

        return step

    @property
    def epoch(self):
        return self.site.server._groups["line1"].epoch

    def check(self):
        self.site.wait(60_000)
        self.hear()
        now = self.epoch.tek_spi, self.epoch.tek_keymat
        assert {gm.name.decode() for gm in self.flock.gms if gm.tek == now} == self.inside
        self.site.store.close()


def wait(ms):
    return lambda site: site.wait(ms)


def one_after_the_other(story):
    yield from [story.coming(name) for name in NAMES]
    yield from [wait(20_000), story.removing("m1"), wait(700), story.removing("m2"), wait(300)]
    yield from [story.coming("m3"), wait(9_000), story.removing("m4"), wait(9_000)]


def many_at_once(story):
    yield from [story.coming(*NAMES), wait(20_000), story.coming("n0", "n1"), wait(300)]
    yield from [story.removing("m1", "m4"), wait(250), story.removing("m5"), wait(20_000)]
    yield from [story.coming("n2"), wait(15_000)]


def broken(tmp_path, text, steps, how, at):
    """The whole story, broken at a write → whether it came to that."""
    path = tmp_path / f"{at}.db"
    shutil.copy(tmp_path / "template.db", path)
    stores = []

    def wrap(store):
        stores.append(BREAKS[how](store, at))
        return stores[-1]

    story = Story(path, text, wrap)
    for step in steps(story):
        story.do(step)
    was_broken = stores[0].disarm()
    story.check()
    path.unlink()
    return was_broken


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(
    ("text", "steps"), [(PLAINLY, one_after_the_other), (STRICT, many_at_once)]
)
def test_at_each_write(tmp_path, monkeypatch, text, steps, how):
    if steps is many_at_once:  # in portions, with newcomers in them
        monkeypatch.setattr(moves, "_FEW_ROUNDS", 0)
        monkeypatch.setattr(moves, "_portion_room", lambda *_: 170)
    template = Site(tmp_path / "template.db", text)
    for name in [*NAMES, *NEW]:
        template.add(name)
    template.store.close()
    at = 1
    while broken(tmp_path, text, steps, how, at):
        at += 1
    assert at > 10
