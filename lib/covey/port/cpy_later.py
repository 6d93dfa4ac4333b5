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
    key = bytes(rx[:_KEY])
    twin = 0
    at = heads.find(key)
    while at >= 0 and not twin:
        slot, rest = divmod(at, _HEAD)
        if not rest and states[slot] and states[slot] != _REFUSED:
            twin = 0x10000
        at = heads.find(key, at + 1)
    free = states.rfind(0, 0, n)
    if free >= 0:
        heads[_HEAD * free : _HEAD * free + _HEAD] = rx[:_HEAD]
    return twin | free + 1


def first_told(states, n, after):
    for i in range(after + 1, after + 1 + n):
        if states[i % n] > 1:
            return i % n
    return -1
