"""`covey health` and `covey unit`."""

from pathlib import Path
from typing import Annotated

import typer

from .. import control, output
from .. import site as sites
from ..errors import FAILURE, MISUSE, Problem
from ..options import Interface, Json, Site, Ttl, Workers
from . import unit as units
from .health import answer

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
        found = answer([problem.sentence], [])
    if found is None:
        found = answer(["No key server is running."], [])
    if json:
        output.emit({"event": "health", **found})
    elif found["healthy"]:
        output.line("The key server does its work.")
    for sentence in () if json else (*found["faults"], *found.get("warnings", {}).values()):
        output.complain(sentence)
    return 0 if found["healthy"] else FAILURE


def unit(
    user: Annotated[
        str, typer.Option(help="Whose files they are, and as whom it runs.")
    ] = "covey",
    name: Annotated[
        str | None, typer.Option(help="What the service is called [covey, covey-gateway].")
    ] = None,
    gateway: Annotated[
        Path | None, typer.Option(help="For a gateway in place of a key server: gateway.toml.")
    ] = None,
    interface: Interface = None,
    ttl: Ttl = None,
    workers: Workers = 0,
    site: Site = None,
) -> None:
    """Print a systemd unit for this site's key server, or for a gateway."""
    arguments = [] if interface is None else ["--interface", interface]
    arguments += [] if ttl is None else ["--ttl", str(ttl)]
    arguments += ["--workers", str(workers)] if workers else []
    if gateway is None:
        text = units.unit(sites.find(site), user, name or "covey", arguments)
    elif arguments or site is not None:
        raise Problem("A gateway has all of it in its gateway.toml.", MISUSE)
    else:
        from ..gateway.unit import unit as gateway_unit

        text = gateway_unit(gateway, user, name or "covey-gateway")
    output.line(text.rstrip())
