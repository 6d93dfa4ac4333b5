"""Many of n members are put out of a group with a key tree at once, beside what the tree needs.

The same key server and store as of one leave (keytree). What the tree needs is counted on leaf
numbers alone: each node over somebody who goes is made new, and wrapped under each child that has
members left.
"""

import os
import random
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

from covey import keypath, keywrap
from covey.gcm import SALT_LEN
from covey.job import finish
from covey.kd import parse_kd

from ..gcks import download, epoch, keyserver, keytree, moves
from ..store import sqlite
from . import crowd
from .board import BUILD
from .clock import Clock
from .results import Table

LEAVERS = {False: 1_000, True: 400}
SIZES = {False: (100_000, 1_000_000), True: (2_000,)}
_DEGREE = 4
_ASKED = 20  # members whose unwraps are counted
_MINUTE_MS = 60_000


def run(table: Table, quick: bool, unicast: str) -> None:
    """unicast: the row with octets of new keys to one member."""
    for count in SIZES[quick]:
        _leave(table, count, LEAVERS[quick], unicast)


def needed(count: int, degree: int, leavers: list[int]) -> int:
    """Wrapped keys that it takes at least in a tree of so many, each leaf taken."""
    gone = Counter(leavers)
    least, width, size = 0, 1, count  # width: leaves under a node of this level
    while size > degree:
        full = {i for i, n in gone.items() if n == min(width, count - i * width)}
        above: Counter = Counter()
        for index, n in gone.items():
            above[index // degree] += n
        for index in above:
            children = range(index * degree, min((index + 1) * degree, size))
            least += sum(child not in full for child in children)
        gone, width, size = above, width * degree, -(-size // degree)
    return least


def _leave(table: Table, count: int, leaving: int, unicast: str) -> None:
    what = f"many leave: {leaving:,} of {count:,}: "
    leavers = sorted(random.Random(count).sample(range(count), leaving))
    seen = []

    def cut(whole, *of):
        seen.append((whole, portions := decide(whole, *of)))
        return portions

    decide = moves.cut
    clock = Clock()
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as home:
        path = Path(home) / "state.db"
        crowd.fill(path, count, _DEGREE, leavers)
        store = sqlite.open_existing(path)
        server = keyserver.KeyServer(store, crowd.rules_of(_DEGREE))
        server.start(0)
        server.step(_MINUTE_MS)
        names = [crowd.name_of(leaf) for leaf in leavers]
        with mock.patch.object(moves, "cut", cut), clock.running():
            server.remove_members(names, _MINUTE_MS)
        [(_, portions)] = seen
        group = server._groups[crowd.GROUP]
        parcels = group._repeats.outbox[-len(portions) - 1 :]
        messages = [message for parcel in parcels for message in parcel.messages]
        wraps = sum(len(portion.wraps) for portion in portions)
        unwraps = max(_unwraps(group._tree, leaf, leavers, portions) for leaf in leavers[:_ASKED])
        store.close()
    least = f"{what}wrapped keys needed"
    table.add(least, needed(count, _DEGREE, leavers), "keys")
    table.add(f"{what}wrapped keys", wraps, "keys", least)
    table.add(f"{what}messages", len(parcels), "messages")
    table.add(f"{what}datagrams", len(messages), "datagrams")
    octets = sum(map(len, messages))
    table.add(f"{what}octets of all datagrams", octets, "octets", unicast)
    table.add(f"{what}unwraps of a member", unwraps, "keys")
    said_ms = sum(parcel.gap_ms for parcel in parcels)
    table.add(f"{what}time until the last message", said_ms, "ms")
    clock.enter(table, what, 1)


def _unwraps(tree, leaf: int, leavers: list[int], portions) -> int:
    """How many keys the nearest neighbour of who left unwraps, in the one message for it."""
    gone = set(leavers)
    near = sorted(
        range(max(0, leaf - 999), min(tree.sizes[0], leaf + 999)), key=lambda i: abs(i - leaf)
    )
    stays = next(i for i in near if i not in gone)
    made = {wrap.node.key_id for portion in portions for wrap in portion.wraps}
    now = keytree.Draft(tree, os.urandom).path(stays)
    path = tuple((n.key_id.to_bytes(4), bytearray(n.key)) for n in now if n.key_id not in made)
    sa = epoch.RekeySA(bytes(16), os.urandom(16 + SALT_LEN + 16), 128)
    counts = []
    unwrap = keywrap.unwrap_job
    for portion in portions:
        unwraps = []

        def counted(*of, unwraps=unwraps):
            unwraps.append(of)
            return unwrap(*of)

        kd = parse_kd(download.round_kd(sa, portion.tops, portion.wraps))
        wrap_keys = kd.member.wrap_keys if kd.member else ()
        with mock.patch.object(keywrap, "unwrap_job", counted):
            job = keypath.unwrap_job(kd.bags[0].keys, wrap_keys, path, None, 16, len(sa.keymat))
            found = finish(job)
        if found is not None:
            assert found[0] == sa.keymat
            assert [key_id for key_id, _ in found[1]] == [n.key_id.to_bytes(4) for n in now]
            counts.append(len(unwraps))
    return max(counts)
