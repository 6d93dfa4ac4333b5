"""Short names for what is Covey's own, the same in all files that know the thing.

A .mpy file spells each name that it uses; MicroPython keeps each that it has not got itself on the
heap. But some it has in ROM, and these a file says by a number (board.known). So what nobody
outside knows gets one of those, as long as there are any:

    def _install_data(self, sa, terms):            def OverflowError(_, EOFError, IndexError):
        held = self._keys.find(sa.spi, 0)              held = _.append.abs(EOFError.any, 0)

These names stay: what MicroPython and its modules have; what stands in the texts that come along,
such as main.py; what an application may call (API); texts, in a file that calls getattr();
`__x__`; `_X = const(...)`, which leaves no trace anyhow; modules. And what is asked of an object,
but bound by no file of ours, be it in the image or not: nobody here knows whose it is.

Two names may become one where they can't meet: one stands alone and the other behind a dot; or in
files that know only one of them, unless inheritance, `from x import *`, or who sets an attribute
of another's object brings them together. An argument is known to its function alone, unless a
caller names it: there they are the same few over and over. What few names there are counts on a
board: its table of names doubles (tests/host/test_names.py).
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product
from string import ascii_letters

from .identifiers import DEFINITIONS, FUNCTIONS, Names, arguments, is_const, stored
from .known import DESKTOPS, FOREIGN, SHORT, SHORTEST
from .spheres import Spheres

PACKAGE = "covey"
# What an application may call, whatever main.py says: all public names of a file, or these.
API = {
    "covey/aio.py": None,
    "covey/cip.py": None,
    "covey/config.py": {"Config", "load", "fields", "psk", "folder", "name", "path"},
    "covey/drops.py": {"ConfigError"},
    "covey/gcm.py": {"GCMContext", "set_constant_time"},
}

# MicroPython itself asks any object for some of these, or they mean something to its compiler.
_LOADED = {"args", "close", "const", "end", "errno", "key", "keys", "main", "micropython", "read"}
_LOADED |= {"readinto", "readline", "self", "send", "sep", "super", "throw", "value", "write"}
_LOADED |= {"locals", "globals", "eval", "exec", "dir", "bytecode", "builtins"}
_LOADED |= {
    "bool",
    "int",
    "object",
    "uint",
    "ptr",
    "ptr8",
    "ptr16",
    "ptr32",
}  # a call of these is a cast in viper code
_LOADED |= {"_"}  # `from x import *` leaves it out
_POOL = tuple(word for word in SHORTEST + SHORT if word not in _LOADED)
# What foreign objects have, and firmware in ROM: a file spells it, but it takes no memory.
_FOR_GLOBALS = tuple(sorted(FOREIGN - DESKTOPS - _LOADED, key=lambda word: (len(word), word)))
_FOR_ARGUMENTS = (*SHORTEST, "__init__", "__len__", "__hash__", "__int__", "__str__")
_NO_NAMES = ("as", "if", "in", "is", "or")


def shorten(
    trees: dict[str, ast.Module],
    outside: set[str],
    handed: set[str],
    others: set[str],
    together: list[str],
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Shorten the names in the trees of all files, {covey/sa.py: tree}.

    outside: the identifiers that others know, or may ask for; handed: by which of them they name
    an argument; others: what files of Covey's bind that are not among these; together: the files
    that become one, whose globals meet.
    → {covey/sa.py: {short name: what it was}}, and of functions alone.
    """
    known = {file: Names(tree) for file, tree in trees.items()}
    called = handed.union(*(names.keywords for names in known.values()))
    fixed = set(FOREIGN) | set(SHORTEST) | set(SHORT) | outside
    for file, tree in trees.items():
        fixed |= _fixed(file, tree, known[file])
    words = outside.union(*(names.words for names in known.values()))
    for file, tree in trees.items():
        _set_apart(known[file].functions, called, words)
        known[file] = Names(tree)
    chosen = _choose(trees, known, fixed, called, others, together)
    called = {chosen.get(word, word) for word in called}
    said, functions = {}, {}
    for file, tree in trees.items():
        named = {getattr(node, "name", "<lambda>") for node in known[file].functions}
        mine = {old: chosen[old] for old in known[file].words if old in chosen}
        _Renamed(mine).visit(tree)
        for function in known[file].functions:
            _shorten_arguments(function, called)
        _make_relative(tree, file)
        said[file] = _meanings(mine)
        functions[file] = _meanings({old: mine.get(old, old) for old in named})
    return said, functions


def _meanings(chosen: dict[str, str]) -> dict[str, str]:
    """{short name: what it was}: two words, where one stands alone and one behind a dot."""
    found = defaultdict(list)
    for old, new in sorted(chosen.items()):
        found[new].append(old)
    return {new: "|".join(olds) for new, olds in found.items()}


def public(file: str, tree: ast.Module, names: Names) -> set[str]:
    """What of a file an application may name, as the documentation says."""
    if API.get(file, ()) is not None:
        return set(API.get(file, ()))
    found = names.globals(tree) | names.members() | names.stored_in_self
    for node in names.functions:
        if not isinstance(node, ast.Lambda) and (node.name[0] != "_" or node.name == "__init__"):
            found |= {arg.arg for arg in arguments(node)}
    return {name for name in found if name[0] != "_"} - {"self"}


def _fixed(file: str, tree: ast.Module, names: Names) -> set[str]:
    """What keeps its name for a reason that lies in this file."""
    found = set(file.removesuffix(".py").split("/"))
    found |= {word for word in names.words if word.startswith("__")}
    if names.asks_by_text:
        found |= names.texts
    if "globals" in names.words:
        found |= names.globals(tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and is_const(node.value):
            found.add(node.targets[0].id)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) or isinstance(node, ast.ImportFrom) and _is_foreign(node):
            for alias in node.names:
                found |= {*alias.name.split("."), alias.asname or alias.name}
    return found


def _is_foreign(node: ast.ImportFrom) -> bool:
    return not node.level and node.module.split(".")[0] != PACKAGE


# Which names


def _choose(
    trees: dict[str, ast.Module],
    known: dict[str, Names],
    fixed: set[str],
    called: set[str],
    others: set[str],
    together: list[str],
) -> dict[str, str]:
    """{name: the short one}, those first that stand in most files."""
    bound, handed, asked = set(), set(), set()
    files, often = defaultdict(set), Counter()
    for file, names in known.items():
        bound |= names.bound(trees[file])
        asked |= names.attributes
        handed |= {arg.arg for node in names.functions for arg in arguments(node)} & called
        often += names.words
        for word in names.words:
            files[word].add(file)
    wanted = (bound | others & files.keys() | handed - asked) - fixed
    spheres = Spheres(trees, known, wanted, together)
    chosen = {}
    for word in sorted(wanted, key=lambda word: (-len(files[word]), -often[word], word)):
        taken, beside = spheres.of(word, files[word])
        pool = _POOL + _FOR_GLOBALS * spheres.stands_alone(word)
        free = [new for new in pool if _is_in_none(new, taken)]
        free = [new for new in free if _is_in_none(new, beside)] or free
        new = free[0] if free else next(new for new in _letters() if _is_in_none(new, taken))
        if new in pool or len(new) < len(word):
            chosen[word] = new
        for names in taken:
            names.add(chosen.get(word, word))
    return chosen


def _is_in_none(name: str, sets: list[set[str]]) -> bool:
    return not any(name in some for some in sets)


def _letters() -> Iterator[str]:
    """What a .mpy file spells, from the shortest on."""
    yield from ascii_letters
    for pair in product(ascii_letters, repeat=2):
        if "".join(pair) not in _NO_NAMES:
            yield "".join(pair)


class _Renamed(ast.NodeVisitor):
    """Each identifier by its new name, wherever it stands."""

    def __init__(self, names: dict[str, str]):
        self._names = names

    def generic_visit(self, node: ast.AST) -> None:
        for field in ("id", "attr", "arg", "name", "asname"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                setattr(node, field, self._names.get(word, word))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [self._names.get(word, word) for word in node.names]
        super().generic_visit(node)


# Arguments, and what else is a function's own


def _set_apart(functions: list, called: set[str], words: set[str]) -> None:
    """Give arguments and variables names that no other thing has: those of variables the compiler
    forgets, arguments are shortened below. Those that are called so stay, and inner functions.
    """
    inner = {node for function in functions for node in ast.walk(function) if node is not function}
    for function in functions:
        if isinstance(function, ast.Lambda) or function in inner:
            continue
        args = {arg.arg for arg in arguments(function)}
        own = args.union(*map(stored, function.body)) - {*called, "self"}
        own = own.difference(*map(_bound_inside, function.body))
        mine = {word: word + "_" for word in own if word + "_" not in words}
        for arg in arguments(function):
            arg.arg = mine.get(arg.arg, arg.arg)
        _rename(function.body, mine)


def _rename(body: list[ast.AST], names: dict[str, str]) -> None:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                node.id = names.get(node.id, node.id)


def _shorten_arguments(function: FUNCTIONS | ast.Lambda, called: set[str]) -> None:
    """By names that nothing in the function has. Those that are called so stay."""
    body = function.body if isinstance(function.body, list) else [function.body]
    known = {arg.arg for arg in arguments(function)}.union(*(Names(node).bare for node in body))
    theirs = called.union(*map(_bound_inside, body))
    names = (word for word in _FOR_ARGUMENTS if word not in known)
    mine = {}
    for arg in arguments(function):
        if arg.arg not in theirs:
            mine[arg.arg] = next(names, arg.arg)
            arg.arg = mine[arg.arg]
    _rename(body, mine)


def _bound_inside(statement: ast.AST) -> Iterator[str]:
    """What an inner function, a comprehension, a class or an import binds; what is global."""
    for node in ast.walk(statement):
        if isinstance(node, FUNCTIONS | ast.Lambda):
            yield from (arg.arg for arg in arguments(node))
            for inner in node.body if isinstance(node.body, list) else ():
                yield from stored(inner)
        elif isinstance(node, ast.comprehension):
            yield from stored(node.target)
        elif isinstance(node, ast.ClassDef | ast.Import | ast.ImportFrom):
            yield from Names(node).words
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        if isinstance(node, DEFINITIONS):
            yield node.name


# Imports


def _make_relative(tree: ast.Module, file: str) -> None:
    """`from covey.sa import X` → `from .sa import X`: nobody says the package's name each time."""
    home = file.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not _is_foreign(node) and not node.level:
            parts = node.module.split(".")
            shared = 2 if parts[:2] == home[:2] and len(home) == 2 else 1
            node.level = len(home) - shared + 1
            node.module = ".".join(parts[shared:]) or None
