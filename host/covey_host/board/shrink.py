"""lib/covey rewritten for boards, as a whole: one program with main.py and what lies beside it.

    fold       numbers in the place of their names; without the key server's half
    shake      without what nobody can reach
    bundle     what a member loads at its start is one file
    inline     functions that cost more than they are worth become part of their callers
    shorten    names that are Covey's own are short ones

Each step reads syntax trees and nothing else, so that the same files give the same text; all that
gets code onto boards begins here: `covey image`, `flash` and `install`, `make size`, and
firmware/manifest.py, for which this needs no package but Python's own.
"""

import ast
import functools
import json
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .bundle import bundle, join, part_name, parts_of
from .fold import fold
from .identifiers import Names, imports
from .inline import inline
from .program import STACK, dotted
from .shake import shake
from .shorten import API, PACKAGE, public, shorten

# Kernels of AES-GCM: with tables, and the one whose time tells nothing.
WITH_TABLES = {"covey.port.mpy_ghash", "covey.port.mpy_ghash_small"}
_WITHOUT = "covey.port.mpy_ghash_ct"

_FRAME = re.compile(r'File "([^"]+)"(, line \d+)?, in (\w+|<module>)')
_ERROR = re.compile(r"\w+(:|$)")  # behind the frames
_FRAMES = "in "
_WORD = re.compile(r"(?<=')(\w+)(?=')")


@dataclass(frozen=True)
class Shrunk:
    texts: dict[str, str]  # covey/sa.py: what is compiled
    # What a traceback calls a file: {short name: the real one}. "in " and that: of functions alone
    names: dict[str, dict[str, str]]

    @staticmethod
    def short_name(file: str) -> str:
        """What a traceback calls a file: covey/port/mpy.py is "mpy", as no other is."""
        parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
        return parts[-1] if parts[0] == PACKAGE else file

    def names_json(self) -> bytes:
        return (json.dumps(self.names, indent=1, sort_keys=True) + "\n").encode()


# CPython 3.11 gets its syntax trees wrong where two threads make some at once: SystemError.
_ONE_AT_A_TIME = threading.Lock()


def shrink(
    kept: dict[str, Path], heard: tuple[str, ...], root: Path, in_one: bool = True
) -> Shrunk:
    """The text of each file of kept, {covey/sa.py: source}. root: where covey/ lies, whole.

    heard: the texts of applications, whose words stay what they are; files of kept that are not
    Covey's stay as they stand. in_one: those that are loaded at the start become one file.
    SyntaxError where one is no Python, or is none that can be rewritten so.
    """
    ages = tuple((name, path, path.stat().st_mtime_ns) for name, path in kept.items())
    with _ONE_AT_A_TIME:
        return _shrink(ages, heard, root, in_one)


@functools.lru_cache(maxsize=8)
def _shrink(kept: tuple, heard: tuple[str, ...], root: Path, in_one: bool) -> Shrunk:
    texts, trees = {}, {}
    for name, path, _ in kept:
        if name.split("/")[0] == PACKAGE:
            trees[name] = _parsed(fold(path, root), name)
        else:
            texts[name] = path.read_text(encoding="utf-8")
    _choose_kernel(trees)
    heard += tuple(texts.values())
    outside, handed, imported = set(), set(), set()
    applications = [ast.parse(text) for text in heard]
    for text, tree in zip(heard, applications, strict=True):
        names = Names(tree)
        outside |= {*names.words, *names.texts}
        handed |= names.keywords
        imported |= imports(text)
    api = set().union(*(public(file, tree, Names(tree)) for file, tree in trees.items()))
    others = _bound_by_others(trees, root)
    shake(trees, outside | api)
    if in_one:
        trees = bundle(trees, applications, _files(imported, trees) | API.keys(), outside | api)
        inline(trees, outside | api)
    parts = parts_of(trees)
    names, functions = shorten(trees, outside | api, handed | api, others, parts)
    join(trees)
    names[STACK] = _merged({"": names.pop(part)} for part in parts)
    frames = _merged({part_name(part) + ".": functions[part]} for part in parts)
    texts |= {name: ast.unparse(tree) + "\n" for name, tree in trees.items()}
    return Shrunk(
        dict(sorted(texts.items())),
        {Shrunk.short_name(name): names[name] for name in sorted(names) if names[name]}
        | ({_FRAMES + Shrunk.short_name(STACK): frames} if frames else {}),
    )


def _parsed(text: str, file: str) -> ast.Module:
    tree = ast.parse(text, file)
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        raise SyntaxError(f"{file}: covey's files are imported by their whole names")
    return tree


def _choose_kernel(trees: dict[str, ast.Module]) -> None:
    """Where no kernel with tables is kept, who would load one loads the one without."""
    kept = set(map(dotted, trees))
    if _WITHOUT not in kept or kept & WITH_TABLES:
        return
    home, _, kernel = _WITHOUT.rpartition(".")
    for node in (node for tree in trees.values() for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module == home:
            for alias in node.names:
                if f"{home}.{alias.name}" in WITH_TABLES:
                    alias.name = kernel


def _files(modules: set[str], trees: Iterable[str]) -> set[str]:
    """Those of the modules, the package itself apart."""
    return {file for file in trees if dotted(file) in modules and dotted(file) != PACKAGE}


def _merged(parts: Iterable[dict[str, dict[str, str]]]) -> dict[str, str]:
    """{short name: all that it stands for}, of {what comes before these: {short name: ...}}"""
    found = {}
    for part in parts:
        for before, names in part.items():
            for short, meant in names.items():
                found.setdefault(short, set()).update(before + old for old in meant.split("|"))
    return {short: "|".join(sorted(meant)) for short, meant in found.items()}


def _bound_by_others(trees: dict[str, ast.Module], root: Path) -> set[str]:
    """What files of Covey's bind that stay behind: who asks for it means none but ours."""
    found = set()
    for path in sorted((root / PACKAGE).rglob("*.py")):
        if path.relative_to(root).as_posix() not in trees and not path.name.startswith("cpy"):
            tree = ast.parse(fold(path, root))
            found |= Names(tree).bound(tree)
    return found


def parse_names(data: bytes) -> dict[str, dict[str, str]]:
    """What names_json() made. ValueError where it is something else."""
    names = json.loads(data)
    if not isinstance(names, dict) or not all(isinstance(some, dict) for some in names.values()):
        raise ValueError("no names")
    return names


def in_words(lines: Iterable[str], names: dict[str, dict[str, str]]) -> Iterator[str]:
    """The lines of a traceback from a board, with the real names. names: of its image."""
    here = {}  # of the last frame's file
    loads = ""  # the file that the last frame is at the top of
    for line in lines:
        line = line.rstrip("\r\n")
        frame = _FRAME.search(line)
        if frame:
            here = names.get(frame[1], {})
            start, end = frame.span(3)
            functions = names.get(_FRAMES + frame[1], here)
            if loads == frame[1]:  # what comes next may be the body of a class
                functions = functions | here
            meant = functions.get(frame[3]) or here.get(frame[3], frame[3])
            line = line[:start] + meant + line[end:]
            loads = frame[1] if frame[3] == "<module>" else ""
        elif _ERROR.match(line):
            pieces = _WORD.split(line)
            line = "".join(here.get(piece, piece) for piece in pieces)
            here = {}
        yield line
