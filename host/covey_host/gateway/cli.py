"""`covey gateway`: options, and whom they are handed to."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import MISUSE, Problem
from ..options import Json


def register(app: typer.Typer) -> None:
    """Give the covey command what stands here."""
    app.command()(gateway)


def gateway(
    file: Annotated[Path, typer.Argument(help="Which flows cross, and how: gateway.toml.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether the file and the cards will do.")
    ] = False,
    unfence: Annotated[
        bool,
        typer.Option("--unfence", help="Take away the fence that a gateway has left standing."),
    ] = False,
    json: Json = False,
) -> None:
    """Protect the class 1 multicast of EtherNet/IP devices that can't be reflashed.

    Runs until Ctrl-C or SIGTERM on a Linux machine that routes between its two network cards.
    """
    from . import service

    if unfence:
        if check:
            raise Problem("Say --check or --unfence, not both.", MISUSE)
        service.unfence(file)
    else:
        service.run(file, json, check)
