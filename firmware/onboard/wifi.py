"""Wi-Fi that comes up and stays up: /wifi.json {"ssid": ..., "password": ...}, never printed.

Power-save is off: with it on, a board hears multicast late, or not at all.
"""

import asyncio
import json

import network
from covey.port import const
from onboard.board import Pauses

_POLL_S = const(0.2)
_PATIENCE = const(75)  # polls until a try is given up: 15 s
_FAULTS = const(5)  # of the radio itself, one after the other, until the board starts again
_WHY = (
    ("STAT_WRONG_PASSWORD", "the access point refuses the password"),
    ("STAT_NO_AP_FOUND", "there is no such access point"),
)


class Wifi:
    """show(what, detail): who is told. on_return: called when it is back after a loss."""

    def __init__(self, path, show):
        with open(path) as file:
            self._settings = json.load(file)
        self._show = show
        self._wlan = network.WLAN(network.WLAN.IF_STA)
        self._faults = 0
        self.on_return = None

    def is_up(self):
        return self._wlan.isconnected()

    async def up(self):
        """Wait until it is there."""
        while not self.is_up():
            await asyncio.sleep(_POLL_S)

    async def keep(self):
        """For ever: bring it up, watch it, bring it up again. Raises what a radio raised that
        comes to itself by nothing less than a new start of the board.
        """
        pauses = Pauses(1, 60)
        is_first = True
        while True:
            if self.is_up():
                pauses.end()
                await asyncio.sleep(_POLL_S)
                continue
            self._show("wifi", "connecting" if is_first else "lost: connecting")
            why = await self._try()
            if why:
                self._show("wifi", why)
                await pauses.rest()
                continue
            self._show("wifi", "up")
            if self.on_return and not is_first:
                self.on_return()
            is_first = False

    async def _try(self):
        """None once we are connected, else why not."""
        wlan = self._wlan
        try:
            wlan.active(True)
            wlan.config(pm=getattr(network.WLAN, "PM_NONE", 0))
            wlan.disconnect()  # the ESP32 may be at it by itself, and refuses to be told then
            wlan.connect(self._settings["ssid"], self._settings["password"] or None)
            for _ in range(_PATIENCE):
                if wlan.isconnected():
                    self._faults = 0
                    return None
                await asyncio.sleep(_POLL_S)
            status = wlan.status()
            wlan.disconnect()
        except (OSError, RuntimeError) as error:  # the ESP32's knows both
            self._faults += 1
            if self._faults == _FAULTS:
                raise
            return "the radio fails: %s" % error
        self._faults = 0
        for name, why in _WHY:
            if status == getattr(network, name, None):
                return why
        return "no answer from the access point"
