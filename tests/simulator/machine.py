"""One member of the plant: a real Member and Membership, and a clock that is not quite right."""

import random

from covey import membership
from covey.config import Config
from covey.drops import IKE_MESSAGE
from covey.member import Member
from covey.membership import LEFT, MEMBER, Membership

from .clock import Alarm

_TICKS = 1 << 30  # where clocks of boards wrap
_MOST_PPM = 200  # a bad crystal
_SERVER = {"port": 848, "marker": False}
_NUMBER_LEN = 4  # what a payload begins with: the packet's number
_PAYLOAD = 24  # where it lies in rx
_PAYLOAD_LEN = 16


class Machine:
    """place: its number among all. slow_ms: how long its public-key work takes."""

    def __init__(self, plant, place, name, is_sender, slow_ms, spread_s):
        self.place = place
        self.name = name
        self.is_sender = is_sender
        self.slow_ms = slow_ms
        self.works_one_by_one = (
            False  # slow_ms for each message from the group, not for all of them
        )
        self.life = 0  # how often it was switched on
        self.seat = -1  # number of this life among all lives of all machines
        self.is_on = False
        self.is_listening = False
        self.is_wanted = False  # it is to be a member
        self.eviction = None  # evicted.Eviction, once it has been removed
        self.access_point = 0
        self.since_ms = None  # MEMBER without a break since then, and
        self.since_epoch = 0  # from this one on: it was not given what came before
        self.admitted_ms = None  # when the key server let it in first in this life
        self.knows = {}  # epoch → since when
        self.told_atd_ms = {}  # epoch → ATD as it was told
        self.behind_ms = None  # without the newest keys since then
        self.reached_ms = 0  # when the newest message of the key server that it got was said
        self.asked = 0  # registrations begun in this life
        self.teks = {}  # every key that it ever held, in order (to None), and
        self.rekey_sas = {}  # SPI → {(GSK_e, GSK_w)}, and
        self.kwks = {}  # Key ID → keys of a key tree
        chance = random.Random(f"{plant.seed}/{name}")
        self._plant = plant
        self._clock = plant.clock
        self._random = chance.randbytes
        self._offset_ms = chance.randrange(_TICKS)
        self._rate = 1 + chance.uniform(-_MOST_PPM, _MOST_PPM) / 1_000_000
        self._alarm = Alarm(plant.clock, self._work)
        self._config = Config(
            {
                "version": 1,
                "group": plant.group,
                "idi": name,
                "idr": plant.identity,
                "servers": [{**_SERVER, "host": host} for host in plant.hosts],
                "sender": is_sender,
                "rejoin_spread_s": spread_s,
                "limits": {"senders": 64, "payload": 64},
            },
            psk=chance.randbytes(32),
        )
        self._known = None  # what was noted last

    @property
    def psk(self):
        return bytes(self._config.psk)

    @property
    def ticks(self):
        return int((self._clock.now_ms + self._offset_ms) * self._rate) % _TICKS

    @property
    def is_member(self):
        return self.is_on and self.membership.state == MEMBER

    def start(self):
        """Switched on: nothing is remembered but what covey.json says."""
        self.life += 1
        self.seat = self._plant.new_seat()
        self.is_on = True
        self.since_ms = self.admitted_ms = None
        self.member = Member(payload_max=64, sender_slots=64, sender=self.is_sender)
        self.membership = Membership(self._config, self.member, self._random)
        self._known = None
        self.membership.start(self.ticks)
        self._alarm.set(self._clock.now_ms + self.slow_ms)

    def stop(self):
        """Pulled out of the wall."""
        self.is_on = self.is_listening = False
        self.since_ms = None
        self._alarm.clear()

    def leave(self):
        self.membership.leave(self.ticks)
        self._work()

    # What comes

    def take(self, datagram, message, packet):
        """From the group; message: the IKE message behind the marker, where it is one."""
        member, now = self.member, self.ticks
        n = len(datagram)
        member.rx[:n] = datagram
        said = member.receive(n, now)
        if said >= 0:
            number = int.from_bytes(member.rx[_PAYLOAD : _PAYLOAD + _NUMBER_LEN], "big")
            self._plant.checker.delivered(self, packet, number)
        elif said == IKE_MESSAGE:
            self.membership.multicast(message, now)
            keys = self.membership._keys
            while keys._candidates.is_new:
                keys._candidates.look(keys.is_busy)  # no time passes in between
            if keys.is_busy:  # else it was a repeat, or not for us
                self._alarm.set(self._clock.now_ms + self.slow_ms)
        else:
            self._plant.checker.refused(self, packet, said)
            if member.missed_rekey:
                self._alarm.set(self._clock.now_ms + 1)

    def take_unicast(self, data, life, host):
        if self.is_on and life == self.life:
            source = host, _SERVER["port"], _SERVER["marker"]
            self.membership.unicast(bytes(data), self.ticks, source)
            self._alarm.set(self._clock.now_ms + self.slow_ms)

    # What goes

    def send(self):
        """One packet to the group; False while it may not."""
        if not self.is_on:
            return False
        member = self.member
        packet = self._plant.checker.new_packet(self)
        member.out[:_NUMBER_LEN] = packet.number.to_bytes(_NUMBER_LEN, "big")
        n = member.send(_PAYLOAD_LEN, self.ticks)
        if n < 0:
            return False
        self._plant.checker.sealed(self, packet, member.keys.sending.context.keymat)
        self._plant.air.to_group(bytes(member.tx[:n]), packet, self.access_point)
        return True

    # Its own work

    def _work(self):
        if not self.is_on:
            return
        it = self.membership
        worked = it._group.rekey.worked
        while True:
            wait = it.step(self.ticks)
            self._say()
            if self.works_one_by_one and it._group.rekey.worked != worked:
                for look in range(3):  # between so many slices timers are looked at often
                    it._wait_of(look)
                wait = self.slow_ms
            if it.listening_changed:
                it.listening_changed = False
                self.is_listening = bool(it.listening())
            if wait:
                break
        self._note()
        if it.state == LEFT:
            self.stop()
        else:
            self._alarm.set(self._clock.now_ms + max(1, int(wait / self._rate)))

    def _say(self):
        while True:
            data, to = self.membership.outgoing()
            if data is None:
                return
            host = to[0] if isinstance(to, tuple) else to.host
            self._plant.air.to_station(self, bytes(data), host)

    def _note(self):
        """What the checker has to know of the step before."""
        it = self.membership
        for name, detail in it.events:
            self._plant.checker.told(self, name, detail)
        it.events.clear()
        if it.state != MEMBER:
            if self.since_ms is not None:
                self._plant.checker.fell_out(self)
            self.since_ms = None
        elif self.since_ms is None:
            self.since_ms = self._clock.now_ms
            self.since_epoch = it.epoch
        known = it.state, it.rekeys, it.epoch, self.member.keys.newest()
        if known != self._known:
            self._known = known
            self.knows.setdefault(it.epoch, self._clock.now_ms)
            self.told_atd_ms.setdefault(it.epoch, it._group.terms.atd_s * 1000)
            self._note_keys()
            self._plant.noted(self)

    def _note_keys(self):
        group = self.membership._group
        self.teks |= dict.fromkeys(sa.context.keymat for sa in self.member.keys.live())
        for sa in group.rekey.held:
            held = self.rekey_sas.setdefault(sa.spi, set())
            held.add((sa.context.keymat, bytes(sa.kwk)))
        for key_id, key in group.terms.key_path:
            self.kwks.setdefault(bytes(key_id), set()).add(bytes(key))


def look_every(ms):
    """How often a member looks at its timers where nothing comes; see README.md."""
    membership._IDLE_MS = ms
