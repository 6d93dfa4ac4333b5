"""A plant with several key servers over one store, each a process that can be killed, stopped, and
cut off from the store; and the history of all that they did.
"""

from covey_host.cluster.history import History, Removal
from covey_host.cluster.wire import Datagram
from covey_host.errors import Problem
from covey_host.gcks import authority, policy, sharedserver
from covey_host.gcks.epoch import decode_state
from covey_host.gcks.replica import Replica
from covey_host.store import WentBack, sqlite

from .clock import Alarm
from .evicted import Eviction
from .faulty import FaultyStore, Killed
from .plant import Plant

HOSTS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
_BASE_MS = 10_000_000
_AGAIN_MS = 200  # after a step that failed
_DEPTH = 3  # processes that stand still in the middle of a call of the next one
_TRIES = 3
_COMMAND_AGAIN_MS = 700
_NO_SERVER = "No key server answers."


class Machine:
    """Of a process: its clock, and the time of day, which nobody sets."""

    def __init__(self, process):
        self._process = process

    def id(self):
        return self._process.host

    def now_ms(self):
        return self._process.now_ms

    def day_ms(self):
        return self._process.now_ms


class Process:
    """One key server. kill() ends it; a new one on the same host takes its place."""

    def __init__(self, company, host):
        self.host = host
        self.is_up = True
        self._company = company
        self._clock = company.clock
        self._stills = 0  # how many reasons there are to stand still
        self._waiting = []  # datagrams that came meanwhile
        self._lag_ms = company.chance.randrange(100_000)
        self._alarm = Alarm(company.clock, self._step)
        self.store = FaultyStore(
            sqlite.open_existing(company.path),
            lambda: sqlite.open_existing(company.path),
            company.note,
            company.clock,
            company.chance,
            self._dwell,
        )
        random = company.chance.randbytes
        name = f"r{HOSTS.index(host)}"
        self.server = sharedserver.SharedKeyServer(
            self.store,
            company.policy,
            replica=name,
            random=random,
            time=lambda: 1_700_000_000 + company.clock.now_ms / 1000,
            boot=Machine(self),
            now=lambda: self.now_ms,
        )
        self.replica = Replica(self.store, self.server, dict, random)
        self.replica.start(self.now_ms)
        self._alarm.set(company.clock.now_ms)

    @property
    def now_ms(self):
        return _BASE_MS + self._clock.now_ms - self._lag_ms

    @property
    def is_there(self):
        """Whether it can be asked for something."""
        return self.is_up and not self._stills

    def kill(self):
        self.is_up = False
        self._alarm.clear()
        self.store.close()

    def stop(self):
        self._stills += 1

    def go_on(self):
        self._stills -= 1
        if self.is_there:
            waiting, self._waiting = self._waiting, []
            for data, address in waiting:
                self.receive(data, address)
            self._alarm.set(self._clock.now_ms)

    def receive(self, data, address):
        if not self.is_up:
            return
        if self._stills:
            self._waiting.append((data, address))
            return
        self._do(lambda: self.server.receive(data, address, self.now_ms))
        if self.is_up:
            self._alarm.set(self._clock.now_ms + 1)

    def command(self, work):
        """As `covey` here: work(server, now) as the holder. Problem where it fails."""
        for left in reversed(range(_TRIES)):
            self._say(self.replica.take(self.now_ms))
            try:
                self._say(work(self.server, self.now_ms))
                self._alarm.set(self._clock.now_ms + 1)
                return
            except sharedserver.Fenced:
                if not left:
                    raise

    def _dwell(self, ms):
        """Stand still in the middle of something, while the world goes on."""
        if self._company.depth == _DEPTH:
            return
        self._company.depth += 1
        self._stills += 1
        self._clock.run_until(self._clock.now_ms + ms)
        self._company.depth -= 1
        self._stills -= 1  # what waits comes when this call is over
        self._alarm.set(self._clock.now_ms + 1)

    def _step(self):
        if not self.is_there:
            return
        waiting, self._waiting = self._waiting, []
        for data, address in waiting:
            self.receive(data, address)
        waits = [_AGAIN_MS]

        def step(what):
            outs, wait_ms = what.step(self.now_ms)
            waits.append(wait_ms)
            return outs

        self._do(lambda: step(self.replica))
        self._do(lambda: step(self.server))
        if self.is_up:
            self._alarm.set(self._clock.now_ms + max(1, min(waits)))

    def _do(self, work):
        if not self.is_up:
            return
        try:
            self._say(work())
        except Killed:
            return
        except WentBack:
            self._company.lost.append(f"{self.host} found another store")
            self.kill()
        except Problem:  # told as trouble; it is tried again
            pass

    def _say(self, outs):
        if not self.is_up:
            raise Killed
        for out in outs:
            self._company.say(out, self.host)
        events = self.server.events
        while events:
            self._company.tell(*events.pop(0))


class Company:
    """In the place of a Station: what was said to one of its hosts is that process's."""

    def __init__(self, clock, air, chance, path, text):
        made = sqlite.create(path)
        authority.make_signing_key(made)
        made.close()
        self.path, self.clock, self.chance = path, clock, chance
        self.policy = policy.parse(text)
        (self.group_policy,) = self.policy.groups.values()
        self.history = History(self.group_policy.name)
        self.machines = []  # by place
        self.sent_hook = self.event_hook = None
        self.epochs = 0
        self.epoch_of = {}
        self.epoch = None  # the newest that was written, and
        self.outbox = ()
        self.depth = 0
        self.said = set()  # messages to the group that have left
        self.lost = []  # processes that ended by themselves
        self._air = air
        air.station = self
        self.processes = {host: Process(self, host) for host in HOSTS}

    @property
    def is_up(self):
        return any(process.is_up for process in self.processes.values())

    @property
    def holders(self):
        return [p for p in self.processes.values() if p.is_up and p.server.is_holder]

    def kill(self):
        for process in self.processes.values():
            if process.is_up:
                process.kill()

    def restart(self, host):
        """Where none runs."""
        if not self.processes[host].is_up:
            self.processes[host] = Process(self, host)

    def receive(self, data, address, host):
        self.processes[host].receive(data, address)

    def command(self, work):
        """At any that can be asked. Problem where it fails, Killed where that one dies."""
        there = [process for process in self.processes.values() if process.is_there]
        if not there:
            raise Problem(_NO_SERVER)
        self.chance.choice(there).command(work)

    def rekey(self):
        self.command(lambda server, now_ms: server.rekey(self.group_policy.name, now_ms))

    def add(self, name, is_sender, psk):
        def add(server, now_ms):
            server.add_member(name, [self.group_policy.name], sender=is_sender, psk=psk)
            return []

        self.command(add)

    def remove(self, name):
        """→ epoch from which on it is out, messages that say so and have not left."""
        try:
            self.command(lambda server, now_ms: server.remove_members([name], now_ms))
        except Problem as problem:
            if "has been removed already" not in problem.sentence:
                raise  # else an attempt before was done
        rows = self.history.rows
        self.history.removals.append(Removal(name, self.clock.now_ms / 1000, rows[-1].revision))
        key = f"group/{self.group_policy.name}/member/{name}"
        for row in reversed(rows):
            if row.key == key and row.value is None:
                state = [s for s in self.history.states() if s.revision <= row.revision][-1]
                said_by = state.outbox[-1:] if state.revision == row.revision else ()
                last = {message for parcel in said_by for message in parcel.messages}
                return state.epoch.number, last - self.said
        return self.epoch.number, set()

    def note(self, row):
        """Written."""
        self.history.rows.append(row)
        if row.key == f"group/{self.group_policy.name}/state" and row.value is not None:
            epoch, self.outbox = decode_state(row.value)
            self.epochs += self.epoch is None or self.epoch.number != epoch.number
            self.epoch = epoch
            self.epoch_of[epoch.tek_keymat] = epoch.number

    def say(self, out, host):
        if out.address is None:
            self._air.to_group((bytes(4) if out.marker else b"") + out.data, None, None)
            self.said.add(out.data)
            self.sent_hook(out.data)
        else:
            place, life = out.address
            self._air.to_machine(self.machines[place], life, out.data, host)

    def tell(self, name, facts):
        if self.event_hook:
            self.event_hook(name, facts)


class SharedPlant(Plant):
    hosts = HOSTS

    def _make_station(self, path):
        self.is_lossless = False
        return Company(self.clock, self.air, self.chance, path, self.setting.text)

    @property
    def history(self):
        return self.station.history

    def evict(self, machine):
        """Again until it is acknowledged: before that nobody knows."""
        machine.is_wanted = False
        self._try_evict(machine)

    def rekey(self):
        """Or not, if it fails."""
        try:
            self.station.rekey()
        except (Problem, Killed):
            pass

    def noted(self, machine):
        sa = machine.member.keys.newest()
        member = f"{machine.name}-{machine.life}"
        spi = bytes(sa.spi).hex() if sa else None
        at_s = self.clock.now_ms / 1000
        self.history.hold(at_s, member, spi, machine.membership.sender_id)

    def _try_evict(self, machine):
        try:
            epoch, last = self.station.remove(machine.name)
        except (Problem, Killed):
            self.clock.after(_COMMAND_AGAIN_MS, self._try_evict, machine)
            return
        machine.eviction = Eviction(machine.name, epoch, last, self.clock.now_ms)
        self._pending.append((machine, machine.eviction))
        if not last:
            self._sent(None)

    def _overheard(self, datagram, packet):
        super()._overheard(datagram, packet)
        source = ("server", 0) if packet is None else (packet.sender.name, packet.sender.life)
        to = self.station.group_policy.shape.address, 0
        self.history.wire.append(Datagram(self.clock.now_ms / 1000, source, to, datagram))
