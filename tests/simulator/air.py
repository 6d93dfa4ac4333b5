"""The network: access points with members behind them, and a wire between these and the server.

A datagram to the group reaches each access point after a delay of its own, perhaps twice, and
from there each member that is not deaf at that moment. So datagrams overtake each other. A cut
access point serves those behind it and nobody else.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """What an attacker takes away between the key server and one machine; data go on."""

    multicast: bool = True
    unicast: bool = True
    since_ms: int = 0  # what was said before it may still come


@dataclass(frozen=True)
class Weather:
    """What happens to datagrams. Loss and doubling are chances, delays milliseconds."""

    data_loss: float = 0.0  # of ESP packets to the group, at each member
    rekey_loss: float = 0.0  # of IKE messages to the group, at each member
    unicast_loss: float = 0.0  # of IKE messages to or from one member
    twice: float = 0.0  # arrives a second time
    delay_ms: tuple[int, int] = (1, 1)

    @property
    def loses_keys(self):
        return bool(self.rekey_loss or self.unicast_loss)


CLEAR = Weather()


class Air:
    """chance: random.Random. behind: by access point, the machines there."""

    def __init__(self, clock, chance, weather, access_points):
        self.weather = weather
        self.behind = [[] for _ in range(access_points)]
        self.cut = set()  # access points without a wire
        self.kept = {}  # machine → Kept: of what the key server says to it, by whoever can
        self._said_ms = {}  # IKE message to the group → when it was said first
        self.station = None  # whoever takes what is sent to the key server
        self.log = None  # called with every datagram to the group, as it leaves
        self._clock = clock
        self._chance = chance

    def place(self, machine):
        machine.access_point = self._chance.randrange(len(self.behind))
        self.behind[machine.access_point].append(machine)

    def remove(self, machine):
        self.behind[machine.access_point].remove(machine)

    def to_group(self, datagram, packet, origin):
        """packet: the checker's note of an ESP packet, None for an IKE message behind the marker.
        origin: an access point, None: the key server."""
        if self.log is not None:
            self.log(datagram, packet)
        self.spread(datagram, packet, origin)

    def spread(self, datagram, packet, origin):
        """The same again, by whoever has recorded it."""
        if packet is None:
            self._said_ms.setdefault(datagram, self._clock.now_ms)
        for point in range(len(self.behind)):
            if point != origin and (point in self.cut or origin in self.cut):
                continue
            for _ in range(self._copies()):
                self._clock.after(self._delay_ms(), self._arrive, point, datagram, packet)

    def to_station(self, machine, data, host):
        """host: which of the key servers that there are."""
        life = machine.life
        for _ in range(self._copies_by_wire(machine)):
            address = machine.place, life
            self._clock.after(self._delay_ms(), self.station.receive, data, address, host)

    def to_machine(self, machine, life, data, host):
        for _ in range(self._copies_by_wire(machine)):
            machine.reached_ms = self._clock.now_ms
            self._clock.after(self._delay_ms(), machine.take_unicast, data, life, host)

    def _arrive(self, point, datagram, packet):
        weather = self.weather
        loss = weather.rekey_loss if packet is None else weather.data_loss
        chance = self._chance.random
        message = datagram[4:] if packet is None else None  # behind the marker
        for machine in list(self.behind[point]):
            if machine.is_listening and not (loss and chance() < loss):
                if packet is None and not self._reaches(machine, self._said_ms[datagram]):
                    continue
                machine.take(datagram, message, packet)

    def _reaches(self, machine, said_ms):
        """Whether a message of the key server to the group, said then, gets through to it."""
        kept = self.kept.get(machine)
        if kept is not None and kept.multicast and said_ms >= kept.since_ms:
            return False
        machine.reached_ms = max(machine.reached_ms, said_ms)
        return True

    def _copies_by_wire(self, machine):
        if machine.access_point in self.cut:
            return 0
        if machine in self.kept and self.kept[machine].unicast:
            return 0
        if self.weather.unicast_loss and self._chance.random() < self.weather.unicast_loss:
            return 0
        return self._copies()

    def _copies(self):
        return 1 + (bool(self.weather.twice) and self._chance.random() < self.weather.twice)

    def _delay_ms(self):
        least, most = self.weather.delay_ms
        return least if least == most else self._chance.randint(least, most)
