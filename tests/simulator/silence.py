"""An attacker who keeps what the key server says from some members: do they notice, and when?"""

from collections import Counter
from dataclasses import dataclass, replace

from .air import Weather
from .plant import Plant, Setting

MOST_S = 20  # max_silence
_SENDERS = 2
_PACKET_MS = 100
_ATTACK_S = 75  # a lifetime of keys is longer
_REPLAY_MS = 1500


@dataclass
class Seen:
    """What a victim did, counted from the last word that reached it."""

    silent_ms: int | None = None  # when it said that it is silent
    back_ms: int | None = None  # after the end of the attack, when it was back
    refused: int = 0  # packets, as it was silent
    behind_ms: int = 0  # longest time until keys that were kept from it were there
    missed: int = 0  # epoch that it lacks,
    missed_ms: int | None = None  # and since when


@dataclass(frozen=True)
class Load:
    """What a group that nobody attacks costs its key server within one max_silence."""

    silent: int
    registrations: int
    asked_each: float  # signs of life, of a member
    peak: int  # in the busiest second, of all


def endure(seed, kept, members=20, victims=2, stops=True):
    """→ [Seen]. Broken where an invariant did not hold."""
    with Plant(seed, _setting(members, stops), Weather(delay_ms=(1, 60))) as plant:
        _settle(plant)
        under = plant.machines[_SENDERS - 1 : _SENDERS - 1 + victims]  # one may send
        plant.is_lossless = False
        seen = {machine: Seen() for machine in under}
        kept = replace(kept, since_ms=plant.clock.now_ms)
        plant.air.kept = dict.fromkeys(under, kept)
        for second in range(_ATTACK_S):
            if second % 10 == 5:
                plant.station.rekey()
            plant.wait(1000)
            _look(plant, seen)
        plant.air.kept = {}
        ended_ms = plant.clock.now_ms
        for _ in range(60):
            plant.wait(1000)
            for machine, what in seen.items():
                is_back = not machine.membership.is_silent
                if what.back_ms is None and is_back:
                    what.back_ms = plant.clock.now_ms - ended_ms
        plant.checker.agree()
        plant.checker.close()
        return list(seen.values())


def rest(seed, members=60):
    """Nobody changes keys or attacks. → Load, on average over some of max_silence."""
    rounds = 3
    with Plant(seed, _setting(members, True), Weather(delay_ms=(1, 60))) as plant:
        _settle(plant)
        plant.wait(MOST_S * 1000)
        registered = len(plant.checker.registrations)
        asked = []
        _count_checks(plant, asked)
        plant.wait(rounds * MOST_S * 1000)
        plant.checker.agree()
        plant.checker.close()
        seconds = Counter(ms // 1000 for ms in asked)
        return Load(
            plant.checker.counts["silent"],
            len(plant.checker.registrations) - registered,
            len(asked) / members / rounds,
            max(seconds.values()),
        )


def restart(seed, members=60, most_s=60):
    """The key server dies and starts again: all IKE SAs are lost. → Load of what follows."""
    with Plant(seed, _setting(members, True, most_s), Weather(delay_ms=(1, 60))) as plant:
        _settle(plant)
        plant.wait(most_s * 1000 // 2)
        plant.kill_server()
        plant.wait(500)
        plant.start_server()
        before = len(plant.checker.registrations)
        plant.wait(3 * most_s * 1000)
        plant.checker.agree()
        plant.checker.close()
        came = plant.checker.registrations[before:]
        seconds = Counter(ms // 1000 for ms, _ in came)
        return Load(plant.checker.counts["silent"], len(came), 0, max(seconds.values()))


def _setting(members, stops, most_s=MOST_S):
    says = "stop" if stops else "tell"
    return Setting(
        members=members,
        lifetime_s=600,
        most_members=members,
        look_ms=1000,
        more=f'fresh_join = false\nmax_silence = "{most_s}s"\non_silence = "{says}"\n',
    )


def _settle(plant):
    for machine in plant.machines:
        plant.install(machine, machine.place < _SENDERS)
        plant.switch_on(machine)
    plant.wait(8000)
    _talk(plant)
    _replay(plant)


def _talk(plant):
    for machine in plant.machines[:_SENDERS]:
        machine.send()
    plant.clock.after(_PACKET_MS, _talk, plant)


def _replay(plant):
    """Old rekeys and packets come again, to everybody."""
    plant.replay(2)
    plant.clock.after(_REPLAY_MS, _replay, plant)


def _look(plant, seen):
    now_ms = plant.clock.now_ms
    newest = plant.station.epoch.number
    for machine, what in seen.items():
        member = machine.membership
        if member.is_silent and what.silent_ms is None:
            what.silent_ms = now_ms - machine.reached_ms
        what.refused = member.member.drops.as_dict().get("silent", 0)
        if member.epoch < newest and what.missed_ms is None:
            what.missed, what.missed_ms = newest, now_ms
        if what.missed_ms is not None:
            what.behind_ms = max(what.behind_ms, now_ms - what.missed_ms)
            if member.epoch >= what.missed:
                what.missed_ms = None


def _count_checks(plant, asked):
    tell = plant.station.server._responder._registrar.tell

    def counted(*what):
        asked.append(plant.clock.now_ms)
        return tell(*what)

    plant.station.server._responder._registrar.tell = counted
