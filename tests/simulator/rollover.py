"""Rekeys under continuous traffic: a packet a millisecond, of several senders in turn."""

from dataclasses import dataclass

from .air import Weather
from .plant import Plant, Setting

STILL = Weather(delay_ms=(1, 30))
WINDY = Weather(data_loss=0.2, twice=0.02, delay_ms=(1, 60))  # overtaking, too

_EVERY_MS = 1


@dataclass(frozen=True)
class Traffic:
    """What became of it."""

    rekeys: int
    sent: int
    unsent: int  # tries of a member that could not send
    delivered: int
    seconds: int


def drive(seed, weather, rekeys=100, members=6, senders=4, apart_ms=1200):
    """Rekeys so far apart. Broken where something that arrived was not delivered once."""
    setting = Setting(
        members=members, access_points=3, atd_s=1, dtd_s=2, repeat_spacing_ms=400, look_ms=1000
    )
    with Plant(seed, setting, weather) as plant:
        for machine in plant.machines:
            plant.install(machine, machine.place < senders)
            plant.switch_on(machine)
        plant.wait(5000)
        stream = _Stream(plant, senders)
        began_ms = plant.clock.now_ms
        stream.start()
        for _ in range(rekeys):
            plant.wait(apart_ms)
            plant.station.rekey()
        plant.wait(setting.dtd_s * 1000 + apart_ms)
        stream.is_on = False
        seconds = (plant.clock.now_ms - began_ms) // 1000
        plant.wait(1000)
        checker = plant.checker
        if not weather.data_loss:
            checker.all_heard(checker.packets)
        checker.agree()
        checker.close()
        delivered = checker.counts["delivered"]
        return Traffic(rekeys, len(checker.packets), stream.unsent, delivered, seconds)


class _Stream:
    def __init__(self, plant, senders):
        self.is_on = True
        self.unsent = 0
        self._plant = plant
        self._senders = plant.machines[:senders]
        self._turn = 0

    def start(self):
        if not self.is_on:
            return
        self._turn = (self._turn + 1) % len(self._senders)
        self.unsent += not self._senders[self._turn].send()
        self._plant.clock.after(_EVERY_MS, self.start)
