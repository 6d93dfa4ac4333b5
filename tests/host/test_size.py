"""tools/size.py: what it counts, and what it says of a revision."""

import importlib.util
import subprocess
import sys

import pytest

from covey_host.board import code
from markdown import ROOT, TEXTS, numbers, section
from processes import run
from test_micropython import interpreter, without

TOOL = ROOT / "tools" / "size.py"


@pytest.fixture
def size(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    spec = importlib.util.spec_from_file_location("size", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(size, monkeypatch, tmp_path):
    """A lib/ of two modules under git, as that of the tool."""

    def git(*words):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    covey = tmp_path / "lib" / "covey"
    covey.mkdir(parents=True)
    (covey / "__init__.py").write_text('"""Nothing."""\n')
    (covey / "sa.py").write_text("print('A')\n")
    (covey / "old.py").write_text("print('B')\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "v1")
    monkeypatch.setattr(size, "ROOT", tmp_path)
    monkeypatch.setattr(size, "SOURCE", tmp_path / "lib")
    return covey


def test_the_whole_of_it():
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    done = run(TOOL, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Left out" not in done.stdout, done.stdout
    lines = {line[:48].rstrip(" *"): line for line in done.stdout.splitlines() if line}
    for name in ("aio", "member", "port/mpy_gcm", "p256"):
        _, star, *cells = lines[f"covey/{name}.py"].split()
        assert star == "*" and len(cells) == 6 and all(int(cell) > 0 for cell in cells), name
    apart, in_one = (lines[name].split()[-6:] for name in ("a member", "as boards get it"))
    for cell, less in zip(apart[1:], in_one[1:], strict=True):
        assert int(cell) > int(less) > 10000
    assert int(lines["all"].split()[-1]) > int(apart[-1])
    assert done.stdout.count("aim 48 KB") == 4 and done.stdout.count("aim 24 KB") == 1


def test_what_a_plain_member_does_without_has_its_role(size, capsys):
    """A file that is loaded at once, or that no role names, is found here."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    size.size()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    optional = {
        row[0].removeprefix("covey/").removesuffix(".py").replace("/", ".")
        for row in rows
        if row and row[0].startswith("covey/") and row[1] != "*"
    }
    roles = {name for names in size.ROLES.values() for name in names}
    roles.remove("port.mpy_crypt")  # needed where kernels are looped
    assert optional == roles | {"iana"}, "numbers alone"


def test_kernels_of_each_architecture(size, tmp_path):
    modules = size.measure(size.SOURCE, tmp_path)
    size.note_loaded(modules, ["covey.port.mpy_ghash", "covey.port.mpy_tables", "covey.aio"])
    needed = {
        name.removeprefix("covey/port/").removesuffix(".py"): modules[name].needed
        for name in modules
        if modules[name].needed
    }
    everywhere, looped = set(size.ARCHS), {"x64", "armv6m"}
    assert needed == {
        "mpy_ghash": everywhere - looped,
        "mpy_ghash_small": looped,
        "mpy_crypt": looped,
        "mpy_tables": everywhere,
        "covey/aio": everywhere,
    }
    files = size.image(modules, "xtensawin")
    assert sorted(files) == [
        "covey/aio.mpy",
        "covey/port/mpy_ghash.mpy",
        "covey/port/mpy_tables.mpy",
        "covey/stack.mpy",
    ]


def test_without_micropython_the_octets_are_there_all_the_same(
    size, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(size, "BUILD", tmp_path)
    size.size()
    out = capsys.readouterr().out
    assert "covey/member.py" in out and "Left out: there is no 32-bit MicroPython." in out
    assert "aim" not in out


def test_each_name_comes_behind_what_it_imports(size):
    modules = {}
    for source in size.sources():
        module = size.Module(str(source.relative_to(size.SOURCE)))
        modules[module.dotted] = module
    loaded = ["covey.aio", "covey.port", "covey.port.mpy", "covey.sa"]
    order = size.in_order(modules, size.SOURCE, loaded)
    assert order[:2] == ["covey", "covey.port"]
    assert order.index("covey.drops") < order.index("covey.port.mpy") < order.index("covey.sa")
    assert order.index("covey.membership") < order.index("covey.aio")
    assert "covey.port.mpy_ghash_small" not in order
    assert len(set(order)) == len(order)


def test_difference_to_a_revision(size, tree, capsys):
    (tree / "sa.py").write_text("print('a long text that takes room')\nprint()\n")
    (tree / "old.py").unlink()
    (tree / "new.py").write_text("print('C')\n")
    size.diff(None)
    rows = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line
    }
    assert "covey/__init__.py" not in rows, "it has not changed"
    assert rows["covey/sa.py"][0] == "+1" and int(rows["covey/sa.py"][2]) > 0
    assert rows["covey/old.py"][:2] == ["-1", "0"] and int(rows["covey/old.py"][2]) < 0
    assert rows["covey/new.py"][1] == rows["covey/new.py"][2].lstrip("+")
    changes = [int(rows[f"covey/{name}.py"][2]) for name in ("sa", "old", "new")]
    assert int(rows["all"][2]) == sum(changes)
    assert rows[".mpy"][-1] == "v1"


def test_a_revision_that_is_none_is_a_sentence(size, tree):
    with pytest.raises(SystemExit, match="size: v2 is no revision that has lib/covey"):
        size.diff("v2")
    subprocess.run(["git", "tag", "-d", "v1"], cwd=size.ROOT, check=True, capture_output=True)
    with pytest.raises(SystemExit, match="there is no tag yet: name a revision"):
        size.diff(None)


def test_what_does_not_compile_is_a_sentence(size, tree, monkeypatch, capsys):
    (tree / "sa.py").write_text("def\n")
    monkeypatch.setattr(sys, "argv", ["size.py"])
    with pytest.raises(SystemExit, match="size: covey/sa.py"):
        size.main()


def test_what_it_counts_is_what_a_board_gets(size, tmp_path):
    """File by file, to the octet: all that the image of firmware/main.py holds."""
    modules = size.measure(size.SOURCE, tmp_path)
    texts = [(size.FIRMWARE / name).read_text() for name in ("boot.py", "main.py")]
    found = code.select(texts, "rv32imc", ("udp", "ip"), [size.FIRMWARE])
    apart = code.compile_all(found, "rv32imc", in_one=False)[0]
    counted = [name for name in apart if name.startswith("covey/")]
    for name in counted:
        module = modules[name.replace(".mpy", ".py")]
        assert module.octets["rv32imc"] == len(apart[name]), name
        module.needed.add("rv32imc")
    assert len(counted) > 50
    made = code.compile_all(found, "rv32imc")[0]
    ours = {name: data for name, data in made.items() if name.startswith("covey/")}
    assert size.image(modules, "rv32imc") == ours and 20 < len(ours) < len(counted) - 20


def test_the_aims_are_those_of_the_document(size):
    said = numbers(section(TEXTS[ROOT / "docs" / "bench.md"], "Size"))
    assert {size.MOST_CODE // 1024, size.MOST_STATE // 1024, size.PAYLOAD} <= said
    assert size.SAS == 4
