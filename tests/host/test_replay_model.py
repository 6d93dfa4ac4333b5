"""Windows and the table of senders against models that remember every number."""

from hypothesis import given
from hypothesis import strategies as st

from covey.drops import DROP_REPLAY, DROP_SENDER_TABLE_FULL, DROP_STALE_SENDER
from covey.path import admit
from datapath import Windows

_ROWS = 16  # rows of eight numbers that a window remembers

# Small numbers, both ends of the space and the border of small integers; steps around them.
_BASES = st.sampled_from((0, 0x3FFFFF80, 0x7FFFFF80, 0xFFFFFE00))
_NUMBERS = st.one_of(
    st.integers(0, 400),
    st.builds(lambda base, n: base + n, _BASES, st.integers(0, 511)),
    st.integers(0, 0xFFFFFFFF),
)


class _Model:
    """One sender's numbers, all of them."""

    def __init__(self):
        self.accepted = {0}

    def is_fresh(self, number):
        oldest_row = max(self.accepted) // 8 - _ROWS + 1
        return number // 8 >= oldest_row and number not in self.accepted


def _check(window, model, number):
    """Ask both; let both accept what is fresh."""
    answer = window.admit(0, number)
    assert answer == (0 if model.is_fresh(number) else DROP_REPLAY)
    if answer == 0:
        window.accept()
        model.accepted.add(number)


@given(st.lists(_NUMBERS, max_size=200))
def test_window(numbers):
    window, model = Windows(1), _Model()
    for number in numbers:
        _check(window, model, number)


@given(
    start=_NUMBERS,
    moves=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 130)), max_size=300),
)
def test_window_that_slides(start, moves):
    """Mostly forward, now and then back: where a ring of rows could go wrong."""
    window, model = Windows(1), _Model()
    number = start
    for forward, back in moves:
        number = min(number + forward * 5, 0xFFFFFFFF)
        _check(window, model, number)
        _check(window, model, max(number - back, 0))


@given(
    packets=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 200), st.booleans()),
        max_size=150,
    ),
    slots=st.sampled_from((1, 2, 4)),
    has_form=st.booleans(),
)
def test_table(packets, slots, has_form):
    """(index, incarnation of three bits, number, whether the tag verifies)"""
    table = Windows(slots, 16, 13) if has_form else Windows(slots, 16)
    senders = {}  # who owns a window → [incarnation, _Model]
    for index, incarnation, number, verifies in packets:
        sender = index << 3 | incarnation
        owner = index if has_form else sender
        expected = _expected(senders, owner, incarnation, number, slots)
        before = table.state()
        answer = table.admit(sender, number)
        assert table.state() == before
        if expected < 0:
            assert answer == expected
            continue
        assert answer >= 0
        if verifies:
            table.accept()
            if owner not in senders or senders[owner][0] != incarnation:
                senders[owner] = [incarnation, _Model()]
            senders[owner][1].accepted.add(number)


def _expected(senders, owner, incarnation, number, slots):
    if owner not in senders:
        if len(senders) == slots:
            return DROP_SENDER_TABLE_FULL
        return 0 if number else DROP_REPLAY
    known, model = senders[owner]
    ahead = (incarnation - known) % 8
    if ahead == 0:
        return 0 if model.is_fresh(number) else DROP_REPLAY
    if ahead >= 4:
        return DROP_STALE_SENDER
    return 0 if number else DROP_REPLAY


@given(bits=st.integers(1, 32), iv=st.binary(min_size=4, max_size=4))
def test_sender_of(bits, iv):
    window = Windows(1, bits)
    window.bare.rx[4:12] = b"\0\0\0\1" + iv
    assert admit(window.bare.path.place, 36, 0) == 0
    window.accept()
    assert window.bare.path.sender == int.from_bytes(iv, "big") >> (32 - bits)
