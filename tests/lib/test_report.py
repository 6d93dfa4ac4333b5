"""COVEY_REPORT: octets by hand, and what is no report."""

from covey import report
from covey.drops import DROP_REPLAY, DROP_TAG, Drops
from covey.membership import NAMES

SPI = bytes((0x11, 0x22, 0x33, 0x44))
PLAIN = (
    bytes((1, 2, 2, 2, 0, 1, 0, 0))
    + SPI
    + bytes((0, 0, 0, 7, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 9))
    + bytes((2, 0, 0, 0, 5, 1, 0, 0, 0, 6))
    + bytes((9, 0, 0, 0, 3, 10, 0x3F, 0xFF, 0xFF, 0xFF))
)


class Counted(Drops):
    """counts: {DROP_*: how often}."""

    def __init__(self, counts):
        Drops.__init__(self)
        for reason in counts:
            self._counts[-reason] = counts[reason]


def _emitted(**changes):
    facts = {
        "state": 2,
        "spi": SPI,
        "epoch": 7,
        "seconds": 256,
        "opened": 65536,
        "sent": 9,
        "changes": [(2, 5), (1, 6)],
        "drops": {DROP_REPLAY: 3, DROP_TAG: 0x3FFFFFFF},
    }
    facts.update(changes)
    facts["drops"] = Counted(facts["drops"])
    return report.emit_report(**facts)


def test_octets():
    assert _emitted() == PLAIN


def test_octets_of_a_member_without_keys():
    data = _emitted(state=1, spi=None, epoch=None, changes=[], drops={})
    assert data == bytes((1, 1, 0, 0, 0, 1, 0, 0)) + bytes(8) + PLAIN[16:28]


def test_parse():
    told = report.parse_report(PLAIN)
    assert (told.state, told.software, told.spi, told.epoch) == ("member", "0.1.0", SPI, 7)
    assert (told.seconds, told.opened, told.sent) == (256, 65536, 9)
    assert told.changes == [("member", 5), ("registering", 6)]
    assert told.drops == {DROP_REPLAY: 3, DROP_TAG: 0x3FFFFFFF}


def test_what_a_later_version_adds_is_passed_over():
    told = report.parse_report(PLAIN + b"more")
    assert told.drops == {DROP_REPLAY: 3, DROP_TAG: 0x3FFFFFFF} and told.changes[1][1] == 6
    assert report.parse_report(_emitted(state=9)).state == "state 9"


def test_what_is_no_report():
    for length in range(len(PLAIN)):
        assert report.parse_report(PLAIN[:length]) is None
    assert report.parse_report(bytes((2,)) + PLAIN[1:]) is None
    assert report.parse_report(PLAIN + bytes(report.MOST_LEN)) is None


def test_all_reasons_fit():
    every = {reason: 1 for reason in range(-63, 0)}
    data = _emitted(drops=every, changes=[(1, 1)] * 4)
    assert len(data) == 28 + 4 * 5 + 48 * 5 and len(data) < report.MOST_LEN
    assert len(report.parse_report(data).drops) == 48


def test_states_have_one_list_of_words():
    assert [report.STATES[number] for number in range(len(NAMES))] == list(NAMES)
