"""What the values of a group, each good by itself, don't allow together: Wrong."""

from .. import timingrules
from ..timingrules import PATIENCE_S, SIGNS_A_SECOND
from .settings import INBAND, NONE, REKEY_AT, STOP, TESLA, GroupPolicy, SitePolicy
from .tables import Wrong


def check(policy: GroupPolicy, content: dict) -> None:
    """content: the table, which says what was typed and what is a default."""
    _check_rollover(policy, content)
    _check_newcomers(policy, content)
    _check_silence(policy, content)
    _check_sources(policy, content)
    _check_carrier(policy)


def check_beside(site: dict, policy: GroupPolicy, content: dict) -> None:
    """With what the site's own keys say, by field."""
    idle_s = site.get("ike_idle_s", SitePolicy.ike_idle_s)
    _check_reports(policy, idle_s)
    _check_timing(policy, content, idle_s)


def _check_reports(policy: GroupPolicy, idle_s: int) -> None:
    """Reports come over an IKE SA, and keep it."""
    if 2 * policy.report_interval_s > idle_s:
        raise Wrong(
            "report_interval",
            f"report_interval ({policy.report_interval_s} s) must not be more than half of"
            f" ike_idle ({idle_s} s): the IKE SA would be closed before a report came.",
        )


def _check_timing(policy: GroupPolicy, content: dict, idle_s: int) -> None:
    """Of a group whose senders are proven by time."""
    if policy.source_auth != TESLA:
        return
    wrong = timingrules.mistake(policy, idle_s)
    if wrong is not None:
        key, sentence = wrong
        raise Wrong(key if key in content else "source_auth", sentence)


def _check_rollover(policy: GroupPolicy, content: dict) -> None:
    """What each value allows and all together don't: keys must overlap at every member."""
    atd, dtd = policy.atd_s, policy.dtd_s
    if dtd <= atd:
        raise Wrong(
            "dtd" if "dtd" in content else "atd",
            f"dtd ({dtd} s) must be more than atd ({atd} s), or receivers drop old keys before"
            " senders stop using them.",
        )
    if policy.evict_dtd_s <= policy.evict_atd_s:
        raise Wrong(
            "evict_dtd" if "evict_dtd" in content else "evict_atd",
            f"evict_dtd ({policy.evict_dtd_s} s) must be more than evict_atd"
            f" ({policy.evict_atd_s} s), as with dtd and atd.",
        )
    if policy.rekey == INBAND and content.get("key_tree"):
        raise Wrong(
            "key_tree",
            'key_tree is for rekey = "multicast": inband each member gets its keys by itself.',
        )
    left = policy.lifetime_s * (100 - REKEY_AT) // 100
    if left < dtd:
        raise Wrong(
            "lifetime" if "lifetime" in content else "dtd",
            f"lifetime ({policy.lifetime_s} s) must be at least {dtd * 100 // (100 - REKEY_AT)} s:"
            f" new keys come at {REKEY_AT} % of it, and the rest must cover dtd ({dtd} s).",
        )
    if policy.sender_ids > 1 << policy.sender_id_form[0]:
        raise Wrong("sender_ids", "sender_ids must not be more than there are sender indexes.")
    if policy.rekey == INBAND:
        return  # no Rekey SA, no repeats
    if policy.rekey_lifetime_s < policy.lifetime_s:
        raise Wrong(
            "rekey_lifetime" if "rekey_lifetime" in content else "lifetime",
            "rekey_lifetime must not be less than lifetime, or new keys could no longer be sent.",
        )
    span_ms = policy.repeats * policy.repeat_spacing_ms
    if span_ms > dtd * 1000:
        raise Wrong(
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
        raise Wrong(
            "atd" if "atd" in content else key,
            f"atd must be at least 1 s with {key}: keys are handed out before anybody sends under"
            f" them. Else say {key} = {off}.",
        )
    wait_ms = policy.dtd_s * 1000 + policy.batch_window_ms
    if not policy.backward_secrecy and policy.source_auth == NONE:
        wait_ms -= policy.atd_s * 1000
    if wait_ms > PATIENCE_S * 1000:
        raise Wrong(
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
            raise Wrong("on_silence", 'on_silence = "stop" says nothing without a max_silence.')
        return
    if not policy.private_attributes:
        raise Wrong(
            "max_silence",
            "max_silence is told by a private attribute: it needs private_attributes = true.",
        )
    if policy.rekey != INBAND and most_s >= policy.lifetime_s:
        raise Wrong(
            "max_silence",
            f"max_silence ({most_s} s) must be less than lifetime ({policy.lifetime_s} s): who"
            " hears nothing for that long has no keys any more.",
        )
    least_s = -(-4 * policy.members // SIGNS_A_SECOND)
    if most_s < least_s:
        raise Wrong(
            "max_silence",
            f"max_silence ({most_s} s) must be at least {least_s} s for {policy.members} members:"
            f" within a quarter of it all ask for signs of life, {SIGNS_A_SECOND} a second.",
        )


def _check_sources(policy: GroupPolicy, content: dict) -> None:
    """What source authentication needs of the rest."""
    if policy.source_auth == NONE:
        return
    if policy.rekey == INBAND or not policy.key_tree:
        raise Wrong(
            "key_tree" if "key_tree" in content else "rekey",
            f'source_auth = "{policy.source_auth}" takes rekey = "multicast" and a key_tree: who'
            " sends is told to all at once, and keys to each sender under its own.",
        )
    if not policy.private_attributes:
        raise Wrong(
            "private_attributes",
            "source_auth takes private_attributes = true: members are told of it by one.",
        )


def _check_carrier(policy: GroupPolicy) -> None:
    if policy.carrier == "udp" and not policy.private_attributes:
        raise Wrong(
            "private_attributes",
            'private_attributes can be false only with carrier = "ip": which UDP port carries data'
            " is told by one of them.",
        )
