"""The Wi-Fi of a site's boards: asked for once, kept in wifi.json (0600), never shown.

The password comes from a prompt without echo or from stdin, never from the command line, which
other users of the machine can read.
"""

import getpass
import json
import os
import sys

from . import site as sites
from .errors import MISUSE, Problem
from .site import Site

_SSID_MOST = 32  # octets (IEEE 802.11)
_PASSWORD_LEAST, _PASSWORD_MOST = 8, 63  # of a WPA2 passphrase, ASCII


def ask(ssid: str | None, is_open: bool) -> dict:
    """What a board needs to know, checked. From a person, or line by line from stdin."""
    if ssid is None:
        ssid = _line("Name of the network (SSID): ")
    ssid = _checked_ssid(ssid)
    password = "" if is_open else _secret("Password (not shown): ")
    return {"ssid": ssid, "password": _checked_password(password, is_open)}


def keep(site: Site, settings: dict) -> None:
    """In place of what was there, whole or not at all."""
    draft = site.wifi.with_name(".wifi.new")
    try:
        draft.unlink(missing_ok=True)
        sites.write_private(draft, (json.dumps(settings) + "\n").encode())
        os.replace(draft, site.wifi)
        sites.sync_directory(site.root)
    except OSError as error:
        raise Problem(f"{site.wifi} can't be written: {os.strerror(error.errno or 0)}.") from error


def _line(prompt: str) -> str:
    if sys.stdin.isatty():
        print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise Problem("stdin ended before the Wi-Fi was told: run it from a terminal.", MISUSE)
    return line.rstrip("\r\n")


def _secret(prompt: str) -> str:
    if not sys.stdin.isatty():
        return _line(prompt)
    try:
        return getpass.getpass(prompt, sys.stderr)
    except EOFError:
        raise Problem("No password was typed: nothing is kept.", MISUSE) from None


def _checked_ssid(ssid: str) -> str:
    try:
        octets = ssid.encode()
    except UnicodeEncodeError:
        octets = b""
    if not 0 < len(octets) <= _SSID_MOST or "\0" in ssid:
        raise Problem(f"A network's name has 1 to {_SSID_MOST} octets.", MISUSE)
    return ssid


def _checked_password(password: str, is_open: bool) -> str:
    """The sentence says nothing of what was typed."""
    if is_open:
        return password
    is_ascii = all(" " <= character <= "~" for character in password)
    if not _PASSWORD_LEAST <= len(password) <= _PASSWORD_MOST or not is_ascii:
        raise Problem(
            f"A Wi-Fi password has {_PASSWORD_LEAST} to {_PASSWORD_MOST} ASCII characters: type"
            " it again, or say --open for a network without one.",
            MISUSE,
        )
    return password
