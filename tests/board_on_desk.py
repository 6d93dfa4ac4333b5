"""A board for tests: MicroPython behind a pseudo-terminal, with Wi-Fi that is the loopback."""

from pathlib import Path

from littlefs import LittleFS

from serial_line import Board

BLOCKS = 512
_GEOMETRY = {"block_size": 4096, "prog_size": 32, "read_size": 32, "lookahead_size": 32}

# The radio of a board that is connected at once, if it is told the right name.
NETWORK = """\
STA_IF = 0


class WLAN:
    IF_STA, PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 0, 1, 2
    _is_on, _pm = False, 1

    def __init__(self, interface=0):
        pass

    def active(self, on=None):
        return WLAN._is_on

    def isconnected(self):
        return WLAN._is_on

    def connect(self, ssid, password):
        WLAN._is_on = ssid == "plant" and password == "sesame"

    def ifconfig(self):
        return ("ADDRESS", "255.255.255.0", "0.0.0.0", "0.0.0.0")

    def status(self, what=None):
        return -52 if what == "rssi" else 201

    def config(self, what=None, pm=None):
        if pm is not None:
            WLAN._pm = pm
        return WLAN._pm
"""
WIFI = '{"ssid": "plant", "password": "sesame"}'


def files_of(root: Path, prefix: str = "") -> dict[str, bytes]:
    """What lies in a directory, by path on the board."""
    return {
        f"{prefix}/{path.relative_to(root)}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def board_with(flash: Path, files: dict[str, bytes | str], **options) -> Board:
    """A board that starts with these files."""
    image = LittleFS(block_count=BLOCKS, disk_version=0x00020000, **_GEOMETRY)
    for path, octets in files.items():
        if (folder := path.rpartition("/")[0]) and folder != "/":
            image.makedirs(folder, exist_ok=True)
        with image.open(path, "wb") as file:
            file.write(octets.encode() if isinstance(octets, str) else octets)
    flash.write_bytes(image.context.buffer)
    return Board(flash, BLOCKS, **options)
