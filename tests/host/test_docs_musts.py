"""docs/rfc9838.md: every place in the code and every test that it names is there."""

import ast
import re
from functools import cache

import pytest

from markdown import ROOT, SPEC, TEXTS, section

MUSTS = TEXTS[ROOT / "docs" / "rfc9838.md"]
ENDS = ("A group member", "A key server")
HOST, LIB = ROOT / "host" / "covey_host", ROOT / "lib" / "covey"
NOT_HERE = "n/a: "


@cache
def names(path):
    """Functions, classes and methods (Class.method) of a file."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef):
                found.add(f"{node.name}.{inner.name}")
    return found


def rows(end):
    """[(number, section, demand, where, tests)]"""
    lines = re.findall(r"^\| \d+ \|.*\|$", section(MUSTS, end), re.M)
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert found and {len(row) for row in found} == {5}
    return found


ROWS = [(end, row) for end in ENDS for row in rows(end)]


def places(cell):
    """`file.py::name` → [(file, name)]"""
    return [span.split("::") for span in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("end, row", ROWS, ids=[f"{end} {row[0]}" for end, row in ROWS])
def test_what_a_row_names_is_there(end, row):
    _, number, demand, where, tests = row
    assert re.fullmatch(r"\d(\.\d)*", number) and demand
    assert places(where) or where.startswith(NOT_HERE), "where is it kept?"
    for file, name in places(where):
        folder = HOST if file.startswith("gcks/") else LIB
        assert name in names(folder / file), (file, name)
    assert places(tests), "what shows it?"
    for file, name in places(tests):
        assert name.startswith("test_") and name in names(ROOT / "tests" / file), (file, name)


def test_rows_are_counted_and_in_order():
    for end in ENDS:
        found = rows(end)
        assert [int(row[0]) for row in found] == list(range(1, len(found) + 1))
        sections = [tuple(map(int, row[1].split("."))) for row in found]
        assert sections == sorted(sections)


def totals(end):
    found = rows(end)
    absent = sum(row[3].startswith(NOT_HERE) for row in found)
    return len(found), len(found) - absent, absent


def test_totals_are_those_of_the_tables():
    """Of rfc9838.md, and of the sentence in spec.md."""
    for end in ENDS:
        every, kept, absent = totals(end)
        said = f"{every} demands: {kept} kept, {absent} not applicable."
        assert section(MUSTS, end).strip().startswith(said), said
    (member, server) = (totals(end) for end in ENDS)
    said = (
        f"{member[0]} for a group member ({member[1]} kept, {member[2]} not applicable) and "
        f"{server[0]} for a key server ({server[1]} kept, {server[2]} not applicable)"
    )
    assert said in " ".join(SPEC.split()), said
