"""Of packets whose proof comes later, on CPython: see covey.port and port/mpy_later.py."""

_HEAD = 12
_KEY = 10  # octets of it that matter
_PAYLOAD = 24
_WAITING = 1
_PROVABLE = 2
_REFUSED = 3
_MASK = 0x3FFFFFFF
_HALF = 0x20000000

# Of a room's facts, as covey.waiting has them
_COUNT = 0
_TOLD_OF = 1
_SOONEST = 2
_MOST = 3
_SLOTS = 4
_TURN = 5
_LATEST_LEN = 6
_BY_SLOT = 8
_END = 0
_WEIGHT = 1
_LEN = 2
# Octets of what a sender tells, and of what was judged, as covey.ownchain and timekeeper have them
_HOW = 20
_JUDGED = 16
_IS_ANY = 18


def copy(out, at, octets, off, n):
    out[at : at + n] = octets[off : off + n]


def is_same(a, b, n):
    return a[:n] == b[:n]


def number_at(buf, at):
    return int.from_bytes(buf[at : at + 4], "big") & 0x7FFFFFFF


def holds(facts, now_ms):
    value, until = facts
    return value != 0 and now_ms - until & _MASK >= _HALF


def put_told(told, tx, at, tag_len):
    tx[at - 4 : at] = told[:4]
    tx[at + tag_len : at + tag_len + _HOW - 4] = told[4:_HOW]
    how = told[_HOW]
    told[_HOW] = how | 1
    return how


def is_judged(judged, rx, packet, proof_at):
    if not judged[_IS_ANY] or judged[_JUDGED:_IS_ANY] != rx[8:10]:
        return False
    return judged[:_JUDGED] == packet[proof_at : proof_at + _JUDGED]


def keep(parts, sa, chain, clock, rx, n, auth, now_ms, slot):
    lag, said, sender, trailer, most_ms, wants = sa
    payload_len = n - trailer
    if clock:
        later, until = clock
        if not chain[1] or not later or payload_len < 0 or now_ms - until & _MASK < _HALF:
            return -1
        at = _PAYLOAD + payload_len
        wants = int.from_bytes(rx[at : at + 4], "big")
        first, last, known = chain
        if rx[8] | rx[9] << 8 != said or not later - lag <= wants < later:
            return -1
        if not (known < wants <= last and first <= wants - lag <= known):
            return -1
    facts, states, heads, packets, senders, wanted, auths = parts
    facts[_LATEST_LEN] = payload_len
    if slot < 0:
        if facts[_COUNT] >= facts[_MOST]:
            return -1
        key = bytes(rx[:_KEY])
        at = heads.find(key)
        while at >= 0:
            slot, rest = divmod(at, _HEAD)
            if not rest and states[slot] and states[slot] != _REFUSED:
                return -1
            at = heads.find(key, at + 1)
        slot = states.rfind(0)
        if slot < 0:
            return -1
    heads[_HEAD * slot : _HEAD * slot + _HEAD] = rx[:_HEAD]
    auths[slot] = auth
    senders[slot] = sender
    end = now_ms + most_ms & _MASK
    wanted[slot] = wants
    packets[slot][: _PAYLOAD + n] = rx[: _PAYLOAD + n]
    facts[_BY_SLOT + 3 * slot + _END] = end
    facts[_BY_SLOT + 3 * slot + _LEN] = n
    if not facts[_COUNT] or end - facts[_SOONEST] & _MASK >= _HALF:
        facts[_SOONEST] = end
    facts[_COUNT] += 1
    states[slot] = _WAITING
    return slot


def take(parts, rx, now_ms):
    facts, states, _, packets, _, _, _ = parts
    if facts[_COUNT] and now_ms - facts[_SOONEST] & _MASK < _HALF:
        return -2
    if not facts[_TOLD_OF]:
        return -1
    slot, slots = facts[_TURN], facts[_SLOTS]
    while True:
        slot = (slot + 1) % slots
        if states[slot] > _WAITING:
            break
    facts[_TURN] = slot
    n = facts[_BY_SLOT + 3 * slot + _LEN]
    rx[: _PAYLOAD + n] = packets[slot][: _PAYLOAD + n]
    return n << 10 | (states[slot] == _PROVABLE) << 9 | slot


def let_go(parts, slot):
    facts, states, _, _, _, _, auths = parts
    facts[_COUNT] -= states[slot] != _REFUSED
    facts[_TOLD_OF] -= 1
    states[slot] = 0
    auths[slot] = None
    facts[_BY_SLOT + 3 * slot + _WEIGHT] = 1
