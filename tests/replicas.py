"""Several key servers over one store, on one virtual clock, and members that talk to any of them.

Each has its own connection to the file, its own memory and its own air: what it sends. A stopped
one is not called; what it would have heard is lost.
"""

import random
import sqlite3
from contextlib import suppress

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from covey_host.errors import Problem
from covey_host.gcks import authority, policy, sharedserver, sitepolicy
from covey_host.gcks.replica import Replica
from covey_host.store import sqlite
from foreign_gm import GSA_AUTH, ForeignGM
from gcks_site import KEY, LINE1, SITE, Machine

STEP_MS = 10
LEAP_MS = 300


class One:
    """A key server. wrap: of its store. Its clock can stand still."""

    def __init__(self, site, name, wrap=lambda store: store):
        self.site, self.name = site, name
        self.is_stopped = self.is_dead = False
        self.boot = Machine(site, f"boot of {name}")
        self.store = wrap(sqlite.open_existing(site.path))
        self.random = random.Random(f"{site.seed} {name} {site.now}").randbytes
        self.server = sharedserver.SharedKeyServer(
            self.store,
            site.policy,
            replica=name,
            random=self.random,
            time=lambda: 1_700_000_000 + site.now / 1000,
            boot=self.boot,
            now=lambda: self.now,
        )
        self.text = site.text  # of the policy that it knows
        self.server.on_policy = self._adopted
        self.replica = Replica(self.store, self.server, dict, self.random)
        try:
            self.replica.start(self.now)
        except Problem:
            self.store.close()
            raise

    @property
    def now(self):
        return self.site.now - self.boot.stood_ms

    def stand_still(self, ms):
        """The whole machine, while the others go on."""
        self.is_stopped = True
        self.site.leap(ms)
        self.boot.stood_ms += ms
        self.is_stopped = False

    @property
    def is_holder(self):
        return self.server.is_holder

    @property
    def group(self):
        return self.server._groups["line1"]

    def step(self):
        outs, _ = self.replica.step(self.now)
        self.site.send(outs, self)
        with suppress(Problem):  # told, and tried again
            outs, _ = self.server.step(self.now)
            self.site.send(outs, self)
        if self.is_holder and self.server.unfinished and not self.replica.trouble:
            with suppress(Problem):
                self.site.send(self.server.reload(self.server.unfinished, self.now), self)

    def reload(self, text):
        """As `covey reload` does, on the holder."""
        sitepolicy.write(self.server.ledger, text)
        self.text = text
        self.site.send(self.server.reload(policy.parse(text), self.now), self)

    def _adopted(self, value):
        text = value.decode()
        if text == self.text:
            return None
        self.text = text
        return policy.parse(text)

    def talk(self, data, address):
        """What it answers at once, if anything."""
        if self.is_stopped or self.is_dead:
            return None
        outs = self.server.receive(data, address, self.now)
        mine = [out for out in outs if out.address == address]
        self.site.send([out for out in outs if out not in mine[:1]], self)
        return mine[0].data if mine else None

    def at_once(self, messages):
        """{address: message} → {address: answer}"""
        outs = []
        with self.server.together(self.now) as late:
            for address, data in messages.items():
                outs += self.server.receive(data, address, self.now)
        outs += late
        self.site.send([out for out in outs if out.address is None], self)
        return {out.address: out.data for out in outs if out.address is not None}

    def kill(self):
        self.is_dead = True
        self.store.close()


class Replicas:
    """air: [Out] to groups, with who sent each; unasked: to members. kwa: the key wrap that these
    ask for."""

    def __init__(
        self, path, names="abc", text=SITE + LINE1, seed=1, wrap=lambda store: store, kwa=1
    ):
        self.path, self.text, self.seed, self.kwa = path, text, seed, kwa
        self.now = 1_000_000
        self.air, self.aired_ms, self.unasked = [], [], []
        self.policy = policy.parse(text)
        made = sqlite.create(path)
        authority.make_signing_key(made)
        made.close()
        self.wrap = wrap
        self.all = {name: One(self, name, wrap) for name in names}

    def __getitem__(self, name):
        return self.all[name]

    @property
    def living(self):
        return [one for one in self.all.values() if not one.is_dead and not one.is_stopped]

    @property
    def holder(self):
        (found,) = [one for one in self.living if one.is_holder]
        return found

    @property
    def followers(self):
        return [one for one in self.living if not one.is_holder]

    def restart(self, name):
        self.all[name] = One(self, name, self.wrap)
        return self.all[name]

    def send(self, outs, one):
        for out in outs:
            (self.air if out.address is None else self.unasked).append((one.name, out))
            self.aired_ms += [self.now] if out.address is None else []

    def wait(self, ms):
        end = self.now + ms
        while self.now < end:
            self.now += STEP_MS
            for one in self.living:
                one.step()

    def leap(self, ms):
        """The same, without looking much."""
        self.now += ms - LEAP_MS
        self.wait(LEAP_MS)

    def settle(self):
        """Until one has held for 300 ms, and all others followed it: who has just gone on may not
        have heard yet that it holds no more."""
        steps = 0
        for _ in range(800):
            self.wait(STEP_MS)
            is_settled = sum(one.is_holder for one in self.living) == 1
            is_settled &= all(one.server.is_ready for one in self.living)
            steps = steps + 1 if is_settled else 0
            if steps > 300 // STEP_MS:
                break
        return self.holder

    def add(self, *names, sender=True):
        for name in names:
            self.holder.server.add_member(name, ["line1"], sender=sender, psk=KEY)

    def begun(self, name, one, wants=1, **more):
        """A member behind IKE_SA_INIT → it, and its GSA_AUTH."""
        self.unasked = [(by, out) for by, out in self.unasked if out.address != name]
        gm = ForeignGM(name.encode(), KEY, wants=wants, kwa=self.kwa, **more)
        gm.take_sa_init(one.talk(gm.sa_init(), name))
        return gm, gm.gsa_auth()

    def begun_or_not(self, name, one):
        """begun(), or twice None where nobody answers."""
        gm = ForeignGM(name.encode(), KEY, wants=1, kwa=self.kwa)
        answer = one.talk(gm.sa_init(), name)
        if answer is None:
            return None, None
        gm.take_sa_init(answer)
        return gm, gm.gsa_auth()

    def come(self, name, one, wants=1, ms=15_000, **more):
        """A member registers there; it may have to wait. AssertionError where it isn't."""
        gm, auth = self.begun(name, one, wants, **more)
        answer = one.talk(auth, name) or self.answered(one, name, ms)
        assert answer, f"{name} has no answer of {one.name}"
        return take(gm, answer)

    def answered(self, one, address, ms=15_000):
        end = self.now + ms
        while self.now < end:
            for at, (name, out) in enumerate(self.unasked):
                if (name, out.address) == (one.name, address) and out.data[18] == GSA_AUTH:
                    del self.unasked[at]
                    return out.data
            self.wait(STEP_MS)
        return None


class Crowd:
    """Members that hear what any key server sends to the group, and what must hold of all of it:
    no (key, nonce) twice, one line of epochs, no Message ID twice; with fresh_join, nobody has
    sent under a TEK that a newcomer is given."""

    def __init__(self, site):
        self.site = site
        self.gms = {}  # name → the last one of that name that registered
        self.heard = {}  # name → what it made of each message
        self._at = 0
        self._ivs = {}  # (Rekey SA, IV) → the datagram
        self._ids = {}  # (Rekey SA, Message ID) → the datagram
        self._holders = {}  # (TEK, Sender-ID) → one registration's
        self.epochs = {}  # number → TEK, Rekey SA
        self._has_gone_back = False
        self._sends = {}  # TEK → when each that has it sends under it, at the earliest

    def join(self, name, gm):
        self.gms[name] = gm
        if self.site.policy.groups["line1"].fresh_join:
            first = min(self._sends.get(gm.tek, ()), default=self.site.now)
            assert self.site.now <= first, "a newcomer has a TEK that is in use"
        self._gets(gm, self.site.now)
        self.check()
        return gm

    def went_back(self):
        """The store is an older copy: what was said since then may be said otherwise."""
        self.epochs, self._ids = {}, {}
        self._has_gone_back = True

    def _gets(self, gm, now_ms):
        atd_ms = gm.policy.wide.get(1, 0) * 900  # a clock may be a tenth too fast
        self._sends.setdefault(gm.tek, []).append(now_ms + atd_ms)

    def come(self, name, one, **more):
        return self.join(name, self.site.come(name, one, **more))

    def hear(self, deaf=()):
        at, self._at = self._at, len(self.site.air)
        for (_, out), now_ms in zip(self.site.air[at:], self.site.aired_ms[at:], strict=True):
            data = out.data
            spi = data[:16]
            assert self._ivs.setdefault((spi, data[32:40]), data) == data, "an IV twice"
            assert self._ids.setdefault((spi, data[20:24]), data) == data, "a Message ID twice"
            for name, gm in list(self.gms.items()):
                if name not in deaf:
                    try:
                        said = gm.rekey(data)
                    except InvalidUnwrap:  # Key IDs of the tree came again, with other keys
                        assert self._has_gone_back
                        said = self.gms.pop(name) and "lost"
                    self.heard.setdefault(name, []).append(said)
                    if said == "rekeyed":
                        self._gets(gm, now_ms)
        self.check()

    def check(self):
        for one in self.site.all.values():
            group = one.server._groups.get("line1")
            if group is not None and group.epoch is not None:
                epoch = group.epoch
                keys = epoch.tek_keymat, epoch.rekey.keymat
                known = self.epochs.setdefault(epoch.number, keys)
                assert known == keys, f"two epochs of the number {epoch.number}"
        for gm in self.gms.values():
            for sender_id in gm.sender_ids if gm.tek else ():
                holder = self._holders.setdefault((gm.tek, sender_id), gm.sender_ids)
                assert holder is gm.sender_ids, f"Sender-ID {sender_id} twice under one key"

    def current(self):
        """Who has the newest keys."""
        epoch = self.site.holder.group.epoch
        return {n for n, gm in self.gms.items() if gm.tek == (epoch.tek_spi, epoch.tek_keymat)}


def take(gm, answer):
    return gm.take_group(gm.check_identity(gm.open(answer, GSA_AUTH)))


def lead_of(store):
    """Who leads, as that store says."""
    return store.changed("of nothing/", 0).lead


def copy(path, to):
    """The store as it is now, in another file."""
    to.unlink(missing_ok=True)
    source, made = sqlite3.connect(path), sqlite3.connect(to)
    source.backup(made)
    made.close()
    source.close()
    to.chmod(0o600)
