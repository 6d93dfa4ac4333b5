"""What a file of lib/covey is before it is compiled for a board: numbers in the place of names.

mpy-cross folds a constant only in the file that defines it. A name from another file costs a board
an import, a place in a dict and a look-up each time; and `ike.SA` is two look-ups. So the source
that is compiled has the number instead, and no import that nothing needs any more: iana.py, which
is nothing but numbers, isn't loaded at all. Where a file defines its numbers they stay, for
applications. No line moves.

    from covey.drops import DROP_TAG, FormatError         from covey.drops import FormatError
    raise FormatError(DROP_TAG)                           raise FormatError((-10))

A port hands on numbers that it imports, so there they stay. `const` and `@micropython.native` mean
something to the compiler alone: where nothing else is done with these names, nobody imports them.
`__all__` means something to nobody there. What an `if` of ON_MICROPYTHON leaves to another
interpreter is cut.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# What follows this line in a file is for a key server. With it go the imports that it alone needs.
MARK = "# ---- The key server's half, which boards are built without\n"

_PACKAGE = "covey"
_PORTS = ("port/__init__.py", "port/mpy.py")  # they hand on all that they import
_COMPILERS = ("const", "micropython")
ON_MICROPYTHON = ("sys.implementation.name == 'micropython'", "hasattr(asyncio, 'core')")


def fold(source: Path, root: Path) -> str:
    """The text of a file below root (lib/, or a copy of it) with numbers for names."""
    return _folded(source.read_text(encoding="utf-8"), source, root)


@cache
def _folded(whole: str, source: Path, root: Path) -> str:
    text = whole.partition(MARK)[0].rstrip("\n") + "\n"
    tree = ast.parse(text)
    numbers, modules = _known(tree, root)
    edits, gone = [], Counter(_compilers_uses(tree))
    _cut_other_branches(tree, edits)
    for node in ast.walk(tree):
        number = _number(node, numbers, modules, root)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            edits.append(_gone(node, node, "pass"))
        if number is not None:
            edits.append((node, f"({number})" if number < 0 else str(number)))
            gone[node.value.id if isinstance(node, ast.Attribute) else node.id] += 1
    left = _uses(tree) - gone
    unused = {name for name in _uses(ast.parse(whole)) if not left[name]}  # any more
    if source.parent.name == "port":
        unused &= set(_COMPILERS)
    if not str(source).endswith(_PORTS):
        for statement in _imports(tree, "micropython"):
            edits += _shortened(statement, unused, root)
    return _edited(text, edits)


def _cut_other_branches(tree: ast.Module, edits: list) -> None:
    """Out of the tree, too, so that nothing in them is looked at."""
    for node in tree.body:
        if isinstance(node, ast.If) and node.orelse and ast.unparse(node.test) in ON_MICROPYTHON:
            is_elif = isinstance(node.orelse[0], ast.If)
            edits.append(_gone(node.orelse[0], node.orelse[-1], "" if is_elif else "pass"))
            node.orelse = []


def _gone(first: ast.stmt, last: ast.stmt, rest: str) -> tuple[ast.stmt, str]:
    """The edit that leaves so much of one or more statements, and as many lines."""
    place = {name: getattr(first, name) for name in ("lineno", "col_offset")}
    place |= {name: getattr(last, name) for name in ("end_lineno", "end_col_offset")}
    return ast.Pass(**place), rest + "\n" * (last.end_lineno - first.lineno)


def _uses(tree: ast.Module) -> Counter:
    return Counter(
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    )


def _compilers_uses(tree: ast.Module) -> Iterator[str]:
    """The names of _COMPILERS, once for each use that is gone when a file is compiled."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_const(node.value):
            yield "const"
        for decorator in getattr(node, "decorator_list", []):
            if isinstance(decorator, ast.Attribute) and isinstance(decorator.value, ast.Name):
                yield decorator.value.id


def _known(tree: ast.Module, root: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Names of this file that mean a number, and those that mean a module of covey.

    One that is bound twice, if only as a parameter somewhere, means neither.
    """
    bound = Counter(_bindings(tree))
    own = _own_numbers(tree)
    numbers = {name: own[name] for name in own if bound[name] == 1}
    modules = {}
    for statement in _imports(tree):
        for alias in statement.names:
            name = alias.asname or alias.name
            inner = f"{statement.module}.{alias.name}"
            if bound[name] != 1:
                continue
            if _path(inner, root):
                modules[name] = inner
            elif alias.name in numbers_of(statement.module, root):
                numbers[name] = numbers_of(statement.module, root)[alias.name]
    return numbers, modules


def _bindings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _imports(tree: ast.Module, *others: str) -> list[ast.ImportFrom | ast.Import]:
    """What a file imports from covey when it is loaded; and from others, in both ways."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            if node.module.split(".")[0] == _PACKAGE or node.module in others:
                found.append(node)
        elif isinstance(node, ast.Import) and node.names[0].name in others:
            found.append(node)
    return found


@cache
def numbers_of(module: str, root: Path) -> dict[str, int]:
    """Names that a module binds once to a whole number, its own and those it hands on."""
    path = _path(module, root)
    if path is None:
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {}
    for statement in _imports(tree):
        given = numbers_of(statement.module, root)
        for alias in statement.names:
            if alias.name == "*":
                found |= {name: given[name] for name in given if name[0] != "_"}
            elif alias.name in given:
                found[alias.asname or alias.name] = given[alias.name]
    found |= _own_numbers(tree)
    bound = Counter(_bindings(tree))
    return {name: found[name] for name in found if bound[name] < 2}


def _own_numbers(tree: ast.Module) -> dict[str, int]:
    found = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            number = _literal(statement.value)
            if number is not None:
                found[statement.targets[0].id] = number
    return found


def _literal(value: ast.expr) -> int | None:
    if _is_const(value):
        value = value.args[0]
    try:
        number = ast.literal_eval(value)
    except (ValueError, TypeError):
        return None
    return number if type(number) is int else None


def _is_const(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == "const"


def _number(node: ast.AST, numbers, modules, root: Path) -> int | None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return numbers.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        return numbers_of(module, root).get(node.attr) if module else None
    return None


def _shortened(statement: ast.ImportFrom | ast.Import, unused: set[str], root: Path):
    """An edit that takes out of an import what nothing in this file, or behind it, needs."""

    def is_needed(alias):
        if alias.name == "*":
            return not _is_numbers_only(statement.module, root)
        return (alias.asname or alias.name) not in unused

    needed = [alias for alias in statement.names if is_needed(alias)]
    if len(needed) == len(statement.names):
        return []
    statement_left = type(statement)(**{**vars(statement), "names": needed})
    rest = ast.unparse(statement_left) if needed else "pass"
    return [_gone(statement, statement, rest)]


def _is_numbers_only(module: str, root: Path) -> bool:
    tree = ast.parse(_path(module, root).read_text(encoding="utf-8"))
    return set(_bindings(tree)) == set(numbers_of(module, root))


def _path(module: str, root: Path) -> Path | None:
    for end in (".py", "/__init__.py"):
        path = root / (module.replace(".", "/") + end)
        if path.is_file():
            return path
    return None


def _edited(text: str, edits: list[tuple[ast.AST, str]]) -> str:
    """Columns of an ast count octets."""
    octets = text.encode()
    starts = [0]
    for line in octets.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(edit):
        node = edit[0]
        begin = starts[node.lineno - 1] + node.col_offset
        return begin, starts[node.end_lineno - 1] + node.end_col_offset

    for edit in sorted(edits, key=place, reverse=True):
        begin, end = place(edit)
        octets = octets[:begin] + edit[1].encode() + octets[end:]
    return octets.decode()
