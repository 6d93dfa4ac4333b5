"""Keys in work: what a registration, a GSA_REKEY or a GSA_INBAND_REKEY brought, in slices.

One job at a time, in the order in which things came. Whatever is wrong with it is found before
the first change to the group; what came of it is what step() returns.
"""

from covey import assignment
from covey.assignment import Assignment
from covey.candidates import Candidates
from covey.drops import (
    DROP_CAPACITY,
    DROP_KEY_PATH,
    DROP_KEY_PORTION,
    DROP_KEY_WRAP,
    DROP_POLICY,
    DROP_REKEY_BUSY,
    DROP_REKEY_MESSAGE_ID,
    DROP_REKEY_PORTION,
    FormatError,
    need,
)
from covey.job import tidied
from covey.octets import wipe
from covey.port import const, random_bytes

# What step() returns, beside None: nothing has come of it yet
IDLE = 1  # there is nothing to do
TAKEN = 2  # a registration's keys are installed: .made
REFUSED = 3  # they are not taken: .reason
FOLLOWED = 4  # a rekey, multicast or inband, is carried out: .made
MISSED = 5  # something genuine could not be used: ask the key server for what it brought
FLOODED = 6  # something genuine may have been lost among forgeries

# A board's AES fails where it finds no memory. A tuple could not be made just then.
_SHORT = (MemoryError, OSError)

# Drops of a rekey whose signature is good
_GENUINE = (DROP_CAPACITY, DROP_POLICY, DROP_KEY_WRAP, DROP_KEY_PATH)
_INBANDS = const(4)  # that wait


class KeyWork:
    """settings: config.Config; member and its group.Group, into which keys go."""

    reason = 0  # DROP_* of the registration or inband rekey that was refused last
    _has_looked = False  # whether the last slice was one of looking at what came

    def __init__(self, settings, member, group, random=random_bytes):
        # Whether rekeys are to find us with a Sender-ID: what was asked for by the registration
        # that was taken last.
        self.sends = settings.sender
        self.made = None  # the Assignment that was installed last
        self._settings = settings
        self._member = member
        self._drops = member.drops
        self._group = group
        self._now_ms = 0
        self._job = None  # generator in work
        self._is_registration = False  # what it works on
        self._waiting = []  # Assignments that wait for it, in order
        self._candidates = Candidates(group.rekey, member.drops, random)  # from the group

    @property
    def is_busy(self):
        """Whether keys are being verified or unwrapped, or wait for it."""
        return bool(self._job or self._waiting or self._group.rekey.waiting)

    @property
    def has_work(self):
        """Whether step() has something to do."""
        return self.is_busy or self._candidates.is_any or self._candidates.is_flooded

    @property
    def is_registering(self):
        """Whether keys of a registration are in work, or wait for it."""
        if self._job is not None and self._is_registration:
            return True
        return bool(self._waiting) and self._waiting[0].registering  # others are behind it

    def hear(self, data):
        """A message from the group, without marker: a GSA_REKEY, or a forgery.

        Key servers send two in a row, the second over the Rekey SA that the first one brings (RFC
        9838 section 3.2.1), and need not repeat them: while keys are in work, a few are kept.
        """
        self._candidates.hear(data, self.has_work)

    def take(self, ike, turns, goes_on=False):
        """The keys of a registration.Registration, in place of others that still wait.

        turns: Rekey.turns as they were asked for. goes_on: the server takes it that we have had
        its keys, and their windows, all along.
        """
        self.forget_waiting()
        it = Assignment(ike.gsa if ike.transport_mode else None, ike.kd, ike.kwk)
        it.registering, it.sends, it.turns, it.goes_on = True, ike.asked_to_send, turns, goes_on
        self._waiting.append(it)
        ike.gsa = ike.kd = ike.kwk = None  # they are ours now

    def take_inband(self, inband):
        """A requests.Inband, behind what came before it; it is ours now. False: too many wait."""
        if len(self._waiting) >= _INBANDS:
            wipe(inband.kwk)
            self._drops.count(DROP_REKEY_BUSY)
            return False
        made = Assignment(inband.policy, inband.keys, inband.kwk, inband.deletes)
        self._waiting.append(made)
        return True

    def step(self, now_ms):
        """One bounded slice; what has come of it."""
        self._now_ms = now_ms
        if self._candidates.is_flooded:
            self._candidates.settle()
            return FLOODED
        if self._candidates.is_new and not (self._has_looked and self.is_busy):
            self._has_looked = True  # while keys are in work, each second slice is theirs
            return self._candidates.look(self.is_busy)
        self._has_looked = False
        if self._job is None and not self._begin():
            return None if self.has_work else IDLE
        try:
            return next(self._job)
        except StopIteration:
            self._job = None
        except _SHORT:
            self._job = None
            self._drops.count(DROP_CAPACITY)
            return MISSED
        return None

    def _begin(self):
        """The next job, if there is one."""
        if self._waiting:
            made = self._waiting[0]
        elif self._group.rekey.waiting:
            made = Assignment()
            made.is_rekey = True
        else:
            self._candidates.look_again()
            return False
        self._job = self._carry_out(made)
        self._is_registration = made.registering
        if not made.is_rekey:
            self._waiting.pop(0)
        return True

    def forget_waiting(self):
        """Give up what is not in work yet."""
        while self._waiting:
            wipe(self._waiting.pop().kwk)

    def forget(self):
        """Give up what is in work, too. What is installed stays."""
        self.forget_waiting()
        self._candidates.stop()
        job, self._job = self._job, None
        if job is not None:
            try:
                job.close()
            except MemoryError:  # where it brings to its end what it had begun
                self._drops.count(DROP_CAPACITY)

    def wipe(self):
        self.forget()
        self._candidates.clear()

    # Jobs

    def _carry_out(self, made):
        """Job: an Assignment, from what came to what is installed."""
        group = self._group
        slots = self._member.sender_slots
        try:
            if not made.registering:
                made.sends = self.sends
            if made.is_rekey:
                yield from group.rekey.work(made, group.terms, slots)
            else:
                yield from assignment.build(made, group.terms, slots)
            yield from self._install(made)
        except FormatError as error:
            yield self._refused(made, self._drops.count(error.reason))
            return
        except _SHORT:
            if group.rekey.is_proven or not made.is_rekey:
                raise
            self._drops.count(DROP_CAPACITY)
            yield FLOODED  # anybody with the keys can make it up: asked no more often than so
            return
        finally:
            if not made.is_rekey:  # else it is the Rekey SA's
                wipe(made.kwk)
            group.give_up(made)
        if made.is_rekey:
            self._candidates.settle()
        if not made.registering:
            yield FOLLOWED
            return
        self.sends = made.sends
        made = None  # the table of a verifier is long in the making
        yield TAKEN
        if group.terms.verifier is not None:
            try:
                yield from tidied(group.terms.verifier.prepare())
            except MemoryError:  # verify() will make it
                self._drops.count(DROP_CAPACITY)

    def _refused(self, made, reason):
        """What comes of an Assignment that is not taken."""
        group = self._group
        if made.is_rekey:
            if reason == DROP_KEY_PATH:
                group.put_out(self._now_ms)
            elif reason == DROP_KEY_PORTION:
                self._member.missed_rekey = True  # ours was lost, and may come yet; or we are out
            if reason in _GENUINE:
                return MISSED
            is_old = group.rekey.is_proven and reason == DROP_REKEY_MESSAGE_ID
            if not is_old and reason != DROP_REKEY_PORTION:
                self._candidates.doubt()
            return None
        self.reason = reason
        # A rekey, or the clock, was faster than the answer: that is nobody's fault.
        is_missed = reason == DROP_REKEY_MESSAGE_ID
        if not made.registering:
            lacks_id = self.sends and not group.terms.sender_ids  # it comes by registering
            is_missed = lacks_id or reason == DROP_CAPACITY
        return MISSED if is_missed else REFUSED

    def _install(self, made):
        """Job: carry out an Assignment."""
        settings = self._settings
        terms = made.terms
        if not terms.udp_port and settings.carrier == "udp":
            terms.udp_port = settings.carrier_port
        changes = self._group.changes(made, self._now_ms)
        yield
        # Without markers data could not be told from an IKE message
        need(settings.has_markers or not terms.is_relayed, DROP_POLICY)
        try:
            for _ in changes:
                yield
        finally:  # forget() may come first: what has begun is brought to its end
            for _ in changes:  # not finish(): it would raise, perhaps while memory is out
                pass
        self.made = made
