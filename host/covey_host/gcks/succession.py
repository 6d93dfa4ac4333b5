"""Which epoch comes after a group's present one, and by which messages its members get there.

    all follow           GSA_REKEY over the current Rekey SA: the new epoch
    some are put out     GSA_REKEY over the current Rekey SA: another one, which they can't find,
                         in as many rounds as it takes; then, over the last, the new epoch
    all are sent away    the Delete of everything: a new era

Nothing is written here, and nothing believed: see Group.
"""

from dataclasses import dataclass

from covey import ike
from covey.gcm import SALT_LEN

from .epoch import Epoch, Outbox, Parcel, Random, between, encode_state, kwk_len
from .epoch import next_epoch as epoch_after
from .keytree import Draft, KeyTree, Round
from .ledger import Changes
from .policy import INBAND, GroupPolicy, Shape
from .rekeyer import Rekeyer
from .roster import Roster

_MOST_PARCELS = 8  # unsent rekeys in a row; who missed more registers again
_MOST_WRAPS = 96  # wrapped keys in one message
_FRAME_LEN = 1468  # octets of a message in an Ethernet frame, less IP, UDP and marker
_BESIDES_LEN = 320  # octets of such a message that are neither these nor the Rekey SA's keys
_WRAPPED_LEN = 20  # of an attribute with a wrapped key, besides the key itself
_MOST_ROUNDS = 16  # messages to put out as many as go at once; if it takes more, all go


@dataclass(frozen=True)
class Standing:
    """What a group is as its next epoch is decided on."""

    prefix: str  # of its keys in the store
    policy: GroupPolicy
    epoch: Epoch
    roster: Roster
    tree: KeyTree | None
    outbox: Outbox
    activate_ms: int  # from when senders use the present TEK

    @property
    def is_inband(self) -> bool:
        return self.epoch.shape.rekey == INBAND


@dataclass(frozen=True)
class Plan:
    """A new epoch, decided and not yet written."""

    epoch: Epoch
    outbox: Outbox
    changes: Changes
    activate_ms: int
    end_ms: int = 0  # from when nobody takes what comes under the TEK before it
    gone: frozenset[str] = frozenset()  # members that this takes away
    vacated: frozenset[str] = frozenset()  # members whose leaf is free
    tree: KeyTree | None = None  # from now on
    draft: Draft | None = None  # what is to be applied to it


def decide(
    was: Standing,
    rekeyer: Rekeyer,
    random: Random,
    now_ms: int,
    *,
    excludes: bool,
    started: bool,
    gone: frozenset[str],
) -> Plan:
    """excludes: all have to register again. started: the key server was. gone: who is not to
    follow; with a key tree those who left by themselves don't either."""
    old, policy = was.epoch, was.policy
    in_fragments = was.roster.can_all_fragment(old.era)
    room = _room(rekeyer, in_fragments)
    leaving, draft, rounds = _leaving(was, random, gone, room)
    excludes = excludes or old.shape != policy.shape or len(rounds) > _MOST_ROUNDS
    excludes = excludes or not all(_len(one, old.shape) <= room for one in rounds)
    if excludes:
        leaving, draft, rounds = {}, None, []
    sas = between(old, random, count=len(rounds), started=started)
    over = sas[-1] if sas else None
    new = epoch_after(old, policy.shape, random, excludes=excludes, started=started, over=over)
    come_back = excludes or started and any(parcel.excludes for parcel in was.outbox)
    delays_s = policy.delays_s(bool(rounds))
    said_ms = now_ms + len(rounds) * policy.evict_gap_ms
    activate_ms = max(earliest_ms(policy, said_ms, come_back, delays_s), was.activate_ms)
    atd_s, dtd_s = told_s(activate_ms - said_ms, delays_s)
    if was.is_inband:
        parcels = []
    elif excludes:
        parcels = [rekeyer.exclude(old.rekey, old.destination, old.shape.has_marker)]
    else:
        how = {"in_fragments": in_fragments}
        parcels = rekeyer.rounds(old, rounds, sas, new.rekey.spi, policy, **how)
        how |= {"over": over, "gap_ms": policy.evict_gap_ms if over else 0}
        parcels.append(rekeyer.rekey(old, new, policy, atd_s=atd_s, dtd_s=dtd_s, **how))
    outbox = _unsaid(was.outbox, rekeyer) if excludes else was.outbox
    outbox = (*outbox, *parcels)[-max(_MOST_PARCELS, len(parcels)) :]
    vacated = frozenset(leaving) - gone
    changes = {was.prefix + "state": encode_state(new, outbox)}
    changes |= was.roster.vacating(vacated) | was.roster.removing(gone)
    tree = was.tree
    if excludes:
        tree, more = new_tree(was.prefix, policy, tree, random)
        changes |= more
    elif draft:
        changes |= tree.pages(draft, was.prefix)
    end_ms = said_ms + dtd_s * 1000
    return Plan(new, outbox, changes, activate_ms, end_ms, gone, vacated, tree, draft)


def new_tree(
    prefix: str, policy: GroupPolicy, old: KeyTree | None, random: Random
) -> tuple[KeyTree | None, Changes]:
    """In place of the one there is, for a new era; the write that makes it so."""
    shape = policy.shape
    changes: Changes = {} if old is None else old.dropping(prefix)
    if not shape.key_tree:
        return None, changes
    tree = KeyTree(shape.key_tree, kwk_len(shape.key_bits), old.next_id if old else 1)
    return tree, changes | tree.pages(Draft(tree, random), prefix)


def earliest_ms(
    policy: GroupPolicy, now_ms: int, come_back: bool, delays_s: tuple[int, int]
) -> int:
    """From when an epoch that members hear of now is sent under: all must have it by then."""
    spread_s = policy.rejoin_spread_s if come_back else 0
    return now_ms + (delays_s[0] + spread_s) * 1000


def told_s(left_ms: int, delays_s: tuple[int, int]) -> tuple[int, int]:
    """ATD and DTD from now on; where ATD is longer than policy's, DTD grows with it."""
    atd_s = -(-max(0, left_ms) // 1000)
    return atd_s, delays_s[1] + max(0, atd_s - delays_s[0])


def _leaving(
    was: Standing, random: Random, gone: frozenset[str], room: int
) -> tuple[dict[str, int], Draft | None, list[Round]]:
    """Whose leaves are taken, and what that does to the tree."""
    leaving = was.roster.leaving(was.epoch.era, gone) if was.tree else {}
    if not leaving:
        return {}, None, []
    draft = Draft(was.tree, random)
    wrap_len, top_len = _lens(was.epoch.shape)
    most = (room - was.tree.degree * top_len) // wrap_len
    return leaving, draft, draft.rounds(leaving.values(), min(_MOST_WRAPS, most))


def _room(rekeyer: Rekeyer, in_fragments: bool) -> int:
    """For keys in a message of a round. In fragments it may be as long as members put together.
    Else it goes in one frame: of what is longer no receiver can be sure."""
    is_split = in_fragments and rekeyer.most_len is not None
    return (ike.MOST_LEN if is_split else _FRAME_LEN) - _BESIDES_LEN


def _len(one: Round, shape: Shape) -> int:
    """Octets of its keys. One leaf's path may need more than there is room for."""
    wrap_len, top_len = _lens(shape)
    return len(one.wraps) * wrap_len + len(one.tops) * top_len


def _lens(shape: Shape) -> tuple[int, int]:
    """Octets that a wrapped key takes, and the keys of a Rekey SA."""
    kwk = kwk_len(shape.key_bits)
    keymat = shape.key_bits // 8 + SALT_LEN + kwk
    return _WRAPPED_LEN + kwk, _WRAPPED_LEN + -(-keymat // 8) * 8


def _unsaid(outbox: Outbox, rekeyer: Rekeyer) -> list[Parcel]:
    """In place of rekeys that some may not have heard, and that would hand them keys."""
    return [
        parcel
        if parcel.excludes
        else rekeyer.exclude(parcel.over, parcel.destination, parcel.marker)
        for parcel in outbox
    ]
