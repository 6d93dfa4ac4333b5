"""Tell stories of a plant: `.venv/bin/python tests/simulate.py --help`."""

import argparse
import sys
import time

from simulator import story
from simulator.checker import Broken
from simulator.plant import Setting


def main():
    parser = argparse.ArgumentParser(description="A plant in a box: see tests/simulator/README.md.")
    parser.add_argument("--seed", type=int, default=1, help="of the first story")
    parser.add_argument("--stories", type=int, default=1, help="so many, with the seeds behind it")
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rekeys", type=int, default=200)
    parser.add_argument("--key-tree", type=int, default=4, help="degree; 0: none")
    given = parser.parse_args()
    failed = []
    for seed in range(given.seed, given.seed + given.stories):
        began = time.monotonic()
        setting = Setting(members=given.members, key_tree=given.key_tree)
        plot = story.Plot(rekeys=given.rekeys)
        try:
            plant, told = story.tell(seed, setting=setting, plot=plot)
        except Broken as broken:
            failed.append(seed)
            print(broken, flush=True)
            continue
        done = ", ".join(f"{count} {what}" for what, count in told.done.items())
        checker = plant.checker
        print(
            f"seed {seed}: {plant.station.epochs} epochs, {done};"
            f" {len(checker.packets)} packets, {checker.counts['delivered']} deliveries,"
            f" {len(checker.registrations)} registrations, {plant.swift.seals} seals;"
            f" longest without keys {checker.longest_behind_ms / 1000:.0f} s;"
            f" {plant.clock.now_ms // 1000} s of the plant in {time.monotonic() - began:.0f} s;"
            f" digest {checker.digest[:16]}",
            flush=True,
        )
    if failed:
        print("failed: " + " ".join(f"--seed {seed}" for seed in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
