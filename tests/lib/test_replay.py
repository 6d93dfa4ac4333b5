"""Windows and the table of senders, call by call; drawn at random in tests/host."""

from covey.drops import DROP_REPLAY, DROP_SENDER_TABLE_FULL, DROP_STALE_SENDER
from covey.path import accept, admit
from datapath import Windows, heap_octets, u32

_MOST = 0xFFFFFFFF

# (number, whether it is accepted), in this order. A window holds 16 rows of eight numbers: the
# newest's own and the 15 before it.
_CALLS = (
    (0, False),  # 1: no sender uses it
    (1, True),
    (1, False),
    (9, True),
    (8, True),  # 5: a row back
    (7, True),
    (7, False),
    (127, True),
    (127, False),
    (126, True),  # 10
    (126, False),
    (2, True),  # row 0, still inside
    (2, False),
    (128, True),  # row 16: row 0 falls out
    (7, False),  # 15
    (3, False),
    (10, True),  # row 1, still inside
    (9, False),
    (8, False),
    (128 + 119, True),  # 20: row 30 of the same ring as 14
    (10, False),
    (127, False),  # row 15 is the last one inside, and remembered
    (125, True),
    (119, False),  # row 14 is outside
    (120, True),  # 25
    (1000000, True),  # a jump over many rings
    (1000000, False),
    (999999, True),
    (1000000 - 120, True),
    (1000000 - 128, False),  # 30
    (0x3FFFFFFF, True),  # the last small integer of a 32-bit board ...
    (0x40000000, True),  # ... and the first beyond
    (0x3FFFFFFF, False),
    (0x40000000, False),
    (0x3FFFFFFE, True),  # 35
    (0x7FFFFFFF, True),
    (0x80000000, True),
    (0x80000000, False),
    (_MOST - 1, True),
    (_MOST, True),  # 40
    (_MOST, False),
    (_MOST - 1, False),
    (_MOST - 120, True),
    (_MOST - 128, False),
    (0, False),  # 45
    (1, False),
)


def _is_fresh(window, number):
    """Of a table with one slot; asked twice, because asking changes nothing."""
    before = window.state()
    answer = window.admit(0, number)
    assert window.admit(0, number) == answer and window.state() == before
    assert answer in (0, DROP_REPLAY)
    return answer == 0


def _accept(window, number):
    _is_fresh(window, number)
    window.accept()


def test_table_of_calls():
    window = Windows(1)
    for i in range(len(_CALLS)):
        number, expected = _CALLS[i]
        assert _is_fresh(window, number) == expected, "call %d" % (i + 1)
        if expected:
            _accept(window, number)


def test_each_number_once_in_order_and_reversed():
    for base in (0, 8, 100, 0x3FFFFFC0):
        window = Windows(1)
        numbers = [base + i for i in range(1, 121)]
        for number in reversed(numbers):
            assert _is_fresh(window, number), number
            _accept(window, number)
        for number in numbers:
            assert not _is_fresh(window, number), number


def test_rows_that_are_jumped_over_are_empty():
    window = Windows(1)
    _accept(window, 1)
    _accept(window, 9)
    _accept(window, 17 * 8)  # over row 16, which lies where row 0 lay
    assert _is_fresh(window, 16 * 8 + 1)
    assert not _is_fresh(window, 9)
    _accept(window, 17 * 8 + 16 * 8)  # over all rows at once
    for number in range(17 * 8 + 8, 33 * 8):
        assert _is_fresh(window, number), number


def test_sender_of_every_width():
    # RFC 6054 figure 1: the Sender-ID fills the top bits of the IV
    for bits in range(33):
        window = Windows(4, bits)
        window.bare.rx[4:12] = b"\0\0\0\1\xfe\xdc\xba\x98"
        assert admit(window.bare.path.place, 36, 0) == 0
        window.accept()
        assert window.bare.path.sender == (0xFEDCBA98 >> (32 - bits) if bits else None), bits


def _try(table, sender, number):
    """Ask, and accept what passes; the answer of admit()."""
    before = table.state()
    answer = table.admit(sender, number)
    assert table.admit(sender, number) == answer and table.state() == before
    if answer >= 0:
        table.accept()
    return answer


def test_senders_by_value():
    table = Windows(4, 8)
    assert _try(table, 7, 5) >= 0
    assert _try(table, 9, 5) >= 0
    assert _try(table, 7, 5) == DROP_REPLAY
    assert _try(table, 9, 4) >= 0
    assert _try(table, 9, 5) == DROP_REPLAY
    assert _try(table, 7, 0) == DROP_REPLAY
    assert _try(table, 8, 0) == DROP_REPLAY  # unknown, and never takes a slot by it
    assert [row > 0 for row in table.state()[5::7]].count(True) == 2


def test_a_full_table_refuses_the_unknown_only():
    table = Windows(4, 16)
    for sender in (3, 7, 11, 0xFFFF):  # the same low bits: each after the other
        assert _try(table, sender, 1) >= 0
    assert _try(table, 4, 1) == DROP_SENDER_TABLE_FULL
    for sender in (3, 7, 11, 0xFFFF):
        assert _try(table, sender, 1) == DROP_REPLAY
        assert _try(table, sender, 2) >= 0
    assert _try(table, 4, 3) == DROP_SENDER_TABLE_FULL


def test_a_newer_incarnation_takes_over_in_accept_only():
    table = Windows(4, 16, 10)
    old, new = 5 << 6 | 3, 5 << 6 | 4
    assert _try(table, old, 900) >= 0
    before = table.state()
    assert table.admit(new, 1) >= 0
    assert table.state() == before
    assert _try(table, old, 901) >= 0  # asking took nothing over
    assert _try(table, new, 1) >= 0
    assert _try(table, new, 1) == DROP_REPLAY
    assert _try(table, old, 902) == DROP_STALE_SENDER
    assert _try(table, new, 2) >= 0  # its window is its own, far from where the old one's was
    assert _try(table, new, 0) == DROP_REPLAY
    assert _try(table, 5 << 6 | 5, 0) == DROP_REPLAY


def test_incarnations_go_round():
    # Serial arithmetic modulo 64: up to 31 ahead is newer, the rest is older.
    for now in (0, 1, 31, 32, 62, 63):
        for ahead in range(64):
            table = Windows(2, 16, 10)
            _try(table, 9 << 6 | now, 10)
            answer = _try(table, 9 << 6 | (now + ahead & 63), 11)
            if ahead < 32:
                assert answer >= 0, (now, ahead)
            else:
                assert answer == DROP_STALE_SENDER, (now, ahead)


def test_one_slot_an_index_whatever_its_incarnation():
    table = Windows(2, 12, 6)
    for incarnation in range(40):
        assert _try(table, 1 << 6 | incarnation, 1) >= 0
    assert _try(table, 2 << 6, 1) >= 0
    assert _try(table, 3 << 6, 1) == DROP_SENDER_TABLE_FULL


def test_a_form_without_incarnation():
    table = Windows(2, 8, 8)
    assert _try(table, 200, 1) >= 0
    assert _try(table, 200, 1) == DROP_REPLAY
    assert _try(table, 199, 1) >= 0


def test_no_width_one_window():
    table = Windows(1)
    assert _try(table, 0, 1) >= 0
    assert _try(table, 0, 1) == DROP_REPLAY
    assert _try(table, 0, 0x80000000) >= 0
    assert _try(table, 0, 2) == DROP_REPLAY


def test_no_window_at_all():
    table = Windows(0)
    for _ in range(3):
        for number in (0, 1, 7, _MOST):
            assert _try(table, 0, number) >= 0
    assert not table.bar(0)


def test_widest_values():
    table = Windows(4, 32)
    assert _try(table, _MOST, 1) >= 0
    assert _try(table, 0x80000000, 1) >= 0
    assert _try(table, _MOST, 1) == DROP_REPLAY
    table = Windows(4, 32, 20)
    assert _try(table, _MOST, 1) >= 0
    assert _try(table, 0xFFFFF000, 1) >= 0  # incarnation 4095, then 0
    assert _try(table, _MOST, 2) == DROP_STALE_SENDER


def test_barred():
    table = Windows(4, 16, 10)
    own = 5 << 6 | 3
    assert table.bar(own)
    assert _try(table, own, 1) == DROP_REPLAY
    assert _try(table, own, _MOST) == DROP_REPLAY
    assert _try(table, own - 1, 1) == DROP_STALE_SENDER
    assert _try(table, own + 1, 1) >= 0  # somebody registered after us under our name
    full = Windows(1, 8)
    _try(full, 1, 1)
    assert not full.bar(2)
    assert full.bar(1)
    assert _try(full, 1, 2) == DROP_REPLAY


def test_barred_while_it_is_being_heard():
    """On CPython a port notes a sender's window: no note outlives bar(), whatever it says."""
    for last in (5, 800, _MOST - 9, _MOST - 5):
        table = Windows(4, 16, 10)
        old = 5 << 6 | 3
        for number in range(last - 4, last + 1):
            assert _try(table, old, number) >= 0
        assert table.bar(old + 1)
        assert _try(table, old, last + 1) == DROP_STALE_SENDER, last
        assert _try(table, old + 1, last + 1) == DROP_REPLAY
        assert _try(table, old + 2, last) >= 0
        for sender in (old, old + 1):
            assert _try(table, sender, last + 1) == DROP_STALE_SENDER


def test_incarnations_that_have_come_equally_far():
    table = Windows(4, 16, 10)
    other = 6 << 6
    for incarnation in range(5):
        sender = 5 << 6 | incarnation
        for number in (1, 2, 9, 10, 900, 17):
            expected = 0 if number != 17 else DROP_REPLAY
            assert _try(table, sender, number) == expected
            assert _try(table, sender, number) == DROP_REPLAY
            assert _try(table, other, 1000 * incarnation + number) == expected
            for older in range(incarnation):
                assert _try(table, 5 << 6 | older, number + 1) == DROP_STALE_SENDER


def test_no_heap():
    table = Windows(8, 16, 10)
    place, rx = table.bare.path.place, table.bare.rx
    heads = [u32(n) + u32(s << 16) for n in (1, 500, _MOST, 3) for s in (64, 65, 1000, 65535)]

    def step():
        for head in heads:
            for i in range(8):
                rx[4 + i] = head[i]
            if admit(place, 36, 0) >= 0:
                accept(place, 0)

    assert heap_octets(step) == 0
