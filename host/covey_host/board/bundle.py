"""What a member loads at its start, as one file: what many files name is there but once.

A file that is loaded has each thing that it imports in its code and in its dict, and a table of
all names that it says. In one file that falls away: what was `ike.SA` here and an imported `SA`
there is the same global.

    covey/ike.py     class SA: ...                      covey/stack.py   class SA: ...
    covey/group.py   from covey import ike                               def begin(): SA()
                     def begin(): ike.SA()

The parts are covey.aio and all that it imports at its start. Files that are loaded late, if at
all, stay apart, and so do those that are forgotten (unload): nothing imports these at its start. A
part that an application may import stays as well, as a file that hands on what it had. Where two
parts had a global of the same name, it becomes two: parse__ike, parse__gsa.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Iterable

from .identifiers import DEFINITIONS
from .program import STACK, Program, binds, dotted, foreign, from_stack, here, is_ours
from .strict import check
from .unify import Unified

_FIRST = "covey/aio.py"
_PART = STACK + ":"  # covey/stack.py:sa is what was covey/sa.py
_OF_ONE_OCTET = 126  # names: 128, but for that of the file and _


def bundle(
    trees: dict[str, ast.Module],
    applications: list[ast.Module],
    doors: set[str],
    asked: set[str],
) -> dict[str, ast.Module]:
    """{covey/sa.py: tree} → the same program in the same trees. The parts no longer import each
    other, and no two of their globals have one name, so that join() can make one file of them.

    doors: the files that applications may import; asked: what of their globals they may name.
    SyntaxError: lib/covey does what this can't follow (board.strict, and what only shows on the
    way: a part used as a value, a global that is hidden where it is meant).
    """
    if _FIRST not in trees:  # an application without a member: nothing much is loaded
        return trees
    program = Program(trees, _FIRST)
    check(trees, applications, program)
    whole = {file: tree for file, tree in trees.items() if file not in program.parts}
    for file in program.parts:
        whole[_PART + dotted(file).partition(".")[2]] = trees[file]
        if file in doors:
            whole[file] = _door(program, file, asked)
    for file, tree in trees.items():
        Unified(program, file).visit(tree)
    _import_once(trees[file] for file in program.parts)
    return whole


def _door(program: Program, file: str, names: Iterable[str]) -> ast.Module:
    """What an application finds in the place of a part."""
    finals = {name: program.final(file, name) for name in sorted(names)}
    return ast.Module(from_stack({name: final for name, final in finals.items() if final}), [])


def parts_of(files: Iterable[str]) -> list[str]:
    """Those that bundle() left to be joined, in the order in which they are loaded."""
    return [file for file in files if file.startswith(_PART)]


def part_name(file: str) -> str:
    """What is said of one: port.mpy, which was covey/port/mpy.py."""
    return file.removeprefix(_PART)


def join(trees: dict[str, ast.Module]) -> None:
    """Make one of the parts."""
    bodies = [trees.pop(file).body for file in parts_of(trees)]
    if bodies:
        whole = ast.Module(sum(bodies, []), [])
        whole.body.insert(0, _names_first(whole))
        trees[STACK] = whole


def _names_first(tree: ast.Module) -> ast.stmt:
    """A .mpy file has a number for each name, in the order in which it first says them; the first
    128 take one octet wherever they stand, others two. So those that stand most often are said
    first, where it is never executed: for _ in (): _.append._keys...
    """
    said = Counter()
    known = set(dir(builtins)) | {
        name for node in here(tree.body) for name in (*binds(node), *foreign(node))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            said[node.id] += node.id in known
        elif isinstance(node, ast.Attribute):
            said[node.attr] += 1
        elif isinstance(node, ast.arg | ast.keyword):
            said[node.arg or "_"] += 1
        elif isinstance(node, DEFINITIONS):
            said[node.name] += 2
    said.pop("_", None)
    often = sorted(said, key=lambda name: (-said[name], name))
    chain = "".join(f".{name}" for name in often[:_OF_ONE_OCTET])
    return ast.parse(f"for _ in ():\n    _{chain}").body[0]


def _import_once(trees: Iterable[ast.Module]) -> None:
    """What is not ours, in the first of the files that import it."""
    seen = set()
    for tree in trees:
        for node in tree.body[:]:
            if isinstance(node, ast.Import | ast.ImportFrom) and not is_ours(node):
                module = getattr(node, "module", "")
                news = {(module, alias.name, alias.asname): alias for alias in node.names}
                node.names = [alias for key, alias in news.items() if key not in seen]
                seen |= news.keys()
                if not node.names:
                    tree.body.remove(node)
