"""Rekeys under traffic of real members: nothing is lost by them, and nothing comes twice.

.venv/bin/python tests/rollover.py
.venv/bin/python tests/rollover.py --windy --rekeys 100 --members cpython x86 x64 --rate 1000

Each member sends its share of the packets and takes those of the others, over sockets on loopback,
while `covey serve` changes keys. What a member can't account for breaks the run: a packet was
delivered once, or the system dropped it at that member's socket (/proc/net/udp counts them), or
the wind took it (--windy, see rollover_script.py).
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent
SCRIPT = TESTS / "rollover_script.py"
_LATE = ("retired_spi", "unknown_spi", "stale_sender", "sender_table_full", "tag", "no_sa")


@dataclass
class Account:
    """What one member says, and what the system says of it."""

    kind: str
    sent: int
    unsent: int
    seconds: float
    report: dict
    at_socket: int  # datagrams that found its socket full
    cpu_s: float
    rekeys: int = 0
    lost: int = field(init=False)  # that nothing accounts for

    def __post_init__(self):
        report = self.report
        drops = report["status"]["drops"]
        self.rekeys = report["status"]["rekeys"]
        missing = sum(count for count, _ in report["missing"].values())
        known = self.at_socket + drops.get("queue_full", 0)
        self.lost = max(0, missing - known)
        self.late = {name: drops[name] for name in _LATE if drops.get(name)}


@dataclass
class Traffic:
    accounts: list
    rekeys: int
    seconds: float

    @property
    def rate(self):
        return sum(account.sent for account in self.accounts) / self.seconds


def drive(bench, kinds, rate, rekeys, apart_s, windy=False, dtd_s=2):
    """kinds: an interpreter each, cpython, x86 or x64. bench: site_bench.Bench, serving."""
    from member_process import MemberProcess

    share = rate // len(kinds)
    members = []
    try:
        for number, kind in enumerate(kinds):
            bench.member(f"m{number}", "--sender")
            path = bench.root / "members" / f"m{number}" / "covey.json"
            seed = 1000 * number + 77 if windy else 0
            members.append(MemberProcess(*_command(kind, path, number, share, seed)))
        for member in members:
            member.heard("ready")
        before = [_cpu_s(member) for member in members]
        for member in members:
            member.say("go")
        time.sleep(1)
        for _ in range(rekeys):
            bench.covey("rekey", "line1")
            time.sleep(apart_s)
        time.sleep(dtd_s + 0.3)
        cpu = [_cpu_s(member) - was for member, was in zip(members, before, strict=True)]
        for member in members:
            member.say("stop")
        stopped = [member.heard("stopped") for member in members]
        sent = {str(number): one["sent"] for number, one in enumerate(stopped)}
        for number, member in enumerate(members):
            member.say(json.dumps({name: sent[name] for name in sent if name != str(number)}))
        accounts = []
        for kind, member, one, cpu_s in zip(kinds, members, stopped, cpu, strict=True):
            at_socket = dropped(member)
            report = member.heard("report")
            facts = one["sent"], one["unsent"], one["seconds"]
            accounts.append(Account(kind, *facts, report, at_socket, cpu_s))
        for member in members:
            assert member.end()[0] == 0
        return Traffic(accounts, rekeys, max(one["seconds"] for one in stopped))
    finally:
        for member in members:
            member.close()


def check(traffic, windy=False):
    """AssertionError where a packet was lost by a rekey, or came twice."""
    for account in traffic.accounts:
        report, drops = account.report, account.report["status"]["drops"]
        who = f"{account.kind}: {report}"
        assert report["twice"] == 0, who
        assert account.late == {}, who
        assert account.rekeys == traffic.rekeys, who
        assert account.unsent == 0, who
        if windy:
            assert report["lost"] and report["again"] and report["refused"] == {}, who
            assert report["got"] + drops.get("queue_full", 0) == report["arrived"] > 0, who
        else:
            assert account.lost == 0 and "replay" not in drops, who


def _command(kind, path, number, rate, seed):
    from processes import ENVIRONMENT
    from test_micropython import BUILD, compile_lib, interpreter

    arguments = [path, number, rate, seed]
    if kind == "cpython":
        return [sys.executable, SCRIPT, *arguments], ENVIRONMENT
    wrapper, reason = interpreter(kind)
    assert wrapper is not None, reason
    complaint = compile_lib()
    assert not complaint, complaint
    search = {**os.environ, "MICROPYPATH": f".frozen:{BUILD / f'lib-{kind}'}"}
    return [wrapper, "-X", "heapsize=4m", SCRIPT, *arguments], search


def _cpu_s(member):
    fields = Path(f"/proc/{member._process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def dropped(member):
    """Datagrams that the system has dropped at this process's sockets."""
    inodes = set()
    for link in Path(f"/proc/{member._process.pid}/fd").iterdir():
        found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
        if found:
            inodes.add(found[1])
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[12]) for row in rows if row[9] in inodes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--members", nargs="+", default=["cpython", "x86", "x64"])
    parser.add_argument("--rate", type=int, default=1000, help="packets a second, of all")
    parser.add_argument("--rekeys", type=int, default=100)
    parser.add_argument("--apart", type=float, default=1.3, help="seconds between them")
    parser.add_argument("--windy", action="store_true", help="a bad network, clocks that differ")
    given = parser.parse_args()
    from site_bench import Bench

    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(Bench(Path(folder) / "site"))
        try:
            bench.serve()
            traffic = drive(
                bench, given.members, given.rate, given.rekeys, given.apart, given.windy
            )
        finally:
            bench.close()
    show(traffic)
    check(traffic, given.windy)
    print("no packet was lost by a rekey, none came twice")


def prepare(bench):
    bench.edit('atd = "0s"\ndtd = "1s"\n', 'atd = "1s"\ndtd = "2s"\n')
    return bench


def show(traffic):
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(
        f"{traffic.rekeys} rekeys in {traffic.seconds:.0f} s, {traffic.rate:.0f} packets/s; {load}"
    )
    for one in traffic.accounts:
        report = one.report
        drops = {k: n for k, n in report["status"]["drops"].items() if k != "own"}
        how = f"{one.lost} unaccounted for"
        if report["lost"]:
            how = f"of {report['arrived']} that arrived; {report['lost']} lost by the wind"
            how += f", {report['again']} said again"
        print(
            f"{one.kind:>8}: {one.sent} sent, {one.unsent} waited; {report['got']} got,"
            f" {report['twice']} twice, {how}, {one.at_socket} dropped at its socket;"
            f" {one.rekeys} rekeys followed; CPU {100 * one.cpu_s / one.seconds:.0f} %;"
            f" drops {drops}"
        )


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS), str(TESTS / "host")]
    sys.exit(main())
