"""Functions that cost a board more than they are worth become part of their callers.

Each takes some 25 octets of a .mpy file and 48 of heap besides what it does: its head, its object,
its place in a dict, its name, the call. In the source it is there to be read.

    short  `return self._ike is not None`, wherever it is called, if that is no longer than a call
    once   any other that is called in one place alone: what it does is done there

An argument stands where the parameter stood, or a variable has it; a variable that the caller no
longer needs is taken again. What was evaluated before something else still is. One thing changes:
what a variable has is there until the caller ends, or takes it for another.

No frame that MicroPython has on its stack comes to lie on the heap (board.frames), and a frame on
the heap grows by one block at most. Machine code is left alone.
"""

import ast
from collections import Counter
from collections.abc import Iterator

from .callees import Function, Whole, key_of
from .evaluation import LOAD, events
from .frames import ROOM, frame_of, variables
from .inlined import (
    LOOPS,
    SCOPES,
    CanNot,
    has_return,
    leaves,
    names_in,
    own,
    renamed,
    stored_in,
    straight,
    swapped,
)
from .short import put_everywhere

_VALUES = {
    ast.Expr: "value",
    ast.Return: "value",
    ast.Assign: "value",
    ast.If: "test",
    ast.For: "iter",
    ast.Raise: "exc",
}  # what a statement evaluates before it does anything

_CATCH_ALL = {"MemoryError", "Exception", "BaseException"}


def inline(trees: dict[str, ast.Module], outside: set[str]) -> None:
    """In the trees of all files. outside: the identifiers that others know, or may ask for."""
    whole = Whole(trees, outside)
    for function in whole.functions:
        if function.key in whole.callees and function.short is not None:
            try:
                put_everywhere(whole, function)
            except CanNot:
                pass
    for function in whole.functions:
        _take_in(whole, function)
    for tree in trees.values():
        ast.fix_missing_locations(tree)


def _take_in(whole: Whole, function: Function) -> None:
    """What it alone calls becomes part of it, the innermost first."""
    if function.is_done or function.is_machine_code:
        return
    function.is_done = True
    for node in list(own(function.node.body)):
        callee = whole.callees.get(key_of(node))
        if callee and whole.said[callee.key] == 2:
            _take_in(whole, callee)
    if not any(isinstance(node, ast.Nonlocal) for node in ast.walk(function.node)):
        _Caller(whole, function).block(function.node.body, set())


class _Caller:
    """One function, and what becomes part of it."""

    def __init__(self, whole: Whole, function: Function):
        self._whole = whole
        self._function = function
        self._sees = 0  # how many see a MemoryError, around the statement that is looked at
        inside = [node for node in own(function.node.body) if isinstance(node, SCOPES)]
        handlers = [
            node for node in own(function.node.body) if isinstance(node, ast.ExceptHandler)
        ]
        self._kept = names_in(*inside) | {"self"} | {node.name for node in handlers}

    def block(self, body: list[ast.stmt], after: set[str]) -> None:
        """after: names that may be read once these statements are done."""
        at = 0
        while at < len(body):
            live = after | names_in(*body[at + 1 :])
            new = self._taken_in(body, at, live)
            if new is None:
                self._inside(body[at], live)
                new = 1
            at += new

    def _inside(self, node: ast.stmt, live: set[str]) -> None:
        if isinstance(node, ast.If):
            self.block(node.body, live)
            self.block(node.orelse, live)
        elif isinstance(node, LOOPS):
            self.block(node.body, live | names_in(node))
            self.block(node.orelse, live)
        elif isinstance(node, ast.With):
            self._sees += 1
            self.block(node.body, live)
            self._sees -= 1
        elif isinstance(node, ast.Try):
            late = live | names_in(*node.finalbody)
            self._sees += _sees_no_memory(node)
            self.block(node.body, late | names_in(*node.handlers, *node.orelse))
            for handler in node.handlers:
                self.block(handler.body, late)
            self.block(node.orelse, late)
            self._sees -= _sees_no_memory(node)

    def _taken_in(self, body: list[ast.stmt], at: int, live: set[str]) -> int | None:
        """How many statements are done with, where there are new ones; the next is to be looked at
        again. None: this one is as it was.
        """
        old = body[at]
        value = getattr(old, _VALUES.get(type(old), ""), None)
        for call in own([value]) if value is not None else ():
            callee = self._whole.called(call)
            if callee is None or self._whole.said[callee.key] != 2:
                continue
            try:
                new, rest = self._statements(old, value, call, callee, live)
            except CanNot:
                continue
            body[at : at + 1] = both = [*new, *rest] or [ast.Pass()]
            if not self._function.fits():
                body[at : at + len(both)] = [old]
                continue
            self._whole.replace(self._function, [old], both)
            self._whole.drop(callee)
            return len(both) - len(rest)
        return None

    def _statements(
        self, node: ast.stmt, value: ast.expr, call: ast.expr, callee: Function, live: set[str]
    ) -> tuple[list[ast.stmt], list[ast.stmt]]:
        """What the callee does, and what is left of the statement; both for this one."""
        self._whole.check(self._function, callee, call)
        self._check_order(value, call)
        if self._sees and (callee.is_generator or frame_of(callee.node) > ROOM):
            raise CanNot("that there is no memory for its frame is seen here")
        variable = self._variables(live | names_in(node) | callee.globals)
        names, given = self._names(node, call, callee, live, variable)
        body = [renamed(one, names) for one in callee.node.body if not isinstance(one, ast.Pass)]
        if body and isinstance(body[-1], ast.Return) and not has_return(*body[:-1]):
            last = body.pop().value or ast.Constant(None)
            if isinstance(node, ast.Expr) and call is value:
                return given + body + _dropped(last), []
            return given + body, [swapped(node, call, last)]
        if call is not value or not isinstance(node, ast.Expr | ast.Return | ast.Assign):
            target = next(variable)
        elif isinstance(node, ast.Return):
            return given + body + ([] if leaves(body) else [ast.Return(None)]), []
        elif isinstance(node, ast.Expr):
            return given + straight(body, _dropped), []
        elif self._is_own(node.targets):
            return given + straight(body, lambda x: _bound(node.targets[0].id, x)), []
        else:
            target = next(variable)
        rest = swapped(node, call, ast.Name(target, ast.Load()))
        return given + straight(body, lambda x: _bound(target, x)), [rest]

    def _is_own(self, targets: list[ast.expr]) -> bool:
        only = targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None
        return only in variables(self._function.node) - self._kept

    def _check_order(self, value: ast.expr, call: ast.expr) -> None:
        """CanNot: something is evaluated before the call that is no variable."""
        properties = self._whole.properties
        mine = variables(self._function.node)
        turns = list(events(value, properties))
        at = next((i for i, (node, _) in enumerate(turns) if node is call), None)
        if at is None:
            raise CanNot("nobody knows when it is called")
        for node, does in turns[: at + 1 - len(list(events(call, properties)))]:
            if does != LOAD or not self._whole.is_lasting(node, mine):
                raise CanNot("it is not called first")

    def _variables(self, busy: set[str]) -> Iterator[str]:
        """Names for variables: those that are no longer needed, then new ones."""
        mine = variables(self._function.node)
        yield from sorted(mine - busy - self._kept)
        number = 0
        while True:
            number += 1
            name = f"v{number}"
            if name not in self._whole.words and name not in mine:
                yield name

    def _names(
        self,
        node: ast.stmt,
        call: ast.expr,
        callee: Function,
        live: set[str],
        variable: Iterator[str],
    ) -> tuple[dict[str, ast.expr], list[ast.stmt]]:
        """What each of the callee's own names stands for, and what binds those that are new."""
        mine = variables(self._function.node)
        said = Counter(one.id for one in ast.walk(node) if isinstance(one, ast.Name))
        stored = stored_in(callee.node.body)
        names, given = {}, []
        for name, arg in callee.given(call).items():
            is_free = isinstance(arg, ast.Name) and arg.id in mine - live - self._kept
            if name not in stored and self._whole.is_lasting(arg, mine):
                names[name] = arg
            elif is_free and said[arg.id] == 1:
                names[name] = arg  # it is this one's from here on
            else:
                names[name] = ast.Name(next(variable), ast.Load())
                given += _bound(names[name].id, arg)
        for name in sorted(stored - names.keys()):
            names[name] = ast.Name(next(variable), ast.Load())
        return names, given


def _sees_no_memory(node: ast.Try) -> bool:
    caught = [handler.type for handler in node.handlers]
    return (
        bool(node.finalbody)
        or None in caught
        or not _CATCH_ALL.isdisjoint(names_in(*filter(None, caught)))
    )


def _bound(name: str, value: ast.expr | None) -> list[ast.stmt]:
    return [ast.Assign([ast.Name(name, ast.Store())], value or ast.Constant(None))]


def _dropped(value: ast.expr | None) -> list[ast.stmt]:
    return [] if value is None or isinstance(value, ast.Name | ast.Constant) else [ast.Expr(value)]
