"""Leave out what nothing can reach: a name that nobody says is dead, and with it what bears it.

Functions, classes, methods; what a module, a class or `self` binds to a plain value; imported
names. A name lives if it stands anywhere but in its own definition: as a name, an attribute, a
text in a file that calls getattr(), a word of the texts that come along (main.py), or as what an
application may call (shorten.API). `__x__` lives, but for `__repr__`.

Whose name is meant nobody asks: every `close` lives as long as anything is closed.
"""

import ast
from collections import Counter, defaultdict

from .identifiers import Names, is_const
from .order import does_something

_STAR = "covey.port.mpy"  # all of it is covey.port's
_PLAIN = ast.Constant | ast.Name | ast.Tuple | ast.List | ast.Dict | ast.UnaryOp | ast.BinOp
_PLAIN |= ast.unaryop | ast.operator | ast.expr_context


def shake(trees: dict[str, ast.Module], outside: set[str]) -> None:
    """Take out of the trees of all files what is dead. outside: the identifiers others know, or
    may ask for.
    """
    kept = set(outside)
    for tree in trees.values():
        names = Names(tree)
        if "globals" in names.words:
            kept |= names.globals(tree)
        if names.asks_by_text:
            kept |= names.texts
    said = {file: _said(tree) for file, tree in trees.items()}
    asked = {file: _asked(tree) for file, tree in trees.items()}
    is_done = False
    while not is_done:
        everywhere = sum(said.values(), Counter(kept))
        attributes = set().union(*asked.values())
        imported = _imported(trees)
        is_done = True
        for file, tree in trees.items():
            handed_on = kept | attributes | imported[_module(file)]
            cutter = _Cutter(everywhere, said[file], handed_on)
            cutter.visit(tree)
            if cutter.has_cut:
                said[file], asked[file] = _said(tree), _asked(tree)
                is_done = False


def _imported(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """What other files import from a module by name."""
    found = defaultdict(set)
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                found[node.module] |= {alias.name for alias in node.names}
    found[_STAR] |= found[_STAR.rpartition(".")[0]]
    return found


def _module(file: str) -> str:
    """covey/sa.py: covey.sa; covey/__init__.py: covey."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _said(tree: ast.AST) -> Counter:
    """How often each name is read. That it is imported is no reading, if not by another name."""
    found = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found[node.id] += not isinstance(node.ctx, ast.Store)
        elif isinstance(node, ast.Attribute):
            found[node.attr] += not isinstance(node.ctx, ast.Store)
        elif isinstance(node, ast.alias):
            found[node.name] += node.asname is not None
        elif isinstance(node, ast.AugAssign):
            target = node.target
            found[getattr(target, "id", None) or getattr(target, "attr", None)] += 1
    return found


def _asked(tree: ast.AST) -> set[str]:
    """What is read of objects, modules among them."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if not isinstance(node.ctx, ast.Store)}


class _Cutter(ast.NodeTransformer):
    """One pass through one file."""

    def __init__(self, everywhere: Counter, here: Counter, handed_on: set[str]):
        self._everywhere = everywhere
        self._here = here
        self._handed_on = handed_on  # what others have through this file
        self._depth = 0  # of functions
        self.has_cut = False

    def _is_dead(self, name: str, own: ast.AST | None = None) -> bool:
        if name.startswith("__"):
            return name == "__repr__"  # for who debugs
        often = self._everywhere[name]
        if own is not None and 0 < often == self._here[name]:
            often -= _said(own)[name]
        return not often

    def _gone(self) -> None:
        self.has_cut = True

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            if not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
        return node

    def _is_never_missed(self, node: ast.FunctionDef | ast.ClassDef) -> bool:
        return self._depth == 0 and self._is_dead(node.name, node) and not does_something([node])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if self._is_never_missed(node):
            return self._gone()
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST | None:
        if self._is_never_missed(node):
            return self._gone()
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """A docstring means nothing to a board, either."""
        return None if isinstance(node.value, ast.Constant) else node

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        target = node.targets[0]
        if len(node.targets) > 1 or not _is_plain(node.value):
            return node
        if self._depth == 0 and isinstance(target, ast.Name) and self._is_dead(target.id):
            return self._gone()
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            if self._is_dead(target.attr):
                return self._gone()
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.module.split(".")[0] != "covey" or node.names[0].name == "*":
            return node
        names = []
        for alias in node.names:
            name = alias.asname or alias.name
            if self._here[name] or name in self._handed_on:
                names.append(alias)
        if len(names) < len(node.names):
            self.has_cut = True
            node.names = names
        return node if names else None


def _is_plain(value: ast.expr) -> bool:
    """Whether making it does nothing else."""
    if is_const(value):
        value = value.args[0]
    return all(isinstance(node, _PLAIN) for node in ast.walk(value))
