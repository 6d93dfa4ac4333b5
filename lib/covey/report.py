"""COVEY_REPORT: what a member tells its key server of itself, in an INFORMATIONAL request.

A private notification (docs/spec.md), sent only to a server that has asked for it. No key is in
it, nothing of what was sent or received, and nothing that an observer of the group can't count.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------+---------------+---------------+---------------+
|  version (1)  |     state     |    changes    |    reasons    |
+---------------+---------------+---------------+---------------+
|               software: three numbers         |  reserved (0) |
+---------------------------------------------------------------+
|              SPI of the newest data SA; zeros: none           |
+---------------------------------------------------------------+
|                         epoch; 0: unknown                     |
+---------------------------------------------------------------+
|                        seconds since it began                 |
+---------------------------------------------------------------+
|                     packets opened since then                 |
+---------------------------------------------------------------+
|                      packets sent since then                  |
+---------------------------------------------------------------+
  changes, newest first:  state (1) | seconds ago (4)
  reasons:                number of a DROP_*, positive (1) | how often since it began (4)
"""

import struct

from covey.port import const

_VERSION = const(1)
_SOFTWARE = b"\0\1\0"
_HEAD = ">BBBB3sx4sIIII"
_PAIR = ">BI"
_MOST_REASONS = const(48)  # in one report; there are no more by now


def emit_report(state, spi, epoch, seconds, opened, sent, changes, drops):
    """The notification's data. changes: [(state, seconds ago)]; drops: Drops."""
    counts = [(number, drops.of(-number)) for number in range(1, drops.most)]
    drops = [pair for pair in counts if pair[1]][:_MOST_REASONS]
    head = _VERSION, state, len(changes), len(drops), _SOFTWARE, spi or bytes(4)
    out = struct.pack(_HEAD, *head, epoch or 0, seconds, opened, sent)
    for first, second in changes:
        out += struct.pack(_PAIR, first, second)
    for reason, count in drops:
        out += struct.pack(_PAIR, reason, count)
    return out


# ---- The key server's half, which boards are built without


# The state of a member in words, by its number: those of membership.py. The one list
# of these words.
STATES = ("idle", "registering", "member", "excluded", "refused", "left", "silent", "untimed")
MOST_LEN = 1024  # of a report that is taken


class Report:
    """What a member said of itself."""

    def __init__(self, state, software, spi, epoch, seconds, opened, sent, changes, drops):
        self.state = state  # one of STATES, or "state 9" of a later version
        self.software = software  # "0.1.0"
        self.spi = spi  # 4 octets, zeros: none
        self.epoch = epoch  # 0: unknown
        self.seconds = seconds  # since it began
        self.opened = opened
        self.sent = sent
        self.changes = changes  # [(state in words, seconds ago)], newest first
        self.drops = drops  # {DROP_*: how often since it began}


def parse_report(data):
    """Report; None where it is none that this version knows. What is behind its end is passed
    over: a later version may say more."""
    size = struct.calcsize(_HEAD)
    if not size <= len(data) <= MOST_LEN or data[0] != _VERSION:
        return None
    _, state, changes, reasons, software, *facts = struct.unpack(_HEAD, data[:size])
    pairs = changes + reasons
    if len(data) < size + 5 * pairs:
        return None
    found = [_pair(data[size + 5 * at : size + 5 * at + 5]) for at in range(pairs)]
    told = [(_word(number), seconds) for number, seconds in found[:changes]]
    drops = {-number: count for number, count in found[changes:]}
    return Report(_word(state), ".".join(map(str, software)), *facts, told, drops)


def _pair(data):
    return struct.unpack(_PAIR, data)


def _word(state):
    return STATES[state] if state < len(STATES) else "state " + str(state)
