"""make size BOARD=: the heap that was measured is enough for a member, and much less is not."""

# ruff: noqa: F811  fixtures are imported by name
import importlib.util
import json
import os
import subprocess
from dataclasses import replace

import pytest

from covey_host.board import boards, files, members, mpyfile, need, proofs
from image_bench import site  # noqa: F401  a fixture
from markdown import ROOT, TEXTS, section, tables
from test_micropython import interpreter, without

TOOL = ROOT / "tools" / "size_board.py"
ROWS = json.loads(need.MEASURED.read_text())


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    spec = importlib.util.spec_from_file_location("size_board", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_limits_of_each_board_were_measured():
    for name in boards.names():
        limits = boards.load(name).limits
        assert any(row.items() >= limits.items() for row in ROWS), f"make size BOARD={name} KEEP=1"


def test_the_document_has_what_was_kept():
    shown, *_ = tables(section(TEXTS[ROOT / "docs" / "porting.md"], "Memory"))
    rows = [[int(n.replace(",", "")) for c in r for n in c.split(", ")] for r in shown.values()]
    assert rows == [list(row.values()) for row in ROWS]


@pytest.mark.parametrize("where", [need.IN_RAM, need.IN_ROMFS])
def test_a_member_lives_with_it_and_not_with_half(tool, where):
    """The figure is an upper bound that must not rot: main.py runs by it, at a real key server."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    board = boards.load("esp32c3")
    heap = need.heap_for(board.limits, where)
    with tool.Trial(board, where == need.IN_ROMFS) as trial:
        enough = heap + tool.of_shims() + 8 * tool.STEP
        assert any(trial.lives(enough) for _ in range(3)), f"make size BOARD={board.id} KEEP=1"
        assert not trial.lives(heap // 2), f"make size BOARD={board.id} KEEP=1"


class Fake:
    """Lives with what it is made with, or more."""

    def __init__(self, needs):
        self.needs = needs
        self.asked = []

    def lives(self, heap):
        self.asked.append(heap)
        return heap >= self.needs


@pytest.mark.parametrize("needs", [100_000, 150_000, 199_999, 327_000])
def test_the_smallest_is_found_by_halving(tool, needs):
    fake = Fake(needs)
    found = tool.smallest(fake)
    assert needs <= found <= needs + tool.STEP
    assert len(set(fake.asked)) <= 9  # the most, and 224 steps halved eight times


def test_none_is_enough(tool):
    with pytest.raises(tool.Missing, match="no member lives with 327680"):
        tool.smallest(Fake(1 << 20))


def test_once_out_of_three_is_not_enough(tool):
    class Lucky(Fake):
        def lives(self, heap):
            super().lives(heap)
            return heap >= 200_000 or len(self.asked) % 3 == 0

    assert tool.smallest(Lucky(0)) >= 200_000


# What covey image says


@pytest.fixture
def table(monkeypatch, tmp_path):
    def put(*rows):
        path = tmp_path / "heap.json"
        path.write_text(json.dumps(rows))
        monkeypatch.setattr(need, "MEASURED", path)
        return path

    return put


def row(sas, senders, payload, heap, heap_romfs):
    limits = {"sas": sas, "senders": senders, "payload": payload}
    return {**limits, "heap": heap, "heap_romfs": heap_romfs}


def test_limits_between_rows_take_the_next_larger_one(table):
    table(row(4, 16, 512, 100, 50), row(4, 16, 1400, 120, 60), row(8, 32, 1400, 150, 90))

    def heap(*limits, where="heap"):
        return need.heap_for(dict(zip(("sas", "senders", "payload"), limits, strict=True)), where)

    assert heap(4, 16, 512) == 100 and heap(4, 16, 512, where="heap_romfs") == 50
    assert heap(3, 16, 600) == 120
    assert heap(5, 8, 100) == 150
    assert heap(9, 16, 512) is None


def test_what_is_kept_takes_the_place_of_what_was(table):
    path = table(row(4, 16, 512, 100, 50), row(4, 16, 1400, 120, 60))
    limits = {"sas": 4, "senders": 16, "payload": 512}
    need.keep(limits, {"heap": 99, "heap_romfs": 49})
    assert json.loads(path.read_text()) == [row(4, 16, 512, 99, 49), row(4, 16, 1400, 120, 60)]
    assert need.heap_for(limits, "heap") == 99


def said(member, board, **wishes):
    return need.warnings(member, board, files.contents(member, board), **wishes)


def test_a_heap_that_is_too_small_is_said(site, table):
    member = members.load(site, "press-7")
    board = boards.load("esp32c3")
    table(row(4, 16, 1400, board.heap + 1, board.heap))
    (note,) = said(member, board)
    assert f"takes {board.heap + 1} octets" in note and "not measured" in note
    assert note.endswith(f"in ROMFS (--romfs) or frozen it is {board.heap}.")
    assert said(member, board, romfs=True) == []
    table(row(4, 16, 1400, board.heap + 9, board.heap + 1))
    (note,) = said(member, board)
    assert f"it is {board.heap + 1}, so it needs a board with PSRAM" in note
    (note,) = said(member, board, romfs=True)
    assert note.endswith("smaller limits in covey.json, or a board with PSRAM.")
    table(row(4, 16, 1400, board.heap, board.heap))
    assert said(member, board) == []
    table()
    assert said(member, board) == []


def test_machine_code_counts_where_it_lies_on_the_heap(site, table):
    member = members.load(site, "press-7")
    board = boards.load("rpi_pico_w")
    object.__setattr__(board, "heap", 100_000)
    code = files.contents(member, board).code.values()
    machine = sum(mpyfile.parse(data).machine_code for data in code)
    assert machine > 10_000
    table(row(4, 16, 1024, 100_000 - machine, 0))
    assert said(member, board) == []
    table(row(4, 16, 1024, 100_001 - machine, 0))
    assert "takes 100001 octets" in said(member, board)[0]


@pytest.mark.parametrize(
    "limits, romfs, says",
    [
        ({}, False, "(--romfs) or frozen it is {needs}, so it needs limits.waiting 7 or less in"),
        ({}, True, "limits.waiting 7 or less in covey.json."),
        ({"waiting": 7}, True, ""),
        ({"waiting": 8}, True, "limits.waiting 7 or less in covey.json."),
    ],
)
def test_packets_that_wait_for_their_proof_need_room(site, table, limits, romfs, says):
    member = members.load(site, "press-7")
    object.__setattr__(member.policy, "source_auth", "tesla")
    member.fields["limits"] = limits
    board = boards.load("esp32c3")
    enough = proofs.octets(member, {"payload": 1400, "waiting": 7}, need.IN_ROMFS)
    table(row(4, 16, 1400, board.heap, board.heap - enough))
    notes = said(member, board, romfs=romfs)
    needs = board.heap - enough + proofs.octets(member, {"payload": 1400}, need.IN_ROMFS)
    assert len(notes) == bool(says)
    assert all(
        says.format(needs=needs) in note and " with source_auth about " in note for note in notes
    )


ROOMS = """\
import gc
from covey import port
from covey import aio
from covey.chains import Chains
from covey.timing import Timing
from covey.waiting import WaitingRoom

def used():
    gc.collect()
    return gc.mem_alloc()

class Made(Exception):
    pass

class Settings:
    limit_sas = limit_senders = limit_waiting = sender = receiver = None

def member(payload_max, datagram_max, *others, **wishes):
    raise Made(datagram_max)

def datagram_max(payload):
    settings = Settings()
    settings.limit_payload = payload
    try:
        aio.Joined(settings, None, 1)
    except Made as made:
        return made.args[0]

aio.Member = member  # says how long aio wants rx to be
kept = [Chains(Timing(8, 2, 14, 100, bytes(4), 500)), datagram_max(1400)]
names = {i: b"m" for i in range(16)}
for slots, payload in ((16, 1400), (4, 1400), (16, 512)):
    longest = datagram_max(payload)
    before = used()
    kept.append(WaitingRoom(slots, longest))
    print(used() - before)
before = used()
for at in (0, 1 << 14, 2 << 14):
    kept[0].tell([(i, at, bytes(8), at, bytes(16)) for i in range(16)], names)
print(used() - before)
"""


def test_the_room_and_the_chains_are_as_large_as_reckoned():
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    path = {"MICROPYPATH": f"{ROOT / '.build' / 'lib-x86'}:.frozen"}
    done = subprocess.run(
        [wrapper, "-X", "heapsize=2m", "-c", ROOMS],
        env={**os.environ, **path},
        capture_output=True,
        text=True,
    )
    found = [int(line) for line in done.stdout.split()]
    reckoned = [proofs.room(16, 1400), proofs.room(4, 1400), proofs.room(16, 512)]
    reckoned.append(16 * proofs._CHAINS)
    assert len(found) == 4, done.stderr
    for octets, enough in zip(found, reckoned, strict=True):
        assert octets <= enough <= octets * 1.08, (found, reckoned)


@pytest.mark.parametrize("name, has", [("esp32s3", "may have PSRAM"), ("esp32c3", None)])
def test_a_cache_that_tells_of_keys_is_said_until_somebody_chose(site, table, name, has, tmp_path):
    table()
    member, board = members.load(site, "press-7"), boards.load(name)
    notes = said(member, board)
    assert len(notes) == bool(has)
    assert all(f"Board {name} {has}: who measures time well" in note for note in notes)
    if has:
        (note,) = said(member, replace(board, psram=boards.ALWAYS))
        assert f"Board {name} has PSRAM" in note and "--constant-time" in note
    for choice in (True, False):
        assert said(member, boards.choose(board, choice)) == []
    main = tmp_path / "main.py"
    main.write_text("from covey.gcm import GCMContext\nGCMContext.set_constant_time()\n")
    assert need.warnings(member, board, files.contents(member, board, main)) == []


def test_a_group_that_is_too_large_for_the_board(site, table):
    table()
    board = boards.load("esp32c3")
    member = members.load(site, "press-7")
    object.__setattr__(member, "senders", 16)
    assert said(member, board) == []
    object.__setattr__(member, "senders", 17)
    assert said(member, board) == [
        "Group line1 has 17 senders, and limits.senders is 16: packets of the others are dropped."
    ]
    object.__setattr__(member.policy, "single_sender", True)
    assert said(member, board) == []


def test_batches_that_are_too_large_for_the_board(site, table):
    table(row(4, 16, 1400, 100, 50))
    board = boards.load("esp32c3")
    member = members.load(site, "press-7")
    object.__setattr__(member.policy, "source_auth", "ecdsa")
    assert said(member, board) == []
    object.__setattr__(member.policy, "ecdsa_batch", 32)
    (note,) = said(member, board)
    assert "up to 32 packets at once, and limits.waiting is 16:" in note
    member.fields["limits"] = {"waiting": 32}
    assert said(member, board) == []
    assert need.heap_for(files.limits(member, board), "heap") == 100


def test_slots_for_too_few_rekeys(site, table):
    table()
    member = members.load(site, "press-7")
    for sas, notes in ((2, 1), (3, 0)):
        member.fields["limits"] = {"sas": sas}
        found = said(member, boards.load("esp32c3"))
        assert len(found) == notes and all("within dtd (10 s) need 3" in note for note in found)


def test_limits_beyond_the_board(site, table):
    table()
    member = members.load(site, "press-7")
    member.fields["limits"] = {"sas": 9, "payload": 1400}
    board = boards.choose(boards.load("esp32s2"), False)
    assert said(member, board) == [
        "covey.json has limits.sas 9, and the board file room for 4.",
        "covey.json has limits.payload 1400, and the board file room for 512.",
    ]


def test_senders_are_counted_in_the_store(site):
    assert members.load(site, "press-7").senders == 1


def test_a_carrier_that_the_board_has_not(site):
    member = members.load(site, "press-7")
    board = boards.load("esp32c3")
    need.check(member, board)
    object.__setattr__(board, "carriers", ("ip",))
    with pytest.raises(need.Problem, match="has the carrier udp, and board esp32c3 only ip"):
        need.check(member, board)


def test_what_else_a_person_forgets(site, table):
    table()
    member = members.load(site, "press-7")
    member.fields["interface"] = "192.0.2.7"
    object.__setattr__(member, "wifi", None)
    notes = said(member, boards.load("esp32c3"))
    assert "covey site wifi" in notes[0] and "192.0.2.7" in notes[1] and len(notes) == 2


# .mpy files


def test_headers_and_machine_code(site):
    member = members.load(site, "press-7")
    for name in boards.names():
        board = boards.load(name)
        code = files.contents(member, board).code
        found = {path: mpyfile.parse(data) for path, data in code.items()}
        assert {m.arch for m in found.values()} == {"none", board.arch}
        for path, mpy in found.items():
            assert (mpy.version, mpy.small_int_bits) == (6, 31), path
            assert mpy.sub_version == (0 if mpy.arch == "none" else 3), path
            assert (mpy.machine_code > 0) == (mpy.arch != "none"), path
            assert mpy.machine_code < len(code[path]), path


def test_what_is_no_mpy_file(site):
    member = members.load(site, "press-7")
    code = files.contents(member, boards.load("esp32c3")).code
    whole = code["/lib/covey/stack.mpy"]
    assert mpyfile.parse(whole)
    head = whole[:4] + b"\0\1"  # no names, one constant
    with pytest.raises(mpyfile.NoMpy, match="too deep"):
        mpyfile.parse(head + bytes([10, 1]) * 3000)
    for data in (b"", b"M\6", b"N" + whole[1:], b"M\5" + whole[2:], whole[:-1], whole + b"\0"):
        with pytest.raises(mpyfile.NoMpy):
            mpyfile.parse(data)
