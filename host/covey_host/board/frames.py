"""How many words the frame of a bytecode function takes.

Its variables, what lies on its stack at once, and three for each handler inside another. It goes
after MicroPython's py/compile.c and py/emitbc.c; where these are too subtle it says some too many.
"""

import ast

from .identifiers import FUNCTIONS, arguments

ROOM = 11  # words that MicroPython's own stack has for a frame; a larger one lies on the heap
_ITERATOR = 4  # words on the stack
_CAUGHT = 3  # of an exception's handler, or of who leaves such a block
_NESTED = FUNCTIONS | ast.Lambda | ast.ClassDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def frame_of(function: FUNCTIONS) -> int:
    """Words, or more than it is."""
    frame = _Frame()
    frame.block(function.body, 0)
    return len(variables(function)) + frame.most + _CAUGHT * frame.handlers


def variables(function: FUNCTIONS) -> set[str]:
    """What it binds, and what it has of the functions around it."""
    found = {arg.arg for arg in arguments(function)}
    declared = set()
    nodes = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Global):
            declared |= set(node.names)
        elif isinstance(node, ast.Nonlocal):
            found |= set(node.names)
        elif isinstance(node, FUNCTIONS | ast.ClassDef | ast.ExceptHandler) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Name) and node.id == "super":
            found.add("__class__")
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        if not isinstance(node, _NESTED | _COMPREHENSIONS):
            nodes += ast.iter_child_nodes(node)
    return found - declared


class _Frame:
    """The most that lies on the stack; below: how much is there already."""

    def __init__(self):
        self.most = 1  # None, at its end
        self.handlers = 0
        self._inside = 0  # of how many handlers

    def _note(self, depth: int) -> None:
        self.most = max(self.most, depth)

    def block(self, body: list[ast.stmt], below: int) -> None:
        for statement in body:
            getattr(self, "_" + type(statement).__name__, self._other)(statement, below)

    def _other(self, node: ast.stmt, below: int) -> None:
        for field in ast.iter_child_nodes(node):
            if isinstance(field, ast.expr):
                self._note(below + depth(field))
        for field in ("body", "orelse"):
            self.block(getattr(node, field, []), below)

    def _Assert(self, node: ast.Assert, below: int) -> None:
        """Not on a board."""

    def _Assign(self, node: ast.Assign, below: int) -> None:
        copies = len(node.targets) - 1
        self._note(below + copies + depth(node.value))
        for target in node.targets:
            self._note(below + copies + 1 + _stored(target))

    def _AugAssign(self, node: ast.AugAssign, below: int) -> None:
        target = node.target
        at = {ast.Name: 1, ast.Attribute: 2}.get(type(target), 3)
        self._note(below + at + 1 + (at == 3))
        self._note(below + at + depth(node.value))
        self._note(below + depth(target))

    def _For(self, node: ast.For, below: int) -> None:
        call = node.iter
        self._note(below + depth(call))
        taken = _ITERATOR
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "range":
            if isinstance(node.target, ast.Name) and not call.keywords:
                end = call.args[min(1, len(call.args) - 1)]
                step = call.args[2] if len(call.args) == 3 else ast.Constant(1)
                if _is_number(step):
                    taken = 1 if _is_number(end) else 2
                    self._note(below + 4)
        self._note(below + taken + 1 + _stored(node.target))
        self.block(node.body, below + taken)
        self.block(node.orelse, below)

    def _With(self, node: ast.With, below: int) -> None:
        for item in node.items:
            self._note(below + depth(item.context_expr))
            below += 2
            self._note(below + 5)
        self._inside += len(node.items)
        self.handlers = max(self.handlers, self._inside)
        self.block(node.body, below)
        self._inside -= len(node.items)

    _AsyncWith = _With

    def _Try(self, node: ast.Try, below: int) -> None:
        blocks = bool(node.handlers) + bool(node.finalbody)
        self._inside += blocks
        self.handlers = max(self.handlers, self._inside)
        above = below + _CAUGHT * bool(node.finalbody)
        self.block(node.body, above)
        self.block(node.orelse, above)
        for handler in node.handlers:
            self._note(above + 4)
            self._note(above + 5 + depth(handler.type))
            named = bool(handler.name)
            self._inside += named
            self.handlers = max(self.handlers, self._inside)
            self.block(handler.body, above + _CAUGHT)
            self._inside -= named
        self._inside -= bool(node.handlers)
        self.block(node.finalbody, below + 1 + _CAUGHT)
        self._inside -= bool(node.finalbody)


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) is int


def _stored(target: ast.expr) -> int:
    """What a target puts on top of the value."""
    if isinstance(target, ast.Tuple | ast.List):
        return len(target.elts) + max((_stored(one) for one in target.elts), default=0) - 1
    if isinstance(target, ast.Attribute):
        return depth(target.value)
    if isinstance(target, ast.Subscript):
        return depth(target)
    return 0


def _in_turn(*nodes: ast.expr | None) -> int:
    """Each lies on those before it."""
    return max((i + depth(node) for i, node in enumerate(nodes)), default=1)


def depth(node: ast.AST | None) -> int:
    """The most that lies on the stack while an expression is evaluated."""
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.BinOp):
        return _in_turn(node.left, node.right)
    if isinstance(node, ast.Compare):
        first, *others = node.comparators
        chained = [3, *(1 + depth(one) for one in others)] if others else []
        return max(_in_turn(node.left, first), *chained, 1)
    if isinstance(node, ast.Subscript):
        return _in_turn(node.value, node.slice)
    if isinstance(node, ast.Slice):
        return _in_turn(node.lower, node.upper, *filter(None, [node.step]))
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return _in_turn(*node.elts)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return max((1 + _in_turn(value, key) for key, value in pairs), default=1)
    if isinstance(node, ast.JoinedStr):
        return 2 + _in_turn(*(one for one in node.values if not isinstance(one, ast.Constant)))
    if isinstance(node, ast.Lambda):
        return 3 + len(node.args.defaults)
    if isinstance(node, _COMPREHENSIONS):
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        return max(len(names), 1 + depth(node.generators[0].iter))
    inside = [depth(one) for one in ast.iter_child_nodes(node)] if node else []
    return max([1 + isinstance(node, ast.YieldFrom | ast.Await), *inside])


def _call(node: ast.Call) -> int:
    """A method is two: itself, and its object. A keyword is two as well."""
    at, first = 1, node.func
    if isinstance(node.func, ast.Attribute):
        at, first = 2, node.func.value
    if isinstance(first, ast.Call) and getattr(first.func, "id", "") == "super":
        at, first = 3, None
    most = max(at, depth(first))
    for given in [*node.args, *node.keywords]:
        at += isinstance(given, ast.keyword)
        most = max(most, at + depth(given))
        at += 1
    return most + any(isinstance(arg, ast.Starred) for arg in node.args)
