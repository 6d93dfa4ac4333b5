"""A [group.NAME] table of covey.toml."""

from dataclasses import fields, replace
from typing import Any

from covey.timing import MOST_DRIFT_PPM

from ...errors import Problem
from ...site import check_name
from .. import policyvalues as values
from .. import timingrules
from . import rules
from .settings import (
    ECDSA,
    INBAND,
    MAC,
    MULTICAST,
    NONE,
    STOP,
    TELL,
    TESLA,
    UNICAST,
    GroupPolicy,
)
from .tables import Keys, Wrong, read_table

GROUP: Keys = {
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


def read_group(name: str, content: Any, others: dict[str, GroupPolicy]) -> GroupPolicy:
    """others: those before it, by name. Wrong where something is."""
    try:
        check_name("group", name)
    except Problem as problem:
        raise Wrong("", problem.sentence) from None
    if not isinstance(content, dict):
        raise Wrong("", "a group is a table: [group.NAME].")
    policy = _by_delivery(GroupPolicy(name, **read_table(content, GROUP)), content)
    rules.check(policy, content)
    for other in others.values():
        if other.address == policy.address:
            raise Wrong(
                "address",
                f"address {policy.address} is that of {other.name}: give each group its own.",
            )
    return policy


def _by_delivery(policy: GroupPolicy, content: dict) -> GroupPolicy:
    """Where nothing is multicast, rekeys aren't either."""
    if not policy.relays_all:
        return policy
    if content.get("rekey", INBAND) != INBAND:
        raise Wrong(
            "rekey",
            'rekey must be "inband" with delivery = "unicast", where nothing is multicast: leave'
            " it out.",
        )
    if not policy.private_attributes:
        raise Wrong(
            "private_attributes",
            'private_attributes must not be false with delivery = "unicast": it is one of them'
            " that tells members.",
        )
    return replace(policy, rekey=INBAND)


assert {name for name, _ in GROUP.values()} | {"name"} == {f.name for f in fields(GroupPolicy)}
