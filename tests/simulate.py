"""Tell stories of a plant in a box, or show an experiment: tests/simulator/README.md.

.venv/bin/python tests/simulate.py --seed 7 --members 1000 --rekeys 200
.venv/bin/python tests/simulate.py --stories 50 --members 150 --rekeys 50
.venv/bin/python tests/simulate.py --experiment loss --members 1000
.venv/bin/python tests/simulate.py --experiment rollover
.venv/bin/python tests/simulate.py --experiment replicas --seed 1 --stories 100
"""

import argparse
import sys
import time

from simulator import faults, loss, rollover, silence, story
from simulator.air import Kept
from simulator.checker import Broken
from simulator.plant import Setting


def main():
    given = _parser().parse_args()
    if given.experiment:
        return _EXPERIMENTS[given.experiment](given)
    failed = []
    for seed in range(given.seed, given.seed + given.stories):
        began = time.process_time()
        setting = Setting(members=given.members, key_tree=given.key_tree)
        try:
            plant, told = story.tell(seed, setting=setting, plot=story.Plot(rekeys=given.rekeys))
        except Broken as broken:
            failed.append(seed)
            print(broken, flush=True)
            continue
        print(_of_story(seed, plant, told, time.process_time() - began), flush=True)
    if failed:
        again = f"--members {given.members} --rekeys {given.rekeys} --key-tree {given.key_tree}"
        print("To see them again:")
        for seed in failed:
            print(f"    .venv/bin/python tests/simulate.py --seed {seed} {again}")
    return 1 if failed else 0


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument("--seed", type=int, default=1, help="of the first story")
    parser.add_argument("--stories", type=int, default=1, help="so many, with the seeds behind it")
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rekeys", type=int, default=200)
    parser.add_argument("--key-tree", type=int, default=4, help="its degree; 0: there is none")
    parser.add_argument("--experiment", choices=sorted(_EXPERIMENTS))
    return parser


def _of_story(seed, plant, told, cpu_s):
    checker = plant.checker
    done = ", ".join(f"{count} {what}" for what, count in told.done.items())
    return (
        f"seed {seed}: {plant.station.epochs} epochs, {done}; {len(checker.packets)} packets,"
        f" {checker.counts['delivered']} deliveries, {len(checker.registrations)} registrations,"
        f" {plant.swift.seals} seals; longest without the newest keys"
        f" {checker.longest_behind_ms / 1000:.0f} s;"
        f" {plant.clock.now_ms // 1000} s of the plant in {cpu_s:.0f} s of CPU;"
        f" digest {checker.digest[:16]}"
    )


def _loss(given):
    """Half of the multicast is lost; by how often a rekey is repeated."""
    print(f"{given.members} members, half of all multicast lost at each, a rekey every 42 s")
    print("repeats  registrations a rekey  busiest second  of one member  back: 50 %  99 %   all")
    for repeats in (0, 1, 2, 4):
        found = loss.endure(given.seed, members=given.members, rekeys=5, repeats=repeats)
        each = sum(one.registrations for one in found) / len(found)
        peak, most = max(one.peak for one in found), max(one.most for one in found)
        back = [max(one.back_ms[percent] for one in found) / 1000 for percent in (50, 99, 100)]
        figures = f"{back[0]:>11.1f} s{back[1]:>6.1f}{back[2]:>6.1f} s"
        print(f"{repeats:>7}{each:>23.0f}{peak:>16}{most:>15}{figures}", flush=True)
    return 0


def _rollover(given):
    for name, weather in (("none", rollover.STILL), ("20 % of data", rollover.WINDY)):
        seen = rollover.drive(given.seed, weather)
        print(
            f"loss {name}: {seen.rekeys} rekeys, {seen.sent} packets in {seen.seconds} s,"
            f" {seen.unsent} not sent, {seen.delivered} delivered of {5 * seen.sent} on their way"
        )
    return 0


def _silence(given):
    print(
        f"max_silence {silence.MOST_S} s; kept from two of 20 members for 75 s, rekeys every 10 s"
    )
    for name, kept in (("all", Kept()), ("rekeys only", Kept(unicast=False))):
        for one in silence.endure(given.seed, kept):
            when = "never" if one.silent_ms is None else f"after {one.silent_ms / 1000:.1f} s"
            behind, back = f"{one.behind_ms / 1000:.0f} s", f"{one.back_ms / 1000:.0f} s"
            print(
                f"{name}: silent {when}, {one.refused} packets not taken; longest without keys"
                f" that were kept {behind}, back {back} after the end"
            )
    load = silence.rest(given.seed, given.members)
    print(
        f"{given.members} members at rest: {load.asked_each:.2f} signs of life each in a"
        f" max_silence, {load.peak} in the busiest second, {load.registrations} registrations"
    )
    return 0


def _replicas(given):
    """Several key servers over one store, and bad luck: see simulator/faults.py."""
    failed = 0
    for seed in range(given.seed, given.seed + given.stories):
        began = time.process_time()
        try:
            plant, told = faults.endure(seed, **faults.kind(seed))
        except Broken as broken:
            failed += 1
            print(broken, flush=True)
            continue
        done = ", ".join(f"{count} {what}" for what, count in told.done.items())
        cpu_s = time.process_time() - began
        print(
            f"seed {seed}: {plant.station.epochs} epochs, {done};"
            f" {plant.checker.counts['delivered']} deliveries;"
            f" {plant.clock.now_ms // 1000} s in {cpu_s:.1f} s of CPU",
            flush=True,
        )
    return 1 if failed else 0


_EXPERIMENTS = {"loss": _loss, "replicas": _replicas, "rollover": _rollover, "silence": _silence}

if __name__ == "__main__":
    sys.exit(main())
