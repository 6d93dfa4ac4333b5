"""A Registration in talk with gcks_peer.Gcks, on a clock of the test."""

from covey import registration
from covey.config import Config
from covey.drops import names
from covey.nat import Path
from covey.registration import Registration  # itself, whatever other tests put in its place
from gcks_peer import TRANSPORT, Gcks, policy

PSK = b"a pre-shared key of some length"
HERE, THERE = bytes((192, 0, 2, 7)), bytes((192, 0, 2, 1))


def config(**changes):
    fields = {
        "version": 1,
        "group": "line1",
        "idi": "press-7",
        "idr": "gcks.example",
        "servers": [["192.0.2.1", 848, False]],
        "sender": True,
        "ike_lifetime_s": 0,
    }
    fields.update(changes)
    return Config(fields, psk=PSK)


class Chance:
    """Numbers as the test wants them: letters for what is drawn by 32, a counter otherwise."""

    def __init__(self):
        self.letters = []  # of the next nonces
        self.count = 0

    def __call__(self, n):
        self.count += 1
        if n == 32 and self.letters:
            return self.letters.pop(0) * 32
        return bytes([self.count & 127 | 1] * n)


class Talk:
    """path: "here" (848, no NAT in between), None, or a nat.Path."""

    def __init__(self, path="here", now_ms=0, psk=PSK, **changes):
        self.now_ms = now_ms
        if path == "here":
            path = Path(HERE, 50000, THERE, 848, False)
        self.chance = Chance()
        self.gm = Registration(config(**changes), now_ms, self.chance, path=path)
        self.gcks = Gcks(psk)
        self.places = []

    def sent(self):
        """Let it work at this moment → what it sends; .places tells where the latest went."""
        found, places = [], []
        while True:
            wait = self.gm.step(self.now_ms)
            out = self.gm.take_outgoing()
            while out is not None:
                found.append(bytes(out[0]))
                places.append(out[1])
                out = self.gm.take_outgoing()
            if wait != 0:
                self.places = places or self.places
                return found

    def one(self):
        """The only thing that it sends."""
        (data,) = self.sent()
        return data

    def hear(self, data, source=None):
        """A datagram of the server → name of its drop or None, what is sent then."""
        reason = self.gm.receive(data, self.now_ms, source)
        return names()[reason] if reason else None, self.sent()

    def hear_only(self, data):
        """The name of its drop or None, without a step of work."""
        reason = self.gm.receive(data, self.now_ms)
        return names()[reason] if reason else None

    def take(self, data, source=None):
        drop, sent = self.hear(data, source)
        assert drop is None, drop
        return sent

    def next(self, ms):
        """(ms since now, datagrams) of the first time that something is sent until then."""
        gone = 0
        while gone < ms:
            wait = max(1, min(self.gm.step(self.now_ms), ms - gone))
            gone += wait
            self.now_ms = self.now_ms + wait & 0x3FFFFFFF
            sent = self.sent()
            if sent:
                return gone, sent
        raise AssertionError("nothing was sent")

    def later(self, ms):
        """(ms since now, datagrams) whenever something is sent until then."""
        gone, seen = 0, []
        while gone < ms:
            wait = max(1, min(self.gm.step(self.now_ms), ms - gone))
            gone += wait
            self.now_ms = self.now_ms + wait & 0x3FFFFFFF
            sent = self.sent()
            if sent:
                seen.append((gone, sent))
        return seen

    def granted(self, **changes):
        """What the server gives to a sender that registers."""
        fields = {"with_rekey_sa": True, "sender_id": 65}
        fields.update(changes)
        return policy(self.gcks.sa.kwk, b"\1\2\3\4", **fields) + [TRANSPORT]

    def registered(self, more=None, granted=None):
        """Bring it to a registered member. more: notifications of the answer to IKE_SA_INIT."""
        request = self.one()
        extra = () if more is None else (more,)
        auth = self.take(self.gcks.answer_init(request, *extra))
        assert self.take(self.gcks.answer_auth(auth, granted or self.granted())) == []
        assert self.gm.state == registration.REGISTERED
        assert self.gm.take_outcome() == registration.REGISTERED
        return self

    @property
    def drops(self):
        return self.gm.drops.as_dict()
