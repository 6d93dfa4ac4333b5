"""Which Sender-ID goes to whom (RFC 9838 section 2.5.1): no value twice under one key, ever.

Sender-ID = index | incarnation. An index belongs to one sender; its incarnation goes up at each
registration, from 0 after each exclusion of all members (an era), when all Sender-IDs become void.

A member that follows rekeys takes its Sender-ID along to new TEKs. So a value that was given out
is used up for the rest of the era, whoever has registered since. Three bounds follow, with
`span` half of what the incarnation can count, so that serial arithmetic tells newer from older:

  * an index is good for `span` registrations in an era; then its sender gets another index,
  * under one TEK it is good for `share` = span / 8 of them; then the group is rekeyed first (or,
    where that would be too soon after the last rekey, its sender gets another index),
  * each start of the key server uses up `share` of every index unseen: what was given out under
    the TEK in the store may be more than the store says, if it is a restored backup or a copy.
    After eight starts nothing is left, and the start excludes all members instead of rekeying.

Where no index is left, all are excluded, which frees the used up ones; else the group is full.

With source authentication an index stands for a name, and packets under the TEK of before may
still be on their way when another one is in use. So who is removed leaves its index to nobody
there before the era ends.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice

from .epoch import Epoch
from .ledger import decode, encode
from .policy import Shape

NOBODY = ""  # owner of an index that is kept until the era ends
_STARTS = 8  # of the key server in one era


class NoIndex(Exception):
    """All indexes belong to other senders."""


class RekeyFirst(Exception):
    """A value can be given under the next TEK only."""


class ExcludeFirst(Exception):
    """A value can be given after all members have been excluded only."""


@dataclass(frozen=True)
class Row:
    """What an index has been used for; valid in its era, as seen in its life and epoch."""

    owner: str
    era: int
    life: int
    epoch: int
    used: int  # in this era: the next incarnation
    used_by_tek: int  # in this epoch


def span(shape: Shape) -> int:
    return 1 << (shape.incarnation_bits - 1)


def share(shape: Shape) -> int:
    return max(1, span(shape) // _STARTS)


def is_used_up(shape: Shape, life: int) -> bool:
    """Whether so many starts have used up every index of this era."""
    return life * share(shape) >= span(shape)


def pick(
    rows: dict[int, Row],
    owner: str,
    wanted: int,
    epoch: Epoch,
    *,
    most: int,
    may_rekey: bool,
    only: int | None = None,
) -> dict[int, Row]:
    """Up to `wanted` indexes for a registration, at least one → {index: its row from now on}.

    The Sender-ID of each is sender_id(). most: indexes of one sender in an era, so that it leaves
    some to others. only: the one index that will do, if there is one. NoIndex, RekeyFirst or
    ExcludeFirst where there is none.
    """
    shape = epoch.shape
    found = {}
    preferred = _preferred(rows, owner, epoch) if only is None else [only]
    for index in islice(preferred, most):
        row = _as_of(epoch, rows.get(index), owner)
        if row.used >= span(shape):
            continue
        if row.used_by_tek >= share(shape):
            if may_rekey:
                raise RekeyFirst
            continue
        found[index] = replace(row, used=row.used + 1, used_by_tek=row.used_by_tek + 1)
        if len(found) == wanted:
            break
    if not found:
        raise ExcludeFirst if _any_used_up(rows, epoch) else NoIndex
    return found


def index_from_now(
    rows: dict[int, Row], owner: str, index: int | None, epoch: Epoch, taken: set[int]
) -> int | None:
    """The one index of a sender that registers and has this one so far: another, none of those
    that are taken, once it is good for a few more registrations only. None: there is none."""
    most = span(epoch.shape)

    def used(one: int) -> int:
        return _as_of(epoch, rows.get(one), owner).used

    if index is not None and used(index) * 4 < most * 3:
        return index
    for other in _preferred(rows, owner, epoch):
        if other not in taken and used(other) * 4 < most * 3:
            return other
    return index if index is not None and used(index) < most else None


def has_value(rows: dict[int, Row], owner: str, index: int, epoch: Epoch) -> bool:
    """Whether one can be given of this index under this TEK."""
    row = _as_of(epoch, rows.get(index), owner)
    return row.used < span(epoch.shape) and row.used_by_tek < share(epoch.shape)


def owns(rows: dict[int, Row], index: int, owner: str, epoch: Epoch) -> bool:
    """Whether the index is this sender's already."""
    row = rows.get(index)
    return row is not None and row.owner == owner and row.era == epoch.era


def reserved(row: Row | None, owner: str, epoch: Epoch) -> Row:
    """What makes an index this sender's, with no value used."""
    return _as_of(epoch, row, owner)


def sender_id(shape: Shape, index: int, row: Row) -> int:
    """The Sender-ID that a picked row stands for."""
    return index << shape.incarnation_bits | row.used - 1


def encode_row(row: Row) -> bytes:
    return encode(asdict(row))


def decode_row(value: bytes) -> Row:
    return Row(**decode(value))


def _preferred(rows: dict[int, Row], owner: str, epoch: Epoch) -> Iterator[int]:
    """Indexes for this sender: its own, then unused ones, then what others had in older eras."""
    indexes = range(1 << epoch.shape.index_bits)
    yield from (i for i in indexes if i in rows and rows[i].owner == owner)
    yield from (i for i in indexes if i not in rows)
    for i in indexes:
        if i in rows and rows[i].owner != owner and rows[i].era != epoch.era:
            yield i


def _as_of(epoch: Epoch, row: Row | None, owner: str) -> Row:
    """What is true of an index now that it goes to this owner."""
    starts = share(epoch.shape)
    if row is None or row.era != epoch.era:
        return Row(owner, epoch.era, epoch.life, epoch.number, epoch.life * starts, 0)
    used = row.used + (epoch.life - row.life) * starts
    used_by_tek = row.used_by_tek if row.epoch == epoch.number else 0
    return Row(owner, epoch.era, epoch.life, epoch.number, used, used_by_tek)


def _any_used_up(rows: dict[int, Row], epoch: Epoch) -> bool:
    """Whether starting over would gain an index."""
    if is_used_up(epoch.shape, epoch.life):
        return True
    return any(_as_of(epoch, row, row.owner).used >= span(epoch.shape) for row in rows.values())
