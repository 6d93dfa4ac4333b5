"""Signed packets over real sockets: send() waits for a signature, all else goes on."""

import asyncio

from covey.drops import DROP_OVERSIZE, DROP_UNSIGNED, ConfigError
from covey.job import finish
from covey.p256_sign import point_job
from covey.signatures import Signatures
from covey.signers import TAIL
from covey.vouched import Signers
from test_aio import _free_port, _join, _run

# A sender of the story has the Sender-ID 0x41, of which the lower half is an incarnation here.
ROWS = [(0, 0, b"other"), (4, 0, b"press-7")]
NAMES = {0: b"other", 4: b"press-7"}
KEY = b"\x05" * 32
LIMITS = {"payload": 300}  # with what lies behind a payload
POINT = finish(point_job(KEY))


def sign(joined, index=None, levels=3):
    """From now on its packets are signed."""
    signers = Signers(ROWS, {b"press-7": POINT, b"other": POINT})
    key = None if index is None else KEY
    for sa in joined.member.keys.live():
        sa.auth = Signatures(levels, signers, NAMES, index, key, 4, 7)


async def _signed_pair(levels=3):
    number = _free_port()
    receiver = await _join(False, number, limits=LIMITS).__aenter__()
    sender = await _join(True, number, limits=LIMITS).__aenter__()
    sign(receiver, levels=levels)
    sign(sender, 4, levels)
    return receiver, sender


async def _take(member, count):
    found = []
    async for packet in member:
        assert packet.confirmed and packet.source == b"press-7"
        found.append(packet.payload)
        if len(found) == count:
            return found


async def _leave(*members):
    for member in members:
        await member.__aexit__(None, None, None)


def test_one_signature_for_one_and_one_for_many():
    async def story():
        receiver, sender = await _signed_pair()
        listening = asyncio.create_task(_take(receiver, 12))
        assert await sender.send(b"stop")
        payloads = [b"%d" % n for n in range(11)]
        assert await sender.send_many(payloads) == 11  # eight, and three
        assert sorted(await listening) == sorted([b"stop"] + payloads)
        assert sender.status()["sent"] == 12 and receiver.status()["opened"] == 12
        assert await sender.send_many([]) == 0
        await _leave(receiver, sender)

    _run(story())


def test_all_else_goes_on_while_it_signs():
    """Two tasks send at once: each number is signed once, and a third has its turns."""

    async def story():
        receiver, sender = await _signed_pair()
        listening = asyncio.create_task(_take(receiver, 7))
        turns = [0]

        async def count():
            while True:
                turns[0] += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        several = asyncio.create_task(sender.send_many([b"%d" % n for n in range(6)]))
        alone = asyncio.create_task(sender.send(b"alone"))
        assert await several == 6 and await alone
        assert turns[0] > 200
        counting.cancel()
        assert len(await listening) == 7
        await _leave(receiver, sender)

    _run(story())


def test_other_keys_while_it_signs():
    """The packet is signed anew for them."""

    async def story():
        receiver, sender = await _signed_pair()
        listening = asyncio.create_task(_take(receiver, 1))
        sending = asyncio.create_task(sender.send(b"stop"))
        for _ in range(20):
            await asyncio.sleep(0)
        before = sender.member.keys.sending.auth
        assert before.trailer == TAIL and not before._signed
        sign(sender, 4)  # what the SA has is another one from now on
        assert await sending and not before._signed
        assert await listening == [b"stop"]
        assert sender.member.keys.sending.next_seq == 2
        await _leave(receiver, sender)

    _run(story())


def _fails(payload):
    raise OSError(5)


def test_what_can_not_be_sent():
    async def story():
        receiver, sender = await _signed_pair()
        most = 300 - TAIL
        for payloads, longest in (
            ((bytes(most + 1),), most),
            ((b"", bytes(most - 31)), most - 32),
        ):
            try:
                await sender.send_many(payloads)
            except ConfigError as error:
                assert "%d octets" % longest in str(error), error
                continue
            raise AssertionError(longest)
        assert sender.member.drops.of(DROP_OVERSIZE) == 2
        assert await sender.send(bytes(most)) and sender.member.payload_most == most
        try:
            await receiver.send(b"x")
            raise AssertionError("a receiver sends")
        except ConfigError:
            pass
        sender._signing._leave = _fails
        try:
            await sender.send_many([b"x", b"y"])
            raise AssertionError("sent")
        except OSError:
            assert sender.member.send(0, 0) == DROP_UNSIGNED
        sender.member.keys.silence()
        assert not await sender.send(b"x") and await sender.send_many([b"x", b"y"]) == 0
        await _leave(receiver, sender)

    _run(story())


def test_keys_that_go_while_it_signs():
    async def story():
        receiver, sender = await _signed_pair()
        sending = asyncio.create_task(sender.send(b"stop"))
        for _ in range(20):
            await asyncio.sleep(0)
        sender.member.keys.silence()
        assert await sending is False
        await _leave(receiver, sender)

    _run(story())
