"""A key server that is not heard: what a member says of it, when, and how it comes back.

Octets are those of tests/recorded/group_story.py, the IKE SA is test_membership's script.
"""

import struct

import gcks_peer
import life as life_of
from covey import ike, membership, registration
from covey.drops import DROP_SILENT
from covey.ike import notify
from covey.path import DataPath
from covey.port import word_of
from story import STORY, T1, T2, registered
from test_membership import Life, Script

_MOST_MS = 60000  # of the story's policies
_LOOK_MS = 1100  # timers are looked at each second
_RECORDS = 25  # as path.py has them


def _life(policy="tells", **fields):
    return Life(**fields).registered(STORY[policy])


def _open(life, number=0, tek="t1"):
    packet = STORY["packets"][tek][number]
    life.member.rx[: len(packet)] = packet
    return life.member.receive(len(packet), life.now_ms)


def _answer(life, spis=None):
    """What the key server says to a sign of life; spis: of the TEKs that it has."""
    said = [] if spis is None else [notify(ike.COVEY_CURRENT, spis)]
    life.ike.alive = ike.parse_chain(*_chain(said)), life.now_ms, life.now_ms
    life.run()


def _chain(payloads):
    """(type of the first, octets of all), as they come out of SK."""
    out = b""
    for n, (_, body) in enumerate(payloads):
        following = payloads[n + 1][0] if n + 1 < len(payloads) else 0
        out += struct.pack(">BBH", following, 0, 4 + len(body)) + body
    return payloads[0][0] if payloads else 0, out


class _Auth:
    """Source authentication that believes everybody."""

    @staticmethod
    def confirm(member, payload_len, now_ms):
        return payload_len

    @staticmethod
    def name_of(sender):
        return b"press-7"


def _is_silent_at(life, ms):
    """Whether it falls silent so long after now, and not before."""
    life.run(ms - 100)
    before = life.it.is_silent
    life.run(_LOOK_MS)
    return not before and life.it.is_silent


def test_without_a_max_silence_nothing_is_said():
    life = Life().registered()
    life.run(10 * _MOST_MS)
    assert life.it._silence is None and not life.it.is_silent
    assert life.ike.asked == [] and life.it.state_name == "member"


def test_a_member_that_hears_nothing_says_so():
    life = _life()
    life.names()
    assert _is_silent_at(life, _MOST_MS)
    ((name, why),) = life.it.events
    assert name == "silent" and why == "Nothing heard from the key server for 60 s."
    assert life.it.state == membership.MEMBER and life.it.state_name == "silent"
    life.run(5 * _MOST_MS)
    assert len(life.it.events) == 1


def test_it_says_tell_and_goes_on_delivering_without_confirming():
    life = _life()
    (sa,) = life.member.keys.live()
    sa.auth = _Auth
    assert _open(life) == 4 and life.member.confirmed
    life.run(_MOST_MS + _LOOK_MS)
    assert _open(life, 1) == 4 and not life.member.confirmed and life.member.source is None
    _answer(life)
    assert _open(life, 2) == 4 and life.member.confirmed


def test_it_says_stop_and_nothing_is_delivered():
    life = _life("stops")
    assert _open(life) == 4
    life.run(_MOST_MS + _LOOK_MS)
    assert _open(life, 1) == DROP_SILENT and life.member.drops.as_dict() == {"silent": 1}
    assert life.member.opened == 1
    _answer(life)
    assert _open(life, 1) == 4 and _open(life, 1) < 0  # its number was not used up, now it is


def test_keys_that_come_in_silence_stay_shut_until_the_server_is_heard():
    (sa,) = registered(STORY["stops"]).data_sas
    path = DataPath(2)
    path.shut(True)
    path.enter(1, sa.spi, sa.words)
    known = path.words[_RECORDS + 3]
    path.shut(False)
    assert known == 0 and path.words[_RECORDS + 3] == word_of(T1)
    path.leave(1)
    path.shut(True)
    path.shut(False)
    assert path.words[_RECORDS + 3] == 0


def test_a_sender_goes_on_sending():
    life = Life(sending=True)
    life.ike.answer(registration.REGISTERED, STORY["sender"])
    life.ike.gsa.group_wide.silence = 60, True
    life.run(_MOST_MS + 2 * _LOOK_MS)
    assert life.it.is_silent and life.member.send(4, life.now_ms) > 0


def test_a_new_rekey_is_heard():
    life = _life("stops")
    life.names()
    life.run(_MOST_MS // 2)
    life.rekey(STORY["stops_again"])
    assert _is_silent_at(life, _MOST_MS)
    assert life.names() == ["rekeyed", "silent"]
    assert _open(life, tek="t2") == DROP_SILENT


def test_a_rekey_brings_it_back_by_itself():
    life = _life("stops")
    life.run(_MOST_MS + _LOOK_MS)
    life.names()
    life.rekey(STORY["stops_again"])
    assert life.names() == ["rekeyed", "member"] and not life.it.is_silent
    assert _open(life, tek="t2") == 4


def test_what_was_heard_before_is_not_heard_again():
    """Nor what is not genuine, nor data of the group."""
    life = _life("stops")
    life.rekey(STORY["stops_again"])
    began_ms = life.now_ms
    again = [STORY["stops_again"], STORY["rekey1"], STORY["delete_tek"]]
    again += [STORY["forged"][name] for name in STORY["forged"]]
    while not life.it.is_silent:
        for data in again:
            life.rekey(data)
        _open(life, 0, "t2")
        life.run(1000)
    assert _MOST_MS <= life.now_ms - began_ms <= _MOST_MS + 2000 and life.it.rekeys == 1


def test_a_message_that_can_not_be_used_is_not_heard():
    """Its Message ID stays good, so that it could be said again for ever."""
    life = _life()
    while not life.it.is_silent and life.now_ms < 2 * _MOST_MS:
        life.rekey(STORY["wrong"]["not_wrapped"])
        life.ike.answer(
            registration.REGISTERED
        ) if life.ike.state == registration.PULLING else None
        life.ike.outcome = None
        life.run(500)
    assert life.now_ms <= _MOST_MS + 2000


def test_a_delete_is_heard():
    life = _life()
    life.run(_MOST_MS // 2)
    life.rekey(STORY["delete_tek"])
    life.run(_MOST_MS - 100)
    assert not life.it.is_silent


def test_keys_that_were_asked_for_are_heard():
    life = _life()
    life.run(_MOST_MS // 2)
    life.it.refresh(life.now_ms)
    life.run(2100)
    assert life.ike.state == registration.PULLING
    life.registered(STORY["tells"])
    assert _is_silent_at(life, _MOST_MS)


def test_a_sign_of_life_is_asked_for_and_heard():
    """Between a quarter and half of max_silence; by chance 0xffffff here."""
    life = _life()
    life.run(_MOST_MS // 4 - 100)
    assert life.ike.asked == []
    life.run(8000)
    assert life.ike.asked == ["check"]
    for asked in range(2, 12):
        _answer(life)
        while len(life.ike.asked) < asked:
            life.run(100)
            assert not life.it.is_silent
    assert life.ike.asked == 11 * ["check"] and life.now_ms < 11 * (_MOST_MS // 2 + _LOOK_MS)


def test_without_an_answer_it_registers_before_it_is_silent():
    """As after a restart of the key server, of which a rekey was heard."""
    for octet in range(0, 256, 17):
        life = Life()
        life.it._random = lambda n, octet=octet: bytes([octet]) * n
        life.registered(STORY["tells"])
        while len(Script.made) < 2:
            life.run(100)
        assert life.ike.awake and life.now_ms < _MOST_MS - 8000, life.now_ms
        life.registered(STORY["tells"])
        assert not life.it.is_silent


def test_when_to_ask_is_drawn():
    """A group that heard the same rekey doesn't ask as one."""
    asked_ms = set()
    for octet in range(0, 256, 5):
        life = Life()
        life.it._random = lambda n, octet=octet: bytes([octet]) * n
        life.registered(STORY["tells"])
        while not life.ike.asked:
            life.run(1000)
        asked_ms.add(life.now_ms // 1000)
    assert min(asked_ms) >= 15 and max(asked_ms) <= 31 and len(asked_ms) > 10


def test_a_server_of_another_make_says_nothing_of_keys():
    life = _life()
    life.run(_MOST_MS // 2)
    _answer(life)
    assert _is_silent_at(life, _MOST_MS)


def test_an_answer_that_names_our_keys_is_heard():
    for spis in (T1, T2 + T1):
        life = _life()
        life.run(_MOST_MS // 2)
        _answer(life, spis)
        assert _is_silent_at(life, _MOST_MS)
        assert not life.member.missed_rekey


def test_an_answer_that_names_other_keys_tells_of_a_missed_rekey():
    """Whoever holds back the rekeys only: the answer doesn't count, and keys are asked for."""
    life = _life()
    life.run(_MOST_MS // 2)
    _answer(life, T2)
    life.run(3100)
    assert "pull" in life.ike.asked and not life.it.is_silent
    life.run(_MOST_MS // 2)
    assert life.it.is_silent


def test_an_answer_that_a_rekey_has_overtaken_is_passed_over():
    life = _life()
    life.rekey(STORY["stops_again"])
    life.run(3000)  # T1 is retired by now
    _answer(life, T1)
    assert not life.it._refresh.at.is_running and not life.member.missed_rekey


def test_without_an_ike_sa_it_registers_after_a_random_delay():
    life = _life()
    life.ike.answer(registration.CLOSED, reason="deleted")
    life.run(_MOST_MS)
    assert len(Script.made) == 2 and life.ike.awake
    life.registered(STORY["tells"])
    assert not life.it.is_silent and life.it.state_name == "member"


def test_servers_that_answer_nothing_are_asked_until_one_does():
    life = _life("stops")
    life.ike.answer(registration.FAILED, reason="timeout")
    for _ in range(60):
        life.run(5000)
        if life.ike.is_beginning:
            life.ike.answer(registration.FAILED, reason="timeout")
    assert life.it.is_silent and 4 < len(Script.made) < 40
    while not life.ike.is_beginning:
        life.run(1000)
    life.names()
    life.registered(STORY["stops"])
    assert life.names() == ["member"] and _open(life) == 4


def test_policy_may_end_it():
    life = _life("stops")
    life.run(_MOST_MS + _LOOK_MS)
    life.rekey(STORY["rekey1"])  # says nothing of silence
    assert not life.it.is_silent and _open(life, tek="t2") == 4
    life.run(10 * _MOST_MS)
    assert not life.it.is_silent


def test_a_rekey_without_group_policy_leaves_it_as_it_was():
    life = _life("stops")
    life.rekey(STORY["esp_only"])
    assert life.it.rekeys == 1 and life.it._group.terms.silence == (60, True)
    assert _is_silent_at(life, _MOST_MS)


def _inband(stops=True):
    """A receiver of an inband group over a real IKE SA, without liveness checks of its own."""
    life = life_of.Life(sending=False, registered=False, liveness_s=0)
    life.register(life.keys(0, silence=(60, stops)))
    assert life.it.state == membership.MEMBER
    return life


def test_signs_of_life_go_over_the_ike_sa():
    life = _inband()
    said = []
    while not said:
        said = life.run(1000)
    header, payloads = life.sa.open(said[0])
    assert header.exchange == ike.INFORMATIONAL and payloads == []
    assert 15000 <= life.now_ms < 47000
    life.hear(life.sa.answer(said[0], [gcks_peer.notify(ike.COVEY_CURRENT, life_of.SPIS[0])]))
    heard_ms = life.now_ms
    life.run(heard_ms + _MOST_MS - 1000 - life.now_ms)
    assert not life.it.is_silent
    life.run(2100)
    assert life.it.is_silent and ("silent", "Nothing heard from the key server for 60 s.") in [
        event for event in life.it.events
    ]


def test_an_answer_of_before_is_no_sign_of_life():
    """Nor any other message that comes over the IKE SA again."""
    life = _inband()
    said = []
    while not said:
        said = life.run(1000)
    answer = life.sa.answer(said[0], [])
    life.hear(answer)
    heard_ms = life.now_ms
    request = life.sa.request(ike.INFORMATIONAL, [])
    while not life.it.is_silent:
        life.hear(answer)
        life.hear(request)
        life.run(1000)
    assert life.now_ms - heard_ms <= _MOST_MS + 2000


def test_an_inband_rekey_is_heard():
    life = _inband()
    life.run(_MOST_MS // 2)
    began_ms = life.now_ms
    life.inband(life.more(1, silence=(60, True)))
    while not life.it.is_silent:
        life.run(1000)
    assert _MOST_MS <= life.now_ms - began_ms <= _MOST_MS + 2000


def test_who_has_left_says_nothing():
    life = _life()
    life.it.leave(life.now_ms)
    life.ike.outcome = registration.LEFT
    life.run(2 * _MOST_MS)
    assert "silent" not in life.names()
