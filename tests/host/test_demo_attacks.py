"""What the attacker of `make run` sends, against members without any process or socket."""

import os
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from covey.assignment import Assignment, Terms
from covey.drops import FormatError, names
from covey.job import finish
from covey.member import Member
from covey.p256 import Verifier
from covey.rekey import Rekey
from covey.sa import RekeySA
from covey_host.demo import attacks, capture, traffic
from covey_host.gcks import epoch as epochs
from covey_host.gcks.policy import GroupPolicy
from datapath import data_sa

SENDERS = (65, 131)  # index 1, incarnation 1; index 2, incarnation 3


@pytest.fixture(scope="module")
def wire():
    """A capture with three epochs, the first two retired, and the epochs."""
    policy = GroupPolicy("line1", "239.192.1.32", 2222)
    generations = [epochs.first_epoch(policy.shape, os.urandom)]
    for _ in range(2):
        last = generations[-1]
        new = epochs.next_epoch(last, last.shape, os.urandom, excludes=False, started=False)
        generations.append(new)
    heard = capture.Capture()
    for epoch in generations:
        for number in range(1, 61):
            for sender in SENDERS:
                heard.note(attacks.sealed(epoch, sender, number))
    states = [epochs.encode_state(epoch, ()).hex() for epoch in generations]
    heard.learn(states[-1], states[:-1])
    return heard, generations


def deliver(member, datagram):
    """As the transport does: what is longer than the buffer is said to be, and not there."""
    n = min(len(datagram), len(member.rx) + 1)
    if n <= len(member.rx):
        member.rx[:n] = datagram
    return member.receive(n, 0)


def member_of(generations, sender_id=None):
    """A member that has followed the group; all of its present traffic has arrived."""
    made = Member(sender=sender_id is not None)
    for epoch in generations:
        sa = data_sa(epoch.tek_spi, epoch.tek_keymat, epoch=epoch.number)
        if sender_id is not None:
            sa.become_sender(sender_id, 16)
        assert made.keys.install(sa, 0)
        if epoch is not generations[-1]:
            made.keys.retire(epoch.tek_spi, 0, 0)
    for number in range(1, 61):
        for sender in SENDERS:
            deliver(made, attacks.sealed(generations[-1], sender, number))
    return made


DATA_KINDS = [name for name in attacks.KINDS if "rekey" not in name and "exclude" not in name]


@pytest.mark.parametrize("sender_id", [None, *SENDERS])
@pytest.mark.parametrize("kind", DATA_KINDS)
def test_each_packet_is_dropped_for_the_reason_that_is_expected(
    wire, kind, sender_id, monkeypatch
):
    heard, generations = wire
    monkeypatch.setattr(capture, "_SETTLED_S", 0)
    shots = attacks.KINDS[kind].make(heard, random.Random(kind))
    target = member_of(generations, sender_id)
    assert shots
    for shot in shots:
        if shot.to_application:
            continue
        own = sender_id is not None and shot.sender == sender_id
        reason = names().get(deliver(target, shot.data), "delivered")
        assert reason == ("own" if own else shot.reason), shot


def test_what_is_sealed_under_a_retired_key_was_good_while_the_key_was(wire):
    heard, generations = wire
    for shot in attacks.seal_retired(heard, random.Random(1)):
        past = Member()
        for epoch in generations[:2]:
            past.keys.install(data_sa(epoch.tek_spi, epoch.tek_keymat), 0)
        length = deliver(past, shot.data)
        assert traffic.cip.parse(past.rx, past.payload_off, length) == traffic.DATA_LEN


class TestForgedRekeys:
    """Against a member's Rekey SAs, with a key of the site that the attacker doesn't have."""

    @pytest.fixture
    def held(self, wire):
        numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
        point = b"\4" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32)
        sa = wire[1][-1].rekey
        held = Rekey()
        group = data_sa().destination
        ports = (group, group, 0, 65535, 17)
        made = RekeySA(sa.spi, sa.keymat, sa.kwa, sa.key_bits, Verifier(point), 0, ports)
        held.install(made, 0, 10)
        return held

    @pytest.mark.parametrize("kind", ["rekey_unknown_spi", "rekey_noise"])
    def test_refused_at_once(self, wire, held, kind):
        for shot in attacks.KINDS[kind].make(wire[0], random.Random(2)):
            assert names()[finish(held.begin(shot.data[4:]))] == shot.reason

    @pytest.mark.parametrize("kind", ["rekey_by_member", "exclude_by_member"])
    def test_refused_for_their_signature_only(self, wire, held, kind):
        (shot,) = attacks.KINDS[kind].make(wire[0], random.Random(3))
        assert finish(held.begin(shot.data[4:])) == 0
        with pytest.raises(FormatError) as caught:
            finish(held.work(Assignment(), Terms(), 16))
        assert names()[caught.value.reason] == shot.reason == "rekey_signature"
