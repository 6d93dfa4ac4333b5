"""host/covey_host/board/fold.py: numbers for names, and nothing else changed."""

import ast
import importlib

import pytest

from covey_host.board.fold import MARK, fold, numbers_of
from markdown import ROOT

LIB = ROOT / "lib"
ELSEWHERE = ("sys.implementation.name == 'micropython'", "hasattr(asyncio, 'core')")
FILES = [path for path in sorted((LIB / "covey").rglob("*.py")) if path.stem[:3] != "cpy"]


@pytest.fixture
def folded(tmp_path):
    """A function: the folded text of one file of a package, whose others are given by name."""

    def of(text, **others):
        package = tmp_path / "covey"
        package.mkdir()
        for name, other in {"__init__": "", **others, "it": text}.items():
            (package / f"{name}.py").write_text(other)
        return fold(package / "it.py", tmp_path)

    return of


def test_a_number_takes_the_place_of_its_name(folded):
    text = "from covey.drops import DROP_TAG, FormatError\n\nraise FormatError(DROP_TAG)\n"
    assert folded(text, drops="DROP_TAG = -10\nclass FormatError(Exception): pass\n") == (
        "from covey.drops import FormatError\n\nraise FormatError((-10))\n"
    )


def test_two_look_ups_become_none(folded):
    ike = "from covey.iana import *\ndef f(): pass\n"
    text = "from covey import ike\n\nX = ike.SA\nY = ike.f\n"
    assert folded(text, ike=ike, iana="SA = 33\n") == text.replace("ike.SA", "33")


def test_what_is_nothing_but_numbers_is_not_loaded(folded):
    text = "from covey import ike\nfrom covey.iana import *\n\nX = ike.SA, ike.KE\n"
    assert folded(text, ike="SA = 33\nKE = 34\n", iana="KD = 52\n") == "pass\npass\n\nX = 33, 34\n"


def test_lines_stay_where_they_are(folded):
    head = "from covey.drops import (\n    A,\n    B,\n)\n\n"
    text = "x = (\n    A,  # ü: more than one octet\n    B,\n)\n"
    assert folded(head + text, drops="A = 1\nB = 2\n").splitlines()[5:] == [
        "x = (",
        "    1,  # ü: more than one octet",
        "    2,",
        ")",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "from covey.drops import A\n\ndef f(A):\n    return A\n",
        "from covey.drops import A\n\ndef f():\n    A = 5\n    return A\n",
        "from covey import drops\n\ndef f(drops):\n    return drops.A\n",
        "A = 1\nA = 2\nB = A\n",
        "A = 1\n\ndef f():\n    global A\n    A += 1\n",
        "A = True\nB = A\n",
        "A = 1.5\nB = A\n",
    ],
)
def test_what_may_be_something_else_stays(folded, text):
    assert folded(text, drops="A = 1\n") == text


def test_what_is_bound_twice_where_it_comes_from_stays(folded):
    text = "from covey import drops\nfrom covey.drops import A\n\nX = A, drops.A\n"
    assert folded(text, drops="A = 1\nif X:\n    A = 2\n") == text


def test_what_the_compiler_alone_reads_is_not_imported(folded):
    text = (
        "import micropython\nfrom covey.port import const, sha256\n\n_A = const(1)\n\n"
        "@micropython.native\ndef f():\n    return sha256(_A)\n"
    )
    head = "pass\nfrom covey.port import sha256\n\n_A = const(1)\n\n"
    assert folded(text).startswith(head)


def test_an_import_that_nothing_ever_used_stays(folded):
    text = "from covey import it2\nfrom covey.port import const\n"
    assert folded(text, it2="A = 1\n") == text


@pytest.mark.parametrize("use", ["X = [const]", "f(const(1))", "X = micropython.mem_info"])
def test_what_is_asked_when_it_runs_is_imported(folded, use):
    text = f"import micropython\nfrom covey.port import const\n\n_A = const(1)\n{use}\n"
    name = "const" if "const" in use else "import micropython"
    assert name in "".join(folded(text).splitlines()[:2])


def test_a_file_keeps_its_own_numbers_for_who_imports_it(folded):
    assert folded("A = const(3)\nB = A + 1\n") == "A = const(3)\nB = 3 + 1\n"


def test_what_another_interpreter_would_do_is_cut(folded):
    text = (
        "import sys\nif sys.implementation.name == 'micropython':\n    from covey.a import *\n"
        "elif sys.x:\n    from covey.b import *\nelse:\n    raise ImportError\nX = 1\n"
    )
    assert folded(text) == (
        "import sys\nif sys.implementation.name == 'micropython':\n    from covey.a import *\n"
        "\n\n\n\nX = 1\n"
    )


def test_so_is_the_other_half_of_an_if(folded):
    text = "if hasattr(asyncio, 'core'):\n    X = 1\nelse:\n    X = 2\n    Y = 3\n"
    assert folded(text) == ("if hasattr(asyncio, 'core'):\n    X = 1\nelse:\n    pass\n\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_each_number_of_covey_is_the_one_that_the_interpreter_sees(path):
    parts = path.relative_to(LIB).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    numbers = numbers_of(name, LIB)
    if name.startswith("covey.port."):
        return  # can't be imported here
    module = importlib.import_module(name)
    for constant in numbers:
        assert getattr(module, constant) == numbers[constant], constant


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_nothing_but_names_of_numbers_and_imports_has_changed(path):
    """Where the tree of a file differs, there was a name or an attribute, and is a number."""
    text = fold(path, LIB)
    half = path.read_text().partition(MARK)[0].rstrip("\n") + "\n"
    assert text.count("\n") == half.count("\n")
    before, after = ast.parse(half), ast.parse(text)
    imports = ast.ImportFrom | ast.Pass
    pairs = [
        (one, other)
        for one, other in zip(before.body, after.body, strict=True)
        if not (isinstance(one, ast.Import | ast.ImportFrom) and isinstance(other, imports))
        and not (ast.unparse(one).startswith("__all__ = ") and isinstance(other, ast.Pass))
    ]
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, ast.Name | ast.Attribute) and not isinstance(other, type(one)):
            assert type(ast.literal_eval(other)) is int, ast.unparse(one)
            continue
        assert type(one) is type(other)
        for field in one._fields:
            left, right = getattr(one, field), getattr(other, field)
            if (
                isinstance(one, ast.If)
                and field == "orelse"
                and ast.unparse(one.test) in ELSEWHERE
            ):
                assert [type(node) for node in right] in ([], [ast.Pass])
                continue
            if isinstance(left, ast.AST):
                pairs.append((left, right))
            elif isinstance(left, list) and left and isinstance(left[0], ast.AST):
                pairs += zip(left, right, strict=True)
            else:
                assert left == right, field


def test_the_key_servers_half_goes_with_what_it_alone_imports(folded):
    text = f"from covey.kd import emit, parse\n\nX = parse()\n\n\n{MARK}\n\nY = emit()\n"
    assert folded(text, kd="def emit(): pass\ndef parse(): pass\n") == (
        "from covey.kd import parse\n\nX = parse()\n"
    )


def test_nothing_on_a_board_needs_the_key_servers_half():
    halves = [path.read_text().partition(MARK)[2] for path in FILES]
    bodies = [node for half in halves for node in ast.parse(half).body]
    cut = {node.name for node in bodies if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {"emit_gsa", "emit_kd", "wrap"} <= cut
    named = set()
    for path in FILES:
        for node in ast.walk(ast.parse(fold(path, LIB))):
            for field in ("id", "attr", "name"):
                named.add(getattr(node, field, None))
    assert not cut & named


def test_a_member_needs_no_file_of_numbers_alone():
    for path in FILES:
        names = [node.names for node in ast.parse(fold(path, LIB)).body if hasattr(node, "names")]
        assert "iana" not in [alias.name for aliases in names for alias in aliases], path
