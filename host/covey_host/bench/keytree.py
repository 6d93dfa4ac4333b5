"""One of n members is put out of a group with a key tree: what is sent, and who works how much.

The key server is the real one, on a real store with so many members in it. Of some removals each
figure is the most (octets, keys) or the mean (time). What the nearest of the others has to unwrap,
which no other exceeds, is counted in a member's own code.
"""

import gc
import os
import random
import tempfile
import time
import tracemalloc
from pathlib import Path
from unittest import mock

from covey import ike, ikefrag, keypath, keywrap
from covey.gcm import SALT_LEN, GCMContext
from covey.job import finish
from covey.kd import parse_kd

from ..gcks import download, epoch, keyserver, keytree
from ..store import sqlite
from . import crowd, exodus
from .board import BUILD
from .clock import Clock
from .curve import draw
from .results import Missing, Table

TITLE = "a leave, by the number of members"
DEGREE = 4
SIZES = {False: (1_000, 10_000, 100_000, 1_000_000), True: (50, 200)}
DEGREES = (2, 8, 16)  # besides, at one number of members
_AT = {False: 100_000, True: 200}
_LEAVES = {False: 20, True: 2}
_MINUTE_MS = 60_000
_WRAPPED_LEN = 8  # Key ID and KWK ID before each wrapped key
_ATTRIBUTE_LEN = 4


def run(table: Table, quick: bool) -> None:
    found = []
    unicast = unicast_len()
    table.add("new keys to one member by unicast", unicast, "octets")
    for count in SIZES[quick]:
        found.append((count, *_leaves(table, count, DEGREE, quick)))
    for degree in DEGREES:
        _leaves(table, _AT[quick], degree, quick)
    exodus.run(table, quick, "new keys to one member by unicast")
    try:
        table.pictures["keytree.png"] = draw(found, unicast, DEGREE)
    except Missing as error:
        table.note(f"Left out: keytree.png; {error}.")


def unicast_len() -> int:
    """Octets of the message by which a member of an inband group is told new keys."""
    rules = crowd.rules_of(0).groups[crowd.GROUP]
    now = epoch.first_epoch(rules.shape, os.urandom)
    gsa = download.registration_gsa(now, rules, age_s=0, atd_s=5, dtd_s=10, is_sender=False)
    kd = download.registration_kd(now, os.urandom(16), None, ())
    gone = ike.emit_delete(ike.Delete(ike.ESP, 4, [bytes(4)]))
    payloads = [(ike.GSA, gsa), (ike.KD, kd), (ike.DELETE, gone)]
    head = bytes(8), bytes(8), ike.GSA_INBAND_REKEY, ike.FLAG_I, 0
    context = GCMContext(os.urandom(16 + SALT_LEN))
    [message] = ikefrag.seal(context, *head, payloads, lambda: os.urandom(8))
    return len(message)


def _leaves(table: Table, count: int, degree: int, quick: bool) -> tuple[int, int]:
    """Rows of one tree → octets of wrapped keys, octets of all datagrams, of the costliest."""
    what = f"leave of {count:,}, degree {degree}: "
    rng = random.Random(count * degree)  # the same leaves each time
    leavers = rng.sample(range(count), _LEAVES[quick])
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as home:
        path = Path(home) / "state.db"
        crowd.fill(path, count, degree, leavers)
        server, store = _started(table, what, path, degree)
        clock = Clock()
        most = {"keys": 0, "octets": 0, "datagrams": 0, "all": 0, "unwraps": 0}
        now_ms = 0
        for leaf in leavers:
            now_ms += _MINUTE_MS
            server.step(now_ms)
            round_, parcels = _put_out(server, leaf, now_ms, clock)
            messages = [message for parcel in parcels for message in parcel.messages]
            here = {
                "keys": len(round_.wraps),
                "octets": sum(_wrapped_len(wrap.node.key) for wrap in round_.wraps),
                "datagrams": len(messages),
                "all": sum(map(len, messages)),
                "unwraps": _unwraps(server, leaf, leavers, round_),
            }
            most = {name: max(most[name], here[name]) for name in most}
        store.close()
    table.add(f"{what}wrapped keys", most["keys"], "keys")
    table.add(f"{what}octets of wrapped keys", most["octets"], "octets")
    table.add(f"{what}datagrams", most["datagrams"], "datagrams")
    unicast = "new keys to one member by unicast"
    table.add(f"{what}octets of all datagrams", most["all"], "octets", unicast)
    table.add(f"{what}unwraps of a member", most["unwraps"], "keys")
    clock.enter(table, what, len(leavers))
    return most["octets"], most["all"]


def _started(table: Table, what: str, path: Path, degree: int):
    """A key server that has been started on this store; rows of what that took."""
    store = sqlite.open_existing(path)
    members = store.scan(f"group/{crowd.GROUP}/tree")
    pages = {key.split("/", 2)[2]: value for key, value, _ in members}
    del members
    gc.collect()
    tracemalloc.start()
    tree = keytree.KeyTree.loaded(pages)
    octets = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    table.add(f"{what}tree, for each member", octets / tree.members, "octets")
    del tree, pages
    gc.collect()
    server = keyserver.KeyServer(store, crowd.rules_of(degree))
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    server.start(0)
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    table.add(f"{what}start of the server", wall / 1e6, "ms")
    table.add(f"{what}start of the server, CPU", cpu / 1e6, "ms")
    return server, store


def _put_out(server, leaf: int, now_ms: int, clock: Clock):
    """→ (the round that puts it out, the parcels that say so)."""
    rounds = []

    def seen(draft, *of):
        rounds.extend(made := decide(draft, *of))
        return made

    decide = keytree.Draft.rounds
    with mock.patch.object(keytree.Draft, "rounds", seen), clock.running():
        server.remove_member(crowd.name_of(leaf), now_ms)
    [round_] = rounds
    return round_, server._groups[crowd.GROUP]._repeats.outbox[-2:]


def _unwraps(server, leaf: int, leavers: list[int], round_) -> int:
    """How many keys the nearest neighbour of who left unwraps to have the new Rekey SA's."""
    tree = server._groups[crowd.GROUP]._tree
    near = sorted(
        range(max(0, leaf - 40), min(tree.sizes[0], leaf + 40)), key=lambda i: abs(i - leaf)
    )
    [stays, *_] = [i for i in near if i not in leavers and tree.node(0, i)]
    made = {wrap.node.key_id for wrap in round_.wraps}
    now = keytree.Draft(tree, os.urandom).path(stays)
    path = [(n.key_id.to_bytes(4), bytearray(n.key)) for n in now if n.key_id not in made]
    sa = epoch.RekeySA(bytes(16), os.urandom(16 + SALT_LEN + 16), 128)
    kd = parse_kd(download.round_kd(sa, round_.tops, round_.wraps))
    unwraps = []
    unwrap = keywrap.unwrap_job

    def counted(*of):
        unwraps.append(of)
        return unwrap(*of)

    with mock.patch.object(keywrap, "unwrap_job", counted):
        wrap_keys = kd.member.wrap_keys if kd.member else ()
        job = keypath.unwrap_job(kd.bags[0].keys, wrap_keys, tuple(path), None, 16, len(sa.keymat))
        keymat, renewed = finish(job)
    assert keymat == sa.keymat
    assert [key_id for key_id, _ in renewed] == [n.key_id.to_bytes(4) for n in now]
    return len(unwraps)


def _wrapped_len(key: bytes) -> int:
    return _ATTRIBUTE_LEN + _WRAPPED_LEN + len(keywrap.wrap(bytes(16), key))
