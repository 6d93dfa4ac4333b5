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

from dataclasses import dataclass, field

from covey import ike
from covey.gcm import SALT_LEN

from .epoch import Epoch, Outbox, Parcel, Random, between, encode_state, kwk_len
from .epoch import next_epoch as epoch_after
from .keytree import Draft, KeyTree, Round
from .ledger import Changes
from .policy import INBAND, GroupPolicy, Shape
from .portions import cut
from .rekeyer import Rekeyer
from .roster import Enrolled, Roster

_MOST_PARCELS = 8  # unsent rekeys in a row; who missed more registers again
_MOST_WRAPS = 96  # wrapped keys in one message
_MOST_JOIN_WRAPS = 48  # of these for newcomers; who is left over waits for the next rekey
_MOST_JOINS = 256
_FRAME_LEN = 1468  # octets of a message in an Ethernet frame, less IP, UDP and marker
_BESIDES_LEN = 320  # octets of a round that are neither wrapped keys nor the Rekey SA's
_EPOCH_LEN = 700  # the same of a message with a new epoch
_WRAPPED_LEN = 20  # of an attribute with a wrapped key, besides the key itself
_FEW_ROUNDS = 4  # messages to put out as many as go at once; if it takes more, in portions
_MOST_ROUNDS = 16  # where members don't know of portions; if it takes more, all go
_MOST_PORTIONS = 1024  # 4 MB; if it takes more, all go
_PORTIONS_A_GAP = 10  # sent in evict_gap: so fast a board says of one that it is for others


@dataclass(frozen=True)
class Standing:
    """What a group is as its next epoch is decided on."""

    prefix: str  # of its keys in the store
    policy: GroupPolicy
    epoch: Epoch
    roster: Roster
    tree: KeyTree | None
    outbox: Outbox
    unsent: int  # of its parcels, the last
    begin_ms: int  # when something new can be said
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


@dataclass(frozen=True)
class _Moves:
    """What happens to the leaves of a key tree, and what others have to be told of it."""

    leaving: dict[str, int] = field(default_factory=dict)
    joined: dict[str, Enrolled] = field(default_factory=dict)
    draft: Draft | None = None
    steps: list[list[Round]] = field(default_factory=list)  # each to a Rekey SA, in portions
    joins: Round | None = None  # what goes with the new epoch

    def delay_ms(self, policy: GroupPolicy) -> int:
        """From the first message to the new epoch's."""
        portions = sum(len(step) - 1 for step in self.steps)
        return len(self.steps) * policy.evict_gap_ms + portions * portion_gap_ms(policy)


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
) -> Plan:
    """excludes: all have to register again. started: the key server was. gone: who is not to
    follow; with a key tree those who left by themselves don't either. joins: newcomers that wait
    for a leaf with new keys over it, and whether each can put fragments together."""
    old, policy = was.epoch, was.policy
    in_fragments = was.roster.can_all_fragment(old.era)
    moves = _moves(was, random, gone, joins, _room(rekeyer, in_fragments))
    excludes = excludes or old.shape != policy.shape or moves is None
    excludes = excludes or not all(one.tops for step in moves.steps for one in step)  # nobody left
    if excludes:
        moves = _Moves()
    draft, steps = moves.draft, moves.steps
    sas = between(old, random, count=len(steps), started=started)
    over = sas[-1] if sas else None
    new = epoch_after(old, policy.shape, random, excludes=excludes, started=started, over=over)
    come_back = excludes or started and any(parcel.excludes for parcel in was.outbox)
    delays_s = policy.delays_s(bool(steps))
    said_ms = (now_ms if excludes else max(now_ms, was.begin_ms)) + moves.delay_ms(policy)
    activate_ms = max(earliest_ms(policy, said_ms, come_back, delays_s), was.activate_ms)
    atd_s, dtd_s = told_s(activate_ms - said_ms, delays_s)
    if was.is_inband:
        parcels = []
    elif excludes:
        parcels = [rekeyer.exclude(old.rekey, old.destination, old.shape.has_marker)]
    else:
        how = {"in_fragments": in_fragments}
        gaps_ms = policy.evict_gap_ms, portion_gap_ms(policy)
        parcels = rekeyer.steps(old, steps, sas, new.rekey.spi, policy, gaps_ms, **how)
        how |= {"over": over, "gap_ms": policy.evict_gap_ms if over else 0, "joins": moves.joins}
        parcels.append(rekeyer.rekey(old, new, policy, atd_s=atd_s, dtd_s=dtd_s, **how))
    outbox = _unsaid(was.outbox, rekeyer) if excludes else was.outbox
    unsent = 0 if excludes else was.unsent
    outbox = (*outbox, *parcels)[-max(_MOST_PARCELS, unsent + len(parcels)) :]
    vacated = frozenset(moves.leaving) - gone
    changes = {was.prefix + "state": encode_state(new, outbox)}
    changes |= was.roster.vacating(vacated) | was.roster.removing(gone)
    for name, enrolled in moves.joined.items():
        changes |= was.roster.entering(name, enrolled, {})
    tree = was.tree
    if excludes:
        tree, more = new_tree(was.prefix, policy, tree, random)
        changes |= more
    elif draft:
        changes |= tree.pages(draft, was.prefix)
    end_ms = said_ms + dtd_s * 1000
    what = vacated, tree, draft, moves.joined
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


def portion_gap_ms(policy: GroupPolicy) -> int:
    return policy.evict_gap_ms // _PORTIONS_A_GAP


def _moves(
    was: Standing, random: Random, gone: frozenset[str], joins: dict[str, bool], room: int
) -> _Moves | None:
    """Whose leaves are taken, who gets one, and what that does to the tree. room: for keys in a
    message of a round. None where no messages can say it."""
    if was.tree is None:
        return _Moves()
    has_portions = was.epoch.shape.private_attributes
    joins = {member: has for member, has in joins.items() if member not in gone}
    limit = _FEW_ROUNDS if has_portions else _MOST_ROUNDS
    moves = _in_rounds(was, random, gone, joins, room, limit)
    is_all = moves is not None and len(moves.joined) == len(joins)
    if has_portions:
        return moves if is_all else _in_portions(was, random, gone, joins, room) or moves
    if moves is None and joins and was.roster.leaving(was.epoch.era, gone):
        return _in_rounds(was, random, gone, {}, room, limit)  # newcomers wait
    return moves


def _in_rounds(
    was: Standing,
    random: Random,
    gone: frozenset[str],
    joins: dict[str, bool],
    room: int,
    limit: int,
) -> _Moves | None:
    """As RFC 9838 has it: each message has a way for everybody that stays. Newcomers, as many as
    fit, wait for the next rekey otherwise."""
    draft = Draft(was.tree, random)
    beside = ike.MOST_LEN - _EPOCH_LEN
    if was.epoch.shape.private_attributes:
        beside = room + _BESIDES_LEN - _EPOCH_LEN
    first = draft.settling(_most(was, beside)) if joins else []
    joined = _placed(was, draft, joins, _most(was, beside))
    leaving = _leaving(was, gone, joined)
    if leaving:
        most = min(_MOST_WRAPS, _most(was, room))
        rounds = draft.rounds(leaving.values(), most, limit - len(first))
        if rounds is None:
            return None
        steps, joins_round = [[one] for one in first + rounds], None
    else:
        steps = [[one] for one in first]
        joins_round = Round(draft.replace(), draft.tops()) if joined else None
    moves = _Moves(leaving, joined, draft if leaving or joined else None, steps, joins_round)
    return moves if _fits(moves, was.epoch.shape, room, beside) else None


def _in_portions(
    was: Standing, random: Random, gone: frozenset[str], joins: dict[str, bool], room: int
) -> _Moves | None:
    """All at once, in messages of which each member needs one. None where nobody would be left,
    too."""
    draft = Draft(was.tree, random)
    joined = _placed(was, draft, joins, None)
    leaving = _leaving(was, gone, joined)
    portions = cut(draft.whole(leaving.values()), room, *_lens(was.epoch.shape))
    moves = _Moves(leaving, joined, draft, [portions])
    is_right = 0 < len(portions) <= _MOST_PORTIONS and _fits(moves, was.epoch.shape, room, room)
    return moves if is_right else None


def _leaving(was: Standing, gone: frozenset[str], joined: dict[str, Enrolled]) -> dict[str, int]:
    leaving = was.roster.leaving(was.epoch.era, gone)
    return {member: leaf for member, leaf in leaving.items() if member not in joined}


def _placed(
    was: Standing, draft: Draft, joins: dict[str, bool], most: int | None
) -> dict[str, Enrolled]:
    """Leaves for newcomers, as many as one message of `most` wrapped keys can bring, one at least;
    None: for all. Each counts as having left until it is admitted: who never comes for its keys
    is out with the next rekey."""
    placed = {}
    if most is not None:
        most = min(_MOST_JOIN_WRAPS, most - draft.path_cost)
    for member, fragments in joins.items():
        is_much = most is not None and (len(placed) == _MOST_JOINS or draft.cost() > most)
        if placed and is_much:
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


def _fits(moves: _Moves, shape: Shape, room: int, beside: int) -> bool:
    """Whether no message is too long: one leaf's path may need more than there is. beside: for
    keys in the message that brings the new epoch."""
    wrap_len, top_len = _lens(shape)

    def length(one: Round) -> int:
        return len(one.wraps) * wrap_len + len(one.tops) * top_len

    joins_len = length(moves.joins) if moves.joins else 0
    return joins_len <= beside and all(length(r) <= room for step in moves.steps for r in step)


def _lens(shape: Shape) -> tuple[int, int]:
    """Octets that a wrapped key takes, and the keys of a Rekey SA."""
    kwk = kwk_len(shape.key_bits)
    keymat = shape.key_bits // 8 + SALT_LEN + kwk
    return _WRAPPED_LEN + kwk, _WRAPPED_LEN + -(-keymat // 8) * 8


def _unsaid(outbox: Outbox, rekeyer: Rekeyer) -> list[Parcel]:
    """In place of rekeys that some may not have heard, and that would hand them keys: over each
    Rekey SA one, above all its other messages."""
    found: dict[bytes, Parcel] = {}
    for parcel in outbox:
        found.pop(parcel.over.spi, None)
        where = parcel.over, parcel.destination, parcel.marker
        found[parcel.over.spi] = parcel if parcel.excludes else rekeyer.exclude(*where)
    return list(found.values())
