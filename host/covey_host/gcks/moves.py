"""What happens to the leaves of a key tree, and which messages tell others of it.

    few leave, or come    each message has a way for all who stay (RFC 9838 section 3.2.3)
    many                  in portions: each has a way for some
    whoever has no leaf   all keys over those of members are replaced: as either, by the number

Decided on a draft of the tree, from which nothing follows yet: see succession.py.
"""

from dataclasses import dataclass, field

from covey import ike
from covey.gcm import SALT_LEN

from . import states
from .epoch import Epoch, Outbox, Random, kwk_len
from .keytree import Draft, KeyTree, Round
from .policy import INBAND, GroupPolicy, Shape
from .portions import cut
from .rekeyer import Rekeyer
from .roster import Enrolled, Roster
from .sources import NONE

_MOST_WRAPS = 96  # wrapped keys in one message
_MOST_JOIN_WRAPS = 48  # of these for newcomers; who is left over waits for the next rekey
_MOST_JOINS = 256
_FRAME_LEN = 1468  # octets of a message in an Ethernet frame, less IP, UDP and marker
_BESIDES_LEN = 320  # octets of a round that are neither wrapped keys nor the Rekey SA's
_EPOCH_LEN = 700  # the same of a message with a new epoch
_WRAPPED_LEN = 20  # of an attribute with a wrapped key, besides the key itself
_FEW_ROUNDS = 4  # messages to put out as many as go at once; if it takes more, in portions
_MOST_ROUNDS = 16  # where members don't know of portions; if it takes more, all go
_PORTION_DATAGRAMS = 2  # of one portion, where it could be four: those are lost twice as often
_FRAGMENT_LEN = 61  # octets of a datagram around a fragment
_MOST_PORTIONS = 1024  # 2 MB; if it takes more, all go
_MOST_RENEWED = 40_000  # members, all keys over whose own are replaced: as many portions hold
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
class Moves:
    """Empty where nobody moves."""

    leaving: dict[str, int] = field(default_factory=dict)
    joined: dict[str, Enrolled] = field(default_factory=dict)
    draft: Draft | None = None
    steps: list[list[Round]] = field(default_factory=list)  # each to a Rekey SA, in portions
    joins: Round | None = None  # what goes with the new epoch

    def gaps_ms(self, policy: GroupPolicy) -> tuple[int, int]:
        """Before a step but the first, and before a further portion."""
        return policy.evict_gap_ms, policy.evict_gap_ms // _PORTIONS_A_GAP

    def delay_ms(self, policy: GroupPolicy) -> int:
        """From the first message to the new epoch's."""
        step_ms, portion_ms = self.gaps_ms(policy)
        portions = sum(len(step) - 1 for step in self.steps)
        return len(self.steps) * step_ms + portions * portion_ms


def planned(
    was: Standing,
    rekeyer: Rekeyer,
    random: Random,
    gone: frozenset[str],
    joins: dict[str, bool],
    *,
    in_fragments: bool,
    unknown: bool = False,
) -> Moves | None:
    """Whose leaves are taken, who gets one, and what that does to the tree. None where no messages
    can say it. in_fragments: all can put them together. unknown: whoever has keys and no leaf is
    to lose them, too."""
    if was.tree is None:
        return Moves()
    if unknown and was.tree.members > _MOST_RENEWED:
        return None
    has_portions = was.epoch.shape.private_attributes
    joins = {member: has for member, has in joins.items() if member not in gone}
    limit = _FEW_ROUNDS if has_portions else _MOST_ROUNDS
    room = _room(rekeyer, in_fragments)
    moves = _in_rounds(was, random, gone, joins, room, limit, unknown)
    if has_portions:
        if moves is not None and len(moves.joined) == len(joins):
            return moves
        rooms = _portion_room(rekeyer, in_fragments), room
        some = (_in_portions(was, random, gone, joins, most, unknown) for most in rooms)
        return next(filter(None, some), moves)
    if moves is None and joins and (unknown or was.roster.leaving(was.epoch.era, gone)):
        return _in_rounds(was, random, gone, {}, room, limit, unknown)  # newcomers wait
    return moves


def _in_rounds(
    was: Standing,
    random: Random,
    gone: frozenset[str],
    joins: dict[str, bool],
    room: int,
    limit: int,
    unknown: bool,
) -> Moves | None:
    """As RFC 9838 has it: each message has a way for everybody that stays. Newcomers, as many as
    fit, wait for the next rekey otherwise."""
    draft = Draft(was.tree, random)
    beside = ike.MOST_LEN - _EPOCH_LEN
    if was.epoch.shape.private_attributes:
        beside = room + _BESIDES_LEN - _EPOCH_LEN
    first = draft.settling(_most(was, beside)) if joins else []
    joined = _placed(was, draft, joins, _most(was, beside))
    leaving = _leaving(was, gone, joined)
    if leaving or unknown:
        most = min(_MOST_WRAPS, _most(was, room))
        if unknown:
            draft.renew_all()
            rounds = [draft.whole(leaving.values())]
        else:
            rounds = draft.rounds(leaving.values(), most, limit - len(first))
        if rounds is None or unknown and len(rounds[0].wraps) > most:
            return None
        steps, joins_round = [[one] for one in first + rounds], None
    else:
        steps = [[one] for one in first]
        joins_round = Round(draft.replace(), draft.tops()) if joined else None
        if joins_round and was.epoch.shape.source_auth != NONE:  # up to 2,600 octets besides
            steps, joins_round = [*steps, [joins_round]], None
    is_drawn = leaving or joined or unknown
    moves = Moves(leaving, joined, draft if is_drawn else None, steps, joins_round)
    return moves if _fits(moves, was.epoch.shape, room, beside) else None


def _in_portions(
    was: Standing,
    random: Random,
    gone: frozenset[str],
    joins: dict[str, bool],
    room: int,
    unknown: bool,
) -> Moves | None:
    """All at once, in messages of which each member needs one. None where nobody would be left,
    too."""
    draft = Draft(was.tree, random)
    joined = _placed(was, draft, joins, None)
    leaving = _leaving(was, gone, joined)
    if unknown:
        draft.renew_all()
    portions = cut(draft.whole(leaving.values()), room, *_lens(was.epoch.shape))
    moves = Moves(leaving, joined, draft, [portions])
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
        before = _state_before(enrolled)
        placed[member] = Enrolled(was.epoch.era, False, True, fragments, leaf, placed=before)
    return placed


def _state_before(enrolled: Enrolled | None) -> str:
    """Of a newcomer, should it never come for its keys: see Enrolled.placed."""
    if enrolled is None:
        return states.NEVER
    return enrolled.placed if enrolled.left else states.EXCLUDED


def _most(was: Standing, room: int) -> int:
    """Wrapped keys in so many octets, beside the Rekey SA's keys."""
    wrap_len, top_len = _lens(was.epoch.shape)
    return (room - was.tree.degree * top_len) // wrap_len


def _room(rekeyer: Rekeyer, in_fragments: bool) -> int:
    """For keys in a message of a round. In fragments it may be as long as members put together.
    Else it goes in one frame: of what is longer no receiver can be sure."""
    is_split = in_fragments and rekeyer.most_len is not None
    return (ike.MOST_LEN if is_split else _FRAME_LEN) - _BESIDES_LEN


def _portion_room(rekeyer: Rekeyer, in_fragments: bool) -> int:
    """Of the datagrams of a portion all must arrive, of portions one: they are not as long as they
    could be."""
    if not in_fragments or rekeyer.most_len is None:
        return _room(rekeyer, in_fragments)
    return _PORTION_DATAGRAMS * (rekeyer.most_len - _FRAGMENT_LEN) - _BESIDES_LEN


def _fits(moves: Moves, shape: Shape, room: int, beside: int) -> bool:
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
