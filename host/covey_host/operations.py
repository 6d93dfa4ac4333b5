"""What commands do to a site: the same inside the running server and, with none, under the lock.

A request is a dict ({"do": "rekey", "group": "line1"}), so is the answer; control.py carries them.
When an operation returns, what it did is durable and what it had to say on the wire is sent.
"""

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from . import permissions, ppks
from . import site as sites
from .audit import archive, recorder
from .certificates import Certificates, stale
from .control import caller
from .errors import MISUSE, Problem
from .gcks import Out, policy, sitepolicy
from .gcks.authority import CERT, KEY, PSK, Authority, Member
from .gcks.diary import Diary
from .gcks.keyserver import OTHER_IDENTITY, KeyServer
from .gcks.ledger import Ledger
from .gcks.policyvalues import Listen
from .gcks.registrar import RELAY_NEEDS
from .gcks.room import check_change, check_group, check_room
from .gcks.sockets import own_address
from .psk import psk_of
from .site import Site, check_name
from .store import Fenced, Store, location
from .why import check_files

_MEMBER_FORMAT = 1  # "version" of covey.json
_SEED_LEN = 32  # of what its board stirs into its generator of chance, and renews
_RELAYED_LIVENESS_S = 15  # a NAT's new mapping, or a key server's start, is to be seen soon
_HAS = {PSK: "a pre-shared key", KEY: "a raw public key"}
_DEFAULT_SPREAD_S = 2  # what a member assumes where covey.json says nothing

_IN_DOUBT = (
    "Whether this was done is not known: see `covey status` and `covey member list` once that is"
    " mended, before you type it again."
)

LISTEN_WAITS = "`listen` has changed in covey.toml: that counts from the key server's next start."


class Running(Protocol):
    """The server that these operations run in."""

    keyserver: KeyServer

    @property
    def listen(self) -> tuple[Listen, ...]: ...
    def send(self, outs: list[Out]) -> None: ...
    def facts(self) -> dict: ...
    def cluster(self) -> dict | None: ...
    def check_routes(self, groups: list) -> None: ...
    def reload(self, rules: policy.SitePolicy, text: str, now_ms: int) -> list[Out]: ...
    def drain(self) -> list[str]: ...


class Operations:
    """running is None where no server runs: then the caller holds the store's lock."""

    def __init__(self, site: Site, store: Store, running: Running | None = None):
        self._site = site
        self._store = store
        self._running = running
        self._who = location.replica_of(site)  # "": there are no replicas
        self._certificates = Certificates(site, store, running)

    def perform(self, request: dict, now_ms: int) -> dict:
        """Problem where it can't be done; nothing has changed then unless the sentence says so."""
        work = _WORK.get(request.get("do")) if isinstance(request.get("do"), str) else None
        if work is None:
            raise Problem("The key server does not know this command: is it an older Covey?")
        try:
            return work(self, request, now_ms)
        except Problem as problem:
            if not problem.is_in_doubt:
                raise
            sentence = f"{problem.sentence} {_IN_DOUBT}"
            raise Problem(sentence, problem.status) from problem

    # Groups

    def group_add(self, request: dict, now_ms: int) -> dict:
        settings = request.get("settings")
        if not isinstance(settings, dict):
            raise Problem("The request lacks its settings.", MISUSE)
        name = _text(request, "group")
        if self._running:
            if settings.get("delivery") != policy.UNICAST:
                self._running.check_routes([settings.get("address")])
            self._check_identity(policy.load(self._site.policy))
        if not sitepolicy.is_same(policy.load(self._site.policy), self._rules()):
            raise Problem(sitepolicy.DIFFERS, MISUSE)
        authority = self._authority()
        former = policy.text_of(self._site.policy)
        made = policy.append_group(
            self._site.policy, name, lambda group: check_group(group, authority), **settings
        )
        try:
            if self._running:
                self.reload(request, now_ms)
        except Fenced:  # it is not in force, and is about to be tried again
            policy.replace_text(self._site.policy, former)
            raise
        return {"group": name, "address": made.address, "port": made.port}

    def reload(self, request: dict, now_ms: int) -> dict:
        """All but `listen`: sockets are opened at the start only."""
        text = policy.text_of(self._site.policy)
        rules = policy.parse(text, str(self._site.policy))
        check_room(rules, self._authority(), self._site.policy)
        waits, warning = False, ""
        if self._running:
            warning = self._check_identity(rules)
            waits = rules.listen != self._running.listen
            rules = replace(rules, listen=self._running.listen)
            self._running.check_routes(rules.multicast_addresses)
            self._running.send(self._running.reload(rules, text, now_ms))
        return {"groups": list(rules.groups), "listen_waits": waits, "warning": warning}

    def _check_identity(self, rules: policy.SitePolicy) -> str:
        """Problem where members would no longer know the key server that runs; a sentence where
        that can't be changed otherwise, since the policy is in the store."""
        was, now = self._running.keyserver.policy.identity, rules.identity
        if now == was:
            return ""
        if self._who:
            return OTHER_IDENTITY.format(was=was, now=now)
        raise Problem(
            f"identity in covey.toml is {now!r}, and members know the key server that runs as"
            f" {was!r}: put it back, or restart the key server and bring each member a covey.json"
            " with the new idr.",
            MISUSE,
        )

    def rekey(self, request: dict, now_ms: int) -> dict:
        name = _text(request, "group")
        if self._running:  # by the policy in force, whatever covey.toml says by now
            self._running.send(self._running.keyserver.rekey(name, now_ms))
        else:
            _known_group(self._rules(), name)
        return {"group": name, "deferred": not self._running}

    # Members

    def member_add(self, request: dict, now_ms: int) -> dict:
        name = check_name("member", _text(request, "member"))
        rules = self._rules()
        group = _known_group(rules, _text(request, "group"))
        role = permissions.role_wanted(request)
        relayed = _is_relayed(name, group, request)
        self._check_new(name)
        mixed = ppks.made_for(name, group, request.get("ppk"))
        nobody = Member(name, b"")
        new = Member(name, b"", {group.name: role}, **mixed)
        check_change({group.name: group}, self._authority(), nobody, new)
        how = {"role": role, "relayed": relayed, **mixed}
        if request.get("auth", PSK) == CERT:
            found = self._certificates.certified(name, rules.identity, request)
            files, proof, how["certificates"] = *found[:2], [found[2]]
        elif request.get("auth") == KEY:
            files, proof, how["key"] = self._certificates.raw(request)
        else:
            how["psk"] = psk = psk_of(request.get("psk"))
            files, proof = {"psk": psk.hex().encode() + b"\n"}, {"psk_file": "psk"}
        files, proof = (
            {**a, **b} for a, b in zip((files, proof), ppks.written(mixed), strict=True)
        )
        fields = _covey_json(name, rules, group, request, relayed, proof)
        draft = self._draft_member(name, fields, files)
        try:
            if self._running:
                self._running.keyserver.add_member(name, [group.name], **how)
            else:
                self._authority().add(name, [group.name], **how)
                facts = {"sender": role.sends, "role": role.word}
                self._remember("added", member=name, groups=[group.name], **facts)
            final = self._site.members / name
            sites.private_directory(final)
            for file in stale(final, files, how.get("key")):  # of a removed member of this name
                (final / file).unlink(missing_ok=True)
            for file in (*files, "seed", "covey.json"):
                os.replace(draft / file, final / file)
            sites.sync_directory(final)
            sites.sync_directory(self._site.members)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        where = {"directory": str(final), "servers": fields["servers"]}
        lacks_key = "key_file" in fields and not (final / fields["key_file"]).exists()
        return {"member": name, **where, "files": [*files, "seed"], "lacks_key": lacks_key}

    def member_renew(self, request: dict, now_ms: int) -> dict:
        """Another certificate, for the same key or that of a request; the old one holds, too."""
        name = check_name("member", _text(request, "member"))
        authority = self._authority()
        member = authority.find(name)
        if member is None or member.removed:
            raise Problem(f"There is no member {name}: see `covey member list`.", MISUSE)
        if member.auth != CERT:
            raise Problem(f"{name} has {_HAS[member.auth]}, and no certificate.", MISUSE)
        folder = self._site.members / name
        if request.get("csr") is None and request.get("cert") is None:
            request = {**request, "old": _read(folder / "cert.pem").decode("latin-1")}
        identity = self._rules().identity
        files, _, (id, until) = self._certificates.certified(name, identity, request)
        authority.issued(member, id, until)
        sites.replace_private(folder / "cert.pem", files["cert.pem"])
        return {"member": name, "directory": str(folder), "until": until}

    def member_remove(self, request: dict, now_ms: int) -> dict:
        """Returns when the removal is durable and the group was told."""
        names = request.get("members")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise Problem("The request needs a list of members.", MISUSE)
        names = [check_name("member", name) for name in names]
        known = [self._authority().find(name) for name in names]
        by_key = [member for member in known if member is not None and member.auth != CERT]
        if by_key and request.get("revoke") is True:
            raise Problem(
                f"{by_key[0].name} has {_HAS[by_key[0].auth]}, no certificate: use `covey member"
                " remove`.",
                MISUSE,
            )
        found = self._remove(names, now_ms)
        if len(by_key) < len(names):
            self._certificates.write_crl()
        return found

    def _remove(self, names: list[str], now_ms: int) -> dict:
        if not self._running:
            known = self._rules().groups
            for gone in self._authority().remove_without_server(*names, known=known):
                self._remember("removed", member=gone.name, groups=list(gone.roles(known)))
            return {"members": names, "deferred": True, "groups": []}
        keyserver = self._running.keyserver
        self._running.send(keyserver.remove_members(names, now_ms))
        return {"members": names, "deferred": False, "groups": keyserver.farewells(now_ms)}

    def member_list(self, request: dict, now_ms: int) -> dict:
        groups = self._rules().groups
        found = []
        for m in self._authority().members():
            for group, role in m.groups.items():
                is_relayed = m.relayed or group in groups and groups[group].relays_all
                delivery = policy.UNICAST if is_relayed else policy.MULTICAST
                facts = {"member": m.name, "group": group, "role": role.word}
                facts |= {"sender": role.sends, "auth": m.auth, "delivery": delivery}
                found.append({**facts, "ppk": ppks.shown(m)})
        return {"members": found}

    def member_allow(self, request: dict, now_ms: int) -> dict:
        """What it may do in a group, or in those of a pattern, becomes another thing."""
        check_name("member", _text(request, "member"))
        how = request, now_ms, self._remember, self._rules()
        return permissions.allow(self._site, self._authority(), self._running, *how)

    def site_ca(self, request: dict, now_ms: int) -> dict:
        """What is to be changed of whom the site trusts; then, how it is."""
        identity = self._rules().identity
        self._certificates.change(request, identity)
        found = self._certificates.facts(identity)
        evicted = self._certificates.void(self._authority) if request.get("crl") else []
        if evicted:
            self._remove(evicted, now_ms)
        return {**found, "evicted": evicted}

    # All of it

    def status(self, request: dict, now_ms: int) -> dict:
        member = request.get("member")
        if member is not None:
            member = _text(request, "member")
        if self._running:
            of_it = {"server": self._running.facts(), "cluster": self._running.cluster()}
            try:
                return {**of_it, **self._running.keyserver.status(now_ms, member)}
            except Problem as problem:  # a store that can't be reached is when others matter
                if of_it["cluster"] is None:
                    raise
                return {**of_it, "problem": problem.sentence}
        rules = self._rules()
        return {"server": None, "cluster": None, **KeyServer(self._store, rules).status(now_ms)}

    def why(self, request: dict, now_ms: int) -> dict:
        """All that is known of one member."""
        name = check_name("member", _text(request, "member"))
        rules = self._rules()
        server = self._running.keyserver if self._running else KeyServer(self._store, rules)
        found = server.why(name, now_ms)
        files = check_files(self._site, self._authority().find(name), rules)
        return {"running": self._running is not None, **found, "files": files}

    def keys(self, request: dict, now_ms: int) -> dict:
        """Keys in clear; the running server's log says who got them."""
        if self._running:
            follow = request.get("follow") is True
            found = self._running.keyserver.keys(now_ms, follow=follow, **caller())
        else:
            found = KeyServer(self._store, self._rules()).keys(now_ms)
        return {**found, "running": self._running is not None}

    def policy_text(self, request: dict, now_ms: int) -> dict:
        """The text of what is in force."""
        text = sitepolicy.read(Ledger(self._store)) if self._who else None
        return {"text": policy.text_of(self._site.policy) if text is None else text}

    def drain(self, request: dict, now_ms: int) -> dict:
        """Members are sent to other replicas, and this one ends."""
        if not self._running:
            raise Problem("No key server is running.")
        return {"hosts": self._running.drain()}

    def entered(self, request: dict, now_ms: int) -> dict:
        """What is done to the site's files elsewhere, and here only for the audit log."""
        return {}

    def audit_archive(self, request: dict, now_ms: int) -> dict:
        """Files of the audit log that were copied elsewhere may be taken away."""
        is_alone = self._running and not self._who
        ledger = self._running.keyserver.ledger if is_alone else Ledger(self._store)
        return {"first": archive.record(ledger, self._site.root, request.get("names"), self._who)}

    def _rules(self) -> policy.SitePolicy:
        """As covey.toml has them now, or, with replicas, as the store has them."""
        rules = policy.load(self._site.policy)
        text = sitepolicy.read(Ledger(self._store)) if self._who else None
        return rules if text is None else sitepolicy.parse(text, rules.listen)

    def _remember(self, event: str, **facts) -> None:
        """For `covey why`, where no server does it. It goes without, if it can't be written."""
        diary = Diary(self._store, None, self._authority(), time.time)
        diary.tell(event, facts)
        with suppress(Problem):
            diary.flush(1)

    def _authority(self) -> Authority:
        """The running server's has counted its members."""
        if self._running:
            return self._running.keyserver.authority
        return Authority(Ledger(self._store))

    def _check_new(self, name: str) -> None:
        known = self._authority().find(name)
        if known is not None and not known.removed:
            raise Problem(f"{name} is a member already: choose another name.", MISUSE)

    def _draft_member(self, name: str, fields: dict, files: dict[str, bytes]) -> Path:
        """All files, complete, beside their place: nothing is promised before they exist."""
        draft = sites.private_directory(self._site.members) / f".{name}.new"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            sites.private_directory(draft)
            for file, data in files.items():
                sites.write_private(draft / file, data)
            sites.write_private(draft / "seed", os.urandom(_SEED_LEN))
            text = json.dumps(fields, indent=2) + "\n"
            sites.write_private(draft / "covey.json", text.encode())
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise Problem(f"{draft} can't be written: {os.strerror(error.errno or 0)}.") from error
        return draft


_WORK = {
    "group add": Operations.group_add,
    "reload": Operations.reload,
    "rekey": Operations.rekey,
    "member add": Operations.member_add,
    "member remove": Operations.member_remove,
    "member renew": Operations.member_renew,
    "site ca": Operations.site_ca,
    "member list": Operations.member_list,
    "member allow": Operations.member_allow,
    "status": Operations.status,
    "why": Operations.why,
    "keys": Operations.keys,
    "policy": Operations.policy_text,
    "drain": Operations.drain,
    "backup": Operations.entered,
    "restore": Operations.entered,
    "site key": Operations.entered,
    "store copy": Operations.entered,
    "audit archive": Operations.audit_archive,
    "failed": Operations.entered,
}


# What reads, or is entered into the audit log alone.
_CHANGES_NOTHING = {"status", "why", "member list", "keys", "policy", "drain", "audit archive"}


def changes_state(request: dict) -> bool:
    """Whether only the holder of the term may do it."""
    what = request.get("do")
    if what == "site ca":
        return recorder.is_entered(request)
    work = _WORK.get(what) if isinstance(what, str) else None
    return work is not None and work is not Operations.entered and what not in _CHANGES_NOTHING


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from error


def _text(request: dict, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise Problem(f"The request lacks the name of its {key}.", MISUSE)
    return value


def _known_group(rules: policy.SitePolicy, name: str) -> policy.GroupPolicy:
    if name not in rules.groups:
        raise Problem(f"There is no group {name!r}: see `covey group list`.", MISUSE)
    return rules.groups[name]


def _is_relayed(name: str, group: policy.GroupPolicy, request: dict) -> bool:
    """Whether this member's delivery is to be unicast. Problem where it can't be."""
    wanted = request.get("delivery")
    if wanted not in (None, policy.MULTICAST, policy.UNICAST):
        raise Problem(f"--delivery {wanted!r} is unknown: use multicast or unicast.", MISUSE)
    if wanted == policy.MULTICAST and group.relays_all:
        raise Problem(
            f'Group {group.name} has delivery = "unicast" for all its members: leave --delivery'
            " out, or change the group in covey.toml.",
            MISUSE,
        )
    if wanted == policy.UNICAST and not group.may_relay:
        raise Problem(RELAY_NEEDS.format(member=name, group=group.name), MISUSE)
    return wanted == policy.UNICAST


def _covey_json(
    name: str,
    rules: policy.SitePolicy,
    group: policy.GroupPolicy,
    request: dict,
    relayed: bool,
    proof: dict[str, str],
) -> dict:
    """What the board needs to know, and nothing else."""
    fields = {
        "version": _MEMBER_FORMAT,
        "group": group.name,
        "idi": name,
        "idr": rules.identity,
        "servers": [_server(rules, one) for one in _servers(rules, request)],
        **proof,
        **permissions.asks_as(permissions.role_wanted(request)),
    }
    if relayed or group.relays_all:
        bare = next((s for s in fields["servers"] if not s["marker"]), None)
        if bare:
            raise Problem(
                f"{name} can't have unicast delivery by {bare['host']}:{bare['port']}, where IKE"
                " messages have no marker: name port 4500, or one with marker = true in `listen`.",
                MISUSE,
            )
        fields |= {"delivery": policy.UNICAST, "liveness_s": _RELAYED_LIVENESS_S}
    for key in ("interface", "ttl"):
        if request.get(key) is not None:
            fields[key] = request[key]
    if group.rejoin_spread_s != _DEFAULT_SPREAD_S:
        fields["rejoin_spread_s"] = group.rejoin_spread_s
    return fields


def _servers(rules: policy.SitePolicy, request: dict) -> list:
    wanted = request.get("servers", [list(one) for one in rules.servers] or [None])
    if not isinstance(wanted, list) or not wanted:
        raise Problem("The servers of the request are no list.", MISUSE)
    return wanted


def _server(rules: policy.SitePolicy, wanted) -> dict:
    """Where a member finds a key server: as asked for, or in `servers`; else the first entry of
    `listen`."""
    entry = rules.listen[0]
    match wanted:
        case None:
            host, port = entry.host, None
        case [str(host), int() | None as port]:
            pass
        case _:
            raise Problem("The server of the request is no host with a port.", MISUSE)
    if host == "0.0.0.0":
        host = own_address()
    port = port or entry.port
    markers = {each.port: each.marker for each in rules.listen}
    return {"host": host, "port": port, "marker": markers.get(port, port == 4500)}
