"""Which functions may become part of others, and whose name is meant.

The program is a closed one: nothing that is not in these trees calls what is, but for names that
others know. So a name behind a dot is a method's, if one class has it and nobody sets it; a name
that stands alone is a function's, if nothing else is called so anywhere.
"""

import ast
import builtins
from collections import Counter, defaultdict

from .frames import ROOM, frame_of, variables
from .identifiers import FUNCTIONS, Names
from .inlined import COMPREHENSIONS, CanNot, has_return, names_in, own
from .known import FOREIGN, SHORT, SHORTEST
from .program import declared, here

# They tell of the function in which they stand, or of the generator.
_NEVER = {"super", "__class__", "locals", "globals", "next", "StopIteration"}
_WAITS = ast.Await | ast.YieldFrom
_YIELDS = _WAITS | ast.Yield
_LEFT_OUT = ast.NamedExpr | ast.Delete | ast.Global | ast.Nonlocal | ast.Lambda | ast.ClassDef
_LEFT_OUT |= ast.GeneratorExp | FUNCTIONS
_PROXIES = {"__getattr__", "__setattr__", "__delattr__", "__getattribute__"}

_THEIRS = {*FOREIGN, *SHORTEST, *SHORT}  # what objects may have that are not ours
_GROWTH = 4  # words: one block of MicroPython's heap

Key = tuple[str, bool]  # a name, and whether it stands behind a dot


class Function:
    """One of a module's or a class's."""

    def __init__(self, node: FUNCTIONS, file: str, scope: ast.Module | ast.ClassDef):
        self.node = node
        self.file = file
        self.scope = scope
        self.is_method = isinstance(scope, ast.ClassDef)
        self.key = (node.name, self.is_method)
        decorators = [ast.unparse(one) for one in node.decorator_list]
        self.is_property = decorators == ["property"]
        self.is_plain = self.is_property or not decorators
        self.is_machine_code = any("micropython" in one for one in decorators)
        self.is_async = isinstance(node, ast.AsyncFunctionDef)
        self.is_generator = self.is_async or any(isinstance(n, _YIELDS) for n in own(node.body))
        self.params = [arg.arg for arg in node.args.args]
        self._frame = frame_of(node)
        self.is_done = False  # what it calls is in it

    @property
    def short(self) -> ast.expr | None:
        """The expression that it consists of."""
        only = self.node.body[0] if len(self.node.body) == 1 else None
        is_short = isinstance(only, ast.Return | ast.Expr) and not self.is_generator
        return only.value if is_short else None

    @property
    def gives(self) -> bool:
        return has_return(*self.node.body)

    @property
    def globals(self) -> set[str]:
        """Names that it has from elsewhere."""
        return names_in(*self.node.body) - variables(self.node)

    def fits(self) -> bool:
        """Whether its frame still lies where it did; a generator's is an object of its own."""
        now = frame_of(self.node)
        if self.is_generator or now <= self._frame:
            return True
        return now <= ROOM if self._frame <= ROOM else now <= self._frame + _GROWTH

    def can_move(self) -> bool:
        """Whether what it does means the same in another function."""
        args, body = self.node.args, self.node.body
        if args.vararg or args.kwarg or args.kwonlyargs or args.posonlyargs:
            return False
        if not all(isinstance(default, ast.Constant) for default in args.defaults):
            return False
        handled = {
            node
            for top in own(body)
            if isinstance(top, ast.ExceptHandler)
            for node in own(top.body)
        }
        mine = variables(self.node)
        for node in own(body):
            name = getattr(node, "id", getattr(node, "attr", ""))
            if isinstance(node, _LEFT_OUT) or name in _NEVER:
                return False
            if name[:2] == "__" != name[-2:]:
                return False
            if isinstance(node, ast.Raise) and node.exc is None and node not in handled:
                return False
            if isinstance(node, COMPREHENSIONS) and names_in(node) & mine:
                return False
        return True

    def is_unsure(self, call: ast.expr) -> bool:
        """Whether the first argument might be the object, if this is called of a class."""
        needed = len(self.params) - 1 - len(self.node.args.defaults)
        given = [] if self.is_property else call.args
        return bool(given) and len(given) + len(call.keywords) > needed

    def given(self, call: ast.expr) -> dict[str, ast.expr]:
        """{parameter: argument}, as they are evaluated."""
        call = call.value if isinstance(call, _WAITS) else call
        left, found = list(self.params), {}
        if self.is_method:
            found[left.pop(0)] = (call if self.is_property else call.func).value
        if not self.is_property:
            if len(call.args) > len(left) or any(isinstance(a, ast.Starred) for a in call.args):
                raise CanNot("nobody knows which argument is which")
            found |= zip(left, call.args, strict=False)
            for keyword in call.keywords:
                if keyword.arg in found or keyword.arg not in left:
                    raise CanNot("nobody knows which argument is which")
                found[keyword.arg] = keyword.value
        defaults = self.node.args.defaults
        preset = zip(self.params[len(self.params) - len(defaults) :], defaults, strict=True)
        found = found | {name: value for name, value in preset if name not in found}
        if len(found) != len(self.params):
            raise CanNot("an argument is missing")
        return found


class Whole:
    """What the program says, and where."""

    def __init__(self, trees: dict[str, ast.Module], outside: set[str]):
        known = {file: Names(tree) for file, tree in trees.items()}
        self._fixed = outside.union(
            *(names.texts for names in known.values() if names.asks_by_text)
        )
        self._classes = {kind.name for names in known.values() for kind in names.classes}
        self.words = set().union(*(names.words for names in known.values()))
        for names in known.values():
            self._fixed |= names.stored_in_self | names.stored_elsewhere
        self.said = Counter()
        self.changing, self.properties = set(), set()
        self.functions, self.callees = [], {}
        self._callers = defaultdict(dict)  # {a key: the functions in which it may stand}
        for file, tree in trees.items():
            self.said += mentions(tree)
            kinds = (node for node in here(tree.body) if isinstance(node, ast.ClassDef))
            for scope in (tree, *kinds):
                self._look_at(scope, file)
        if not _PROXIES.isdisjoint(self.words):
            return  # what an attribute is, nobody knows
        for function in self.functions:
            if self._may_be_taken(function):
                self.callees[function.key] = function

    def _look_at(self, scope: ast.Module | ast.ClassDef, file: str) -> None:
        for node in scope.body:
            if isinstance(node, FUNCTIONS):
                function = Function(node, file, scope)
                self.functions.append(function)
                self.note(function, node)
                if node.decorator_list:
                    self.properties.add(node.name)
                for inner in ast.walk(node):
                    self.changing |= set(declared(inner))

    def _may_be_taken(self, function: Function) -> bool:
        name = function.node.name
        if name in self._fixed or name[:2] == "__" or not function.is_plain:
            return False
        is_late = not function.is_method and ":" not in function.file
        if not function.is_method and hasattr(builtins, name) or is_late and self.said[name, True]:
            return False
        return self.said[function.key] > 1 and function.can_move()

    def note(self, caller: Function, *new: ast.AST) -> None:
        """What is new in it."""
        for node in new:
            for key in mentions(node):
                self._callers[key][caller] = None

    def replace(self, caller: Function, old: list[ast.AST], new: list[ast.AST]) -> None:
        """What one says by what it says now."""
        for node in old:
            self.said -= mentions(node)
        for node in new:
            self.said += mentions(node)
        self.note(caller, *new)

    def callers(self, callee: Function) -> list[Function]:
        return list(self._callers[callee.key])

    def drop(self, callee: Function) -> None:
        """Nobody calls it any more."""
        self.said -= mentions(callee.node)
        callee.scope.body.remove(callee.node)
        callee.scope.body = callee.scope.body or [ast.Pass()]
        callee.is_done = True
        del self.callees[callee.key]
        for callers in self._callers.values():
            callers.pop(callee, None)

    def called(self, node: ast.AST, is_awaited: bool = False) -> Function | None:
        """Whose call it is. Of a generator's, what waits for it."""
        if isinstance(node, _WAITS):
            callee = self.called(node.value, True)
            is_its_way = callee and callee.is_async == isinstance(node, ast.Await)
            return callee if is_its_way and callee.is_generator else None
        name = node.func if isinstance(node, ast.Call) else node
        callee = self.callees.get(key_of(name))
        if callee is None or callee.is_property == isinstance(node, ast.Call):
            return None
        return callee if is_awaited or not callee.is_generator else None

    def check(self, caller: Function, callee: Function, call: ast.expr) -> None:
        """CanNot: it would mean another thing there."""
        if caller is callee or caller.is_machine_code:
            raise CanNot("not into this")
        call = call.value if isinstance(call, _WAITS) else call
        if callee.is_method:
            on = (call if callee.is_property else call.func).value
            is_self = isinstance(on, ast.Name) and on.id == "self" and caller.scope is callee.scope
            if not is_self and (callee.node.name in _THEIRS or callee.is_unsure(call)):
                raise CanNot("it may be another's")
            if isinstance(on, ast.Name) and on.id in self._classes or "super" in names_in(on):
                raise CanNot("it is called of a class")
        theirs = callee.globals
        is_near = caller.file == callee.file or ":" in caller.file and ":" in callee.file
        if not is_near and (not callee.is_method or any(not hasattr(builtins, n) for n in theirs)):
            raise CanNot("its globals are another file's")
        if theirs & variables(caller.node):
            raise CanNot("a global of its would be hidden")
        if _imported(callee.node) & names_in(caller.node):
            raise CanNot("it imports what has another meaning there")

    def is_lasting(self, node: ast.expr, mine: set[str]) -> bool:
        """Whether it is the same a little later."""
        if isinstance(node, ast.Name):
            return node.id in mine or node.id not in self.changing
        return isinstance(node, ast.Constant)


def key_of(node: ast.AST) -> Key:
    return getattr(node, "attr", getattr(node, "id", "")), isinstance(node, ast.Attribute)


def mentions(tree: ast.AST) -> Counter[Key]:
    found, methods = Counter(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            found[key_of(node)] += 1
        elif isinstance(node, ast.arg):
            found[node.arg, False] += 1
        elif isinstance(node, ast.alias):
            found.update((name, False) for name in (node.name, node.asname) if name)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            found.update((name, False) for name in node.names)
        elif isinstance(node, FUNCTIONS | ast.ClassDef | ast.ExceptHandler) and node.name:
            found[node.name, node in methods] += 1
        if isinstance(node, ast.ClassDef):
            methods |= set(node.body)
            others = (one for one in node.body if not isinstance(one, FUNCTIONS))
            found.update((name, True) for one in others for name in names_in(one))
    return found


def _imported(function: FUNCTIONS) -> set[str]:
    return {
        alias.asname or alias.name
        for node in own(function.body)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
