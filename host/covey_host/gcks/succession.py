"""Which epoch comes after a group's present one, and by which messages its members get there.

    all follow           GSA_REKEY over the current Rekey SA: the new epoch
    newcomers are due    the same, with new keys for all that lies over their leaves
    some are put out     GSA_REKEY over the current Rekey SA: another one, which they can't find,
                         in as many rounds as it takes, of which the first brings newcomers'
                         paths, too; then, over the last, the new epoch
    all are sent away    the Delete of everything: a new era

Nothing is written here, and nothing believed: see Group.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from covey import ike
from covey.gcm import SALT_LEN

from . import senders, sources
from .epoch import Epoch, Outbox, Parcel, Random, between, encode_state, kwk_len
from .epoch import next_epoch as epoch_after
from .keytree import Draft, KeyTree, Round
from .ledger import Changes
from .policy import INBAND, GroupPolicy, Shape
from .rekeyer import Rekeyer
from .roster import Enrolled, Roster
from .seats import reseated
from .senders import Row
from .sources import Told

_MOST_PARCELS = 8  # unsent rekeys in a row; who missed more registers again
_MOST_WRAPS = 96  # wrapped keys in one message
_MOST_JOIN_WRAPS = 48  # of these for newcomers; who is left over waits for the next rekey
_MOST_JOINS = 256
_FRAME_LEN = 1468  # octets of a message in an Ethernet frame, less IP, UDP and marker
_BESIDES_LEN = 320  # octets of a round that are neither wrapped keys nor the Rekey SA's
_EPOCH_LEN = 700  # the same of a message with a new epoch
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
    joined: dict[str, Enrolled] = field(default_factory=dict)  # newcomers for whom there is a leaf
    reserved: dict[int, Row] = field(default_factory=dict)  # sender indexes of seats


@dataclass(frozen=True)
class _Moves:
    """What happens to the leaves of a key tree, and what others have to be told of it."""

    leaving: dict[str, int] = field(default_factory=dict)
    joined: dict[str, Enrolled] = field(default_factory=dict)
    draft: Draft | None = None
    rounds: list[Round] = field(default_factory=list)
    joins: Round | None = None  # where nobody leaves


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
    asking: Mapping[str, bool],
) -> Plan:
    """excludes: all have to register again. started: the key server was. gone: who is not to
    follow; with a key tree those who left by themselves don't either. joins: newcomers that wait
    for a leaf with new keys over it, and whether each can put fragments together. asking: who
    waits, and whether it wants to send."""
    old, policy = was.epoch, was.policy
    in_fragments = was.roster.can_all_fragment(old.era)
    room = _room(rekeyer, in_fragments)
    moves = _moves(was, random, gone, joins, room)
    if moves.leaving and moves.joined and not _fits(moves, old.shape, room):
        moves = _moves(was, random, gone, {}, room)  # newcomers wait for the next rekey
    excludes = excludes or old.shape != policy.shape or len(moves.rounds) > _MOST_ROUNDS
    excludes = excludes or not _fits(moves, old.shape, room)
    excludes = excludes or not all(one.tops for one in moves.rounds)  # nobody would be left
    if excludes:
        moves = _Moves()
    draft, rounds = moves.draft, moves.rounds
    sas = between(old, random, count=len(rounds), started=started)
    over = sas[-1] if sas else None
    new = epoch_after(old, policy.shape, random, excludes=excludes, started=started, over=over)
    left = was.roster.leaving(old.era, gone).keys() - asking.keys()
    new, reserved = _seated(was, new, random, gone | left, asking)
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
        how |= {"over": over, "gap_ms": policy.evict_gap_ms if over else 0, "joins": moves.joins}
        how["sources"] = _told_of_sources(was, new, reserved)
        parcels.append(rekeyer.rekey(old, new, policy, atd_s=atd_s, dtd_s=dtd_s, **how))
    outbox = _unsaid(was.outbox, rekeyer) if excludes else was.outbox
    outbox = (*outbox, *parcels)[-max(_MOST_PARCELS, len(parcels)) :]
    vacated = frozenset(moves.leaving) - gone
    changes = {was.prefix + "state": encode_state(new, outbox)}
    changes |= was.roster.vacating(vacated) | was.roster.removing(gone)
    for name, enrolled in moves.joined.items():
        changes |= was.roster.entering(name, enrolled, {})
    changes |= was.roster.reserving(reserved)
    tree = was.tree
    if excludes:
        tree, more = new_tree(was.prefix, policy, tree, random)
        changes |= more
    elif draft:
        changes |= tree.pages(draft, was.prefix)
    end_ms = said_ms + dtd_s * 1000
    what = vacated, tree, draft, moves.joined, reserved
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
    was: Standing, new: Epoch, random: Random, unseated: frozenset[str], asking: Mapping[str, bool]
) -> tuple[Epoch, dict[int, Row]]:
    """The epoch with its seats, and rows that keep an index for each sender that is new there."""
    if new.shape.source_auth == sources.NONE:
        return new, {}
    rows = was.roster.rows

    def index_for(member: str, taken: set[int]) -> int | None:
        return senders.first_index(rows, member, new, taken)

    new = replace(new, seats=reseated(was.epoch.seats, unseated, asking, index_for, random))
    reserved = {
        seat.index: senders.reserved(rows.get(seat.index), seat.member, new)
        for seat in new.seats
        if seat.index is not None and not senders.owns(rows, seat.index, seat.member, new)
    }
    return new, reserved


def _told_of_sources(was: Standing, new: Epoch, reserved: dict[int, Row]) -> Told:
    """Attributes for the group, and for single senders, which have them under their own keys."""
    leaves = {}
    for seat in was.epoch.seats if was.tree is not None else ():
        enrolled = was.roster.members.get(seat.member)
        if enrolled is not None and enrolled.era == new.era and enrolled.leaf is not None:
            leaves[seat.member] = was.tree.node(0, enrolled.leaf)
    rows = was.roster.rows | reserved
    return Told(sources.of_group(new, rows), sources.of_senders(was.epoch, new, leaves))


def _moves(
    was: Standing, random: Random, gone: frozenset[str], joins: dict[str, bool], room: int
) -> _Moves:
    """Whose leaves are taken, who gets one, and what that does to the tree. room: for keys in a
    round's message."""
    if was.tree is None:
        return _Moves()
    leaving = was.roster.leaving(was.epoch.era, gone)
    draft = Draft(was.tree, random)
    most_joins = _most(was, ike.MOST_LEN - _EPOCH_LEN)
    first = draft.settling(most_joins) if joins else []
    joined = _placed(was, draft, [(m, has) for m, has in joins.items() if m not in gone])
    leaving = {m: leaf for m, leaf in leaving.items() if m not in joined}
    if leaving:
        rounds = draft.rounds(leaving.values(), min(_MOST_WRAPS, _most(was, room)))
        return _Moves(leaving, joined, draft, first + rounds)
    if joined:
        return _Moves({}, joined, draft, first, Round(draft.replace(), draft.tops()))
    return _Moves()


def _placed(was: Standing, draft: Draft, joins: Iterable[tuple[str, bool]]) -> dict[str, Enrolled]:
    """Leaves for newcomers, as many as one message can bring, one at least. Each counts as having
    left until it is admitted: who never comes for its keys is out with the next rekey."""
    placed = {}
    room = _most(was, ike.MOST_LEN - _EPOCH_LEN)
    for member, fragments in joins:
        most = min(_MOST_JOIN_WRAPS, room - draft.path_cost)
        if placed and (len(placed) == _MOST_JOINS or draft.cost() > most):
            break
        enrolled = was.roster.members.get(member)
        if enrolled is None or enrolled.era != was.epoch.era or enrolled.leaf is None:
            leaf = draft.join()
        else:
            leaf = enrolled.leaf
            draft.rejoin(leaf)
        placed[member] = Enrolled(was.epoch.era, False, True, fragments, leaf)
    return placed


def _most(was: Standing, room: int) -> int:
    """Wrapped keys in so many octets, beside the Rekey SA's keys."""
    wrap_len, top_len = _lens(was.epoch.shape)
    return (room - was.tree.degree * top_len) // wrap_len


def _room(rekeyer: Rekeyer, in_fragments: bool) -> int:
    """For keys in a message of a round. In fragments it may be as long as members put together.
    Else it goes in one frame: of what is longer no receiver can be sure."""
    is_split = in_fragments and rekeyer.most_len is not None
    return (ike.MOST_LEN if is_split else _FRAME_LEN) - _BESIDES_LEN


def _fits(moves: _Moves, shape: Shape, room: int) -> bool:
    """Whether no message is too long: one leaf's path may need more than there is."""
    wrap_len, top_len = _lens(shape)

    def length(one: Round) -> int:
        return len(one.wraps) * wrap_len + len(one.tops) * top_len

    joins_len = length(moves.joins) if moves.joins else 0
    return joins_len <= ike.MOST_LEN - _EPOCH_LEN and all(length(r) <= room for r in moves.rounds)


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
