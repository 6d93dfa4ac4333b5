"""Keys in work: what a registration or a GSA_REKEY brought, verified and unwrapped in slices.

One job at a time, in the order in which things came. Whatever is wrong with it is found before
the first change to the group; what came of it is what step() returns.
"""

from covey import assignment
from covey.drops import (
    DROP_CAPACITY,
    DROP_KEY_WRAP,
    DROP_POLICY,
    DROP_REKEY_BUSY,
    DROP_REKEY_MESSAGE_ID,
    DROP_REKEY_REPEAT,
    DROP_REKEY_SPI,
    FormatError,
)
from covey.octets import wipe
from covey.port import const

# What step() returns, beside None: nothing has come of it yet
IDLE = 1  # there is nothing to do
TAKEN = 2  # a registration's keys are installed: .made, .excluded
REFUSED = 3  # they are not taken: .reason
FOLLOWED = 4  # a GSA_REKEY is carried out: .made, .excluded
MISSED = 5  # something genuine could not be used: ask the key server for what it brought

_GENUINE = (DROP_CAPACITY, DROP_POLICY, DROP_KEY_WRAP)  # drops of a rekey whose signature is good
_TOO_EARLY = (DROP_REKEY_BUSY, DROP_REKEY_SPI)  # while keys are in work these may pass by
_LATER = const(2)


class KeyWork:
    """settings: config.Config; member and its group.Group, into which keys go."""

    def __init__(self, settings, member, group):
        self.made = None  # the Assignment that was installed last
        self.excluded = False  # whether it excludes us
        self.reason = 0  # DROP_* of the registration that was refused last
        self._settings = settings
        self._member = member
        self._group = group
        self._now_ms = 0
        self._job = None  # generator in work
        self._next_job = None  # keys of a registration that wait for it
        self._later = []  # messages from the group that came too early: see hear()

    @property
    def is_busy(self):
        """Whether keys are being verified or unwrapped, or wait for it."""
        return bool(self._job or self._next_job or self._group.rekey.is_waiting)

    @property
    def has_job(self):
        """The same without messages that nobody has looked into."""
        return self._job is not None or self._next_job is not None

    def hear(self, data):
        """A message from the group, without marker: a GSA_REKEY, or a forgery.

        Key servers send two in a row, the second over the Rekey SA that the first one brings (RFC
        9838 section 3.2.1), and need not repeat them: while keys are in work, a few are kept.
        """
        reason = self._group.rekey.begin(data)
        if reason in _TOO_EARLY and self.is_busy:
            if data in self._later:
                reason = DROP_REKEY_REPEAT
            elif len(self._later) < _LATER:
                self._later.append(data)
                return
        if reason:
            self._member.drops.count(reason)

    def take(self, ike):
        """The keys of a registration.Registration, in place of others that still wait."""
        self.forget_waiting()
        self._next_job = self._take_keys(ike, bytearray(ike.kwk))
        next(self._next_job)  # into its try: from now on it wipes the copy

    def step(self, now_ms):
        """One bounded slice; what has come of it."""
        self._now_ms = now_ms
        while self._later and not self.is_busy:
            self.hear(self._later.pop(0))
        if self._job is None:
            self._job, self._next_job = self._next_job, None
        if self._job is None and self._group.rekey.is_waiting:
            self._job = self._follow_rekey()
        if self._job is None:
            return IDLE
        try:
            return next(self._job)
        except StopIteration:
            self._job = None
        except MemoryError:
            self._job = None
            self._member.drops.count(DROP_CAPACITY)
            return MISSED
        return None

    def forget_waiting(self):
        """Give up the keys of a registration that are not in work yet."""
        if self._next_job is not None:
            self._next_job.close()  # what it holds is wiped on its way out
        self._next_job = None

    def wipe(self):
        self.forget_waiting()
        if self._job is not None:
            self._job.close()
        self._job = None
        self._later = []

    # Jobs

    def _take_keys(self, ike, kwk):
        """GSA and KD of a registration. kwk: a copy; the server may close the IKE SA meanwhile."""
        settings = self._settings
        group = self._group
        try:
            yield
            if not ike.transport_mode:
                raise FormatError(DROP_POLICY)
            made = yield from assignment.build(
                ike.gsa, ike.kd, kwk, group.terms, True, settings.sender, self._member.sender_slots
            )
            if not made.terms.udp_port and settings.carrier == "udp":
                made.terms.udp_port = settings.carrier_port
            self._install(made, True)
        except FormatError as error:
            self.reason = self._member.drops.count(error.reason)
            # A rekey was faster than the answer: that is nobody's fault.
            yield MISSED if error.reason == DROP_REKEY_MESSAGE_ID else REFUSED
            return
        finally:
            wipe(kwk)
        yield TAKEN
        if group.terms.verifier is not None:
            yield from group.terms.verifier.prepare()

    def _follow_rekey(self):
        group = self._group
        try:
            made = yield from group.rekey.work(
                group.terms, self._member.sender_slots, self._settings.sender
            )
            self._install(made, False)
        except FormatError as error:
            self._member.drops.count(error.reason)
            if error.reason in _GENUINE:
                yield MISSED
            return
        yield FOLLOWED

    def _install(self, made, registering):
        self.excluded = self._group.install(made, registering, self._now_ms)
        self.made = made
