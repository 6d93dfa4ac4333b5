"""Members on real sockets and a real event loop: loopback multicast, one process.

The IKE SA is a script (see test_membership.py): keys are those of tests/recorded/group_story.py.
"""

import asyncio

from covey import aio, gsa, kd, port, registration
from covey.config import Config
from covey.drops import DROP_QUEUE_FULL, ConfigError
from story import KWK, STORY

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

    def __init__(self, config, now_ms, random, drops):
        self.gsa = gsa.parse_gsa(STORY[self.policy]["gsa"])
        self.gsa.group_wide.udp_port = self.carrier_port
        for one in self.gsa.policies:
            if len(one.spi) == 16:
                one.destination.start_port = one.destination.end_port = self.carrier_port
        self.kd = kd.parse_kd(STORY[self.policy]["kd"])
        self.kwk = bytearray(KWK)
        self.transport_mode = True
        self.noted = None
        self.reason = self.refusal
        self._outcome = registration.REFUSED if self.refusal else registration.REGISTERED

    def take_outcome(self):
        outcome, self._outcome = self._outcome, None
        return outcome

    def step(self, now_ms):
        return 1000

    def take_outgoing(self):
        return None

    def pull(self, now_ms):
        return False

    def leave(self, now_ms):
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


def test_an_interface_that_is_not_there_is_one_sentence():
    async def story():
        try:
            async with _join(False, _free_port(), interface="192.0.2.250"):
                raise AssertionError("it is inside")
        except ConfigError as error:
            assert "192.0.2.250" in str(error)

    _run(story())
