"""Whether a board can hold its group: what policy demands, and what the board file allows."""

import json
from pathlib import Path

from ..errors import MISUSE, Problem
from ..gcks.policy import ECDSA
from . import mpyfile, proofs
from .boards import ALWAYS, Board
from .files import Contents, limits
from .members import Member
from .proofs import IN_RAM, IN_ROMFS

# Octets of heap that main.py takes, by limits: as `make size BOARD=NAME KEEP=1` measured them.
MEASURED = Path(__file__).with_name("heap.json")
_KERNEL = "/lib/covey/port/mpy_ghash_ct.mpy"
_ROLLOVERS = 3  # SAs: the one in use, the next, and one whose dtd is not over


def check(member: Member, board: Board) -> None:
    """Problem where the board can't take part in the group at all."""
    policy = member.policy
    if policy and policy.carrier not in board.carriers:
        raise Problem(
            f"Group {policy.name} has the carrier {policy.carrier}, and board {board.id} only"
            f" {' and '.join(board.carriers)}.",
            MISUSE,
        )


def warnings(
    member: Member, board: Board, contents: Contents, *, romfs: bool = False
) -> list[str]:
    """What may go wrong on this board, a sentence each."""
    has = limits(member, board)
    return [
        *_over_board(has, board),
        *_group(member, has),
        *_memory(member, has, board, contents, IN_ROMFS if romfs else IN_RAM),
        *_cache(board, contents),
        *_setup(member),
    ]


def heap_for(has: dict[str, int], where: str) -> int | None:
    """Octets of heap that are enough for these limits by what was measured; None: nobody did."""
    enough = [
        row[where]
        for row in json.loads(MEASURED.read_text())
        if all(row[key] >= value for key, value in has.items() if key in row)
    ]
    return min(enough, default=None)


def keep(has: dict[str, int], heap: dict[str, int]) -> None:
    """Note what was measured, in place of what was."""
    rows = json.loads(MEASURED.read_text()) if MEASURED.exists() else []
    rows = [row for row in rows if any(row[key] != value for key, value in has.items())]
    rows.append({**has, **heap})
    rows.sort(key=lambda row: list(row.values()))
    MEASURED.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n")


def is_code_on_heap(board: Board) -> bool:
    """Whether machine code takes MicroPython's heap: the ESP32's has memory of its own for it."""
    return board.chip is None


def _over_board(has: dict[str, int], board: Board) -> list[str]:
    return [
        f"covey.json has limits.{key} {has[key]}, and the board file room for {most}."
        for key, most in board.limits.items()
        if has[key] > most
    ]


def _group(member: Member, has: dict[str, int]) -> list[str]:
    said = []
    policy = member.policy
    if policy and has["sas"] < _ROLLOVERS:
        said.append(
            f"limits.sas is {has['sas']}: two rekeys of group {policy.name} within dtd"
            f" ({policy.dtd_s} s) need {_ROLLOVERS}."
        )
    if policy and not policy.single_sender and (member.senders or 0) > has["senders"]:
        said.append(
            f"Group {policy.name} has {member.senders} senders, and limits.senders is"
            f" {has['senders']}: packets of the others are dropped."
        )
    waiting = has.get("waiting", proofs.WAITING)
    if policy and policy.source_auth == ECDSA and policy.ecdsa_batch > waiting:
        said.append(
            f"Group {policy.name} signs up to {policy.ecdsa_batch} packets at once, and"
            f" limits.waiting is {waiting}: it may lose the others before they are verified."
        )
    return said


def _memory(
    member: Member, has: dict[str, int], board: Board, contents: Contents, where: str
) -> list[str]:
    heap = heap_for(has, where)
    if heap is None or board.heap is None:
        return []
    machine = 0
    if is_code_on_heap(board):
        machine = sum(mpyfile.parse(data).machine_code for data in contents.code.values())
    proven = proofs.octets(member, has, where)
    if heap + machine + proven <= board.heap:
        return []
    takes = f"By measurement this member takes {heap + machine} octets of heap"
    if proven:
        takes += f", with source_auth about {proven} more"
    return [
        f"{takes}, and board {board.id} may have only {board.heap} ({board.heap_from}), so it"
        f" may not start: {_remedy(member, has, board, machine, where)}."
    ]


def _remedy(member: Member, has: dict[str, int], board: Board, machine: int, where: str) -> str:
    """What helps where the heap is too small; the end of a sentence."""
    here = _fewer_waiting(member, has, board, machine, where)
    other = heap_for(has, IN_ROMFS)
    if where == IN_ROMFS or other is None:
        return here or "smaller limits in covey.json, or a board with PSRAM"
    other += machine + proofs.octets(member, has, IN_ROMFS)
    if other <= board.heap:
        return f"with the code in ROMFS (--romfs) or frozen it is {other}"
    there = _fewer_waiting(member, has, board, machine, IN_ROMFS)
    return (
        f"with the code in ROMFS (--romfs) or frozen it is {other}, so it needs "
        + (there and there + ", or ")
        + "a board with PSRAM or smaller limits in covey.json besides"
    )


def _fewer_waiting(
    member: Member, has: dict[str, int], board: Board, machine: int, where: str
) -> str:
    """A limit on packets that wait for their proof, with which it fits; empty: there is none."""
    heap = heap_for(has, where)
    if heap is None or board.heap is None or not proofs.waits(member):
        return ""
    lacking = heap + machine + proofs.octets(member, has, where) - board.heap
    slots = proofs.fitting(member, has, lacking, where)
    return f"limits.waiting {slots} or less in covey.json" if slots else ""


def _cache(board: Board, contents: Contents) -> list[str]:
    """What a person should choose, and has not: nor does main.py."""
    is_chosen = board.constant_time is not None or _KERNEL in contents.files
    if board.psram is None or is_chosen:
        return []
    has = "has PSRAM" if board.psram == ALWAYS else "may have PSRAM"
    return [
        f"Board {board.id} {has}: who measures time well can learn of keys from look-ups in tables"
        " there, which --constant-time ends, at some three times the price of a packet;"
        " --no-constant-time leaves them."
    ]


def _setup(member: Member) -> list[str]:
    said = []
    if member.wifi is None:
        said.append(
            "No Wi-Fi is known: say it with `covey site wifi`, or put the site's wifi.json beside"
            " covey.json, and make the image anew."
        )
    if member.fields.get("interface"):
        said.append(
            f"covey.json names the interface {member.fields['interface']}: a board has only its"
            " Wi-Fi, and refuses any other address."
        )
    return said
