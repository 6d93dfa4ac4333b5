"""Where two names of Covey's meet, so that they must stay two.

A global and an attribute never do: no `x` is looked for behind a dot, and no `.x` without one,
but for what a class says outside of its methods. Apart from that, names meet in a file that knows
both, and where files meet: in one module, or in one object.
"""

import ast
from collections import defaultdict

from .identifiers import DEFINITIONS, Names


class Spheres:
    """In each file those that stand alone, and those behind dots. A word that does both anywhere
    is in both. wanted: those that may get another name. together: files that become one module.
    """

    def __init__(
        self,
        trees: dict[str, ast.Module],
        known: dict[str, Names],
        wanted: set[str],
        together: list[str],
    ):
        self._near = _neighbours(trees, known, together)
        self._strays = _strays(trees, known)
        self._words = [set(), set()]
        self._taken = ({}, {})
        for file, names in known.items():
            for at, words in enumerate((names.bare, names.dotted)):
                self._words[at] |= words
                self._taken[at][file] = words - wanted

    def stands_alone(self, word: str) -> bool:
        """Whether it is a global everywhere, so that it can't be taken for what an object has."""
        return word not in self._words[1]

    def of(self, word: str, files: set[str]) -> tuple[list[set[str]], list[set[str]]]:
        """Of a word in these files: the sets of names that a new one must not be in, to be added
        to as it is taken; and those where it would mean another thing, too, which is no more than
        hard to read.
        """
        places, beside = [], []
        for words, near, taken in zip(self._words, self._near, self._taken, strict=True):
            if word not in words:
                beside += [taken[file] for file in files]
                continue
            meets = set(near) if word in self._strays else set().union(*map(near.get, files))
            places += [taken[file] for file in meets]
        return places, beside


def _neighbours(
    trees: dict[str, ast.Module], known: dict[str, Names], together: list[str]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The files whose names meet: in one module, by `from x import *`; in one object, by
    inheritance.
    """
    modules = {file: {file} for file in trees} | dict.fromkeys(together, set(together))
    objects = {file: {file} for file in trees}
    homes = defaultdict(set)
    for file in trees:
        for kind in known[file].classes:
            homes[kind.name].add(file)

    def bring_together(near: dict[str, set[str]], one: str, other: str) -> None:
        both = near[one] | near[other]
        for file in both:
            near[file] = both

    for file, tree in trees.items():
        for kind in known[file].classes:
            for base in kind.bases:
                name = getattr(base, "attr", getattr(base, "id", None))
                for home in homes.get(name, ()):
                    bring_together(objects, file, home)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                other = node.module.replace(".", "/") + ".py"
                if other in trees:
                    bring_together(modules, file, other)
    return modules, objects


def _strays(trees: dict[str, ast.Module], known: dict[str, Names]) -> set[str]:
    """Attributes of objects that a function sets from outside: what else such an object has,
    nobody here knows. That a class binds the name says nothing: it may be another's object.
    """
    strays = set()
    for file, tree in trees.items():
        outside = [node for node in tree.body if not isinstance(node, DEFINITIONS)]
        for part in known[file].functions + outside:
            strays |= _set_from_outside(part)
    return strays


def _set_from_outside(part: ast.AST) -> set[str]:
    """Attributes of objects, but of `self`, that are set there."""
    return {
        node.attr
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) != "self"
    }
