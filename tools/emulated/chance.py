"""Viper functions by chance, which must do on a board what they do on x86.

Numbers are int and uint; memory is one buffer, reached through pointers of each width. They say
what kernels of lib/ may (tests/host/test_viper.py), and nothing that depends on the architecture:
no shift by 32 or more, no word at an odd address.
"""

import random

SIZE = 1024  # octets of the buffer
POINTERS = {"ptr8": 1, "ptr16": 2, "ptr32": 4}
NEAR = 256  # elements that a constant index reaches
NUMBERS = (0, 1, 2, 3, 7, 8, 31, 32, 64, 95, 96, 127, 128, 255, 256, 1023, 1024, 2047, 2048, 4095)
NUMBERS += (4096, 32767, 32768, 65535, 65536, 0x7FFFFF, 0x800000, 0x1000000, 0x0F0F0F0F)
NUMBERS += (0x12345678, 0x20000000, 0x33333333, 0x3FFFE800, 0x3FFFFFFF)
RUN = f"""\
import gc
from hashlib import sha256

import micropython

memory = bytearray({SIZE})


def run(name, function, arguments):
    x = 12345
    for i in range(len(memory)):
        x = (x * 75 + 74) % 65537
        memory[i] = x & 255
    result = function(*[memory if one is None else one for one in arguments])
    print("GAVE", name, result, list(sha256(memory).digest()[:8]))
    gc.collect()


"""


def program(seed, functions):
    """The text of a module that prints for each function what it gave, and left in memory."""
    chance = random.Random(seed)
    made = [_Function(chance, f"f{i}").text() for i in range(functions)]
    return RUN + "\n".join(made) + "print('END')\n"


class _Function:
    def __init__(self, chance, name):
        self._chance, self._name = chance, name
        self._most = chance.choice((4, 8, 12, 40))  # statements of a block
        self._lines = []
        self._kinds = {"p": chance.choice(list(POINTERS))}
        for i in range(chance.randint(0, 4)):
            self._kinds[f"a{i}"] = self._either("int", "uint")
        self._arguments = list(self._kinds)
        chance.shuffle(self._arguments)

    def text(self):
        for _ in range(2):
            self._block(1, 0)
        head = ", ".join(f"{name}: {self._kinds[name]}" for name in self._arguments)
        total = " ^ ".join(["0", *(f"int({name})" for name in self._numbers())])
        given = [None if one == "p" else self._either(*NUMBERS) for one in self._arguments]
        body = "\n".join([*self._lines, f"    return {total}"])
        return (
            f"@micropython.viper\ndef {self._name}({head}) -> int:\n{body}\n\n\n"
            f"run({self._name!r}, {self._name}, {given})\n"
        )

    def _either(self, *what):
        return self._chance.choice(what)

    def _is(self, percent):
        return self._chance.randrange(100) < percent

    def _numbers(self, kind=None):
        return [n for n, k in self._kinds.items() if k not in POINTERS and kind in (None, k)]

    def _say(self, depth, text):
        self._lines.append("    " * depth + text)

    def _block(self, depth, loops):
        for _ in range(self._chance.randint(1, self._most >> depth - 1 or 1)):
            self._statement(depth, loops)

    def _statement(self, depth, loops):
        what = self._chance.randrange(100)
        if what < 15 and depth < 4:
            self._say(depth, f"if {self._condition()}:")
            self._block(depth + 1, loops)
            if self._is(50):
                self._say(depth, "else:")
                self._block(depth + 1, loops)
        elif what < 25 and depth < 4 and loops < 2:
            count = f"n{len(self._lines)}"  # nothing else names it
            self._say(depth, f"{count} = {self._chance.randint(1, 4)}")
            self._say(depth, f"while {count}:")
            self._say(depth + 1, f"{count} -= 1")
            self._block(depth + 1, loops + 1)
        elif what < 30 and depth == 1:
            kind = self._either(*POINTERS)
            name = f"q{len(self._lines)}"
            self._say(depth, f"{name} = {kind}(uint(p) + uint(64))")
            self._kinds[name] = kind
        elif what < 65:
            kind, place = self._place()
            self._say(depth, f"{place} = {self._number(self._either('int', 'uint'), 1)}")
        else:
            self._assign(depth)

    def _assign(self, depth):
        name = f"v{self._chance.randrange(8)}"
        kind = self._kinds.get(name)
        if kind is None and depth > 1:  # it may not be come to
            name = self._either("p", *self._numbers())
            kind = self._kinds[name]
        if kind in POINTERS:
            return self._say(depth, "p[0] = 0")
        kind = kind or self._either("int", "uint")
        operator = self._either("", "", "+", "-", "^", "|", "&") if name in self._kinds else ""
        self._say(depth, f"{name} {operator}= {self._number(kind, 0)}")
        self._kinds[name] = kind

    def _place(self):
        name = self._either(*(n for n, k in self._kinds.items() if k in POINTERS))
        kind = self._kinds[name]
        if self._is(30):
            kind = self._either(*POINTERS)
            name = f"{kind}({name})"
        reach = SIZE // 2 // POINTERS[kind]
        if self._is(60):
            return kind, f"{name}[{self._chance.randrange(min(reach, NEAR))}]"
        return kind, f"{name}[{self._number('int', 1, True)} & {reach - 1}]"

    def _number(self, kind, depth, never_constant=False):
        """An expression. Two constants would be one, and a large one an object."""
        what = self._chance.randrange(100)
        known = self._numbers(kind)
        if known and (what < 25 or depth > 2 and what < 75):
            return self._either(*known)
        if depth > 2 or what < 45:
            if what % 2 or never_constant:
                place = self._place()[1] if depth < 4 else "p[3]"
                return place if kind == "int" else f"uint({place})"
            constant = self._either(*NUMBERS)
            return f"uint({constant})" if kind == "uint" else self._either("-", "") + str(constant)
        first = self._number(kind, depth + 1, True)
        if what < 52:
            other = "uint" if kind == "int" else "int"
            return f"{kind}({self._number(other, depth + 1, True)})"
        if what < 65:
            by = str(self._chance.randrange(32))
            if self._is(40):
                by = f"({self._number('int', depth + 1, True)} & 31)"
                by = by if kind == "int" else f"uint{by}"
            return f"({first} {self._either('<<', '>>')} {by})"
        operator = self._either("+", "-", "&", "|", "^", "*")
        return f"({first} {operator} {self._number(kind, depth + 1)})"

    def _condition(self, depth=0):
        kind = self._either("int", "uint")
        said = f"{self._number(kind, 1, True)} {self._either('<', '>', '<=', '>=', '==', '!=')} "
        said += self._number(kind, 1)
        what = self._chance.randrange(100)
        if what < 15 and depth < 2:
            return f"({said}) {self._either('and', 'or')} ({self._condition(depth + 1)})"
        if what < 25:
            return f"not ({said})"
        return self._number("int", 1, True) if what < 35 else said
