"""`covey health` and `covey unit`."""

import typer

from .. import control, output
from .. import site as sites
from ..errors import FAILURE, Problem
from ..options import Interface, Json, Site, Ttl, Workers
from . import unit as units

_ANSWER_S = 10  # how long a healthy key server takes at most


def register(app: typer.Typer) -> None:
    for command in (health, unit):
        app.command()(command)


def health(json: Json = False, site: Site = None) -> int:
    """Whether the key server does its work: exit status 0, or 1 and what is wrong."""
    place = sites.find(site)
    try:
        found = control.call(place.control, {"do": "health"}, _ANSWER_S)
    except Problem as problem:
        found = {"healthy": False, "faults": [problem.sentence], "troubles": []}
    if found is None:
        found = {"healthy": False, "faults": ["No key server is running."], "troubles": []}
    if json:
        output.emit({"event": "health", **found})
    elif found["healthy"]:
        output.line("The key server does its work.")
    for sentence in () if json else found["faults"]:
        output.complain(sentence)
    return 0 if found["healthy"] else FAILURE


def unit(
    user: str = typer.Option("covey", help="Whose the site is, and as whom it runs."),
    name: str = typer.Option("covey", help="What the service is called."),
    interface: Interface = None,
    ttl: Ttl = None,
    workers: Workers = 0,
    site: Site = None,
) -> None:
    """Print a systemd unit for this site's key server."""
    arguments = [] if interface is None else ["--interface", interface]
    arguments += [] if ttl is None else ["--ttl", str(ttl)]
    arguments += ["--workers", str(workers)] if workers else []
    output.line(units.unit(sites.find(site), user, name, arguments).rstrip())
