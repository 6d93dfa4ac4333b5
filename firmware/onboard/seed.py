"""The seed that a board keeps: 32 secret octets, another 32 after each start.

They are stirred into all that Covey draws, so that a generator that gives the same after each
start (a radio that is off, a chip with a fault) makes no two starts alike. The new ones are
written before anything is drawn: power may go at any moment, and no start draws from a seed that
a start before it has drawn from.
"""

import os

from covey import port


def renew(path):
    """Put the next seed in place of the one in this file, then stir. OSError: nothing is stirred,
    and nothing may be drawn.
    """
    chance = port.random_bytes(32)
    kept = _read(path)
    _replace(path, port.sha256(b"kept" + kept + chance).digest())
    port.stir(port.sha256(b"pool" + kept + chance).digest())


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # there is none: chance alone makes the first
        return b""


def _replace(path, octets):
    """By a whole file, renamed: there is always one of the two."""
    with open(path + ".new", "wb") as file:
        file.write(octets)
        file.flush()
        if hasattr(os, "fsync"):  # LittleFS has done it when the file is closed
            os.fsync(file.fileno())
    os.rename(path + ".new", path)
