"""Receiver-specific MACs through Member.send and Member.receive: what passes, what doesn't."""

from counted import counted, locked, taken
from covey import sources
from covey.cmac import CMACContext
from covey.drops import (
    DROP_CAPACITY,
    DROP_NOT_ROSTERED,
    DROP_OVERSIZE,
    DROP_SOURCE,
    DROP_STALE_SENDER,
    FormatError,
)
from covey.mac import ReceiverMACs
from covey.member import Member
from covey.replay import SenderTable
from datapath import KEY128, data_sa, deliver, good, heap_octets

NAMES = {1: b"press-7", 2: b"desk"}  # by index
ROSTER = ((1, 0, b"press-7"), (2, 5, b"desk"))
LOW_BITS = 6


def key(sender, receiver):
    return bytes([sender, receiver]) * 8


def member(own=None, slots=3, index=None, tag_len=8, epoch=7, slot_keys=None, sender_slots=16):
    """Slot `own` is ours; index: we send as that one."""
    m = Member(sender=index is not None, payload_max=200)
    heard = {}
    for name in NAMES:
        if name != index:
            heard[name] = CMACContext(key(name, own or 0))
    told = None
    if index is not None:
        told = [None if n == own else CMACContext(key(index, n)) for n in range(slots)]
        if slot_keys is not None:
            told = slot_keys
    sa = data_sa(sender_slots=sender_slots)
    sources.enlist(sa, ROSTER)
    sa.auth = ReceiverMACs(tag_len, slots, own, heard, told, NAMES, LOW_BITS, epoch)
    m.keys.install(sa, 0)
    if index is not None:
        sa.become_sender(index << LOW_BITS | 9, 16)
        m.keys.activate(sa.spi, 0, 0)
    return m


def send(m, payload):
    m.out[: len(payload)] = payload
    n = m.send(len(payload), 0)
    return bytes(m.tx[:n]) if n > 0 else n


def tags_of(datagram, payload_len, keymat=KEY128):
    """What lies behind the payload, in clear."""
    m = Member()
    m.keys.install(data_sa(keymat=keymat), 0)
    n = deliver(m, datagram)
    return bytes(m.payload)[payload_len:n]


def test_each_receiver_has_its_own_tag():
    for tag_len in (8, 12, 16):
        press = member(index=1, tag_len=tag_len)
        for n in (0, 1, 7, 8, 9, 64, 100, 176 - 3 * (tag_len - 8)):
            payload = bytes(range(n))
            datagram = send(press, payload)
            tags = tags_of(datagram, n)
            assert len(tags) == 3 * tag_len
            assert len({tags[i : i + tag_len] for i in range(0, len(tags), tag_len)}) == 3
            for own in range(3):
                m = member(own, tag_len=tag_len)
                assert deliver(m, datagram) == n
                assert m.payload == payload and m.confirmed and m.source == b"press-7"


def test_what_is_not_confirmed_leaves_no_trace():
    m = member(1)
    press = member(index=1)
    genuine = send(press, b"speed=1500")
    tags = tags_of(genuine, 10)
    lies = (
        good(b"speed=1500", 1, 1 << 6 | 9),  # no tags
        good(b"speed=9000" + tags, 1, 1 << 6 | 9),  # other payload
        good(b"speed=1500" + tags, 2, 1 << 6 | 9),  # other number
        good(b"speed=1500" + tags, 1, 1 << 6 | 10),  # newer incarnation
        good(b"speed=1500" + tags, 1, 2 << 6 | 9),  # in desk's name
        good(b"speed=1500" + tags[8:16] + tags[:8] + tags[16:], 1, 1 << 6 | 9),  # swapped
    )
    before = list(m.keys.live()[0].senders.words)
    for n, lie in enumerate(lies):
        assert deliver(m, lie) == DROP_SOURCE, n
    assert list(m.keys.live()[0].senders.words) == before
    assert m.drops.of(DROP_SOURCE) == len(lies) and m.opened == 0 and not m.confirmed
    assert deliver(m, genuine) == 10 and m.confirmed


def test_the_epoch_is_bound():
    datagram = send(member(index=1, epoch=7), b"x")
    assert deliver(member(0, epoch=7), datagram) == 1
    assert deliver(member(0, epoch=8), datagram) == DROP_SOURCE


def test_a_receiver_without_a_slot_confirms_nothing():
    assert deliver(member(None), send(member(index=1), b"x")) == DROP_SOURCE


def test_a_slot_without_a_key_holds_zeros():
    keys = [CMACContext(key(1, 0)), None, CMACContext(key(1, 2))]
    datagram = send(member(index=1, slot_keys=keys), b"x")
    assert tags_of(datagram, 1)[8:16] == bytes(8)
    assert deliver(member(1), datagram) == DROP_SOURCE
    assert deliver(member(2), datagram) == 1


def test_senders_hear_each_other():
    press, desk = member(0, index=1), member(1, index=2)
    assert deliver(press, send(desk, b"stop")) == 4 and press.source == b"desk"
    assert deliver(desk, send(press, b"go")) == 2 and desk.source == b"press-7"


def test_only_who_is_on_the_roster():
    m = member(0)
    for index in (0, 3, 17, 1023):
        assert deliver(m, good(b"x", 1, index << 6)) == DROP_NOT_ROSTERED
    assert m.drops.of(DROP_NOT_ROSTERED) == 4
    assert deliver(m, good(b"x", 1, 2 << 6 | 4)) == DROP_STALE_SENDER  # older than the roster's
    assert deliver(m, send(member(index=2), b"x")) == 1


def test_a_roster_that_is_too_long():
    class Sa:
        senders = SenderTable(2, 16, 10)

    try:
        sources.enlist(Sa, [(n, 0, b"") for n in range(3)])
        raise AssertionError("taken")
    except FormatError as e:
        assert e.reason == DROP_CAPACITY
    Sa.senders = SenderTable(2, 16, 10)
    sources.enlist(Sa, [(n, 0, b"") for n in range(2)])


def test_room_for_the_tags():
    press = member(index=1)
    assert press.payload_most == 200 - 24
    assert isinstance(send(press, bytes(176)), bytes)
    assert send(press, bytes(177)) == DROP_OVERSIZE
    assert member(0).payload_most == 200


def fill(rx, datagram):
    for i in range(len(datagram)):
        rx[i] = datagram[i]
    return len(datagram)


def test_no_heap_when_receiving():
    m = member(1)
    press = member(2, index=1)
    datagrams = [send(press, bytes(64)) for _ in range(30)]
    refused = good(bytes(64 + 24), 100, 1 << 6 | 9), good(b"x", 1, 3 << 6)
    turn = [0]

    def step():
        for datagram in refused:
            assert m.receive(fill(m.rx, datagram), 0) < 0
        datagram = datagrams[turn[0]]
        turn[0] += 1
        assert m.receive(fill(m.rx, datagram), 0) == 64

    assert heap_octets(step) == 0
    assert m.drops.of(DROP_SOURCE) and m.drops.of(DROP_NOT_ROSTERED) and m.opened


def test_no_heap_when_sending():
    press = member(2, index=1)
    n = len(send(press, bytes(64)))

    def step():
        assert press.send(64, 0) == n

    assert heap_octets(step) == 0


def test_no_heap_whatever_the_length():
    press, m = member(2, index=1), member(1)
    refused = good(bytes(88), 1000, 1 << 6 | 9), good(b"x", 1, 3 << 6)
    for quiet in (counted, locked):
        taken[0] = 0
        for n in range(65):
            length = quiet(press.send, n, 0)
            fill(m.rx, press.tx[:length])
            assert quiet(m.receive, length, 0) == n
            for datagram in refused:
                assert quiet(m.receive, fill(m.rx, datagram), 0) < 0
        assert not taken[0]
    assert m.drops.of(DROP_SOURCE) == m.drops.of(DROP_NOT_ROSTERED) == 130


def test_who_is_not_known_by_name():
    auth = member(0).keys.live()[0].auth
    assert auth.name_of(1 << 6 | 9) == b"press-7" and auth.name_of(3 << 6) is None


def test_who_is_the_last_to_let_go_wipes():
    """One SA goes; another works on with the same keys."""
    shared = CMACContext(key(1, 0))
    each = [ReceiverMACs(8, 1, 0, {1: shared}, [shared, None], NAMES, LOW_BITS, 7) for _ in (0, 1)]
    sas = [data_sa(), data_sa()]
    for sa, auth in zip(sas, each):
        sa.auth = auth
    assert shared.users == 4
    sas[0].wipe()
    assert shared.users == 2 and is_good(shared)
    sas[0].wipe()
    assert shared.users == 2
    sas[1].wipe()
    assert shared.users == 0 and not is_good(shared)


def is_good(context):
    buf = bytearray(64)
    try:
        context.sign(buf, 8, bytearray(4), 32, 8)
    except OSError:
        return False
    return True


def test_a_key_that_was_wiped_ends_nobody():
    m, press = member(0), member(index=1)
    datagram = send(press, b"x")
    for one in (m, press):
        auth = one.keys.live()[0].auth
        for context in list(auth._heard.values()) + [c for c in auth._told or () if c]:
            context.wipe()
    assert deliver(m, datagram) == DROP_SOURCE
    sent = press.sent
    try:
        send(press, b"x")
    except OSError:
        assert press.sent == sent
        return
    raise AssertionError("sent")
