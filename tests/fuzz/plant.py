"""A key server and a member of ours on one virtual clock, and the network between them.

Datagrams go one of three ways: to the "server", to the "member", to the "group" (which the member
hears). On each so many may be lost next, or changed by who holds all keys (tamper.py).
"""

import pathlib
import random
import sqlite3

from covey import ike, membership
from covey.config import Config
from covey.drops import NOTHING
from covey.member import Member
from covey.nat import Path
from covey_host.gcks import authority, keyserver, policy
from covey_host.gcks.sockets import Address
from covey_host.store import sqlite
from fuzz import tamper
from gcks_site import KEY, LINE1, PLAIN, SITE

QUICK = LINE1 + "atd = 1\ndtd = 2\n"
FRESH = PLAIN + "fresh_join = true\nbackward_secrecy = true\natd = 1\ndtd = 2\n"
POLICIES = (
    SITE + QUICK,
    SITE + "fragment_size = 300\n" + QUICK + "key_tree = 2\nintegrity_only = true\n",
    SITE + "liveness = 10\nike_lifetime = 60\n" + QUICK + 'rekey = "inband"\n',
    SITE + QUICK + 'delivery = "unicast"\n',
    SITE + QUICK + 'source_auth = "mac"\n',
    SITE + QUICK + 'source_auth = "ecdsa"\n',
    SITE + LINE1 + 'source_auth = "tesla"\n',
    SITE + QUICK + "max_silence = 20\nreport_interval = 10\n",
    SITE + "cookies_from = 0\n" + FRESH,
)
NAMES = "press-7", "mole"
_HOSTS = "192.0.2.7", "192.0.2.66"
_SERVER, _LOCAL = "192.0.2.1", bytes((192, 0, 2, 1))
_MASK = (1 << 30) - 1  # of a member's ticks
_MOST_STEPS = 20_000  # of a member, between two moments
_MOST_SAS = 64  # IKE SAs that one plant can have a server keep
_PEACE_MS = 240_000


class Plant:
    """site: itself, for ike_peer.Peer."""

    def __init__(self, program, has_member=True):
        self.site = self
        self.program = program
        text = program.pick(POLICIES)
        self.chance = random.Random(1).randbytes  # of both ends
        self.now = 1_000_000
        self.store = _store()
        self.unasked = []  # what the server says to the mole
        self.said = []  # datagrams so far, by their way: (where, octets)
        self.lost = {}  # where: so many are lost
        self.spoilt = {}  # where: so many are changed, under their keys
        self.is_honest = True  # so far nobody has used keys that no member has
        self.rekey_sas = {}  # SPI: RekeySA
        self.policy = policy.parse(text)
        authority.make_signing_key(self.store)
        self.addresses = [Address(0, host, 4500, _LOCAL, 4500, True) for host in _HOSTS]
        self.start()
        for name in NAMES:
            self.server.add_member(name, ["line1"], sender=True, psk=KEY)
        self.it = self.member = None
        if has_member:
            self._begin_member('delivery = "unicast"' in text)

    def _begin_member(self, is_relayed):
        fields = {
            "version": 1,
            "group": "line1",
            "idi": NAMES[0],
            "idr": "gcks.example",
            "servers": [[_SERVER, 4500, True]],
            "sender": True,
            "fragment_size": 300,
            "liveness_s": 15,
            "ike_lifetime_s": 100,
            "delivery": "unicast" if is_relayed else "multicast",
        }
        settings = Config(fields, psk=KEY)
        self.member = Member(sender=True)
        path = Path(bytes((192, 0, 2, 7)), 4500, _LOCAL, 4500, True)
        self.it = membership.Membership(settings, self.member, self.chance, lambda _: path)
        self.it.start(self.ticks)

    def start(self):
        """A key server on the store, whatever was there before."""
        self.server = keyserver.KeyServer(
            self.store, self.policy, random=self.chance, time=lambda: 0.0
        )
        self.send(self.server.start(self.now))

    @property
    def group(self):
        """At the server."""
        return self.server._groups["line1"]

    @property
    def ticks(self):
        """The member's."""
        return self.now & _MASK

    def send(self, outs):
        """What the server says goes its way."""
        self.rekey_sas.update({sa.spi: sa for sa in self.group.rekey_sas()})
        for out in outs:
            if out.address is None:
                self.pass_on("group", out.data)
            elif out.address == self.addresses[0]:
                self.pass_on("member", out.data)
            else:
                self.unasked = [*self.unasked, out][-16:]

    def pass_on(self, where, data):
        """A datagram on its way."""
        self.said = [*self.said, (where, bytes(data))][-64:]
        if self.lost.get(where):
            self.lost[where] -= 1
            return
        if self.spoilt.get(where):
            self.spoilt[where] -= 1
            self.is_honest = False
            data = tamper.changed(self, bytes(data))
        self.put(where, data)

    def put(self, where, data):
        if where == "server":
            self.send(self.server.receive(bytes(data), self.addresses[0], self.now))
        elif self.it is None:
            pass
        elif where == "member":
            self.it.unicast(bytes(data), self.ticks, (_SERVER, 4500, True))
        else:
            self.it.multicast(bytes(data), self.ticks)

    def put_esp(self, data):
        """A packet of the mole: to the member, and to the relay."""
        answer = None
        if self.member and 0 < len(data) <= len(self.member.rx):
            self.member.rx[: len(data)] = data
            answer = self.member.receive(len(data), self.ticks)
        assert answer is None or answer < 0 or self.member.source is None
        self._judge()
        relay = self.server.relay
        if len(data) >= 36 and any(data[:4]):  # as relaying.py and sockets.py look at it
            for address in self.addresses:
                if relay.knows(address):
                    relay.from_member(data, address, self.now)
            if relay.expects("line1", data, self.now):
                relay.from_group("line1", data, self.now)

    def run(self, ms):
        """Both work, and time passes."""
        end = self.now + ms
        while True:
            wait = min(self._run_member(), self._run_server(), end - self.now)
            if self.now >= end:
                return
            self.now += max(1, wait)

    def _run_member(self):
        if self.it is None:
            return 1000
        for _ in range(_MOST_STEPS):
            wait = self.it.step(self.ticks)
            keeper = self.it.keeper
            if keeper is not None and keeper.disclose(self.member, self.ticks):
                wait = 0
            if self.member.waiting is not None:
                self._judge()
                wait = 0 if self.member.waiting.is_working else wait
            data, _ = self.it.outgoing()
            while data is not None:
                if len(data) > 4:
                    self.pass_on("server", bytes(data[4:]))
                data, _ = self.it.outgoing()
            self.it.events.clear()
            if wait:
                return wait
        raise AssertionError("the member's work has no end")

    def _judge(self):
        """What waits for a proof: nobody here has one of another sender."""
        if self.member is not None:
            for _ in range(_MOST_STEPS):
                answer = self.member.next_proven(self.ticks)
                if answer == NOTHING:
                    return
                assert answer < 0

    def _run_server(self):
        outs, wait = self.server.step(self.now)
        self.send(outs)
        return wait

    def close(self):
        if self.it is not None:
            self.it.wipe()
        self.store.close()

    def check(self):
        responder = self.server._responder
        assert len(responder._sas) <= _MOST_SAS and len(responder._table.unproven) <= _MOST_SAS
        assert len(self.server.events) <= 1000 and len(self.server.counters) < 200
        if self.it is None:
            return
        assert len(self.it._group.rekey.held) <= 3
        assert sum(map(len, self.it._keys._candidates._waiting)) <= 2 * ike.MOST_LEN + 4096
        assert self.it._ike is None or len(self.it._ike.sas) <= 3

    def make_peace(self):
        self.lost, self.spoilt = {}, {}
        self.it.refresh(self.ticks)
        end = self.now + _PEACE_MS
        while not self.is_healed():
            assert self.now < end, f"{self.it.state_name}: {self.it.reason}"
            self.run(1000)

    def is_healed(self):
        """The member has the keys in force, and has stopped asking for them."""
        tek = self.group.epoch.tek_spi
        held = [bytes(sa.spi) for sa in self.member.keys.live()]
        return self.it.state_name == "member" and tek in held and not self.it.is_asking


def _store():
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in sqlite._TABLES:
        db.execute(statement)
    return sqlite.SQLiteStore(pathlib.Path("memory"), db)
