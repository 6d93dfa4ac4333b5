"""Functions that are one expression: that, wherever they are called."""

import ast
import copy
from collections import Counter

from .callees import Function, Whole, mentions
from .evaluation import CALL, LOAD, READ, events
from .frames import variables
from .inlined import SCOPES, CanNot, own, renamed

_HEAD = 13  # octets of a function besides its parameters and what it does


def put_everywhere(whole: Whole, callee: Function) -> None:
    """CanNot: not everywhere, or not to advantage."""
    if callee.key in mentions(callee.short):
        raise CanNot("it calls itself")
    callers = whole.callers(callee)
    old = {caller: caller.node.body for caller in callers}
    gained = _HEAD + len(callee.params)
    often = 0
    try:
        for caller in callers:
            short = _Short(whole, caller, callee)
            caller.node.body = [short.visit(node) for node in copy.deepcopy(caller.node.body)]
            gained += short.gained
            often += short.often
            if not caller.fits():
                raise CanNot("a frame would come to lie on the heap")
        if often != whole.said[callee.key] - 1 or gained < 0:
            raise CanNot("no advantage")
    except CanNot:
        for caller in callers:
            caller.node.body = old[caller]
        raise
    for caller in callers:
        whole.replace(caller, old[caller], caller.node.body)
    whole.drop(callee)


class _Short(ast.NodeTransformer):
    """An expression in the place of each call in one function."""

    def __init__(self, whole: Whole, caller: Function, callee: Function):
        self._whole = whole
        self._caller = caller
        self._callee = callee
        self.often = 0
        self.gained = 0  # octets

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, SCOPES):
            return node  # a use that is not found: it is called in too few places
        is_statement = isinstance(node, ast.Expr)
        if not is_statement and self._whole.called(node) is self._callee:
            if not self._callee.gives:
                raise CanNot("it gives no value")
            return self._in_place_of(node)
        if is_statement and self._whole.called(node.value) is self._callee:
            return ast.Expr(self._in_place_of(node.value))
        return self.generic_visit(node)

    def _in_place_of(self, call: ast.expr) -> ast.expr:
        call = self.generic_visit(call)
        self._whole.check(self._caller, self._callee, call)
        args = self._callee.given(call)
        self._check_order(args)
        new = renamed(self._callee.short, args)
        self.often += 1
        self.gained += _octets(call) - _octets(new)
        return new

    def _check_order(self, args: dict[str, ast.expr]) -> None:
        """CanNot: an argument would be evaluated behind what could change it, or by turns."""
        mine = variables(self._caller.node)
        left = [name for name, arg in args.items() if not self._whole.is_lasting(arg, mine)]
        said = Counter(node.id for node in own([self._callee.short]) if isinstance(node, ast.Name))
        if any(said[name] != 1 for name in left):
            raise CanNot("an argument would be evaluated often, or never")
        properties = self._whole.properties
        done = {does for name in left for _, does in events(args[name], properties)}
        most = LOAD if CALL in done else READ
        turns = events(self._callee.short, properties)
        while left:
            node, does = next(turns)
            name = getattr(node, "id", "")
            if name == left[0]:
                left.pop(0)
            elif does > most or name in left:
                raise CanNot("an argument would be evaluated too late")


def _octets(node: ast.AST) -> float:
    """About so many octets of bytecode."""
    if isinstance(node, ast.Constant):
        is_small = node.value is None or type(node.value) in (bool, int) and -17 < node.value < 48
        return 1 if is_small else 3
    own_octets = {
        ast.Name: 1.3,
        ast.Attribute: 2.4,
        ast.Call: 2,
        ast.keyword: 2,
        ast.BoolOp: 2,
        ast.IfExp: 4,
        ast.Compare: 1.5,
    }.get(type(node), isinstance(node, ast.expr))
    return own_octets + sum(_octets(part) for part in ast.iter_child_nodes(node))
