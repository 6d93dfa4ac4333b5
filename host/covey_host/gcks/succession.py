"""Which epoch comes after a group's present one, and by which messages its members get there.

    all follow           GSA_REKEY over the current Rekey SA: the new epoch
    newcomers are due    the same, with new keys for all that lies over their leaves
    some are put out     GSA_REKEY over the current Rekey SA: another one, which they can't find,
                         and newcomers' paths, too; then, over that one, the new epoch
    many are             the same in a few rounds, each to a Rekey SA that fewer can find
    very many are        one round in portions: each member finds its way in one of them
    all are sent away    the Delete of everything: a new era

Nothing is written here, and nothing believed: see Group.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from . import senders, sources
from .chains import Chains
from .epoch import Birth, Epoch, Outbox, Parcel, Random, between, encode_state, kwk_len
from .epoch import next_epoch as epoch_after
from .keytree import Draft, KeyTree
from .ledger import Changes
from .moves import Moves, Standing, planned
from .policy import GroupPolicy
from .rekeyer import Rekeyer
from .roles import Role
from .roster import Enrolled
from .seats import renewed, reseated
from .senders import Row
from .sources import Told

_MOST_PARCELS = 8  # unsent rekeys in a row; who missed more registers again


@dataclass(frozen=True)
class Plan:
    """A new epoch, decided and not yet written."""

    epoch: Epoch
    outbox: Outbox
    changes: Changes = field(repr=False)  # rows with keys
    activate_ms: int
    end_ms: int = 0  # from when nobody takes what comes under the TEK before it
    gone: frozenset[str] = frozenset()  # members that this takes away
    vacated: frozenset[str] = frozenset()  # members whose leaf is free
    tree: KeyTree | None = None  # from now on
    draft: Draft | None = None  # what is to be applied to it
    joined: dict[str, Enrolled] = field(default_factory=dict)  # newcomers for whom there is a leaf
    evicts: bool = False  # somebody is put out, while all others follow
    reserved: dict[int, Row] = field(default_factory=dict)  # sender indexes of seats
    keeps: bool = False  # sender indexes of those that are gone from others
    dismisses: bool = False  # others are there, and have to register again
    late_ms: int = 0  # for which members hear of it later than decided, but are told the same


def decide(
    was: Standing,
    rekeyer: Rekeyer,
    random: Random,
    now_ms: int,
    *,
    excludes: bool,
    started: bool,
    gone: frozenset[str],
    joins: dict[str, bool],
    asking: Mapping[str, Role],
    chains: Chains,
    clock: bytes,
    birth: Birth | None,
    unknown: bool = False,
) -> Plan:
    """excludes: all have to register again. started: the key server was. gone: who is not to
    follow; with a key tree those who left by themselves don't either. joins: newcomers that wait
    for a leaf with new keys over it, and whether each can put fragments together. asking: who
    waits, and as what. clock: its name, where senders are proven by time. birth: where others are
    to be told of it. unknown: nobody is to follow whose leaf isn't in the key tree."""
    old, policy = was.epoch, was.policy
    in_fragments = was.roster.can_all_fragment(old.era)
    how = {"in_fragments": in_fragments, "unknown": unknown}
    moves = planned(was, rekeyer, random, gone, joins, **how)
    excludes = excludes or old.shape != policy.shape or moves is None
    excludes = excludes or not all(one.tops for step in moves.steps for one in step)  # nobody left
    if excludes:
        moves = Moves()
    draft, steps = moves.draft, moves.steps
    sas = between(old, random, count=len(steps), started=started)
    over = sas[-1] if sas else None
    new = epoch_after(old, policy.shape, random, excludes=excludes, started=started, over=over)
    left = was.roster.leaving(old.era, gone).keys() - asking.keys()
    new, reserved = _seated(was, new, random, gone | left, asking, excludes)
    new = replace(new, clock=clock)
    if unknown and not excludes:
        new = replace(new, known_life=new.life)
    come_back = excludes or started and any(parcel.excludes for parcel in was.outbox)
    evicts = bool(steps or gone) and not excludes
    delays_s = policy.delays_s(evicts)
    said_ms = (now_ms if excludes else max(now_ms, was.begin_ms)) + moves.delay_ms(policy)
    activate_ms = max(earliest_ms(policy, said_ms, come_back, delays_s), was.activate_ms)
    atd_s, dtd_s = told_s(activate_ms - said_ms, delays_s)
    if was.is_inband:
        parcels = []
    elif excludes:
        parcels = [rekeyer.exclude(old.rekey, old.destination, old.shape.has_marker)]
    else:
        how = {"in_fragments": in_fragments}
        gaps_ms = moves.gaps_ms(policy)
        parcels = rekeyer.steps(old, steps, sas, new.rekey.spi, policy, gaps_ms, **how)
        how |= {"over": over, "gap_ms": policy.evict_gap_ms if over else 0, "joins": moves.joins}
        how["sources"] = _told_of_sources(was, new, reserved, chains, asking)
        parcels.append(rekeyer.rekey(old, new, policy, atd_s=atd_s, dtd_s=dtd_s, **how))
    outbox = _unsaid(was.outbox, rekeyer) if excludes else was.outbox
    unsent = 0 if excludes else was.unsent
    outbox = (*outbox, *parcels)[-max(_MOST_PARCELS, unsent + len(parcels)) :]
    vacated = frozenset(moves.leaving) - gone
    keeps = new.era == old.era and new.shape.source_auth != sources.NONE
    end_ms = said_ms + dtd_s * 1000
    if birth is not None:
        times = {"activate_in_ms": activate_ms - now_ms, "end_in_ms": end_ms - now_ms}
        birth = replace(birth, **times, evicts=evicts, placed=tuple(moves.joined))
        new = replace(new, birth=birth)
    changes = {was.prefix + "state": encode_state(new, outbox)}
    changes |= was.roster.vacating(vacated) | was.roster.removing(gone, keeps=keeps)
    for name, enrolled in moves.joined.items():
        changes |= was.roster.entering(name, enrolled, {})
    changes |= was.roster.reserving(reserved)
    tree = was.tree
    if excludes:
        tree, more = new_tree(was.prefix, policy, tree, random)
        changes |= more
    elif draft:
        changes |= tree.pages(draft, was.prefix)
    others = was.roster.count(old.era) - sum(was.roster.is_active(m, old.era) for m in gone)
    dismisses = excludes and others > 0
    what = vacated, tree, draft, moves.joined, evicts, reserved, keeps, dismisses
    return Plan(new, outbox, changes, activate_ms, end_ms, gone, *what)


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


def _seated(
    was: Standing,
    new: Epoch,
    random: Random,
    unseated: frozenset[str],
    asking: Mapping[str, Role],
    excludes: bool,
) -> tuple[Epoch, dict[int, Row]]:
    """The epoch with its seats, and rows that keep an index for each sender that is new there.
    Where all register again, all have other secrets."""
    if new.shape.source_auth == sources.NONE:
        return new, {}
    rows = was.roster.rows
    seats = renewed(was.epoch.seats, random) if excludes else was.epoch.seats

    def index_for(member: str, index: int | None, taken: set[int]) -> int | None:
        return senders.index_from_now(rows, member, index, new, taken)

    how = new.shape.source_auth, seats, unseated, asking
    new = replace(new, seats=reseated(*how, index_for, random))
    reserved = {
        seat.index: senders.reserved(rows.get(seat.index), seat.member, new)
        for seat in new.seats
        if seat.index is not None and not senders.owns(rows, seat.index, seat.member, new)
    }
    return new, reserved


def _told_of_sources(
    was: Standing,
    new: Epoch,
    reserved: dict[int, Row],
    chains: Chains,
    asking: Container[str],
) -> Told:
    """Attributes for the group, and for single senders, which have them under their own keys."""
    leaves = {}
    for seat in was.epoch.seats if was.tree is not None else ():
        enrolled = was.roster.members.get(seat.member)
        if enrolled is not None and enrolled.era == new.era and enrolled.leaf is not None:
            leaves[seat.member] = was.tree.node(0, enrolled.leaf)
    rows = was.roster.rows | reserved
    group = sources.of_group(new, rows, chains, was.epoch, asking)
    return Told(group, sources.of_senders(was.epoch, new, leaves))


def _unsaid(outbox: Outbox, rekeyer: Rekeyer) -> list[Parcel]:
    """In place of rekeys that some may not have heard, and that would hand them keys: over each
    Rekey SA one, above all its other messages."""
    found: dict[bytes, Parcel] = {}
    for parcel in outbox:
        found.pop(parcel.over.spi, None)
        where = parcel.over, parcel.destination, parcel.marker
        found[parcel.over.spi] = parcel if parcel.excludes else rekeyer.exclude(*where)
    return list(found.values())
