"""What must hold whatever the network does. Everything that happens is told to a Checker.

evicted    no evicted member opens a packet that was sent after its eviction was done and ATD
injected   no member takes what the evicted inject once DTD is over; an outsider's never
healed     no member without the newest keys stays so
agreed     after quiet time all have the key server's epoch
once       nothing is delivered twice
fresh      with fresh_join a member gets nothing that was sent before it was let in
nonces     no (key, nonce) pair is sealed under twice
rollover   on a network that loses no IKE message, nothing that arrives is lost by a rekey
silent     with a max_silence: a member that no new message of the key server can have reached for
           so long confirms nothing, and delivers nothing where policy says so
storm      for a rekey that it missed a member registers once (asked by loss.py)
"""

from collections import Counter
from hashlib import sha256

from covey.drops import names
from covey.membership import NAMES

from .evicted import Coalition

_DROPS = names()
_MOST_TOLD = 20
# Who heals by registering between the two messages of an eviction is told DTD from the second one
# on, in whole seconds.
_LATE_MS = 2000
_AWAY_MS = 40_000  # an IKE SA that died is given up so late, and another one made


class Broken(AssertionError):
    """An invariant does not hold. .invariants: which."""

    def __init__(self, seed, failures):
        self.invariants = sorted({name for name, _ in failures})
        lines = "\n".join(f"  {name}: {what}" for name, what in failures[:_MOST_TOLD])
        super().__init__(f"seed {seed}:\n{lines}")


class Packet:
    """One ESP packet of the plant."""

    is_injected = False
    __slots__ = ("key", "key_epoch", "number", "seal_ms", "seen", "sender")

    def __init__(self, number, sender):
        self.number = number
        self.sender = sender
        self.seal_ms = 0
        self.key = None  # TEK, and
        self.key_epoch = 0  # its epoch
        self.seen = 0  # a bit for each seat that it was delivered to


class Checker:
    """plant: whose clock, members and key server these are."""

    def __init__(self, plant):
        self.failures = []
        self.counts = Counter()
        self.drops = Counter()
        self.packets = []
        self.registrations = []  # (ms, member)
        self.longest_behind_ms = 0
        self._plant = plant
        self._first_ms = {}  # TEK → when it was sealed under first
        self._trace = sha256()

    @property
    def digest(self):
        """Of all that has happened: the same for the same seed."""
        return self._trace.hexdigest()

    def fail(self, invariant, what):
        self.failures.append((invariant, f"at {self._plant.clock.now_ms} ms {what}"))

    def close(self):
        """Raises Broken where something did not hold."""
        if self.failures:
            raise Broken(self._plant.seed, self.failures)

    # What is told

    def trace(self, *what):
        self._trace.update(f"{self._plant.clock.now_ms} {what}\n".encode())

    def told(self, machine, name, detail):
        """An event of a member."""
        self.counts[name] += 1
        self.trace(machine.name, name)

    def server_told(self, name, facts):
        self.counts["server " + name] += 1
        if name == "registered":
            self.registrations.append((self._plant.clock.now_ms, facts["member"]))
            self._plant.admitted(facts["member"])
        self.trace(name, facts.get("member"), facts.get("epoch"))

    def repeated(self, keymat, nonce):
        self.fail("nonces", f"nonce {nonce.hex()} comes again under one key")

    def new_packet(self, machine):
        return Packet(len(self.packets), machine)

    def sealed(self, machine, packet, key):
        packet.seal_ms = self._plant.clock.now_ms
        packet.key = key
        self._first_ms.setdefault(key, packet.seal_ms)
        packet.key_epoch = self._plant.station.epoch_of.get(key, 0)
        self.packets.append(packet)
        if machine.eviction is None:
            known = self._plant.coalition.teks.get(key)
            if known is not None and self._is_too_late(packet, known):
                self.fail(
                    "evicted",
                    f"{machine.name} seals packet {packet.number} under a key that {known.name},"
                    f" out since {known.done_ms} ms, has or can work out",
                )

    def delivered(self, machine, packet, number):
        if packet.is_injected:
            self._took(machine, packet)
            return
        seat = 1 << machine.seat
        self.counts["delivered"] += 1
        if number != packet.number:
            self.fail("once", f"{machine.name} got another payload than was sent")
        if packet.seen & seat:
            self.fail("once", f"{machine.name} got packet {number} twice")
        packet.seen |= seat
        if packet.seal_ms < (machine.admitted_ms or 0):
            self.counts["sent before it registered"] += 1
            if self._plant.has_fresh_join:
                self.fail("fresh", f"{machine.name} got packet {packet.number}, which is older")
        if machine.member.may_confirm and self._plant.is_too_silent_for(machine):
            self.fail("silent", f"{machine.name} would confirm packet {number}")
        if self._plant.stops_in_silence and self._plant.is_too_silent_for(machine):
            self.fail("silent", f"{machine.name} took packet {number}")
        eviction = machine.eviction
        if eviction and packet.sender.eviction is None and self._is_too_late(packet, eviction):
            self.fail("evicted", f"{machine.name}, evicted, opened packet {number}")

    def refused(self, machine, packet, reason):
        self.drops[_DROPS[reason]] += 1
        if packet.is_injected:
            self.counts["injected and refused"] += 1
            return
        if machine is packet.sender or packet.seen & 1 << machine.seat:
            return
        if not self._plant.is_lossless or machine.eviction or packet.sender.eviction:
            return
        if not machine.is_member or machine.since_ms is None:
            return
        if machine.since_ms < packet.seal_ms and machine.since_epoch <= packet.key_epoch:
            self.fail(
                "rollover",
                f"{machine.name} lost packet {packet.number} of {packet.sender.name}:"
                f" {_DROPS[reason]}",
            )

    def _took(self, machine, packet):
        """What somebody injected who is out, or has never been in."""
        self.counts["injected and taken"] += 1
        plant, eviction = self._plant, packet.eviction
        if eviction is None:
            self.fail("injected", f"{machine.name} took an outsider's packet")
            return
        key_epoch = plant.station.epoch_of.get(packet.key, 0)
        until_ms = self._knows_ms(machine, eviction, key_epoch) + plant.evict_dtd_ms
        if not plant.is_lossless:
            until_ms += _LATE_MS
        if machine.eviction is None and plant.clock.now_ms > until_ms + plant.grace_ms:
            self.fail(
                "injected",
                f"{machine.name} took what {eviction.name}, out since {eviction.done_ms} ms, sent",
            )

    def fell_out(self, machine):
        """A member has lost its keys."""
        plant = self._plant
        if machine.is_wanted and plant.is_lossless and not plant.station.epoch.era:
            self.fail("rollover", f"{machine.name} has to register again")

    def _is_too_late(self, packet, eviction):
        """Whether somebody who is out by this eviction must not read this packet.

        Of a network that loses nothing this is meant as it stands. Else a sender may have missed
        every repeat, or be cut off: it stops ATD after it has come to know, at the latest when its
        keys end. ATD is as it was told: if it registered, what was left of it in whole seconds.
        """
        if eviction.done_ms is None:
            return False
        plant = self._plant
        until_ms = self._knows_ms(packet.sender, eviction, packet.key_epoch)
        atd_ms = plant.evict_atd_ms
        if not plant.is_lossless:
            told = packet.sender.told_atd_ms.items()
            atd_ms = max([atd_ms, *(ms for n, ms in told if n >= eviction.epoch)])
        return packet.seal_ms > until_ms + atd_ms + plant.grace_ms

    def _knows_ms(self, machine, eviction, key_epoch):
        """When a member came to know of an eviction, or its keys ended that the evicted have.

        These live from when it heard of them: that may be from one who holds rekeys back.
        """
        if self._plant.is_lossless:
            return eviction.done_ms
        knows = [ms for n, ms in machine.knows.items() if n >= eviction.epoch]
        has_ms = max(eviction.done_ms, machine.knows.get(key_epoch, 0))
        return max(eviction.done_ms, min([*knows, has_ms + self._plant.lifetime_ms]))

    # What is looked at now and then

    def sweep(self):
        """Who is behind, and whether for too long."""
        plant = self._plant
        now_ms, newest = plant.clock.now_ms, plant.station.epoch.number
        for machine in plant.machines:
            if not machine.is_wanted or machine.access_point in plant.air.cut:
                machine.behind_ms = None
            elif machine.is_member and machine.membership.epoch >= newest:
                machine.behind_ms = None
            elif machine.behind_ms is None:
                machine.behind_ms = now_ms
            else:
                behind_ms = now_ms - max(machine.behind_ms, plant.outage_ms)
                self.longest_behind_ms = max(self.longest_behind_ms, behind_ms)
                if behind_ms > plant.lifetime_ms + _AWAY_MS:
                    self.fail("healed", f"{machine.name} is without keys for {behind_ms} ms")
                    machine.behind_ms = None

    def agree(self):
        """After quiet time."""
        plant = self._plant
        epoch = plant.station.epoch
        for machine in plant.machines:
            if not machine.is_wanted:
                continue
            if not machine.is_member:
                state = NAMES[machine.membership.state]
                self.fail("healed", f"{machine.name} has no keys: it is {state}")
                continue
            known = machine.membership.epoch
            if known != epoch.number:
                self.fail(
                    "agreed",
                    f"{machine.name} is in epoch {known}, the key server in {epoch.number}",
                )
            if machine.membership.is_silent:
                self.fail("silent", f"{machine.name} doesn't come back")
            if machine.member.keys.find(epoch.tek_spi, 0) is None:
                self.fail("healed", f"{machine.name} lacks the newest TEK")

    def look_back(self, machine):
        """A newcomer tries its keys on all that went to the group before it came."""
        past = Coalition()
        past.records = self._plant.coalition.records
        past.join(machine, None)
        for tek in past.teks:
            if self._first_ms.get(tek, machine.admitted_ms) < machine.admitted_ms:
                epoch = self._plant.station.epoch_of.get(tek)
                self.fail("backward", f"{machine.name} reads epoch {epoch}, before its time")

    def all_heard(self, packets):
        """Each of these was delivered to all who are to be members, but their senders."""
        for packet in packets:
            for machine in self._plant.machines:
                if machine.is_wanted and machine is not packet.sender:
                    if not packet.seen >> machine.seat & 1:
                        self.fail("rollover", f"{machine.name} lacks packet {packet.number}")
