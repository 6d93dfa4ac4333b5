"""What a function does, as statements of another: no name but what it is told, no `return`."""

import ast
import copy
from collections.abc import Callable, Iterable, Iterator

from .identifiers import FUNCTIONS

COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
SCOPES = FUNCTIONS | ast.Lambda | ast.ClassDef | COMPREHENSIONS
LOOPS = ast.For | ast.While | ast.AsyncFor


class CanNot(Exception):
    """This call stays a call; the text says why."""


def own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All that is done with these; what functions inside do is not."""
    left = list(nodes)
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, SCOPES):
            left += ast.iter_child_nodes(node)


def names_in(*nodes: ast.AST) -> set[str]:
    """Those that stand alone anywhere in these."""
    found = set()
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.ExceptHandler | FUNCTIONS | ast.ClassDef) and node.name:
                found.add(node.name)
            elif isinstance(node, ast.alias):
                found.add(node.asname or node.name)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
    return found


def stored_in(body: list[ast.stmt]) -> set[str]:
    """What these bind, imports apart."""
    found = set()
    for node in own(body):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def renamed(node: ast.AST, names: dict[str, ast.expr]) -> ast.AST:
    """A copy in which what these names stand for is in their place."""
    return _Renamed(names).visit(copy.deepcopy(node))


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, ast.expr]):
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        new = self._names.get(node.id, node)
        return ast.Name(new.id, node.ctx) if isinstance(new, ast.Name) else copy.deepcopy(new)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        if node.name in self._names:
            node.name = self._names[node.name].id
        return self.generic_visit(node)


def swapped(node: ast.AST, old: ast.AST, new: ast.expr) -> ast.AST:
    """The same with one part another; what does not lead to it is not copied."""
    if node is old:
        return new
    changed = {}
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            other = swapped(value, old, new)
            if other is not value:
                changed[field] = other
        elif isinstance(value, list):
            others = [swapped(one, old, new) if isinstance(one, ast.AST) else one for one in value]
            if any(one is not other for one, other in zip(value, others, strict=True)):
                changed[field] = others
    if not changed:
        return node
    node = copy.copy(node)
    for field, value in changed.items():
        setattr(node, field, value)
    return node


# Without `return`

Give = Callable[[ast.expr | None], list[ast.stmt]]


def has_return(*nodes: ast.AST) -> bool:
    return any(isinstance(node, ast.Return) for node in own(nodes))


def leaves(body: list[ast.stmt]) -> bool:
    """Whether what comes behind these is certainly never reached."""
    last = body[-1] if body else None
    if isinstance(last, ast.If):
        return leaves(last.body) and leaves(last.orelse)
    return isinstance(last, ast.Return | ast.Raise)


def straight(body: list[ast.stmt], give: Give) -> list[ast.stmt]:
    """A function's body; where it would return, what give() makes of the value is the last that is
    done. CanNot: it leaves in the midst of what can't be left so.
    """
    done = []
    for i, node in enumerate(body):
        rest = body[i + 1 :]
        if isinstance(node, ast.Return):
            return done + give(node.value)
        if isinstance(node, ast.If) and has_return(node):
            return [*done, *_if(node, rest, give)]
        if isinstance(node, ast.For | ast.While) and has_return(node) and not node.orelse:
            return [*done, _loop(node, rest, give)]
        if isinstance(node, ast.Try) and has_return(node) and not node.finalbody:
            return [*done, _try(node, rest, give)]
        if has_return(node):
            raise CanNot("it returns from the midst of something")
        done.append(node)
    return done if leaves(done) else done + give(None)


def _if(node: ast.If, rest: list[ast.stmt], give: Give) -> list[ast.stmt]:
    if leaves(node.body) or not rest:
        then, otherwise = straight(node.body, give), straight(node.orelse + rest, give)
    elif leaves(node.orelse):
        then, otherwise = straight(node.body + rest, give), straight(node.orelse, give)
    else:
        raise CanNot("what follows would be there twice")
    if then:
        return [ast.If(node.test, then, otherwise)]
    return [ast.If(_not(node.test), otherwise or [ast.Pass()], [])]


def _not(test: ast.expr) -> ast.expr:
    is_not = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    return test.operand if is_not else ast.UnaryOp(ast.Not(), test)


def _loop(node: ast.For | ast.While, rest: list[ast.stmt], give: Give) -> ast.stmt:
    """What comes behind it is done where nothing was returned."""
    if any(isinstance(inner, ast.Break) for inner in _inside_of_loop(node.body)):
        raise CanNot("it returns from a loop that breaks, too")
    body = _broken(node.body, give)
    is_endless = isinstance(node, ast.While) and getattr(node.test, "value", False) is True
    return _like(node, body=body, orelse=[] if is_endless else straight(rest, give))


def _try(node: ast.Try, rest: list[ast.stmt], give: Give) -> ast.stmt:
    """What comes behind it is done where nothing is caught."""
    if rest and not all(leaves(handler.body) for handler in node.handlers):
        raise CanNot("it goes on behind what is caught")
    body, then = node.body, straight(node.orelse + rest, give)
    if has_return(*body):
        if not leaves(body):
            raise CanNot("it returns from the midst of a try")
        body, then = straight(body, give), []
    handlers = [_like(one, body=straight(one.body, give)) for one in node.handlers]
    return _like(node, body=body, handlers=handlers, orelse=then)


def _like(node: ast.AST, **changed: list[ast.AST]) -> ast.AST:
    changed |= {"body": changed["body"] or [ast.Pass()]}
    return type(node)(**{**dict(ast.iter_fields(node)), **changed})


def _broken(body: list[ast.stmt], give: Give) -> list[ast.stmt]:
    """A loop's body, with `break` for `return`."""
    done = []
    for node in body:
        if isinstance(node, ast.Return):
            return [*done, *give(node.value), ast.Break()]
        if isinstance(node, ast.If) and has_return(node):
            body, otherwise = _broken(node.body, give), _broken(node.orelse, give)
            node = ast.If(node.test, body, otherwise)
        elif has_return(node):
            raise CanNot("it returns from the midst of something in a loop")
        done.append(node)
    return done


def _inside_of_loop(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Where a `break` would be this loop's."""
    for node in body:
        yield node
        if isinstance(node, LOOPS):
            yield from _inside_of_loop(node.orelse)
        elif not isinstance(node, SCOPES):
            for field in ("body", "orelse", "handlers", "finalbody"):
                yield from _inside_of_loop(getattr(node, field, []))
