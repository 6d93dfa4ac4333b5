"""A member for asyncio: carries datagrams between sockets, Member and Membership.

    async with covey.aio.join("covey.json") as m:
        await m.send(b"speed=1500")
        async for p in m:
            print(p.sender, p.payload)

The only file that awaits, but for signing.py. Three tasks: one reads the group's sockets, one the
unicast socket, one lets Membership work and sends what it has to say.
"""

import asyncio

from covey import carrier, nat, port
from covey import config as config_file
from covey.addresses import Addresses
from covey.drops import (
    DROP_CAPACITY,
    DROP_EMPTY,
    DROP_IKE_HEADER,
    DROP_NOT_SENDER,
    DROP_OVERSIZE,
    DROP_QUEUE_FULL,
    DROP_SOCKET,
    IKE_MESSAGE,
    NOTHING,
    ConfigError,
    sentence,
)
from covey.member import Member
from covey.membership import LEFT, MEMBER, REFUSED, Membership
from covey.port import const
from covey.sentences import IS_RECEIVER, NO_ANSWER, NO_RELAY, OVERSIZE, SENDING_FAILS

_QUEUE = const(64)  # packets that wait for the application
_BURST = const(16)  # datagrams read before other tasks get their turn
_NOTHING = const(-1)  # what port.recv_from says then
_IDLE_MS = const(1000)  # the longest sleep of the working task
_SPARED = const(1400)  # a limit on payloads from which on no memory is to be spared
_SLACK = const(56)  # by which rx is longer than the longest payload; our ESP needs 44 of it
_LEAVE_MS = const(2000)  # how long a leave may take before we go without an answer
_PAUSE_MS = const(50)  # until the next try, without memory or where a socket fails
_UNICAST = const(4096)  # greatest IKE message
_FRAME = const(1536)  # as long as a network lets any be, but for fragments of IP
_LONG = const(8)  # datagrams that are read into so long a buffer, once one was too long
_MARKER_LEN = const(4)  # RFC 3948 section 2.2: an IKE message, not ESP


class Packet:
    """One delivered packet. sender: Sender-ID or None; confirmed: it is proven who sent it, and
    source is the identity, in octets. number: where unconfirmed ones are asked for, what tells
    that two packets of a sender are one.
    """

    number = None

    def __init__(self, payload, sender, confirmed, source=None):
        self.payload = payload
        self.sender = sender
        self.confirmed = confirmed
        self.source = source


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
    joined = Joined(settings, on_event, timeout_s, kept, owns_config)
    joined.takes_unconfirmed = unconfirmed
    joined.on_refused = on_refused
    return joined


class Joined:
    """One membership on the air."""

    # An instance has its own once they change, which mostly they don't.
    _kept = None
    _send_error = None  # errno of the latest message to the key server
    _long = 0  # so many datagrams are still read into a long buffer
    _is_closed = False
    _is_behind = False  # routes are to follow sockets
    _has_heard = False  # a message, since the work's last turn
    _gave_way = False  # to a message, the last time
    takes_unconfirmed = False  # see join(), both
    on_refused = None
    _signing = None  # Signing, once packets that are signed were sent
    _unproven = None  # Unproven, once it is asked
    _failure = None  # what ended a task that should never end

    def __init__(self, settings, on_event, timeout_s, kept=None, owns_config=False):
        self.config = settings
        if kept is not None:
            from covey import resume  # before any key comes

            self._kept = kept
            self._resume = resume
        self._owns_config = owns_config  # then its pre-shared key dies with us
        self.member = Member(
            payload_max=settings.limit_payload,
            datagram_max=_datagram_max(settings.limit_payload),
            sa_slots=settings.limit_sas,
            sender_slots=settings.limit_senders,
            sender=settings.sender,
            reserves=True,
            waiting_slots=settings.limit_waiting,
            receiver=settings.receiver,
            shares=True,  # a packet is copied as it is delivered, and left as it is made
        )
        self._addresses = Addresses(settings.servers, settings.interface)
        self.membership = Membership(settings, self.member, path_to=self._addresses.path_to)
        self._on_event = on_event
        if timeout_s is None:
            timeout_s = len(settings.servers) * settings.retransmit_total_s + 1
        self._timeout_s = timeout_s
        self._unicast = None  # (socket towards the key server, waiter)
        self._groups = {}  # (address, port) → (carrier, waiter, task)
        self._routes = {}  # SPI → carrier that its packets leave by
        self._tasks = []
        self._worker = None  # the one among them that drives the membership
        self._kick = _Kick()  # wakes the working task
        self._arrived = asyncio.Event()  # there is a packet, or the end
        self._packets = []
        self._is_listening = not settings.sender  # a sender may never ask for packets

    # Entering and leaving

    async def __aenter__(self):
        try:
            self._addresses.resolve_all()
            sock = port.udp_socket("0.0.0.0", 0)
            self._addresses.bound_to(port.source_address(sock)[1])
            self._unicast = sock, _Waiter(sock)
            self._start(self._read, self._look_unicast, *self._unicast)
            if not self._revive():
                self.membership.start(port.ticks_ms())
            self._worker = self._start(self._work)
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
            if (
                self._worker is None or self._worker.done()
            ):  # it has failed: it need not fail at this
                self._failure = None
                self._worker = self._start(self._work)
            membership.leave(port.ticks_ms())
            self._kick.set()
            began = port.ticks_ms()
            while membership.state != LEFT and not self._worker.done():
                if port.ticks_diff(port.ticks_ms(), began) > _LEAVE_MS:
                    break
                await asyncio.sleep(0.01)
            self._tell()
        finally:
            self._close()
        await asyncio.sleep(0)  # for our tasks to end

    async def _until_member(self):
        began = port.ticks_ms()
        membership = self.membership
        while membership.state != MEMBER:
            self._check()
            if membership.state == REFUSED:
                self._tell()  # _work may not have come to it
                raise JoinError(membership.reason)
            if port.ticks_diff(port.ticks_ms(), began) > self._timeout_s * 1000:
                raise JoinError(self._why_not())
            await asyncio.sleep(0.02)
        self._check()  # the group's sockets may have failed just now

    def _why_not(self):
        reason = self.membership.reason or sentence(NO_ANSWER)
        if self._send_error:
            reason += sentence(SENDING_FAILS, self._send_error)
        return reason

    def _close(self):
        """Let go of everything. Awaits nothing, so that no cancelling can stop it half-way."""
        self._is_closed = True
        self.membership.wipe()
        if self._owns_config:
            self.config.wipe()
        for key in list(self._groups):
            self._drop_group(key)
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        if self._unicast:
            sock, waiter = self._unicast
            waiter.close()
            port.close(sock)
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
        for sent in range(len(payloads)):
            if not await self.send(payloads[sent]):
                return sent
        return len(payloads)

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
            self._follow_groups()
            self._follow_routes()
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
        began = port.ticks_ms()
        while self.membership.is_asking:
            self._check()
            if port.ticks_diff(port.ticks_ms(), began) > timeout_s * 1000:
                return False
            await asyncio.sleep(0.02)
        return self.membership.has_asked or None

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
        member = self.member
        sa = member.keys.newest()
        return {
            "state": self.membership.state_name,
            "reason": self.membership.reason,
            "epoch": self.membership.epoch,
            "spi": sa.spi.hex() if sa else None,
            "sender_id": self.membership.sender_id,
            "sent": member.sent,
            "opened": member.opened,
            "drops": member.drops.as_dict(),
            "rekeys": self.membership.rekeys,
        }

    def _check(self):
        if self._failure:
            raise self._failure

    # Tasks

    def _start(self, work, *args):
        task = asyncio.create_task(work(*args))
        self._tasks.append(task)
        return task

    def _fail(self, error):
        """A task that ends by an error hands it to whoever uses the member."""
        self._failure = error
        self._arrived.set()

    async def _work(self):
        try:
            while not self._is_closed:  # wait_for may swallow a cancelling (CPython up to 3.11)
                wait = self._turn()
                if wait:
                    await self._kick.wait(min(wait, _IDLE_MS))
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
        if self._has_heard and not self._gave_way:  # once: messages without end stop no work
            self._has_heard, self._gave_way = False, True
            return 0
        self._has_heard = self._gave_way = False
        if self._is_behind:
            self._follow_routes()
            return 0
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
            if name == "unanswered" and self.membership.has_asked_all:
                self._addresses.forget()
            if self._on_event:
                self._on_event(name, detail)

    def _send_control(self):
        while True:
            data, server = self.membership.outgoing()
            if data is None:
                return
            try:
                address = self._addresses.of(server)
            except ConfigError:
                continue  # no name service just now: as good as lost, and sent again
            sock, _ = self._unicast
            error = port.send(sock, data, address)
            if error != self._send_error:
                self._send_error = error

    async def _read(self, look, place, waiter):
        """Whatever comes at one place. look(place): None where nothing was there, DROP_SOCKET: not
        just now.
        """
        burst = 0
        try:
            while True:
                try:
                    answer = look(place)
                except MemoryError:  # of a moment: no task ends by it
                    self.member.drops.count(DROP_CAPACITY)
                    answer = DROP_SOCKET
                if answer is None:
                    burst = 0
                    await waiter.wait()
                elif answer == DROP_SOCKET:
                    burst = 0
                    await asyncio.sleep(_PAUSE_MS / 1000)
                elif burst == _BURST - 1 or answer == IKE_MESSAGE:
                    burst = 0
                    await asyncio.sleep(0)  # others have their turn
                else:
                    burst += 1
        except Exception as error:
            self._fail(error)

    def _look_unicast(self, sock):
        """What is longer than an Ethernet frame is lost; when its sender repeats it, the buffer is
        longer. Between two packets of the group rx is free: where it is as long, it serves.
        """
        if None in self._groups:  # ESP comes here, too
            return self._look_group(self._groups[None][0])
        drops = self.member.drops
        buf = self.member.rx
        if self._long or len(buf) < _FRAME:
            buf = bytearray(_UNICAST + _MARKER_LEN if self._long else _FRAME)
        n, source = port.recv_from(sock, buf)
        if n < 0:
            return None if n == _NOTHING else drops.count(DROP_SOCKET)
        if n > len(buf):
            self._long = _LONG
            return drops.count(DROP_IKE_HEADER)
        if self._long:
            self._long -= 1
        if n == 0:
            return drops.count(DROP_EMPTY)
        is_marked = nat.has_marker(buf, n)
        data = bytes(memoryview(buf)[_MARKER_LEN if is_marked else 0 : n])
        self.membership.unicast(data, port.ticks_ms(), (source[0], source[1], is_marked))
        self._wake()
        return IKE_MESSAGE

    def _look_group(self, group):
        answer = group.receive(self.member)
        if answer == IKE_MESSAGE:
            message, group.message = group.message, None
            if group.source is None:
                self.membership.multicast(message, port.ticks_ms())
            else:
                self.membership.unicast(message, port.ticks_ms(), group.source)
            self._wake()
        elif answer is not None:
            if answer >= 0:
                self._deliver_received()
            room = self.member.waiting
            if room is not None or self.on_refused is not None:
                self._after(answer)
            if room is not None and room.is_working:
                self._kick.set()
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
        self._has_heard = True
        self._kick.set()

    def _deliver_received(self):
        """What Member.receive, or next_proven, has let through."""
        if self._is_listening:
            member = self.member
            number = member.number if self.takes_unconfirmed else None
            self._deliver(member.payload, member.sender, number, member.source)

    def _deliver(self, payload, sender, number, source):
        if len(self._packets) == _QUEUE:
            self.member.drops.count(DROP_QUEUE_FULL)
            return
        packet = Packet(bytes(payload), sender, source is not None, source)
        packet.number = number
        self._packets.append(packet)
        self._arrived.set()

    # The group's sockets follow the policy

    def _follow_groups(self):
        self.membership.listening_changed = False
        is_framed = self.membership.listening()
        for place in list(self._groups):
            if self._groups[place][0].is_framed is not is_framed.get(place):
                self._drop_group(place)
                self._routes = {}  # nobody sends to where it was
        for place in is_framed:
            if place is None:
                self._relay()
            elif place not in self._groups:
                group = carrier.open_for(place, is_framed[place], self.config)
                waiter = _Waiter(group.sock)
                task = self._start(self._read, self._look_group, group, waiter)
                self._groups[place] = (group, waiter, task)
        self._is_behind = True

    def _relay(self):
        """By way of the key server's socket, which is read already."""
        if None not in self._groups:
            try:
                from covey.relay import Relay
            except ImportError:
                raise ConfigError(sentence(NO_RELAY))
            self._groups[None] = (Relay(self._unicast[0]), None, None)
        self._groups[None][0].aim(self._addresses, self.membership.server)

    def _follow_routes(self):
        self._is_behind = False
        routes = self.membership.routes()
        self._routes = {spi: self._groups[routes[spi]][0] for spi in routes}

    def _drop_group(self, place):
        group, waiter, task = self._groups.pop(place)
        if task is None:
            return  # the key server's socket, which stays
        self._tasks.remove(task)
        task.cancel()
        waiter.close()
        group.close()


def _datagram_max(limit_payload):
    """How long rx is to be. Longer rekeys don't need it: see carrier.UDP."""
    return _FRAME if limit_payload >= _SPARED else limit_payload + _SLACK


if hasattr(asyncio, "core"):  # MicroPython: its event loop polls the socket itself

    def _queue_read(sock):
        yield asyncio.core._io_queue.queue_read(sock)

    class _Kick:
        """One task's sleep, which others may end. asyncio.wait_for would make a task each time."""

        def __init__(self):
            self._task = None  # the sleeping one
            self._is_set = False

        async def wait(self, ms):
            if not self._is_set:
                self._task = asyncio.current_task()
                try:
                    await asyncio.sleep_ms(ms)
                finally:
                    self._task = None
            self._is_set = False

        def set(self):
            self._is_set = True
            task, self._task = self._task, None
            if task is not None:  # bring it forward, as Task.cancel() does
                asyncio.core._task_queue.remove(task)
                asyncio.core._task_queue.push(task)

    class _Waiter:
        """Waits until a socket has something to read."""

        def __init__(self, sock):
            self._sock = sock

        async def wait(self):
            await _queue_read(port.pollable(self._sock))

        def close(self):
            pass  # the cancelled task takes itself out of the loop

else:

    class _Kick:
        """One task's sleep, which others may end."""

        def __init__(self):
            self._event = asyncio.Event()

        async def wait(self, ms):
            try:
                await asyncio.wait_for(self._event.wait(), ms / 1000)
            except asyncio.TimeoutError:
                pass
            self._event.clear()

        def set(self):
            self._event.set()

    class _Waiter:
        """Waits until a socket has something to read."""

        def __init__(self, sock):
            self._sock = sock
            self._ready = asyncio.Event()
            asyncio.get_running_loop().add_reader(sock, self._ready.set)

        async def wait(self):
            self._ready.clear()
            await self._ready.wait()

        def close(self):
            asyncio.get_running_loop().remove_reader(self._sock)
