"""What follows from what was measured. Facts in, findings out; nothing is asked of the system."""

from typing import NamedTuple

from .finding import Finding, fail, ok, warn

_MOST_LOST = 0.1  # a rekey is repeated, data are not: one in ten is felt
_WEAK_DBM = -75
_RATE_MOST = 0.05  # of a crystal a thousandth of that is expected; the serial line adds some ms
_SETTLED_YEAR = 2024  # a clock that was never set begins at 2000 or 1970
_MPY_VERSION = 6
_MPY_SUB = 3
_AWAKE = "PM_NONE"

ARCHS = ("", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp")
ARCHS += ("xtensa", "xtensawin", "rv32imc", "rv64imc")

_SWALLOWED = (
    "Multicast does not pass this access point, unicast does: in its settings turn off IGMP"
    " snooping (or give the network an IGMP querier) and client or AP isolation, and look for"
    ' "multicast enhancement", "multicast to unicast" or a filter for multicast; else use another'
    " access point."
)
NOTHING = (
    "Check that both are in the same network (same SSID, no guest network), that the access point"
    " has no client isolation, and that no firewall on the way drops UDP."
)
_DTIM = "In the access point lower the DTIM interval to 1."
_OFF = (
    "Keep it off, as firmware/main.py does (`wlan.config(pm=wlan.PM_NONE)`), also in programs of"
    " your own: multicast waits for the access point's next DTIM beacon and is easily lost."
)
_LOSSY = (
    "In the access point raise the multicast (basic) rate, lower the DTIM interval to 1, and"
    " choose another channel if this one is crowded."
)


class Way(NamedTuple):
    """Probes from one end to the other: how many of each kind were sent, how many came."""

    sent: int
    multicast: int
    unicast: int | None  # None: none were sent
    raw: int | None = None


def reach(way: Way, where: str) -> list[Finding]:
    """where: "from 192.0.2.5 to the board"."""
    return [_multicast(way, where), *_unicast(way, where), *_carriers(way)]


def is_lossy(way: Way) -> bool:
    """Whether some multicast comes, and too little."""
    return 0 < way.multicast < (1 - _MOST_LOST) * way.sent


def _multicast(way: Way, where: str) -> Finding:
    said = f"{way.multicast} of {way.sent} multicast probes came {where}"
    if way.unicast is not None:
        said += f", {way.unicast} of {way.sent} unicast ones"
    if way.multicast == 0:
        fix = _SWALLOWED if way.unicast else NOTHING
        return fail("multicast", said, fix)
    if is_lossy(way):
        if way.unicast is not None and way.unicast < (1 - _MOST_LOST) * way.sent:
            return warn("multicast", said, "The radio link is bad: move the board or the antenna.")
        return warn("multicast", said, _LOSSY)
    return ok("multicast", said)


def _unicast(way: Way, where: str) -> list[Finding]:
    if way.unicast != 0 or way.multicast == 0:
        return []
    fix = (
        "Turn off client isolation in the access point and open the firewall, or no board can"
        " register at a key server there."
    )
    return [warn("unicast", f"no unicast probe came {where}, though multicast did", fix)]


def _carriers(way: Way) -> list[Finding]:
    """Which carrier works, where both were tried."""
    if way.raw is None:
        return [ok("carrier", "udp works; ip was not tried")] if way.multicast else []
    udp, ip = way.multicast > 0, way.raw > 0
    said = f"udp {'works' if udp else 'does not'}, ip {'works' if ip else 'does not'}"
    said += f" ({way.raw} of {way.sent} probes as IP protocol 50)"
    if udp or ip:
        return [ok("carrier", said)]
    return []


def firmware(facts: dict) -> Finding:
    """MicroPython's version, and whether its .mpy files are ours."""
    mpy, version = facts["mpy"], ".".join(map(str, facts["version"][:3]))
    said = f"MicroPython {version} on {facts['machine']}"
    if not mpy:
        fix = "Flash a stock firmware of MicroPython 1.25 or later."
        return fail("firmware", f"{said}, which loads no .mpy files", fix)
    number, sub, arch = mpy & 0xFF, mpy >> 8 & 3, mpy >> 10 & 0xF
    name = ARCHS[arch] if arch < len(ARCHS) else str(arch)
    said += f", .mpy {number}.{sub} {name or 'without native code'}"
    if (number, sub) != (_MPY_VERSION, _MPY_SUB):
        fix = f"Covey's files are .mpy {_MPY_VERSION}.{_MPY_SUB}: flash MicroPython 1.25 or later."
        return fail("firmware", said, fix)
    if not name:
        return fail("firmware", said, "Flash a firmware with native code: stock ones have it.")
    return ok("firmware", said)


def memory(facts: dict, needed: int | None) -> Finding:
    """needed: octets of heap that a small member takes with its code, where that was measured."""
    said = f"{facts['free']:,} octets of heap are free without a member"
    if needed is not None and facts["free"] < needed:
        said += f", and one whose code lies in files takes {needed:,}"
        fix = "Let its code run from flash: `covey image --romfs`, or freeze it (firmware/)."
        return warn("memory", said, fix)
    return ok("memory", said)


def radio(facts: dict) -> list[Finding]:
    """Wi-Fi, and how strong it is."""
    wifi = facts["wifi"]
    if wifi is None:
        fix = "Use a firmware for a board with Wi-Fi."
        return [fail("wifi", "this firmware has no Wi-Fi (no module network)", fix)]
    if not wifi["connected"]:
        why = wifi["why"] or f"status {wifi['status']}"
        fix = "Check name and password (`covey site wifi`), and that it is a network of 2.4 GHz."
        return [fail("wifi", f"not connected ({why})", fix)]
    said = f"connected as {wifi['address']}"
    found = []
    if wifi["rssi"] is None:
        found.append(ok("wifi", said))
    elif wifi["rssi"] < _WEAK_DBM:
        weak = f"{said}, {wifi['rssi']} dBm"
        found.append(warn("wifi", weak, "The signal is weak: move the board or the antenna."))
    else:
        found.append(ok("wifi", f"{said}, {wifi['rssi']} dBm"))
    return found


def power_save(pm, drowsy: Way, awake: Way | None) -> Finding:
    """What power-save costs here. firmware/main.py switches it off.

    pm: the mode that the firmware begins with, by name, or a number that has none. drowsy: what
    came in that mode; awake: with power-save off; None: off already, or it can't be set.
    """
    if pm == _AWAKE:
        return ok("power-save", "off")
    if awake is None:
        said = "this firmware does not tell its mode" if pm is None else f"on ({pm})"
        if drowsy.multicast >= (1 - _MOST_LOST) * drowsy.sent:
            return ok("power-save", f"{said}, and multicast comes all the same")
        return warn("power-save", f"{said}, and it can't be switched off here", _DTIM)
    said = (
        f"in the firmware's own mode ({pm}) {drowsy.multicast} of {drowsy.sent} multicast probes"
    )
    said += f" came, with it off {awake.multicast}"
    if is_lossy(drowsy) and awake.multicast > drowsy.multicast:
        return warn("power-save", said, _OFF)
    return ok("power-save", said)


def joined(error: str | None) -> Finding:
    if error is None:
        return ok("join", "the board has joined a multicast group")
    return fail("join", f"the board can't join a group ({error})", "See docs/porting.md, Sockets.")


def clock(year: int, rate: float | None) -> list[Finding]:
    """year: of its calendar. rate: its milliseconds in one of this machine's; None: not known."""
    said = f"the calendar says {year}"
    if year < _SETTLED_YEAR:
        said += ", it was never set; keys and rekeys need none"
    found = [ok("clock", said)]
    if rate is not None and abs(rate - 1) > _RATE_MOST:
        fix = "Lifetimes and ATD depend on it: check the board's crystal and CPU frequency."
        found.append(warn("clock", f"it runs {rate:.3f} times as fast as this machine's", fix))
    return found


def key_servers(answers: list[dict]) -> list[Finding]:
    """Each {"host", "port", "answered": bool or None where it can't be sent to}."""
    found = []
    for one in answers:
        place = f"{one['host']}:{one['port']}"
        if one["answered"]:
            found.append(ok("key server", f"{place} answers"))
            continue
        fix = (
            "Is `covey serve` running there, is the address in covey.json still right, and does"
            f" its firewall let UDP port {one['port']} in?"
        )
        found.append(fail("key server", f"{place} does not answer", fix))
    return found
