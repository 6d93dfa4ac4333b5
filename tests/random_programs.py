"""Programs by chance, of functions that are mostly called once: what they do is told step by step.

    main(p0, p1, p2)   what a test calls; it may raise, as `x + None` does
    K                  a class: methods, properties, `a` (a plain attribute), `me`, `step` (ends)
    T(x)               x, which is told

Names of what may be taken in are m0, m1, ...
"""

import random

KEPT = {"main", "K", "T", "G", "box", "a", "me", "step", "n"}
_MOST = 14  # functions besides main
_CLASS = """
class K:
    a = 5
    n = 0

    @property
    def me(self):
        T('me')
        return self

    def step(self):
        self.n += 1
        return self.n < 4
"""
RUN = """
def run(text):
    told = []

    def T(x):
        told.append('K' if hasattr(x, 'step') else repr(x))
        if len(told) > 300:
            raise KeyboardInterrupt
        return x

    world = {'T': T}
    exec(text, world)
    world['box'] = world['K']()
    for given in ((1, 2, 3), (0, 0, 0), (5, -1, 2)):
        try:
            value = world['main'](*given)
            told.append(repr(value) if isinstance(value, (int, list, type(None))) else 'K')
        except NameError:
            return None  # it reads what it has not bound: whatever happens then
        except Exception as error:
            told.append(type(error).__name__)
        except KeyboardInterrupt:
            break
        told.append(repr(world['box'].a) if isinstance(world['box'].a, int) else 'another')
    return told
"""


def program(seed):
    return _Program(random.Random(seed)).text()


class _Program:
    def __init__(self, chance):
        self._chance = chance
        self._kinds = {}  # {name: (function, method, property or generator; its parameters)}
        self._to_write = []

    def text(self):
        self._kinds["main"] = ("function", ["p0", "p1", "p2"])
        self._to_write.append("main")
        functions, methods = "", ""
        while self._to_write:
            name = self._to_write.pop(0)
            kind, lines = self._function(name)
            is_method = kind in ("method", "property")
            text = "".join("    " * is_method + line + "\n" for line in lines) + "\n"
            functions, methods = functions + text * (not is_method), methods + text * is_method
        return f"G = 3\n{_CLASS}\n{methods}\n{functions}"

    def _one_of(self, *some):
        return self._chance.choice(some)

    def _function(self, name):
        kind, params = self._kinds[name]
        head = f"def {name}({', '.join(params)}):"
        known = [*params, "self.a"] if "self" in params else list(params)
        known = [word for word in known if word != "self"]
        if self._chance.random() < 0.4:
            body = [f"return {self._expression(known, 2, False)}"]
        else:
            body = self._block(known, 2, kind == "generator", False)
            if self._chance.random() < 0.7:
                body.insert(0, "x = y = z = i = e = 0")
        if kind == "generator":
            body.insert(0, "yield 7")
        lines = [head, *_inside(body)]
        return kind, ["@property", *lines] if kind == "property" else lines

    def _plain(self, known):
        return self._one_of(
            *known, *known, "0", "2", "G", "box.a", f"T({self._one_of('1', *known)})"
        )

    def _expression(self, known, depth, in_generator):
        """Not so deep that functions without end are needed."""

        def one():
            return self._expression(known, depth - 1, in_generator)

        if not depth:
            return self._plain(known)
        kind = self._chance.randrange(12)
        if kind < 4 and len(self._kinds) < _MOST:
            return self._call(one, in_generator)
        if kind < 6:
            return f"({one()} {self._one_of('+', '-', '*')} {one()})"
        if kind == 7:
            return f"({one()} {self._one_of('and', 'or', '<', '==')} {one()})"
        if kind == 8:
            return f"({one()} if {one()} else {one()})"
        if kind == 9:
            return self._one_of(f"T({one()})", f"(not {one()})")
        return self._plain(known)

    def _call(self, one, in_generator):
        name = f"m{len(self._kinds)}"
        kind = self._one_of("function", "function", "method", "method", "property", "generator")
        own = [f"p{i}" for i in range(self._chance.randrange(4))] if kind != "property" else []
        self._kinds[name] = (kind, ["self"] * (kind in ("method", "property")) + own)
        self._to_write.append(name)
        args = [one() for _ in own]
        if len(args) > 1 and self._chance.random() < 0.3:
            args[-1] = f"{own[-1]}={args[-1]}"
        call = f"{name}({', '.join(args)})" if kind != "property" else name
        if kind in ("method", "property"):
            return f"{self._one_of('K()', 'box', 'box.me', 'T(box)')}.{call}"
        if kind == "generator":
            return f"(yield from {call})" if in_generator else f"list({call})"
        return call

    def _block(self, known, depth, in_generator, in_loop):
        known, lines = list(known), []

        def one():
            return self._expression(known, 2, in_generator)

        def inside(in_loop=in_loop, *more):
            return _inside(self._block([*known, *more], depth - 1, in_generator, in_loop))

        for _ in range(self._chance.randrange(1, 4)):
            kind = self._chance.randrange(32 if depth else 20)
            if kind < 8:
                name = self._one_of("x", "y", "z", "p0", "p1")
                lines.append(f"{name} = {one()}")
                known.append(name)
            elif kind < 11:
                lines.append(f"box.a = {one()}")
            elif kind < 14:
                lines.append(one())
            elif kind < 17:
                leaving = [f"return {one()}", "return", f"raise ValueError({one()})"]
                return [*lines, self._one_of(*leaving, *["break", "continue"] * in_loop)]
            elif kind < 20:
                lines.append(f"yield {self._plain(known)}" if in_generator else one())
            elif kind < 25:
                lines += [f"if {one()}:", *inside()]
                lines += self._one_of([], ["else:", *inside()])
            elif kind < 27:
                name = self._one_of("i", "x")
                lines += [f"for {name} in range({self._chance.randrange(3)}):"]
                lines += inside(True, name)
            elif kind == 27:
                lines += ["while T(0) or box.step():", *inside(True)]
            else:
                lines += self._try(inside)
        return lines

    def _try(self, inside):
        caught = self._one_of("ValueError as e", "(ValueError, TypeError)")
        handler = ["try:", *inside(), f"except {caught}:", *inside()]
        return self._one_of(
            handler,
            [*handler, "finally:", "    T('at last')"],
            ["try:", *inside(), "finally:", "    T('at last')", *inside(False)],
        )


def _inside(lines):
    return ["    " + line for line in lines]
