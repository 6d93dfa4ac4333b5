"""What a member that sleeps leaves in RTC memory: 2 KB that deep sleep spares.

It must be used once, or nonces would come twice. So take() empties RTC memory before it hands out
what was there, and only after a wake from deep sleep. Whatever else starts the board (power, a
brown-out, the watchdog, a reset) finds nothing, and the board registers. Chips without RTC memory
or deep sleep (RP2040) register at each wake; there the watchdog may also end the sleep, after 8 s.

    how often it has woken since it asked for keys (1 octet) | what covey.resume made
"""

import time

import machine

_MOST = 2048
_OFTEN = 255


class Kept:
    """octets: for one revival, a bytearray; empty or zeros: there is nothing. wakes: so many since
    the key server was asked.
    """

    def __init__(self, octets=b"", wakes=0):
        self.octets = bytearray(octets)
        self.wakes = wakes

    @property
    def is_there(self):
        return any(self.octets)


def take():
    """What was kept; it is nowhere else from here on."""
    try:
        memory = machine.RTC().memory
        kept = memory()
        memory(bytes(len(kept)))  # a shorter write leaves what lies behind
        memory(b"")
        has_slept = machine.reset_cause() == machine.DEEPSLEEP_RESET
        if memory() or not has_slept or not kept:
            return Kept()
    except AttributeError:  # this chip has no such memory
        return Kept()
    return Kept(kept[1:], kept[0])


def sleep(kept, seconds):
    """Keep it, and sleep at once. The board starts again when the time is over."""
    if kept.is_there and len(kept.octets) < _MOST:
        try:
            head = bytes([min(kept.wakes, _OFTEN)])
            machine.RTC().memory(head + kept.octets)
        except AttributeError:
            pass
    machine.deepsleep(seconds * 1000)


def clock():
    """Seconds, on a clock that goes on in deep sleep."""
    return int(time.time())
