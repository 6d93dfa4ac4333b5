"""covey.toml: what a person decides about a site and its groups. A bad file is refused whole."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from covey.timing import MOST_DRIFT_PPM

from .. import toml
from ..errors import FAILURE, MISUSE, Problem
from ..site import check_name
from . import policyvalues as values
from . import timingrules
from .policyvalues import Listen
from .timingrules import PATIENCE_S, SIGNS_A_SECOND

TELL, STOP = "tell", "stop"  # what a member does that hears nothing from its key server
INBAND, MULTICAST = "inband", "multicast"  # how a group's new keys reach its members
UNICAST = "unicast"  # how its data do, else MULTICAST
NONE, MAC, TESLA, ECDSA = "none", "mac", "tesla", "ecdsa"  # what proves who sent
REKEY_AT = 80  # % of a lifetime after which a group is rekeyed without being asked

_TEMPLATE = """\
# Policy of this Covey site. The key server reads it when it starts and on `covey reload`; a file
# with a mistake is refused whole, and what was in force stays in force.
# Durations are text with a unit ("500ms", "5s", "30m", "1h", "7d"); a plain number is seconds.

# Who the key server proves to be (IDr, an ID_FQDN). Members compare it with "idr" in covey.json.
identity = "{identity}"

# Where the key server listens for members. Four zero octets (the non-ESP marker of RFC 3948) lead
# each message on port 4500 only, where not said: {{ address = "ADDRESS:PORT", marker = true }}.
listen = ["0.0.0.0:4500"]

# Where members find the key servers, all of them: what `covey member add` writes without --server.
# servers = ["192.0.2.10", "192.0.2.11"]

# After this long without a message from a member its IKE SA is closed. It stays in its groups.
ike_idle = "10m"
#
# Seldom changed; these are the defaults:
# liveness = "60s"               # silence after which a member of an inband group is asked
# ike_lifetime = "8h"            # of an IKE SA that is kept: then it gets new keys
# cookies_from = 64              # half-open IKE SAs from which on an address must prove itself
# fragment_size = 1280           # octets of an IP packet; longer IKE messages go in fragments

# A group, best added by `covey group add`. All but address and port may be left out; these are
# the defaults.
#
# [group.line1]
# address = "239.192.1.32"       # multicast IPv4: data and rekeys go there
# port = 2222                    # the application's UDP port, inside the protection
# carrier = "udp"                # data travels as ESP in UDP; "ip": as IP protocol 50
# carrier_port = 4500            # the UDP port of rekeys; of data too where carrier is "udp"
# rekey = "multicast"            # new keys: one message for all; "inband": to each by itself
# delivery = "multicast"         # of data; "unicast": carried to and from each by the key server
# relay_rate = 20000             # datagrams that it sends for that in a second, at most
# key_tree = 4                   # children of a node of its key tree; 0: none, and a removal sends
#                                # everybody away
# private_attributes = true      # false, with "ip" only: say nothing that only Covey understands
# single_sender = false          # true: one member sends, and replays are refused by anyone
# integrity_only = false         # true: data go in clear, anyone can read and nobody change them
# ppk = false                    # true: only who has a post-quantum preshared key is given keys
# key_bits = 128                 # 128 or 256, of AES-GCM (data: AES-GMAC if integrity_only)
# lifetime = "1h"                # of the keys of data; new ones come at 80 % of it
# rekey_lifetime = "4h"          # of the key under which rekeys are sent
# atd = "5s"                     # senders go over to new keys so long after they heard of them
# dtd = "10s"                    # receivers drop old keys so long after they heard of new ones
# evict_atd = "2s"               # the same when somebody is put out, where they are shorter
# evict_dtd = "4s"
# evict_gap = "1s"               # between the two messages that it takes
# backward_secrecy = false       # true: keys change before a newcomer gets any
# fresh_join = true              # keys change before who starts anew gets any: no replays to it
# source_auth = "none"           # what proves who sent a packet: "mac", to up to 16 receivers;
#                                # "tesla", to any number a moment later; "ecdsa": signatures
# mac_len = 8                    # octets of a MAC, 8 to 16
# tesla_interval = "100ms"       # the time for which a sender has a key, 20 ms to 722 ms
# tesla_lag = 2                  # so many intervals later it is disclosed, 2 to 16
# tesla_chain = 14               # a chain of keys lasts for 2 to the power of this many intervals
# tesla_drift = 500              # ppm by which a member's clock may be wrong
# ecdsa_batch = 16               # most packets that one signature covers
# batch_window = "1s"            # so long newcomers wait for others that come
# max_silence = 0                # who hears nothing from here for so long says so; 0: never
# on_silence = "tell"            # "stop": then it takes no packets, either
# sender_id_form = [10, 6]       # bits of a Sender-ID: sender index, incarnation
# sender_ids = 4                 # most Sender-IDs that one registration gets
# members = 1000                 # most members registered at a time
# repeats = 2                    # how often a rekey message is sent again, unchanged
# repeat_spacing = "1s"          # and how long after the one before
# rejoin_spread = "2s"           # within which members come back after a removal
# report_interval = 0            # "5m": members say so often how they are, for `covey status`
"""


# What each source_auth leaves to policy; in a Shape the others' stay what they are by default.
_OF_MODE = {
    NONE: (),
    MAC: ("mac_len",),
    TESLA: ("mac_len", "tesla_interval_ms", "tesla_lag", "tesla_chain", "tesla_drift_ppm"),
    ECDSA: ("ecdsa_batch",),
}


@dataclass(frozen=True)
class Shape:
    """What members learn at registration only: no rekey can change it, only starting over."""

    address: str
    port: int
    carrier: str
    carrier_port: int
    key_bits: int
    index_bits: int
    incarnation_bits: int
    private_attributes: bool = True
    single_sender: bool = False
    rekey: str = MULTICAST
    integrity_only: bool = False
    key_tree: int = 0  # degree; 0: none
    delivery: str = MULTICAST
    source_auth: str = NONE
    mac_len: int = 8
    tesla_interval_ms: int = 100
    tesla_lag: int = 2
    tesla_chain: int = 14
    tesla_drift_ppm: int = 500
    ecdsa_batch: int = 16

    @property
    def sender_id_bits(self) -> int:
        return self.index_bits + self.incarnation_bits

    @property
    def has_marker(self) -> bool:
        """Whether the non-ESP marker leads rekeys: ESP comes to their port too, or it is 4500."""
        return self.carrier == "udp" or self.carrier_port == 4500


@dataclass(frozen=True)
class GroupPolicy:
    """One [group.NAME] table. Durations in seconds unless named otherwise."""

    name: str
    address: str
    port: int
    carrier: str = "udp"
    carrier_port: int = 4500
    rekey: str = MULTICAST
    key_tree: int = 4
    private_attributes: bool = True
    single_sender: bool = False
    integrity_only: bool = False
    ppk: bool = False
    key_bits: int = 128
    lifetime_s: int = 3600
    rekey_lifetime_s: int = 14400
    atd_s: int = 5
    dtd_s: int = 10
    evict_atd_s: int = 2
    evict_dtd_s: int = 4
    evict_gap_ms: int = 1000
    backward_secrecy: bool = False
    fresh_join: bool = True
    source_auth: str = NONE
    mac_len: int = 8
    tesla_interval_ms: int = 100
    tesla_lag: int = 2
    tesla_chain: int = 14
    tesla_drift_ppm: int = 500
    ecdsa_batch: int = 16
    batch_window_ms: int = 1000
    max_silence_s: int = 0
    on_silence: str = TELL
    sender_id_form: tuple[int, int] = (10, 6)
    sender_ids: int = 4
    members: int = 1000
    repeats: int = 2
    repeat_spacing_ms: int = 1000
    rejoin_spread_s: int = 2
    delivery: str = MULTICAST
    relay_rate: int = 20_000
    report_interval_s: int = 0

    @property
    def relays_all(self) -> bool:
        """Whether data go to and from each member by way of the key server, never by multicast."""
        return self.delivery == UNICAST

    @property
    def may_relay(self) -> bool:
        """Whether a member may have unicast delivery: there is an attribute to say so, what others
        multicast is within the key server's reach, and no rekey but the inband one is needed."""
        is_heard = self.relays_all or self.carrier == "udp"
        return is_heard and self.private_attributes and self.source_auth == NONE

    @property
    def shape(self) -> Shape:
        return Shape(
            self.address,
            self.port,
            self.carrier,
            self.carrier_port,
            self.key_bits,
            *self.sender_id_form,
            self.private_attributes,
            self.single_sender,
            rekey=self.rekey,
            integrity_only=self.integrity_only,
            key_tree=self.key_tree if self.rekey == MULTICAST else 0,
            delivery=self.delivery,
            source_auth=self.source_auth,
            **{key: getattr(self, key) for key in _OF_MODE[self.source_auth]},
        )

    def delays_s(self, evicts: bool) -> tuple[int, int]:
        """ATD and DTD; shorter ones where somebody is put out."""
        if not evicts:
            return self.atd_s, self.dtd_s
        return min(self.atd_s, self.evict_atd_s), min(self.dtd_s, self.evict_dtd_s)


@dataclass(frozen=True)
class SitePolicy:
    identity: str
    listen: tuple[Listen, ...] = (Listen("0.0.0.0", 4500, True),)
    ike_idle_s: int = 600
    groups: dict[str, GroupPolicy] = field(default_factory=dict)
    liveness_s: int = 60
    ike_lifetime_s: int = 28800
    cookies_from: int = 64
    fragment_size: int = 1280
    servers: tuple[tuple[str, int | None], ...] = ()  # as members find them: hosts, ports

    @property
    def multicast_addresses(self) -> list[str]:
        """Of groups for which something is multicast."""
        return [group.address for group in self.groups.values() if not group.relays_all]


class _Wrong(Exception):
    """A mistake under a key of the table that is being read."""

    def __init__(self, key: str, sentence: str):
        super().__init__(sentence)
        self.key, self.sentence = key, sentence


def template(identity: str) -> str:
    """A commented covey.toml without groups, as `covey init` writes it."""
    return _TEMPLATE.format(identity=identity)


def load(path: Path) -> SitePolicy:
    """The policy in a file. Problem, with the line, where anything in it is wrong."""
    return parse(text_of(path), str(path))


def text_of(path: Path) -> str:
    """Of a file that may hold a policy."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Problem(f"{path} is not UTF-8 text.", MISUSE) from None
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from error


def parse(text: str, name: str = "covey.toml") -> SitePolicy:
    """The policy in a text; `name` is what a Problem calls it."""
    found = toml.parse(text, name)
    table = ""
    try:
        groups = found.pop("group", {})
        if not isinstance(groups, dict):
            raise _Wrong("group", "groups are tables: [group.NAME].")
        site = _read_table(found, _SITE)
        read = {}
        for key, content in groups.items():
            table = f"group.{key}"
            read[key] = _read_group(key, content, read)
            _check_reports(read[key], site)
            _check_timing(read[key], content, site)
        made = SitePolicy(**site, groups=read)
        table = ""
        if not made.fragment_size and any(g.source_auth != NONE for g in read.values()):
            raise _Wrong(
                "fragment_size",
                "fragment_size must not be 0 where a group has source_auth: its rekeys may be"
                " longer than a frame.",
            )
        return made
    except _Wrong as wrong:
        raise Problem(_place(text, name, table, wrong.key) + wrong.sentence, MISUSE) from None


def place_of(path: Path, group: str, key: str = "sender_id_form") -> str:
    """What leads a sentence about a key of a group: "covey.toml:12: group.line1: "."""
    return _place(path.read_text(encoding="utf-8"), str(path), f"group.{group}", key)


def _place(text: str, name: str, table: str, key: str) -> str:
    line = _line_of(text, table, key)
    return (f"{name}:{line}: " if line else f"{name}: ") + (f"{table}: " if table else "")


def append_group(
    path: Path,
    name: str,
    check: Callable[[GroupPolicy], None] = lambda made: None,
    /,
    **settings: Any,
) -> GroupPolicy:
    """Add [group.NAME] at the end of covey.toml, as it would have been typed.

    settings: keys of the table; those that are None are left out. Problem where the name is
    taken, the result would be refused, or by check(): then the file is untouched.
    """
    check_name("group", name)
    groups = load(path).groups
    if name in groups:
        raise Problem(f"{path} has a group {name} already: choose another name.", MISUSE)
    settings = {key: value for key, value in settings.items() if value is not None}
    try:
        _read_group(name, settings, groups)
    except _Wrong as wrong:  # on no line yet
        raise Problem(f"Group {name} can't be added: {wrong.sentence}", MISUSE) from None
    text = path.read_text(encoding="utf-8")
    block = [f"[group.{_toml_key(name)}]"]
    block += [f"{key} = {_toml_value(value)}" for key, value in settings.items()]
    text = text.rstrip("\n") + "\n\n" + "\n".join(block) + "\n"
    made = parse(text, str(path)).groups[name]
    check(made)
    replace_text(path, text)
    return made


def replace_text(path: Path, text: str) -> None:
    """The whole new text or the whole old one, whatever is killed in between."""
    draft = path.with_name(path.name + ".new")
    try:
        fd = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise Problem(
            f"{path} can't be written: {os.strerror(error.errno or 0)}.", FAILURE
        ) from None


# key in the table: (field, reader)
_SITE = {
    "identity": ("identity", values.identity),
    "listen": ("listen", values.listen),
    "servers": ("servers", values.servers),
    "ike_idle": ("ike_idle_s", values.seconds(10, 7 * 86400)),
    "liveness": ("liveness_s", values.seconds(5, 86400)),
    "ike_lifetime": ("ike_lifetime_s", values.seconds(10, 30 * 86400)),
    "cookies_from": ("cookies_from", values.whole(0, 1024)),
    "fragment_size": ("fragment_size", values.fragment_size),
}
_GROUP = {
    "address": ("address", values.multicast),
    "port": ("port", values.port),
    "carrier": ("carrier", values.one_of("udp", "ip")),
    "carrier_port": ("carrier_port", values.port),
    "rekey": ("rekey", values.one_of(MULTICAST, INBAND)),
    "delivery": ("delivery", values.one_of(MULTICAST, UNICAST)),
    "relay_rate": ("relay_rate", values.whole(100, 10_000_000)),
    "key_tree": ("key_tree", values.one_of(0, *range(2, 17))),
    "private_attributes": ("private_attributes", values.flag),
    "single_sender": ("single_sender", values.flag),
    "integrity_only": ("integrity_only", values.flag),
    "ppk": ("ppk", values.flag),
    "key_bits": ("key_bits", values.one_of(128, 256)),
    "lifetime": ("lifetime_s", values.seconds(1, values.YEAR_S)),
    "rekey_lifetime": ("rekey_lifetime_s", values.seconds(1, values.YEAR_S)),
    "atd": ("atd_s", values.seconds(0, 3600)),
    "dtd": ("dtd_s", values.seconds(1, 7200)),
    "evict_atd": ("evict_atd_s", values.seconds(0, 3600)),
    "evict_dtd": ("evict_dtd_s", values.seconds(1, 7200)),
    "evict_gap": ("evict_gap_ms", values.spacing_ms),
    "backward_secrecy": ("backward_secrecy", values.flag),
    "fresh_join": ("fresh_join", values.flag),
    "source_auth": ("source_auth", values.one_of(NONE, MAC, TESLA, ECDSA)),
    "mac_len": ("mac_len", values.whole(8, 16)),
    "tesla_interval": ("tesla_interval_ms", values.interval_ms),
    "tesla_lag": ("tesla_lag", values.lag),
    "tesla_chain": ("tesla_chain", values.whole(timingrules.LEAST_CHAIN, timingrules.MOST_CHAIN)),
    "tesla_drift": ("tesla_drift_ppm", values.whole(1, MOST_DRIFT_PPM)),
    "ecdsa_batch": ("ecdsa_batch", values.batch),
    "batch_window": ("batch_window_ms", values.window_ms),
    "max_silence": ("max_silence_s", values.silence_s),
    "on_silence": ("on_silence", values.one_of(TELL, STOP)),
    "sender_id_form": ("sender_id_form", values.form),
    "sender_ids": ("sender_ids", values.whole(1, 64)),
    "members": ("members", values.whole(1, 10_000_000)),
    "repeats": ("repeats", values.whole(0, 20)),
    "repeat_spacing": ("repeat_spacing_ms", values.spacing_ms),
    "rejoin_spread": ("rejoin_spread_s", values.seconds(0, 600)),
    "report_interval": ("report_interval_s", values.interval_s),
}


def _read_table(content: dict, keys: dict) -> dict[str, Any]:
    read = {}
    for key, value in content.items():
        if key not in keys:
            shown = key if key.isprintable() else repr(key)
            raise _Wrong(key, f"{shown} is no key of this table: remove it or mend its spelling.")
        name, reader = keys[key]
        try:
            read[name] = reader(value)
        except ValueError as error:
            raise _Wrong(key, f"{key} {error}") from None
    for key, (name, _) in keys.items():
        if name not in read and key in ("identity", "address", "port"):
            raise _Wrong("", f"{key} is missing.")
    return read


def _read_group(name: str, content: Any, others: dict[str, GroupPolicy]) -> GroupPolicy:
    try:
        check_name("group", name)
    except Problem as problem:
        raise _Wrong("", problem.sentence) from None
    if not isinstance(content, dict):
        raise _Wrong("", "a group is a table: [group.NAME].")
    policy = _by_delivery(GroupPolicy(name, **_read_table(content, _GROUP)), content)
    _check_rollover(policy, content)
    _check_newcomers(policy, content)
    _check_silence(policy, content)
    _check_sources(policy, content)
    if policy.carrier == "udp" and not policy.private_attributes:
        raise _Wrong(
            "private_attributes",
            'private_attributes can be false only with carrier = "ip": which UDP port carries data'
            " is told by one of them.",
        )
    for other in others.values():
        if other.address == policy.address:
            raise _Wrong(
                "address",
                f"address {policy.address} is that of {other.name}: give each group its own.",
            )
    return policy


def _by_delivery(policy: GroupPolicy, content: dict) -> GroupPolicy:
    """Where nothing is multicast, rekeys aren't either."""
    if not policy.relays_all:
        return policy
    if content.get("rekey", INBAND) != INBAND:
        raise _Wrong(
            "rekey",
            'rekey must be "inband" with delivery = "unicast", where nothing is multicast: leave'
            " it out.",
        )
    if not policy.private_attributes:
        raise _Wrong(
            "private_attributes",
            'private_attributes must not be false with delivery = "unicast": it is one of them'
            " that tells members.",
        )
    return replace(policy, rekey=INBAND)


def _check_reports(policy: GroupPolicy, site: dict) -> None:
    """Reports come over an IKE SA, and keep it."""
    idle_s = site.get("ike_idle_s", SitePolicy.ike_idle_s)
    if 2 * policy.report_interval_s > idle_s:
        raise _Wrong(
            "report_interval",
            f"report_interval ({policy.report_interval_s} s) must not be more than half of"
            f" ike_idle ({idle_s} s): the IKE SA would be closed before a report came.",
        )


def _check_timing(policy: GroupPolicy, content: dict, site: dict) -> None:
    """Of a group whose senders are proven by time."""
    if policy.source_auth != TESLA:
        return
    wrong = timingrules.mistake(policy, site.get("ike_idle_s", SitePolicy.ike_idle_s))
    if wrong is not None:
        key, sentence = wrong
        raise _Wrong(key if key in content else "source_auth", sentence)


def _check_rollover(policy: GroupPolicy, content: dict) -> None:
    """What each value allows and all together don't: keys must overlap at every member."""
    atd, dtd = policy.atd_s, policy.dtd_s
    if dtd <= atd:
        raise _Wrong(
            "dtd" if "dtd" in content else "atd",
            f"dtd ({dtd} s) must be more than atd ({atd} s), or receivers drop old keys before"
            " senders stop using them.",
        )
    if policy.evict_dtd_s <= policy.evict_atd_s:
        raise _Wrong(
            "evict_dtd" if "evict_dtd" in content else "evict_atd",
            f"evict_dtd ({policy.evict_dtd_s} s) must be more than evict_atd"
            f" ({policy.evict_atd_s} s), as with dtd and atd.",
        )
    if policy.rekey == INBAND and content.get("key_tree"):
        raise _Wrong(
            "key_tree",
            'key_tree is for rekey = "multicast": inband each member gets its keys by itself.',
        )
    left = policy.lifetime_s * (100 - REKEY_AT) // 100
    if left < dtd:
        raise _Wrong(
            "lifetime" if "lifetime" in content else "dtd",
            f"lifetime ({policy.lifetime_s} s) must be at least {dtd * 100 // (100 - REKEY_AT)} s:"
            f" new keys come at {REKEY_AT} % of it, and the rest must cover dtd ({dtd} s).",
        )
    if policy.sender_ids > 1 << policy.sender_id_form[0]:
        raise _Wrong("sender_ids", "sender_ids must not be more than there are sender indexes.")
    if policy.rekey == INBAND:
        return  # no Rekey SA, no repeats
    if policy.rekey_lifetime_s < policy.lifetime_s:
        raise _Wrong(
            "rekey_lifetime" if "rekey_lifetime" in content else "lifetime",
            "rekey_lifetime must not be less than lifetime, or new keys could no longer be sent.",
        )
    span_ms = policy.repeats * policy.repeat_spacing_ms
    if span_ms > dtd * 1000:
        raise _Wrong(
            "repeats" if "repeats" in content else "repeat_spacing",
            f"the last repeat comes after {span_ms / 1000:g} s, but old keys go after dtd"
            f" ({dtd} s): lower repeats or repeat_spacing.",
        )


def _check_newcomers(policy: GroupPolicy, content: dict) -> None:
    """Members that wait for other keys must not give up, and nobody may send under them yet."""
    key = "backward_secrecy" if policy.backward_secrecy else "fresh_join"
    if policy.source_auth != NONE:
        key = "source_auth"
    elif not policy.backward_secrecy and not policy.fresh_join:
        return
    off = '"none"' if key == "source_auth" else "false"
    if not policy.atd_s:
        raise _Wrong(
            "atd" if "atd" in content else key,
            f"atd must be at least 1 s with {key}: keys are handed out before anybody sends under"
            f" them. Else say {key} = {off}.",
        )
    wait_ms = policy.dtd_s * 1000 + policy.batch_window_ms
    if not policy.backward_secrecy and policy.source_auth == NONE:
        wait_ms -= policy.atd_s * 1000
    if wait_ms > PATIENCE_S * 1000:
        raise _Wrong(
            next((k for k in ("batch_window", "dtd", key) if k in content), ""),
            f"with {key} a member waits up to {wait_ms / 1000:g} s for keys (dtd, batch_window),"
            f" and would give up: {PATIENCE_S} s is the most. Lower them, or say {key} = {off}.",
        )


def _check_silence(policy: GroupPolicy, content: dict) -> None:
    """Members ask before it is over, all within a quarter of it after a rekey. That must be
    of use, and answered."""
    most_s = policy.max_silence_s
    if not most_s:
        if policy.on_silence == STOP:
            raise _Wrong("on_silence", 'on_silence = "stop" says nothing without a max_silence.')
        return
    if not policy.private_attributes:
        raise _Wrong(
            "max_silence",
            "max_silence is told by a private attribute: it needs private_attributes = true.",
        )
    if policy.rekey != INBAND and most_s >= policy.lifetime_s:
        raise _Wrong(
            "max_silence",
            f"max_silence ({most_s} s) must be less than lifetime ({policy.lifetime_s} s): who"
            " hears nothing for that long has no keys any more.",
        )
    least_s = -(-4 * policy.members // SIGNS_A_SECOND)
    if most_s < least_s:
        raise _Wrong(
            "max_silence",
            f"max_silence ({most_s} s) must be at least {least_s} s for {policy.members} members:"
            f" within a quarter of it all ask for signs of life, {SIGNS_A_SECOND} a second.",
        )


def _check_sources(policy: GroupPolicy, content: dict) -> None:
    """What source authentication needs of the rest."""
    if policy.source_auth == NONE:
        return
    if policy.rekey == INBAND or not policy.key_tree:
        raise _Wrong(
            "key_tree" if "key_tree" in content else "rekey",
            f'source_auth = "{policy.source_auth}" takes rekey = "multicast" and a key_tree: who'
            " sends is told to all at once, and keys to each sender under its own.",
        )
    if not policy.private_attributes:
        raise _Wrong(
            "private_attributes",
            "source_auth takes private_attributes = true: members are told of it by one.",
        )


def _line_of(text: str, table: str, key: str) -> int | None:
    """The line of a key in a table, or of the table's header; None where it is not plain."""
    here, header = "", None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith("["):
            here = re.sub(r"[\"']", "", line.partition("]")[0].strip("[ "))
            if here == table:
                header = number
        elif here == table and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return header


def _toml_key(name: str) -> str:
    return f'"{name}"' if "." in name else name


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)


assert {name for name, _ in _GROUP.values()} | {"name"} == {f.name for f in fields(GroupPolicy)}
