"""The `covey` command. Whatever goes wrong is one sentence on stderr and an exit status.

0 done · 1 understood, and could not be done · 2 misuse · 130 Ctrl-C. COVEY_DEBUG=1 shows where
an unexpected error came from.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from . import certcommands, commands, interrupts, output, rolecommands
from .audit import cli as audit
from .board import cli as board
from .desk import cli as desk
from .errors import FAILURE, INTERRUPTED, MISUSE, Problem
from .gateway import cli as gateway
from .options import (
    Interface,
    Json,
    Name,
    Names,
    Site,
    StoreCa,
    StoreCert,
    StoreKey,
    Ttl,
    Workers,
)
from .service import cli as service
from .store.location import place_of
from .vault import cli as vault
from .vault import storecli

Csr = Annotated[
    Path | None, typer.Option(help="A certificate request: its key never leaves its owner.")
]
Cert = Annotated[Path | None, typer.Option(help="A certificate that was signed elsewhere.")]
Days = Annotated[int | None, typer.Option(min=1, max=36500, help="How long it holds [3650].")]
_USAGE = typer.BadParameter.__mro__[2]  # every error of usage, wherever Typer keeps that class
_SETTINGS = {"help_option_names": ["-h", "--help"]}
_APP = {"no_args_is_help": False, "add_completion": False, "context_settings": _SETTINGS}

app = typer.Typer(help="Secure multicast for microcontrollers.", **_APP)
group_app = typer.Typer(help="Groups: what covey.toml says.", **_APP)
member_app = typer.Typer(help="Members: who may register.", **_APP)
site_app = typer.Typer(help="The site: what all its boards share.", **_APP)
store_app = typer.Typer(
    help="The store: where the key server keeps what it must not forget.", **_APP
)
app.add_typer(group_app, name="group")
app.add_typer(member_app, name="member")
app.add_typer(site_app, name="site")
app.add_typer(store_app, name="store")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="New or empty.")] = Path("."),
    identity: Annotated[
        str | None, typer.Option(help="Domain name that members know the key server by.")
    ] = None,
    ca_cert: Annotated[
        Path | None, typer.Option(help="Certificate of the CA of its members [a new one].")
    ] = None,
    ca_key: Annotated[
        Path | None, typer.Option(help="That CA's key; without it others sign certificates.")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(help="Where the key that seals state.db is to be [site.key, in DIR]."),
    ] = None,
) -> None:
    """Make a site: covey.toml (policy, commented) and state.db (the key server's keys, a CA)."""
    commands.init(directory, identity, ca_cert, ca_key, key_file)


@group_app.command("add")
def group_add(
    name: Name,
    address: Annotated[str, typer.Option(help="Multicast IPv4 address.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The application's UDP port.")],
    lifetime: Annotated[str | None, typer.Option(help="Of keys: 30m, 1h, 7d.")] = None,
    carrier: Annotated[
        str, typer.Option(help="udp: ESP in UDP. ip: IP protocol 50, for which members need root.")
    ] = "udp",
    rekey: Annotated[
        str | None,
        typer.Option(help="multicast: one message for all. inband: to each over its IKE SA."),
    ] = None,
    delivery: Annotated[
        str | None,
        typer.Option(help="Of data. multicast; unicast: by way of the key server, to each."),
    ] = None,
    integrity_only: Annotated[
        bool,
        typer.Option("--integrity-only", help="Data go in clear: anyone reads, nobody changes."),
    ] = False,
    source_auth: Annotated[
        str | None, typer.Option(help="What proves who sent a packet: none, mac, tesla, ecdsa.")
    ] = None,
    site: Site = None,
) -> None:
    """Add a group to covey.toml; a running server takes it at once."""
    settings = {"address": address, "port": port, "lifetime": lifetime, "carrier": carrier}
    settings |= {"delivery": delivery, "rekey": rekey, "integrity_only": integrity_only or None}
    settings["source_auth"] = source_auth
    commands.group_add(site, name, settings)


@group_app.command("list")
def group_list(json: Json = False, site: Site = None) -> None:
    """The groups in covey.toml."""
    commands.group_list(site, json)


@member_app.command("add")
def member_add(
    name: Name,
    group: Annotated[str, typer.Option(help="The group it may join: one a member.")],
    sender: Annotated[
        bool, typer.Option("--sender", help="It may send, too: short for --role both.")
    ] = False,
    role: Annotated[
        str | None, typer.Option(help="What it may do there: receiver, sender, both [receiver].")
    ] = None,
    auth: Annotated[
        str,
        typer.Option(
            help="psk: a pre-shared key. cert: its own key, with a certificate. key: without."
        ),
    ] = "psk",
    psk_file: Annotated[
        Path | None, typer.Option(help="Use this pre-shared key [a new random one].")
    ] = None,
    ppk: Annotated[
        bool,
        typer.Option("--ppk", help="Its keys are to outlast quantum computers [as its group]."),
    ] = False,
    ppk_optional: Annotated[
        bool, typer.Option("--ppk-optional", help="The same; but it may do without, unseen.")
    ] = False,
    public_key: Annotated[
        Path | None,
        typer.Option(help="With key: the public one, of a key that never leaves its owner."),
    ] = None,
    csr: Csr = None,
    cert: Cert = None,
    days: Days = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST[:PORT] of the key server as this member sees it; may be repeated."
        ),
    ] = None,
    delivery: Annotated[
        str | None,
        typer.Option(help="unicast: data come and go by way of the key server [as its group]."),
    ] = None,
    interface: Interface = None,
    ttl: Ttl = None,
    site: Site = None,
) -> None:
    """Let a member register, and write members/NAME/: what its board needs, nothing else.

    A covey.json names one group; a board in two groups gets two names.
    """
    commands.member_add(
        site,
        name,
        group,
        auth,
        sender=sender,
        role=role,
        psk_file=psk_file,
        public_key=public_key,
        ppk="optional" if ppk_optional else "required" if ppk else None,
        csr=csr,
        cert=cert,
        days=days,
        servers=server,
        delivery=delivery,
        interface=interface,
        ttl=ttl,
    )


@member_app.command("allow")
def member_allow(
    name: Name,
    group: Annotated[str, typer.Argument(help="A group, or a pattern such as 'line*'.")],
    role: Annotated[str, typer.Argument(help="receiver, sender, both, none; default: no rule.")],
    site: Site = None,
) -> None:
    """Change what a member may do in a group, or in all groups of a pattern, from now on."""
    rolecommands.member_allow(site, name, group, role)


@member_app.command("remove")
def member_remove(names: Names, site: Site = None) -> None:
    """Evict members at once; they can register no more."""
    commands.member_remove(site, names)


@member_app.command("revoke")
def member_revoke(names: Names, site: Site = None) -> None:
    """Make the certificates of members void: they are evicted at once, and register no more."""
    commands.member_remove(site, names, revoke=True)


@member_app.command("renew")
def member_renew(
    name: Name, csr: Csr = None, cert: Cert = None, days: Days = None, site: Site = None
) -> None:
    """Give a member another certificate for its key, before the old one ends."""
    certcommands.member_renew(site, name, csr, cert, days)


@member_app.command("list")
def member_list(json: Json = False, site: Site = None) -> None:
    """The members that may register."""
    commands.member_list(site, json)


@site_app.command("wifi")
def site_wifi(
    ssid: Annotated[str | None, typer.Option(help="The network's name [asked for].")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="It has no password.")] = False,
    site: Site = None,
) -> None:
    """Tell the boards' Wi-Fi, once: the password is asked for, or read from stdin."""
    commands.site_wifi(site, ssid, is_open)


@site_app.command("ca")
def site_ca(
    new: Annotated[
        bool, typer.Option("--new", help="Make a CA, for a site that has none.")
    ] = False,
    ca_cert: Annotated[
        Path | None, typer.Option(help="Take this CA, in place of the one that is there.")
    ] = None,
    ca_key: Annotated[
        Path | None, typer.Option(help="Its key, if certificates are made here.")
    ] = None,
    new_key: Annotated[
        bool,
        typer.Option("--new-key", help="Give the key server another key: its own is known."),
    ] = False,
    csr: Annotated[
        Path | None, typer.Option(help="Write the request for the key server's certificate.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(help="Take the key server's certificate, signed elsewhere.")
    ] = None,
    crl: Annotated[
        Path | None,
        typer.Option(help="Take a list of what the CA has revoked; evict who is in it."),
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Write the CA's certificate.")] = None,
    json: Json = False,
    site: Site = None,
) -> None:
    """Certificates: the site's CA, its key server's certificate, what is revoked."""
    files = {"ca_cert": ca_cert, "ca_key": ca_key, "csr": csr, "cert": cert, "crl": crl}
    certcommands.site_ca(site, json, new=new, new_key=new_key, export=export, **files)


@app.command()
def serve(
    json: Json = False,
    user: Annotated[
        str | None, typer.Option(help="Open ports as root, and do all else as this user.")
    ] = None,
    interface: Interface = None,
    ttl: Ttl = None,
    workers: Workers = 0,
    store: Annotated[
        str | None,
        typer.Option(help="etcd://HOST:PORT,HOST:PORT/NAME, where the site is [as store.toml]."),
    ] = None,
    store_ca: StoreCa = None,
    store_cert: StoreCert = None,
    store_key: StoreKey = None,
    replica: Annotated[
        str | None, typer.Option(help="Its name among others at the same etcd [the machine's].")
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(help="Where members find it: an address or a name [as it listens]."),
    ] = None,
    site: Site = None,
) -> int:
    """Run the key server. Its log goes to stderr."""
    place = None if store is None else place_of(store, store_ca, store_cert, store_key)
    if place is None and (store_ca or store_cert or store_key):
        raise Problem("--store-ca, --store-cert and --store-key go with --store.", MISUSE)
    return commands.serve(site, json, interface, ttl, user, workers, place, replica, advertise)


@app.command()
def drain(site: Site = None) -> None:
    """Send the members of this key server to the others, let another lead, and end it."""
    commands.drain(site)


@app.command("policy")
def show_policy(site: Site = None) -> None:
    """Print the policy in force: with several key servers, it may be none of their files."""
    commands.show_policy(site)


@app.command()
def status(json: Json = False, site: Site = None) -> None:
    """What the groups and members are doing, from the running server or from the store."""
    commands.status(site, json)


@app.command()
def why(name: Name, json: Json = False, site: Site = None) -> None:
    """Why a member gets no packets: what is known of it, what happened, what to do."""
    commands.why(site, name, json)


@app.command()
def rekey(group: Name, site: Site = None) -> None:
    """Give a group new keys now."""
    commands.rekey(site, group)


@app.command()
def keys(
    export: Annotated[
        Path, typer.Option("--export", metavar="DIR", help="Where the tables go; made if new.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", help="Add keys as they come, until Ctrl-C.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
    site: Site = None,
) -> int:
    """Write the keys of groups and IKE SAs to files, for Wireshark to open a capture with.

    Whoever has these files reads the groups. The key server's log says that they were exported.
    """
    return commands.keys(site, export, is_sure=yes, follow=follow, as_json=json)


@app.command()
def reload(site: Site = None) -> None:
    """Have the running server read covey.toml again; a file with a mistake changes nothing."""
    commands.reload(site)


@app.command()
def join(
    name: Annotated[
        str, typer.Argument(help="A member of the site, or the path of a covey.json.")
    ],
    send: Annotated[
        str | None, typer.Option(help="Send this text; '-' sends each line of stdin.")
    ] = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="Show what arrives [without --send].")
    ] = False,
    json: Json = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="Leave after sending, and receiving, so many.")
    ] = None,
    interval: Annotated[float, typer.Option(min=0, help="Seconds between two sent texts.")] = 1.0,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for a key server [until each was asked]."),
    ] = None,
    interface: Interface = None,
    ttl: Ttl = None,
    site: Site = None,
) -> None:
    """Be a member on this desktop, by the same code as on the boards."""
    commands.join(
        site,
        name,
        interface,
        ttl=ttl,
        text=send,
        listen=listen,
        as_json=json,
        count=count,
        interval_s=interval,
        timeout_s=timeout,
    )


audit.register(app)
service.register(app)
board.register(app)
desk.register(app)
gateway.register(app)
vault.register(app, site_app)
storecli.register(store_app)


def _tidied(some: typer.Typer) -> None:
    for command in some.registered_commands:
        command.callback = interrupts.tidied(command.callback)
    for group in some.registered_groups:
        _tidied(group.typer_instance)


_tidied(app)


def main(arguments: list[str] | None = None) -> None:
    """The console script. Ends by SystemExit; no traceback whatever happens."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(arguments or ["--help"]))


def _run(arguments: list[str]) -> int:
    try:
        return app(arguments, prog_name="covey", standalone_mode=False) or 0
    except Problem as problem:
        output.complain(problem.sentence)
        return problem.status
    except _USAGE as error:
        output.complain(_usage_sentence(error))
        return MISUSE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:  # the last resort: nobody sees a traceback unasked
        if os.environ.get("COVEY_DEBUG") == "1":
            traceback.print_exc()
        output.complain(_fault_sentence(error))
        return FAILURE


def _usage_sentence(error) -> str:
    """Typer's own message, which fills a box of several lines otherwise."""
    said = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if getattr(error, "ctx", None) else "covey"
    return f"{said}: see `{command} --help`."


def _fault_sentence(error: Exception) -> str:
    """Without the error's own text, which may hold anything: a key, too."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    name = type(error).__name__
    return (
        f"Covey failed inside ({name}): run it again with COVEY_DEBUG=1 and report what it says."
    )
