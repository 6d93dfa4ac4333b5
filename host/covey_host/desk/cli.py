"""`covey doctor`, `covey bench`, `covey attack`: options, and whom they are handed to."""

from pathlib import Path
from typing import Annotated

import typer

from ..options import Interface, Json, Site

Port = Annotated[
    str | None, typer.Option("--port", help="Serial port of a board, such as /dev/ttyUSB0.")
]


def register(app: typer.Typer) -> None:
    """Give the covey command what stands here."""
    for command in (doctor, bench, attack):
        app.command()(command)


def doctor(
    port: Port = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="Count what `covey doctor --probe` sends elsewhere.")
    ] = False,
    probe: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Send probes to whoever listens, and to HOST alone."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=600, help="How long to listen for probes.")
    ] = 60.0,
    interface: Interface = None,
    json: Json = False,
    site: Site = None,
) -> int:
    """Find out why boards can't hear each other, and say what helps.

    Without options this machine and the site; with --port the board there, too. Between two
    machines: --listen on the one, --probe HOST on the other.
    """
    from . import doctor as work

    return work.run(site, interface, port, probe, listen=listen, seconds=seconds, as_json=json)


def bench(
    port: Port = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the rows there, as JSON.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out public keys, which take a minute.")
    ] = False,
) -> int:
    """Measure what packets and keys cost on the board, beside our figures; as Markdown.

    The member must be installed there. The board starts again at the end.
    """
    from ..bench import onboard

    return onboard.run(port, out, quick=quick)


def attack(
    group: Annotated[str, typer.Argument(help="A group of this site.")],
    watch: Annotated[
        str | None,
        typer.Option(metavar="MEMBER", help="Be this member too, and count what becomes of it."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=5, max=3600, help="How long to listen to the group first.")
    ] = 30.0,
    rekey: Annotated[
        bool, typer.Option(help="Ask for new keys in between, for what needs old ones.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Makes the choices repeatable.")] = 0,
    interface: Interface = None,
    json: Json = False,
    site: Site = None,
) -> int:
    """Attack a group of this site, to see that nothing comes of it: the LED stays as it is."""
    from . import attack as work

    return work.run(
        site, group, watch, interface, seconds=seconds, rekeys=rekey, seed=seed, as_json=json
    )
