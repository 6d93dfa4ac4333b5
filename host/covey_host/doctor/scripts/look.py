"""On the board, in its raw REPL: what `covey doctor` wants to know. Needs nothing but MicroPython.

Every function gives what JSON can carry. Nothing here shows a password or a key.
"""

import gc
import json
import os
import select
import socket
import sys
import time

_MAGIC = b"CvPr"
_LEN = 16  # of a probe: see doctor/probes.py
_JOIN = 35 if sys.platform == "linux" else getattr(socket, "IP_ADD_MEMBERSHIP", 3)
_SEND_FROM = 32 if sys.platform == "linux" else None
_RAW, _ESP = 3, 50

ears = []  # (socket, whether it is raw)


def facts():
    gc.collect()
    return {
        "version": list(sys.implementation.version),
        "machine": getattr(sys.implementation, "_machine", sys.platform),
        "mpy": getattr(sys.implementation, "_mpy", 0),
        "free": gc.mem_free(),
        "year": time.localtime()[0],
        "covey": "covey.json" in os.listdir("/"),
    }


def station():
    import network

    return network.WLAN(network.STA_IF)


def wifi(patience_ms):
    """Bring the network up as main.py would, by /wifi.json. None: there is no Wi-Fi here."""
    try:
        wlan = station()
    except (ImportError, AttributeError):
        return None
    why = None
    if not wlan.isconnected():
        wlan.active(True)
        try:
            with open("/wifi.json") as file:
                settings = json.load(file)
            wlan.connect(settings["ssid"], settings["password"] or None)
        except OSError:
            why = "there is no /wifi.json on the board"
            patience_ms = 0
        except (ValueError, KeyError):
            why = "/wifi.json on the board can't be read"
            patience_ms = 0
        began = time.ticks_ms()
        while not wlan.isconnected() and time.ticks_diff(time.ticks_ms(), began) < patience_ms:
            time.sleep_ms(100)
    return {
        "connected": wlan.isconnected(),
        "status": asked(wlan.status),
        "why": why,
        "address": wlan.ifconfig()[0],
        "rssi": asked(wlan.status, "rssi"),
        "pm": pm_of(wlan),
    }


def asked(call, *words):
    """None where this firmware does not know it."""
    try:
        return call(*words)
    except (ValueError, TypeError, OSError, RuntimeError):
        return None


def pm_of(wlan):
    now = asked(wlan.config, "pm")
    for name in ("PM_NONE", "PM_PERFORMANCE", "PM_POWERSAVE"):
        if now is not None and getattr(wlan, name, None) == now:
            return name
    return now


def wake():
    """Power-save off; whether this firmware can."""
    wlan = station()
    try:
        wlan.config(pm=wlan.PM_NONE)
        return True
    except (AttributeError, ValueError, OSError):
        return False


def four(address):
    return bytes([int(part) for part in address.split(".")])


def listen_to(group, port, own):
    """Open the ears: {"error": None or what failed, "raw": whether protocol 50 is heard, too}."""
    while ears:
        ears.pop()[0].close()
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(socket.getaddrinfo("0.0.0.0", port)[0][-1])
        sock.setsockopt(0, _JOIN, four(group) + four(own))
        if _SEND_FROM:
            sock.setsockopt(0, _SEND_FROM, four(own))
        ears.append((sock, False))
    except OSError as error:
        return {"error": str(error), "raw": False}
    try:
        raw = socket.socket(socket.AF_INET, _RAW, _ESP)
        ears.append((raw, True))
        if _SEND_FROM:  # elsewhere it hears what the interface takes
            raw.setsockopt(0, _JOIN, four(group) + four(own))
    except (OSError, ValueError):
        pass
    return {"error": None, "raw": len(ears) == 2}


def hear(run, ms):
    """How many probes of a series came within the time: [kind, how many] each, and the time."""
    run = bytes.fromhex(run)
    seen = {}
    poll = select.poll()
    for sock, _ in ears:
        poll.register(sock, select.POLLIN)
    began = time.ticks_ms()
    while True:
        past = time.ticks_diff(time.ticks_ms(), began)
        if past >= ms:
            return {"came": [[kind, len(seen[kind])] for kind in seen], "ms": past}
        for ready in poll.poll(min(ms - past, 200)):
            for sock, is_raw in ears:
                if sock is ready[0]:
                    note(sock.recvfrom(256)[0], is_raw, run, seen)


def note(data, is_raw, run, seen):
    if is_raw:
        data = data[(data[0] & 15) * 4 :]
    if len(data) == _LEN and data[:4] == _MAGIC and data[8:] == run:
        seen.setdefault(data[4], set()).add(data[5])


def say(group, port, probes):
    """Send these; how many the system took."""
    address = socket.getaddrinfo(group, port)[0][-1]
    taken = 0
    for probe in probes:
        try:
            ears[0][0].sendto(bytes.fromhex(probe), address)
            taken += 1
        except OSError:
            pass
        time.sleep_ms(50)
    return taken


def servers():
    """Where /covey.json says that key servers are: [host, port, marker] each."""
    try:
        with open("/covey.json") as file:
            found = json.load(file)["servers"]
    except (OSError, ValueError, KeyError):
        return []
    places = []
    for one in found:
        if isinstance(one, list):
            one = {("host", "port", "marker")[i]: one[i] for i in range(len(one))}
        port = one.get("port", 4500)
        places.append([one["host"], port, one.get("marker", port == 4500)])
    return places


def is_answered(host, port, question, head):
    """Whether something that begins like that comes back."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    try:
        address = socket.getaddrinfo(host, port)[0][-1]
        for _ in range(3):
            sock.sendto(bytes.fromhex(question), address)
            if poll.poll(1000) and sock.recvfrom(256)[0].startswith(bytes.fromhex(head)):
                return True
    except OSError:
        pass
    finally:
        sock.close()
    return False
