"""What a member without the producer's secrets puts behind a payload, to pass for the producer.

It has all that the group has, and the producer's last packet in clear. By turns it takes over what
proved that one, and makes the best proof of its own that it can.
"""

import os
from collections.abc import Callable, Iterator

from covey import cmac, merkle, p256_sign
from covey.chainhash import mac_key
from covey.job import finish
from covey.sa import DataSA
from covey.signers import emit_trailer
from covey.timing import KEY_LEN

_NUMBER, _SENDER, _PORT, _UDP_LEN, _PAYLOAD = 4, 8, 18, 20, 24
_INTERVAL = 4  # octets

Way = Callable[[bytes], bytes]  # a packet in clear, as far as its payload → what follows


def ways(sa: DataSA, heard: bytes, epoch: int) -> Iterator[Way]:
    """By turns. heard: the producer's last packet in clear, from SPI to trailer. epoch: of sa."""
    auth = sa.auth
    if auth is None:
        own: list[Way] = [lambda packet: b""]
    else:
        behind = heard[-auth.trailer :]
        own = [lambda packet: behind, _OWN[type(auth).__name__](auth, heard, epoch)]
    while True:
        yield from own


def clear(rx: bytes) -> bytes:
    """The packet that a Member has just opened, without padding."""
    return bytes(rx[: _PAYLOAD - 8 + int.from_bytes(rx[_UDP_LEN : _UDP_LEN + 2], "big")])


def head(sa: DataSA, sender: int, number: int) -> bytes:
    """Of a packet in clear. sender: of 16 bits."""
    ports = 2 * sa.port.to_bytes(2, "big")
    numbers = number.to_bytes(4, "big") + sender.to_bytes(2, "big") + bytes(2)
    return bytes(sa.spi) + numbers + number.to_bytes(4, "big") + ports + bytes(4)


def _no_tags(auth, heard: bytes, epoch: int) -> Way:
    """It has no key of any other receiver's."""
    return lambda packet: bytes(auth.trailer)


def _disclosed(auth, heard: bytes, epoch: int) -> Way:
    """A MAC that is right, under the newest key that it knows: the one that was told last."""
    tag_len = auth.keeper.timing.tag_len
    behind = heard[-auth.trailer :]
    interval = int.from_bytes(behind[:_INTERVAL], "big") - auth.keeper.timing.lag
    name = _producer(auth, heard)
    index = next(index for index, one in auth.names.items() if one == name)
    salt = auth.keeper.chains.of(index, interval).salt
    context = cmac.CMACContext(mac_key(salt, name, behind[-KEY_LEN:]))

    def way(packet: bytes) -> bytes:
        said = packet + interval.to_bytes(_INTERVAL, "big")
        buf = bytearray(said + bytes(tag_len + 4))
        n = len(said) - _PAYLOAD
        context.sign(buf, n, bytearray(epoch.to_bytes(4, "big")), len(said), tag_len)
        return bytes(buf[len(packet) : len(said) + tag_len]) + behind[-KEY_LEN:]

    return way


def _signed_by_nobody(auth, heard: bytes, epoch: int) -> Way:
    """A signature that is right, by a key that nobody vouches for."""
    key = p256_sign.derived(os.urandom(32), b"another")
    name = _producer(auth, heard)

    def way(packet: bytes) -> bytes:
        port = int.from_bytes(packet[_PORT : _PORT + 2], "big")
        said = packet[:12], port, epoch.to_bytes(4, "big"), name, packet[_PAYLOAD:]
        statement = merkle.statement(0, merkle.leaf(*said))
        return emit_trailer(b"", 0, *finish(p256_sign.sign_job(key, statement)))

    return way


def _producer(auth, heard: bytes) -> bytes:
    return auth.name_of(int.from_bytes(heard[_SENDER : _SENDER + 2], "big"))


_OWN = {"ReceiverMACs": _no_tags, "TimedMACs": _disclosed, "Signatures": _signed_by_nobody}
