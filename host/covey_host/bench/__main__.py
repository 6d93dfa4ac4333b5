"""`python -m covey_host.bench [SUBJECT ...] [--quick] [--out FILE]`: see the package."""

import argparse
import importlib
import sys
from pathlib import Path

from rich.console import Console

from ..demo.cast import ROOT
from ..errors import INTERRUPTED
from ..output import complain
from .results import Missing, Table

SUBJECTS = [
    "gcm",
    "path",
    "sourceauth",
    "bytime",
    "signed",
    "heap",
    "publickey",
    "gap",
    "cpython",
    "keytree",
    "peers",
    "registrations",
    "rush",
    "workers",
    "loopback",
    "relay",
    "confirmation",
    "gateway",
    "jitter",
    "capacity",
    "floods",
]
_LONG = ["failover"]  # only where it is asked for: half an hour
_WIDTH = 240  # where nobody looks at it: names as they are, whatever they are held against


def measure(names: list[str], quick: bool) -> Table:
    """All rows of these subjects. What can't be measured here is named in a note."""
    table = Table()
    for name in names:
        subject = importlib.import_module(f"{__package__}.{name}")
        print(f"bench: {subject.TITLE}", file=sys.stderr, flush=True)
        try:
            subject.run(table, quick)
        except Missing as error:
            table.note(f"Left out: {subject.TITLE}; {error}.")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS + _LONG))
    parser.add_argument("--quick", action="store_true", help="few calls: shows only that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results.json")
    asked = parser.parse_args()
    for name in set(asked.subjects) - {*SUBJECTS, *_LONG}:
        parser.error(f"{name} is no subject: choose from {', '.join(SUBJECTS + _LONG)}")
    try:
        table = measure(asked.subjects or SUBJECTS, asked.quick)
    except KeyboardInterrupt:
        complain("Interrupted: nothing has been written.")
        return INTERRUPTED
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH)
    table.show(console)
    table.write(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
