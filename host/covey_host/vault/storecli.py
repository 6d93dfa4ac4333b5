"""`covey store copy`."""

from typing import Annotated

import typer

from .. import output
from .. import site as sites
from ..commands import perform
from ..errors import MISUSE, Problem
from ..options import Site, StoreCa, StoreCert, StoreKey
from ..store import location

_FILE = "state.db"


def register(app: typer.Typer) -> None:
    app.callback()(_only)
    app.command()(copy)


def _only() -> None:
    """With one command, it still has its name."""


def copy(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="Where the site is: state.db or etcd://...")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="The other of these; empty.")],
    store_ca: StoreCa = None,
    store_cert: StoreCert = None,
    store_key: StoreKey = None,
    site: Site = None,
) -> None:
    """Move the site from one store to the other, verified; the key server is stopped."""
    from . import copying

    found = sites.find(site)
    known = location.read(found)
    is_file = known is None
    here = _FILE if is_file else known[0].url
    if source.rstrip("/") != here:
        raise Problem(f"The site is in {here}, not in {source}.", MISUSE)
    if is_file == (target == _FILE):
        raise Problem(f"A site moves from {_FILE} to etcd://... or back.", MISUSE)
    perform(found, {"do": "store copy", "file": target})
    if is_file:
        place = location.place_of(target, store_ca, store_cert, store_key)
        count = copying.into_etcd(found, place)
        left = f"{found.store}.moved has what it was: delete it when all is well."
    else:
        count = copying.into_file(found)
        left = f"{here} is left as it was, and no key server takes it."
    output.line(f"Moved {count} entries to {target}, and read them back. {left}")
