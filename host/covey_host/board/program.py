"""Of all files of an image: which global of which file a name means.

The parts are those files that become one (board.bundle). Each of their globals has one name there;
where that is not its own, it is parse__ike.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator

from .identifiers import FUNCTIONS, arguments, stored

STACK = "covey/stack.py"
_PACKAGE = "covey"
IMPORTS = ast.Import | ast.ImportFrom
_FUNCTIONS = FUNCTIONS | ast.Lambda
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SCOPES = _FUNCTIONS | ast.ClassDef | COMPREHENSIONS


class Program:
    """Which global a name means, in whatever file it stands."""

    def __init__(self, trees: dict[str, ast.Module], first: str):
        self._files = {dotted(file): file for file in trees}
        self._imports = {file: dict(self._imported(tree)) for file, tree in trees.items()}
        self.parts = []  # in the order in which they are loaded
        self._load(first, trees, set())
        self._stars = {file: list(self._starred(tree)) for file, tree in trees.items()}
        self.asked_of = {file: asked(tree) for file, tree in trees.items()}
        self._own = {file: self._bound_at_start(tree) for file, tree in trees.items()}
        self._changing = {file: set(_changing(tree)) for file, tree in trees.items()}
        self.unknown = {}  # names that each file says and does not bind, such as builtins
        self._shared = self._not_unique(trees)

    def _not_unique(self, trees: dict[str, ast.Module]) -> set[str]:
        """Globals that would mean another thing, too, in one file of all."""
        homes, taken = defaultdict(set), set()
        for file, tree in trees.items():
            said = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            inside = set(_bound_inside(tree))
            known = self._own[file].keys() | self._imports[file].keys()
            taken |= said - known | inside
            self.unknown[file] = said - known - inside
            for name, origin in self._own[file].items():
                homes[name].add(origin or file)
        for name, where in homes.items():
            if len(where) > 1 and where.isdisjoint(trees):
                raise SyntaxError(f"{name} is imported from {' and from '.join(sorted(where))}")
        return taken | {name for name in homes if len(homes[name]) > 1}

    def _imported(self, tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
        """(a name there, (the file of ours that it comes from, which of its globals)). Which is ""
        where it is the file itself.
        """
        for node in ast.walk(tree):
            for alias in node.names if is_ours(node) else ():
                file = self._files.get(f"{node.module}.{alias.name}")
                if file:
                    yield alias.asname or alias.name, (file, "")
                elif node.module in self._files and alias.name != "*":
                    yield alias.asname or alias.name, (self._files[node.module], alias.name)

    def _starred(self, tree: ast.Module) -> Iterator[str]:
        """The parts of which all is imported."""
        for node in ast.walk(tree):
            if is_ours(node) and node.names[0].name == "*":
                if self._files.get(node.module) in self.parts:
                    yield self._files[node.module]

    def _load(self, file: str, trees: dict[str, ast.Module], above: set[str]) -> None:
        if file in above and not file.endswith("/__init__.py"):  # whence files are taken, too
            raise SyntaxError(f"{file} is imported by what it imports")
        if file in self.parts or file in above or file not in trees:
            return
        for node in here(trees[file].body):
            for alias in node.names if is_ours(node) else ():
                whole = f"{node.module}.{alias.name}"
                for name in (whole,) if whole in self._files else (node.module,):
                    if name in self._files and name != _PACKAGE:
                        self._load(self._files[name], trees, {*above, file})
        self.parts.append(file)

    @staticmethod
    def _bound_at_start(tree: ast.Module) -> dict[str, str]:
        """{a global: where it comes from that is not ours, if it is never anything else}"""
        found = {}
        for node in here(tree.body):
            for alias in node.names if isinstance(node, IMPORTS) and not is_ours(node) else ():
                origin = f"{getattr(node, 'module', '')}:{alias.name}"
                found.setdefault(alias.asname or alias.name, origin)
            found |= dict.fromkeys(binds(node), "")
        return found | dict.fromkeys(_changing(tree), "")

    def leads(self, module: str, name: str) -> str | None:
        """The one name of the part's global that an import takes; "" for a part itself, or all of
        it (*). None: it leads to no part.
        """
        file = self._files.get(module)
        if self._files.get(f"{module}.{name}"):
            return "" if self._files[f"{module}.{name}"] in self.parts else None
        if name == "*":
            return "" if file in self.parts else None
        return file and self.final(file, name) or None

    def is_file(self, module: str, name: str) -> bool:
        """Whether an import takes a file itself."""
        return f"{module}.{name}" in self._files

    def is_changing(self, module: str, name: str) -> bool:
        """Whether a function of this module binds the global anew."""
        return name in self._changing.get(self._files.get(module), ())

    def hands_on_file(self, module: str, name: str) -> bool:
        """Whether a name of this module's is a file that it imports."""
        file = self._files.get(module)
        return file is not None and self.file_of(file, name) != ""

    def file_of(self, file: str, name: str) -> str:
        """Which file of ours a name stands for that a file imports. "": for none."""
        source, there = self._imports[file].get(name, ("", ""))
        return "" if there else source

    def final(self, file: str, name: str, above: tuple = ()) -> str:
        """The one name of a part's global, whatever it is called in this file. "": it is none.
        above: where this was looked for already.
        """
        if (file, name) in above:
            return ""
        above = (*above, (file, name))
        if file in self.parts and name in self._own[file]:
            if self._own[file][name] or name not in self._shared:
                return name
            return f"{name}__{dotted(file).rpartition('.')[2]}"
        source, there = self._imports[file].get(name, ("", ""))
        if source:
            return self.imported(file, source, there, above) if there else ""
        stars = self._stars[file] if name[0] != "_" else ()
        return next(filter(None, (self.imported(file, star, name, above) for star in stars)), "")

    def imported(self, file: str, source: str, name: str, above: tuple = ()) -> str:
        """The one name of what a file takes out of another, once and for all."""
        if source in self.parts and name in self._changing[source]:
            raise SyntaxError(f"{file} imports {name}, which {source} changes")
        return self.final(source, name, above)


def dotted(file: str) -> str:
    """covey/port/mpy.py: covey.port.mpy; covey/port/__init__.py: covey.port."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def from_stack(names: dict[str, str]) -> list[ast.ImportFrom]:
    """The import of these from the one file: {what it is called here: its name there}. Of none: no
    import.
    """
    aliases = [ast.alias(there, here if here != there else None) for here, there in names.items()]
    return [ast.ImportFrom(dotted(STACK), aliases, 0)] if aliases else []


# What a syntax tree binds, and where


def is_ours(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == _PACKAGE


def here(body: list[ast.AST]) -> Iterator[ast.AST]:
    """All that is executed with these statements; functions and classes as they are bound."""
    nodes = list(reversed(body))
    while nodes:
        node = nodes.pop()
        yield node
        if not isinstance(node, _SCOPES):
            nodes += reversed(list(ast.iter_child_nodes(node)))


def binds(node: ast.AST) -> Iterator[str]:
    """Imports apart."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.ExceptHandler | FUNCTIONS | ast.ClassDef) and node.name:
        yield node.name


def foreign(node: ast.AST) -> Iterator[str]:
    """What an import binds that is not ours."""
    if isinstance(node, IMPORTS) and not is_ours(node):
        yield from (alias.asname or alias.name for alias in node.names)


def declared(node: ast.AST) -> list[str]:
    return node.names if isinstance(node, ast.Global) else []


def _changing(tree: ast.Module) -> Iterator[str]:
    """Globals that a function binds anew."""
    for node in ast.walk(tree):
        yield from declared(node)


def targets(comprehension: ast.AST) -> Iterator[str]:
    for part in comprehension.generators:
        yield from stored(part.target)


def _bound_inside(tree: ast.Module) -> Iterator[str]:
    """What is local anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            yield from targets(node)
        elif isinstance(node, _FUNCTIONS):
            yield from (arg.arg for arg in arguments(node))
            for inner in here(_body(node)):
                yield from (*binds(inner), *foreign(inner))
        elif isinstance(node, ast.ClassDef):
            for inner in here(node.body):
                yield from () if isinstance(inner, FUNCTIONS) else binds(inner)


def _body(function: ast.AST) -> list[ast.AST]:
    return function.body if isinstance(function.body, list) else [function.body]


def asked(tree: ast.Module) -> dict[str, set[str]]:
    """{a name: the attributes that it is asked for}"""
    found = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found[node.value.id].add(node.attr)
    return found
