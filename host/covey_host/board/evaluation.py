"""In which order an expression does what it does."""

import ast
from collections.abc import Iterator

LOAD, READ, CALL = range(3)  # what nothing changes; an attribute; whatever may change others
_UNSURE = None, CALL  # from here on not all is done


def events(node: ast.AST, properties: set[str]) -> Iterator[tuple[ast.AST | None, int]]:
    """(each part, what it does) in turn. properties: attributes that are got by a call.

    What is not looked into is one CALL: nobody knows when its parts are evaluated.
    """

    def of(*parts: ast.AST | None) -> Iterator[tuple[ast.AST | None, int]]:
        for part in parts:
            if part is not None:
                yield from events(part, properties)

    does = CALL
    if isinstance(node, ast.Name | ast.Constant):
        does = LOAD
    elif isinstance(node, ast.Attribute):
        yield from of(node.value)
        does = CALL if node.attr in properties else READ
    elif isinstance(node, ast.Call):
        by_method = isinstance(node.func, ast.Attribute)
        yield from of(node.func.value if by_method else node.func)
        yield from of(*node.args, *(keyword.value for keyword in node.keywords))
    elif isinstance(node, ast.BoolOp):
        yield from of(node.values[0])
        yield _UNSURE
        yield from of(*node.values[1:])
    elif isinstance(node, ast.IfExp):
        yield from of(node.test)
        yield _UNSURE
        yield from of(node.body, node.orelse)
    elif isinstance(node, ast.Compare):
        yield from of(node.left, node.comparators[0])
        if len(node.ops) > 1:
            yield _UNSURE
            yield from of(*node.comparators[1:])
    elif isinstance(node, ast.BinOp):
        yield from of(node.left, node.right)
    elif isinstance(node, ast.UnaryOp):
        yield from of(node.operand)
    elif isinstance(node, ast.Subscript):
        yield from of(node.value, node.slice)
    elif isinstance(node, ast.Slice):
        yield from of(node.lower, node.upper, node.step)
    elif isinstance(node, ast.Tuple | ast.List):
        yield from of(*node.elts)
    elif isinstance(node, ast.Starred | ast.Await | ast.YieldFrom):
        yield from of(node.value)
    yield node, does
