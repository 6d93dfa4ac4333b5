"""Members on real sockets and a real event loop: loopback multicast, one process.

The IKE SA is a script (see test_membership.py): keys are those of tests/recorded/group_story.py.
"""

import asyncio

from covey import aio, carrier, gsa, kd, port, registration
from covey.config import Config
from covey.drops import DROP_IKE_HEADER, DROP_KEEPALIVE, DROP_QUEUE_FULL, ConfigError
from covey.membership import MEMBER, REFUSED
from covey.nat import HOME, KEEPALIVE
from datapath import data_sa
from story import KWK, STORY, T1, T2, install, registered
from test_waiting import Auth

_MARKER = bytes(4)
_GROUP = "239.192.1.32"


def _free_port():
    sock = port.udp_socket("127.0.0.1", 0)
    number = port.source_address(sock)[1]
    port.close(sock)
    return number


class Script:
    """A registration that is answered at once."""

    policy = "receiver"
    carrier_port = 0
    refusal = None
    state = registration.REGISTERED
    report_s = 0
    is_late = False

    def __init__(self, config, now_ms, random, drops, path, awake):
        self.path = path
        self.sources = []
        self.heard = []
        self.outgoing = []
        self.answers_leave = True
        self.gsa = gsa.parse_gsa(STORY[self.policy]["gsa"])
        self.gsa.group_wide.udp_port = self.carrier_port
        for one in self.gsa.policies:
            if len(one.spi) == 16:
                one.destination.start_port = one.destination.end_port = self.carrier_port
        self.kd = kd.parse_kd(STORY[self.policy]["kd"])
        if config.is_relayed:
            self.gsa.group_wide.delivery = gsa.UNICAST
            self.gsa.policies = [p for p in self.gsa.policies if len(p.spi) == 4]
            self.kd.bags = [bag for bag in self.kd.bags if len(bag.spi) == 4]
        self.kwk = bytearray(KWK)
        self.transport_mode = True
        self.asked_to_send = config.sender
        self.noted = None
        self.reason = self.refusal
        self._outcome = registration.REFUSED if self.refusal else registration.REGISTERED

    def take_outcome(self):
        outcome, self._outcome = self._outcome, None
        return outcome

    def step(self, now_ms):
        return 1000

    def receive(self, data, now_ms, source):
        self.heard.append(data)
        self.sources.append(source)
        return 0

    def take_inband(self):
        return None

    def has_ended(self, data):
        return False

    def take_outgoing(self):
        return self.outgoing.pop(0) if self.outgoing else None

    def pull(self, now_ms, awake=False, sends=True):
        return False

    def leave(self, now_ms):
        if self.answers_leave:
            self._outcome = registration.LEFT
        return True

    def close(self, reason="closed"):
        self.kwk = None


def _join(sending, carrier_port, refusal=None, on_event=None, **fields):
    Script.policy = "sender" if sending else "receiver"
    Script.carrier_port = carrier_port
    Script.refusal = refusal
    registration.Registration = Script
    given = {
        "version": 1,
        "group": "line1",
        "idi": "a",
        "servers": [["127.0.0.1", 9, False]],
        "interface": "127.0.0.1",
        "sender": sending,
        "limits": {"payload": 64},
    }
    given.update(fields)
    return aio.join(Config(given, psk=bytes(32)), on_event, timeout_s=5)


def _run(coroutine):
    asyncio.run(asyncio.wait_for(coroutine, 20))


async def _pair(number):
    """A receiver that is inside, and a sender that is."""
    receiver = await _join(False, number).__aenter__()
    sender = await _join(True, number).__aenter__()
    return receiver, sender


async def _take(member, count):
    found = []
    async for packet in member:
        found.append((packet.payload, packet.sender, packet.confirmed))
        if len(found) == count:
            return found


def test_packets_go_from_one_member_to_another():
    async def story():
        receiver, sender = await _pair(_free_port())
        listening = asyncio.create_task(_take(receiver, 3))
        await asyncio.sleep(0)
        for i in range(3):
            assert await sender.send(b"speed %d" % i)
        expected = [(b"speed %d" % i, 0x41, False) for i in range(3)]
        assert await listening == expected
        status = receiver.status()
        assert status["opened"] == 3 and status["state"] == "member" and status["spi"]
        assert sender.status()["drops"] == {"own": 3}
        assert sender.status()["sender_id"] == 0x41
        await receiver.__aexit__(None, None, None)
        await sender.__aexit__(None, None, None)
        assert receiver.status()["state"] == "left"
        assert receiver.member.keys.live() == []

    _run(story())


def test_a_member_is_made_for_its_limits():
    """Buffers and slots are there from the start, as many as a board's limits say."""
    m = _join(True, _free_port(), limits={"sas": 3, "senders": 8, "payload": 100}).member
    assert (len(m.out), m.payload_max, len(m.rx)) == (100, 100, 156) and m.sender_slots == 8
    spis = [bytes((0, 0, 1, n)) for n in range(4)]
    for spi in spis:
        m.keys.install(data_sa(spi), 0)
    assert sorted(sa.spi for sa in m.keys.live()) == spis[:3], "none gives way to the fourth"
    assert m.drops.as_dict() == {"capacity": 1}
    m.keys.wipe()


def test_a_receiver_keeps_what_comes_before_it_asks():
    async def story():
        number = _free_port()
        receiver, sender = await _pair(number)
        other = await _join(True, number).__aenter__()
        assert await sender.send(b"early")
        while not receiver.member.opened:
            await asyncio.sleep(0.01)
        assert await _take(receiver, 1) == [(b"early", 0x41, False)]
        assert other._packets == []  # a sender is asked whether it listens
        for member in (receiver, sender, other):
            await member.__aexit__(None, None, None)

    _run(story())


def test_misuse_is_told_and_leaves_the_member_usable():
    async def story():
        receiver, sender = await _pair(_free_port())
        for member, payload in ((receiver, b""), (sender, bytes(65))):
            try:
                await member.send(payload)
                raise AssertionError("it was sent")
            except ConfigError:
                pass
        assert await sender.send(bytes(64))
        await receiver.__aexit__(None, None, None)
        await sender.__aexit__(None, None, None)

    _run(story())


def test_memory_that_is_short_for_a_moment_ends_nothing():
    """A datagram needs a buffer, for which a heap may have no room just then."""
    failed = []

    def short(call, name):
        def instead(*args):
            if failed.count(name) < 2:
                failed.append(name)
                raise MemoryError
            return call(*args)

        return instead

    async def story():
        receiver, sender = await _pair(_free_port())
        address = port.resolve("127.0.0.1", port.source_address(receiver._home.sock)[1])
        recv, recv_from, outgoing = port.recv, port.recv_from, receiver.membership.outgoing
        port.recv, port.recv_from = short(recv, "recv"), short(recv_from, "recv_from")
        receiver.membership.outgoing = short(outgoing, "outgoing")
        try:
            await sender.send(b"still here")
            port.send(sender._home.sock, KEEPALIVE, address)
            assert await _take(receiver, 1) == [(b"still here", 0x41, False)]
            await _until(lambda: receiver.member.drops.of(DROP_KEEPALIVE))
            await _until(lambda: len(failed) == 6)
        finally:
            port.recv, port.recv_from = recv, recv_from
        for member in (receiver, sender):
            await member.__aexit__(None, None, None)
            assert member.status()["state"] == "left"

    _run(story())
    assert sorted(failed) == ["outgoing"] * 2 + ["recv"] * 2 + ["recv_from"] * 2


def test_a_slow_application_loses_the_newest_and_is_told():
    async def story():
        receiver, sender = await _pair(_free_port())
        receiver.__aiter__()
        for i in range(70):
            assert await sender.send(b"%d" % i)
            await asyncio.sleep(0.001)
        while receiver.member.opened < 70:
            await asyncio.sleep(0.01)
        assert receiver.member.drops.of(DROP_QUEUE_FULL) == 6
        found = await _take(receiver, 64)
        assert [payload for payload, _, _ in found] == [b"%d" % i for i in range(64)]
        await receiver.__aexit__(None, None, None)
        await sender.__aexit__(None, None, None)

    _run(story())


def test_packets_whose_proof_comes_later():
    """Each is told of at once, not confirmed; then confirmed, or refused, by its number."""
    refused = []

    async def story():
        receiver, sender = await _pair(_free_port())
        receiver._takes_unconfirmed = True
        receiver.on_refused = lambda *what: refused.append(what)
        receiver.__aiter__()
        auth = Auth()
        auth.name_of = lambda sender_id: b"press-7"
        for sa in receiver.member.keys.live():
            sa.auth = auth
        for payload in (b"agood", b"blies", b"x"):
            assert await sender.send(payload)
        found = await _take(receiver, 2)
        assert found == [(b"a", sender.membership.sender_id, False), (b"b", found[0][1], False)]
        room = receiver.member.waiting
        assert room.count == 2
        for slot in range(len(room.states)):
            room.provable(slot)
        packet = await receiver.__anext__()  # the working task looks each second
        assert (packet.payload, packet.number, packet.source) == (b"a", 1, b"press-7")
        while len(refused) < 2:
            await asyncio.sleep(0.01)
        assert sorted(refused) == [(packet.sender, 2, "source"), (packet.sender, 3, "source")]
        await receiver.__aexit__(None, None, None)
        await sender.__aexit__(None, None, None)

    _run(story())


def test_a_refusal_is_told_though_the_error_comes_first():
    """The message has just been read, and the task that tells has not run since."""

    class Refused:
        state = REFUSED
        reason = "The key server refused: registration_failed."

    async def story():
        told = []
        joined = _join(False, 9, on_event=lambda *event: told.append(event))
        joined.membership = Refused()
        joined.membership.events = [("refused", Refused.reason)]
        try:
            await joined._until_member()
            raise AssertionError("it is a member")
        except aio.JoinError as error:
            assert str(error) == Refused.reason
        assert told == [("refused", Refused.reason)]

    _run(story())


def test_a_refusal_is_an_error_with_its_reason():
    async def story():
        events = []
        try:
            async with _join(False, 9, "authorization_failed", lambda n, d: events.append(n)):
                raise AssertionError("it is inside")
        except aio.JoinError as error:
            assert "authorization_failed" in str(error)
        assert "refused" in events

    _run(story())


def test_what_is_over_is_not_entered_again():
    """Nor waited for: said at once, and nothing is opened."""

    async def story():
        joined = _join(False, _free_port())
        async with joined:
            pass
        sock = joined._home.sock
        try:
            async with joined:
                raise AssertionError("it is inside")
        except aio.JoinError as error:
            assert str(error) == "This Joined is used up: call join() for each try."
        assert joined._home.sock is sock

    _run(story())


def test_leaving_ends_the_iteration():
    async def story():
        receiver, sender = await _pair(_free_port())
        listening = asyncio.create_task(_take(receiver, 1))
        await asyncio.sleep(0.01)
        await receiver.__aexit__(None, None, None)
        assert await listening is None
        await sender.__aexit__(None, None, None)

    _run(story())


def test_an_error_inside_reaches_the_application():
    async def story():
        receiver, sender = await _pair(_free_port())

        def broken(*_):
            raise ValueError("broken")

        receiver.membership.step = broken
        receiver._kick.set()
        try:
            await _take(receiver, 1)
            raise AssertionError("it went on")
        except ValueError:
            pass
        await receiver.__aexit__(None, None, None)
        await sender.__aexit__(None, None, None)

    _run(story())


def test_who_can_not_open_its_sockets_leaves_the_group():
    """The policy is known by then, and the server believes us to be inside."""

    def may_not(*_):
        raise ConfigError("root only")

    async def story():
        events = []
        joined = _join(False, _free_port(), on_event=lambda name, _: events.append(name))
        open_for, carrier.open_for = carrier.open_for, may_not
        try:
            async with joined:
                raise AssertionError("it is inside")
        except ConfigError as error:
            assert str(error) == "root only"
        finally:
            carrier.open_for = open_for
        assert events == ["registering", "member", "left"]
        assert joined._is_closed and joined.member.keys.live() == []

    _run(story())


def test_an_interface_that_is_not_there_is_one_sentence():
    async def story():
        try:
            async with _join(False, _free_port(), interface="192.0.2.250"):
                raise AssertionError("it is inside")
        except ConfigError as error:
            assert "192.0.2.250" in str(error)

    _run(story())


async def _until(condition):
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


def test_who_joins_again_hears_the_key_server():
    """A socket that is closed must be taken out of the loop: its number comes back."""

    async def story():
        number = _free_port()
        for _ in range(2):
            async with _join(False, number) as member:
                ike = member.membership._ike
                other = port.udp_socket("127.0.0.1", 0)
                here = port.resolve("127.0.0.1", port.source_address(member._home.sock)[1])
                zeros = bytes(4) + bytes((1,) * 20) + b"\0\0\0\x1c"  # an SPI may begin so
                for marker, data in (
                    (_MARKER, b"marked"),
                    (b"", b"bare"),
                    (b"", zeros),
                    (_MARKER, zeros),
                    (_MARKER, bytes((1,) * 20) + b"\0\0\0\x20\0\0\0\x1c"),  # ID as the length
                ):
                    assert port.send(other, marker + data, here) is None
                    await _until(lambda heard=ike.heard: heard)
                    assert ike.heard.pop() == data
                    number_there = port.source_address(other)[1]
                    assert ike.sources.pop() == ("127.0.0.1", number_there, marker == _MARKER)
                port.close(other)

    _run(story())


def test_a_socket_that_is_opened_as_ours_close_keeps_its_reader():
    """It gets the number of one of ours, for which a task of ours has still to end."""
    if not hasattr(asyncio, "get_running_loop"):
        return  # MicroPython's loop knows sockets by themselves

    async def story():
        member = await _join(False, _free_port()).__aenter__()
        await asyncio.sleep(0.05)
        numbers = [way.sock.fileno() for way in [member._home] + list(member._groups.values())]
        member._close()
        sock, ready = port.udp_socket("127.0.0.1", 0), asyncio.Event()
        assert sock.fileno() in numbers
        asyncio.get_running_loop().add_reader(sock, ready.set)
        await asyncio.sleep(0.05)
        port.send(sock, b"x", port.resolve(*port.source_address(sock)))
        await asyncio.wait_for(ready.wait(), 5)
        asyncio.get_running_loop().remove_reader(sock)
        port.close(sock)

    _run(story())


def test_answers_and_keep_alives_leave_as_they_should():
    """An answer goes where its request came from, behind a marker if that had one."""

    async def story():
        async with _join(False, _free_port()) as member:
            there = port.udp_socket("127.0.0.1", 0)
            place = port.source_address(there)[:2]
            ike = member.membership._ike
            assert ike.path is not None and not ike.path.has_marker
            buf = bytearray(64)
            for marked in (False, True):
                ike.outgoing.append((b"answer", place + (marked,)))
                ike.outgoing.append((KEEPALIVE, place + (marked,)))
                member._kick.set()
                expected = [b"\0\0\0\0answer" if marked else b"answer", b"\xff"]
                for data in expected:
                    for _ in range(200):
                        n = port.recv(there, buf)
                        if n >= 0:
                            break
                        await asyncio.sleep(0.01)
                    assert buf[:n] == data
            here = port.resolve("127.0.0.1", port.source_address(member._home.sock)[1])
            port.send(there, KEEPALIVE, here)
            await _until(lambda: member.member.drops.of(DROP_KEEPALIVE))
            assert ike.heard == []
            port.close(there)

    _run(story())


def test_a_leave_that_is_cancelled_forgets_the_keys():
    async def story():
        receiver = await _join(False, _free_port()).__aenter__()
        receiver.membership._ike.answers_leave = False
        leaving = asyncio.create_task(receiver.__aexit__(None, None, None))
        await asyncio.sleep(0.05)
        assert receiver.member.keys.live() != []
        leaving.cancel()
        try:
            await leaving
        except asyncio.CancelledError:
            pass
        assert receiver.member.keys.live() == []
        assert receiver._groups == {}

    _run(story())


def test_who_can_not_wake_says_why():
    """An error between its keys and its tasks."""

    async def story():
        m = _join(False, _free_port())

        def half():
            m.membership.state = MEMBER
            raise MemoryError

        m._revive = half
        try:
            await m.__aenter__()
        except MemoryError:
            assert m._is_closed
        else:
            raise AssertionError("no error")

    _run(story())


def test_a_join_that_is_cancelled_leaves_nothing_open():
    async def story():
        joined = _join(False, _free_port())
        joined._until_member = lambda: asyncio.sleep(10)
        entering = asyncio.create_task(joined.__aenter__())
        await asyncio.sleep(0.05)
        entering.cancel()
        try:
            await entering
        except asyncio.CancelledError:
            pass
        assert joined.member.keys.live() == [] and joined._groups == {}

    _run(story())


def test_a_server_name_that_is_lost_later_costs_no_membership():
    async def story():
        receiver, sender = await _pair(_free_port())
        resolve = port.resolve

        def lost(*_):
            raise ConfigError("no such host")

        port.resolve = lost
        receiver.membership.events.append(("unanswered", ""))  # so its address is asked for anew
        try:
            receiver.membership._ike.outgoing.append((b"a request", HOME))
            receiver._kick.set()
            await _until(lambda: not receiver.membership._ike.outgoing)
        finally:
            port.resolve = resolve
        listening = asyncio.create_task(_take(receiver, 1))
        await asyncio.sleep(0)
        assert await sender.send(b"still there")
        assert await listening
        await receiver.__aexit__(None, None, None)
        await sender.__aexit__(None, None, None)

    _run(story())


def test_a_server_name_that_nobody_knows_is_one_sentence():
    async def story():
        try:
            async with _join(False, 9, servers=[["no.such.host.invalid", 9, False]]):
                raise AssertionError("it is inside")
        except ConfigError as error:
            assert "no.such.host.invalid" in str(error)

    _run(story())


def test_a_message_longer_than_rx_is_taken_when_it_is_repeated():
    async def story():
        receiver = await _join(False, _free_port()).__aenter__()
        other = port.udp_socket("127.0.0.1", 0)
        here = port.resolve("127.0.0.1", port.source_address(receiver._home.sock)[1])
        heard, drops = receiver.membership._ike.heard, receiver.member.drops
        whole = bytes(4) + bytes(range(256)) * 16
        for _ in range(2):
            lost = drops.of(DROP_IKE_HEADER)
            port.send(other, whole, here)
            await _until(lambda lost=lost: drops.of(DROP_IKE_HEADER) == lost + 1)
            port.send(other, whole, here)
            await _until(lambda: heard)
            assert heard.pop() == whole[4:]
            for n in range(7):
                port.send(other, bytes(4) + bytes([n]), here)
                await _until(lambda: heard)
                assert heard.pop() == bytes([n])
        port.send(other, whole + b"x", here)  # longer than any IKE message
        await _until(lambda: drops.of(DROP_IKE_HEADER) == 3)
        assert not heard
        port.close(other)
        await receiver.__aexit__(None, None, None)

    _run(story())


def test_a_flood_of_unicast_lets_others_work():
    async def story():
        receiver = await _join(False, _free_port()).__aenter__()
        recv_from = port.recv_from
        runs = [0]  # datagrams read between two turns of ours

        def flood(sock, buf, *more):
            runs[-1] += 1
            if runs[-1] > 100:
                return recv_from(sock, buf, *more)
            return 1, None

        port.recv_from = flood
        try:
            other = port.udp_socket("127.0.0.1", 0)
            here = port.resolve("127.0.0.1", port.source_address(receiver._home.sock)[1])
            port.send(other, b"a", here)
            for _ in range(20):
                await asyncio.sleep(0)
                runs.append(0)
        finally:
            port.recv_from = recv_from
        assert 0 < max(runs) <= 16
        port.close(other)
        await receiver.__aexit__(None, None, None)

    _run(story())


def test_messages_without_end_do_not_stop_the_work():
    """A message before each turn, as when a peer sends faster than we work: the second is work."""
    m = _join(False, 0)
    turns = []
    m.membership.step = lambda now_ms: turns.append(now_ms) or 1000
    for _ in range(10):
        m._wake()
        m._turn()
    assert len(turns) == 5
    m._turn()
    assert len(turns) == 6


def test_a_key_that_was_read_here_is_wiped_here():
    async def story():
        settings = _join(False, _free_port()).config
        load = aio.config_file.load
        aio.config_file.load = lambda path: settings
        try:
            async with aio.join("covey.json", timeout_s=5):
                assert any(settings.psk) is False  # all zeros here: the tests' key
                settings.psk[0] = 7
        finally:
            aio.config_file.load = load
        assert not any(settings.psk)
        settings.psk[0] = 7
        async with aio.join(settings, timeout_s=5):
            pass
        assert settings.psk[0] == 7  # its owner is somebody else

    _run(story())


def test_data_follow_the_address_of_their_sa():
    """A rekey moves the group: the old address until ATD is over, then the new one."""

    async def story():
        number, moved = _free_port(), _free_port()
        sender = await _join(True, number).__aenter__()
        old = port.group_socket(_GROUP, number, "127.0.0.1", 1)
        new = port.group_socket("239.192.1.33", moved, "127.0.0.1", 1)
        group = sender.membership._group
        made = registered(STORY["sender"], True, was=group.terms)
        made.rekey_sa = None
        made.data_sas[0].spi = T2
        made.data_sas[0].destination = bytes([239, 192, 1, 33])
        made.terms.atd_s = 1
        made.terms.udp_port = moved
        install(group, made, False, port.ticks_ms())
        sender.membership.listening_changed = True
        sender._kick.set()
        await _until(lambda: len(sender._groups) == 2)
        buf = bytearray(100)
        assert await sender.send(b"to the old")
        assert port.recv(old, buf) > 0 and buf[:4] == T1
        assert port.recv(new, buf) < 0
        await asyncio.sleep(1.1)
        assert await sender.send(b"to the new")
        assert port.recv(new, buf) > 0 and buf[:4] == T2
        assert port.recv(old, buf) < 0
        port.close(old)
        port.close(new)
        await sender.__aexit__(None, None, None)

    _run(story())


def _pass(server, to, buf):
    """Hand one datagram on; its length."""
    n = port.recv(server, buf)
    if n > 0:
        port.send(server, memoryview(buf)[:n], to)
    return n


def _place(member):
    return port.resolve("127.0.0.1", port.source_address(member._home.sock)[1])


def test_members_with_unicast_delivery():
    async def story():
        server = port.udp_socket("127.0.0.1", 0)
        here = port.source_address(server)[1]
        known = {"servers": [["127.0.0.1", here, True]], "delivery": "unicast"}
        receiver = await _join(False, here, **known).__aenter__()
        sender = await _join(True, here, **known).__aenter__()
        assert list(receiver._groups) == list(sender._groups) == [None]  # no group is joined
        assert sender.membership.routes() and set(sender.membership.routes().values()) == {None}
        listening = asyncio.create_task(_take(receiver, 3))
        buf = bytearray(200)
        for i in range(3):
            assert await sender.send(b"speed %d" % i)
            await _until(lambda: _pass(server, _place(receiver), buf) > 0)
        assert await listening == [(b"speed %d" % i, 0x41, False) for i in range(3)]
        port.send(server, bytes(4) + b"hello", _place(receiver))
        ike = receiver.membership._ike
        await _until(lambda: ike.heard)
        assert ike.heard == [b"hello"] and ike.sources == [("127.0.0.1", here, True)]
        ike.outgoing.append((b"again", ike.sources[0]))
        receiver._kick.set()
        await _until(lambda: port.recv(server, buf) == 9)
        assert bytes(buf[:9]) == bytes(4) + b"again"
        group = receiver.membership._group
        group.terms.is_relayed = False  # by another registration
        receiver.membership.listening_changed = True
        receiver._kick.set()
        await _until(lambda: None not in receiver._groups)
        assert list(receiver._groups) == [("239.192.1.32", here)]
        for member in (receiver, sender):
            await member.__aexit__(None, None, None)
        port.close(server)

    _run(story())


def test_leaving_is_told_even_if_nobody_needs_to_be_asked():
    async def story():
        events = []
        member = _join(False, _free_port(), on_event=lambda name, _: events.append(name))
        async with member:
            member.membership._ike.leave = lambda now_ms: False
        assert events == ["registering", "member", "left"]

    _run(story())


def test_joining_lasts_until_every_server_was_asked():
    servers = [["127.0.0.1", 9, False], ["127.0.0.2", 9, False]]
    joined = _join(False, 9, servers=servers, retransmit={"total_s": 7})
    assert aio.join(joined.config)._timeout_s == 15


def test_cancelling_at_any_moment_leaves_nothing():
    """The whole life of a member, cut off after 0, 1, 2 ... turns of the loop."""

    async def life(joined):
        async with joined as member:
            await member.send(b"x")
            async for _ in member:
                pass

    async def story():
        before = len(asyncio.all_tasks()) if hasattr(asyncio, "all_tasks") else 0
        number = _free_port()
        for turns in range(60):
            joined = _join(True, number)
            task = asyncio.create_task(life(joined))
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns > 40:
                await asyncio.sleep((turns - 40) / 200)
            task.cancel()
            if turns & 1:  # and again, while it is leaving
                await asyncio.sleep(0)
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            assert joined.member.keys.live() == [] and joined._groups == {}
            assert joined._is_closed or joined._home.sock is None
            if hasattr(asyncio, "all_tasks"):  # CPython
                for _ in range(4):
                    await asyncio.sleep(0)
                assert len(asyncio.all_tasks()) == before

    _run(story())


def test_a_network_that_refuses_to_send_is_named():
    class Silent(Script):
        def take_outcome(self):
            return None

        def __init__(self, *args, **fields):
            super().__init__(*args, **fields)
            self.outgoing = [(bytes(28), HOME)]

    async def story():
        member = _join(False, _free_port(), servers=[["255.255.255.255", 9, False]])
        registration.Registration = Silent  # broadcast is not allowed: EACCES
        member._timeout_s = 0.2
        try:
            await member.__aenter__()
            raise AssertionError("it is inside")
        except aio.JoinError as error:
            assert "errno 13" in str(error), str(error)

    _run(story())
