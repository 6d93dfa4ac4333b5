"""What the syntax tree of a file says of names: which it binds, which it uses, and where."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = FUNCTIONS | ast.ClassDef
_BY_TEXT = {"getattr", "setattr", "hasattr", "delattr"}


class Names:
    """Those of one tree, by their use. All of it is gathered in one walk."""

    def __init__(self, tree: ast.AST):
        self.words = Counter()  # every identifier, as often as it stands there
        self.bare = set()  # those that stand alone somewhere
        self.dotted = set()  # those behind a dot, and what a class says outside of its methods
        self.texts = set()  # those that could be a name
        self.keywords = set()  # by which arguments are handed over
        self.attributes = set()  # that are asked for or set
        self.stored_in_self = set()
        self.stored_elsewhere = set()  # attributes that are set from outside of their class
        self.functions = []  # outer ones first, lambdas among them
        self.classes = []
        self._declared = set()  # by `global`
        self._methods = set()
        for node in ast.walk(tree):
            self._hear(node)  # each class before what is in it
        self.dotted |= self.attributes

    @property
    def asks_by_text(self) -> bool:
        """Whether getattr() or its like is called, so that a text may be a name."""
        return not _BY_TEXT.isdisjoint(self.words)

    def _hear(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            self._say(node.id)
        elif isinstance(node, ast.Attribute):
            self.words[node.attr] += 1
            self.attributes.add(node.attr)
            if isinstance(node.ctx, ast.Store):
                is_self = isinstance(node.value, ast.Name) and node.value.id == "self"
                (self.stored_in_self if is_self else self.stored_elsewhere).add(node.attr)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and node.value.isidentifier():
                self.texts.add(node.value)
        elif isinstance(node, ast.arg):
            self._say(node.arg)
        elif isinstance(node, ast.keyword):
            if node.arg:
                self._say(node.arg)
                self.keywords.add(node.arg)
        elif isinstance(node, ast.alias):
            self._say(*node.name.split("."))
            if node.asname:
                self._say(node.asname)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            self._say(*node.names)
            self._declared |= set(node.names)
        elif isinstance(node, ast.ExceptHandler):
            if node.name:
                self._say(node.name)
        elif isinstance(node, FUNCTIONS | ast.Lambda):
            self.functions.append(node)
            if node in self._methods:
                self.words[node.name] += 1
            elif not isinstance(node, ast.Lambda):
                self._say(node.name)
        elif isinstance(node, ast.ClassDef):
            self.classes.append(node)
            self._say(node.name)
            for inner in _in_class(node):
                if isinstance(inner, ast.Name):
                    self.dotted.add(inner.id)
                elif isinstance(inner, DEFINITIONS):
                    self.dotted.add(inner.name)
                if isinstance(inner, FUNCTIONS):
                    self._methods.add(inner)

    def _say(self, *words: str) -> None:
        self.words.update(words)
        self.bare.update(words)

    def globals(self, tree: ast.Module) -> set[str]:
        """What the module of this tree binds itself, imports apart."""
        return self._declared | set(_bound(tree.body))

    def bound(self, tree: ast.Module) -> set[str]:
        """What comes from this file: its globals, and attributes that it sets."""
        own = self.globals(tree) | self.members()
        return own | self.stored_in_self | self.stored_elsewhere

    def members(self) -> set[str]:
        """Attributes that come from here: methods, and what is bound in a class."""
        return {name for kind in self.classes for name in _bound(kind.body)}


def arguments(function: FUNCTIONS | ast.Lambda) -> list[ast.arg]:
    a = function.args
    return [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]


def stored(tree: ast.AST) -> Iterator[str]:
    """Names that are assigned to anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def is_const(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == "const"


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """By the statements of a module or class, and those below an if, try or loop there."""
    for node in body:
        if isinstance(node, DEFINITIONS):
            yield node.name
            continue
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            yield from stored(node)
        elif isinstance(node, ast.For):
            yield from stored(node.target)
        for field in ("body", "orelse", "finalbody"):
            yield from _bound(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from _bound(handler.body)


def _in_class(kind: ast.ClassDef) -> Iterator[ast.AST]:
    """All that stands in the class itself. Of its methods only what is evaluated with them."""
    nodes = list(kind.body)
    while nodes:
        node = nodes.pop()
        yield node
        if isinstance(node, FUNCTIONS):
            nodes += [
                *node.decorator_list,
                *node.args.defaults,
                *filter(None, node.args.kw_defaults),
            ]
        else:
            nodes += ast.iter_child_nodes(node)


@cache
def imports(text: str) -> frozenset[str]:
    """Names that a file may import, at its start or later, with the packages above them."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if node.value.startswith("covey.") else []  # for __import__
        else:
            continue
        for name in names:
            parts = name.split(".")
            found |= {".".join(parts[: i + 1]) for i in range(len(parts))}
    return frozenset(found)
