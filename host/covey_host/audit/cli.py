"""`covey audit`: whether the log is whole, and what stands in it."""

import json as notation
from pathlib import Path
from typing import Annotated

import typer

from .. import output
from .. import site as sites
from ..commands import perform
from ..errors import FAILURE, MISUSE, Problem
from ..options import Json, Site
from ..site import sync_directory
from . import archive as archives
from . import chain, reader

audit_app = typer.Typer(help="The audit log: who did what.", no_args_is_help=False)


def register(app: typer.Typer) -> None:
    app.add_typer(audit_app, name="audit")


@audit_app.command("verify")
def verify(
    since: Annotated[
        str | None,
        typer.Option(help="Begin at this mark, NUMBER:SHA256, which an earlier verify printed."),
    ] = None,
    json: Json = False,
    site: Site = None,
) -> int:
    """Whether the log is what was written: nothing altered, removed, added or cut off."""
    try:
        mark = chain.BEGIN if since is None else chain.parse_mark(since)
    except ValueError as error:
        raise Problem(f"--since {since!r} {error}", MISUSE) from None
    found = reader.verify(sites.find(site), mark)
    facts = {"first": found.first, "entries": found.count, "mark": str(found.mark)}
    facts["lost"] = found.lost
    if json:
        output.emit({"event": "audit", "whole": not found.found, **facts, "found": found.found})
    else:
        for sentence in found.found:
            output.complain(sentence)
        output.line(_summary(found))
    return FAILURE if found.found else 0


@audit_app.command("show")
def show(
    last: Annotated[int, typer.Option(min=1, max=100_000, help="So many entries.")] = 50,
    json: Json = False,
    site: Site = None,
) -> None:
    """The last entries, as they stand there: see `covey audit verify`."""
    for line in reader.last_lines(sites.find(site).root, last):
        text = line.decode("ascii", "replace").rstrip("\n")
        output.line(output.printable(text) if json else _shown(text))


@audit_app.command("archive")
def archive(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Outside of the site.")],
    site: Site = None,
) -> None:
    """Move the log's full files elsewhere; the store knows that they may be missing here."""
    found = sites.find(site)
    archives.check(directory, found.root)
    files = archives.full_files(found.root)
    if not files:
        output.line("No file of the audit log is full yet: there is nothing to move.")
        return
    archives.copy(files, directory)
    names = [path.name for path in files]
    request = {"do": "audit archive", "file": str(directory.absolute()), "names": names}
    first = perform(found, request)["first"]
    for path in files:
        path.unlink(missing_ok=True)
    sync_directory(found.root)
    moved = ", ".join(names)
    output.line(f"Moved {moved} to {directory}; the log here begins with entry {first}.")


def _summary(found: reader.Verdict) -> str:
    if not found.count:
        return "The audit log has no entries."
    state = "This is not the log that was written" if found.found else "The log is whole"
    behind = "" if found.first == 1 else f", from entry {found.first} on"
    lost = f" {found.lost} more found no room, as it says itself." if found.lost else ""
    return f"{state}: {found.count} entries{behind}.{lost} Mark: {found.mark}"


def _shown(text: str) -> str:
    try:
        entry = notation.loads(text)
        words = [str(entry.pop(key)) for key in ("n", "time", "event")]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return output.printable(f"? {text}")
    facts = {name: value for name, value in entry.items() if name not in ("prev", "mac")}
    return output.printable(" ".join([*words, *(f"{k}={_value(v)}" for k, v in facts.items())]))


def _value(value) -> str:
    if isinstance(value, dict):
        value = [f"{name}:{each}" for name, each in value.items() if each is not None]
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return "-" if value is None else str(value)
