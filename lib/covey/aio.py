"""A member for asyncio: carries datagrams between sockets, Member and Membership.

    async with covey.aio.join("covey.json") as m:
        await m.send(b"speed=1500")
        async for p in m:
            print(p.sender, p.payload)

The only file that awaits, but for signing.py and loop.py. Three tasks: one reads the group's
sockets, one the unicast socket, one lets Membership work and sends what it has to say.
"""

import asyncio

# ike by its name for its place alone: loaded behind home it would lie two imports deeper
from covey import carrier, ike, port  # noqa: F401
from covey import config as config_file
from covey.drops import (
    DROP_CAPACITY,
    DROP_NOT_SENDER,
    DROP_OVERSIZE,
    DROP_QUEUE_FULL,
    DROP_SOCKET,
    IKE_MESSAGE,
    NOTHING,
    ConfigError,
    sentence,
)
from covey.home import Home
from covey.loop import Kick, readable, shut
from covey.member import Member
from covey.membership import LEFT, MEMBER, REFUSED, Membership
from covey.port import const
from covey.sentences import (
    IS_RECEIVER,
    NO_ANSWER,
    NO_RELAY,
    NO_SOCKET,
    OVERSIZE,
    SENDING_FAILS,
    USED_UP,
)

_QUEUE = const(64)  # packets that wait for the application
_BURST = const(16)  # datagrams read before other tasks get their turn
_SPARED = const(1400)  # a limit on payloads from which on no memory is to be spared
_SLACK = const(56)  # by which rx is longer than the longest payload; our ESP needs 44 of it
_LEAVE_MS = const(2000)  # how long a leave may take before we go without an answer
_PAUSE_MS = const(50)  # until the next try, without memory or where a socket fails
_FRAME = const(1536)  # as long as a network lets any be, but for fragments of IP
_HEARD, _GAVE_WAY = const(1), const(2)  # a message, since the work's last turn; it did, to one


class Packet:
    """One delivered packet. sender: Sender-ID or None; confirmed: it is proven who sent it, and
    source is the identity, in octets. number: where unconfirmed ones are asked for, what tells
    that two packets of a sender are one.
    """

    def __init__(self, payload, sender, confirmed, source=None, number=None):
        self.payload = payload
        self.sender = sender
        self.confirmed = confirmed
        self.source = source
        self.number = number


class JoinError(Exception):
    """The group could not be joined: one sentence that says why."""


def join(source, on_event=None, timeout_s=None, kept=None, unconfirmed=False, on_refused=None):
    """An asynchronous context manager: a member while inside, gone (it leaves) after.

    source: the path of a covey.json, or a config.Config. on_event(name, detail) hears of changes
    (the names are Membership's). Entering raises JoinError where no server lets us in within
    timeout_s (None: what it takes to ask each of them), ConfigError for what a person can mend.
    kept, of a member that sleeps: (octets of suspend(), the clock now), which are used ONCE: see
    covey.resume. Without octets it registers.
    unconfirmed: where the proof of who sent a packet comes after it, it is delivered twice: at
    once, not confirmed, and confirmed once it is. on_refused(sender, number, reason) hears of each
    that never will be: the Sender-ID that it bears, its number, and the name of the drop.
    """
    owns_config = not isinstance(source, config_file.Config)
    settings = config_file.load(source) if owns_config else source
    joined = Joined(settings, on_event, timeout_s, kept)
    joined._owns_config = owns_config
    joined._takes_unconfirmed = unconfirmed
    joined.on_refused = on_refused
    return joined


class Joined:
    """One membership on the air."""

    # An instance has its own once they change, which mostly they don't.
    _kept = None
    _send_error = None  # errno of the latest message to the key server
    _is_closed = False
    _way = 0  # _HEARD, _GAVE_WAY, or neither
    _owns_config = False  # then its pre-shared key dies with us
    _takes_unconfirmed = False  # see join(), both
    on_refused = None
    _signing = None  # Signing, once packets that are signed were sent
    _unproven = None  # Unproven, once it is asked
    _failure = None  # what ended a task that should never end

    def __init__(self, settings, on_event, timeout_s, kept=None):
        self.config = settings
        if kept is not None:
            from covey import resume  # before any key comes

            self._kept = kept
            self._resume = resume
        longest = settings.limit_payload
        self.member = Member(
            longest,
            _FRAME if longest >= _SPARED else longest + _SLACK,  # longer rekeys don't need it
            settings.limit_sas,
            settings.limit_senders,
            settings.sender,
            True,
            settings.limit_waiting,
            settings.receiver,
            shares=True,  # a packet is copied as it is delivered, and left as it is made
        )
        self._home = Home(None, settings.servers, settings.interface)
        self.membership = Membership(settings, self.member, path_to=self._home.path_to)
        self._on_event = on_event
        if timeout_s is None:
            timeout_s = len(settings.servers) * settings.retransmit_total_s + 1
        self._timeout_s = timeout_s
        self._groups = {}  # (address, port) → carrier
        self._routes = {}  # SPI → carrier that its packets leave by
        self._worker = None  # the task that drives the membership
        self._kick = Kick()  # wakes the working task
        self._arrived = asyncio.Event()  # there is a packet, or the end
        self._packets = []
        self._is_listening = not settings.sender  # a sender may never ask for packets

    # Entering and leaving

    async def __aenter__(self):
        if self._is_closed:
            raise JoinError(sentence(USED_UP))
        try:
            self._home.open()
            self._reading(self._home)
            if not self._revive():
                self.membership.start(port.ticks_ms())
            self._worker = asyncio.create_task(self._work())
            await self._until_member()
        except BaseException as error:
            if isinstance(error, Exception) and self.membership.state == MEMBER:
                await self.__aexit__()  # it can't go on all the same: its sockets
            else:
                self._close()
            raise
        return self

    def _revive(self):
        if self._kept is None:
            return False
        return self._resume.revive(self.membership, *self._kept, port.ticks_ms())

    async def __aexit__(self, *_):
        if self._is_closed:  # suspended
            return
        membership = self.membership
        try:
            if self._worker is None or self._worker.done():  # it has failed: not at this, perhaps
                self._failure = None
                self._worker = asyncio.create_task(self._work())
            membership.leave(port.ticks_ms())
            self._kick.set()
            await self._until(self._has_left, _LEAVE_MS)
            self._tell()
        finally:
            self._close()
        await asyncio.sleep(0)  # for our tasks to end

    async def _until_member(self):
        if not await self._until(self._is_in, self._timeout_s * 1000):
            raise JoinError(self._why_not())

    async def _until(self, is_so, most_ms):
        """Whether it comes to that in time."""
        began = port.ticks_ms()
        while not is_so():
            if port.ticks_diff(port.ticks_ms(), began) > most_ms:
                return False
            await asyncio.sleep(0.02)
        return True

    def _is_in(self):
        """Whether we are a member, and its sockets are there."""
        self._check()
        membership = self.membership
        if membership.state == REFUSED:
            self._tell()  # _work may not have come to it
            raise JoinError(membership.reason)
        return membership.state == MEMBER and not membership.listening_changed

    def _has_left(self):
        return self.membership.state == LEFT or self._worker.done()

    def _has_heard(self):
        self._check()
        return not self.membership.is_asking

    def _why_not(self):
        reason = self.membership.reason or sentence(NO_ANSWER)
        if self._send_error:
            has_socket = port.pollable(self._home.sock) is not None
            reason += sentence(SENDING_FAILS if has_socket else NO_SOCKET, self._send_error)
        return reason

    def _close(self):
        """Let go of everything. Awaits nothing, so that no cancelling can stop it half-way."""
        self._is_closed = True
        self.membership.wipe()
        if self._owns_config:
            self.config.wipe()
        for place in list(self._groups):
            self._drop_group(place)
        if self._home.sock is not None:
            shut(self._home)
        if self._worker is not None:
            self._worker.cancel()
        self._arrived.set()

    # What the application does

    async def send(self, payload):
        """Multicast one payload: True if it left, False while nothing may be sent (before ATD,
        after a Delete, numbers used up; see status()). ConfigError where it never may be. Where
        packets are signed, this takes as long as a signature.
        """
        self._check()
        member = self.member
        if member.has_to_sign(port.ticks_ms()):
            return await self._sign((payload,)) == 1
        if len(payload) > member.payload_most:
            member.drops.count(DROP_OVERSIZE)
            raise ConfigError(sentence(OVERSIZE, member.payload_most, len(payload)))
        return self._leave(payload)

    async def send_many(self, payloads):
        """The same for several: how many left, the first ones. Where packets are signed, all have
        one signature (up to 16, or what policy has as `ecdsa_batch`), and each is verified without
        the others.
        """
        self._check()
        if self.member.has_to_sign(port.ticks_ms()):
            return await self._sign(payloads)
        sent = 0
        for payload in payloads:
            if not await self.send(payload):
                break
            sent += 1
        return sent

    async def _sign(self, payloads):
        if self._signing is None:
            from covey.signing import Signing

            self._signing = Signing(self.member, self._leave)
        return await self._signing.send(payloads)

    def _leave(self, payload):
        member = self.member
        member.out[: len(payload)] = payload
        length = member.send(len(payload), port.ticks_ms())
        if length == DROP_NOT_SENDER:
            raise ConfigError(sentence(IS_RECEIVER))
        if length < 0:
            return False
        return self._transmit(length)

    def _transmit(self, length):
        """What lies in tx."""
        member = self.member
        spi = bytes(member.tx[:4])
        if spi not in self._routes:  # installed just now
            try:
                self._follow_groups()
            except MemoryError:
                self.membership.listening_changed = True  # the working task tries again
                member.drops.count(DROP_CAPACITY)
                return False
        return self._routes[spi].send(member.tx[:length]) is None

    def can_send(self):
        return self.member.can_send(port.ticks_ms())

    def refresh(self):
        """The network was away: ask for what the group was told meanwhile."""
        self.membership.refresh(port.ticks_ms())
        self._kick.set()

    async def asked(self, timeout_s):
        """Wait until no key server is being asked any more. True: it has told what is current;
        None: none was asked since we are here; False: it has not answered within timeout_s.
        """
        has_heard = await self._until(self._has_heard, timeout_s * 1000)
        return has_heard and (self.membership.has_asked or None)

    def suspend(self, clock_s):
        """Stop here without leaving the group: octets for join(kept=...), or None where it has to
        register anew; see covey.resume. clock_s: seconds on a clock that goes on meanwhile.
        """
        try:
            return self._resume.suspend(self.membership, clock_s, port.ticks_ms())
        finally:
            self._close()

    def __aiter__(self):
        self._is_listening = True
        return self

    async def __anext__(self):
        while not self._packets:
            self._check()
            if self._is_closed or self.membership.state == LEFT:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._packets.pop(0)

    def status(self):
        """The facts of the moment, by name; the form is documented in docs/cli.md."""
        member, membership = self.member, self.membership
        sa = member.keys.newest()
        return {
            "state": membership.state_name,
            "reason": membership.reason,
            "epoch": membership.epoch,
            "spi": sa.spi.hex() if sa else None,
            "sender_id": membership.sender_id,
            "sent": member.sent,
            "opened": member.opened,
            "drops": member.drops.as_dict(),
            "rekeys": membership.rekeys,
        }

    def _check(self):
        if self._failure:
            raise self._failure

    # Tasks

    def _fail(self, error):
        """A task that ends by an error hands it to whoever uses the member."""
        self._failure = error
        self._arrived.set()

    async def _work(self):
        try:
            while not self._is_closed:  # wait_for may swallow a cancelling (CPython up to 3.11)
                wait = self._turn()
                if wait:
                    await self._kick.wait(wait)
                else:
                    await asyncio.sleep(0)
        except Exception as error:
            self._fail(error)

    def _turn(self):
        """A slice of work and what it has to say, or a part of what follows; ms until the next.

        Eleven slots, as for all that each turn calls: a larger frame is taken from the heap, and
        where it lay, all that is allocated after it begins to look for its place.
        """
        try:
            return self._take_turn()
        except MemoryError:  # what was to be sent counts as lost
            self.membership.listening_changed = True
            self.member.drops.count(DROP_CAPACITY)
            return _PAUSE_MS

    def _take_turn(self):
        membership = self.membership
        if self._way == _HEARD:  # once: messages without end stop no work
            self._way = _GAVE_WAY
            return 0
        self._way = 0
        if membership.listening_changed:
            self._follow_groups()
            return 0
        wait = membership.step(port.ticks_ms())
        room = self.member.waiting
        if room is not None:
            self._after(NOTHING)
            wait = 0 if room.is_working else wait
        keeper = membership.keeper
        if keeper is not None:
            length = keeper.disclose(self.member, port.ticks_ms())
            if length:
                self._transmit(length)
        if membership.is_amid:
            return 0
        self._tell()
        self._send_control()
        return 0 if membership.listening_changed else wait

    def _tell(self):
        events = self.membership.events
        while events:
            name, detail = events.pop(0)
            if name == "unanswered" and self.membership.servers.has_asked_all:
                self._home.forget()
            if self._on_event:
                self._on_event(name, detail)

    def _send_control(self):
        while True:
            data, server = self.membership.outgoing()
            if data is None:
                return
            try:
                address = self._home.of(server)
            except ConfigError:
                continue  # no name service just now: as good as lost, and sent again
            error = port.send(self._home.sock, data, address)
            if error != self._send_error:
                self._send_error = error

    def _reading(self, way):
        """A carrier is read from now on."""
        way.task = asyncio.create_task(self._read(way))

    async def _read(self, way):
        """Whatever comes by one carrier."""
        burst = 0
        try:
            while True:
                try:
                    answer = self._look(way)
                except MemoryError:  # of a moment: no task ends by it
                    self.member.drops.count(DROP_CAPACITY)
                    answer = DROP_SOCKET
                burst += 1
                if answer is None:
                    await readable(way.sock)
                elif answer == DROP_SOCKET:
                    await asyncio.sleep(_PAUSE_MS / 1000)
                elif burst == _BURST or answer == IKE_MESSAGE:
                    await asyncio.sleep(0)  # others have their turn
                else:
                    continue
                burst = 0
        except Exception as error:
            self._fail(error)

    def _look(self, way):
        """One datagram. None: there was none; DROP_SOCKET: not just now."""
        if None in self._groups and way is self._home:
            way = self._groups[None]  # there ESP comes, too
        answer = way.receive(self.member)
        if answer == IKE_MESSAGE:
            message, way.message = way.message, None
            if way.source is None:
                self.membership.multicast(message, port.ticks_ms())
            else:
                self.membership.unicast(message, port.ticks_ms(), way.source)
            self._wake()
        elif answer is not None:
            if answer >= 0:
                self._deliver_received()
            if self.member.waiting is not None or self.on_refused is not None:
                self._after(answer)
        return answer

    def _after(self, answer):
        """See Unproven. Where there is no room for that, the next packet asks again."""
        if self._unproven is None:
            try:
                from covey.unproven import Unproven
            except MemoryError:
                return
            self._unproven = Unproven(self)
        self._unproven.after(answer)

    def _wake(self):
        """A message is there. To hear it has taken long enough: work has its next turn."""
        self._way = self._way or _HEARD
        self._kick.set()

    def _deliver_received(self):
        """What Member.receive, or next_proven, has let through."""
        if self._is_listening:
            member = self.member
            number = member.number if self._takes_unconfirmed else None
            self._deliver(member.payload, member.sender, number, member.source)

    def _deliver(self, payload, sender, number, source):
        if len(self._packets) == _QUEUE:
            self.member.drops.count(DROP_QUEUE_FULL)
            return
        is_confirmed = source is not None
        self._packets.append(Packet(bytes(payload), sender, is_confirmed, source, number))
        self._arrived.set()

    # The group's sockets follow the policy

    def _follow_groups(self):
        membership, groups = self.membership, self._groups
        membership.listening_changed = False
        is_framed = membership.listening()
        for place in list(groups):
            if groups[place].is_framed is not is_framed.get(place):
                self._drop_group(place)
                self._routes = {}  # nobody sends to where it was
        for place in is_framed:
            if place is None:
                self._relay()
            elif place not in groups:
                self._open(place, is_framed[place])
        routes = membership.routes()
        self._routes = {spi: groups[routes[spi]] for spi in routes}

    def _open(self, place, is_framed):
        way = carrier.open_for(place, is_framed, self.config)
        try:
            self._reading(way)
            self._groups[place] = way
        except MemoryError:  # none is here that nobody reads
            shut(way)
            raise

    def _relay(self):
        """By way of the key server's socket, which is read already."""
        if None not in self._groups:
            try:
                from covey.relay import Relay
            except ImportError:
                raise ConfigError(sentence(NO_RELAY))
            self._groups[None] = Relay(self._home.sock)
        self._groups[None].aim(self._home, self.membership.server)

    def _drop_group(self, place):
        way = self._groups.pop(place)
        if place is not None:  # else it is the key server's socket, which stays
            shut(way)
