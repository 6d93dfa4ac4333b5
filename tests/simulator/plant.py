"""A plant: a key server, machines, the network between them, whoever was thrown out, a checker."""

import random
import shutil
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from covey import membership

from . import machine as machines
from .air import CLEAR, Air, Weather
from .checker import Checker
from .clock import Clock
from .evicted import Coalition, Eviction, Injected
from .machine import Machine
from .station import HOST, Station
from .swift import Swift

_MEMORY = Path("/dev/shm")  # where a sync of the store costs nothing
_KEYS = 3  # under which the evicted inject
_AHEAD = 1000  # beyond every window
_RECENT = 100  # datagrams that are said again
_IDENTITY = "gcks.example"
_GROUP = "line1"


@dataclass(frozen=True)
class Setting:
    """Durations of the policy in seconds; slow_ms: least and most of a machine's crypto."""

    members: int = 1000
    lifetime_s: int = 60
    atd_s: int = 1
    dtd_s: int = 3
    spread_s: int = 2
    repeats: int = 2
    repeat_spacing_ms: int = 700
    key_tree: int = 4  # 0: an eviction sends everybody away
    access_points: int = 12
    slow_ms: tuple[int, int] = (5, 300)
    look_ms: int = 5000  # how often a member looks at its timers
    most_members: int = 100_000  # that the key server takes
    more: str = "fresh_join = false\n"  # lines of the group's table
    site: str = ""  # lines before it

    @property
    def text(self):
        """covey.toml"""
        tree = f"key_tree = {self.key_tree}\n"
        delays = f'evict_atd = "{self.atd_s}s"\nevict_dtd = "{self.dtd_s}s"\n'
        return (
            f'identity = "{_IDENTITY}"\n{self.site}'
            f'[group.{_GROUP}]\naddress = "239.192.1.32"\nport = 2222\n'
            f'lifetime = "{self.lifetime_s}s"\nrekey_lifetime = "{4 * self.lifetime_s}s"\n'
            f'atd = "{self.atd_s}s"\ndtd = "{self.dtd_s}s"\n'
            f'repeats = {self.repeats}\nrepeat_spacing = "{self.repeat_spacing_ms}ms"\n'
            f'rejoin_spread = "{self.spread_s}s"\nmembers = {self.most_members}\n'
            f"{tree}{delays}{self.more}"
        )


class Plant:
    """A context manager: nothing of it is left behind."""

    identity = _IDENTITY
    group = _GROUP
    hosts = (HOST,)  # of key servers

    def __init__(self, seed, setting=None, weather=CLEAR):
        self.seed = seed
        self.setting = setting or Setting()
        self.chance = random.Random(f"covey {seed}")
        self.clock = Clock()
        self.machines = []
        self.coalition = Coalition()
        self.checker = Checker(self)
        self.swift = Swift(self.checker.repeated)
        self.air = Air(self.clock, self.chance, weather, self.setting.access_points)
        self.air.log = self._overheard
        self.recent = deque(maxlen=_RECENT)  # (ESP datagram, the checker's note of it)
        self.is_lossless = not weather.loses_keys  # and has been so all the time
        self.outage_ms = 0  # when the key server came back last, or a cut was mended
        self._seats = 0
        self._pending = []  # evictions that are not done

    def __enter__(self):
        where = _MEMORY if _MEMORY.is_dir() else None
        self._folder = Path(tempfile.mkdtemp(prefix="covey-plant-", dir=where))
        self._look_ms = membership._IDLE_MS
        machines.look_every(self.setting.look_ms)
        self.swift.__enter__()
        try:
            setting = self.setting
            self.station = self._make_station(self._folder / "state.db")
            self.station.machines = self.machines
            self.station.sent_hook = self._sent
            self.station.event_hook = self.checker.server_told
            for number in range(setting.members):
                slow_ms = self.chance.randint(*setting.slow_ms)
                name = f"m{number}"
                machine = Machine(self, number, name, False, slow_ms, setting.spread_s)
                self.machines.append(machine)
        except BaseException:  # then nobody calls __exit__
            self.swift.__exit__()
            machines.look_every(self._look_ms)
            raise
        return self

    def __exit__(self, *_):
        self.swift.__exit__()
        machines.look_every(self._look_ms)
        if self.station.is_up:
            self.station.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_station(self, path):
        return Station(self.clock, self.air, self.chance, path, self.setting.text)

    # What the checker has to know

    @property
    def lifetime_ms(self):
        return self.setting.lifetime_s * 1000

    @property
    def evict_atd_ms(self):
        return self.setting.atd_s * 1000

    @property
    def evict_dtd_ms(self):
        """Where all register again ATD is longer by the time they have for it, and DTD by as
        much: which a member goes by in the next eviction, too, unless it followed a rekey."""
        spread_s = 0 if self.setting.key_tree else self.setting.spread_s
        return (self.setting.dtd_s + spread_s) * 1000

    @property
    def grace_ms(self):
        """From a message of the key server to the moment in which a sender has understood it."""
        return self.air.weather.delay_ms[1] + self.setting.slow_ms[1]

    @property
    def has_fresh_join(self):
        return getattr(self.station.group_policy, "fresh_join", False)

    @property
    def has_backward_secrecy(self):
        return getattr(self.station.group_policy, "backward_secrecy", False)

    @property
    def stops_in_silence(self):
        return self.station.group_policy.on_silence == "stop"

    def is_too_silent_for(self, machine):
        """Whether nothing that the key server said within max_silence can have reached it."""
        most_s = self.station.group_policy.max_silence_s
        if not most_s:
            return False
        silent_ms = self.clock.now_ms - machine.reached_ms
        return silent_ms > most_s * 1000 + self.setting.look_ms + self.grace_ms + 100

    def admitted(self, name):
        """The key server has registered this member."""
        machine = self.machines[int(name[1:])]
        if machine.admitted_ms is None:
            machine.admitted_ms = self.clock.now_ms

    def noted(self, machine):
        """It has other keys, or is something else."""

    def new_seat(self):
        self._seats += 1
        return self._seats - 1

    # What a person does

    def wait(self, ms):
        self.clock.run_until(self.clock.now_ms + ms)

    def install(self, machine, is_sender=False):
        """`covey member add`, and a board is put up."""
        machine.is_sender = machine._config.sender = is_sender
        self.station.add(machine.name, is_sender, machine.psk)
        self.air.place(machine)

    def switch_on(self, machine):
        machine.is_wanted = True
        machine.behind_ms = None
        machine.start()

    def leave(self, machine):
        """It goes by itself, and may come back."""
        machine.is_wanted = False
        machine.leave()

    def reboot(self, machine):
        machine.stop()
        machine.behind_ms = None
        self.clock.after(500, self._boot, machine)

    def evict(self, machine):
        """`covey member remove`. The machine itself doesn't go away."""
        machine.is_wanted = False
        epoch, last, outs = self.station.remove(machine.name)
        now_ms = self.clock.now_ms
        machine.eviction = Eviction(machine.name, epoch, last, now_ms)
        self._pending.append((machine, machine.eviction))
        self.station.say(outs)
        if not last:
            self._sent(None)

    def replay(self, count):
        """Somebody on the network says again what it has recorded."""
        for _ in range(min(count, len(self.recent))):
            self.air.spread(*self.chance.choice(self.recent), None)
        records = self.coalition.records
        if records:
            self.air.spread(bytes(4) + self.chance.choice(records[-_RECENT:]), None, None)

    def inject(self):
        """The evicted send under the latest keys that they have, and an outsider without any: a
        packet that was heard, with a number that is yet to come."""
        for datagram, packet in self.coalition.forge(_KEYS):
            self.air.spread(datagram, packet, None)
        if self.recent:
            heard = self.recent[-1][0]
            ahead = (int.from_bytes(heard[4:8]) + _AHEAD).to_bytes(4)
            made = heard[:4] + ahead + heard[8:12] + ahead + heard[16:]
            self.air.spread(made, Injected(), None)

    def cut(self, point):
        self.is_lossless = False
        self.air.cut.add(point)

    def mend(self, point):
        self.air.cut.discard(point)
        self.outage_ms = self.clock.now_ms

    def kill_server(self):
        self.is_lossless = False
        self.station.kill()

    def start_server(self):
        self.station.start()
        self.outage_ms = self.clock.now_ms

    def clear_up(self):
        """From now on the network is a good one."""
        self.air.weather = Weather(delay_ms=(1, 5))
        self.air.cut.clear()

    # Inside

    def _overheard(self, datagram, packet):
        self.coalition.hear(datagram, packet)
        if packet is not None:
            self.recent.append((datagram, packet))

    def _boot(self, machine):
        if machine.is_wanted and not machine.is_on:
            machine.start()

    def _sent(self, data):
        """A message of the key server to the group has left."""
        for pending in list(self._pending):
            machine, eviction = pending
            eviction.last.discard(data)
            if not eviction.last:
                eviction.done_ms = self.clock.now_ms
                self._pending.remove(pending)
                self.coalition.join(machine, eviction)
