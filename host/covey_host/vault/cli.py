"""`covey backup`, `covey restore` and `covey site key`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .. import output
from .. import site as sites
from ..commands import perform
from ..errors import MISUSE, Problem
from ..options import Json, Site
from . import backup as backups
from . import opening, sitekey


def register(app: typer.Typer, site_app: typer.Typer) -> None:
    app.command()(backup)
    app.command()(restore)
    site_app.command("key")(key)


def backup(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    site: Site = None,
) -> None:
    """Write all of a site but its key to one file, sealed; the key server may run meanwhile."""
    found = sites.find(site)
    perform(found, {"do": "backup", "file": str(file)})
    with _failure_entered(found, "backup"):
        id = backups.make(found, file)
    output.line(
        f"Wrote {file}. It opens with the site key alone (ID {id.hex()}), which is not in it:"
        " keep a copy of that in another place."
    )


def restore(
    file: Annotated[Path, typer.Argument(help="What `covey backup` wrote.")],
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="New or empty.")] = Path("."),
    key_file: Annotated[
        Path | None, typer.Option(help="The site key, which is copied [site.key, in DIR].")
    ] = None,
) -> None:
    """Make a site from a backup. Its key server gives every group new keys when it starts."""
    moment = backups.restore(file, directory, key_file)
    perform(sites.find(directory), {"do": "restore", "file": str(file)})
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
    output.line(
        f"Restored {directory} as it was on {when}. Whoever was removed since then is a member"
        " again: remove them before you start its key server."
    )


def key(
    new: Annotated[
        bool, typer.Option("--new", help="Make another one; the key server is stopped.")
    ] = False,
    move: Annotated[
        Path | None, typer.Option(help="Keep it in this new file; site.key becomes a link.")
    ] = None,
    json: Json = False,
    site: Site = None,
) -> None:
    """The key that seals the store and backups: where it is, by which ID backups name it."""
    found = sites.find(site)
    if new or move is not None:
        perform(found, {"do": "site key", "new": new, "file": str(move)})
    with _failure_entered(found, "site key"):
        if new:
            opening.change_key(found)
        if move is not None:
            opening.move_key(found, move.absolute())
    keys = sitekey.find(found.key)
    if keys is None:
        raise Problem(
            f"{found.root} has no key yet: its store is sealed when a command or the key server"
            " next works on it.",
            MISUSE,
        )
    id = keys.newest.id.hex()
    place = str(keys.file or keys.place)
    keys.wipe()
    if json:
        output.emit({"event": "site_key", "id": id, "place": place})
    else:
        output.line(f"The site key with the ID {id} is in {place}.")
    if new and not json:
        output.line("Backups from before open with the one before only.")


@contextmanager
def _failure_entered(found: sites.Site, command: str) -> Iterator[None]:
    """Into the audit log, which has the command already."""
    try:
        yield
    except Problem as problem:
        try:
            perform(found, {"do": "failed", "command": command, "reason": problem.sentence})
        except Problem as other:
            output.complain(other.sentence)
        raise
