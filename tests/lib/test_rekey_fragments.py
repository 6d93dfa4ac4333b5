"""GSA_REKEY in fragments: genuine signed octets, cut as servers cut them (RFC 9838, 2.4.1.2)."""

from covey import ike, ikefrag
from covey.drops import (
    DROP_CAPACITY,
    DROP_IKE_FRAGMENT,
    DROP_REKEY_BUSY,
    DROP_REKEY_FORMAT,
    DROP_REKEY_MESSAGE_ID,
    DROP_REKEY_REPEAT,
    DROP_REKEY_SIGNATURE,
    DROP_REKEY_TAG,
)
from covey.group import Group
from covey.job import finish
from covey.keywork import KeyWork
from covey.member import Member
from story import STORY, T2, begun, install, registered, why_not, worked
from talk import config


class _Iv:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return bytes([0xF0, 0, 0, 0, 0, 0, 0, self.count])


def cut(context, data, most_len=200):
    """A whole GSA_REKEY → the datagrams that it comes in."""
    opened = ike.open_octets(context, data)
    h = opened.header
    payloads = [(p.kind, p.body) for p in ike.parse_chain(opened.first, opened.inner)]
    head = h.spi_i, h.spi_r, h.exchange, h.flags, h.message_id
    return [bytes(d) for d in ikefrag.seal(context, *head, payloads, _Iv(), most_len)]


def member():
    group = Group(Member())
    made = registered()
    context = made.rekey_sa.context
    install(group, made, True, 0)
    return group.rekey, group.terms, context


def follow(rekey, terms):
    made = []
    reason = why_not(lambda: made.append(finish(worked(rekey, terms))))
    return reason or made[0]


def test_fragments_in_any_order():
    for order in (None, -1):
        rekey, terms, context = member()
        parts = cut(context, STORY["rekey1"])
        assert len(parts) == 4
        if order:
            parts.reverse()
        for part in parts:
            assert not rekey.waiting and begun(rekey, part) == 0
        assert rekey.waiting
        made = follow(rekey, terms)
        assert [sa.spi for sa in made.data_sas] == [T2]
        for part in parts:
            assert begun(rekey, part) == DROP_REKEY_REPEAT
        assert begun(rekey, STORY["rekey1"]) == DROP_REKEY_MESSAGE_ID


def test_repeats_fill_what_was_lost():
    rekey, terms, context = member()
    parts = cut(context, STORY["rekey1"])
    assert [begun(rekey, parts[i]) for i in (0, 2, 3)] == [0, 0, 0]
    assert [begun(rekey, part) for part in parts] == [
        DROP_REKEY_REPEAT,
        0,
        DROP_REKEY_REPEAT,
        DROP_REKEY_REPEAT,
    ]
    assert follow(rekey, terms).data_sas


def test_forged_fragments_change_nothing():
    rekey, terms, context = member()
    parts = cut(context, STORY["rekey1"])
    for part in parts:
        for at in (len(part) - 1, 40, 33, 37):  # tag, IV or text, fragment number, total
            forged = bytearray(part)
            forged[at] ^= 1
            assert begun(rekey, bytes(forged)) in (
                DROP_REKEY_TAG,
                DROP_REKEY_FORMAT,
                DROP_IKE_FRAGMENT,
            )
        for n in range(len(part)):
            assert begun(rekey, part[:n]) == DROP_REKEY_FORMAT
        assert begun(rekey, part) == 0
    assert follow(rekey, terms).data_sas


def test_a_member_can_spoil_one_but_not_its_repeat():
    """Whoever has the group's keys seals a fragment of his own between the genuine ones."""
    rekey, terms, context = member()
    parts = cut(context, STORY["rekey1"])
    evil = bytearray(parts[2])
    assert finish(context.open_job(evil, 0, 36, len(evil) - 36 - 8 - 16))
    evil[60] ^= 1
    context.seal(evil, 0, 36, len(evil) - 36 - 8 - 16)
    assert [begun(rekey, d) for d in (parts[0], parts[1], bytes(evil), parts[3])] == [0, 0, 0, 0]
    assert follow(rekey, terms) == DROP_REKEY_SIGNATURE
    assert rekey.current.next_message_id == 0
    assert [begun(rekey, part) for part in parts] == [0, 0, 0, 0]
    assert follow(rekey, terms).data_sas


def test_another_message_takes_the_place_of_one_that_is_not_whole():
    rekey, terms, context = member()
    assert begun(rekey, cut(context, STORY["rekey1"])[0]) == 0 and not rekey.has_displaced
    parts = cut(context, STORY["later"])  # Message ID 9
    assert begun(rekey, parts[0]) == 0 and rekey.has_displaced
    for part in parts[1:]:
        assert begun(rekey, part) == 0 and not rekey.has_displaced
    assert begun(rekey, cut(context, STORY["rekey1"])[1]) == DROP_REKEY_BUSY
    assert follow(rekey, terms).data_sas
    assert begun(rekey, cut(context, STORY["rekey1"])[1]) == DROP_REKEY_MESSAGE_ID


def test_a_whole_message_among_fragments():
    rekey, terms, context = member()
    parts = cut(context, STORY["rekey1"])
    assert begun(rekey, parts[0]) == 0 and begun(rekey, STORY["rekey1"]) == 0
    assert not rekey.has_displaced
    assert follow(rekey, terms).data_sas
    assert begun(rekey, parts[1]) == DROP_REKEY_MESSAGE_ID


def test_fragments_that_come_before_their_rekey_sa_wait():
    """Two messages in a row, the second over the Rekey SA that the first brings, both cut."""
    group = Group(Member())
    work = KeyWork(config(sender=False), Member(), group)
    made = registered()
    context = made.rekey_sa.context
    install(group, made, True, 0)
    first = cut(context, STORY["rekey1"])
    later = finish(_assignment(group, STORY["rekey1"]))
    second = cut(later.rekey_sa.context, STORY["rekey2"])
    group.rekey._last = ()
    made.rekey_sa.next_message_id = 0
    for data in first + second + second:
        work.hear(data)
    followed = 0
    result = 0
    while result != 1:
        result = work.step(0)
        followed += result == 4
    assert followed == 2
    assert work._member.drops.as_dict() == {"rekey_repeat": len(second)}


def _assignment(group, data):
    """Job: what a message would bring, without installing it."""
    assert begun(group.rekey, data) == 0
    return worked(group.rekey, group.terms)


def test_what_waits_is_bounded():
    group = Group(Member())
    work = KeyWork(config(sender=False), Member(), group)
    install(group, registered(), True, 0)
    work.hear(STORY["rekey1"])
    part = bytearray(1000)
    part[16:20] = bytes((ike.SKF, 0x20, ike.GSA_REKEY, 8))
    part[26:28] = bytes((3, 0xE8))
    for i in range(8):
        part[0] = i + 1
        work.hear(bytes(part))
    assert len(work._candidates._waiting) == 4 and work._member.drops.as_dict() == {
        "rekey_busy": 5
    }


def test_no_memory_for_fragments_is_a_drop():
    group = Group(Member())
    work = KeyWork(config(sender=False), Member(), group)
    install(group, registered(), True, 0)
    begin = group.rekey.begin

    def full(data):
        raise MemoryError
        yield

    group.rekey.begin = full
    work.hear(STORY["rekey1"])
    assert work.step(0) is None and not work.has_work
    assert work._member.drops.of(DROP_CAPACITY) == 1
    group.rekey.begin = begin
    work.hear(STORY["rekey1"])
    while work.has_work and not work.is_busy:
        work.step(0)
    assert work.is_busy


def _sealed_anew(context, part, change):
    """A fragment whose clear octets somebody with the group's keys has changed."""
    data = bytearray(part)
    assert finish(context.open_job(data, 0, 36, len(data) - 36 - 8 - 16))
    change(data)
    context.seal(data, 0, 36, len(data) - 36 - 8 - 16)
    return bytes(data)


def test_a_member_can_not_fill_memory_with_fragments():
    """A flag that means nothing is turned, and each first fragment takes the other's place."""
    rekey, terms, context = member()
    parts = cut(context, STORY["rekey1"])

    def turn(data):
        data[19] ^= 0x40
        data[37] += 1  # of the IV

    other = parts[0]
    for _ in range(1, 80):
        other = _sealed_anew(context, other, turn)
        assert begun(rekey, other) == 0
        assert len(rekey.current.coming) == 1
    assert begun(rekey, parts[1]) == 0
    assert [begun(rekey, part) for part in parts] == [0, DROP_REKEY_REPEAT, 0, 0]
    assert follow(rekey, terms).data_sas


def test_what_was_pushed_out_may_come_again():
    """Its fragments are no repeats: nothing of it is held any more."""
    rekey, terms, context = member()
    parts = cut(context, STORY["rekey1"])
    assert [begun(rekey, part) for part in parts[:3]] == [0, 0, 0]

    def turn(data):
        data[19] ^= 0x40

    assert begun(rekey, _sealed_anew(context, parts[0], turn)) == 0
    assert [begun(rekey, part) for part in parts] == [0, 0, 0, 0]
    assert follow(rekey, terms).data_sas
