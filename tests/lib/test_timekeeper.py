"""When a member asks for the time, and what it does with answers. What a Timekeeper looks at of a
Membership and its Registration stands here; the octets are real.
"""

from covey import timed, timing
from covey.assignment import Terms
from covey.drops import DROP_IKE_FORMAT, DROP_POLICY, Drops, FormatError
from covey.gsa import GroupWide, SAPolicy
from covey.iana import COVEY_CHAINS_NOW, COVEY_STONES, COVEY_TIME
from covey.ike import notify, parse_notify
from covey.job import finish
from covey.sources import emit_roster
from covey.tesla import TimedMACs
from covey.timing import Timing, emit_chains, emit_stones, emit_time, emit_timing
from test_pebbles import SALT, chain, stones

BITS = 9
FIRST = 4 << BITS
KEYS = chain(FIRST, (2 << BITS) - 1)
SALT2 = b"another!"
NEXT = chain(FIRST + (1 << BITS), (2 << BITS) - 1, b"z" * 16, SALT2)
ROWS = [(0, 3, b"press-7"), (5, 0, b"desk")]
CLOCK = b"clok"
WHY = Timing(8, 2, BITS, 100, CLOCK, 100)
COMMITMENT = (0, FIRST, SALT, FIRST - 1, KEYS[FIRST - 1])


def build(was=None, sender_id=None, why=WHY, roster=ROWS, chains=(COMMITMENT,), kwk=b"k", epoch=7):
    now, before = Terms(), Terms()
    now.sender_form = (10, 16)
    now.sender_ids = () if sender_id is None else (sender_id,)
    before.sources = was
    attributes = [emit_roster(roster)] if roster else []
    if chains is not None:
        attributes.append(emit_chains(chains))
    policy = SAPolicy(3, b"abcd", None, None, [], attributes=[emit_timing(why)])
    wide = GroupWide(attributes=attributes, epoch=epoch)
    return finish(timed.build_job([policy, policy], wide, None, kwk, before, now))


def refused(reason, **how):
    try:
        build(**how)
    except FormatError as error:
        assert error.reason == reason
        return
    raise AssertionError("taken")


# ---- of a message


def test_of_a_registration():
    made, (auth, other) = build()
    assert made.rows == ROWS and made.names == {0: b"press-7", 5: b"desk"}
    assert auth.trailer == 4 + 8 + 16 and auth.keeper is other.keeper is made.keeper
    assert made.keeper.own is None and made.secret is None and not made.keeper.is_known
    made, (auth, _) = build(sender_id=5 << 6 | 1)
    assert made.keeper.own.identity == b"desk"


def test_of_a_rekey():
    """The keeper goes on with all it knows, unless the terms are others."""
    made, _ = build(sender_id=5 << 6 | 1)
    again, _ = build(made, 5 << 6 | 1, kwk=None, chains=None)
    assert again.keeper is made.keeper
    other = Timing(8, 3, BITS, 100, CLOCK, 100)
    again, _ = build(made, 5 << 6 | 1, other, kwk=None)
    assert again.keeper is not made.keeper and again.keeper.timing.lag == 3
    reboot = Timing(8, 2, BITS, 100, b"new!", 100)
    again, _ = build(made, 5 << 6 | 1, reboot, kwk=None)
    assert again.keeper is not made.keeper
    again, _ = build(made, 0, kwk=None)
    assert again.keeper.own.identity == b"press-7"


def test_another_seat_is_other_chains():
    """All have other seats after an exclusion, and who was removed has when it comes again."""
    made, _ = build(sender_id=0)
    own = made.keeper.own
    own.take(FIRST - 1, SALT, stones(KEYS, FIRST - 1, BITS))
    again, _ = build(made, 0)
    assert again.keeper is made.keeper
    first = FIRST + (1 << BITS)
    others = 0, first, SALT2, first - 1, NEXT[first - 1]
    again, _ = build(made, 0, chains=[others])  # of a segment for which it has nothing
    assert again.keeper is made.keeper
    others = 5, FIRST, SALT2, FIRST - 1, KEYS[FIRST - 1]
    again, _ = build(made, 0, chains=[COMMITMENT, others])
    assert again.keeper is made.keeper
    again, _ = build(made, 0, chains=[COMMITMENT[:2] + (SALT2,) + COMMITMENT[3:]])
    assert again.keeper is not made.keeper and again.keeper.own.lacks(FIRST)
    assert again.keeper._before is made.keeper and not own.lacks(FIRST)


def test_the_last_who_uses_it_wipes():
    made, each = build(sender_id=0)
    again, more = build(made, 0, kwk=None)
    keeper = made.keeper
    assert keeper.users == 6
    keeper.clock.learn(FIRST * 100, 0, 1)
    made.release(again)
    for auth in each + more:
        auth.release()
    assert keeper.is_known
    again.release(None)
    assert not keeper.is_known and keeper.users == 0


def test_who_could_not_be_made_uses_it_not():
    made, _ = build()
    users = made.keeper.users
    try:
        TimedMACs(made.keeper, {}, 6, None)
    except TypeError:  # as MemoryError would
        assert made.keeper.users == users
        return
    raise AssertionError("made")


def test_an_index_is_another_senders_now():
    made, _ = build()
    keeper, key = made.keeper, bytes(KEYS[FIRST])
    keeper.chains.tell([COMMITMENT], {0: b"press-8"})
    assert keeper.begin(0, FIRST, b"press-7", key, 0) is None
    assert keeper.begin(0, FIRST, b"press-8", key, 0) is not None


def test_nothing_is_left_of_what_is_dropped():
    before, _ = build(sender_id=0)
    now, was = Terms(), Terms()
    now.sender_form, now.sender_ids, was.sources = (10, 16), (0,), before
    policy = SAPolicy(3, b"abcd", None, None, [], attributes=[emit_timing(WHY)])
    wide = GroupWide(attributes=[emit_roster(ROWS), emit_chains([COMMITMENT])], epoch=7)
    for steps in range(20):
        job = timed.build_job([policy], wide, None, None, was, now)
        try:
            for _ in range(steps):
                next(job)
        except StopIteration:
            break
        job.close()
        assert before.keeper.users == 3
    assert steps > 3


def test_what_is_refused():
    refused(DROP_POLICY, roster=None)
    refused(DROP_POLICY, epoch=None)
    refused(DROP_POLICY, sender_id=9 << 6)  # we are on no roster
    refused(DROP_POLICY, why=Timing(7, 2, BITS, 100, CLOCK, 100))
    refused(DROP_POLICY, chains=[COMMITMENT, COMMITMENT])
    now = Terms()
    now.sender_form = (10, 17)
    wide = GroupWide(attributes=[emit_roster(ROWS)], epoch=7)
    policies = [
        SAPolicy(3, b"abcd", None, None, [], attributes=[emit_timing(why)])
        for why in (WHY, Timing(8, 3, BITS, 100, CLOCK, 100))
    ]
    for form, some in (((10, 17), policies[:1]), (None, policies[:1]), ((10, 16), policies)):
        now.sender_form = form
        try:
            finish(timed.build_job(some, wide, None, b"k", Terms(), now))
        except FormatError as error:
            assert error.reason == DROP_POLICY
            continue
        raise AssertionError(form)


# ---- asking


class IKE:
    is_established, is_beginning, is_free = True, False, True

    def __init__(self):
        self.alive = None
        self.said = []  # [(what is wanted, when)]
        self.knew = []  # whether it said that it knows the time

    def close(self):
        self.is_established = False

    def say(self, payloads, now_ms, most_s):
        if not (self.is_established and self.is_free):
            return False
        ((_, body),) = payloads
        said = parse_notify(body)
        assert said.type == COVEY_TIME and said.data[4:] == b"line1"
        self.said.append((said.data[0] & 3, now_ms))
        self.knew.append(bool(said.data[0] & timing.KNOWS_TIME))
        return True


class It:
    """A member with these sources."""

    state_name, reason = "?", ""

    def __init__(self, **how):
        self.sources, self.auths = build(**how)
        self.keeper = self.sources.keeper
        self._group = self.settings = self.member = self._refresh = self
        self.terms, self.group, self.waiting = self, b"line1", None
        self.drops, self._silence, self._ike = Drops(), None, IKE()
        self.states, self.asked_for = [], 0
        self.now = 0

    def _random_ms(self, most_s):
        return most_s * 500

    def says_state(self, now_ms):
        self.states.append((self.keeper.is_known, now_ms))

    def missed(self, now_ms):
        self.asked_for += 1

    def run(self, ms=0):
        """The control loop; when it has asked for what."""
        before = len(self._ike.said)
        end = self.now + ms
        while True:
            self.keeper.rest(self.now)
            wait = self.keeper.step(self, self.now)
            assert 0 <= wait <= 1000
            if self.now >= end:
                return self._ike.said[before:]
            self.now = min(end, self.now + max(wait, 1))

    def answer(self, at_ms=FIRST * 100, more=(), way=(1, 1), clock=CLOCK):
        """It was asked way[0] before now, and is here way[1] later."""
        told = [notify(COVEY_TIME, emit_time(clock, at_ms))] + list(more)
        told = [Body(kind, body) for kind, body in told]
        self._ike.alive = told, self.now - way[0], self.now + way[1]
        self.now += way[1]
        self.run()


class Body:
    def __init__(self, kind, body):
        self.kind, self.body = kind, body


def stones_at(at, salt=SALT, keys=KEYS):
    return notify(COVEY_STONES, emit_stones(at, salt, stones(keys, at, BITS)))


def test_it_asks_at_once_and_again_in_a_quarter_of_the_time_that_a_bound_is_good_for():
    it = It(roster=ROWS[:1])
    assert it.run() == [(timing.WANTS_CHAINS, 0)] and it.states == [(False, 0)]
    it.answer()
    assert it.states[1:] == [(True, 1)] and it.keeper.clock.earliest(1) == FIRST
    asked = it.run(58000)
    assert asked[0][0] == timing.WANTS_CHAINS  # ours is 256 behind by then
    assert 42000 <= asked[0][1] < 56000
    assert asked[1][1] - asked[0][1] == 2000  # nobody has answered
    assert it._ike.knew[:3] == [False, True, True]


def test_without_an_answer_it_asks_again():
    it = It()
    it._ike.is_free = False  # another request is out
    assert it.run(3000) == []
    it._ike.is_free = True
    asked = it.run(7000)
    assert len(asked) == 4 and it.states == [(False, 0)] and not any(it._ike.knew)


def test_whom_a_rekey_tells_of_other_terms_waits_a_random_while():
    was, _ = build()
    it = It(was=was, why=Timing(8, 3, BITS, 100, CLOCK, 100), kwk=None)
    assert it.run(900) == [] and len(it.run(200)) == 1 and it._ike.is_established


def test_another_clock_has_no_ike_sa_of_ours():
    """The key server's machine has booted: there is nobody to ask, but by a new one."""
    was, _ = build()
    it = It(was=was, why=Timing(8, 2, BITS, 100, b"new!", 100), kwk=None)
    assert it.run(900) == [] and it._ike.is_established
    assert it.run(200) == [] and not it._ike.is_established
    it._ike = IKE()
    assert len(it.run(100)) == 1


def test_nobody_is_there_to_be_asked():
    it = It()
    it._ike.is_established = False
    it.run(9000)
    assert it.asked_for == 5
    it._ike.is_beginning = True
    it.run(20000)
    assert it.asked_for == 5
    it._ike = None
    assert it.keeper.step(it, it.now) == 1000


def test_answers_of_no_use():
    it = It()
    it.run()
    it.answer(clock=b"fake")
    assert not it.keeper.is_known
    it.answer(way=(60, 41))
    assert not it.keeper.is_known and it.drops.as_dict() == {}
    it._ike.alive = [Body(*notify(COVEY_TIME, b"short"))], it.now, it.now
    it.run()
    assert not it.keeper.is_known and it.drops.of(DROP_IKE_FORMAT) == 1
    it._ike.alive = [], it.now, it.now  # a sign of life, and no more
    it.run()
    it.answer()
    assert it.keeper.is_known and it._ike.alive is None


def test_silence_looks_at_the_same_answer():
    it = It()
    it._silence = it
    it.answer()
    assert it.keeper.is_known and it._ike.alive is not None
    it.keeper.clock.forget()
    it.run(0)
    assert not it.keeper.is_known  # it was looked at once
    it._ike.alive = None  # by who listens for silence
    it.run(0)
    it.answer()
    assert it.keeper.is_known


def test_no_answer_for_long():
    """As when the key server is away: nothing is proven then, and it says so."""
    it = It()
    it.answer()
    it.run(224000)
    assert it.keeper.is_known and it.states[-1][0]
    it.run(2000)
    assert not it.keeper.is_known and it.states[-1][0] is False
    it.answer(FIRST * 100 + 226000)
    assert it.states[-1][0] is True


def test_a_sender_asks_for_stones_and_is_ready():
    it = It(sender_id=0, roster=ROWS[:1])
    assert it.run() == [(timing.WANTS_STONES | timing.WANTS_CHAINS, 0)]
    it.answer(more=[stones_at(FIRST - 1)])
    it.run(300)
    own = it.keeper.own
    assert own.begin(FIRST + 2) and own._at >= FIRST + 8
    assert [wants for wants, _ in it.run(10000)] == []


def test_the_next_segment_is_asked_for_in_time():
    """By senders and receivers: nobody has a gap."""
    it = It(sender_id=0, roster=ROWS[:1])
    it.answer(more=[stones_at(FIRST - 1)])
    half = FIRST + (1 << BITS >> 1)
    it.now += 100 * (half - FIRST)
    it.run()
    it.answer(half * 100, [stones_at(half - 1)])
    assert it.run(12000) == []
    asked = it.run(2000)
    assert asked[0][0] == timing.WANTS_STONES | timing.WANTS_CHAINS
    soon = FIRST + (1 << BITS)
    rows = [(0, FIRST, SALT, half, KEYS[half]), (0, soon, SALT2, soon - 1, NEXT[soon - 1])]
    chains = notify(COVEY_CHAINS_NOW, emit_chains(rows)[1])
    at_ms = half * 100 + 14000
    it.answer(at_ms, [stones_at(at_ms // 100 - 1), stones_at(soon - 1, SALT2, NEXT), chains])
    assert it.run(10000) == []
    it.run(3000)
    assert it.keeper.chains.of(0, soon).at == soon - 1 and it.keeper.chains.of(0, FIRST).at == half
    for _ in range(200):
        it.run(100)
        interval = it.keeper.clock.earliest(it.now)
        if it.keeper.is_known and interval < soon + 150:
            assert it.keeper.own.begin(interval), interval - soon
    assert it.keeper.clock.earliest(it.now) > soon + 50


def test_who_is_told_of_a_sender_without_its_chain_asks_soon():
    """By a rekey in the last quarter of a segment: it says nothing of the next one."""
    it = It(roster=ROWS[:1])
    it.answer()
    assert it.run(11000) == []
    it.sources, it.auths = build(it.sources, kwk=None)
    asked = it.run(3000)
    assert asked[0][0] == timing.WANTS_CHAINS and asked[0][1] < 13000


def test_who_is_behind_asks_for_nearer_keys_but_not_often():
    """Since others can bring that about."""
    it = It(roster=ROWS[:1])
    it.answer()
    it.run(11000)
    it._ike.said.clear()
    for at in (11, 24):
        for _ in range(13):
            it.keeper.chains.is_behind = True
            it.run(1000)
        near = [(0, FIRST, SALT, FIRST + 10 * at, KEYS[FIRST + 10 * at])]
        it.answer(FIRST * 100 + it.now, [notify(COVEY_CHAINS_NOW, emit_chains(near)[1])])
    asked = [when for wants, when in it._ike.said if wants == timing.WANTS_CHAINS]
    assert len(asked) == 2 and asked[0] - 11000 >= 5000 and asked[1] - asked[0] >= 15000, asked


def test_one_packet_does_not_make_all_ask_at_once():
    """Each waits a random while; who has what it lacked meanwhile doesn't ask."""
    it = It(roster=ROWS[:1])
    it.answer()
    it.run(1000)
    it._ike.said.clear()
    it.keeper.chains.is_behind = True
    assert it.run(4900) == []
    ((wants, _),) = it.run(1200)
    assert wants == timing.WANTS_CHAINS and not it.keeper.chains.is_behind
    it = It(roster=ROWS[:1])
    it.answer()
    it.run(1000)
    it._ike.said.clear()
    it.keeper.chains.is_behind = True
    it.run(2000)
    it.keeper.chains.is_behind = False
    assert it.run(10000) == []


def test_rows_of_nobody_are_passed_over():
    it = It()
    it.answer()
    rows = [(0, FIRST, SALT, FIRST + 9, KEYS[FIRST + 9]), (77, FIRST, SALT, FIRST, KEYS[FIRST])]
    it.answer(more=[notify(COVEY_CHAINS_NOW, emit_chains(rows)[1])])
    assert it.keeper.chains.of(0, FIRST).at == FIRST + 9
    assert it.keeper.chains.of(77, FIRST) is None
    it.answer(more=[notify(COVEY_CHAINS_NOW, b"odd")])
    assert it.drops.of(DROP_POLICY) == 1
