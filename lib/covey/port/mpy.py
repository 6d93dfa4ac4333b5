"""MicroPython: cryptolib, hashlib, the board's clock, files; kernels and sockets from beside."""

import gc
import time
from gc import collect
from hashlib import sha256
from sys import modules

import micropython
from cryptolib import aes
from micropython import const

from covey.drops import ConfigError
from covey.port.chance import random_bytes, stir
from covey.port.mpy_address import ipv4_of, own_ipv4, resolve
from covey.port.mpy_gcm import GCMContext, GMACContext
from covey.port.mpy_path import (
    STEP_IS_DUE,
    accept,
    admit,
    find_spi,
    frame,
    heard,
    link,
    place,
    trim,
    unlink,
    word_of,
    words,
)
from covey.port.mpy_rare import RareContext
from covey.port.mpy_socket import (
    close,
    group_socket,
    pollable,
    recv,
    recv_from,
    recv_parts,
    send,
    source_address,
    udp_socket,
)

try:
    from hashlib import sha1
except ImportError:  # a firmware without it
    sha1 = None
try:
    from esp32 import idf_heap_info
except ImportError:
    idf_heap_info = None

WAITING_SLOTS = 16

_MASK = const(0x3FFFFFFF)  # ticks wrap at 2^30
_ECB = const(1)
_HEAP_DATA = const(4)  # esp32.HEAP_DATA
buffer = bytearray  # the heap never moves it
_BUILT = const(2026)  # a clock that shows an earlier year was never set
_FILLINGS = const(16)  # to a look where they lie: more would fill what is to stay
_OF_A_STEP = const(127)  # pairs, and one: eight looks
_MOST_PAIRS = const(8192)  # with so much free, no search is as long as more of them would take
_BEHIND = const(2048)  # blocks: what lies farther behind the end lies in another area
_SPARE = const(20480)  # octets that stay free for the work itself, and for all others meanwhile
_SPARE_FOR_OTHERS = const(31744)  # beside which holes may take up to a half of what is free

if time.ticks_add(0, -1) == _MASK:  # a 32-bit board: its clock is the contract's
    from time import ticks_add, ticks_diff, ticks_ms

    _PAIR = 16  # octets
else:
    from covey.port import mpy_desktop

    ticks_add = mpy_desktop.ticks_add
    ticks_diff = mpy_desktop.ticks_diff
    ticks_ms = mpy_desktop.ticks_ms

    _PAIR = 32


def utc():
    now = time.gmtime()
    if now[0] < _BUILT:  # it counts from its own start, or from whatever a chip begins with
        return None
    return b"%04d%02d%02d%02d%02d%02d" % tuple(now[:6])


def mem_free():
    """See covey.port. An ESP32 counts what the heap may grow by: the largest block of others."""
    free = gc.mem_free()
    if idf_heap_info is not None:
        free -= max([heap[2] for heap in idf_heap_info(_HEAP_DATA)])
    return max(free, 0)


_left = 0  # pairs that may still be made
_end = 0  # where holes end, by blocks of the heap


def tidy(filling):
    """See covey.port. What fills a hole is a pair, which takes one block, and leads to the last.

    The allocator looks for more than one block from the first free block on, every time: with
    holes that are too small left among what stays, that search costs more than all arithmetic.
    A later collection makes few, and whoever comes behind it would search first: so it fills them.
    A third of what is free may go so, or a half where enough stays for others: what lies in holes
    is little use to them either.
    An ESP32's heap has areas, searched in the order in which it grew, wherever each lies.
    """
    global _left, _end
    collect()
    is_first = filling is None
    if is_first:
        yield
        free = mem_free()  # takes as long as collecting
        most = max(min(free // 3, free - _SPARE), min(free // 2, free - _SPARE_FOR_OTHERS))
        _left = min(max(most // _PAIR, 0), _MOST_PAIRS)
        yield
    try:
        if is_first:
            # Behind it no hole matters; to the collector no address
            _end = id((None,) * (_left // 4)) >> 4
        at = _end - 1  # less than nothing on an ESP32-C6, whose id() of what lies high is negative
        while not 0 <= at - _end < _BEHIND and _left > 0:
            for _ in range(_FILLINGS):
                filling = (filling, None)
            _left -= _FILLINGS
            at = id(filling) >> 4
            if _left & _OF_A_STEP < _FILLINGS:
                yield
    except MemoryError:
        filling = None  # others need it more
    return filling


def esp_socket(*args):
    """Of the ip carrier, which most groups don't have."""
    from covey.port.mpy_esp import esp_socket

    return esp_socket(*args)


def cmac_context(key):
    """Of groups with receiver-specific MACs, which most are not."""
    from covey.port.mpy_cmac import CMACContext

    return CMACContext(key)


def later_kernels():
    """Of groups whose packets wait for a proof."""
    from covey.port.mpy_later import (
        copy,
        holds,
        is_judged,
        is_same,
        keep,
        let_go,
        number_at,
        put_told,
        take,
    )

    return copy, is_same, number_at, (keep, take, let_go), (put_told, is_judged, holds)


class AESBlock:
    """Single AES blocks (ECB). A cipher object serves one direction only."""

    def __init__(self, key):
        self.encrypt = aes(key, _ECB).encrypt
        self.decrypt = aes(key, _ECB).decrypt


def unload(name):
    """See covey.port. No object of its classes may be left, or all of it stays."""
    if modules.pop("covey." + name, None) is not None:
        delattr(modules["covey"], name)


def read_file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        from covey.port.mpy_whynot import unread

        raise ConfigError(unread(path, e))
