"""Of packets whose proof comes later (covey.waiting), in viper. No heap.

A head is the first 12 octets of a packet: SPI, number, Sender-ID (2), and two that don't matter.
"""

import micropython
from micropython import const

_HEAD = const(12)
_PAYLOAD = const(24)
_WAITING = const(1)
_PROVABLE = const(2)
_REFUSED = const(3)
_MASK = const(0x3FFFFFFF)
_HALF = const(0x20000000)

# Of a room's facts, in words, as covey.waiting has them
_COUNT = const(0)
_TOLD_OF = const(1)
_SOONEST = const(2)
_MOST = const(3)
_SLOTS = const(4)
_TURN = const(5)
_LATEST_LEN = const(6)
_BY_SLOT = const(8)
_END = const(0)
_WEIGHT = const(1)
_LEN = const(2)
# Of an SA's, a chain's and a clock's, as covey.tesla, chains and clock have them
_LAG = const(0)
_SENDER = const(1)
_INDEX = const(2)
_TRAILER = const(3)
_MOST_MS = const(4)
_WANTS = const(5)
_FIRST = const(0)
_LAST = const(1)
_KNOWN = const(2)
_LATEST = const(0)
_UNTIL = const(1)
# Octet of what a sender tells, as covey.ownchain has it
_HOW = const(20)


@micropython.viper
def copy(out: ptr8, at: int, octets: ptr8, off: int, n: int):
    out = ptr8(uint(out) + uint(at))
    octets = ptr8(uint(octets) + uint(off))
    i = 0
    if int(uint(out) | uint(octets)) & 3 == 0:
        words = n >> 2
        p = ptr32(octets)
        q = ptr32(out)
        while i < words:
            q[i] = p[i]
            i += 1
        i <<= 2
    while i < n:
        out[i] = octets[i]
        i += 1


@micropython.viper
def is_same(a: ptr8, b: ptr8, n: int) -> bool:
    i = 0
    while i < n:
        if a[i] != b[i]:
            return False
        i += 1
    return True


@micropython.viper
def number_at(buf: ptr8, at: int) -> int:
    buf = ptr8(uint(buf) + uint(at))
    return (buf[0] & 0x7F) << 24 | buf[1] << 16 | buf[2] << 8 | buf[3]


@micropython.viper
def holds(facts: ptr32, now_ms: int) -> bool:
    return facts[_LATEST] != 0 and now_ms - facts[_UNTIL] & _MASK >= _HALF


@micropython.viper
def put_told(told: ptr8, tx: ptr8, at: int, tag_len: int) -> int:
    tx = ptr8(uint(tx) + uint(at - 4))
    i = 0
    if (at | tag_len) & 3 == 0:
        p = ptr32(told)
        q = ptr32(tx)
        q[0] = p[0]
        q = ptr32(uint(q) + uint(tag_len))
        q[1] = p[1]
        q[2] = p[2]
        q[3] = p[3]
        q[4] = p[4]
    else:
        while i < 4:
            tx[i] = told[i]
            i += 1
        tx = ptr8(uint(tx) + uint(tag_len))
        while i < _HOW:
            tx[i] = told[i]
            i += 1
    how = told[_HOW]
    told[_HOW] = how | 1
    return how


@micropython.viper
def is_judged(judged: ptr32, rx: ptr32, packet: ptr8, proof_at: int) -> bool:
    p = ptr32(uint(packet) + uint(proof_at))
    differs = (judged[4] ^ (rx[2] & 0xFFFF | 0x10000)) & 0x1FFFF
    differs |= judged[0] ^ p[0] | judged[1] ^ p[1] | judged[2] ^ p[2] | judged[3] ^ p[3]
    return differs == 0


@micropython.viper
def keep(
    parts, sa: ptr32, chain: ptr32, clock: ptr32, rx: ptr32, n: int, auth, now_ms: int, given: int
) -> int:
    payload_len = n - sa[_TRAILER]
    wants = sa[_WANTS]
    if int(uint(clock)):
        latest = clock[_LATEST] - 1
        if not chain[_LAST]:
            return -1
        if latest < 0 or payload_len < 0 or now_ms - clock[_UNTIL] & _MASK < _HALF:
            return -1
        if (sa[_SENDER] ^ rx[2]) & 0xFFFF:
            return -1
        t = ptr8(uint(rx) + uint(payload_len + _PAYLOAD))
        if t[0] & 0x80:
            return -1
        wants = t[0] << 24 | t[1] << 16 | t[2] << 8 | t[3]
        lag = sa[_LAG]
        if wants > latest or latest - wants >= lag:
            return -1
        known = chain[_KNOWN]
        if wants <= known or wants > chain[_LAST]:
            return -1
        told = wants - lag
        if told > known or told < chain[_FIRST]:
            return -1
    facts, states, heads, packets, senders, wanted, auths = parts
    w = ptr32(facts)
    w[_LATEST_LEN] = payload_len
    s = ptr8(states)
    slot = given
    head = ptr32(heads)
    if given < 0:
        if w[_COUNT] >= w[_MOST]:
            return -1
        number = rx[1]
        slots = w[_SLOTS]
        i = 0
        while i < slots:
            if i & 3 == 0:
                if i + 4 <= slots:
                    if not ptr32(uint(s) + uint(i))[0]:
                        slot = i
                        i += 4
                        continue
            state = s[i]
            if not state:
                slot = i
            elif state != _REFUSED:
                q = ptr32(uint(head) + uint(_HEAD * i))
                if q[1] == number:
                    if q[0] == rx[0]:
                        if (q[2] ^ rx[2]) & 0xFFFF == 0:
                            return -1
            i += 1
        if slot < 0:
            return -1
    q = ptr32(uint(head) + uint(_HEAD * slot))
    q[0] = rx[0]
    q[1] = rx[1]
    q[2] = rx[2]
    auths[slot] = auth
    senders[slot] = sa[_INDEX]
    wanted[slot] = wants
    p = rx
    q = ptr32(packets[slot])
    i = n + _PAYLOAD
    while i >= 16:
        q[0] = p[0]
        q[1] = p[1]
        q[2] = p[2]
        q[3] = p[3]
        p = ptr32(uint(p) + 16)
        q = ptr32(uint(q) + 16)
        i -= 16
    while i > 0:
        i -= 1
        ptr8(q)[i] = ptr8(p)[i]
    q = ptr32(uint(w) + uint(12 * slot + 4 * _BY_SLOT))
    end = now_ms + sa[_MOST_MS] & _MASK
    q[_END] = end
    q[_LEN] = n
    if not w[_COUNT] or end - w[_SOONEST] & _MASK >= _HALF:
        w[_SOONEST] = end
    w[_COUNT] = w[_COUNT] + 1
    s[slot] = _WAITING
    return slot


@micropython.viper
def take(parts, rx: ptr32, now_ms: int) -> int:
    facts, states, _, packets, _, _, _ = parts
    w = ptr32(facts)
    if w[_COUNT]:
        if now_ms - w[_SOONEST] & _MASK < _HALF:
            return -2
    if not w[_TOLD_OF]:
        return -1
    s = ptr8(states)
    slots = w[_SLOTS]
    slot = w[_TURN] + 1
    while True:
        if slot >= slots:
            slot = 0
        if slot & 3 == 0:
            if slot + 4 <= slots:
                if not ptr32(uint(s) + uint(slot))[0] & 0x06060606:
                    slot += 4
                    continue
        if s[slot] > _WAITING:
            break
        slot += 1
    w[_TURN] = slot
    n = ptr32(uint(w) + uint(12 * slot + 4 * _BY_SLOT))[_LEN]
    p = ptr32(packets[slot])
    q = rx
    i = n + _PAYLOAD
    while i >= 16:
        q[0] = p[0]
        q[1] = p[1]
        q[2] = p[2]
        q[3] = p[3]
        p = ptr32(uint(p) + 16)
        q = ptr32(uint(q) + 16)
        i -= 16
    while i > 0:
        i -= 1
        ptr8(q)[i] = ptr8(p)[i]
    n = n << 10 | slot
    if s[slot] == _PROVABLE:
        n |= 0x200
    return n


@micropython.viper
def let_go(parts, slot: int):
    facts, states, _, _, _, _, auths = parts
    w = ptr32(facts)
    s = ptr8(states)
    if s[slot] != _REFUSED:
        w[_COUNT] = w[_COUNT] - 1
    w[_TOLD_OF] = w[_TOLD_OF] - 1
    s[slot] = 0
    auths[slot] = None
    ptr32(uint(w) + uint(12 * slot + 4 * _BY_SLOT))[_WEIGHT] = 1
