"""`python -m covey_host.bench.scale`: what bounds a group and a site, and how many sites it takes.

A model: what was measured (rows of bench/results.json, or of --figures FILE) times what is wished
for (the options). No figure is of this file: a row that is missing is named, with the command that
measures it. Tables are Markdown. --simulate: so many members that come back at once, too.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..demo.cast import ROOT
from ..errors import FAILURE, Problem
from ..output import complain, printable
from . import powerup

SIZES = (1_000, 10_000, 100_000, 1_000_000)  # of groups, as `keytree` measures them
_DAY_S = 86_400
_PER_TURN = 16  # registrations of one turn under load: two requests each, 32 a turn
_LEAVERS = 1_000  # at once, as `keytree` measures that
_GB = 1e9

_REGISTRATION = "covey: registrations, for a second of CPU, {how}"
_LEAVE = "leave of {size:,}, degree 4: "
_MANY = "many leave: 1,000 of {size:,}: octets of all datagrams"
_MEMBER = "capacity: a member that has registered: "
_FOUND = "capacity: a member that the server finds as it starts: "
_GROUPS = "capacity: {count:,} groups: "
_ETCD = "capacity: etcd: "
_CPU = "cluster: CPU of a registration, {how}"
_SHARED = ("etcd, 1 server", "etcd, 2 servers", "etcd, 3 servers")
_RUSHED = 10_000
_RUSH = f"rush: {_RUSHED:,} members at once: "


# What measures rows that begin so
_SUBJECTS = {
    "covey: ": "registrations",
    "leave of ": "keytree",
    "many leave: ": "keytree",
    "rush: ": "rush",
    "capacity: ": "capacity",
    "cluster: ": "failover",
}


@dataclass(frozen=True)
class Wish:
    """What is asked for, of all sites together where it can be added up."""

    members: int = 10_000_000
    groups: int = 10_000
    servers: int = 3  # of a site
    how: str = "PSK"
    memory_gb: float = 16.0  # of a server
    etcd_gb: float = 8.0  # quota of its database
    back_s: float = 600.0  # within which all of a site are back after a power cut
    start_s: float = 60.0  # within which a server has started
    leaves: float = 0.001  # members that are put out, of all, a day
    comes: float = 1.0  # registrations of a member, a day
    lifetime_s: float = 3_600.0  # of keys: new ones at 80 % of it
    link_bits: float = 1e6  # a second that rekeys may take on the link of a group
    most: float = 0.5  # of anything that is used at most


class Figures:
    """Rows by name."""

    def __init__(self, rows: dict[str, float], where: str):
        self._rows = rows
        self._where = where
        self.used: dict[str, float] = {}

    def __call__(self, name: str) -> float:
        if name not in self._rows:
            raise Problem(
                f"{self._where} has no row {name!r}:"
                ' `make bench ONLY="registrations keytree rush capacity"` measures it.'
            )
        self.used[name] = self._rows[name]
        return self._rows[name]


@dataclass(frozen=True)
class Use:
    """of one site. share: of what there is, 1 is all of it; breaks: what happens beyond."""

    what: str
    share: float
    shown: str
    breaks: str


class Model:
    def __init__(self, figures: Figures, wish: Wish):
        self._of, self._wish = figures, wish

    # A group

    def group(self, size: int) -> dict[str, str]:
        """What a group of one of SIZES costs, and what that bounds."""
        of, wish = self._of, self._wish
        leave = _LEAVE.format(size=size)
        octets = of(f"{leave}octets of all datagrams")
        cpu_ms = of(f"{leave}CPU of the server")
        repeated = octets * 3  # policy's repeats: each message goes out three times
        found = {
            "octets of a leave": f"{octets:,.0f}",
            "leaves a second, by the link": f"{wish.link_bits / 8 / repeated:,.1f}",
            "... by the server's CPU": f"{1e3 / cpu_ms:,.0f}",
            "unwraps of a member": f"{of(f'{leave}unwraps of a member'):,.0f}",
        }
        if size >= 100_000:
            each = of(_MANY.format(size=size)) * 3 / _LEAVERS
            found["leavers a second, 1,000 at once, by the link"] = (
                f"{wish.link_bits / 8 / each:,.0f}"
            )
        order = 1e3 / of(f"{_ETCD}a write of {_PER_TURN} registrations, p50") * _PER_TURN
        found["registrations a second, as a group's writes are one after another"] = (
            f"{order:,.0f}"
        )
        back_s = size * self.registration_us(1) / 1e6 / wish.servers
        found["all back after a power cut, s"] = f"{back_s:,.1f}"
        found["memory of each server, nobody connected, MB"] = (
            f"{size * of(f'{_FOUND}memory') / 1e6:,.1f}"
        )
        return found

    # A site

    def registration_us(self, groups: float) -> float:
        """Of all servers' only threads while all come at once, with so many groups in their site:
        CPU, the others' catching up included, and the wait for etcd, by which nobody else gets a
        turn."""
        of = self._of
        turn_us = self.turn_us(groups) + 1e3 * of(
            f"{_ETCD}a write of {_PER_TURN} registrations, p50"
        )
        cpu_us = of(f"{_RUSH}CPU of the server") * 1e6 / _RUSHED
        more_us = 1e6 / of(_REGISTRATION.format(how=self._wish.how))  # than by PSK
        more_us -= 1e6 / of(_REGISTRATION.format(how="PSK"))
        shared = _CPU.format(how=_SHARED[min(self._wish.servers, len(_SHARED)) - 1])
        more_us += of(shared) - of(_CPU.format(how="SQLite"))
        return cpu_us + more_us + turn_us / _PER_TURN

    def turn_us(self, groups: float) -> float:
        """CPU of a turn of the server in which nothing is due; between sizes that were measured,
        in proportion."""
        few, many = (1_000, 10_000)
        at_few = self._turn(few)
        if groups <= few:
            return at_few * groups / few
        return at_few + (self._turn(many) - at_few) * (groups - few) / (many - few)

    def _turn(self, count: int) -> float:
        return self._of(f"{_GROUPS.format(count=count)}CPU of a turn in which nothing is due")

    def uses(self, members: float, groups: float) -> list[Use]:
        """Of a site with so many, what is used most first."""
        found = [
            self._etcd_space(members, groups),
            self._etcd_writes(members, groups),
            self._memory(members),
            self._back(members, groups),
            self._start(members, groups),
            self._holder(members, groups),
        ]
        return sorted(found, key=lambda use: -use.share)

    def sites(self) -> int:
        """The least number of equal sites that leaves each below what may be used."""
        wish, n = self._wish, 1
        while self._most(n) > wish.most:
            n = max(n + 1, math.ceil(n * min(2.0, self._most(n) / wish.most)))
        while n > 1 and self._most(n - 1) <= wish.most:
            n -= 1
        return n

    def _most(self, sites: int) -> float:
        return self.uses(self._wish.members / sites, self._wish.groups / sites)[0].share

    def _etcd_space(self, members: float, groups: float) -> Use:
        of, quota = self._of, self._wish.etcd_gb * _GB
        row = of(f"{_GROUPS.format(count=1_000)}octets of rows") / 1_000
        each = of(f"{_ETCD}octets of its database for a member")
        each += of(f"{_ETCD}octets more for one written again, before it compacts")
        octets = members * each + groups * row  # all have come again since it compacted
        breaks = "etcd refuses writes: nobody registers, nobody is put out; keys in force go on"
        return Use("etcd's database", octets / quota, f"{octets / _GB:,.2f} GB", breaks)

    def _etcd_writes(self, members: float, groups: float) -> Use:
        wish = self._wish
        rate = members * (wish.leaves + wish.comes) / _DAY_S + groups / (wish.lifetime_s * 0.8)
        at_once = members / wish.back_s / _PER_TURN
        rate = max(rate, at_once)
        share = rate / self._of(f"{_ETCD}writes a second")
        breaks = "answers wait for etcd; members repeat their requests"
        return Use("etcd's writes", share, f"{rate:,.0f} a second", breaks)

    def _memory(self, members: float) -> Use:
        """One server is to hold all IKE SAs when the others are gone."""
        octets = members * self._of(
            "rush: 10,000 members at once: memory of the server afterwards"
        )
        octets -= members * self._of("rush: 10,000 members at once: memory of the server before")
        octets = octets * (1 << 20) / 10_000
        share = octets / (self._wish.memory_gb * _GB)
        breaks = "the system ends the server; its members go to the others, which follow it"
        return Use("memory of a server alone", share, f"{octets / _GB:,.1f} GB", breaks)

    def _back(self, members: float, groups: float) -> Use:
        wish = self._wish
        back_s = members * self.registration_us(groups) / 1e6 / wish.servers
        breaks = "members wait longer, and ask again: each within a few minutes, at random"
        return Use("all come back at once", back_s / wish.back_s, f"{back_s:,.0f} s", breaks)

    def _start(self, members: float, groups: float) -> Use:
        of = self._of
        each_ms = of(f"{_GROUPS.format(count=1_000)}CPU of a start") / 1_000
        start_s = members * of(f"{_FOUND}CPU") / 1e6 + groups * each_ms / 1e3
        breaks = "a site that was wholly down registers nobody for so long"
        return Use("a server starts", start_s / self._wish.start_s, f"{start_s:,.1f} s", breaks)

    def _holder(self, members: float, groups: float) -> Use:
        """The one that makes keys, on a day like others."""
        of, wish = self._of, self._wish
        rekey_us = of(f"{_GROUPS.format(count=1_000)}CPU of a start")
        leave_us = 1e3 * of(f"{_LEAVE.format(size=1_000)}CPU of the server")
        turn_us = self.turn_us(groups)
        rekeys, leaves = groups / (wish.lifetime_s * 0.8), members * wish.leaves / _DAY_S
        comes = members * wish.comes / _DAY_S / wish.servers
        share = rekeys * (rekey_us + 3 * turn_us) + leaves * (leave_us + 6 * turn_us)
        share = (share + comes * (self.registration_us(0) + 2 * turn_us)) / 1e6
        breaks = "rekeys are late: members keep the keys that they have"
        return Use("CPU of the holder, day by day", share, f"{100 * share:.1f} %", breaks)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scale", description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, default=ROOT / "bench" / "results.json")
    for name, value in vars(Wish()).items():
        kind = _how if name == "how" else partial(_positive, type(value))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value)
    parser.add_argument("--simulate", type=partial(_positive, int), metavar="MEMBERS")
    parser.add_argument("--seed", type=int, default=1)
    asked = vars(parser.parse_args())
    file, simulated, seed = (asked.pop(name) for name in ("figures", "simulate", "seed"))
    try:
        figures, wish = Figures(_rows(file), str(file)), Wish(**asked)
        tables = told(Model(figures, wish), wish, figures)
        if simulated:
            tables.append(_simulation(Model(figures, wish), wish, simulated, seed))
    except Problem as problem:
        complain(problem.sentence)
        return FAILURE
    for title, rows in tables:
        print(f"{title}\n")
        print("\n".join(_markdown(rows)) + "\n")
    return 0


Rows = list[list[str]]  # the first is the head


def told(model: "Model", wish: Wish, figures: Figures) -> list[tuple[str, Rows]]:
    """(title, table) of all there is to tell but the simulation."""
    groups = [model.group(size) for size in SIZES]
    names = dict.fromkeys(name for group in groups for name in group)
    a_group = [["a group of", *(f"{size:,}" for size in SIZES)]]
    a_group += [[name, *(group.get(name, "") for group in groups)] for name in names]
    sites = model.sites()
    each = wish.members / sites, wish.groups / sites
    measured = [["measured", "value", "by"]]
    used = figures.used.items()
    measured += [[n, _figure(v), f"`make bench ONLY={_by(n)}`"] for n, v in used]
    assumed = [["wished for", "value"]]
    assumed += [[n, v if isinstance(v, str) else f"{v:,}"] for n, v in vars(wish).items()]
    whole = f"One site with {wish.members:,} members in {wish.groups:,} groups"
    one = f"{each[0]:,.0f} members in {each[1]:,.0f} groups"
    laid_out = f"{sites} sites of {wish.servers} key servers and 3 nodes of etcd, each with {one}"
    return [
        ("What is wished for", assumed),
        ("What a group costs", a_group),
        (whole, _uses(model.uses(wish.members, wish.groups))),
        (laid_out, _uses(model.uses(*each))),
        ("What was measured", measured),
    ]


def _figure(value: float) -> str:
    return f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}"


def _by(name: str) -> str:
    return next(subject for begin, subject in _SUBJECTS.items() if name.startswith(begin))


def _uses(uses: list[Use]) -> Rows:
    head = ["used, of what there is", "share", "that is", "beyond it"]
    return [head, *([u.what, f"{100 * u.share:,.1f} %", u.shown, u.breaks] for u in uses)]


def _simulation(model: "Model", wish: Wish, members: int, seed: int) -> tuple[str, Rows]:
    """powerup.py, beside what the model says of as many."""
    groups = members * wish.groups / wish.members
    request_us = model.registration_us(groups) / 2  # with its part of a turn
    least_s = members * model.registration_us(groups) / 1e6
    head = [
        "servers",
        "in by the model, s",
        "half are in, s",
        "all are in, s",
        "sent again",
        "found no room",
        "went on to another",
    ]
    rows = [head]
    for what, count, dies_ms in (
        (f"{wish.servers}", wish.servers, None),
        (f"{wish.servers}, one dies after 2 s", wish.servers, 2_000.0),
    ):
        found = powerup.come(members, count, request_us, dies_ms, seed)
        left = count - (dies_ms is not None)
        rows.append(
            [
                what,
                f"{least_s / left:,.1f}",
                f"{found.half_s:,.1f}",
                f"{found.last_s:,.1f}",
                *(f"{n:,}" for n in (found.repeats, found.full, found.moves)),
            ]
        )
    return f"{members:,} members come back within 2 s, simulated (seed {seed})", rows


def _markdown(rows: Rows) -> list[str]:
    lines = ["| " + " | ".join(map(printable, row)) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _how(text: str) -> str:
    if text not in ("PSK", "P-256"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither PSK nor P-256")
    return text


def _positive(kind: type, text: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def _rows(file: Path) -> dict[str, float]:
    try:
        rows = json.loads(file.read_text())
        return {str(row["name"]): float(row["value"]) for row in rows}
    except OSError as error:
        raise Problem(f"{file} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise Problem(f"{file} is no JSON list of rows with names and values.") from None


if __name__ == "__main__":
    sys.exit(main())
