"""The commands around boards: images, and what brings them there."""

from pathlib import Path
from typing import Annotated

import typer

from . import commands

Site = Annotated[
    Path | None,
    typer.Option("--site", help="The site's directory [$COVEY_SITE, else the current one]."),
]
Member = Annotated[
    str, typer.Argument(metavar="NAME", help="A member of the site, or the path of its files.")
]
Board = Annotated[
    str, typer.Option("--board", help="The name of a board, or the path of a board file.")
]


def register(app: typer.Typer) -> None:
    """Give the covey command what stands here."""
    app.command()(image)


def image(
    name: Member,
    board: Board,
    firmware: Annotated[
        Path | None,
        typer.Option(help="MicroPython's .bin or .uf2 file [the file system alone]."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file [in members/NAME/].")
    ] = None,
    main: Annotated[
        Path | None, typer.Option(help="Your own main.py [the one that covey brings].")
    ] = None,
    romfs: Annotated[
        bool,
        typer.Option("--romfs", help="The code in ROMFS, which runs from flash and not RAM."),
    ] = False,
    flash_size: Annotated[
        str | None, typer.Option(help="4MB, 8MB: another module than the board file's.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    site: Site = None,
) -> None:
    """Make what a member's board gets: firmware, code, configuration and keys in one file.

    The file holds the member's secrets.
    """
    commands.image(
        site,
        name,
        board,
        firmware,
        output=output,
        main=main,
        romfs=romfs,
        flash_size=flash_size,
        as_json=json,
    )
