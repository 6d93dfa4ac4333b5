"""tools/rv32/rig.py: what it makes of a console. The rig takes 213 MB: `make bench-rv32`."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "tools" / "rv32" / "rig.py"


@pytest.fixture(scope="module")
def rig():
    spec = importlib.util.spec_from_file_location("rig", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rows(rig):
    """One of each row that there is an aim for, at its aim; and those that it is reckoned of."""
    short = {row: name for name, row in rig.publickey.ROWS.items()}
    made = {}
    for label, aim in rig.AIMS.items():
        before, of, row = label.rpartition("longest step of ")
        made[f"{before}{of}{short.get(row, row)}"] = aim
    del made["constant time: a block of GHASH"]
    made |= {name: 30_000_000 for name in rig.publickey.ROWS}
    made |= {"bare open of a packet": 10_000, "bare seal of a packet": 10_000}
    made |= {"Member.receive, 64 octets": 14_000, "Member.send, 64 octets": 13_000}
    for kind, block in (("", 900), ("constant time: ", 5000)):
        made |= {
            f"{kind}GMAC seal, 64 octets": 100,
            f"{kind}GMAC seal, 256 octets": 100 + 12 * block,
        }
    return made | {"heap": 131072, "collect": 128_000}


def test_a_console_is_read_to_its_end(rig):
    lines = [
        ">>> import tables\r\n",
        "COST 13116 GCM seal, 64 octets\r\n",
        "COST 5 it's\r\n",
        "END\r\n",
    ]
    assert rig.read(iter(lines), "tables") == {"GCM seal, 64 octets": 13116, "it's": 5}


@pytest.mark.parametrize(
    "last, told",
    [
        ("ValueError: a key that is wiped is still there", "ended early: ValueError: a key"),
        ("MACHINE EXCEPTION CAUGHT:", "ended early: MACHINE EXCEPTION"),
        ("COST 5 half", "didn't come to its end within 120 s; its last line: COST 5 half"),
    ],
)
def test_a_script_that_fails_gives_no_rows(rig, last, told):
    with pytest.raises(rig.Failure, match=told):
        rig.read(iter(["COST 1 one\r\n", f"{last}\r\n"]), "tables")


def test_what_reaches_its_aim_is_not_told_of(rig, rows):
    made, missed = rig.table(rows)
    assert missed == []
    found = {row["name"]: row for row in made.rows}
    assert found["constant time: a block of GHASH"]["value"] == 5000
    assert found["a block of GHASH"]["value"] == 900
    assert found["a collection, for each KB of heap"]["value"] == 1000
    assert found["Member.receive, 64 octets"]["ratio"] == 1.4
    assert found["octets of heap that a key takes"]["unit"] == "octets"


@pytest.mark.parametrize(
    "label, sentence",
    [
        ("GCM seal, 64 octets", "GCM seal, 64 octets: 13,301, the aim is 13,300"),
        ("x25519", "X25519: 30,000,001, the aim is 30,000,000"),
        ("Member.send, 64 octets", "Member.send, 64 octets: 1.30 times bare seal of a packet"),
    ],
)
def test_what_misses_its_aim_is(rig, rows, label, sentence):
    rows[label] += 1
    [told] = rig.table(rows)[1]
    assert told.startswith(sentence)


@pytest.mark.parametrize(
    "label, name",
    [
        ("x25519", "X25519"),
        ("longest step of verify", "longest step of P-256: verification"),
        ("longest step of tidying prepare", "longest step of tidying P-256: table of a key, once"),
        ("point", "P-256: a key read, in one step"),
        ("GCM seal, 64 octets", "GCM seal, 64 octets"),
    ],
)
def test_names_are_those_of_the_bench(rig, label, name):
    assert rig.named(label) == name
