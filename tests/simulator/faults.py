"""Hours of bad luck for key servers over one store, by chance: the same for the same seed.

Processes are killed, stop and go on, are cut off from the store; answers of the store get lost;
members come, reboot, and are removed meanwhile. Then all is well again, and everything that was
done is judged: see covey_host/cluster/checks.py.
"""

from dataclasses import dataclass

from covey_host.cluster import checks

from .air import Weather
from .plant import Setting
from .replicas import SharedPlant

_WEATHER = Weather(delay_ms=(1, 40))
_QUIET_MS = 40_000
_RECENT_MS = 5000


@dataclass(frozen=True)
class Luck:
    """What happens, on average, in a second."""

    seconds: int = 90
    members: int = 12
    senders: int = 4
    kills: float = 0.08
    stops: float = 0.1
    cuts: float = 0.1
    rekeys: float = 0.12
    evictions: float = 0.08
    reboots: float = 0.12
    packets: float = 3
    doubt: float = 0.02  # chance of each write of a server
    dwell: float = 0.01
    longest_ms: int = 6000  # of a fault


STILL = Luck(doubt=0.05, dwell=0.15, kills=0.2)  # processes stand still in the middle of a write
_KINDS = (
    {},
    {"more": "fresh_join = true\n"},
    {"more": "fresh_join = false\nbackward_secrecy = true\n"},
    {"key_tree": 0},
    {"luck": Luck(doubt=0.15, dwell=0.05)},
    {"luck": STILL},
    {"luck": Luck(doubt=0.3, dwell=0, cuts=0.3)},
    {
        "luck": Luck(members=20, senders=10, reboots=1, evictions=0.15),
        "more": "fresh_join = true\n",
    },
)


def kind(seed):
    """What endure() takes: another group, other luck, in turns."""
    return _KINDS[seed % len(_KINDS)]


class Faults:
    def __init__(self, plant, luck):
        self.plant = plant
        self.luck = luck
        self.done = dict.fromkeys(("kills", "stops", "cuts", "rekeys", "evictions", "reboots"), 0)
        self._chance = plant.chance

    def run(self):
        plant = self.plant
        plant.wait(4000)
        for machine in plant.machines:
            plant.install(machine, machine.place < self.luck.senders)
            plant.clock.after(self._chance.randrange(3000), plant.switch_on, machine)
        plant.wait(6000)
        self._set(self.luck.doubt, self.luck.dwell)
        for _ in range(self.luck.seconds):
            for name in (*self.done, "packets"):
                for _ in range(self._how_many(getattr(self.luck, name))):
                    plant.clock.after(self._chance.randrange(1000), getattr(self, "_" + name))
            plant.wait(1000)
        self._heal()
        plant.wait(_QUIET_MS)
        newest = None
        while newest != plant.station.epoch.number:  # so that nobody is amid a rekey
            newest = plant.station.epoch.number
            plant.wait(_RECENT_MS)
        self._judge()

    def _judge(self):
        plant, checker = self.plant, self.plant.checker
        for verdict in checks.all_of(plant.history):
            if not verdict.ok:
                checker.fail(verdict.name, verdict.detail)
        if len(plant.station.holders) != 1:
            checker.fail("one holder", f"{len(plant.station.holders)} hold")
        for what in plant.station.lost:
            checker.fail("nothing ends by itself", what)
        if plant._pending:
            checker.fail("evicted", f"{plant._pending} is not done")
        checker.agree()
        checker.trace(sorted(checker.counts.items()))
        checker.close()

    def _set(self, doubt, dwell):
        self._rates = doubt, dwell
        for process in self.plant.station.processes.values():
            process.store.doubt, process.store.dwell = doubt, dwell

    def _heal(self):
        self._set(0, 0)
        for host, process in self.plant.station.processes.items():
            process.store.is_cut = False
            self.plant.station.restart(host)
        self.plant.outage_ms = self.plant.clock.now_ms

    # What may happen

    def _kills(self):
        process = self._any(lambda p: p.is_up)
        if process is not None:
            self.done["kills"] += 1
            process.kill()
            self._later(self._start, process.host)

    def _start(self, host):
        self.plant.station.restart(host)
        self._set(*self._rates)

    def _stops(self):
        process = self._any(lambda p: p.is_there)
        if process is not None:
            self.done["stops"] += 1
            process.stop()
            self._later(process.go_on)

    def _cuts(self):
        process = self._any(lambda p: p.is_up and not p.store.is_cut)
        if process is not None:
            self.done["cuts"] += 1
            process.store.is_cut = True
            self._later(setattr, process.store, "is_cut", False)

    def _rekeys(self):
        self.done["rekeys"] += 1
        self.plant.rekey()

    def _evictions(self):
        wanted = [m for m in self.plant.machines if m.is_wanted]
        if len(wanted) > self.luck.members // 2:
            self.done["evictions"] += 1
            self.plant.evict(self._chance.choice(wanted))

    def _reboots(self):
        wanted = [m for m in self.plant.machines if m.is_wanted and m.is_on]
        if wanted:
            self.done["reboots"] += 1
            self.plant.reboot(self._chance.choice(wanted))

    def _packets(self):
        senders = [m for m in self.plant.machines if m.is_sender and m.is_member]
        if senders:
            self._chance.choice(senders).send()

    # Chance

    def _any(self, is_fit):
        fit = [process for process in self.plant.station.processes.values() if is_fit(process)]
        return self._chance.choice(fit) if fit else None

    def _later(self, call, *args):
        self.plant.clock.after(self._chance.randrange(100, self.luck.longest_ms), call, *args)

    def _how_many(self, rate):
        whole = int(rate)
        return whole + (self._chance.random() < rate - whole)


def endure(seed, luck=None, more="fresh_join = false\n", key_tree=4):
    """One run → (SharedPlant, Faults) after it. Broken where something does not hold."""
    luck = luck or Luck()
    setting = Setting(members=luck.members, key_tree=key_tree, more=more, repeat_spacing_ms=300)
    with SharedPlant(seed, setting, _WEATHER) as plant:
        faults = Faults(plant, luck)
        faults.run()
        return plant, faults
