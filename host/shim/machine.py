"""`machine` on a desktop: what main.py, sleep.py and `onboard` use of it, no more."""

import json

import desk

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5  # as the ESP32's


def reset_cause():
    return int(desk.read("cause") or PWRON_RESET)


def reset():
    desk.write("cause", b"%d" % HARD_RESET)
    desk.end(desk.RESET)


def deepsleep(time_ms=0):
    desk.write("cause", b"%d" % DEEPSLEEP_RESET)
    desk.write("sleep", b"%d" % time_ms)
    desk.end(desk.ASLEEP)


class Pin:
    IN, OUT, PULL_UP, PULL_DOWN = 1, 3, 2, 1

    def __init__(self, id, mode=-1, pull=-1, value=None):
        self._id = str(id)
        self._is_output = mode == Pin.OUT
        self._idle = 1 if pull == Pin.PULL_UP else 0
        self._level = None
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            if self._is_output:
                return self._level or 0
            return json.loads(desk.read("inputs") or b"{}").get(self._id, self._idle)
        level = int(bool(level))
        if level != self._level:
            self._level = level
            desk.append("pins", ("%s %d\n" % (self._id, level)).encode())

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)


class WDT:
    """It bites: the process is killed by SIGALRM, in a loop that never ends as well."""

    def __init__(self, id=0, timeout=5000):
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        self._timeout_ms = timeout
        self.feed()

    def feed(self):
        desk.bite_in(self._timeout_ms)


class RTC:
    _MOST = 2048

    def memory(self, data=None):
        if data is None:
            return desk.read("rtc") or b""
        if len(data) > self._MOST:
            raise ValueError("buffer too long")
        desk.write("rtc", data)
