"""Whether a board can hold its group: what policy demands, and what the board file allows."""

from ..errors import MISUSE, Problem
from .boards import Board
from .files import Contents, limits
from .members import Member

_ROLLOVER = 2  # SAs while new keys take over from old ones


def check(member: Member, board: Board) -> None:
    """Problem where the board can't take part in the group at all."""
    policy = member.policy
    if policy and policy.carrier not in board.carriers:
        raise Problem(
            f"Group {policy.name} has the carrier {policy.carrier}, and board {board.id} only"
            f" {' and '.join(board.carriers)}.",
            MISUSE,
        )


def warnings(member: Member, board: Board, contents: Contents) -> list[str]:
    """What may go wrong on this board, a sentence each."""
    has = limits(member, board)
    return [
        *_over_board(has, board),
        *_group(member, has),
        *_setup(member),
    ]


def _over_board(has: dict[str, int], board: Board) -> list[str]:
    return [
        f"covey.json has limits.{key} {has[key]}, and the board file room for {most}."
        for key, most in board.limits.items()
        if has[key] > most
    ]


def _group(member: Member, has: dict[str, int]) -> list[str]:
    said = []
    policy = member.policy
    if policy and not policy.single_sender and (member.senders or 0) > has["senders"]:
        said.append(
            f"Group {policy.name} has {member.senders} senders, and limits.senders is"
            f" {has['senders']}: packets of the others are dropped."
        )
    return said


def _setup(member: Member) -> list[str]:
    said = []
    if member.wifi is None:
        said.append("No Wi-Fi is known: say it with `covey site wifi`, then make the image anew.")
    if member.fields.get("interface"):
        said.append(
            f"covey.json names the interface {member.fields['interface']}: a board has only its"
            " Wi-Fi, and refuses any other address."
        )
    return said
