"""TCP segments of targets, put together to explicit messages. Sans I/O, bounded.

We watch connections that others have: nothing can be asked for again. A stream is followed in the
order in which its segments pass; one that is missing, or overtaken, loses its message, and the
stream is taken up where a later segment begins with the head of a reply, as most do. So is
one whose beginning we haven't seen. What is lost so is counted: a Forward_Open among it leaves its
connection unknown, so its frames stay where they are.
"""

import struct
from collections import Counter, OrderedDict
from ipaddress import IPv4Address

from . import encap

MOST_STREAMS = 64
MOST_OCTETS = 2048  # of a message that is looked at; longer ones are none of ours, and skipped

_TCP = 6
_IP_LEAST, _TCP_LEAST = 20, 20
_FRAGMENT = 0x3FFF  # more fragments, or an offset
_FIN, _SYN, _RST = 1, 2, 4
_HALF = 1 << 31
_MASK = (1 << 32) - 1


class Streams:
    """drops: counts what can't be followed, by name."""

    def __init__(self, drops: Counter):
        self._drops = drops
        self._streams: OrderedDict[bytes, _Stream] = OrderedDict()

    def packet(self, data: bytes) -> list[tuple[IPv4Address, bytes]]:
        """An IPv4 packet: (who sent it, message) of each message that it completes."""
        if len(data) < _IP_LEAST or data[0] >> 4 != 4 or data[9] != _TCP:
            return []
        if int.from_bytes(data[6:8]) & _FRAGMENT:
            self._drops["watch_fragment"] += 1
            return []
        head = 4 * (data[0] & 0xF)
        end = int.from_bytes(data[2:4]) or len(data)  # 0: put together by the network card
        if head < _IP_LEAST or end > len(data) or end < head + _TCP_LEAST:
            self._drops["watch_header"] += 1
            return []
        source, _, number = struct.unpack_from(">HHI", data, head)
        text = head + 4 * (data[head + 12] >> 4)
        if source != encap.PORT or not head + _TCP_LEAST <= text <= end:
            self._drops["watch_header"] += 1
            return []
        key = data[12:20] + data[head : head + 4]
        flags = data[head + 13]
        if flags & (_SYN | _RST):
            self._streams.pop(key, None)
            if flags & _RST:
                return []
            number = number + 1 & _MASK
        stream = self._follow(key, number, bool(flags & _SYN))
        messages = stream.take(number, data[text:end], self._drops)
        if flags & _FIN:
            self._streams.pop(key, None)
        return [(IPv4Address(data[12:16]), message) for message in messages]

    def _follow(self, key: bytes, number: int, begins: bool) -> "_Stream":
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) == MOST_STREAMS:
                self._streams.popitem(last=False)  # that has been quiet for longest
                self._drops["watch_streams"] += 1
            stream = self._streams[key] = _Stream(number, begins)
        self._streams.move_to_end(key)
        return stream


class _Stream:
    def __init__(self, number: int, begins: bool):
        self._next = number  # the sequence number that comes next
        self._held = b""  # a message as far as it has come
        self._skip = 0  # octets that a long message still has
        self._is_lost = not begins  # until a segment begins with a reply

    def take(self, number: int, text: bytes, drops: Counter) -> list[bytes]:
        """A segment: the messages that are whole now."""
        behind = self._next - number & _MASK
        if behind >= _HALF:  # octets are missing
            drops["watch_gap"] += 1
            self._lose()
        elif behind >= len(text):
            return []  # sent again, or without text
        elif behind:
            text = text[behind:]
            number = self._next
        self._next = number + len(text) & _MASK
        if not text or self._is_lost and not encap.is_reply(text):
            return []
        self._is_lost = False
        return self._cut(self._held + text, drops)

    def _cut(self, text: bytes, drops: Counter) -> list[bytes]:
        whole = []
        while True:
            skipped = min(self._skip, len(text))
            self._skip -= skipped
            text = text[skipped:]
            if len(text) < encap.HEADER:
                break
            length = encap.length_of(text)
            if length is None:
                drops["watch_header"] += 1
                self._lose()
                return whole
            if length > MOST_OCTETS:
                self._skip = length
                continue
            if len(text) < length:
                break
            whole.append(text[:length])
            text = text[length:]
        self._held = text
        return whole

    def _lose(self):
        self._held, self._skip, self._is_lost = b"", 0, True
