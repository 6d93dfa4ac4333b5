"""A member that sleeps: what it holds as octets, and back; and when it must not come back.

Policy and keys are octets from tests/recorded/group_story.py.
"""

from covey import membership, resume, silence
from covey.drops import name_of
from covey.gcm import GMACContext
from covey.keystore import is_among, remember
from covey.prf import PRF_LEN
from datapath import data_sa
from story import STORY, T1, T2
from test_membership import Life, Script

CLOCK = 1_000_000  # seconds, when it falls asleep


def awake(octets, slept_s=60, sending=False, began=777, **fields):
    """Another start with what the one before has left: (Life, whether it is a member again)."""
    life = Life(sending, began, **fields)
    life.it.wipe()
    Script.made = []
    life.it = membership.Membership(life.it.settings, life.member, lambda n: b"\xff" * n)
    return life, resume.revive(life.it, octets, CLOCK + slept_s, life.now_ms)


def asleep(life):
    return resume.suspend(life.it, CLOCK, life.now_ms)


def registered(sending=False, **fields):
    return Life(sending, **fields).registered(STORY["sender" if sending else "receiver"])


def send(life, count=1):
    """So many packets of a sender."""
    packets = []
    for _ in range(count):
        life.member.out[:2] = b"hi"
        n = life.member.send(2, life.now_ms)
        assert n > 0, name_of(n)
        packets.append(bytes(life.member.tx[:n]))
    return packets


def receive(life, packet):
    life.member.rx[: len(packet)] = packet
    answer = life.member.receive(len(packet), life.now_ms)
    return name_of(answer) if answer < 0 else answer


def test_a_sender_goes_on_where_it_was():
    life = registered(True)
    life.run(10000)  # ATD
    before = send(life, 5)
    sender_id, octets = life.it.sender_id, asleep(life)
    again, is_member = awake(octets, 60, True)
    assert is_member and again.it.state == membership.MEMBER and not Script.made
    assert again.it.sender_id == sender_id and again.it.epoch == 1
    after = send(again, 5)
    nonces = {packet[:16] for packet in before + after}  # SPI, number, IV
    assert len(nonces) == 10
    assert [packet[7] for packet in after] == [6, 7, 8, 9, 10]
    assert again.it.listening_changed and again.it.routes()


def test_whoever_slept_is_dead_before():
    life = registered(True)
    life.run(10000)
    held = life.member.keys.live()[0], life.it._group.rekey.current
    assert asleep(life) is not None
    assert life.member.keys.live() == [] and not life.member.can_send(life.now_ms)
    assert not any(held[0].keymat) and not any(held[1].gsk_e) and not any(held[1].kwk)


def test_windows_are_kept():
    sender, receiver = registered(True), registered()
    sender.run(10000)
    packets = send(sender, 6)
    for packet in packets[1:4]:
        assert receive(receiver, packet) == 2
    again, _ = awake(asleep(receiver))
    for packet in packets[1:4]:
        assert receive(again, packet) == "replay"
    assert receive(again, packets[0]) == receive(again, packets[5]) == 2
    assert receive(again, packets[0]) == "replay"
    slept, _ = awake(asleep(sender), sending=True)
    assert receive(again, send(slept)[0]) == 2
    assert receive(slept, packets[0]) == "own"


def test_the_octets_are_of_no_use_twice():
    octets = asleep(registered())
    assert any(octets)
    _, is_member = awake(octets)
    assert is_member and not any(octets)
    assert not awake(octets)[1]


def test_rekeys_are_followed_and_old_ones_are_not():
    life = registered()
    life.rekey(STORY["rekey1"])
    again, _ = awake(asleep(life), 0)
    again.rekey(STORY["rekey1"])
    assert (
        again.it.rekeys == 0
        and again.member.drops.as_dict() == {"rekey_message_id": 1}
        or (
            again.member.drops.as_dict() == {"rekey_spi": 1}  # its Rekey SA went with its DTD
        )
    )
    again.rekey(STORY["rekey2"])
    assert again.it.rekeys == 1 and again.it.state == membership.MEMBER


def test_a_sender_follows_too():
    life = registered(True)
    again, _ = awake(asleep(life), 0, True)
    again.rekey(STORY["rekey1"])
    again.run(10000)
    assert T2 in [sa.spi for sa in again.member.keys.live()]
    assert send(again)[0][:4] == T2


def test_everybody_is_excluded():
    """There is no IKE SA to be closed then: it registers."""
    life = registered()
    for name in ("rekey1", "rekey2"):
        life.rekey(STORY[name])
    again, _ = awake(asleep(life), 0)
    again.rekey(STORY["delete_all"])
    assert again.it.state == membership.EXCLUDED
    again.run(3000)
    assert again.it.state == membership.REGISTERING and len(Script.made) == 1


def test_a_missed_rekey_is_asked_for():
    life = registered()
    again, _ = awake(asleep(life))
    assert not again.it.is_asking
    assert receive(again, T2 + bytes(60)) == "unknown_spi"
    assert again.it.is_asking and not again.it.has_asked
    again.run(3000)
    assert len(Script.made) == 1 and again.it.state == membership.MEMBER
    again.ike.state = membership.registration.AUTH
    assert again.it.is_asking
    again.ike.answer(membership.registration.REGISTERED, STORY["receiver"])
    again.run(100)
    assert not again.it.is_asking and again.it.has_asked


def test_what_is_damaged_is_refused():
    good = bytes(asleep(registered()))
    assert awake(bytearray(good))[1]
    for i in range(0, len(good), 5):
        octets = bytearray(good)
        octets[i] ^= 1 << i % 8
        again, is_member = awake(octets)
        assert not is_member and not any(octets), i
        assert again.it.state == membership.IDLE and again.member.keys.live() == []
    for octets in (b"", good[:31], good[:-1], good + b"\0", bytes(len(good)), b"\xff" * 2048):
        assert not awake(bytearray(octets))[1]


def test_what_its_own_key_vouches_for_is_still_read_with_care():
    """Found by fuzzing: octets of another make under our key, cut short or with a wrong count."""
    good = bytes(asleep(registered()))[:-PRF_LEN]
    for i in range(0, len(good), 3):
        for octets in (good[:i], good[:i] + b"\xff" + good[i + 1 :]):
            octets += resume.prf(resume._key(registered().it.settings), octets)
            again, is_member = awake(bytearray(octets))
            live = [sa.spi for sa in again.member.keys.live()]
            assert is_member == bool(live), i
            assert len(octets) == len(good) + PRF_LEN or not is_member, i


def test_of_somebody_else_it_is_refused():
    good = bytes(asleep(registered()))
    for field in ("group", "idi"):
        assert not awake(bytearray(good), **{field: "line10"})[1]
    life, _ = awake(bytearray(1))
    life.it.settings.psk[0] ^= 1
    assert not resume.revive(life.it, bytearray(good), CLOCK, 0)
    life.it.settings.psk[0] ^= 1
    life.member.sender_slots *= 2
    assert not resume.revive(life.it, bytearray(good), CLOCK, 0)
    life.member.sender_slots //= 2
    assert resume.revive(life.it, bytearray(good), CLOCK, 0)


def test_time_goes_on_meanwhile():
    life = registered()
    life.run(100000)
    left_s = life.member.keys.live()[0].lifetime_s - 100
    good = bytes(asleep(life))
    for slept_s, is_in_time in (
        (-1, False),
        (0, True),
        (left_s * 16 // 17 - 2, True),
        (left_s - 2, False),  # a clock may run badly: rather out too early
        (left_s, False),
        (1 << 31, False),
    ):
        again, is_member = awake(bytearray(good), slept_s)
        assert is_member == is_in_time, slept_s
    again, _ = awake(bytearray(good), 0)
    again.run((left_s + 1) * 1000)
    assert not again.member.keys.live()


def test_keys_are_asked_for_in_time():
    """The soft end of their lifetime may pass in the sleep."""
    life = registered()
    life_s = life.member.keys.live()[0].lifetime_s
    again, is_member = awake(asleep(life), life_s * 90 // 100)
    assert is_member
    again.run(3000)
    assert Script.made


def test_silence_goes_on_in_the_sleep():
    """60 s of it make the member silent, wherever it spends them."""
    for slept_s, left_s in ((0, 49), (20, 28), (60, 0), (3000, 0)):
        life = Life().registered(STORY["stops"])
        life.run(10_000)
        again, is_member = awake(asleep(life), slept_s)
        assert is_member and again.it._group.terms.silence == (60, True)
        if left_s:
            again.run(1000 * left_s - 2000)
            assert not again.it.is_silent, slept_s
        again.run(4000)
        assert again.it.is_silent and receive(again, STORY["packets"]["t1"][0]) == "silent"
        again.run(3000)
        assert Script.made  # and it asks


def test_without_a_max_silence_it_may_sleep_in_silence():
    again, is_member = awake(asleep(registered()), 3000)
    again.run(4000)
    assert is_member and not again.it.is_silent and not Script.made


def test_the_key_path_is_kept():
    life = registered()
    path = ((b"\0\0\0\7", bytearray(b"k" * 16)), (b"\0\0\0\1", bytearray(b"r" * 32)))
    life.it._group.terms.key_path = path
    wanted = [(key_id, bytes(key)) for key_id, key in path]
    again, is_member = awake(asleep(life))
    assert is_member and not any(path[0][1])
    assert [(key_id, bytes(key)) for key_id, key in again.it._group.terms.key_path] == wanted
    again.rekey(STORY["rekey1"])
    assert again.it.rekeys == 1


def test_atd_goes_on():
    life, atd_s = registered(True), 20
    life.member.keys.silence()  # else it would go on sending
    assert life.member.keys.activate(T1, life.now_ms, atd_s)
    assert not life.member.can_send(life.now_ms)
    good = bytes(asleep(life))
    early, _ = awake(bytearray(good), 0, True)
    assert not early.member.can_send(early.now_ms)
    early.run(atd_s * 1000 - 100)
    assert not early.member.can_send(early.now_ms)
    late, _ = awake(bytearray(good), atd_s, True)
    late.run(1000)
    assert late.member.can_send(late.now_ms)


def test_integrity_only_and_the_size_of_it_all():
    life = registered()
    life.member.keys.install(data_sa(integrity_only=True, bits=16), life.now_ms)
    for sa in life.member.keys.live():
        assert sa.senders.words[2] == 16
        for slot in range(16):  # all windows in use
            sa.senders.words[3 + 7 * slot + 2] = 0x1FFFFFFF
            sa.senders.words[3 + 7 * slot + 3] = 0xFFFFFFFF
    octets = asleep(life)
    assert len(octets) <= 2048  # RTC memory of an ESP32
    again, _ = awake(octets)
    kinds = {sa.spi: isinstance(sa.context, GMACContext) for sa in again.member.keys.live()}
    assert sorted(kinds.values()) == [False, True] and not kinds[T1]
    for sa in again.member.keys.live():
        assert sa.senders.words[3 + 7 * 15 + 2] == 0x1FFFFFFF
        assert sa.senders.words[3 + 7 * 15 + 3] == 0xFFFFFFFF


def test_when_it_can_not_sleep():
    life = Life()
    assert asleep(life) is None  # no member yet
    life = registered()
    life.it._group.rekey.wipe()
    assert asleep(life) is None  # its rekeys come over an IKE SA
    life = registered()
    life.it.multicast(STORY["rekey1"], life.now_ms)
    assert asleep(life) is None and life.member.keys.live() == []  # keys in work


def test_what_has_gone_is_known_by_name():
    """In its DTD when we fall asleep, or over in the sleep: neither missed nor new again."""
    life = registered()
    life.rekey(STORY["rekey1"])
    keys = life.member.keys
    assert keys.retire(T1, life.now_ms, 60)
    for n in range(11):
        remember(keys.retired, bytes([n, 1, 2, 3]))
    good = bytes(asleep(life))
    again, is_member = awake(bytearray(good), 0)
    assert is_member and T1 not in [sa.spi for sa in again.member.keys.live()]
    assert receive(again, T1 + bytes(60)) == "retired_spi" and not again.it.is_asking
    retired = again.member.keys.retired
    remember(retired, b"last")
    remembered = [n for n in range(11) if is_among(retired, bytes([n, 1, 2, 3]), 0)]
    assert remembered == [5, 6, 7, 8, 9, 10]  # beside T1 and the last
    life = registered()
    life.member.keys.renew(life.member.keys.find(T1, 0), life.now_ms, 5)
    life.member.keys.install(data_sa(bits=16), life.now_ms)
    late, is_member = awake(asleep(life), 60)
    assert is_member and T1 not in [sa.spi for sa in late.member.keys.live()]
    assert is_among(late.member.keys.retired, T1, 0)
    late.it.refresh(late.now_ms)
    late.run(20_000)
    assert not Script.made[0].awake  # the server may think that T1 lives


def test_without_memory_it_can_not_sleep():
    life = registered(True)
    kept, resume.prf = resume.prf, no_memory
    try:
        assert asleep(life) is None and life.member.keys.live() == []
    finally:
        resume.prf = kept


def no_memory(*_):
    raise MemoryError


def test_without_memory_it_can_not_wake():
    """A board's AES says so with an OSError."""
    good = bytes(asleep(registered(True)))
    kept = resume.DataSA
    try:
        for error in (MemoryError, OSError(12)):

            def fails(*_, error=error):
                raise error

            resume.DataSA = fails
            again, is_member = awake(bytearray(good), 60, True)
            assert not is_member and again.member.keys.live() == []
    finally:
        resume.DataSA = kept


def test_who_wakes_in_silence_is_silent_at_once():
    """What came into the socket meanwhile may be read before the first step."""
    life = Life().registered(STORY["stops"])
    again, is_member = awake(asleep(life), 3000)
    assert is_member and again.it.is_silent and not again.member.may_confirm
    assert receive(again, STORY["packets"]["t1"][0]) == "silent"
    again.run(2000)
    assert again.names() == ["member", "silent"]


def test_without_memory_for_what_silence_needs_it_can_not_wake():
    for error in (MemoryError, OSError(12)):
        good = bytes(asleep(Life().registered(STORY["stops"])))

        class Fails(silence.Timer):
            def start(self, *_, error=error):
                raise error

        real, silence.Timer = silence.Timer, Fails
        try:
            again, is_member = awake(bytearray(good), 3000)
        finally:
            silence.Timer = real
        assert not is_member and again.member.keys.live() == []
        assert again.it.state == membership.IDLE and not again.it.is_silent
        again.it.start(again.now_ms)
        again.registered(STORY["stops"])
        assert again.it.state_name == "member" and receive(again, STORY["packets"]["t1"][0]) > 0
