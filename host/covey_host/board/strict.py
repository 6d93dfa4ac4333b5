"""What lib/covey must not do, so that its files can become one (board.bundle): a rule, a sentence.

A name that is put in a wrong place fails on no board: the short name of a function is that of
something else, which goes on with it. So what can't be followed with certainty is refused here,
where code is made.
"""

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator

from .identifiers import FUNCTIONS
from .order import disorder
from .program import STACK, Program, binds, declared, foreign, here, is_ours

_SAID = {"globals", "locals", "__name__", "__file__"}  # they tell of a file


def check(trees: dict[str, ast.Module], applications: list[ast.Module], program: Program) -> None:
    """SyntaxError, with the file and what it does."""
    if STACK in trees:
        raise SyntaxError(f"{STACK}: that is the name of the one file")
    for file, tree in trees.items():
        for rule in (_imports, _origins, _of_classes, _of_files):
            for why in rule(program, file, tree):
                raise SyntaxError(f"{file}: {why}")
    for why in (*_hidden(trees, program), *disorder(trees, program)):
        raise SyntaxError(why)
    imported = set().union(*(_modules(tree) for tree in applications))
    for tree in applications:
        for why in _of_applications(program, tree, imported):
            raise SyntaxError(f"an application: {why}")


def _imports(program: Program, file: str, tree: ast.Module) -> Iterator[str]:
    at_start = set(here(tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(
            a.name.split(".")[0] == "covey" for a in node.names
        ):
            yield "covey's files are imported by `from`"
        elif is_ours(node) and node.names[0].name == "*":
            is_part = program.leads(node.module, "*") is not None
            if file not in program.parts or is_part and node not in at_start:
                yield f"all of {node.module} is imported"
        elif isinstance(node, ast.ClassDef) and any(map(is_ours, here(node.body))):
            yield f"the class {node.name} imports"
    for node in at_start if file in program.parts else ():
        for inner in here([node]) if isinstance(node, ast.Try) else ():
            for alias in inner.names if is_ours(inner) else ():
                if program.leads(inner.module, alias.name) is not None:
                    yield f"{alias.name} is imported in a `try`"


def _origins(program: Program, file: str, tree: ast.Module) -> Iterator[str]:
    """A name that leads to a part, or is a file's, means nothing else anywhere in this file."""
    origins, leading = defaultdict(set), set()
    for node in ast.walk(tree):
        for alias in node.names if is_ours(node) else ():
            name = alias.asname or alias.name
            if name == "*":
                continue
            origins[name].add((node.module, alias.name))
            is_file = program.is_file(node.module, alias.name)
            if is_file or program.leads(node.module, alias.name) is not None:
                leading.add((name, is_file))
    bound = {name for node in here(tree.body) for name in (*binds(node), *foreign(node))}
    changes = {name for node in ast.walk(tree) for name in declared(node)}
    for name, is_file in leading:
        is_part = any(program.leads(*origin) is not None for origin in origins[name])
        if name in bound and (is_part or is_file and name not in changes):
            yield f"{name} is imported, and means something else, too"
        if len(origins[name]) > 1 and is_part:
            yield f"{name} is imported from more than one file"
    for function in ast.walk(tree):
        if isinstance(function, FUNCTIONS):
            inside = list(here(function.body))
            mine = {name for node in inside for name in (*binds(node), *foreign(node))}
            taken = {a.asname or a.name for node in inside if is_ours(node) for a in node.names}
            for name in sorted(mine & taken & {name for name, _ in leading}):
                yield f"{name} is imported in {function.name}(), and bound anew"


def _of_classes(program: Program, file: str, tree: ast.Module) -> Iterator[str]:
    """In a class's body a name may be its own or a global, by what was executed before."""
    for kind in ast.walk(tree):
        if isinstance(kind, ast.ClassDef):
            inside = list(here(kind.body))
            own = {name for node in inside for name in binds(node)}
            for node in inside:
                is_read = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
                if is_read and node.id in own and program.final(file, node.id):
                    yield f"{node.id} is a global, and bound in the class {kind.name}, too"


def _of_files(program: Program, file: str, tree: ast.Module) -> Iterator[str]:
    """What is another thing where there is one file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name == "unload" and program.leads("covey", str(node.args[0].value)) is not None:
                yield f"{node.args[0].value} is to be forgotten, but a part of the one file"
        if file in program.parts:
            if isinstance(node, ast.Name) and node.id in _SAID:
                yield f"{node.id} is another in the one file"
            elif isinstance(node, ast.NamedExpr):
                yield "`:=` may bind a global"
    for node in here(tree.body) if file in program.parts else ():
        if isinstance(node, ast.Delete):
            yield "a global is deleted, which may be others', too"
    for outer in ast.walk(tree):
        for inner in ast.walk(outer) if isinstance(outer, FUNCTIONS) else ():
            if inner is not outer and isinstance(inner, FUNCTIONS):
                if any(isinstance(node, ast.Global) for node in here(inner.body)):
                    yield f"{inner.name}(), inside {outer.name}(), says `global`"


def _hidden(trees: dict[str, ast.Module], program: Program) -> Iterator[str]:
    """What is not Covey's and imported under the name of a builtin that other parts mean."""
    for file in program.parts:
        known = {name for node in here(trees[file].body) for name in foreign(node)}
        known &= set(dir(builtins))
        for other in program.parts:
            for name in sorted(known & program.unknown[other]):
                yield f"{file}: {name} is imported, and {other} means the builtin"


def _modules(tree: ast.Module) -> set[str]:
    """The files of Covey's that an application imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif is_ours(node):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _of_applications(program: Program, tree: ast.Module, imported: set[str]) -> Iterator[str]:
    """What stays of a part hands on functions and classes: nothing that changes, no other file."""
    known = {}  # {as it is written there: its module}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: alias.name for alias in node.names}
        for alias in node.names if is_ours(node) else ():
            whole = f"{node.module}.{alias.name}"
            known[alias.asname or alias.name] = whole
            if node.module != "covey":
                yield from _handed_on(program, node.module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node.value)
            module = known.get(text, text if text == "covey" else "")
            whole = f"{module}.{node.attr}"
            if module == "covey" and program.leads("covey", node.attr) == "":
                if whole not in imported:
                    yield f"{whole} is used, and not imported"
            elif module[:6] == "covey." and program.leads(*module.rsplit(".", 1)) == "":
                if not isinstance(node.ctx, ast.Load):
                    yield f"{whole} is set, which changes nothing on a board"
                yield from _handed_on(program, module, node.attr)


def _handed_on(program: Program, module: str, name: str) -> Iterator[str]:
    if program.is_changing(module, name):
        yield f"{module}.{name} changes, and can't be looked at from outside"
    elif program.hands_on_file(module, name):
        yield f"{module}.{name} is a file, and to be imported as one"
