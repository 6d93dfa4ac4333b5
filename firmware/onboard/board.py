"""The board itself: /board.json, its LED, relay and button, its watchdog.

    {"name": "esp32c3", "led": 8, "led_kind": "neopixel", "button": 9, "relay": 4}

led, relay   output pins, by number or name; led_on, relay_on: the level that means on (1);
             led_kind: "neopixel" where the LED wants colours, else "pin"
button       an input pin, pulled up: 0 is pressed
hold_ms      so long an output stays on after the group last said so (2000): then it falls back
watchdog_ms  after so long without a turn of the event loop the board starts again (30000; 8000
             where the chip can't wait longer)

All but the name may be missing.
"""

import asyncio
import json
import sys

import machine
from covey import port
from covey.port import const

_BEAT_S = const(0.1)
_HELD_MS = const(600000)  # the watchdog's patience while somebody works at the cable

# What the LED does, a beat a character; None: what the group says.
_NO_WIFI = const("10")
_ASKING = const("1111100000")
_REFUSED = const("1010000000")
_SILENT = const("1110111011")  # nothing heard from the key server for too long: mostly on
_BLINKS = {"registering": _ASKING, "excluded": _ASKING, "refused": _REFUSED, "failed": _REFUSED}
_BLINKS["silent"] = _SILENT
_BLINKS["member"] = None


class Board:
    def __init__(self, path):
        with open(path) as file:
            fields = json.load(file)
        self.name = fields.get("name")
        kind = _Pixel if fields.get("led_kind") == "neopixel" else _Output
        self._led = kind(fields.get("led"), fields.get("led_on", 1))
        self._relay = _Output(fields.get("relay"), fields.get("relay_on", 1))
        self._button = None
        if fields.get("button") is not None:
            self._button = machine.Pin(fields["button"], machine.Pin.IN, machine.Pin.PULL_UP)
        self._hold_ms = fields.get("hold_ms", 2000)
        self._driven_ms = None  # when the group last said "on"
        self._has_wifi = False
        self._blink = _ASKING
        self._watchdog = _watchdog(fields.get("watchdog_ms", 30000))

    def is_pressed(self):
        return self._button is not None and self._button.value() == 0

    def drive(self, is_on):
        """What the group says: the relay and, of a member, the LED."""
        self._driven_ms = port.ticks_ms() if is_on else None
        self._show_outputs()

    def show(self, what, detail=None):
        """Something has happened: a line on the console, and perhaps another blink."""
        print("covey:", what, "" if detail is None else detail)
        if what == "wifi":
            self._has_wifi = detail == "up"
        self._blink = _BLINKS.get(what, self._blink)

    async def live(self):
        """Each beat: the LED, the outputs' fall-back, and the watchdog."""
        beat = 0
        while True:
            driven = self._driven_ms
            if driven is not None:
                if port.ticks_diff(port.ticks_ms(), driven) > self._hold_ms:
                    self._driven_ms = None
            self._show_outputs()
            blink = self._blink if self._has_wifi else _NO_WIFI
            if blink:
                self._led.set(blink[beat % len(blink)] == "1")
            self._watchdog.feed()
            beat += 1
            await asyncio.sleep(_BEAT_S)

    def _show_outputs(self):
        is_on = self._driven_ms is not None
        self._relay.set(is_on)
        if self._has_wifi and not self._blink:
            self._led.set(is_on)

    def run(self, main):
        """main() for ever. Ctrl-C leaves to the prompt, whatever else starts the board again."""
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            self._relay.set(False)
            try:
                machine.WDT(timeout=_HELD_MS)  # it can't be stopped: time for a person, or a copy
            except ValueError:
                print("covey: the watchdog starts this board again soon")
            return
        except Exception as error:
            _print_exception(error)
        machine.reset()


class Pauses:
    """Seconds to wait after a failure: twice as long each time, half of it by chance."""

    def __init__(self, least_s, most_s):
        self._least_s = least_s
        self._most_s = most_s
        self._s = least_s

    def end(self):
        """It went well."""
        self._s = self._least_s

    async def rest(self):
        half_ms = self._s * 500
        self._s = min(2 * self._s, self._most_s)
        by_chance = int.from_bytes(port.random_bytes(3), "big") % (half_ms + 1)
        await asyncio.sleep((half_ms + by_chance) / 1000)


class _Output:
    def __init__(self, pin, on):
        self._pin = None if pin is None else machine.Pin(pin, machine.Pin.OUT)
        self._on = on
        self._is_on = None
        self.set(False)

    def set(self, is_on):
        if self._pin is not None and is_on != self._is_on:
            self._put(is_on)
            self._is_on = is_on

    def _put(self, is_on):
        self._pin.value(self._on if is_on else 1 - self._on)


class _Pixel(_Output):
    """An LED with a chip in it, dim white."""

    def _put(self, is_on):
        import neopixel

        pixel = neopixel.NeoPixel(self._pin, 1)
        pixel[0] = (20, 20, 20) if is_on else (0, 0, 0)
        pixel.write()


def _watchdog(patience_ms):
    try:
        return machine.WDT(timeout=patience_ms)
    except ValueError:
        return machine.WDT(timeout=8000)  # the RP2040 counts no further than 8.3 s


def _print_exception(error):
    if hasattr(sys, "print_exception"):
        sys.print_exception(error)
    else:
        sys.excepthook(type(error), error, error.__traceback__)
