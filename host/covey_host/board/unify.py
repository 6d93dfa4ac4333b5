"""Each global of an image by its one name, wherever it stands, and no import between parts."""

import ast

from .identifiers import FUNCTIONS, arguments
from .program import Program, binds, declared, foreign, from_stack, here, is_ours, targets


class Unified(ast.NodeTransformer):
    """Each global by its one name, wherever it stands in a file; no part imports another."""

    def __init__(self, program: Program, file: str):
        self._program = program
        self._file = file
        self._is_part = file in program.parts
        self._scopes = []  # (is it a class's, what is bound there)

    def _is_local(self, name: str) -> bool:
        last = len(self._scopes) - 1
        return any(
            name in names
            for i, (is_class, names) in enumerate(self._scopes)
            if i == last or not is_class
        )

    def _named(self, name: str) -> str:
        if self._is_local(name):
            return name
        final = self._program.final(self._file, name)
        if not final and self._program.file_of(self._file, name) in self._program.parts:
            raise SyntaxError(f"{self._file}: {name}, a file, is used as a value")
        self._check(final)
        return final or name

    def _inside(self, names: set[str], is_class: bool, nodes: list[ast.AST]) -> list[ast.AST]:
        self._scopes.append((is_class, names))
        done = []
        for node in nodes:
            new = self.visit(node)
            done += new if isinstance(new, list) else [new] * (new is not None)
        self._scopes.pop()
        return done

    def visit_Lambda(self, node: ast.Lambda | FUNCTIONS) -> ast.AST:
        """Functions, too. Defaults and decorators are outside of it."""
        node.args = self.visit(node.args)
        own = {arg.arg for arg in arguments(node)}
        if isinstance(node, ast.Lambda):
            (node.body,) = self._inside(own, False, [node.body])
            return node
        node.name = self._named(node.name)
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        own |= self._bound(node.body)
        node.body = self._inside(own, False, node.body) or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._named(node.name)
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        node.bases = [self.visit(base) for base in node.bases]
        node.keywords = [self.visit(one) for one in node.keywords]
        node.body = self._inside(self._bound(node.body), True, node.body) or [ast.Pass()]
        return node

    def _bound(self, body: list[ast.stmt]) -> set[str]:
        """What is local to a function or class: not files of ours, nor what comes from parts."""
        bound, changed = set(), set()
        for node in here(body):
            bound |= {*binds(node), *foreign(node)}
            changed |= {*declared(node)}
            for alias in node.names if is_ours(node) else ():
                name = alias.asname or alias.name
                is_file = self._program.file_of(self._file, name)
                if not is_file and self._program.leads(node.module, alias.name) is None:
                    bound.add(name)
        return bound - changed

    def _visit_comprehension(self, node: ast.AST) -> ast.AST:
        """What it goes through first is outside of it."""
        first = self.visit(node.generators[0].iter)
        node.generators[0].iter = ast.Constant(None)
        self._scopes.append((False, {*targets(node)}))
        self.generic_visit(node)
        self._scopes.pop()
        node.generators[0].iter = first
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._named(node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """ike.SA → SA"""
        file = ""
        if isinstance(node.value, ast.Name) and not self._is_local(node.value.id):
            file = self._program.file_of(self._file, node.value.id)
        if not file:
            return self.generic_visit(node)
        final = self._program.final(file, node.attr)
        if file not in self._program.parts:
            if self._program.file_of(file, node.attr) in self._program.parts:
                raise SyntaxError(f"{self._file}: {ast.unparse(node)}, a file, is used as a value")
            node.attr = final or node.attr  # what it imports from a part
            return node
        if not final or not isinstance(node.ctx, ast.Load):
            raise SyntaxError(f"{self._file}: {ast.unparse(node)} is not {file}'s")
        self._check(final)
        return ast.Name(final, ast.Load())

    def _check(self, final: str) -> None:
        if self._is_local(final):
            raise SyntaxError(f"{self._file}: {final} is local where the global is meant")

    def visit_Global(self, node: ast.Global) -> ast.AST:
        node.names = [self._named(name) for name in node.names]
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = node.name and self._named(node.name)
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST | None:
        """An `if` that only chose what to import is gone with it."""
        had = {field for field in ("body", "finalbody") if getattr(node, field, None)}
        super().generic_visit(node)
        if isinstance(node, ast.If) and not node.body and not node.orelse:
            if not any(isinstance(one, ast.Call) for one in ast.walk(node.test)):
                return None
        for field in had:
            setattr(node, field, getattr(node, field) or [ast.Pass()])
        return node

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> ast.AST | None:
        if is_ours(node):
            return self._imported(node)
        for alias in node.names:
            self._name_anew(alias)
        return node

    visit_ImportFrom = visit_Import

    def _name_anew(self, alias: ast.alias) -> None:
        name = alias.asname or alias.name
        if self._named(name) != name:
            alias.asname = self._named(name)

    def _imported(self, node: ast.ImportFrom) -> list[ast.AST] | None:
        """Without what comes from parts: that is there, or comes from the one file."""
        others, finals = [], set()
        for alias in node.names:
            final = self._program.leads(node.module, alias.name)
            if final is None:
                self._name_anew(alias)
                others.append(alias)
            elif not self._is_part:
                finals |= {final} if final else self._asked_of(alias)
        node.names = others
        return [node] * bool(others) + from_stack({name: name for name in sorted(finals)}) or None

    def _asked_of(self, alias: ast.alias) -> set[str]:
        """What of a part this file names."""
        name = alias.asname or alias.name
        part = self._program.file_of(self._file, name)
        asked = self._program.asked_of[self._file][name]
        return {self._program.imported(self._file, part, attribute) for attribute in asked}
