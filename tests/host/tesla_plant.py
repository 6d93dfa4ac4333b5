"""A plant with TESLA in one process: the key server, members whose clocks are wrong, a network
that delays and loses, and whoever wants to tamper with it. Time is counted in steps of 5 ms.
"""

import random
from functools import partial

from covey.config import Config
from covey.drops import IKE_MESSAGE, NOTHING, WAITS
from covey.member import Member
from covey.membership import MEMBER, Membership
from gcks_site import KEY
from test_eviction_members import unmarked

STEP_MS = 5
_TICKS = 1 << 30  # where clocks of boards wrap


class One:
    """A member. ppm: how much too fast its clock is."""

    def __init__(self, plant, name, sends, ppm):
        self.plant, self.name, self.sends = plant, name, sends
        self.offset_ms, self.rate = plant.chance.randrange(_TICKS), 1 + ppm / 1_000_000
        self.confirmed = {}  # payload: ms until it was
        self.refused = []  # DROP_*
        self.kept = []  # what waited for its proof
        self.start()

    def start(self):
        fields = {"version": 1, "group": "line1", "idi": self.name, "sender": self.sends}
        fields |= {"psk_file": "-", "servers": [{"host": "192.0.2.1"}], "rejoin_spread_s": 0}
        self.member = Member(sender=self.sends)
        self.it = Membership(Config(fields, psk=KEY), self.member)
        self.it.start(self.ticks)
        self.due_ms = 0

    @property
    def ticks(self):
        return int((self.plant.site.now + self.offset_ms) * self.rate) % _TICKS

    @property
    def is_ready(self):
        """Whether it knows the time, and may send if it is a sender."""
        is_timed = self.it.state == MEMBER and self.it.state_name == "member"
        return is_timed and (not self.sends or self.member.can_send(self.ticks))

    def step(self):
        """What is due, and all that it has to say."""
        while True:
            wait_ms = self.it.step(self.ticks)
            while (said := self.it.outgoing())[0] is not None:
                self.plant.to_server(self, unmarked(said[0]))
            keeper = self.it.keeper
            if keeper is not None:
                self._put(keeper.disclose(self.member, self.ticks))
            self._judge()
            if wait_ms:
                return

    def send(self, payload):
        self.member.out[: len(payload)] = payload
        n = self.member.send(len(payload), self.ticks)
        if n > 0:
            self.plant.sent[payload] = self.plant.site.now, self.name
        self._put(n)
        return n

    def hear(self, data):
        """A datagram of the group."""
        member = self.member
        member.rx[: len(data)] = data
        got = member.receive(len(data), self.ticks)
        if got == IKE_MESSAGE:
            self.it.multicast(data[4:], self.ticks)
        elif got >= 0:
            self._take()
        elif got == WAITS:
            self.kept.append(bytes(member.kept()[0]))
        self._judge()
        return got

    def take(self, data):
        """A message of the key server to it."""
        self.it.unicast(data, self.ticks)

    def _judge(self):
        while (got := self.member.next_proven(self.ticks)) != NOTHING:
            if got >= 0:
                self._take()
            else:
                self.refused.append(got)

    def _take(self):
        payload = bytes(self.member.payload)
        since_ms, sender = self.plant.sent[payload]
        assert self.member.source == sender.encode(), (payload, self.member.source)
        assert payload not in self.confirmed, payload
        self.confirmed[payload] = self.plant.site.now - since_ms

    def _put(self, n):
        if n > 0:
            self.plant.to_group(self, bytes(self.member.tx[:n]))


class Plant:
    """loss: of what goes to the group. Whoever has a name in `slow` hears everything that much
    later, in ms."""

    def __init__(self, site, senders, receivers, *, loss=0.0, seed=1, most_delay_ms=8):
        self.site, self.loss, self.most_delay_ms = site, loss, most_delay_ms
        self.chance = random.Random(seed)
        self.ones = {}
        self.sent = {}  # payload: (when, by whom)
        self.slow = {}
        self.lose_next = 0  # datagrams of members, for all
        self.count = 0
        self._air = []  # (when, turn, what is done then)
        self._turn = 0
        self._site_ms = 0
        for name in (*senders, *receivers):
            site.add(name, sender=name in senders)
            self.begin(name, name in senders)

    def begin(self, name, sends, ppm=None):
        ppm = self.chance.uniform(-400, 400) if ppm is None else ppm
        self.ones[name] = One(self, name, sends, ppm)
        return self.ones[name]

    # The network

    def to_server(self, one, data):
        def asked():
            self.said(self.site.server.receive(data, one.name, self.site.now))

        self._later(self._delay_ms(one), asked)

    def said(self, outs):
        """By the key server."""
        for out in outs:
            if out.address is None:
                self.to_group(None, (bytes(4) if out.marker else b"") + out.data)
            elif out.address in self.ones:
                one = self.ones[out.address]
                self._later(self._delay_ms(one), partial(one.take, out.data))

    def restart(self, **how):
        """The key server, as after kill -9: a second later, on the same store."""
        self.site = self.site.restart(**how)
        self._site_ms = 0
        self.said(self.site.air + self.site.unasked)

    def to_group(self, sender, data):
        if sender is not None and self.lose_next:
            self.lose_next -= 1
            return
        for one in self.ones.values():
            if one is not sender and self.chance.random() >= self.loss:
                self._later(self._delay_ms(one), partial(one.hear, data))

    def _delay_ms(self, one):
        return self.chance.randint(1, self.most_delay_ms) + self.slow.get(one.name, 0)

    def _later(self, delay_ms, what):
        self._turn += 1
        self._air.append((self.site.now + delay_ms, self._turn, what))

    # Time

    def wait(self, ms, speak=None, every_ms=30):
        """Time passes; senders of these names say something meanwhile."""
        end = self.site.now + ms
        while self.site.now < end:
            self.site.now += STEP_MS
            now = self.site.now
            due = sorted(item for item in self._air if item[0] <= now)
            self._air = [item for item in self._air if item[0] > now]
            for _, _, what in due:
                what()
            if now >= self._site_ms:
                outs, wait_ms = self.site.server.step(now)
                self._site_ms = now + min(wait_ms, 100)
                self.said(outs)
            for name in speak or ():
                if now % every_ms < STEP_MS:
                    self.count += 1
                    self.ones[name].send(b"%s %06d" % (name.encode(), self.count))
            for one in self.ones.values():
                one.step()

    def until(self, condition, most_ms=60_000, **how):
        end = self.site.now + most_ms
        while not condition():
            assert self.site.now < end, f"not within {most_ms} ms"
            self.wait(50, **how)

    def settle(self, **how):
        """All are members, know the time, and may send who is to."""
        self.until(lambda: all(one.is_ready for one in self.ones.values()), **how)

    def sent_by(self, *names):
        """Payloads that left, the first one first."""
        return [payload for payload, (_, name) in self.sent.items() if name in names]
