"""Members of an inband group on a network that loses, repeats and delays: all get the keys.

The members are ike_peer's, with clocks and retransmissions of their own. They pull, ask for new
keys of their IKE SA (often while the server does), move to other ports and are removed; the server
rekeys, and is killed. What was told to anybody is compared in the end, when the network is good.
"""

import random
import struct
from collections import Counter

import pytest

from foreign_gm import CREATE_CHILD_SA, DELETE, GSA_AUTH, GSA_REGISTRATION, INFORMATIONAL, NOTIFY
from gcks_site import LINE1, SITE, Site
from ike_peer import ANSWER, DELETE_IKE, GSA_INBAND_REKEY, Asked, Peer

TEXT = (
    SITE
    + "ike_lifetime = 20\nliveness = 10\nfragment_size = 300\n"
    + LINE1
    + 'rekey = "inband"\natd = 1\ndtd = 2\n'
)
NAMES = [f"m{n}" for n in range(4)]
STEP_MS = 50


class Network:
    """Datagrams in both directions; trouble: how likely each misfortune is."""

    def __init__(self, site, rng):
        self.site, self.rng, self.trouble = site, rng, 0.15
        self._flying = []
        self.robots = {}

    def launch(self, data, address, to_server):
        for _ in range(2 if self.rng.random() < self.trouble else 1):
            if self.rng.random() >= self.trouble:
                late = self.rng.randrange(3_000) if self.rng.random() < self.trouble else 0
                self._flying.append((self.site.now + late, data, address, to_server))

    def take(self, outs):
        for out in outs:
            if out.address is not None:
                self.launch(out.data, out.address, False)

    def tick(self):
        self.site.now += STEP_MS
        outs, _ = self.site.server.step(self.site.now)
        self.take(outs)
        for robot in self.robots.values():
            robot.tick()
        due = [f for f in self._flying if f[0] <= self.site.now]
        self._flying = [f for f in self._flying if f[0] > self.site.now]
        self.rng.shuffle(due)
        for _, data, address, to_server in due:
            if to_server:
                self.take(self.site.server.receive(data, address, self.site.now))
            elif address[0] in self.robots:
                self.robots[address[0]].hear(data)


class Robot:
    """A member with a clock. One request of its own at a time, over the newest IKE SA."""

    def __init__(self, net, name):
        self.net, self.name, self.rng = net, name, net.rng
        self.port = 1
        self.gone = False
        self._begin()

    @property
    def now(self):
        return self.net.site.now

    def _begin(self):
        self.peer = Peer(self.net.site, self.name, room=self.rng.choice([None, 40, 90]))
        self.sas = []  # all that may still say something, the newest last
        self.pending = None  # (sa, exchange, message_id, datagrams, note)
        self.heard = self.now
        self.again_ms = self.now + self.rng.randrange(500)
        self.rejoin_ms = None
        self.started = False

    def say(self, datagrams):
        for data in datagrams:
            self.net.launch(data, (self.name, self.port), True)

    def ask(self, exchange, payloads, sa, note=None):
        datagrams = self.peer.sealed(exchange, payloads, sa)
        self.pending = [sa, exchange, sa.next_id - 1, datagrams, note]
        self.tries, self.again_ms = 0, self.now
        self.tick()

    def tick(self):
        if self.gone:
            return
        if not self.started and self.now >= self.again_ms:
            self.started = True
            extra = [(NOTIFY, struct.pack(">BBH", 0, 0, 16430))] if self.peer.room else []
            self.pending = [None, 34, 0, [self.peer.gm.sa_init(extra=extra)], None]
            self.tries = 0
        elif self.pending and self.now >= self.again_ms:
            if self.tries == 6:
                return self._begin()  # nobody is there: anew
            self.tries += 1
            self.again_ms = self.now + 500 * 2 ** min(self.tries, 4)
            self.say(self.pending[3])
        elif not self.pending and self.sas:
            sa = self.sas[-1]
            if self.peer.is_out and self.rejoin_ms is None:
                self.rejoin_ms = self.now + self.rng.randrange(1_000)
            if self.rejoin_ms is not None and self.now >= self.rejoin_ms:
                self.rejoin_ms = None
                self.ask(GSA_REGISTRATION, self.peer.gm.group_payloads(), sa)
            elif self.now - self.heard > 4_000:
                self.heard = self.now
                self.ask(INFORMATIONAL, [], sa)
            elif self.rng.random() < 0.01 and self.net.trouble:
                self._whim(sa)

    def _whim(self, sa):
        what = self.rng.randrange(3)
        if what == 0:
            self.ask(GSA_REGISTRATION, self.peer.gm.group_payloads(), sa)
        elif what == 1:
            asked = Asked()
            self.ask(CREATE_CHILD_SA, asked.payloads(), sa, asked)
        else:
            self.port += 1
            self.ask(INFORMATIONAL, [], sa)

    def hear(self, data):
        if self.gone:
            return
        if self.pending and self.pending[0] is None and data[18] == 34:
            if data[:8] == self.peer.gm.spi_i and data[8:16] != bytes(8) and not self.sas:
                self._answered_init(data)
            return
        for sa in self.sas:
            if data[:16] == sa.spi_i + sa.spi_r:
                return self._inside(sa, data)

    def _answered_init(self, data):
        request = self.pending[3][0]
        self.peer._send = lambda _: self.peer.inbox.append(data)
        self.peer.gm.sa_init = lambda **_: request
        self.peer.connect()
        del self.peer._send, self.peer.gm.sa_init
        self.sas = [self.peer.sa]
        payloads = self.peer.gm.auth_payloads() + self.peer.gm.group_payloads()
        self.ask(GSA_AUTH, payloads, self.peer.sa)

    def _inside(self, sa, data):
        message_id = int.from_bytes(data[20:24])
        if data[19] & ANSWER:
            wanted = self.pending and self.pending[0] is sa and self.pending[2] == message_id
            opened = sa.open(data) if wanted else None
            if opened:
                self.heard = self.now
                self._answered(sa, opened[3])
            return
        if message_id == sa.awaited - 1 and sa.cached:
            self.say(sa.cached)
        elif message_id == sa.awaited:
            opened = sa.open(data)
            if opened:
                sa.awaited += 1
                self.heard = self.now
                self._asked(sa, opened[0], message_id, opened[3])

    def _answered(self, sa, payloads):
        _, exchange, _, _, note = self.pending
        self.pending = None
        errors = [b[2:4] for k, b in payloads if k == NOTIFY and b[2] < 64]
        if exchange == GSA_AUTH:
            payloads = self.peer.gm.check_identity(payloads)
        if exchange in (GSA_AUTH, GSA_REGISTRATION):
            if errors:
                self.rejoin_ms = self.now + 2_000
                if errors == [b"\0\x2e"]:  # AUTHORIZATION_FAILED: removed
                    self.gone, self.peer.is_out = True, True
                return
            self.peer.sa = sa
            self.peer.take(payloads)
        elif exchange == CREATE_CHILD_SA and not errors:
            new = self.peer.concluded(note, payloads, sa)
            rival = getattr(sa, "rival", None)
            if rival is not None and new.lowest < rival.lowest:
                self.sas.insert(0, new)
                self.ask(INFORMATIONAL, [DELETE_IKE], new, "delete")
            else:
                self.sas.append(new)
                self.ask(INFORMATIONAL, [DELETE_IKE], sa, "delete")
        elif note == "delete":
            self.sas.remove(sa)

    def _asked(self, sa, exchange, message_id, payloads):
        answer = []
        deletes = (DELETE, b"\x01\0\0\0") in payloads
        if exchange == GSA_INBAND_REKEY:
            if sa is self.sas[-1] or sa is self.sas[0]:
                self.peer.take_inband(payloads, sa)
        elif exchange == CREATE_CHILD_SA:
            is_asking = self.pending and self.pending[1] == CREATE_CHILD_SA
            if self.pending and not is_asking and self.pending[4] == "delete":
                answer = [(NOTIFY, b"\0\0\0\x2b")]  # it is being closed
            else:
                new, answer = self.peer.accept_rekey(payloads, sa)
                if is_asking and self.pending[0] is sa:
                    sa.rival = new
                self.sas.append(new)
        sa.cached = sa.seal(exchange, answer, message_id, ANSWER, self.peer.room)
        self.say(sa.cached)
        if deletes:
            self.sas.remove(sa)
            if self.pending and self.pending[0] is sa:
                self.pending = None  # ours is forgotten; what it asked for is asked again
                self.rejoin_ms = self.now
            if not self.sas:
                self._begin()


def run(site, net, ms):
    for _ in range(ms // STEP_MS):
        net.tick()


@pytest.mark.parametrize("seed", range(12))
def test_all_have_the_keys_in_the_end(tmp_path, seed):
    rng = random.Random(seed)
    site = Site(tmp_path / "state.db", TEXT)
    for name in NAMES:
        site.add(name)
    net = Network(site, rng)
    net.robots = {name: Robot(net, name) for name in NAMES}
    removed, counted = None, Counter()
    for round_ in range(12):
        run(site, net, rng.randrange(1_000, 8_000))
        net.take(site.server.rekey("line1", site.now))
        if round_ == 5:
            removed = rng.choice(NAMES)
            tek = site.server._groups["line1"].epoch.tek_spi
            net.take(site.server.remove_member(removed, site.now))
        if round_ == 8 and seed % 2:  # kill -9
            counted += site.server.counters
            net.site = site = site.restart(TEXT, later_ms=100)
            for robot in net.robots.values():
                robot.peer.site = site
    net.trouble = 0
    run(site, net, 60_000)
    net.take(site.server.rekey("line1", site.now))
    run(site, net, 20_000)
    epoch = site.server._groups["line1"].epoch
    for name, robot in net.robots.items():
        if name == removed:
            assert tek not in robot.peer.teks or robot.peer.tek[0] == tek
            assert epoch.tek_spi not in robot.peer.teks
        else:
            assert robot.peer.tek == (epoch.tek_spi, epoch.tek_keymat), name
    left = sorted(set(NAMES) - {removed})
    status = site.server.status(site.now)
    assert status["groups"]["line1"]["holders"] == left
    assert status["ike_sas"] - status["unproven"] <= 2 * len(left)
    counted += site.server.counters
    for counter in ("ike_rekeyed", "told", "request_repeat"):
        assert counted[counter] > 5, counter
    assert not counted["peer_invalid_syntax"] and not counted["ike_format"]
