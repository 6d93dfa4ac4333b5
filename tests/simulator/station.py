"""The key server of the plant: the real one over a real store, its clock and its life."""

from covey_host.gcks import authority, keyserver, policy
from covey_host.store import sqlite

from .clock import Alarm

HOST = "192.0.2.1"
_BASE_MS = 10_000_000  # what its own clock shows when the world begins


class Station:
    """path: of its store. text: its covey.toml, with one group."""

    def __init__(self, clock, air, chance, path, text):
        made = sqlite.create(path)
        authority.make_signing_key(made)
        made.close()
        self.path = path
        self.policy = policy.parse(text)
        (self.group_policy,) = self.policy.groups.values()
        self.machines = []  # by place
        self.is_up = False
        self.sent_hook = None  # called with each message to the group that has left
        self.event_hook = None  # called with the name and facts of each event
        self.epochs = 0  # new ones that were seen
        self.epoch_of = {}  # TEK → number of its epoch
        self._clock = clock
        self._air = air
        self._chance = chance
        self._alarm = Alarm(clock, self._step)
        self._lag_ms = 0  # how far its clock is behind since its last start
        self._seen = None
        air.station = self
        self.start()

    @property
    def now_ms(self):
        return _BASE_MS + self._clock.now_ms - self._lag_ms

    @property
    def group(self):
        return self.server._groups[self.group_policy.name]

    @property
    def epoch(self):
        return self.group.epoch

    def start(self):
        """A new process on the same store; its clock may have been set back."""
        self._lag_ms += self._chance.randrange(1000)
        self._store = sqlite.open_existing(self.path)
        self.server = keyserver.KeyServer(self._store, self.policy, random=self._chance.randbytes)
        self.is_up = True
        self.say(self.server.start(self.now_ms))

    def kill(self):
        """As by kill -9: what was in memory is gone."""
        self._store.close()
        self._alarm.clear()
        self.is_up = False

    def receive(self, data, address, host):
        if self.is_up:
            self.say(self.server.receive(data, address, self.now_ms))

    def rekey(self):
        self.say(self.server.rekey(self.group_policy.name, self.now_ms))

    def add(self, name, is_sender, psk):
        self.server.add_member(name, [self.group_policy.name], sender=is_sender, psk=psk)

    def remove(self, name):
        """→ the group's epoch from which on it is out, and the datagrams that say so."""
        before = {m for parcel in self._outbox() for m in parcel}
        outs = self.server.remove_member(name, self.now_ms)
        said = [m for parcel in self._outbox() for m in parcel if m not in before]
        last = set(self._outbox()[-1]) if said else set()
        return self.epoch.number, last, outs

    def say(self, outs):
        """Send what the server has handed back, and call it again when it wants to be."""
        for out in outs:
            if out.address is None:
                marker = bytes(4) if out.marker else b""
                self._air.to_group(marker + out.data, None, None)
                if self.sent_hook:
                    self.sent_hook(out.data)
            else:
                place, life = out.address
                self._air.to_machine(self.machines[place], life, out.data, HOST)
        self._tell()
        self._alarm.set(self._clock.now_ms)

    def _step(self):
        outs, wait_ms = self.server.step(self.now_ms)
        if outs:
            self.say(outs)
        self._tell()
        self._alarm.set(self._clock.now_ms + max(1, wait_ms))

    def _tell(self):
        if self.epoch.number != self._seen:
            self.epochs += self._seen is not None
            self._seen = self.epoch.number
            self.epoch_of[self.epoch.tek_keymat] = self.epoch.number
        events = self.server.events
        while events:
            name, facts = events.pop(0)
            if self.event_hook:
                self.event_hook(name, facts)

    def _outbox(self):
        return [parcel.messages for parcel in self.group._repeats.outbox]
