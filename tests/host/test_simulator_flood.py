"""A member that floods the others, to hide that it is put out, hides it for a minute at most.

On virtual time, with lib's own members, each of which takes 400 ms for a signature.
"""

import pytest

from covey.candidates import Candidates
from simulator import flood

MOST_MS = 62_000 + 1500  # from one question to the next, and until it is answered; see spec.md


@pytest.mark.parametrize(
    "in_parts, every_ms, lead_ms",
    [(False, 1, 3000), (False, 10, 45_000), (True, 1, 3000), (True, 5, 20_000)],
)
def test_every_board_learns_of_the_eviction(in_parts, every_ms, lead_ms):
    sent, boards = flood.endure(7, in_parts, every_ms, lead_ms)
    assert sent > 1000
    for seen in boards:
        assert seen.learned_ms is not None and seen.learned_ms <= MOST_MS, boards
        assert seen.asked <= len(boards) * (2 + (lead_ms + seen.learned_ms) // 30_000), boards
    assert in_parts or all(seen.forged > 3 and seen.lost > 100 for seen in boards)


@pytest.mark.parametrize("in_parts", [False, True])
def test_without_asking_they_would_not(monkeypatch, in_parts):
    """So the flood is one that hides something."""
    monkeypatch.setattr(Candidates, "is_flooded", False)
    _, boards = flood.endure(7, in_parts, 1, wait_ms=20_000)
    assert {seen.learned_ms for seen in boards} == {None}
