"""Signed packets through Member.send, Member.receive and Member.next_proven: what passes, what
doesn't, and what waits.
"""

from covey import sources, vouched
from covey.assignment import Terms
from covey.drops import (
    DROP_CROWDED,
    DROP_KD,
    DROP_NOT_ROSTERED,
    DROP_POLICY,
    DROP_REPLAY,
    DROP_RETIRED_SPI,
    DROP_SOURCE,
    DROP_UNPROVEN,
    DROP_UNSIGNED,
    NOTHING,
    WAITS,
    FormatError,
)
from covey.gsa import GroupWide, SAPolicy
from covey.job import finish
from covey.kd import MemberBag
from covey.member import Member
from covey.p256_sign import derived, point_job
from covey.signatures import Signatures
from covey.signers import KEY_LABEL, TAIL, emit_signers
from covey.vouched import Signers
from covey.waiting import room_of
from datapath import KEY128, data_sa, deliver, good

ROWS = [(1, 0, b"press-7"), (2, 5, b"desk")]
NAMES = {1: b"press-7", 2: b"desk"}
LOW_BITS = 6
KWK = bytes(range(16))
ZERO = b"\0\0\0\0"
SECRETS = {1: b"\x01" * 32, 2: b"\x02" * 32}
KEYS = {index: derived(SECRETS[index], KEY_LABEL) for index in SECRETS}
POINTS = {index: finish(point_job(KEYS[index])) for index in KEYS}


def member(index=None, key=None, epoch=7, levels=6, slots=16, points=POINTS, keymat=KEY128):
    """index: we send as that one, and sign with its key, or with another."""
    m = Member(sender=index is not None, payload_max=600, waiting_slots=slots)
    signers = Signers(ROWS, {NAMES[n]: points[n] for n in points})
    key = None if index is None else key or KEYS[index]
    sa = data_sa(keymat=keymat)
    sources.enlist(sa, ROWS)
    sa.auth = Signatures(levels, signers, NAMES, index, key, LOW_BITS, epoch)
    m.keys.install(sa, 0)
    if index is not None:
        sa.become_sender(index << LOW_BITS | 9, 16)
        m.keys.activate(sa.spi, 0, 0)
    return m


def send(m, *payloads):
    """Signed together → datagrams"""
    sa = m.keys.sending
    finish(sa.auth.sign_job(sa, payloads))
    return [send_signed(m, payload) for payload in payloads]


def send_signed(m, payload):
    m.out[: len(payload)] = payload
    n = m.send(len(payload), 0)
    return bytes(m.tx[:n]) if n > 0 else n


def told(m, now_ms=0):
    """All that comes of what waits: (payload, source) or a DROP_*, in the order of being told."""
    found = []
    idle = 0
    while idle < 4:
        n = m.next_proven(now_ms)
        if n == NOTHING:
            idle = 0 if m.waiting is not None and m.waiting.is_working else idle + 1
        else:
            found.append(n if n < 0 else (bytes(m.payload), m.source))
    return found


def texts(found):
    return sorted([one[0] for one in found if not isinstance(one, int)])


def in_clear(datagram):
    """Payload and trailer."""
    m = Member()
    m.keys.install(data_sa(), 0)
    assert deliver(m, datagram) > 0
    return bytes(m.payload)


def test_a_signed_packet_is_confirmed_once_it_is_verified():
    press, m = member(1), member()
    for n in (0, 1, 64, 600 - TAIL):
        (datagram,) = send(press, bytes(n))
        assert deliver(m, datagram) == WAITS
        assert not m.confirmed and m.opened == 0 or n
        assert told(m) == [(bytes(n), b"press-7")]
        assert deliver(m, datagram) == DROP_REPLAY
    assert m.opened == 4


def test_each_packet_of_a_batch_verifies_alone():
    press = member(1)
    payloads = [b"%d" % n for n in range(5)]
    datagrams = send(press, *payloads)
    for n in range(5):
        m = member()
        assert deliver(m, datagrams[n]) == WAITS
        assert told(m) == [(payloads[n], b"press-7")]
        # One signature was verified for all: the others pass at once.
        for other in range(5):
            if other != n:
                assert deliver(m, datagrams[other]) == 1
                assert m.confirmed and m.payload == payloads[other]
    assert press.keys.sending.next_seq == 6


def test_one_verification_for_all_of_a_batch_that_wait():
    press, m = member(1), member()
    payloads = [b"%d" % n for n in range(10, 22)]
    for datagram in send(press, *payloads):
        assert deliver(m, datagram) == WAITS
    verified = []
    auth = m.keys.live()[0].auth
    real, auth.verify_job = auth.verify_job, lambda claim: verified.append(1) or real(claim)
    assert texts(told(m)) == payloads and len(verified) == 1


def test_sizes_of_batches():
    for count in (1, 2, 3, 8, 63, 64):
        press, m = member(1), member(slots=2)
        payloads = [bytes([n]) for n in range(count)]
        datagrams = send(press, *payloads)
        assert len(datagrams[0]) == len(datagrams[-1])
        assert len(in_clear(datagrams[0])) == 1 + press.keys.sending.auth.trailer_of(count)
        assert deliver(m, datagrams[0]) == WAITS and len(told(m)) == 1
        assert [deliver(m, datagram) for datagram in datagrams[1:]] == [1] * (count - 1)


def test_a_batch_of_more_levels_than_policy_has():
    press, m = member(1), member(levels=1)
    assert [deliver(m, datagram) for datagram in send(press, b"a", b"b", b"c")] == [
        DROP_SOURCE
    ] * 3
    assert deliver(m, send(press, b"a", b"b")[0]) == WAITS


def test_what_is_not_confirmed_leaves_no_trace():
    m, press = member(), member(1)
    genuine, beside = send(press, b"speed=1500", b"other")
    trailer = in_clear(genuine)[10:]
    alone = in_clear(send(press, b"alone")[0])[5:]
    desk = in_clear(send(member(2), b"speed=9000")[0])[10:]
    lies = (
        (good(b"speed=9000" + trailer, 1, 1 << 6 | 9), WAITS),  # other payload
        (good(b"speed=1500" + trailer, 3, 1 << 6 | 9), WAITS),  # its path under another number
        (good(b"speed=1500" + trailer, 1, 1 << 6 | 10), WAITS),  # newer incarnation
        (good(b"speed=1500" + trailer, 1, 2 << 6 | 9), WAITS),  # in desk's name
        (good(b"speed=9000" + desk, 1, 1 << 6 | 9), WAITS),  # desk's signature, press-7's name
        (good(b"speed=9000" + alone, 4, 1 << 6 | 9), WAITS),
        (good(b"speed=9000" + bytes(TAIL), 5, 1 << 6 | 9), WAITS),
        (good(b"speed=9000" + bytes(2) + b"\xff" * 64, 6, 1 << 6 | 9), WAITS),
        (good(b"speed=1500", 7, 1 << 6 | 9), DROP_SOURCE),  # no signature
        (good(b"speed=1500" + trailer[32:], 1, 1 << 6 | 9), DROP_SOURCE),  # without its path
    )
    before = list(m.keys.live()[0].senders.words)
    for lie, wanted in lies:
        assert deliver(m, lie) == wanted
    found = told(m)
    assert found == [DROP_SOURCE] * 8, found
    assert list(m.keys.live()[0].senders.words) == before
    assert m.drops.of(DROP_SOURCE) == len(lies) and m.opened == 0 and not m.confirmed
    assert deliver(m, genuine) == WAITS and told(m) == [(b"speed=1500", b"press-7")]
    assert deliver(m, beside) == 5
    for n in (3, 4, 5, 6, 7):  # no number is burned
        assert deliver(m, good(b"x" + bytes(TAIL), n, 1 << 6 | 9)) == WAITS


def test_a_path_shows_nothing_of_inner_nodes():
    """A node passed off as a leaf, or a path cut or made longer: other levels, another root."""
    press, m = member(1), member()
    whole = in_clear(send(press, *[b"%d" % n for n in range(4)])[0])
    payload, path, tail = whole[:1], whole[1:65], whole[65:]
    for bad in (
        payload + path[:32] + b"\0\x01" + tail[2:],
        payload + path[32:] + b"\0\x01" + tail[2:],
        payload + path + path[:32] + b"\0\x03" + tail[2:],
        path[:32] + path[32:] + b"\0\x01" + tail[2:],
    ):
        assert deliver(m, good(bad, 1, 1 << 6 | 9)) == WAITS
        assert told(m) == [DROP_SOURCE]


def test_epoch_and_sa_are_bound():
    (datagram,) = send(member(1, epoch=7), b"x")
    for epoch in (6, 8):
        m = member(epoch=epoch)
        assert deliver(m, datagram) == WAITS and told(m) == [DROP_SOURCE]
    # The same sender, its number and its octets under the SPI of another group or time.
    m = Member()
    other = data_sa(spi=b"wxyz")
    sources.enlist(other, ROWS)
    other.auth = Signatures(6, Signers(ROWS, points_by_name()), NAMES, None, None, LOW_BITS, 7)
    m.keys.install(other, 0)
    moved = good(in_clear(datagram), 1, 1 << 6 | 9, spi=b"wxyz")
    assert deliver(m, moved) == WAITS and told(m) == [DROP_SOURCE]


def points_by_name():
    return {NAMES[n]: POINTS[n] for n in POINTS}


def test_candidates_for_one_number():
    """Forged packets that come first take no number from the genuine one."""
    press, m = member(1), member()
    (genuine,) = send(press, b"genuine")
    for lie in (b"one", b"two"):
        assert deliver(m, good(lie + bytes(TAIL), 1, 1 << 6 | 9)) == WAITS
    assert deliver(m, genuine) == WAITS
    assert deliver(m, genuine) == DROP_REPLAY  # it waits already
    found = told(m)
    assert texts(found) == [b"genuine"] and len(found) == 3
    assert set([one for one in found if isinstance(one, int)]) <= {DROP_SOURCE, DROP_REPLAY}


def test_a_flood_in_ones_name_delays_no_other():
    press, desk, m = member(1), member(2), member()
    for n in range(200):
        lie = good(bytes(n + 2) + b"\x01" * 64, 1 + n, 1 << 6 | 9)
        assert deliver(m, lie) in (WAITS, DROP_CROWDED)
        assert m.next_proven(0) in (NOTHING, DROP_CROWDED)  # as a transport does
    (datagram,) = send(desk, b"stop")
    assert deliver(m, datagram) == WAITS
    verified = 0
    auth = m.keys.live()[0].auth
    real = auth.verify_job

    def counted(claim):
        nonlocal verified
        verified += 1
        return real(claim)

    auth.verify_job = counted
    steps = 0
    while True:
        n = m.next_proven(0)
        steps += 1
        if n >= 0:
            break
        assert steps < 20_000
    assert m.payload == b"stop" and verified <= 2
    told(m)
    assert verified <= 16  # what a flood costs: no more than wait at once
    (datagram,) = send(press, b"on")
    assert deliver(m, datagram) == WAITS and texts(told(m)) == [b"on"]


def test_each_call_does_a_slice():
    """A verification is hundreds of slices, between which packets pass."""
    press, desk, m = member(1), member(2), member()
    known = send(desk, *[b"%d" % n for n in range(8)])
    assert deliver(m, known[0]) == WAITS and len(told(m)) == 1
    assert deliver(m, send(press, b"slow")[0]) == WAITS
    steps = passed = 0
    while m.next_proven(0) == NOTHING:
        steps += 1
        if steps % 100 == 0 and passed < 7:
            passed += 1
            assert deliver(m, known[passed]) == 1 and m.confirmed
    assert m.payload == b"slow" and steps > 300 and passed >= 3


def test_who_has_not_signed_does_not_send():
    press = member(1)
    assert press.send(0, 0) == DROP_UNSIGNED and press.keys.sending.next_seq == 1
    (datagram,) = send(press, b"x")
    assert press.send(0, 0) == DROP_UNSIGNED
    sa = press.keys.sending
    finish(sa.auth.sign_job(sa, [b"a", b"b"]))
    sa.auth.forget_signed()
    assert press.send(0, 0) == DROP_UNSIGNED and press.payload_most == 600 - TAIL
    assert press.drops.of(DROP_UNSIGNED) == 3


def test_nobody_sends_under_a_signature_that_is_being_made():
    """And one that would not fit is no reason to move tx."""
    press = member(1)
    sa = press.keys.sending
    for count in (1, 8):
        for _ in sa.auth.sign_job(sa, [b"%d" % n for n in range(count)]):
            assert press.has_to_sign(0) and press.send(0, 0) == DROP_UNSIGNED
        assert press.has_to_sign(0)  # another one, for what is not of this batch
        assert [type(send_signed(press, b"%d" % n)) for n in range(count)] == [bytes] * count
    finish(sa.auth.sign_job(sa, [b"a", b"b"]))
    sa.auth.trailer = TAIL
    tx_len = len(press.tx)
    try:
        press.send(0, 0)
        raise AssertionError("sent")
    except ValueError:
        assert len(press.tx) == tx_len


def test_a_room_in_which_other_proofs_were_waited_for():
    """Where policy went over from other proofs to signatures."""
    press, m = member(1), member(slots=2)
    room = room_of(m)
    room.engine = object()
    m.rx[:12] = b"abcd\0\0\0\x01\0\x40\0\0"
    assert room.keep(m.rx, 0, 4, object(), 1, 7000, 0, 1000) == WAITS
    (datagram,) = send(press, b"stop")
    assert deliver(m, datagram) == WAITS
    found = told(m)
    assert DROP_UNPROVEN in found and (b"stop", b"press-7") in found and len(found) == 2
    assert room.count == 0


def test_an_sa_that_goes_takes_what_waits_along():
    press, m = member(1), member()
    assert deliver(m, send(press, b"x")[0]) == WAITS
    for _ in range(50):  # its verification has begun
        assert m.next_proven(0) == NOTHING
    m.keys.wipe()
    assert told(m) == [DROP_RETIRED_SPI] and m.opened == 0


def test_an_sa_that_is_told_again_loses_nothing_that_waits():
    press, m = member(1), member()
    sa = m.keys.live()[0]
    for names, wanted in ((NAMES, [(b"x", b"press-7")]), ({2: b"desk"}, [DROP_UNPROVEN])):
        assert deliver(m, send(press, b"x")[0]) == WAITS
        for _ in range(50):  # its verification has begun
            assert m.next_proven(0) == NOTHING
        old = sa.auth
        sa.auth = Signatures(6, old.signers, names, None, None, LOW_BITS, 7)
        old.release()
        assert told(m) == wanted


def test_who_has_our_own_index_is_not_heard():
    press = member(1)
    (datagram,) = send(member(1), b"x")
    lie = good(in_clear(datagram), 1, 1 << 6 | 10)
    assert deliver(press, lie) == DROP_SOURCE and press.waiting is None


def test_no_memory_for_a_moment():
    """Nothing is lost that waits; what was begun begins anew."""
    press, m = member(1), member()
    assert deliver(m, send(press, b"x")[0]) == WAITS
    auth = m.keys.live()[0].auth

    def short(claim):
        yield
        raise MemoryError

    real, auth.verify_job = auth.verify_job, short
    for _ in range(100):
        assert m.next_proven(0) == NOTHING
    assert m.waiting.is_working
    auth.verify_job = real
    assert told(m) == [(b"x", b"press-7")]


def test_only_who_is_on_the_roster():
    m = member()
    for index in (0, 3, 1023):
        assert deliver(m, good(b"x" + bytes(TAIL), 1, index << 6)) == DROP_NOT_ROSTERED


# ---- What a member makes of what the key server says


def terms(sender_id=None, was=None):
    found = Terms()
    found.sender_form = (10, 16)
    found.sender_ids = () if sender_id is None else (sender_id,)
    found.epoch = 7
    found.sources = was
    return found


SIGNED = sources.emit_signed(4)
RECEIVER = sources.emit_receiver_key(KWK, SECRETS[1])


def build(attributes=(), points=POINTS, mode=SIGNED, kwk=KWK, was=None, sender_id=None, more=()):
    told = [sources.emit_roster(ROWS), emit_signers(points)] + list(more)
    wide = GroupWide(attributes=told, epoch=7)
    esp = [SAPolicy(3, b"abcd", None, None, [], attributes=[mode])]
    bag = MemberBag(attributes=attributes)
    return finish(vouched.build_job(esp, wide, bag, kwk, terms(was=was), terms(sender_id)))


def refused(reason, **how):
    try:
        build(**how)
    except FormatError as error:
        assert error.reason == reason, error.reason
        return
    raise AssertionError("taken")


def test_of_a_registration():
    made, (auth,) = build()
    assert made.key is None and auth._key is None and auth.most_levels == 4
    assert auth.name_of(1 << 6 | 3) == b"press-7" and auth.name_of(3 << 6) is None
    made, (auth,) = build((RECEIVER,), sender_id=1 << 6)
    assert bytes(made.key) == bytes(auth._key) == bytes(KEYS[1])
    assert auth.most_in_a_batch() == 16


def test_of_a_rekey():
    """Keys stay, and tables of senders whose keys do."""
    before, _ = build((RECEIVER,), sender_id=1 << 6)
    press, desk = before.verifier(b"press-7"), before.verifier(b"desk")
    other = {1: POINTS[1], 2: finish(point_job(b"\x07" * 32))}
    made, (auth,) = build(kwk=None, was=before, sender_id=1 << 6, points=other)
    assert made.key is before.key and auth._key == made.key
    assert made.verifier(b"press-7") is press and made.verifier(b"desk") is not desk
    before.release(made)
    assert any(made.key)
    made.release(None)
    assert not any(made.key) and any(auth._key)  # the SA's own
    auth.release()
    assert not any(auth._key)
    refused(DROP_KD, kwk=None, was=None, sender_id=1 << 6)
    receiver, _ = build()
    refused(DROP_KD, kwk=None, was=receiver, sender_id=1 << 6)


def test_what_is_refused():
    off = {1: POINTS[1][:-1] + bytes([POINTS[1][-1] ^ 1]), 2: POINTS[2]}
    refused(DROP_POLICY, points=off)  # not on the curve
    refused(DROP_POLICY, points={1: POINTS[1]})
    refused(DROP_POLICY, points={1: POINTS[1], 2: POINTS[2], 3: POINTS[2]})
    refused(DROP_POLICY, more=[emit_signers(POINTS)])
    refused(DROP_POLICY, mode=sources.emit_signed(7))
    refused(DROP_POLICY, mode=(16400, b"\x03\x04\0"))
    refused(DROP_POLICY, mode=sources.emit_macs(8, []))
    refused(DROP_POLICY, attributes=(RECEIVER,), sender_id=3 << 6)  # not on the roster
    refused(DROP_KD, sender_id=1 << 6)
    refused(DROP_KD, attributes=(RECEIVER, RECEIVER), sender_id=1 << 6)
    short = sources.emit_receiver_key(KWK, SECRETS[1][:31])
    refused(DROP_KD, attributes=(short,), sender_id=1 << 6)


def test_tables_of_few_senders_are_kept():
    names = [b"%d" % n for n in range(6)]
    rows = [(n, 0, names[n]) for n in range(6)]
    signers = Signers(rows, {name: POINTS[1] for name in names})
    first = signers.verifier(b"0")
    for name in names[1:4]:
        signers.verifier(name)
    assert signers.verifier(b"0") is first
    for name in names[1:5]:
        signers.verifier(name)
    assert signers.verifier(b"0") is not first
