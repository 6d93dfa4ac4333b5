"""Rekeys that half of the members don't hear: when they are back, and what it costs the server."""

from collections import Counter
from dataclasses import dataclass, replace

from .air import Weather
from .plant import Plant, Setting

_SENDERS = 4
_PACKET_MS = 500  # between packets of each sender: by these the others see that keys have changed
_FIRST_MS = 25_000  # until all are in


@dataclass(frozen=True)
class Rekey:
    """What came of one."""

    missed: int  # members that heard none of its messages
    back_ms: dict[int, int]  # percent of the members → when they had the new keys; absent: never
    registrations: int
    peak: int  # registrations in the busiest second
    most: int  # registrations of one member


def endure(seed, members=300, rekeys=10, loss=0.5, repeats=2, lifetime_s=60):
    """→ [Rekey]. One rekey an interval, the policy's lifetime less what makes the server rekey
    by itself. Broken where an invariant did not hold."""
    setting = Setting(members=members, lifetime_s=lifetime_s, repeats=repeats, look_ms=1000)
    weather = Weather(delay_ms=(1, 60))
    with Plant(seed, setting, weather) as plant:
        for machine in plant.machines:
            plant.install(machine, machine.place < _SENDERS)
            plant.clock.after(plant.chance.randrange(10_000), plant.switch_on, machine)
        plant.wait(_FIRST_MS)
        _talk(plant)
        plant.is_lossless = False
        plant.air.weather = replace(weather, data_loss=loss, rekey_loss=loss)
        interval_ms = plant.lifetime_ms * 7 // 10
        found = [_one(plant, interval_ms) for _ in range(rekeys)]
        plant.checker.agree()
        plant.checker.close()
        return found


def _one(plant, interval_ms):
    checker, members = plant.checker, plant.machines
    before = len(checker.registrations)
    began_ms = plant.clock.now_ms
    plant.station.rekey()
    epoch = plant.station.epoch.number
    plant.wait(interval_ms)
    came = sorted(m.knows[epoch] - began_ms for m in members if epoch in m.knows)
    back_ms = {}
    for percent in (50, 90, 99, 100):
        place = -(-len(members) * percent // 100) - 1
        if place < len(came):
            back_ms[percent] = came[place]
    registered = checker.registrations[before:]
    seconds = Counter((ms - began_ms) // 1000 for ms, _ in registered)
    each = Counter(member for _, member in registered)
    for member, times in each.items():
        if times > 1:
            checker.fail("storm", f"{member} registered {times} times in one interval")
    if len(came) < len(members):
        checker.fail("healed", f"{len(members) - len(came)} are not back within an interval")
    return Rekey(
        missed=len(each),
        back_ms=back_ms,
        registrations=len(registered),
        peak=max(seconds.values(), default=0),
        most=max(each.values(), default=0),
    )


def _talk(plant):
    for machine in plant.machines[:_SENDERS]:
        machine.send()
    plant.clock.after(_PACKET_MS, _talk, plant)
