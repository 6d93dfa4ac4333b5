"""Whether what policy says of TESLA can be kept, by clocks and by the rest of policy (RFC 4082).

A member knows the key server's time to within the round trip in which it asked, and by as much
less as its own clock and that of the key server may have gone apart since (good_for_s).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from covey.timing import ROUND_TRIP_MS, ask_again_s, good_for_s

if TYPE_CHECKING:
    from .policy import GroupPolicy

SIGNS_A_SECOND = 1000  # of life that a key server answers beside its other work
PATIENCE_S = 14  # of a member whose request waits: it is sent for the last time after 15 s
LEAST_CHAIN, MOST_CHAIN = 8, 16
_ASKS = 8  # in a segment, so that none misses the next one
_OWED = 16  # intervals behind a key's time, in which it is disclosed again and again
_MOST_APART_S = PATIENCE_S - 1  # dtd, which ends before patience does, and atd, 1 s at least


def asks_s(policy: GroupPolicy) -> int:
    return ask_again_s(policy.tesla_lag, policy.tesla_interval_ms, policy.tesla_drift_ppm)


def mistake(policy: GroupPolicy, ike_idle_s: int) -> tuple[str, str] | None:
    """The key of the table, and the sentence that says what is wrong."""
    return (
        _of_interval(policy)
        or _of_clocks(policy)
        or _of_chains(policy, ike_idle_s)
        or _of_delays(policy)
    )


def _of_interval(policy: GroupPolicy) -> tuple[str, str] | None:
    """What no other atd and dtd could mend, either: see _of_delays."""
    intervals = policy.tesla_lag + _OWED
    most_ms = _MOST_APART_S * 1000 // intervals
    if policy.tesla_interval_ms <= most_ms:
        return None
    return "tesla_interval", (
        f"tesla_interval ({policy.tesla_interval_ms} ms) can't be more than {most_ms} ms with a"
        f" tesla_lag of {policy.tesla_lag}: the keys of a sender's last packets are told for"
        f" {intervals} intervals, and atd and dtd can be {_MOST_APART_S} s apart at most, as a"
        f" member that waits for keys gives up after {PATIENCE_S} s."
    )


def _of_clocks(policy: GroupPolicy) -> tuple[str, str] | None:
    """What is sent at an interval's end must arrive while nobody else has the key."""
    lag, interval_ms = policy.tesla_lag, policy.tesla_interval_ms
    drift_ppm = policy.tesla_drift_ppm
    most_s = good_for_s(lag, interval_ms, drift_ppm)
    error_ms = ROUND_TRIP_MS + 2 * most_s * drift_ppm / 1000
    if (lag - 1) * interval_ms >= 2 * error_ms:
        return None
    return "tesla_lag", (
        f"tesla_interval ({interval_ms} ms) times tesla_lag less one ({lag - 1}) must be at least"
        f" {2 * error_ms:g} ms, else keys would be out before all of their packets have arrived:"
        f" sender and receiver each know the time to {error_ms:g} ms, with a round trip of"
        f" {ROUND_TRIP_MS} ms and a drift of {drift_ppm} ppm, either way, for {most_s} s."
    )


def _of_chains(policy: GroupPolicy, ike_idle_s: int) -> tuple[str, str] | None:
    every_s, segment_ms = asks_s(policy), policy.tesla_interval_ms << policy.tesla_chain
    if segment_ms < _ASKS * every_s * 1000:
        return "tesla_chain", (
            f"tesla_chain ({policy.tesla_chain}) gives chains of {segment_ms // 1000} s, and they"
            f" must last {_ASKS * every_s} s: members are told of the next one as they ask for the"
            f" time, every {every_s} s."
        )
    if policy.members > every_s * SIGNS_A_SECOND:
        return "members", (
            f"members ({policy.members}) must be at most {every_s * SIGNS_A_SECOND}: they all ask"
            f" for the time within {every_s} s, {SIGNS_A_SECOND} a second."
        )
    if 2 * every_s > ike_idle_s:
        return "source_auth", (
            f"ike_idle ({ike_idle_s} s) must be at least {2 * every_s} s with tesla: members ask"
            f" for the time every {every_s} s, over an IKE SA that is kept."
        )
    return None


def _of_delays(policy: GroupPolicy) -> tuple[str, str] | None:
    """What was sent last under old keys is proven while these are there."""
    owed_ms = (policy.tesla_lag + _OWED) * policy.tesla_interval_ms
    for key in ("dtd", "evict_dtd"):
        atd_s, dtd_s = policy.delays_s(key == "evict_dtd")
        if (dtd_s - atd_s) * 1000 < owed_ms:
            return key, (
                f"{key} ({dtd_s} s) must be at least {owed_ms / 1000:g} s more than the atd beside"
                f" it ({atd_s} s): so long the keys of a sender's last packets are told."
            )
    return None
