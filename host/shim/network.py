"""`network` on a desktop: a station, and an access point that is there or not (see desk).

Below it lie real sockets on loopback: `link` keeps their packets back while it is not connected.
"""

import time

import desk
import link

STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP = 1000, 1001, 1010
STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = 201, 202
_OWN = "127.0.0.1"


class WLAN:
    IF_STA, IF_AP = 0, 1
    PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 1, 2

    _wanted = None  # SSID and password, of all objects: there is one radio
    _is_active = False
    _pm = PM_PERFORMANCE

    def __init__(self, interface_id=0):
        assert interface_id == WLAN.IF_STA

    def active(self, is_active=None):
        if is_active is not None:
            WLAN._is_active = bool(is_active)
            if not is_active:
                WLAN._wanted = None
        return WLAN._is_active

    def config(self, name=None, **settings):
        if name is not None:
            return {"pm": WLAN._pm}[name]
        for key in settings:
            if key != "pm":
                raise ValueError("unknown config param")
            WLAN._pm = settings[key]
            desk.append("pins", ("pm %d\n" % settings[key]).encode())

    def connect(self, ssid, key=None):
        if not WLAN._is_active:
            raise OSError(12, "Wifi Not Started")
        if WLAN._wanted is not None:
            raise OSError(16, "Wifi Internal State Error")
        WLAN._wanted = ssid, key or ""

    def disconnect(self):
        WLAN._wanted = None

    def isconnected(self):
        return self.status() == STAT_GOT_IP

    def status(self):
        if WLAN._wanted is None:
            return STAT_IDLE
        air = desk.read("air")
        if air is None:
            return STAT_NO_AP_FOUND
        ssid, password = air.decode().split("\n")[:2]
        if ssid != WLAN._wanted[0]:
            return STAT_NO_AP_FOUND
        return STAT_GOT_IP if password == WLAN._wanted[1] else STAT_WRONG_PASSWORD

    def ifconfig(self):
        return (_OWN if self.isconnected() else "0.0.0.0", "255.0.0.0", _OWN, _OWN)


_LOOK_S = 0.05  # between two looks at the access point: packets pass much more often
_seen = [None, False]  # when, and whether it was there


def _is_up():
    now = time.time()
    if _seen[0] is None or not 0 <= now - _seen[0] < _LOOK_S:
        _seen[:] = now, WLAN().isconnected()
    return _seen[1]


link.is_up = _is_up
