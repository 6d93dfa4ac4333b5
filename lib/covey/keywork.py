"""Keys in work: what a registration, a GSA_REKEY or a GSA_INBAND_REKEY brought, in slices.

One job at a time, in the order in which things came. Whatever is wrong with it is found before
the first change to the group; what came of it is what step() returns.
"""

from covey import assignment
from covey.drops import (
    DROP_CAPACITY,
    DROP_KEY_PATH,
    DROP_KEY_PORTION,
    DROP_KEY_WRAP,
    DROP_POLICY,
    DROP_REKEY_BUSY,
    DROP_REKEY_MESSAGE_ID,
    DROP_REKEY_REPEAT,
    DROP_REKEY_SPI,
    FormatError,
)
from covey.iana import SKF
from covey.job import tidied
from covey.octets import wipe
from covey.port import const

# What step() returns, beside None: nothing has come of it yet
IDLE = 1  # there is nothing to do
TAKEN = 2  # a registration's keys are installed: .made, .excluded
REFUSED = 3  # they are not taken: .reason
FOLLOWED = 4  # a rekey, multicast or inband, is carried out: .made, .excluded
MISSED = 5  # something genuine could not be used: ask the key server for what it brought

# A board's AES fails where it finds no memory. A tuple could not be made just then.
_SHORT = (MemoryError, OSError)

# Drops of a rekey whose signature is good
_GENUINE = (DROP_CAPACITY, DROP_POLICY, DROP_KEY_WRAP, DROP_KEY_PATH)
_TOO_EARLY = (DROP_REKEY_BUSY, DROP_REKEY_SPI)  # while keys are in work these may pass by
_LATER = const(2)  # messages that are kept meanwhile, and
_LATER_LEN = const(4096)  # octets of fragments, however many
_INBANDS = const(4)  # that wait


class KeyWork:
    """settings: config.Config; member and its group.Group, into which keys go."""

    reason = 0  # DROP_* of the registration or inband rekey that was refused last

    def __init__(self, settings, member, group):
        self.made = None  # the Assignment that was installed last
        self.excluded = False  # whether it excludes us
        self._settings = settings
        self._member = member
        self._group = group
        self._now_ms = 0
        self._job = None  # generator in work
        self._is_registration = False  # what it works on
        self._waiting = []  # (is it of a registration, generator) that wait for it, in order
        self._later = []  # messages from the group that came too early: see hear()

    @property
    def is_busy(self):
        """Whether keys are being verified or unwrapped, or wait for it."""
        return bool(self._job or self._waiting or self._group.rekey.is_waiting)

    @property
    def has_work(self):
        """Whether step() has something to do."""
        return self.is_busy or bool(self._later)

    @property
    def is_registering(self):
        """Whether keys of a registration are in work, or wait for it."""
        if self._job is not None and self._is_registration:
            return True
        return any([is_registration for is_registration, _ in self._waiting])

    def hear(self, data):
        """A message from the group, without marker: a GSA_REKEY, or a forgery.

        Key servers send two in a row, the second over the Rekey SA that the first one brings (RFC
        9838 section 3.2.1), and need not repeat them: while keys are in work, a few are kept.
        """
        try:
            reason = self._group.rekey.begin(data)
            if reason in _TOO_EARLY and self.is_busy:
                if data in self._later:
                    reason = DROP_REKEY_REPEAT
                elif self._has_room(data):
                    self._later.append(data)
                    return
        except MemoryError:
            reason = DROP_CAPACITY
        if reason:
            self._member.drops.count(reason)

    def _has_room(self, data):
        """Whether a message that came too early can be kept."""
        if len(self._later) < _LATER:
            return True
        octets = len(data)
        for other in self._later:
            octets += len(other)
        return data[16] == SKF and octets <= _LATER_LEN

    def take(self, ike):
        """The keys of a registration.Registration, in place of others that still wait."""
        self.forget_waiting()
        policy = ike.gsa if ike.transport_mode else None
        self._wait(True, self._take_keys(policy, ike.kd, ike.kwk))
        ike.gsa = ike.kd = ike.kwk = None  # they are ours now

    def take_inband(self, inband):
        """A requests.Inband, behind what came before it; it is ours now. False: too many wait."""
        if len(self._waiting) >= _INBANDS:
            wipe(inband.kwk)
            self._member.drops.count(DROP_REKEY_BUSY)
            return False
        self._wait(False, self._follow_inband(inband))
        return True

    def _wait(self, is_registration, job):
        next(job)  # into its try: from now on it wipes the KWK
        self._waiting.append((is_registration, job))

    def step(self, now_ms):
        """One bounded slice; what has come of it."""
        self._now_ms = now_ms
        if self._job is None and not self._begin():
            return None if self.has_work else IDLE
        try:
            return next(self._job)
        except StopIteration:
            self._job = None
        except _SHORT:
            self._job = None
            self._member.drops.count(DROP_CAPACITY)
            return MISSED
        return None

    def _begin(self):
        """The next job, if there is one. What came too early is opened first, one to a slice."""
        if self._later and not self.is_busy:
            self.hear(self._later.pop(0))
        elif self._waiting:
            self._is_registration, self._job = self._waiting.pop(0)
        elif self._group.rekey.is_waiting:
            self._is_registration, self._job = False, self._follow_rekey()
        return self._job is not None

    def forget_waiting(self):
        """Give up what is not in work yet."""
        while self._waiting:
            self._waiting.pop()[1].close()  # what it holds is wiped on its way out

    def forget(self):
        """Give up what is in work, too. What is installed stays."""
        self.forget_waiting()
        job, self._job = self._job, None
        if job is not None:
            try:
                job.close()
            except MemoryError:  # where it brings to its end what it had begun
                self._member.drops.count(DROP_CAPACITY)

    def wipe(self):
        self.forget()
        self._later = []

    # Jobs

    def _take_keys(self, policy, keys, kwk):
        """GSA (None: not for transport mode) and KD of a registration, and its KWK."""
        settings = self._settings
        group = self._group
        try:
            yield
            if policy is None:
                raise FormatError(DROP_POLICY)
            made = yield from assignment.build(
                policy, keys, kwk, group.terms, True, settings.sender, self._member.sender_slots
            )
            policy = keys = None  # the table of a verifier is long in the making
            if not made.terms.udp_port and settings.carrier == "udp":
                made.terms.udp_port = settings.carrier_port
            yield from self._install(made, True)
        except FormatError as error:
            self.reason = self._member.drops.count(error.reason)
            # A rekey was faster than the answer: that is nobody's fault.
            yield MISSED if error.reason == DROP_REKEY_MESSAGE_ID else REFUSED
            return
        finally:
            wipe(kwk)
        made = None
        yield TAKEN
        if group.terms.verifier is not None:
            try:
                yield from tidied(group.terms.verifier.prepare())
            except MemoryError:  # verify() will make it
                self._member.drops.count(DROP_CAPACITY)

    def _follow_inband(self, inband):
        """GSA, KD and Deletes that came over the IKE SA, where they are acknowledged already."""
        settings = self._settings
        group = self._group
        try:
            yield
            if inband.policy is None:
                made = assignment.nothing_new(group.terms)
            else:
                made = yield from assignment.build(
                    inband.policy,
                    inband.keys,
                    inband.kwk,
                    group.terms,
                    False,
                    settings.sender,
                    self._member.sender_slots,
                    is_inband=True,
                )
            made.deletes = inband.deletes
            yield from self._install(made, False)
        except FormatError as error:
            self.reason = self._member.drops.count(error.reason)
            lacks_id = settings.sender and not group.terms.sender_ids  # it comes by registering
            yield MISSED if lacks_id or error.reason == DROP_CAPACITY else REFUSED
            return
        finally:
            wipe(inband.kwk)
        yield FOLLOWED

    def _follow_rekey(self):
        group = self._group
        try:
            made = yield from group.rekey.work(
                group.terms, self._member.sender_slots, self._settings.sender
            )
            yield from self._install(made, False)
        except FormatError as error:
            self._member.drops.count(error.reason)
            if error.reason == DROP_KEY_PATH:
                group.put_out(self._now_ms)
            elif error.reason == DROP_KEY_PORTION:
                self._member.missed_rekey = True  # ours was lost, and may come yet; or we are out
            if error.reason in _GENUINE:
                yield MISSED
            return
        yield FOLLOWED

    def _install(self, made, registering):
        """Job: what packets see of it, then the rest. What can't be installed is wiped."""
        group = self._group
        try:
            yield
            old = group.take(made, registering, self._now_ms)
            try:
                try:
                    yield
                finally:  # forget() may come first: then, too
                    group.settle(made, registering, self._now_ms)
                yield
            finally:
                self.excluded = group.delete(made, old, self._now_ms)
                self.made = made
            yield
        finally:
            group.give_up(made)
