"""A whole member, its clock and its server: Membership, Registration and key store are real.

The server is gcks_peer's.
"""

from covey import ike, membership, registration
from covey.member import Member
from covey.nat import Path
from covey.port import ticks_add
from covey.registration import Registration
from gcks_peer import TRANSPORT, Gcks, policy
from talk import HERE, PSK, THERE, Chance, config

INBAND = ike.GSA_INBAND_REKEY
SPIS = [bytes([0x10 + i, 1, 2, 3]) for i in range(9)]
ID = 0x41


class Life:
    """A member of an inband group, its clock and its server."""

    def __init__(self, sending=True, registered=True, granted=None, **fields):
        given = {"sender": sending, "retransmit": {"first_ms": 60000}}  # nothing comes twice
        given.update(fields)
        registration.Registration = Registration  # not the script of other tests
        self.member = Member(sender=sending)
        self.now_ms = 0
        self.it = membership.Membership(
            config(**given),
            self.member,
            Chance(),
            lambda server: Path(HERE, 50000, THERE, 848, False),
        )
        self.sending = sending
        self.it.start(0)
        self.gcks = Gcks(PSK)
        if registered:
            self.register(granted or self.keys(0))

    def register(self, granted):
        """granted: payloads, or a function of the new IKE SA."""
        self.gcks = Gcks(PSK)
        (init,) = self.run()
        auth = self.hear(self.gcks.answer_init(init))
        self.sa = self.gcks.sa
        payloads = granted(self.sa) if not isinstance(granted, list) else granted
        self.hear(self.gcks.answer_auth(auth, payloads))

    def keys(self, number, **fields):
        """What a registration gives: a function of the IKE SA."""
        given = {"sender_id": ID if self.sending else None, "key": bytes([number + 1])}
        given.update(fields)
        return lambda sa: policy(sa.kwk, SPIS[number], **given) + [TRANSPORT]

    def more(self, number, **fields):
        """GSA and KD of an inband rekey."""
        given = {"key": bytes([number + 1])}
        given.update(fields)
        return policy(self.sa.kwk, SPIS[number], **given)

    def run(self, ms=0):
        """Let ms go by, then all work; → what is sent."""
        sent = []
        while True:
            while True:
                wait = self.it.step(self.now_ms)
                data, _ = self.it.outgoing()
                while data is not None:
                    sent.append(bytes(data))
                    data, _ = self.it.outgoing()
                if wait:
                    break
            if not ms:
                return sent
            step = min(ms, 100)
            ms -= step
            self.now_ms = ticks_add(self.now_ms, step)

    def hear(self, data):
        self.it.unicast(data, self.now_ms)
        return self.run()

    def inband(self, payloads):
        """The server's request → the payloads of the answer, and what else was sent."""
        answer, *rest = self.hear(self.sa.request(INBAND, payloads))
        header, said = self.sa.open(answer)
        assert header.exchange == INBAND
        return said, rest

    def pull(self):
        """Let it pull now → the request."""
        self.it._refresh.at.stop()
        self.it._refresh.soon(self.now_ms)
        (request,) = self.run(2100)
        header, said = self.sa.open(request)
        assert header.exchange == ike.GSA_REGISTRATION and (ike.SA) in dict(said)
        return request

    @property
    def spis(self):
        return sorted([bytes(sa.spi) for sa in self.member.keys.live()])

    @property
    def outbound(self):
        self.member.keys.step(self.now_ms)
        sa = self.member.keys.sending
        return sa and bytes(sa.spi)

    @property
    def drops(self):
        return self.member.drops.as_dict()
