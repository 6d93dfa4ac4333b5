"""covey bench: the bench's scripts on MicroPython behind a serial line, and the table of them."""

import json
import re

import pytest

from board_on_desk import board_with, files_of
from covey_host.bench import board as runner
from covey_host.bench import onboard
from covey_host.bench.results import Table
from covey_host.errors import Problem
from markdown import ROOT, TEXTS, section, tables
from test_bench import check_form
from test_micropython import compile_lib, interpreter, without

BUILD = ROOT / ".build"
CLOCK = "import machine\nmachine.freq = lambda: 160000000\n"  # as boot.py


@pytest.fixture
def board(tmp_path, monkeypatch):
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    assert not compile_lib()
    monkeypatch.setenv("MICROPYPATH", "/lib:.frozen")
    made = []

    def make(files):
        made.append(board_with(tmp_path / "flash", files))
        return made[-1]

    yield make
    for one in made:
        one.power_off()


def test_a_member_on_a_board(board, tmp_path, capsys):
    one = board(files_of(BUILD / "lib-x86", "/lib") | {"/boot.py": CLOCK})
    assert onboard.run(one.port, tmp_path / "rows.json", quick=True) == 0
    rows = check_form(json.loads((tmp_path / "rows.json").read_text()))
    assert set(onboard.COUNTED) <= set(rows)
    assert {row["unit"] for row in rows.values()} == {runner.TIME, "octets"}
    assert all(row["value"] == 0 for name, row in rows.items() if name.startswith("heap"))
    said = capsys.readouterr().out
    assert re.match(r"\*\*.+, MicroPython 1\.25\.0, 160 MHz\*\*\n\n\| what ", said)
    [table] = tables(said)
    assert "heap for a packet sent: 0 octets" in said
    assert set(onboard.COUNTED) <= set(table)


def test_a_board_without_a_member(board):
    one = board({"/boot.py": CLOCK})
    with pytest.raises(Problem, match=r"covey install"):
        onboard.run(one.port, None, quick=True)


def test_a_subject_that_fails_there_is_named(board, capsys):
    files = files_of(BUILD / "lib-x86", "/lib") | {"/boot.py": CLOCK}
    del files["/lib/covey/member.mpy"]
    onboard.run(board(files).port, None, quick=True)
    said = capsys.readouterr().out
    assert said.count("Left out:") == 3, said
    assert "Left out: AES-GCM" in said and "ImportError" in said


def test_without_a_port():
    with pytest.raises(Problem, match="make bench"):
        onboard.run(None, None, quick=True)


def test_the_table_of_cycles():
    table = Table()
    table.add("GCM seal, 64 octets", 100_000.0, runner.TIME)
    table.add("something", 500, runner.TIME, "GCM seal, 64 octets")
    table.add("heap", 0, "octets")
    lines = onboard.markdown(table, "a board", [1, 26, 0, ""], 160_000_000)
    assert lines[0] == "**a board, MicroPython 1.26.0, 160 MHz**"
    assert "| GCM seal, 64 octets | 100.0 | 16,000 | 13,149 | 1.22 |" in lines
    assert "| something | 0.5 | 80 |  |  |" in lines
    assert lines[-1] == "heap: 0 octets"
    unknown = onboard.markdown(table, "a board", [1, 26, 0, ""], None)
    assert "| GCM seal, 64 octets | 100.0 |  | 13,149 |  |" in unknown


def test_the_figures_beside_are_those_of_the_document():
    found = section(TEXTS[ROOT / "docs" / "porting.md"], "What a packet costs")
    alone, members, *_ = tables(found)
    number = {name: [cell.replace(",", "") for cell in row[1:]] for name, row in alone.items()}
    counted = onboard.COUNTED
    assert number["AES alone, tag's block included"][0] == str(
        counted["AES, 5 blocks in one call"]
    )
    for name, row in (
        ("`seal`", "GCM seal"),
        ("`open`, the tag first", "GCM open"),
        ("`open` of a forged packet", "GCM refuses a forgery"),
    ):
        shown = [counted[f"{row}, {n} octets"] for n in (64, 256)]
        assert number[name] == [str(n) for n in shown], name
    assert members["`Member.send`"][1].replace(",", "") == str(counted["Member.send, 64 octets"])
    assert members["`Member.receive`"][1].replace(",", "") == str(
        counted["Member.receive, 64 octets"]
    )
    refused = [members[name][1] for name in members if name.startswith("refused")][0]
    assert [int(n.replace(",", "")) for n in refused.split(";")] == [
        counted[f"Member.receive refuses {what}, 64 octets"]
        for what in ("an unknown SPI", "a replayed packet", "a forged packet")
    ]
    assert f"with a search of the heap, {counted['GCM key made, with its tables']:,}." in (
        found.replace("\n", " ")
    )
