"""Member on CPython against the bare AES-GCM calls for the same packet."""

import os
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey.gcm import GCMContext
from covey.port import buffer

from .board import TIME
from .results import Table
from .scripts.packets import KEYMAT, Wire
from .timing import shortest

TITLE = "Member on CPython"
PAYLOAD_LEN = 64
UNIT = TIME

_HEAD, _TAG, _AAD_LEN = 16, 16, 8


def run(table: Table, quick: bool) -> None:
    bare, member = "CPython: AESGCM encrypt + decrypt", f"CPython: {MEMBER}"
    context = "CPython: GCMContext.seal + open"
    rounds, repeats = rounds_of(quick)
    calls = {bare: bare_call(), context: context_call(), member: member_call()}
    least = shortest(calls, rounds, repeats)
    table.add(bare, least[bare], UNIT)
    table.add(context, least[context], UNIT, bare)
    table.add(member, least[member], UNIT, bare)


MEMBER = f"Member.send + receive, {PAYLOAD_LEN} octets"


def rounds_of(quick: bool) -> tuple[int, int]:
    return (2, 3) if quick else (60, 1000)


def packet_len() -> int:
    wire = Wire()
    wire.carry(PAYLOAD_LEN)
    return wire.length


def bare_call() -> Callable[[], None]:
    """The two calls that the packet of member_call can't do without, and nothing else."""
    aead = AESGCM(KEYMAT[:16])
    nonce = os.urandom(12)
    aad = bytes(_AAD_LEN)
    text = bytes(packet_len() - _HEAD - _TAG)
    encrypt, decrypt = aead.encrypt, aead.decrypt

    def call():
        decrypt(nonce, encrypt(nonce, text, aad), aad)

    return call


def context_call() -> Callable[[], None]:
    """The same as a member has it done: out of a buffer, and back into it."""
    context = GCMContext(KEYMAT)
    buf = buffer(packet_len())
    text_len = len(buf) - _HEAD - _TAG

    def call():
        context.seal(buf, 0, _AAD_LEN, text_len)
        context.open(buf, 0, _AAD_LEN, text_len)

    call()
    assert not any(buf[_HEAD : _HEAD + text_len])
    return call


def member_call() -> Callable[[], None]:
    """A payload into a sender's buffer, the datagram into a receiver's, and the payload out."""
    wire = Wire()
    sender, receiver = wire.sender, wire.receiver
    payload = os.urandom(PAYLOAD_LEN)

    def call():
        sender.out[:PAYLOAD_LEN] = payload
        n = sender.send(PAYLOAD_LEN, 0)
        receiver.rx[:n] = sender.tx[:n]
        receiver.receive(n, 0)

    call()
    assert receiver.payload == payload
    return call
