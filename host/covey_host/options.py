"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Site = Annotated[
    Path | None,
    typer.Option("--site", help="The site's directory [$COVEY_SITE, else the current one]."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Interface = Annotated[
    str | None,
    typer.Option("--interface", help="Network card for multicast, by name or IPv4 address."),
]
Ttl = Annotated[
    int | None,
    typer.Option("--ttl", min=1, max=255, help="Routers that multicast may pass, plus 1."),
]
Name = Annotated[str, typer.Argument(help="Letters, digits, '.', '_', '-'; at most 63.")]
Names = Annotated[list[str], typer.Argument(help="One or more.", metavar="NAME...")]
Workers = Annotated[
    int,
    typer.Option(min=0, max=64, help="Processes beside this one that let members in [none]."),
]
StoreCa = Annotated[
    Path | None, typer.Option("--store-ca", help="CA of etcd's certificates, as PEM.")
]
StoreCert = Annotated[
    Path | None, typer.Option("--store-cert", help="What this machine proves itself to etcd by.")
]
StoreKey = Annotated[Path | None, typer.Option("--store-key", help="The key of that.")]
