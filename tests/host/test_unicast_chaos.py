"""A member and a key server that both rekey their IKE SA, over a network that loses, doubles,
delays and spoils: nothing is raised, nothing piles up, and what is asked for in peace is answered.
"""

import random

import pytest

from covey import ike, registration
from gcks_peer import DELETE_IKE, notify, policy
from talk import Talk

INFO, CHILD, PULL = ike.INFORMATIONAL, ike.CREATE_CHILD_SA, ike.GSA_REGISTRATION


class Server:
    """Keeps every IKE SA that was made, answers repeats from its memory, and begins rekeys."""

    def __init__(self, talk, chance):
        self.talk, self.chance = talk, chance
        self.gcks = talk.gcks
        self.sas = [self.gcks.sa]
        self.current = self.gcks.sa
        self.answers = {}  # request → answer
        self.own = {}  # SA: (its request that is out, what for)
        self.granted = 0

    def take(self, data):
        """A datagram of the member → what is sent back."""
        try:
            header = ike.parse_header(data)
        except Exception:
            return []
        for sa in self.sas:
            if (sa.spi_i, sa.spi_r) == (header.spi_i, header.spi_r):
                if header.flags & ike.FLAG_R:
                    self._answered(sa, data)
                    return []
                return self._asked(sa, header, data)
        return []

    def _asked(self, sa, header, data):
        if data not in self.answers:
            _, payloads = sa.open(data)
            self.answers[data] = sa.answer(data, self._answer(sa, header, payloads))
            if DELETE_IKE in payloads:
                self._drop(sa)
        return [self.answers[data]]

    def _answer(self, sa, header, payloads):
        if header.exchange == CHILD:
            if sa is not self.current or self.chance.random() < 0.2:
                return [notify(ike.TEMPORARY_FAILURE)]
            answer, new = self.gcks.answer_rekey(sa, payloads, self._letter())
            self._adopt(new)
            return answer
        if header.exchange == PULL:
            self.granted += 1
            return policy(sa.kwk, b"\5\6\7\x08", with_rekey_sa=True, sender_id=66)
        return []

    def _letter(self):
        return bytes([self.chance.randrange(256)])

    def _adopt(self, sa):
        self.sas.append(sa)
        self.current = sa

    def _drop(self, sa):
        if sa is not self.current:
            self.sas.remove(sa)
            self.own.pop(sa, None)

    def begin(self):
        """A request of our own over some SA → datagrams."""
        sa = self.chance.choice(self.sas)
        if sa in self.own:
            return [self.own[sa][0]]
        if sa is not self.current:
            what, payloads, exchange = "delete", [DELETE_IKE], INFO
        elif self.chance.random() < 0.4:
            exchange, payloads = CHILD, self.gcks.begin_rekey(sa, self._letter())
            what = self.gcks.own_nonce, self.gcks.own_spi
        else:
            what, payloads, exchange = "liveness", [], INFO
        self.own[sa] = sa.request(exchange, payloads), what
        return [self.own[sa][0]]

    def _answered(self, sa, data):
        if sa not in self.own:
            return
        header, payloads = sa.open(data)
        request, what = self.own[sa]
        if header.message_id != ike.parse_header(request).message_id:
            return
        del self.own[sa]
        if what == "delete":
            self._drop(sa)
        elif what != "liveness" and ike.SA in dict(payloads):
            self.gcks.own_nonce, self.gcks.own_spi = what
            self._adopt(self.gcks.finish_rekey(sa, payloads))


def spoiled(data, chance):
    """Cut, doubled, a bit flipped."""
    kind = chance.randrange(3)
    if kind == 0:
        return data[: chance.randrange(len(data))]
    if kind == 1:
        return data + data
    flipped = bytearray(data)
    flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


@pytest.mark.parametrize("seed", [*range(30), 127])
def test_whatever_the_network_does(seed):
    chance = random.Random(seed)
    talk = Talk(liveness_s=5, retransmit={"total_s": 3600}).registered()
    talk.gm._random = lambda n: chance.randbytes(n)
    server = Server(talk, chance)
    to_server, to_member = [], []
    for _ in range(300):
        act = chance.random()
        if act < 0.15:
            to_member += server.begin()
        elif act < 0.2:
            talk.gm.pull(talk.now_ms)
        elif act < 0.25:
            talk.gm.renew_in(0)  # as if its keys were old
        elif act < 0.35 and to_member:
            talk.gm.receive(spoiled(chance.choice(to_member), chance), talk.now_ms)
        elif act < 0.65 and to_member:
            at = chance.randrange(len(to_member))
            talk.gm.receive(to_member[at], talk.now_ms)
            if chance.random() < 0.8:
                del to_member[at]
        elif act < 0.9 and to_server:
            at = chance.randrange(len(to_server))
            to_member += server.take(to_server[at])
            if chance.random() < 0.8:
                del to_server[at]
        for _ in range(chance.choice((1, 30, 600))):  # slices of work
            talk.gm.step(talk.now_ms)
        to_server += [data for _, sent in talk.later(chance.randrange(1, 900)) for data in sent]
        del to_server[:-30], to_member[:-30]
        assert len(talk.gm.sas) <= 3
        talk.gm.take_outcome()
        if talk.gm.state == registration.CLOSED:
            assert talk.gm.reason == "deleted", talk.gm.reason
            return
    # Peace: whatever is still out comes to its end, and the newest IKE SA serves.
    in_peace(talk, server, 1000)
    if talk.gm.state == registration.CLOSED:
        return  # this server deletes what it likes
    before = server.granted
    assert talk.gm.pull(talk.now_ms)
    in_peace(talk, server, 10)
    assert server.granted > before and talk.gm.state == registration.REGISTERED


def in_peace(talk, server, seconds):
    """Each says what it has to say, and again, and is heard."""
    for _ in range(seconds):
        sent = [data for _, sent in talk.later(1000) for data in sent]
        for request, _ in list(server.own.values()):
            talk.gm.receive(request, talk.now_ms)
            sent += [data for _, sent in talk.later(100) for data in sent]
        for data in sent:
            for answer in server.take(data):
                talk.gm.receive(answer, talk.now_ms)
        talk.gm.take_outcome()
