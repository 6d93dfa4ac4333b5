"""What happens while files are loaded, which in one file of all must happen in the same order.

A part is executed before all of the file that imports it, and in any case. So nothing may happen
before such an import, and what is imported under a condition may do nothing. And while the one
file is loaded it is there in part only: no function may import then.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator

from .fold import ON_MICROPYTHON
from .identifiers import DEFINITIONS, FUNCTIONS
from .program import COMPREHENSIONS, IMPORTS, Program, binds, dotted, foreign, here, is_ours

# Who executes these does nothing that others could see, and sees nothing of theirs.
_QUIET = IMPORTS | DEFINITIONS | ast.alias | ast.Pass | ast.Expr | ast.Assign | ast.AnnAssign
_QUIET |= ast.Name | ast.Attribute | ast.Constant | ast.Tuple | ast.List | ast.Dict | ast.Lambda
_QUIET |= ast.UnaryOp | ast.BinOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.arguments | ast.arg
_QUIET |= ast.If | ast.Try | ast.ExceptHandler | ast.expr_context
_QUIET |= ast.operator | ast.unaryop | ast.boolop | ast.cmpop
_DECORATORS = ("property", "staticmethod", "micropython.native", "micropython.viper")


def disorder(trees: dict[str, ast.Module], program: Program) -> Iterator[str]:
    """What one file would do otherwise: which part does what."""
    files = {dotted(file): file for file in trees}
    own, noisy, leads = {}, set(), {}
    for file in program.parts:
        body = trees[file].body
        own[file] = {name for node in here(body) for name in (*binds(node), *foreign(node))}
        leads[file] = set(_imported(file, body, files))
        if _is_noisy(program, file, body, own[file]):
            noisy.add(file)
    for file in program.parts:
        is_quiet = True
        for statement in trees[file].body:
            imported = set(_imported(file, [statement], files))
            if imported and not is_quiet:
                yield f"{file}: a part is imported behind what is done here"
            if imported and _is_conditional(statement):
                for part in sorted(_below(imported, leads) & noisy):
                    yield f"{file}: {part} is loaded by a condition only, and does something"
            is_quiet = is_quiet and not _is_noisy(program, file, [statement], own[file])
    yield from _late(trees, program)


def _imported(file: str, body: list[ast.stmt], files: dict[str, str]) -> Iterator[str]:
    """The files that these statements of a file load. The package that it is in is there."""
    packages = "covey", file.rpartition("/")[0].replace("/", ".")
    for node in here(body):
        for alias in node.names if is_ours(node) else ():
            whole = f"{node.module}.{alias.name}"
            name = whole if whole in files else node.module
            if name in files and name not in packages:
                yield files[name]


def _below(files: set[str], leads: dict[str, set[str]]) -> set[str]:
    """They, and all that they load."""
    found = set()
    while files - found:
        found |= files
        files = set().union(*(leads.get(file, ()) for file in found))
    return found


def _is_conditional(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If) and ast.unparse(statement.test) in ON_MICROPYTHON:
        return False  # cut, but for this branch
    return not isinstance(statement, IMPORTS)


def _executed(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All that is, the bodies of classes, decorators and defaults among it."""
    for node in here(list(nodes)):
        yield node
        if isinstance(node, FUNCTIONS | ast.Lambda):
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            yield from _executed([*getattr(node, "decorator_list", ()), *defaults])
        elif isinstance(node, ast.ClassDef):
            yield from _executed([*node.decorator_list, *node.keywords, *node.body])
        elif isinstance(node, COMPREHENSIONS):
            yield from _executed(ast.iter_child_nodes(node))


def _is_noisy(program: Program, file: str, body: list[ast.stmt], own: set[str]) -> bool:
    """Whether these statements of a file do something, or look at what others may have done. own:
    what the file binds itself.
    """
    for node in _executed(body):
        if isinstance(node, ast.Name) and _is_read(node) and node.id != "const":
            is_theirs = node.id not in own and program.final(file, node.id)
            if is_theirs or program.file_of(file, node.id):
                return True
    return does_something(body)


def does_something(body: Iterable[ast.AST]) -> bool:
    """Whether others could see, or change, what happens as these statements are executed."""
    for node in _executed(body):
        if isinstance(node, ast.Call):
            if getattr(node.func, "id", "") != "const":
                return True
        elif isinstance(node, ast.Subscript):
            if not isinstance(node.value, ast.Dict) or not _is_read(node):
                return True
        elif (
            not isinstance(node, _QUIET) or isinstance(node, ast.Attribute) and not _is_read(node)
        ):
            return True
        elif isinstance(node, DEFINITIONS):
            named = map(ast.unparse, node.decorator_list)
            if any(name not in _DECORATORS and not name.endswith(".setter") for name in named):
                return True
    return False


def _late(trees: dict[str, ast.Module], program: Program) -> Iterator[str]:
    """What is named as a part is loaded, and would import if it were called."""
    says, importing = defaultdict(set), set()

    def hear(name: str, *nodes: ast.AST) -> None:
        says[name] |= _words(nodes)
        if any(is_ours(inner) for node in nodes for inner in ast.walk(node)):
            importing.add(name)

    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS) and not node.name.startswith("__"):
                hear(node.name, node)
            elif isinstance(node, ast.ClassDef):  # who makes one calls these
                own = (inner for inner in node.body if isinstance(inner, FUNCTIONS))
                hear(node.name, *node.bases, *(f for f in own if f.name.startswith("__")))
            elif isinstance(node, ast.alias) and node.asname:
                says[node.asname].add(node.name)
        for node in here(tree.body):
            for target in node.targets if isinstance(node, ast.Assign) else ():
                for name in _words([target]):
                    hear(name, node.value)
    news = importing
    while news:
        importing = importing | news
        news = {name for name, words in says.items() if words & importing} - importing
    for file in program.parts:
        said = filter(_is_read, _executed(trees[file].body))
        for name in sorted(set(map(_word, said)) & importing):
            yield f"{file}: {name} may import while the one file is loaded"


def _words(nodes: Iterable[ast.AST]) -> set[str]:
    """All names in them."""
    return {_word(inner) for node in nodes for inner in ast.walk(node)} - {""}


def _word(node: ast.AST) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "")


def _is_read(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Load)
