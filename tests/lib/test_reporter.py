"""Reports of a member to a key server that has asked for them: when, and what is in them."""

import sys

from covey import ike, membership, report, reporter
from covey.drops import DROP_CAPACITY, DROP_UNKNOWN_SPI
from covey.member import Member
from gcks_peer import DELETE_IKE, Gcks
from life import SPIS, Life
from talk import PSK

INTERVAL = 100


class Watched(Life):
    """A member whose server answers all signs of life, and keeps what comes in them."""

    def __init__(self, report_s=INTERVAL, **fields):
        self.told = []  # (at which second, report.Report)
        Life.__init__(self, registered=False, liveness_s=0, **fields)
        self.register(self.keys(0, epoch=7, report_s=report_s))

    def live(self, seconds):
        for _ in range(seconds):
            for data in self.run(1000):
                self.answer(data)

    def answer(self, data):
        header, said = self.sa.open(data)
        assert header.exchange == ike.INFORMATIONAL
        for kind, body in said:
            n = ike.parse_notify(body)
            assert (kind, n.type, n.protocol, n.spi) == (ike.NOTIFY, ike.COVEY_REPORT, 0, b"")
            self.told.append((self.now_ms // 1000, report.parse_report(n.data)))
        assert self.hear(self.sa.answer(data, [])) == []


def test_a_server_that_does_not_ask_hears_nothing():
    sys.modules.pop("covey.reporter", None)
    life = Life(liveness_s=0)
    assert life.run(1000 * 1000) == [] and "covey.reporter" not in sys.modules
    life = Watched(report_s=0)
    life.live(1000)
    assert life.told == [] and "covey.reporter" not in sys.modules


def test_at_most_one_in_an_interval_and_half_as_much_again():
    life = Watched()
    life.live(30 * INTERVAL)
    times = [at for at, _ in life.told]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert times[0] <= INTERVAL // 4 + 2
    assert len(times) >= 19 and min(gaps) >= INTERVAL and max(gaps) <= INTERVAL * 3 // 2 + 2


def test_what_is_in_it():
    life = Watched()
    life.member.rx[:36] = bytes(range(36))
    for _ in range(3):
        assert life.member.receive(36, life.now_ms) == DROP_UNKNOWN_SPI
    life.live(INTERVAL)
    told = life.told[0][1]
    assert (told.state, told.spi, told.epoch) == ("member", SPIS[0], 7)
    assert told.drops == {DROP_UNKNOWN_SPI: 3} and told.opened == told.sent == 0
    assert told.software.count(".") == 2


class _Silent:
    """In place of silence.Silence: over, and nothing to do."""

    is_over = True

    def step(self, now_ms):
        pass


def test_a_member_that_is_silent_says_so():
    life = Watched()
    life.live(INTERVAL)
    life.it._silence = _Silent()
    life.live(2 * INTERVAL)
    assert [told.state for _, told in life.told][:1] == ["member"]
    assert life.told[-1][1].state == "silent"


def test_a_change_is_told_as_soon_as_the_interval_allows():
    life = Watched()
    life.live(INTERVAL)
    first = life.told[-1][0]
    life.inband(life.more(1, epoch=8))
    life.live(first + INTERVAL - life.now_ms // 1000 - 1)
    assert life.told[-1][0] == first
    life.live(INTERVAL // 4 + 3)
    at, told = life.told[-1]
    assert first + INTERVAL <= at and (told.epoch, told.spi) == (8, SPIS[1])


def test_changes_of_state_have_their_ages():
    life = Watched(rejoin_spread_s=0)
    life.live(INTERVAL)
    _, init = life.hear(life.sa.request(ike.INFORMATIONAL, [DELETE_IKE]))
    life.gcks = Gcks(PSK)
    auth = life.hear(life.gcks.answer_init(init))
    life.sa = life.gcks.sa
    granted = life.keys(1, epoch=9, report_s=INTERVAL)(life.sa)
    life.hear(life.gcks.answer_auth(auth, granted))
    assert life.it.state == membership.MEMBER
    life.live(2 * INTERVAL)
    changes = life.told[-1][1].changes
    assert [state for state, _ in changes] == ["member", "registering", "excluded"]
    assert 0 < changes[0][1] <= changes[1][1] <= changes[2][1] <= 2 * INTERVAL


def test_a_server_may_change_its_mind():
    life = Watched()
    life.live(INTERVAL)
    said = len(life.told)
    assert said
    request = life.pull()
    life.hear(life.sa.answer(request, life.keys(2, epoch=8)(life.sa)))
    life.live(10 * INTERVAL)
    assert len(life.told) == said


def test_it_waits_while_another_request_is_out():
    life = Watched()
    life.live(INTERVAL)
    said = len(life.told)
    request = life.pull()
    life.it._reporter._at.start(life.now_ms, 1)
    assert life.run(2000) == []
    life.hear(life.sa.answer(request, life.keys(2, epoch=8, report_s=INTERVAL)(life.sa)))
    life.live(10)
    assert len(life.told) == said + 1 and life.told[-1][1].epoch == 8


def test_a_report_without_an_answer_is_a_server_that_is_gone():
    life = Watched(retransmit={"first_ms": 500, "total_s": 5})
    sent = []
    while not sent:
        sent = life.run(1000)
    life.run(8000)
    assert "unanswered" in [name for name, _ in life.it.events]


class Still:
    """What a Reporter looks at, of a membership and its Registration."""

    epoch, condition, report_s = 1, membership.MEMBER, INTERVAL

    def __init__(self):
        self.member = Member()
        self.at = []  # seconds at which it reported

    def say(self, payloads, now_ms):
        self.at.append(now_ms // 1000)
        return True


def test_many_that_hear_of_one_rekey_do_not_report_at_once():
    state = [1]

    def random_ms(most_s):
        state[0] = state[0] * 1103515245 + 12345 & 0x3FFFFFFF
        return (state[0] >> 8) % (most_s * 1000 + 1)

    it = Still()
    flock = [reporter.Reporter(INTERVAL, random_ms, 0) for _ in range(200)]
    for second in range(1, 8 * INTERVAL):
        it.epoch = 1 + second // (4 * INTERVAL)
        for each in flock:
            each.step(it, it, 1000 * second)
    busiest = max([it.at.count(second) for second in range(8 * INTERVAL)])
    assert len(it.at) > 200 * 5 and busiest <= 24  # 8 a second, if all choose within a quarter


def test_a_report_that_finds_no_memory_goes_later():
    life = Watched()
    life.live(1)
    loaded = sys.modules["covey.reporter"]  # by the life above; another one than ours, perhaps
    emit, calls = loaded.emit_report, []

    def fail(*_):
        calls.append(1)
        raise MemoryError

    loaded.emit_report = fail
    try:
        life.live(INTERVAL // 4 + 1)
    finally:
        loaded.emit_report = emit
    assert calls and life.told == [] and life.drops == {"capacity": len(calls)}
    life.live(10)
    assert len(life.told) == 1 and life.told[0][1].drops == {DROP_CAPACITY: len(calls)}
