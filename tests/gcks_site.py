"""A key server on a virtual clock with a real store, and members that talk to it, for tests."""

import sqlite3

from covey_host.errors import Problem
from covey_host.gcks import authority, keyserver, policy
from covey_host.store import sqlite
from foreign_gm import GSA_AUTH, ForeignGM

SITE = 'identity = "gcks.example"\n'
PLAIN = '[group.line1]\naddress = "239.192.1.32"\nport = 2222\n'
LINE1 = PLAIN + "fresh_join = false\n"
KEY = b"k" * 32


class Machine:
    """On which a key server runs, by the site's clock. name: None where nobody knows its boot."""

    def __init__(self, site, name):
        self.site, self.name = site, name
        self.stood_ms = 0  # for which it was paused

    def id(self):
        return self.name

    def now_ms(self):
        return self.site.now + 77 - self.stood_ms

    def day_ms(self):
        return self.site.now


class Site:
    """now is in ms; air is what went to groups: [Out]; boot: of its machine."""

    def __init__(
        self, path, text=SITE + LINE1, wrap=lambda store: store, now=1_000_000, boot="boot-1"
    ):
        self.path, self.text, self.boot = path, text, boot
        if not path.exists():
            made = sqlite.create(path)
            authority.make_signing_key(made)
            made.close()
        self.store = wrap(sqlite.open_existing(path))
        self.now = now
        self.air = []
        self.unasked = []  # messages to members that answer nothing
        self.policy = policy.parse(text)
        self.server = self.make(boot=Machine(self, boot))
        self.send(self.server.start(self.now))

    def make(self, **how):
        return keyserver.KeyServer(self.store, self.policy, **how)

    def restart(self, text=None, wrap=lambda store: store, later_ms=1000, boot=None):
        """The same store in a new process; whatever was in memory is gone. boot: another one."""
        self.store.close()
        made = Site.__new__(Site)
        made.__init__(self.path, text or self.text, wrap, self.now + later_ms, boot or self.boot)
        return made

    def send(self, outs):
        self.air += [out for out in outs if out.address is None]
        self.unasked += [out for out in outs if out.address is not None]

    def add(self, name="press-7", groups=("line1",), sender=True):
        self.server.add_member(name, list(groups), sender=sender, psk=KEY)

    def talk(self, data, address="a"):
        """The answer to a message, or None."""
        outs = self.server.receive(data, address, self.now)
        answers = [o for o in outs if o.address == address and o.data[16:24] != b""]
        first = answers[0] if answers and outs[0] is answers[0] else None
        self.send([o for o in outs if o is not first])
        return None if first is None else first.data

    def wait(self, ms):
        """Let time pass, with a step whenever the server asks for one."""
        end = self.now + ms
        while True:
            outs, wait_ms = self.server.step(self.now)
            self.send(outs)
            assert wait_ms >= 0
            if self.now + wait_ms > end:
                break
            self.now += max(1, wait_ms)
        self.now = end

    def connect(self, gm, address="a", **offer):
        """IKE_SA_INIT."""
        gm.take_sa_init(self.talk(gm.sa_init(**offer), address))
        return gm

    def register(self, gm, address="a", **group):
        """From nothing to a member; for refusals use connect() and ask()."""
        self.connect(gm, address)
        return gm.take_group(self.ask(gm, address, **group))

    def ask(self, gm, address="a", **group):
        """GSA_AUTH → what comes after IDr and AUTH."""
        answer = self.talk(gm.gsa_auth(**group), address)
        return gm.check_identity(gm.open(answer, GSA_AUTH))

    def gm(self, name="press-7", wants=None, **more):
        """A member, registered."""
        return self.register(ForeignGM(name.encode(), KEY, wants=wants, **more), name)

    def begin(self, gm, address, **group):
        """register() of who may have to wait: its request, and its answer or None."""
        self.connect(gm, address)
        data = gm.gsa_auth(**group)
        return data, self.talk(data, address)

    def answered(self, gm, address, ms=15_000):
        """Time passes until there is an answer, or `ms` → that, or None."""
        end = self.now + ms
        while self.now < end:
            for out in self.unasked:
                if out.address == address and out.data[18] == GSA_AUTH:
                    self.unasked.remove(out)
                    return out.data
            self.wait(50)
        return None

    def come(self, name, wants=None, **more):
        """gm() of who may have to wait."""
        gm = ForeignGM(name.encode(), KEY, wants=wants, **more)
        answer = self.begin(gm, name)[1] or self.answered(gm, name)
        return take(gm, answer)

    def revision(self):
        """Goes up with each write."""
        return self.store._db.execute("SELECT revision FROM store").fetchone()[0]


def take(gm, answer):
    """The answer to GSA_AUTH."""
    return gm.take_group(gm.check_identity(gm.open(answer, GSA_AUTH)))


class Flock:
    """Members that hear what goes to their group, and the check that no nonce can occur twice.

    is_one_store: the store is never put back, so that nothing of the past comes again.
    """

    def __init__(self, is_one_store=False):
        self.gms = []
        self._heard = 0
        self._holders = {}
        self._ivs = {}  # (Rekey SA, IV) → the datagram
        self._said = {} if is_one_store else None  # Rekey SA → what was said over it, by its ID
        self.epochs = {}  # number → TEK

    def join(self, gm):
        """Also beside another one of the same name: that one may be alive and follow rekeys."""
        self.gms.append(gm)
        self.check()
        return gm

    def hear(self, site, deaf=()):
        """Deliver what was sent since the last call, to all but those whose places are deaf."""
        outs, self._heard = site.air[self._heard :], len(site.air)
        self.watch(site, outs)
        for out in outs:
            for place, gm in enumerate(self.gms):
                if place not in deaf:
                    gm.rekey(out.data)
            self.check()

    def watch(self, site, outs):
        """Of rekeys: no IV twice under a key; Message IDs and epochs only go forward."""
        for out in outs:
            spi, message_id = out.data[:16], int.from_bytes(out.data[20:24])
            assert self._ivs.setdefault((spi, out.data[32:40]), out.data) == out.data
            if self._said is not None:
                said = self._said.setdefault(spi, {})
                assert message_id in said or message_id > max(said, default=-1)
                assert said.setdefault(message_id, out.data) == out.data
        epoch = site.server._groups["line1"].epoch
        if self._said is not None:
            assert epoch.number >= max(self.epochs, default=0)
            assert self.epochs.setdefault(epoch.number, epoch.tek_keymat) == epoch.tek_keymat

    def follow(self, site):
        """After a restart or on another server: its air begins anew."""
        self._heard = 0
        return site

    def forget_former(self):
        """DTD is over."""
        for gm in self.gms:
            gm.former = {}

    def check(self):
        """Every (TEK, Sender-ID) that can be used belongs to one registration, ever."""
        for gm in self.gms:
            for sender_id in gm.sender_ids if gm.tek else ():
                holder = self._holders.setdefault((gm.tek[1], sender_id), gm.sender_ids)
                assert holder is gm.sender_ids, f"Sender-ID {sender_id} twice under one key"


class FullDisk:
    """Writes fail while `full`; with `lies` they happen all the same (the outcome is unknown)."""

    def __init__(self, store):
        self._store, self.full, self.lies = store, False, False

    def __getattr__(self, name):
        return getattr(self._store, name)

    def compare_and_swap(self, changes, term):
        if self.full:
            if self.lies:
                self._store.compare_and_swap(changes, term)
            raise Problem("The disk is full: make room.")
        return self._store.compare_and_swap(changes, term)


class FullOnce(FullDisk):
    """One write fails; with `lies` it happens all the same."""

    def __init__(self, store, at, lies):
        super().__init__(store)
        self._left, self.lies = at, lies

    def compare_and_swap(self, changes, term):
        self._left -= 1
        self.full = self._left == 0
        return super().compare_and_swap(changes, term)

    def disarm(self):
        """No failure from now on → whether there was one."""
        left, self._left = self._left, 1 << 60
        return left <= 0


class Killed(BaseException):
    """kill -9, at a write: nothing of the process is left."""


_ASIDE = ("history/", "contact/")  # what is written beside the work: see gcks/diary.py


class CutStore:
    """Dies at one call of the store, before it or after it has happened. aside: also at those for
    what is written beside the work."""

    def __init__(self, store, at, after, aside=False):
        self._store, self._left, self._after = store, at, after
        self._spared = () if aside else _ASIDE

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name not in ("compare_and_swap", "reserve", "acquire_term"):
            return method

        def call(*args):
            keys = [change[0] for change in args[0]] if name == "compare_and_swap" else args[:1]
            if self._spared and keys and all(str(key).startswith(self._spared) for key in keys):
                return method(*args)
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            result = method(*args)
            if self._left == 0:
                raise Killed
            return result

        return call

    def disarm(self):
        """No cut from now on → whether there was one."""
        left, self._left = self._left, 1 << 60
        return left <= 0


def backup(site, path):
    """A copy of the store, as one makes it beside a running key server."""
    path.unlink(missing_ok=True)
    copy = sqlite3.connect(path)
    site.store._db.backup(copy)
    copy.close()
    path.chmod(0o600)
