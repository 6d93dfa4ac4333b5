"""The commands around boards: images, and what brings them there. esptool, which reads files of
the user at home, is loaded by these only: a key server has no home."""

from pathlib import Path
from typing import Annotated

import typer

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
ConstantTime = Annotated[
    bool | None,
    typer.Option(
        "--constant-time/--no-constant-time",
        help="AES-GCM whose time tells nothing of keys [as the board file has it].",
    ),
]


def register(app: typer.Typer) -> None:
    """Give the covey command what stands here."""
    app.command()(image)
    app.command()(flash)
    app.command()(install)
    app.command()(words)


def image(
    name: Member,
    board: Board,
    firmware: Annotated[
        Path | None,
        typer.Option(help="MicroPython's .bin or .uf2 file; without it the file system alone."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; by default in members/NAME/.")
    ] = None,
    main: Annotated[
        Path | None, typer.Option(help="Your own main.py, in place of the one that covey brings.")
    ] = None,
    romfs: Annotated[
        bool,
        typer.Option("--romfs", help="The code in ROMFS, which runs from flash and not RAM."),
    ] = False,
    flash_size: Annotated[
        str | None, typer.Option(help="4MB, 8MB: another module than the board file's.")
    ] = None,
    constant_time: ConstantTime = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    site: Site = None,
) -> None:
    """Make what a member's board gets: firmware, code, configuration and keys in one file.

    The file holds the member's secrets.
    """
    from . import commands

    commands.image(
        site,
        name,
        board,
        firmware,
        output=output,
        main=main,
        romfs=romfs,
        flash_size=flash_size,
        constant_time=constant_time,
        as_json=json,
    )


def flash(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A member, or a file that covey image made.")
    ],
    board: Board,
    port: Annotated[
        str | None,
        typer.Option(help="/dev/ttyUSB0, COM3; for a UF2 board the directory of its drive."),
    ] = None,
    firmware: Annotated[
        Path | None,
        typer.Option(help="MicroPython's .bin or .uf2 file [the file system alone]."),
    ] = None,
    erase: Annotated[
        bool, typer.Option("--erase", help="All of the flash first: nothing old stays.")
    ] = False,
    main: Annotated[
        Path | None, typer.Option(help="Your own main.py [the one that covey brings].")
    ] = None,
    romfs: Annotated[bool, typer.Option("--romfs", help="The code in ROMFS.")] = False,
    flash_size: Annotated[
        str | None, typer.Option(help="4MB, 8MB: another module than the board file's.")
    ] = None,
    constant_time: ConstantTime = None,
    baud: Annotated[int, typer.Option(min=9600, max=4000000, help="Bits a second.")] = 460800,
    no_stub: Annotated[
        bool, typer.Option("--no-stub", help="By the chip's ROM alone: slower, never --erase.")
    ] = False,
    site: Site = None,
) -> None:
    """Write a member's image into the flash of its board, and verify it there."""
    from . import bring

    bring.flash(
        site,
        name,
        board,
        port,
        firmware=firmware,
        erase=erase,
        main=main,
        romfs=romfs,
        flash_size=flash_size,
        constant_time=constant_time,
        baud=baud,
        no_stub=no_stub,
    )


def install(
    name: Member,
    port: Annotated[str, typer.Option(help="/dev/ttyUSB0, COM3.")],
    board: Annotated[
        str | None, typer.Option("--board", help="Its board file [what the board says it is].")
    ] = None,
    main: Annotated[
        Path | None, typer.Option(help="Your own main.py [the one that covey brings].")
    ] = None,
    constant_time: ConstantTime = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite a main.py that is not Covey's.")
    ] = False,
    site: Site = None,
) -> None:
    """Bring a member onto a board that runs MicroPython: all that has changed, or nothing."""
    from . import bring

    bring.install(
        site,
        name,
        port,
        board,
        main=main,
        constant_time=constant_time,
        may_replace=replace,
    )


def words(
    names: Annotated[
        Path, typer.Option(help="The .names.json that covey image wrote beside the image.")
    ],
    traceback: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="What the board said [stdin].")
    ] = None,
) -> None:
    """Give a board's traceback the names of the source in place of the short ones."""
    from . import commands

    commands.words(names, traceback)
