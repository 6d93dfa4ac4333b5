"""The capacity model: what it says follows from what it is given; the power-up it is held against.

What docs/scale.md says is what the model says of the figures that lie beside it.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from covey_host.bench import powerup, scale
from covey_host.errors import Problem
from markdown import ROOT, TEXTS

FIGURES = ROOT / "docs" / "scale.json"
DOC = TEXTS[ROOT / "docs" / "scale.md"]
WISH = scale.Wish()


def model(wish=WISH, **changed):
    """changed: rows by a part of their names, and by how much they are multiplied."""
    rows = figures()
    for part, factor in changed.items():
        named = [name for name in rows if part.replace("_", " ") in name]
        assert named, part
        for name in named:
            rows[name] *= factor
    return scale.Model(scale.Figures(rows, "those"), wish)


def figures():
    return {row["name"]: row["value"] for row in json.loads(FIGURES.read_text())}


def first(model, members=1_000_000, groups=1_000):
    return model.uses(members, groups)[0]


def test_no_more_of_anything_is_used_than_may_be_and_one_site_less_would_be_too_few():
    for wish in (WISH, replace(WISH, how="P-256"), replace(WISH, members=2_000, groups=2)):
        made = model(wish)
        sites = made.sites()
        assert first(made, wish.members / sites, wish.groups / sites).share <= wish.most
        if sites > 1:
            less = wish.members / (sites - 1), wish.groups / (sites - 1)
            assert first(made, *less).share > wish.most


def test_what_costs_more_breaks_first():
    by = {
        "memory of a server alone": {"memory_of_the_server_afterwards": 100},
        "etcd's database": {"octets_of_its_database": 1000},
        "etcd's writes": {"writes_a_second": 0.0001},
        "a server starts": {"as_it_starts:_CPU": 10_000},
        "all come back at once": {"CPU_of_the_server": 100},
    }
    for what, changed in by.items():
        assert first(model(**changed)).what == what


def test_more_members_or_groups_never_cost_less():
    made = model()
    small = {use.what: use.share for use in made.uses(100_000, 100)}
    for members, groups in ((200_000, 100), (100_000, 2_000), (100_000, 20_000)):
        for use in made.uses(members, groups):
            assert use.share >= small[use.what], use.what


def test_a_row_that_is_missing_is_named_with_what_measures_it(tmp_path):
    rows = figures()
    del rows["capacity: etcd: writes a second"]
    with pytest.raises(Problem, match=r"'capacity: etcd: writes a second': `make bench ONLY="):
        scale.Model(scale.Figures(rows, "those"), WISH).uses(1, 1)
    for text in ("[", '{"a": 1}', '[{"name": 3}]', None):
        file = tmp_path / "rows.json"
        if text:
            file.write_text(text)
        done = told("--figures", file)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and not done.stdout
        assert "Traceback" not in done.stderr
        file.unlink(missing_ok=True)


def test_what_is_wished_for_has_to_be_possible():
    for words in (["--members", "0"], ["--most", "0"], ["--servers", "0"], ["--how", "RSA"]):
        done = told("--figures", FIGURES, *words)
        assert done.returncode == 2 and "Traceback" not in done.stderr, words


def test_the_document_has_what_the_commands_in_it_print():
    """Each line of its tables; what was simulated takes too long here."""
    asked = re.findall(r"python -m covey_host\.bench\.scale (--figures .*)", DOC)
    assert len(asked) == 3
    printed = {line for words in asked for line in told(*words.split()).stdout.splitlines()}
    before, _, behind = DOC.partition("\n## By simulation\n")
    shown = [line for line in (before + behind.partition("\n## ")[2]).splitlines() if "|" in line]
    assert len(shown) > 50
    assert [line for line in shown if line not in printed] == []


def told(*words):
    words = [sys.executable, "-m", "covey_host.bench.scale", *map(str, words)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_servers_that_are_enough_let_all_in_as_they_come():
    found = powerup.come(2_000, 2, 100, None, seed=1)
    assert found.last_s < 2.1 and not found.repeats + found.full + found.moves


def test_servers_that_are_slow_are_busy_with_what_is_still_waited_for():
    """Members go to another server after half a second: what is older is looked at in vain. In the
    order of their coming it would take 60 s here."""
    found = powerup.come(3_000, 2, 3_000, None, seed=1)
    assert 9 <= found.last_s < 12, "two requests of each, 9 s for either server"
    assert found.repeats and found.moves


def test_one_server_that_is_slow_loses_no_one():
    found = powerup.come(3_000, 1, 1_000, None, seed=1)
    assert 6 <= found.last_s < 8 and found.repeats and not found.moves


def test_who_asks_a_server_that_dies_goes_to_another():
    found = powerup.come(2_000, 3, 100, 1_000, seed=1)
    assert found.moves >= 300, "a third of those that begin behind its end"
    assert found == powerup.come(2_000, 3, 100, 1_000, seed=1), "the seed is all that decides"
