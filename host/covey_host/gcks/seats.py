"""Who may send in a group with source authentication; with MACs, who has a slot to check them.

Whoever needs a seat has it in an epoch before it gets any of its keys: a secret of its own, as a
sender an index, and others were told of it. With MACs all need one, else only senders; who sends
alone, and receives nothing, has no slot there. So a newcomer waits for a rekey (newcomers.py), and
who leaves is unseated by the next one. A seat that goes to another brings nothing along: what is
derived from it hangs on its secret and on the identity of whoever sends (sources.py).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from covey import sources as wire

from ..errors import MISUSE, Problem
from .policy import MAC, NONE
from .roles import Role


@dataclass(frozen=True)
class Seat:
    """A member in an epoch. secret: R of covey/sources.py. index: of its Sender-IDs, or None.
    receives: whether it checks what others send."""

    member: str
    secret: bytes = field(repr=False)
    index: int | None = None
    receives: bool = True

    @property
    def slot_id(self) -> bytes:
        return bytes(wire.slot_id(self.secret))


Seats = tuple[Seat, ...]
MOST_SENDERS = 16  # with signatures, or by time: members have as many windows
_SOME = -1  # an index, whichever


def needs_seat(source_auth: str, sends: bool) -> bool:
    return source_auth == MAC or sends and source_auth != NONE


def reseated(
    source_auth: str,
    seats: Seats,
    unseated: Iterable[str],
    asking: Mapping[str, Role],
    index_for: Callable[[str, int | None, set[int]], int | None],
    random: Callable[[int], bytes],
) -> Seats:
    """The next epoch's. asking: who registers, and as what: a sender's Sender-ID will be another
    one. index_for: an index for a member that has this one, but none of these."""
    gone = set(unseated)
    stay = tuple(
        seat
        for seat in seats
        if seat.member not in gone and needs_seat(source_auth, seat.index is not None)
    )
    for member, role in asking.items():
        if member in gone or not needs_seat(source_auth, role.sends):
            continue
        seat = seat_of(stay, member)
        if seat is None:
            seat = Seat(member, _new_secret(stay, random), receives=role.receives)
        seat = replace(seat, receives=seat.receives or role.receives)
        if role.sends:
            taken = {other.index for other in stay if other.index is not None}
            seat = replace(seat, index=index_for(member, seat.index, taken))
        after = (*_without(stay, member), seat)
        if _fits(source_auth, after):
            stay = after
    return stay


def is_seated(seats: Seats, member: str, role: Role) -> bool:
    seat = seat_of(seats, member)
    if seat is None or role.sends and seat.index is None:
        return False
    return seat.receives or not role.receives


def renewed(seats: Seats, random: Callable[[int], bytes]) -> Seats:
    """The same with other secrets."""
    made: Seats = ()
    for seat in seats:
        made = (*made, replace(seat, secret=_new_secret(made, random)))
    return made


def is_full(source_auth: str, seats: Seats, member: str, role: Role) -> bool:
    """Whether this one, which needs a seat, finds none, however long it waits."""
    seat = seat_of(seats, member) or Seat(member, b"", receives=False)
    index = _SOME if role.sends and seat.index is None else seat.index
    seat = replace(seat, index=index, receives=seat.receives or role.receives)
    return not _fits(source_auth, (*_without(seats, member), seat))


def check_room(group: str, source_auth: str, members: Mapping[str, Role]) -> None:
    """Problem where these can't all check what is sent. members: as what each may join."""
    senders = [role for role in members.values() if role.sends]
    if source_auth not in (NONE, MAC) and len(senders) > MOST_SENDERS:
        raise Problem(
            f'Group {group} has source_auth = "{source_auth}", which serves {MOST_SENDERS} senders'
            f" at most, and {len(senders)} members would be allowed to send: remove some.",
            MISUSE,
        )
    lone = senders == [Role.BOTH]
    receivers = sum(role.receives for role in members.values()) - lone
    if source_auth == MAC and receivers > wire.MOST_SLOTS:
        raise Problem(
            f'Group {group} has source_auth = "mac", which serves {wire.MOST_SLOTS} receivers at'
            f" most, and {receivers} members would receive: remove some, or choose"
            " another source_auth.",
            MISUSE,
        )


def seat_of(seats: Seats, member: str) -> Seat | None:
    return next((seat for seat in seats if seat.member == member), None)


def slots(seats: Seats) -> list[Seat]:
    """Whose tags lie in a packet, in their order. Who alone sends has nothing to check."""
    senders = [seat for seat in seats if seat.index is not None]
    return [seat for seat in seats if seat.receives and senders != [seat]]


def _without(seats: Seats, member: str) -> Seats:
    return tuple(seat for seat in seats if seat.member != member)


def _fits(source_auth: str, seats: Seats) -> bool:
    if source_auth == MAC:
        return len(slots(seats)) <= wire.MOST_SLOTS
    return sum(seat.index is not None for seat in seats) <= MOST_SENDERS


def _new_secret(others: Iterable[Seat], random: Callable[[int], bytes]) -> bytes:
    taken = {seat.slot_id for seat in others}
    while True:
        secret = random(wire.SECRET_LEN)
        if bytes(wire.slot_id(secret)) not in taken:
            return secret
