"""What each command does with its arguments: ask the running server, or do it under the lock."""

import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from . import control, output, overview
from . import site as sites
from . import why as words
from .audit import naming, recorder
from .errors import MISUSE, Problem
from .gcks import authority, policy, policyvalues, trust
from .gcks.sockets import interface_address
from .operations import LISTEN_WAITS, Operations
from .psk import read_psk
from .site import Site, check_name
from .store import Locked, location
from .store.place import Place
from .vault.opening import create_store, open_store

_LOCK_WAIT_S = 5  # another command, or a server that starts or stops, may hold it so long
_LOCK_POLL_S = 0.05
_DRAINED_S = 30  # in which a server that drains ends
_IDENTITY = "gcks.local"  # where this machine's own name can't be one


def init(
    directory: Path,
    identity: str | None,
    ca_cert: Path | None = None,
    ca_key: Path | None = None,
    key_file: Path | None = None,
) -> None:
    def fill(path: Path) -> None:
        store = create_store(path, Site(directory).key, key_file)
        try:
            authority.make_signing_key(store)
            trust.create(store, name, ca, now)
        finally:
            store.close()

    now, ca = time.time(), None
    if ca_cert is not None:
        key = None if ca_key is None else read_file(ca_key)
        ca = trust.read_ca(read_file(ca_cert), key, str(ca_cert), str(ca_key), now)
    elif ca_key is not None:
        raise Problem("--ca-key goes with --ca-cert: name both.", MISUSE)
    try:
        name = policyvalues.identity(_own_identity() if identity is None else identity)
    except ValueError as error:
        raise Problem(f"--identity {error}", MISUSE) from None
    made = sites.create(directory, policy.template(name), fill)
    output.line(f"Made a site in {made.root}; next: covey group add NAME --address A --port P")
    if ca is not None and ca[1] is None:
        output.line(
            "The key of its CA is elsewhere. For members with certificates: `covey site ca --csr"
            " FILE`, have that signed, and `covey site ca --cert FILE`."
        )


def group_add(option: Path | None, name: str, settings: dict[str, Any]) -> None:
    check_name("group", name)
    answer = perform(sites.find(option), {"do": "group add", "group": name, "settings": settings})
    output.line(f"Added group {name} ({answer['address']}, port {answer['port']}) to covey.toml.")


def group_list(option: Path | None, as_json: bool) -> None:
    columns = ["address", "port", "carrier", "delivery", "rekey"]
    columns += ["integrity_only", "source_auth", "ppk", "key_bits", "lifetime_s"]
    found = policy.load(sites.find(option).policy).groups.values()
    rows = [[g.name, *(getattr(g, column) for column in columns)] for g in found]
    _show("group", ["group", *columns], rows, as_json)


def member_add(option: Path | None, name: str, group: str, auth: str, **wishes: Any) -> None:
    check_name("member", name)
    if auth not in (authority.PSK, authority.CERT, authority.KEY):
        raise Problem(f"--auth {auth} is unknown: use psk, cert or key.", MISUSE)
    of_certificates = [wishes["csr"], wishes["cert"], wishes["days"]]
    if auth != authority.CERT and any(wish is not None for wish in of_certificates):
        raise Problem("--csr, --cert and --days go with --auth cert.", MISUSE)
    if auth != authority.PSK and wishes["psk_file"] is not None:
        raise Problem("--psk-file goes with --auth psk.", MISUSE)
    if auth != authority.KEY and wishes["public_key"] is not None:
        raise Problem("--public-key goes with --auth key.", MISUSE)
    request = {"do": "member add", "member": name, "group": group, "sender": wishes["sender"]}
    request["role"] = wishes["role"]
    if wishes["psk_file"] is not None:
        request["psk"] = read_psk(wishes["psk_file"]).hex()
    if wishes["servers"]:
        request["servers"] = [_host_and_port(server) for server in wishes["servers"]]
    if wishes["interface"] is not None:
        request["interface"] = interface_address(wishes["interface"])
    request |= {"auth": auth, **certificate_files(wishes)}
    if wishes["public_key"] is not None:
        request["public_key"] = read_file(wishes["public_key"]).decode("latin-1")
    request["ppk"] = wishes["ppk"]
    request["ttl"] = wishes["ttl"]
    request["delivery"] = wishes["delivery"]
    answer = perform(sites.find(option), request)
    places = " or ".join(f"{s['host']}:{s['port']}" for s in answer["servers"])
    output.line(
        f"Wrote {answer['directory']}/ (covey.json, {', '.join(answer['files'])}): a member of"
        f" group {group} that finds its key server at {places}."
    )
    if answer["lacks_key"]:
        output.line(
            "Its private key, key.pem there, is for its owner to add: on the board alone, if"
            " nobody else is to have it."
        )


def certificate_files(wishes: dict[str, Any]) -> dict[str, Any]:
    if wishes["csr"] is not None and wishes["cert"] is not None:
        raise Problem("--csr asks for what --cert is: name one of them.", MISUSE)
    found = {"days": wishes["days"]}
    for key in ("csr", "cert"):
        if wishes[key] is not None:
            found[key] = read_file(wishes[key]).decode("latin-1")
    return found


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from error


def member_remove(option: Path | None, names: list[str], *, revoke: bool = False) -> None:
    for name in names:
        check_name("member", name)
    request = {"do": "member remove", "members": names, "revoke": revoke}
    site = sites.find(option)
    answer = perform(site, request)
    some = ", ".join(names)
    it, its, them, reads, has, sends = "it", "its", "it", "reads", "has", "sends"
    if len(names) > 1:
        it, its, them, reads, has, sends = "they", "their", "them", "read", "have", "send"
    if answer["deferred"]:
        output.line(
            f"Removed {some} in the store; no key server is running: until one is started,"
            f" {it} can still read with the keys that {it} {has}."
        )
    else:
        goes_on = not any(map(dismissal, answer["groups"]))
        on = f"; {its} groups go on without {them}" if goes_on else ""
        output.line(f"Removed {some}: {it} can register no more{on}.")
        for group in answer["groups"]:
            output.line(
                f"Group {group['group']}: {dismissal(group)}{it} {reads} nothing that is sent"
                f" {group['reads_s']} s from now or later, and nobody takes what {it} {sends}"
                f" {group['heard_s']} s from now."
            )


def dismissal(group: dict) -> str:
    """Of a group that somebody was put out of: what that means for all others, if they notice."""
    if not group.get("dismisses"):  # a server of before says nothing of it
        return ""
    silent_s = group["reads_s"]
    return f"all others have to register again, and nobody sends for {silent_s} s; "


def member_list(option: Path | None, as_json: bool) -> None:
    found = perform(sites.find(option), {"do": "member list"})["members"]
    columns = ["member", "group", "role", "sender", "auth", "delivery", "ppk"]
    _show("member", columns, [[m[c] for c in columns] for m in found], as_json)


def site_wifi(option: Path | None, ssid: str | None, is_open: bool) -> None:
    from . import wifi

    site = sites.find(option)
    wifi.keep(site, wifi.ask(ssid, is_open))
    output.line(f"Wrote {site.wifi}: images and installs from now on bring it to their boards.")


def serve(
    option: Path | None,
    as_json: bool,
    interface: str | None,
    ttl: int | None,
    user: str | None,
    workers: int,
    place: Place | None = None,
    replica: str | None = None,
    advertise: str | None = None,
) -> int:
    from .gcks.server import Server
    from .service.account import Account

    address = None if interface is None else interface_address(interface)
    account = None if user is None else Account(user)
    log = output.Log(as_json)
    if account:
        account.assume()  # what is written to the site is the user's
    site = _site_to_serve(option, place, replica, advertise)
    return Server(site, log, address, ttl, account, workers).run()


def _site_to_serve(
    option: Path | None, place: Place | None, replica: str | None, advertise: str | None
) -> Site:
    """With what was typed in its store.toml, so that every command has it from there."""
    if place is None and replica is None and advertise is None:
        return sites.find(option)
    if place is None:
        known = location.read(sites.find(option))
        if known is None:
            raise Problem("--replica and --advertise go with a store in etcd.", MISUSE)
        place = known[0]
    from .vault.copying import attach

    root = option or Path(os.environ.get("COVEY_SITE") or ".")
    had = location.own_of(Site(root))
    own = location.Own(
        had.replica if replica is None else replica,
        had.advertise if advertise is None else advertise,
    )
    own.check()
    former = location.replica_of(Site(root))
    site = attach(option, place, own)
    if former not in ("", location.replica_of(site)) and not control.call(
        site.control, {"do": "health"}
    ):
        naming.rename(site, former, location.replica_of(site))
    return site


def drain(option: Path | None) -> None:
    """Until the server has ended."""
    site = sites.find(option)
    answer = control.call(site.control, {"do": "drain"})
    if answer is None:
        raise Problem("No key server is running.")
    where = ", ".join(answer["hosts"])
    output.line(f"Members go to {where} from now on; this key server ends when they know.")
    end = time.monotonic() + _DRAINED_S
    while _answers(site):
        if time.monotonic() > end:
            raise Problem("The key server doesn't end: look at its log.")
        time.sleep(_LOCK_POLL_S)


def _answers(site: Site) -> bool:
    """Whether its key server is there: one that ends may hang up."""
    try:
        return control.call(site.control, {"do": "health"}) is not None
    except Problem:
        return True


def show_policy(option: Path | None) -> None:
    answer = perform(sites.find(option), {"do": "policy"})
    output.line(answer["text"].rstrip("\n"))  # TOML: nothing in it moves a cursor


def rekey(option: Path | None, group: str) -> None:
    check_name("group", group)
    answer = perform(sites.find(option), {"do": "rekey", "group": group})
    if answer["deferred"]:
        output.line(
            f"No key server is running: every group gets new keys when one starts, {group} too."
        )
    else:
        output.line(f"Rekeyed {group}.")


def status(option: Path | None, as_json: bool) -> None:
    found = perform(sites.find(option), {"do": "status"})
    if as_json:
        output.emit({"event": "status", **found})
        return
    server = found["server"]
    if server is None:
        output.line("The key server is not running; this is what its store holds.")
    else:
        listen = ", ".join(server["listen"])
        output.line(f"The key server runs as process {server['process']} on {listen}.")
        if server.get("workers"):
            of_them = ", ".join(str(pid or "-") for pid in server["workers"].values())
            output.line(f"Its workers are processes {of_them}.")
        if found.get("cluster"):
            overview.show_cluster(found["cluster"])
    if "problem" in found:
        raise Problem(found["problem"])
    overview.show(found)


def why(option: Path | None, name: str, as_json: bool) -> None:
    check_name("member", name)
    told = perform(sites.find(option), {"do": "why", "member": name})
    if as_json:
        output.emit(words.as_json(told))
        return
    for line in words.lines(told):
        output.line(line)


def reload(option: Path | None) -> None:
    site = sites.find(option)
    policy.load(site.policy)
    answer = control.call(site.control, {"do": "reload"})
    if answer is None:
        output.line("covey.toml is fine; no key server is running: one reads it when it starts.")
    else:
        output.line("The key server has taken covey.toml.")
        if answer.get("warning"):
            output.complain(answer["warning"])
        if answer["listen_waits"]:
            output.line(LISTEN_WAITS)


def keys(
    option: Path | None, directory: Path, *, is_sure: bool, follow: bool, as_json: bool
) -> int:
    from .keys import Export, confirm
    from .wireshark import Tables, command

    site = sites.find(option)
    confirm(directory, is_sure)
    tables = Tables(directory)
    tables.prepare()
    request = {"do": "keys", "follow": follow}
    answer = perform(site, request)
    if not as_json:
        output.line(f"Look into a capture by: {command(directory, answer['ports'])}")
    export = Export(tables, as_json)
    if follow:
        return export.follow(answer, lambda: control.call(site.control, request))
    export.once(answer)
    return 0


def join(option: Path | None, name: str, interface: str | None, **wishes: Any) -> None:
    from .join import Wish, run

    if os.sep in name or name.endswith(".json"):
        path = Path(name)
        path = path / "covey.json" if os.path.isdir(path) else path
    else:
        site = sites.find(option)
        path = site.members / check_name("member", name) / "covey.json"
        try:
            path.stat()
        except FileNotFoundError:
            what = f"There is no {path}: add the member with `covey member add`."
            raise Problem(what, MISUSE) from None
        except OSError:
            pass  # whoever reads it will say why not
    address = None if interface is None else interface_address(interface)
    run(Wish(name=name, config=path, interface=address, **wishes))


def perform(site: Site, request: dict) -> dict:
    """By the running server, else under the store's lock, waiting for whoever has it."""
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        answer = control.call(site.control, request)
        if answer is not None:
            if sentence := answer.pop("not_entered", None):
                output.complain(sentence)
            return answer
        store = open_store(site)
        try:
            store.lock(f"covey {request['do']}")
            with recorder.alone(site, store, request):
                return Operations(site, store).perform(request, 0)
        except Locked as locked:
            if time.monotonic() > end:
                if locked.holder.startswith("replica "):
                    raise Problem(
                        f"Key servers are at work on {location.name(site)} ({locked.holder}): type"
                        " this on a machine where one of them runs."
                    ) from None
                raise
        finally:
            store.close()
        time.sleep(_LOCK_POLL_S)


def _show(title: str, columns: list[str], rows: list[list], as_json: bool) -> None:
    if not as_json:
        output.table(title, columns, rows)
        return
    for row in rows:
        output.emit(dict(zip(columns, row, strict=True)))


def _host_and_port(text: str) -> list:
    """ "HOST" or "HOST:PORT" → [host, port or None]."""
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9.-]*)(?::([0-9]{1,5}))?", text)
    port = int(match[2]) if match and match[2] else None
    if not match or (port is not None and not 1 <= port <= 65535):
        raise Problem(f"{text!r} is no server: write HOST or HOST:PORT.", MISUSE)
    return [match[1], port]


def _own_identity() -> str:
    name = "gcks." + socket.gethostname().lower()
    return name if re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,100}[a-z0-9]", name) else _IDENTITY
