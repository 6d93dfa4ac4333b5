"""The rekey of the IKE SA by us, by the server, or by both at once: RFC 7296 sections 2.8, 2.25.

New IKE SAs are worked out in slices, beside everything else; what is made is put in the place of
the old one when neither side is at it any more.
"""

from covey import ike
from covey.answering import reply
from covey.drops import DROP_CAPACITY, FormatError
from covey.ikerekey import Answering, Opening, Refused
from covey.port import const
from covey.requests import Judged, malformed

_MOST_SAS = const(3)  # at once: the old one, and two that replace it when both sides rekey
_OLD_S = const(30)  # a replaced IKE SA goes then, if the server has not deleted it
_SOON_S = const(10)  # after TEMPORARY_FAILURE, and up to as much again by chance


class _Swap:
    """The rekey of one IKE SA."""

    def __init__(self, sa):
        self.sa = sa
        self.ours = None  # Opening, until it is made or given up
        self.is_sent = False  # whether ours is out, or was, and
        self.is_answered = False  # whether the server has answered it
        self.theirs = None  # Answering, until it is made
        self.source = None  # where the answer to it goes
        self.our_sa = self.their_sa = None  # what was made, and
        self.our_nonce = self.their_nonce = None  # the lower of its nonces

    def wipe(self):
        for one in (self.ours, self.theirs):
            if one is not None:
                one.wipe()
        self.ours = self.theirs = None


class Renewal:
    """unicast: the Unicast whose IKE SAs are renewed; random: see Registration; drops: counted."""

    def __init__(self, unicast, random, drops):
        self._unicast = unicast
        self._random = random
        self._drops = drops
        self._swap = None  # one IKE SA at a time

    def work(self):
        """One slice of the first job."""
        jobs = self._unicast.jobs
        job = jobs.pop(0)  # so that nobody closes it while it runs
        try:
            next(job)
            jobs.insert(0, job)
        except StopIteration:
            pass
        except MemoryError:
            self._drops.count(DROP_CAPACITY)
            self.forget()
            self._unicast.renew_in(_SOON_S)

    def begin_ours(self):
        """The keys are old."""
        if self._swap is not None:
            self._unicast.renew_in(_SOON_S)  # unless what is in work comes to something
        elif not self._unicast.is_closing:
            swap = _Swap(self._unicast.sas[0])
            swap.ours = Opening(swap.sa, self._random)
            self._unicast.jobs.append(swap.ours.ready())
            self._swap = swap

    def request_over(self, sa):
        """Payloads of our CREATE_CHILD_SA that is to leave over this SA now, or None."""
        swap = self._swap
        if swap is None or swap.sa is not sa or swap.ours is None or swap.is_sent:
            return None
        return swap.ours.payloads

    def sent(self):
        """It has left."""
        self._swap.is_sent = True

    def take_answer(self, payloads, error):
        """The answer to it; payloads None: it does not parse."""
        swap = self._swap
        if swap is None or swap.ours is None or not swap.is_sent:
            return
        if payloads is not None and error is None:
            swap.is_answered = True
            self._unicast.jobs.append(self._finish_ours(swap, payloads))
            return
        if error == ike.TEMPORARY_FAILURE:
            chance = int.from_bytes(self._random(2), "big") % (_SOON_S * 1000 + 1)
            self._unicast.renew_in(_SOON_S, chance)
        self._give_up_ours(swap)  # else: what can't be rekeyed lives until its end

    def begin_theirs(self, sa, payloads, source):
        """The server rekeys the IKE SA → Judged, if that can be answered at once."""
        swap = self._swap
        if swap is not None and swap.sa is sa and swap.ours is not None and not swap.is_sent:
            self.forget()  # nobody has heard of ours yet
            self._unicast.renew_in(_SOON_S)  # unless theirs comes to something
            swap = None
        unicast = self._unicast
        is_over = swap is not None and swap.sa is not sa
        if is_over or unicast.is_closing or sa is not unicast.sas[0] or sa.is_to_delete:
            return _refusal(ike.TEMPORARY_FAILURE)
        try:
            theirs = Answering(sa, payloads, self._random)
        except Refused as refused:
            return _refusal(refused.type, refused.data)
        except FormatError as error:
            return malformed(error.reason)
        if swap is None:
            swap = self._swap = _Swap(sa)
        swap.theirs = theirs
        swap.source = source
        unicast.jobs.append(self._answer_theirs(swap))
        return None

    def dropped(self, sa):
        """An IKE SA has gone, others are there: what was made of it already goes on."""
        swap = self._swap
        if swap is not None and swap.sa is sa:
            if swap.theirs is not None or not swap.is_answered:
                self.forget()

    def forget(self):
        jobs = self._unicast.jobs
        while jobs:
            jobs.pop().close()
        swap, self._swap = self._swap, None
        if swap is not None:
            swap.wipe()

    # Jobs

    def _answer_theirs(self, swap):
        """Job: our half of the server's rekey, and the answer to it."""
        theirs, old = swap.theirs, swap.sa
        try:
            payloads, made = yield from theirs.work()
        except FormatError as error:
            swap.theirs = None
            reply(self._unicast, old, malformed(error.reason), swap.source)
            return
        except MemoryError:
            swap.theirs = None
            self._drops.count(DROP_CAPACITY)
            reply(self._unicast, old, _refusal(ike.TEMPORARY_FAILURE), swap.source)
            self._settle(swap)
            return
        finally:
            theirs.wipe()
        reply(self._unicast, old, Judged(payloads), swap.source)
        swap.theirs = None
        swap.their_nonce = made.nonce
        swap.their_sa = self._adopt(made.sa)
        self._settle(swap)

    def _finish_ours(self, swap, payloads):
        """Job: the server's half of our rekey."""
        try:
            made = yield from swap.ours.finish(payloads)
        except FormatError as error:
            self._drops.count(error.reason)
            self._give_up_ours(swap)
            return
        except MemoryError:
            self._drops.count(DROP_CAPACITY)
            self._give_up_ours(swap)
            return
        swap.ours.wipe()
        swap.ours = None
        swap.our_nonce = made.nonce
        swap.our_sa = self._adopt(made.sa)
        self._settle(swap)

    def _give_up_ours(self, swap):
        swap.ours.wipe()
        swap.ours = None
        self._settle(swap)

    def _settle(self, swap):
        """What was made replaces the old IKE SA, once neither side is at it any more.

        Of two new ones, that with the lowest of the four nonces is deleted by who made it, and the
        old one by who made the other (sections 2.8.1, 2.8.2).
        """
        if swap.ours is not None or swap.theirs is not None:
            return
        self._swap = None
        sas = self._unicast.sas
        ours = swap.our_sa if swap.our_sa in sas else None
        theirs = swap.their_sa if swap.their_sa in sas else None
        if ours is not None and (theirs is None or swap.our_nonce > swap.their_nonce):
            self._replace(swap.sa, True)
            self._replace(theirs, False)
        elif theirs is not None:
            self._replace(swap.sa, False)
            self._replace(ours, True)

    def _adopt(self, sa):
        """A new IKE SA, in the place of the one that has waited longest if there are too many."""
        unicast = self._unicast
        unicast.begin(sa)
        if len(unicast.sas) > _MOST_SAS:
            for old in unicast.sas:
                if old.goes.is_running:
                    break  # the one that was replaced first; else the oldest
            unicast.drop(old)
        return sa

    def _replace(self, sa, is_ours_to_delete):
        """This IKE SA is replaced, and deleted by us or by the server. It is the last one now."""
        unicast = self._unicast
        if sa is None or sa not in unicast.sas:
            return
        sa.goes.start(unicast.now_ms, _OLD_S)
        sa.is_to_delete = is_ours_to_delete
        unicast.sas.remove(sa)
        unicast.sas.append(sa)


def _refusal(type, data=b""):
    return Judged([ike.notify(type, data)])
