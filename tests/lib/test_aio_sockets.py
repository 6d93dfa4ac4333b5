"""A member whose sockets are closed by empty datagrams, fail, or have no memory: it goes on.

On MicroPython also on the lwIP of the ESP32 (lwip.py), by the real event loop.
"""

import asyncio

import lwip
from covey import aio, carrier, port, registration
from covey.drops import DROP_EMPTY, DROP_SOCKET
from covey.nat import HOME
from datapath import BOARD
from test_aio import _GROUP, Script, _free_port, _join, _run, _take, _until

_UNICAST_IN = b"\0\0\0\0marked"


class OwnSystem:
    """Loopback sockets."""

    interface = "127.0.0.1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def deliver(self, data, place):
        sock = port.udp_socket("127.0.0.1", 0)
        if place[0] == _GROUP:
            port.close(sock)
            sock = port.group_socket(place[0], place[1], "127.0.0.1", 1)
        assert port.send(sock, data, port.resolve(*place)) is None
        port.close(sock)


class Board:
    """lwIP's."""

    interface = lwip.OWN

    def __enter__(self):
        self._sockets = lwip.OnAir()
        self.air = self._sockets.__enter__()
        return self

    def __exit__(self, *_):
        left = list(self.air.open)
        self._sockets.__exit__()
        assert left == [] and self.air.unknown_options == []

    def deliver(self, data, place):
        host = lwip.OWN if place[0] == "127.0.0.1" else place[0]
        self.air.deliver(data, (host, place[1]))


SYSTEMS = (OwnSystem, Board) if BOARD else (OwnSystem,)


def _on_each(story):
    for system in SYSTEMS:
        with system() as world:
            _run(story(world))


class Silent(Script):
    """No key server answers it."""

    def take_outcome(self):
        return None


async def _entered(world, sending, number):
    return await _join(sending, number, interface=world.interface).__aenter__()


async def _left(*members):
    for member in members:
        await member.__aexit__(None, None, None)


def test_who_is_inside_hears_what_is_sent_at_once():
    """No turn of the loop goes by between the end of join() and the packet."""

    async def story(world):
        number = _free_port()
        sender = await _entered(world, True, number)
        assert list(sender._routes.values()) == [sender._groups[(_GROUP, number)]]
        for i in range(5):
            receiver = await _entered(world, False, number)
            payload = b"at once %d" % i
            assert await sender.send(payload)
            assert await _take(receiver, 1) == [(payload, 0x41, False)]
            await _left(receiver)
        await _left(sender)

    _on_each(story)


def test_who_has_no_memory_for_its_sockets_is_inside_once_it_has():
    async def story(world):
        open_for, failed = carrier.open_for, []

        def short(*args):
            if len(failed) < 3:
                failed.append(1)
                raise MemoryError
            return open_for(*args)

        number = _free_port()
        carrier.open_for = short
        try:
            receiver = await _entered(world, False, number)
        finally:
            carrier.open_for = open_for
        assert len(failed) == 3 and list(receiver._groups) == [(_GROUP, number)]
        await _left(receiver)

    _on_each(story)


def test_a_group_socket_that_finds_no_memory_for_its_task_is_opened_again():
    async def story(world):
        create_task, made = asyncio.create_task, []

        def short(work):
            made.append(1)
            if len(made) == 3:  # behind those of the key server's socket and of the work
                work.close()
                raise MemoryError
            return create_task(work)

        number = _free_port()
        asyncio.create_task = short
        try:
            receiver = await _entered(world, False, number)
        finally:
            asyncio.create_task = create_task
        assert len(made) == 4
        sender = await _entered(world, True, number)
        assert await sender.send(b"heard")
        assert await _take(receiver, 1) == [(b"heard", 0x41, False)]
        await _left(sender, receiver)

    _on_each(story)


def test_empty_datagrams_to_the_group():
    """Before, between and behind packets, while its task waits and while it reads."""

    async def story(world):
        number = _free_port()
        receiver = await _entered(world, False, number)
        sender = await _entered(world, True, number)
        listening = asyncio.create_task(_take(receiver, 6))
        drops = receiver.member.drops
        expected = []
        for i in range(3):
            world.deliver(b"", (_GROUP, number))
            await _until(lambda i=i: drops.of(DROP_EMPTY) == 2 * i + 1)
            assert await sender.send(b"alone %d" % i)
            await _until(lambda i=i: receiver.member.opened == 2 * i + 1)
            assert await sender.send(b"first %d" % i)
            world.deliver(b"", (_GROUP, number))
            await _until(lambda i=i: drops.of(DROP_EMPTY) == 2 * i + 2)
            expected += [(b"%s %d" % (text, i), 0x41, False) for text in (b"alone", b"first")]
        assert await listening == expected
        await asyncio.sleep(0.02)
        assert drops.as_dict() == {"empty": 6}
        await _left(receiver, sender)

    _on_each(story)


async def _looks(turns):
    """How often anybody reads while so many turns of ours go by."""
    looks = []
    real = port.recv, port.recv_from
    port.recv = lambda *args: looks.append(1) or real[0](*args)
    port.recv_from = lambda *args: looks.append(1) or real[1](*args)
    try:
        for _ in range(turns):
            await asyncio.sleep(0.001)
    finally:
        port.recv, port.recv_from = real
    return len(looks)


async def _rests():
    """Whether nobody reads any more, once everybody had a turn."""
    for _ in range(20):
        if await _looks(20) == 0:
            return True
    return False


def test_it_waits_for_the_new_socket():
    """To wait for one that is closed is no waiting: the loop would turn and turn."""

    async def story(world):
        number = _free_port()
        receiver = await _entered(world, False, number)
        place = "127.0.0.1", port.source_address(receiver._home.sock)[1]
        drops = receiver.member.drops
        for i in range(2):
            world.deliver(b"", (_GROUP, number))
            world.deliver(b"", place)
            await _until(lambda i=i: drops.of(DROP_EMPTY) == 2 * i + 2)
            assert await _rests()
        await _left(receiver)

    _on_each(story)


def test_empty_datagrams_to_the_unicast_socket():
    async def story(world):
        receiver = await _entered(world, False, _free_port())
        place = "127.0.0.1", port.source_address(receiver._home.sock)[1]
        drops = receiver.member.drops
        for i in range(3):
            world.deliver(b"", place)
            await _until(lambda i=i: drops.of(DROP_EMPTY) == i + 1)
            world.deliver(_UNICAST_IN, place)
            ike = receiver.membership._ike
            await _until(lambda ike=ike: ike.heard)
            assert ike.heard.pop() == b"marked"
        assert drops.as_dict() == {"empty": 3}
        assert place[1] == port.source_address(receiver._home.sock)[1]
        await _left(receiver)

    _on_each(story)


def _failing(names, sock, times):
    """Put in place of the port's calls: the socket fails so often. What gives them back."""
    real = {name: getattr(port, name) for name in names}

    def put(name):
        def call(asked, *args):
            if asked is sock and times[0]:
                times[0] -= 1
                return (-2, None) if name == "recv_from" else -2
            return real[name](asked, *args)

        setattr(port, name, call)

    for name in names:
        put(name)
    return lambda: [setattr(port, name, real[name]) for name in names]


def test_trouble_is_counted_and_asked_again_after_a_pause():
    """Others work in between: each turn of ours sees no more than one try."""

    async def story(world):
        number = _free_port()
        receiver = await _entered(world, False, number)
        sender = await _entered(world, True, number)
        group = receiver._groups[(_GROUP, number)]
        drops = receiver.member.drops
        pauses = []
        sleep = asyncio.sleep

        async def counted(seconds):
            pauses.append(seconds)
            await sleep(seconds)

        for sock, wake in (
            (group.sock, lambda: sender.send(b"x")),
            (receiver._home.sock, None),
        ):
            before = drops.of(DROP_SOCKET)
            del pauses[:]
            give_back = _failing(("recv", "recv_from"), sock, [3])
            aio.asyncio.sleep = counted
            try:
                if wake:
                    assert await wake()
                else:
                    place = "127.0.0.1", port.source_address(sock)[1]
                    world.deliver(_UNICAST_IN, place)
                for _ in range(200):
                    if drops.of(DROP_SOCKET) == before + 3:
                        break
                    await sleep(0.01)
                await sleep(0.1)
            finally:
                aio.asyncio.sleep = sleep
                give_back()
            assert drops.of(DROP_SOCKET) == before + 3
            assert pauses.count(0.05) == 3
        await _until(lambda: receiver.member.opened == 1)
        await _until(lambda: receiver.membership._ike.heard == [b"marked"])
        assert await _take(receiver, 1) == [(b"x", 0x41, False)]
        await _left(receiver, sender)

    _on_each(story)


def test_a_socket_that_can_not_be_had_for_a_while():
    """lwIP has none left just when one is to be made anew."""
    if not BOARD:
        return

    async def story(world):
        number = _free_port()
        receiver = await _entered(world, False, number)
        air = world.air
        drops = receiver.member.drops
        air.most_open = 0
        world.deliver(b"", (_GROUP, number))
        await _until(lambda: drops.of(DROP_SOCKET) >= 2)
        assert drops.of(DROP_EMPTY) == 1 and len(air.open) == 1
        air.most_open = 16
        await _until(lambda: len(air.open) == 2)
        sender = await _entered(world, True, number)
        assert await sender.send(b"back")
        assert await _take(receiver, 1) == [(b"back", 0x41, False)]
        await _left(receiver, sender)

    with Board() as world:
        _run(story(world))


def test_who_has_no_socket_to_ask_by_is_told_so():
    """Not that it is the network's fault, or the key server's."""
    if not BOARD:
        return

    async def story(world):
        member = _join(False, _free_port(), interface=world.interface)
        registration.Registration = Silent
        member._timeout_s = 0.2
        entering = asyncio.create_task(member.__aenter__())
        while member._home.sock is None:
            await asyncio.sleep(0)
        world.air.most_open = 0
        world.deliver(b"", ("127.0.0.1", port.source_address(member._home.sock)[1]))
        await _until(lambda: member.member.drops.of(DROP_SOCKET))
        member.membership._ike.outgoing.append((bytes(28), HOME))
        member._kick.set()
        try:
            await entering
            raise AssertionError("it is inside")
        except aio.JoinError as error:
            assert "no socket (errno %d)" % lwip.ENFILE in str(error), str(error)
            assert "network" not in str(error)

    with Board() as world:
        _run(story(world))


def test_leaving_while_sockets_are_gone():
    if not BOARD:
        return

    async def story(world):
        receiver = await _entered(world, False, 4500)
        world.air.most_open = 0
        world.deliver(b"", (_GROUP, 4500))
        await _until(lambda: receiver.member.drops.of(DROP_SOCKET))
        await _left(receiver)

    with Board() as world:
        _run(story(world))
