"""What happens in a plant over hours, by chance: the same for the same seed."""

from dataclasses import dataclass

from .air import Weather
from .plant import Plant, Setting

ROUGH = Weather(data_loss=0.15, rekey_loss=0.15, unicast_loss=0.05, twice=0.05, delay_ms=(1, 60))
_AGAIN = 3  # datagrams of a replay


@dataclass(frozen=True)
class Plot:
    """How much happens. Rates are a round's."""

    rekeys: int = 200
    round_ms: int = 3500
    senders: int = 12
    present: float = 0.75  # of the members, at the beginning
    packets: int = 5
    joins: float = 1.2
    leaves: float = 0.6
    reboots: float = 0.5
    evictions: float = 0.6
    cuts: float = 0.03
    restarts: float = 0.01
    replays: float = 0.5  # each of a few datagrams
    injections: float = 0.5  # each under a few keys


class Story:
    """plant: entered. Runs to its end: run()."""

    def __init__(self, plant, plot):
        self.plant = plant
        self.plot = plot
        self._chance = plant.chance
        self.done = dict.fromkeys(("joins", "leaves", "reboots", "evictions", "cuts"), 0)
        self.done["restarts"] = 0
        self.rounds = 0

    def run(self):
        self.begin()
        before = self.plant.station.epochs
        while self.plant.station.epochs < before + self.plot.rekeys:
            self.play_round()
        self.end()

    def begin(self):
        """Most machines come within the first seconds."""
        plant, plot = self.plant, self.plot
        for machine in plant.machines:
            plant.install(machine, machine.place < plot.senders)
        present = plant.machines[: int(len(plant.machines) * plot.present)]
        for machine in present:
            plant.clock.after(self._chance.randrange(15_000), plant.switch_on, machine)
        plant.wait(20_000)

    def play_round(self):
        plant, plot = self.plant, self.plot
        self.rounds += 1
        for _ in range(plot.packets):
            self._somewhen(self._send)
        for name in ("joins", "leaves", "reboots", "cuts", "restarts", "replays", "injections"):
            for _ in range(self._how_many(getattr(plot, name))):
                self._somewhen(getattr(self, "_" + name))
        evictions = self._how_many(plot.evictions)
        for _ in range(evictions):
            self._somewhen(self._evictions)
        if not evictions:
            self._somewhen(self._rekey)
        plant.wait(plot.round_ms)
        plant.checker.sweep()

    def end(self):
        """Quiet: nothing happens for a policy interval, then all must agree."""
        plant = self.plant
        if not plant.station.is_up:
            plant.start_server()
        plant.clear_up()
        plant.wait(plant.lifetime_ms + 20_000)
        plant.checker.sweep()
        plant.checker.agree()
        if plant.has_backward_secrecy:
            for machine in plant.machines:
                if machine.life == 1 and machine.admitted_ms:
                    plant.checker.look_back(machine)
        before = len(plant.checker.packets)
        for machine in plant.machines:
            if machine.is_wanted and machine.is_sender:
                machine.send()
        plant.wait(1000)
        plant.checker.all_heard(plant.checker.packets[before:])
        plant.checker.trace(sorted(plant.checker.counts.items()))
        plant.checker.close()

    # What may happen

    def _send(self):
        machine = self._one(lambda m: m.is_sender and m.is_member)
        if machine is not None:
            machine.send()

    def _rekey(self):
        if self.plant.station.is_up:
            self.plant.station.rekey()

    def _joins(self):
        machine = self._one(lambda m: not m.is_on and not m.is_wanted and m.eviction is None)
        if machine is not None:
            self._count("joins")
            self.plant.switch_on(machine)

    def _leaves(self):
        machine = self._one(lambda m: m.is_member and m.is_wanted and not m.is_sender)
        if machine is not None:
            self._count("leaves")
            self.plant.leave(machine)

    def _reboots(self):
        machine = self._one(lambda m: m.is_on and m.is_wanted)
        if machine is not None:
            self._count("reboots")
            self.plant.reboot(machine)

    def _evictions(self):
        machine = self._one(lambda m: m.is_member and m.is_wanted)
        if machine is not None and self.plant.station.is_up:
            self._count("evictions")
            self.plant.evict(machine)

    def _cuts(self):
        point = self._chance.randrange(len(self.plant.air.behind))
        self._count("cuts")
        self.plant.cut(point)
        self.plant.clock.after(self._chance.randrange(2000, 25_000), self.plant.mend, point)

    def _restarts(self):
        plant = self.plant
        if plant.station.is_up:
            self._count("restarts")
            plant.kill_server()
            plant.clock.after(self._chance.randrange(100, 3000), plant.start_server)

    def _replays(self):
        self.plant.replay(_AGAIN)

    def _injections(self):
        self.plant.inject()

    # Chance

    def _how_many(self, rate):
        """Of something that happens so often on average."""
        whole = int(rate)
        return whole + (self._chance.random() < rate - whole)

    def _somewhen(self, call):
        """Within this round."""
        self.plant.clock.after(self._chance.randrange(self.plot.round_ms), call)

    def _one(self, is_fit):
        fit = [machine for machine in self.plant.machines if is_fit(machine)]
        return self._chance.choice(fit) if fit else None

    def _count(self, name):
        self.done[name] += 1
        self.plant.checker.trace(name)


def tell(seed, members=1000, rekeys=200, setting=None, plot=None, weather=ROUGH):
    """One whole story → (Plant, Story) after it. Broken where an invariant did not hold."""
    setting = setting or Setting(members=members)
    plot = plot or Plot(rekeys=rekeys)
    if not setting.key_tree:
        plot = _rarely_evicting(plot)
    with Plant(seed, setting, weather) as plant:
        story = Story(plant, plot)
        story.run()
        return plant, story


def _rarely_evicting(plot):
    """Without a key tree everybody registers again each time."""
    from dataclasses import replace

    return replace(plot, evictions=plot.evictions / 15)
