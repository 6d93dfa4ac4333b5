"""Keys in work: whatever ends a job, and wherever, no key is left behind and nothing half done."""

from covey import assignment, gsa, kd, keywork, sa
from covey.drops import DROP_CAPACITY, DROP_GSA, DROP_REKEY_SPI, FormatError
from covey.group import Group
from covey.ike import GSA_REKEY, SKF
from covey.keywork import FLOODED, FOLLOWED, IDLE, MISSED, TAKEN, KeyWork
from covey.member import Member
from story import STORY, install, registered
from talk import config

try:
    import micropython
except ImportError:
    micropython = None


class _Answer:
    """What a registration.Registration has."""

    transport_mode = True
    asked_to_send = False

    def __init__(self):
        given = STORY["receiver"]
        self.gsa = gsa.parse_gsa(given["gsa"])
        self.kd = kd.parse_kd(given["kd"])
        self.kwk = bytearray(STORY["kwk"])


class _Watched:
    """While inside, all contexts and SAs that an Assignment is made of, by whether they live."""

    _NAMES = (sa, "GCMContext"), (assignment, "DataSA"), (assignment, "RekeySA")

    def __enter__(self):
        self.alive = []
        self.real = [getattr(*place) for place in self._NAMES]
        for place, real in zip(self._NAMES, self.real):
            setattr(*place, self._watching(real))
        return self

    def _watching(self, real):
        def make(*args, **fields):
            made = real(*args, **fields)
            self.alive.append(made)
            wipe = made.wipe

            def watched(*args):
                wipe(*args)
                if made in self.alive:
                    self.alive.remove(made)

            made.wipe = watched
            return made

        return make

    def __exit__(self, *_):
        for place, real in zip(self._NAMES, self.real):
            setattr(*place, real)


def _work(is_in=True):
    """→ (its work, its group)"""
    member = Member()
    group = Group(member)
    if is_in:
        install(group, registered(), True, 0)
    return KeyWork(config(sender=False), member, group), group


def _steps(work, most=100000):
    """Step until there is nothing to do, or so often; what came of it."""
    came = []
    while most:
        most -= 1
        result = work.step(0)
        if result == IDLE:
            break
        if result is not None:
            came.append(result)
    return came


def _registering(work):
    work.take(_Answer(), 0)


def _following(work):
    work.hear(STORY["rekey1"])


def _quick():
    """Nothing is to be verified here: that takes most of the steps."""

    def verify(self, *_):
        yield
        return True

    def prepare(self):
        yield

    return verify, prepare


class _Quick:
    def __enter__(self):
        verifier = assignment.p256.Verifier
        self.real = verifier.verify, verifier.prepare
        verifier.verify, verifier.prepare = _quick()

    def __exit__(self, *_):
        verifier = assignment.p256.Verifier
        verifier.verify, verifier.prepare = self.real


def test_a_job_that_is_given_up_leaves_no_key():
    for begin in (_registering, _following):
        number = 0
        while True:
            work, group = _work(begin is _following)
            with _Watched() as watched, _Quick():
                begin(work)
                is_over = number > 0 and work_ends_before(work, number)
                work.wipe()
                group.wipe()
            assert not watched.alive, (begin, number, watched.alive)
            if is_over:
                break
            number += 1
        assert number > 10


def work_ends_before(work, number):
    for _ in range(number):
        if work.step(0) == IDLE:
            return True
    return False


def test_a_job_that_finds_no_memory_leaves_no_key():
    def full(*_, **__):
        raise MemoryError

    for begin in (_registering, _following):
        for part in ("_change", "_settle", "rekey", "keys"):
            work, group = _work(begin is _following)
            place, name = group, part
            if part == "rekey":
                place, name = group.rekey, "replace" if begin is _registering else "install"
            elif part == "keys":
                place, name = group._keys, "install"
            real = getattr(place, name)
            setattr(place, name, full)
            with _Watched() as watched, _Quick():
                begin(work)
                assert _steps(work) == [MISSED], part
                held = group._keys.live()
                held += [one.context for one in held] + group.rekey.held
                assert not [one for one in watched.alive if one not in held], (begin, part)
                setattr(place, name, real)
                group.wipe()
                assert not watched.alive, (begin, part)
            assert work._member.drops.of(DROP_CAPACITY) == 1


def test_a_member_that_goes_without_memory_forgets_all_the_same():
    def full(*_):
        raise MemoryError

    work, group = _work()
    real = group.rekey.install
    with _Watched() as watched, _Quick():
        _following(work)
        before = group.terms
        while group.terms is before:  # packets see all of it
            assert work.step(0) is None
        group.rekey.install = full
        work.wipe()
        group.rekey.install = real
        group.wipe()
    assert not watched.alive and not work.is_busy
    assert work._member.drops.of(DROP_CAPACITY) == 1


def test_a_table_that_finds_no_memory_is_made_when_it_is_needed():
    """It is no reason to ask the key server again: it would be one the next time, too."""
    work, _ = _work(False)
    real = keywork.tidied

    def full(job):
        yield
        raise MemoryError

    keywork.tidied = full
    try:
        work.take(_Answer(), 0)
        assert _steps(work) == [TAKEN]
    finally:
        keywork.tidied = real
    assert work._member.drops.of(DROP_CAPACITY) == 1
    work.hear(STORY["rekey1"])
    assert _steps(work) == [FOLLOWED]


def test_a_rekey_that_finds_no_memory_counts_as_forged_until_its_signature_is_good():
    """Anybody with the group's keys can make up what costs memory: that is asked about as under a
    flood, now and then."""
    module = assignment.p256.Verifier

    def full(*_, **__):
        yield
        raise MemoryError

    for place, name, wanted in ((module, "verify", FLOODED), (assignment, "build", MISSED)):
        work, group = _work()
        with _Quick():
            real = getattr(place, name)
            setattr(place, name, full)
            try:
                _following(work)
                assert _steps(work) == [wanted]
            finally:
                setattr(place, name, real)
        assert work._member.drops.of(DROP_CAPACITY) == 1 and not group.rekey.waiting


def test_a_genuine_rekey_that_can_not_be_read_is_doubted_like_a_forged_one():
    """As by a key server that speaks a newer form: the third is asked about."""

    def unknown(body):
        yield
        raise FormatError(DROP_GSA)

    work, _ = _work()
    real = gsa.parse_gsa_job
    gsa.parse_gsa_job = unknown
    try:
        _following(work)
        assert MISSED not in _steps(work)
    finally:
        gsa.parse_gsa_job = real
    assert work._member.drops.of(DROP_GSA) == 1 and work._candidates._doubts


def test_aes_that_fails_is_no_end():
    """Where the hardware of a board finds no memory: see covey.gcm."""
    work, _ = _work(False)
    real = sa.GCMContext

    def failing(*_):
        raise OSError(5)

    sa.GCMContext = failing
    try:
        work.take(_Answer(), 0)
        assert _steps(work) == [MISSED]
    finally:
        sa.GCMContext = real
    assert work._member.drops.of(DROP_CAPACITY) == 1
    work.take(_Answer(), 0)
    assert _steps(work) == [TAKEN]


def test_what_waited_is_opened_a_step_each():
    """Anyone can send fragments while keys are in work, and each that is opened costs tables."""
    work, group = _work()
    part = bytearray(64)
    part[:16] = group.rekey.current.spi
    part[16:20] = bytes((SKF, 0x20, GSA_REKEY, 8))
    part[20:24] = b"\0\0\0\x63"
    part[27] = 64
    with _Quick():
        work.hear(STORY["rekey1"])
        for i in range(40):
            part[63] = i
            work.hear(bytes(part))
        assert len(work._candidates._waiting) == 41
        begin = group.rekey.begin
        begun = []

        def counted(data):
            begun.append(data)
            yield
            reason = yield from begin(data)
            return reason

        group.rekey.begin = counted
        most = 0
        before = 0
        while work.step(0) != IDLE:
            most = max(most, len(begun) - before)
            before = len(begun)
    assert len(set(begun)) == 41 and most == 1  # some twice: while keys are in work, and then


def test_what_its_header_rules_out_takes_no_place():
    """Anyone can send it, and faster than we work: the rekey behind it is heard all the same."""
    work, group = _work()
    group.rekey.current.next_message_id = 1
    later = STORY["later"]
    old = bytearray(STORY["rekey1"])
    answer = bytearray(later)
    answer[19] |= 0x20
    other = bytearray(later)
    other[18] = 37
    unknown = bytearray(later)
    unknown[0] ^= 1
    for garbage in (old, answer, other, unknown, b"", later[:-1]):
        for i in range(20):
            work.hear(bytes(garbage[:-1]) + bytes([i]) if garbage[27:] else bytes(garbage))
    assert not work.has_work and work._candidates._waiting == []
    drops = work._member.drops
    assert drops.as_dict() == {"rekey_message_id": 20, "rekey_format": 80, "rekey_spi": 20}
    work.hear(later)
    work.hear(bytes(unknown))  # as the next one may be, over a Rekey SA that this one brings
    with _Quick():
        assert _steps(work) == [FOLLOWED]
    assert drops.of(DROP_REKEY_SPI) == 21


def _locked(work, number):
    """What so many steps return, and one more that finds no memory."""
    came = [work.step(0) for _ in range(number)]
    micropython.heap_lock()
    try:
        ended = work.step(0)
    except MemoryError:
        ended = None  # nothing has begun: Membership steps again
    finally:
        micropython.heap_unlock()
    return came + [ended]


def test_memory_that_is_out_in_any_one_step():
    """Whoever is told MISSED asks the key server; what it tells again is taken."""
    if micropython is None:
        return
    for begin, good in ((_registering, TAKEN), (_following, FOLLOWED)):
        number = 0
        ended = None
        while ended != IDLE:
            work, group = _work(begin is _following)
            with _Quick():
                begin(work)
                came = _locked(work, number)
                ended = came[-1]
                came += _steps(work)
                if begin is _following and not group.rekey._last:
                    assert came == [None] * len(came) and work._member.drops.of(DROP_CAPACITY) == 1
                    begin(work)  # it was not opened: nothing is known of it, and a repeat is taken
                    came = _steps(work)
                asks = MISSED in came or begin is _following and FLOODED in came
                assert good in came or asks, (begin, number, came)
                if begin is _registering:
                    work.take(_Answer(), 0)
                    assert _steps(work) == [TAKEN], number
            assert group.rekey.current is not None and group._keys.live()
            group.wipe()
            number += 1
        assert number > 10


def test_memory_that_is_out_makes_no_forged_rekey_good():
    """Whichever step finds none, and though the rekey before was good: it isn't followed, nor is
    the key server asked at once, as about what is genuine."""
    if micropython is None:
        return

    def forged(*_):
        yield
        return False

    verifier = assignment.p256.Verifier
    real = verifier.verify
    number = 0
    ended = None
    verifier.verify = forged
    try:
        while ended != IDLE:
            work, group = _work()
            group.rekey.is_proven = True
            current, spis = group.rekey.current, [one.spi for one in group._keys.live()]
            _following(work)
            came = _locked(work, number)
            ended = came[-1]
            came += _steps(work)
            assert FOLLOWED not in came and MISSED not in came, (number, came)
            assert group.rekey.current is current
            assert [one.spi for one in group._keys.live()] == spis
            group.wipe()
            number += 1
    finally:
        verifier.verify = real
    assert number > 10


def test_a_job_that_finds_no_memory_is_not_judged_by_the_rekey_before():
    """Of which the signature was good."""
    if micropython is None:
        return
    work, group = _work()
    group.rekey.is_proven = True
    real = group.rekey.work

    def full(made, was, sender_slots):
        micropython.heap_lock()
        try:
            return real(made, was, sender_slots)
        finally:
            micropython.heap_unlock()

    group.rekey.work = full
    _following(work)
    came = []
    while not came or came[-1] is None:
        came.append(work.step(0))
    drops = work._member.drops
    assert came[-1] == FLOODED and drops.of(DROP_CAPACITY) == 1, (came, drops.as_dict())
    group.rekey.work = real
    with _Quick():
        assert _steps(work)[-1:] == [FOLLOWED]  # it still waits
