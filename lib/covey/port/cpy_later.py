"""Of packets whose proof comes later, on CPython: see covey.port and port/mpy_later.py."""

_HEAD = 12
_KEY = 10  # octets of it that matter
_REFUSED = 3


def copy(out, at, octets, off, n):
    out[at : at + n] = octets[off : off + n]


def is_same(a, b, n):
    return a[:n] == b[:n]


def number_at(buf, at):
    return int.from_bytes(buf[at : at + 4], "big") & 0x7FFFFFFF


def scan(states, heads, n, rx):
    key = rx[:_KEY]
    found = 0
    free = None
    for i in range(n):
        if not states[i]:
            found = found & 0x10000 | i + 1
            free = i
        elif states[i] != _REFUSED and heads[_HEAD * i : _HEAD * i + _KEY] == key:
            found |= 0x10000
    if free is not None:
        heads[_HEAD * free : _HEAD * free + _HEAD] = rx[:_HEAD]
    return found


def first_told(states, n, after):
    for i in range(after + 1, after + 1 + n):
        if states[i % n] > 1:
            return i % n
    return -1
