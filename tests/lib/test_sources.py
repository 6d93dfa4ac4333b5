"""Formats of source authentication, and what a member makes of them."""

from covey import proofs, sources
from covey.assignment import Terms
from covey.drops import DROP_CAPACITY, DROP_KD, DROP_KEY_WRAP, DROP_POLICY, FormatError
from covey.gsa import GroupWide, SAPolicy
from covey.job import finish
from covey.kd import MemberBag
from datapath import data_sa

KWK = bytes(range(16))
LEAF = bytes(range(16, 32))
SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))
ROWS = [(0, 3, b"press-7"), (5, 0, b"desk")]
ZERO = b"\0\0\0\0"
LEAF_ID = b"\0\0\0\x09"


def terms(sender_id=None, path=(), was=None):
    found = Terms()
    found.sender_form = (10, 16)
    found.sender_ids = () if sender_id is None else (sender_id,)
    found.key_path = path
    found.epoch = 7
    found.sources = was
    return found


def policy(*attributes):
    return SAPolicy(3, b"abcd", None, None, [], attributes=attributes)


def slot(secret):
    return bytes(sources.slot_id(secret))


MACS = sources.emit_macs(8, [slot(OTHER), slot(SECRET)])
ROSTER = sources.emit_roster(ROWS)
RECEIVER = sources.emit_receiver_key(KWK, SECRET)
PAIRS = [(slot(SECRET), bytes(sources.pair_key(SECRET, b"desk"))), (slot(OTHER), bytes(16))]


def build(attributes=(RECEIVER,), macs=MACS, roster=ROSTER, kwk=KWK, was=None, epoch=7, **how):
    wide = GroupWide(attributes=[roster] if roster else [], epoch=epoch)
    now = terms(**how)
    was = terms(was=was, path=now.key_path)
    bag = MemberBag(attributes=attributes)
    return finish(proofs.build_job([policy(macs)], wide, bag, kwk, was, now))


def refused(reason, **how):
    try:
        build(**how)
    except FormatError as error:
        assert error.reason == reason, error.reason
        return
    raise AssertionError("taken")


def test_octets():
    assert sources.emit_macs(8, [b"abcd"]) == (16400, b"\x01\x08\x01\0abcd")
    assert sources.emit_roster([(1, 2, b"ab")]) == (16401, b"\0\1\0\2\0\2ab")
    assert sources.parse_roster([ROSTER]) == ROWS
    assert sources.parse_macs([MACS]) == (8, [slot(OTHER), slot(SECRET)])
    assert RECEIVER[1][:4] == ZERO and len(RECEIVER[1]) == 4 + 40


def test_of_a_registration():
    made, (auth,) = build()
    assert bytes(made.secret) == SECRET and made.rows == ROWS
    assert set(made.heard) == {b"press-7", b"desk"} and not made.told
    assert auth.trailer == 16 and auth.is_receiver and not auth.is_sender
    made, (auth,) = build((RECEIVER, sources.emit_sender_keys(ZERO, KWK, PAIRS)), sender_id=5 << 6)
    assert set(made.heard) == {b"press-7"}  # it doesn't hear itself
    assert set(made.told) == {slot(SECRET), slot(OTHER)} and auth.is_sender


def test_of_a_rekey():
    """Who stays keeps what it has; a sender learns what is under its own key, of a row of them."""
    path = ((b"\0\0\0\1", bytes(16)), (LEAF_ID, LEAF))
    made, _ = build(sender_id=5 << 6)
    mine = sources.emit_sender_keys(LEAF_ID, LEAF, PAIRS)
    others = sources.emit_sender_keys(b"\0\0\0\x0a", bytes(16), PAIRS)
    again, (auth,) = build((others, mine), kwk=None, was=made, sender_id=5 << 6, path=path)
    assert bytes(again.secret) == SECRET and set(again.told) == {slot(SECRET), slot(OTHER)}
    assert again.heard[b"press-7"] is made.heard[b"press-7"]
    # A receiver's secret comes at a registration only.
    spoof = sources.emit_receiver_key(LEAF, OTHER)
    again, _ = build((spoof,), kwk=None, was=made, path=path)
    assert bytes(again.secret) == SECRET
    # Another roster
    roster = sources.emit_roster([(0, 3, b"desk")])
    again, _ = build((), kwk=None, was=made, path=path, roster=roster)
    assert set(again.heard) == {b"desk"}


def test_changes_of_a_roster():
    """What a rekey leaves out stays; what names another epoch is not for us."""

    class Was:
        epoch = 0xFFFFFFF0
        sources = proofs.Sources(ROWS)

    told = sources.emit_roster_changes(Was.epoch, [0], [(9, 1, b"drill"), (5, 7, b"desk")])
    assert told == (16406, b"\xff\xff\xff\xf0\0\1\0\0\0\x09\0\1\0\5drill\0\5\0\7\0\4desk")
    rows = [row for row in ROWS if row[0] not in (0, 5)] + [(5, 7, b"desk"), (9, 1, b"drill")]
    found = sources.roster_of(GroupWide(attributes=[told]), Was)
    assert found == (sorted(rows), True)
    assert sources.roster_of(GroupWide(attributes=[ROSTER]), Was) == (ROWS, False)
    none = sources.emit_roster_changes(Was.epoch, [], [])
    assert sources.roster_of(GroupWide(attributes=[none]), Was)[0] == sorted(ROWS)
    value = told[1]
    for attributes, was in (
        ([told], None),
        ([told, ROSTER], Was),
        ([(16406, b"\0" + value[1:])], Was),
        ([(16406, value[:5])], Was),
        ([(16406, value[:-1])], Was),
        ([(16406, value[:4] + b"\xff\xff" + value[6:])], Was),
        ([sources.emit_roster_changes(Was.epoch, [77], [])], Was),
        ([sources.emit_roster_changes(Was.epoch, [0, 0], [])], Was),
    ):
        try:
            sources.roster_of(GroupWide(attributes=attributes), was)
        except FormatError as error:
            assert error.reason == DROP_POLICY
            continue
        raise AssertionError("taken")


def test_another_secret_means_other_keys():
    made, _ = build()
    again, _ = build((sources.emit_receiver_key(KWK, OTHER),), was=made)
    assert again.heard[b"desk"] is not made.heard[b"desk"]


def test_who_has_no_slot():
    for attributes in ((), (sources.emit_receiver_key(KWK, bytes(32)),)):
        _, (auth,) = build(attributes)
        assert not auth.is_receiver


def test_what_is_refused():
    refused(DROP_POLICY, roster=None)
    for value in (b"", b"\1\x08", b"\2\x08\0\0", b"\1\x07\0\0", b"\1\x11\0\0", b"\1\x08\1\0abc"):
        refused(DROP_POLICY, macs=(16400, value))
    refused(DROP_POLICY, macs=(16400, b"\1\x08\x11\0" + bytes(68)))
    refused(DROP_POLICY, macs=(16400, 7))
    for value in (b"\0", b"\0\1\0\2\0\3ab", b"\0\1\0\2\0\0" * 2, b"\0\1\0\2\0\0\0"):
        refused(DROP_POLICY, roster=(16401, value))
    refused(DROP_KEY_WRAP, attributes=((16402, ZERO + bytes(40)),))
    refused(DROP_KD, attributes=((16402, b"\0\0\0\1" + RECEIVER[1][4:]),))
    refused(DROP_KD, attributes=((16402, 5),))
    refused(DROP_KD, attributes=((16402, sources.emit_receiver_key(KWK, bytes(31))[1]),))
    odd = sources.emit_sender_keys(ZERO, KWK, [(b"abc", bytes(16))])
    refused(DROP_KD, attributes=(RECEIVER, odd), sender_id=0)


def test_twice():
    for wide, macs in (([ROSTER, ROSTER], [MACS]), ([ROSTER], [MACS, MACS])):
        try:
            sources.parse_roster(wide)
            sources.parse_macs(macs)
        except FormatError as error:
            assert error.reason == DROP_POLICY
            continue
        raise AssertionError("taken")


def test_form():
    for form in (None, (10, 17)):
        now = terms()
        now.sender_form = form
        job = proofs.build_job(
            [policy(MACS)], GroupWide(attributes=[ROSTER], epoch=7), None, KWK, terms(), now
        )
        try:
            finish(job)
        except FormatError as error:
            assert error.reason == DROP_POLICY
            continue
        raise AssertionError("taken")


def test_a_roster_longer_than_the_table():
    try:
        sources.enlist(data_sa(sender_slots=1), ROWS)
    except FormatError as error:
        assert error.reason == DROP_CAPACITY
        return
    raise AssertionError("taken")


def test_wiped():
    made, (auth,) = build((RECEIVER, sources.emit_sender_keys(ZERO, KWK, PAIRS)), sender_id=5 << 6)
    contexts = list(made.heard.values()) + list(made.told.values())
    assert len(contexts) == 3
    secret = made.secret
    made.release(None)
    assert not any(secret) and all([is_good(context) for context in contexts])  # the SA's
    auth.release()
    assert not any([is_good(context) for context in contexts])


def test_who_goes_on_keeps_r():
    made, _ = build()
    again, _ = build((), kwk=None, was=made)
    made.release(again)
    assert again.secret is made.secret and any(again.secret)
    assert all([is_good(context) for context in again.heard.values()])


def is_good(context):
    buf = bytearray(64)
    try:
        context.sign(buf, 8, bytearray(4), 32, 8)
    except OSError:
        return False
    return True


class Watch:
    """What was made while it watches: contexts, and octets that were unwrapped."""

    def __enter__(self):
        self.contexts, self.octets = [], []
        self._real = proofs.CMACContext, sources.keywrap.unwrap_job
        proofs.CMACContext = self._made
        sources.keywrap.unwrap_job = self._unwrapped
        return self

    def _made(self, key):
        context = self._real[0](key)
        self.contexts.append(context)
        return context

    def _unwrapped(self, *args):
        found = yield from self._real[1](*args)
        self.octets.append(found)
        return found

    def __exit__(self, *_):
        proofs.CMACContext, sources.keywrap.unwrap_job = self._real

    def is_clean(self):
        return not any([any(found) for found in self.octets]) and not any(
            [is_good(context) for context in self.contexts]
        )


SENDER = sources.emit_sender_keys(ZERO, KWK, PAIRS)


def test_nothing_is_left_of_what_is_refused():
    odd = sources.emit_sender_keys(ZERO, KWK, [(b"abc", bytes(range(1, 17)))])
    short = sources.emit_receiver_key(KWK, OTHER[:31])
    for attributes in ((short,), (RECEIVER, odd), (RECEIVER, SENDER, odd), (RECEIVER, RECEIVER)):
        with Watch() as watch:
            refused(DROP_KD, attributes=attributes, sender_id=0)
            assert watch.octets and watch.is_clean(), attributes


def test_nothing_is_left_of_what_is_dropped():
    """After each step of the job; and what was there before works on."""
    before, _ = build((RECEIVER, SENDER), sender_id=5 << 6)
    wide = GroupWide(attributes=[ROSTER], epoch=7)
    bag = MemberBag(attributes=(sources.emit_receiver_key(KWK, OTHER), SENDER))
    steps = 0
    while True:
        with Watch() as watch:
            job = proofs.build_job(
                [policy(MACS)], wide, bag, KWK, terms(was=before), terms(sender_id=5 << 6)
            )
            try:
                for _ in range(steps):
                    next(job)
            except StopIteration:
                break
            job.close()
            assert watch.is_clean(), steps
        steps += 1
    assert steps > 10
    assert any(before.secret) and all([is_good(one) for one in before.told.values()])


def test_only_slots_that_there_are_are_kept():
    """A sender that lives long does not gather the keys of all that ever came."""
    made, _ = build((RECEIVER, SENDER), sender_id=5 << 6)
    new = b"abcd"
    path = ((LEAF_ID, LEAF),)
    more = sources.emit_sender_keys(LEAF_ID, LEAF, [(new, bytes(16)), (b"gone", bytes(16))])
    macs = sources.emit_macs(8, [slot(SECRET), new])
    again, (auth,) = build((more,), macs, kwk=None, was=made, sender_id=5 << 6, path=path)
    assert set(again.told) == {slot(SECRET), new}
    assert again.told[slot(SECRET)] is made.told[slot(SECRET)]


def test_a_value_that_is_a_number():
    for how in ({}, {"kwk": None, "path": ((LEAF_ID, LEAF),)}):
        refused(DROP_KD, attributes=((16403, 5),), **how)


def test_the_key_server_has_to_count_epochs():
    """Our own count is no one else's: nobody would be believed."""
    refused(DROP_POLICY, epoch=None)
    for epoch in (0, 7, 1 << 31):
        _, (auth,) = build(epoch=epoch)
        assert bytes(auth._epoch) == epoch.to_bytes(4, "big")
