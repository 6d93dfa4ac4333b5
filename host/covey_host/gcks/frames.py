"""What goes between the processes of one key server, over sockets that only they have.

    keeper --> worker   on its standard input, one JSON object a line: Start, then what has changed
    worker --> keeper   HANDED | see handover.py            REPORT | JSON object
    worker --> any      IKE | Address (see sockets.py) | datagram             ESP | the same

Each of the last four is one datagram of a Unix socket, whole or not at all.
"""

import socket
from dataclasses import asdict, replace

from .policy import SitePolicy
from .policyvalues import Listen
from .sockets import PACKED_LEN, Address

HANDED, REPORT, IKE, ESP = b"\1", b"\2", b"\3", b"\4"
MOST_LEN = 1 << 16  # octets; the longest is a report
_QUEUE = 1 << 20  # octets that may wait in one direction, as far as the system lets them


def pair() -> tuple[socket.socket, socket.socket]:
    """What is sent into the second comes out of the first; what has no room is refused."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE)
    return ends


def emit_carried(kind: bytes, data: bytes, address: Address) -> bytes:
    return kind + address.packed() + data


def parse_carried(frame: bytes) -> tuple[bytes, Address]:
    """→ datagram, where it came from"""
    return frame[1 + PACKED_LEN :], Address.unpacked(frame[1 : 1 + PACKED_LEN])


def policy_facts(policy: SitePolicy, workers: int) -> dict:
    """What workers need of a policy: their shares of `cookies_from`, and nothing of groups."""
    share = -(-policy.cookies_from // workers)
    return asdict(replace(policy, groups={}, cookies_from=share))


def read_policy(facts: dict) -> SitePolicy:
    return SitePolicy(**facts | {"listen": tuple(Listen(**entry) for entry in facts["listen"])})
