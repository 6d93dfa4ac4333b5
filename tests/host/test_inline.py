"""host/covey_host/board/inline.py: what becomes part of its caller does what it did.

Each rule on small packages of its own; programs by chance, on both interpreters; and the whole of
lib/covey, of which mpy-cross says how large its frames are.
"""

import ast
import json
import subprocess

import pytest

import random_programs
from covey_host.board import bundle, code, frames, inline, shake, shrink
from covey_host.board.identifiers import FUNCTIONS
from covey_host.board.mpyfile import _Reader, _skip_constant
from markdown import ROOT
from small_packages import rewritten, says_the_same
from test_micropython import interpreter, without

_WAITING = ast.AsyncFunctionDef | ast.Yield | ast.YieldFrom | ast.Await
MAIN = "import covey.aio\nprint(covey.aio.join(3), covey.aio.join(0))"


@pytest.fixture
def left(tmp_path):
    """A function: the names of the functions that a board gets of this covey.it, but for join; it
    says there what it says here.
    """

    def of(text, main=MAIN, **others):
        texts = {"aio": "from covey.it import join\n", "it": text, **others}
        made = rewritten(tmp_path, main, texts)
        says_the_same(tmp_path, main, made)
        real = {new: old for some in made.names.values() for new, old in some.items()}
        for new, old in made.names.get("in stack", {}).items():
            real[new] = old
        nodes = [node for t in made.texts.values() for node in ast.walk(ast.parse(t))]
        names = {real.get(n.name, n.name) for n in nodes if isinstance(n, FUNCTIONS)}
        found = {part.rpartition(".")[2] for name in names for part in name.split("|")}
        return found - {"join", "__init__"}

    return of


# Once


def test_a_statement_an_assignment_and_what_is_returned(left):
    assert not left(
        "said = []\n\n"
        "def join(n):\n    first(n)\n    second = third(n, 2)\n    return fourth(second)\n\n"
        "def first(n):\n    if not n:\n        return\n    said.append(n)\n\n"
        "def third(n, more):\n    for one in range(4):\n        if one == n:\n"
        "            return one + more\n    more += 1\n    return more\n\n"
        "def fourth(n):\n    if n > 4:\n        return said[0]\n    said.append('none')\n"
        "    return said\n"
    )


def test_what_is_tested_gone_through_and_raised(left):
    assert not left(
        "class Wrong(Exception):\n    def __init__(self, n):\n        self.n = n\n\n"
        "def join(n):\n    if is_odd(n):\n        return [one for one in (1, n)]\n"
        "    elif is_large(n):\n        return 'large'\n"
        "    found = 0\n    for one in some_of(n):\n        found += one\n"
        "    try:\n        raise wrong(found)\n    except Wrong as wrong_one:\n"
        "        return wrong_one.n\n\n"
        "def is_odd(n):\n    if n < 0:\n        return False\n    half = n // 2\n"
        "    return 2 * half != n\n\n"
        "def is_large(n):\n    if n > 100:\n        return True\n\n"
        "def some_of(n):\n    found = [n]\n    found.append(7)\n    return found\n\n"
        "def wrong(n):\n    n += 1\n    return Wrong(n)\n"
    )


def test_methods_and_properties_of_others(left):
    assert not left(
        "class Store:\n    def __init__(self, n):\n        self.n = n\n\n"
        "    @property\n    def size(self):\n        if self.n:\n            return 2 * self.n\n"
        "        return -1\n\n"
        "    def grow(self, by=2, times=1):\n        self.n += by * times\n"
        "        return self.n\n\n"
        "class User:\n    def __init__(self, n):\n        self.store = Store(n)\n\n"
        "    def work(self):\n        size = self.store.size\n"
        "        return size, self.store.grow(times=size)\n\n"
        "def join(n):\n    return User(n).work()\n"
    )


def test_generators_and_coroutines(left):
    assert not left(
        "import asyncio\n\n"
        "def join(n):\n    job = steps(n)\n    return list(job), asyncio.run(life(n))\n\n"
        "def steps(n):\n    yield 1\n    got = yield from more(n)\n    yield got\n"
        "    yield from last()\n\n"
        "def more(n):\n    yield n\n    try:\n        yield 2 // n\n"
        "    except ZeroDivisionError:\n"
        "        return 'zero'\n    return 'done'\n\n"
        "def last():\n    yield 'last'\n\n"
        "async def life(n):\n    await wait()\n    return await said(n)\n\n"
        "async def wait():\n    await asyncio.sleep(0)\n\n"
        "async def said(n):\n    if n:\n        await asyncio.sleep(0)\n    return n\n"
    ) - {"steps", "life"}


def test_each_that_is_called_by_what_is_called_once(left):
    assert not left(
        "def join(n):\n    return a(n)\n\ndef a(n):\n    m = b(n) + 1\n    return m * n\n\n"
        "def b(m):\n    n = c(m + 1)\n    return n - m\n\ndef c(m):\n    m += 1\n"
        "    return m * m\n"
    )


def test_an_argument_may_be_bound_anew(left):
    assert not left(
        "def join(n):\n    kept = n\n    a = up(n)\n    b = down(kept)\n"
        "    return a, b, kept, n\n\n"
        "def up(n):\n    n += 1\n    if n > 2:\n        n *= 2\n    return n\n\n"
        "def down(kept):\n    while kept > 1:\n        kept -= 1\n    return kept\n"
    )


def test_a_variable_that_is_taken_again_is_needed_no_more(left):
    """Not in the next round of a loop, in a handler, nor at last."""
    assert not left(
        "def join(n):\n    found = []\n    first = second = third = n\n"
        "    for one in range(3):\n        found.append(step(one))\n        first += 1\n"
        "    try:\n        second = 10 // checked(n)\n    except ZeroDivisionError:\n"
        "        found.append(third)\n    finally:\n        found.append(first)\n"
        "    return found, second\n\n"
        "def step(one):\n    a = one + 1\n    b = a * a\n    if b > 3:\n        return a\n"
        "    return b\n\n"
        "def checked(n):\n    a = n\n    b = a + 1\n    if b == 1:\n        return a\n"
        "    return b\n"
    ) - {"step"}


# Short


def test_what_is_one_expression_is_that_everywhere(left):
    text = (
        "class Store:\n    def __init__(self, n):\n        self.n = n\n"
        "        self.inner = None\n\n"
        "    @property\n    def is_open(self):\n        return self.inner is not None\n\n"
        "    def begin(self):\n        self.inner = self.n\n\n"
        "def join(n):\n    store = Store(n)\n    before = store.is_open, [store.is_open]\n"
        "    store.begin()\n    return before, store.is_open, 1 if store.is_open else 2\n"
    )
    assert not left(text)
    assert left(text + "\ndef other(s):\n    return [t.is_open for t in s]\n") == set(), "unused"
    used = text.replace("def join(n):", "def join(n):\n    all = [t.is_open for t in [Store(1)]]")
    assert left(used) == {"is_open"}, "in a list it stands in a function of its own"


def test_what_is_long_stays_one(left):
    assert left(
        "def join(n):\n    return both(n, 1), both(n, 2), both(n, 3), both(n, 4), both(n, 5)\n\n"
        "def both(n, more):\n    return (n, more, n + 1, n + 2, n - 3, n * 4, n * 5)\n"
    ) == {"both"}


# In which order


TOLD = "told = []\n\ndef tell(x):\n    told.append(x)\n    return len(told)\n\n"


@pytest.mark.parametrize(
    "expression, stays",
    [
        ("once(tell(1), tell(2))", False),
        ("tell(0) + once(tell(1), 2)", True),
        ("[tell(0)] and once(1, 2)", True),
        ("n and once(1, n)", True),
        ("once(1, n) and n", False),
        ("(n, once(tell(1), n))", False),
        ("tell(once(1, n))", False),
        ("(n, K.got, once(1, n))[0]", True),
        ("K.got.take(once(1, n))", True),
        ("not once(1, n)", False),
        ("{n: once(1, n)}", True),
        ("[once(1, n) for n in (1, 2)]", True),
        ("(lambda: once(1, n))()", True),
    ],
)
def test_nothing_is_evaluated_earlier(left, expression, stays):
    text = (
        f"{TOLD}class K:\n    got = None\n\n    def __init__(self, told):\n"
        f"        self.told = told\n\n"
        "    def take(self, x):\n        return (x, self.told)\n\n"
        "K.got = K(5)\n\n"
        "def once(a, b):\n    tell(b)\n    K.got = K(a)\n    if a == b:\n        return 1\n"
        "    return 0\n\n"
        f"def join(n):\n    value = {expression}\n    return value, told, K.got.told\n"
    )
    assert ("once" in left(text)) == stays


@pytest.mark.parametrize(
    "short, call, stays",
    [
        ("a + b", "short(tell(1), tell(2))", False),
        ("b + a", "short(tell(1), tell(2))", True),
        ("a if b else 3", "short(tell(1), n)", True),
        ("tell(7) + a", "short(tell(1), 0)", True),
        ("tell(7) + a", "short(K.x, 0)", True),
        ("tell(7) + a", "short(n, 0)", False),
        ("a + a", "short(tell(1), 0)", True),
        ("b", "short(tell(1), 0)", True),
        ("(a, b)", "short(b=tell(1), a=tell(2))", True),
        ("(a, b)", "short(n, *[2])", True),
    ],
)
def test_no_argument_is_evaluated_later(left, short, call, stays):
    text = (
        f"{TOLD}class K:\n    x = 1\n\n"
        f"def short(a, b):\n    return {short}\n\n"
        f"def join(n):\n    return {call}, n and {call}, told\n"
    )
    assert ("short" in left(text)) == stays


# Whose name is meant


HEAD = "class A:\n    def f(self):\n        return self.x\n\n    x = 1\n\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "class B:\n    def f(self):\n        return 2\n\n"
        "def join(n):\n    return (A() if n else B()).f()\n",
        HEAD + "class B(A):\n    f = int\n\n"
        "def join(n):\n    b = B() if n else A()\n    return b.f()\n",
        HEAD.replace("    def f", "    @property\n    def f")
        + "class B:\n    def __init__(self):\n        self.f = 5\n\n"
        "def join(n):\n    b = B() if n else A()\n    return b.f\n",
        HEAD + "def join(n):\n    a = A()\n    if n:\n        a.f = lambda: 5\n    return a.f()\n",
        HEAD + "def join(n):\n    return getattr(A(), 'f')(), A().f()\n",
        HEAD + "def join(n):\n    a = A()\n    return A.f(a)\n",
        HEAD + "def join(n):\n    g = A().f\n    return g()\n",
        HEAD.replace("    def f", "    @staticmethod\n    def g():\n        return 1\n\n    def f")
        + "def join(n):\n    f = A().f\n    return f(), A.g(), A().g()\n",
        HEAD + "class P:\n    def __init__(self, of):\n        self.of = of\n\n"
        "    def __getattr__(self, name):\n        return getattr(self.of, name)\n\n"
        "def join(n):\n    p = P(A())\n    return p.f()\n",
        "class A:\n    def f(self, a=3):\n        return self, a\n\n"
        "def join(n):\n    kind = A\n    return kind.f(n)\n",
        "def join(n):\n    class A:\n        def f(self):\n            return n\n\n"
        "    return A().f()\n",
        "class A(list):\n    def get(self):\n        return self.pop()\n\n"
        "class B:\n    def pop(self, x=1):\n        return x\n\n"
        "    def f(self, *n):\n        return n\n\n"
        "def join(n):\n    return A([n]).get(), B().f(1)\n",
        "def f(n):\n    return n + 1\n\ndef join(n):\n    return list(map(f, [n]))\n",
        "def f(n):\n    return n + 1\n\nf = [f][0]\n\ndef join(n):\n    return f(n)\n",
        "def f(n):\n    return f(n - 1) if n else 5\n\ndef join(n):\n    return f(n)\n",
        "class A:\n    def append(self, n):\n        self.n = n\n\n"
        "def join(n):\n    a = [] if n else A()\n    a.append(1)\n    return isinstance(a, A)\n",
        "def join(n):\n    return super_of(n)\n\ndef super_of(n):\n    return [one for one in [n]"
        " if one < n + 1]\n",
        "def join(n):\n    return f(*[n])\n\ndef f(n):\n    return n\n",
        "def join(n):\n    return f(n)\n\ndef f(*n):\n    return n\n",
        "some = []\n\ndef join(n):\n    return f(n)\n\ndef f(n, some=some):\n    some.append(n)\n"
        "    return some\n",
        "def join(n):\n    return f(n), x\n\nx = 1\n\ndef f(n):\n    global x\n    x += n\n"
        "    return x\n",
        "def join(n):\n    return f(n)()\n\ndef f(n):\n    return lambda: n\n",
        "def join(n):\n    try:\n        return 1 // n\n    except ZeroDivisionError:\n"
        "        try:\n"
        "            f()\n        except ZeroDivisionError:\n            return 'raised'\n\n"
        "def f():\n    raise\n",
    ],
)
def test_what_may_mean_another_thing_stays(left, text):
    assert left(text) & {"f", "append", "super_of"}


def test_a_function_of_a_file_that_stays_apart_is_known_behind_a_dot(left):
    late = "def f(n):\n    return n + 1\n\ndef g(n):\n    return f(n)\n"
    text = "def join(n):\n    from covey import late\n    return late.f(n), late.g(n)\n"
    assert left(text, late=late) == {"f", "g"}


def test_no_variable_hides_a_global():
    text = "def main(n):\n    x = n\n    return x, f(n)\n\ndef f(n):\n    return n + x\n"
    assert taken(text)[0] == {"main", "f"}
    assert taken(text.replace("x = n", "y = n").replace("return x", "return y"))[0] == {"main"}


def test_what_an_application_may_call_stays(left):
    text = (
        "class Joined:\n    def send(self):\n        return self.size\n\n    size = 3\n\n"
        "    def _mine(self):\n        return 1\n\n"
        "def join(n):\n    joined = Joined()\n    return joined.send(), joined._mine()\n"
    )
    assert left("", aio=text) == {"send"}
    said = MAIN + "\nprint(covey.aio.Joined()._mine())"
    assert left("", said, aio=text) == {"send", "_mine"}


def test_files_that_stay_apart(left):
    """What is a method's may go where no global of its is needed."""
    found = left(
        "class A:\n    def __init__(self, n):\n        self.n = n\n\n    def near(self):\n"
        "        return self.n, len(str(self.n))\n\n    def far(self):\n"
        "        return A(self.n).n\n\n"
        "def join(n):\n    from covey import late\n    return late.both(A(n))\n\n"
        "def away(n):\n    return n\n",
        late="from covey.it import away\n\ndef both(a):\n    return a.near(), a.far(), away(1)\n",
    )
    assert found == {"far", "away", "both"}


# Frames, machine code, tracebacks


def taken(text):
    """The functions that are left of this text, and it."""
    tree = ast.parse(text)
    inline.inline({"covey/it.py": tree}, {"main"})
    return {n.name for n in ast.walk(tree) if isinstance(n, FUNCTIONS)}, ast.unparse(tree)


def test_machine_code_is_left_alone():
    """Neither becomes part of anything, nor has it parts."""
    for kind in ("native", "viper"):
        text = f"@micropython.{kind}\ndef main(n):\n    return f(n)\n\ndef f(n):\n    return n\n"
        assert taken(text)[0] == {"main", "f"}
        text = f"def main(n):\n    return f(n)\n\n@micropython.{kind}\ndef f(n):\n    return n\n"
        assert taken(text)[0] == {"main", "f"}


def test_no_frame_comes_to_lie_on_the_heap():
    """It had four variables, and two words on the stack."""
    few = "def main(a, b, c):\n    d = f(a)\n    return d + b + c\n\n"
    for count, stays in ((5, False), (6, True)):
        added = "".join(f"    w{i} = n + {i}\n" for i in range(count))
        total = " + ".join(f"w{i}" for i in range(count))
        text = f"{few}def f(n):\n{added}    return {total}\n"
        assert ("f" in taken(text)[0]) == stays, count


def test_a_large_frame_is_not_taken_out_of_a_try_that_sees_no_memory():
    added = "".join(f"    w{i} = n + {i}\n" for i in range(12))
    total = " + ".join(f"w{i}" for i in range(12))
    mine = added.replace("w", "u").replace("n", "a")
    for caught, stays in (
        ("except MemoryError:", True),
        ("except:", True),
        ("except (ValueError, Exception):", True),
        ("finally:", True),
        ("except ValueError:", False),
    ):
        text = (
            f"def main(a):\n{mine}    u0 += {total.replace('w', 'u')}\n"
            f"    try:\n        b = f(a)\n    {caught}\n        b = 1\n    return b\n\n"
            f"def f(n):\n{added}    return {total}\n"
        )
        assert ("f" in taken(text)[0]) == stays, caught


def test_a_traceback_tells_the_function_that_is_there(tmp_path):
    text = "def join(n):\n    return _broken(n)\n\ndef _broken(n):\n    raise ValueError(n)\n"
    names = rewritten(tmp_path, "import covey.aio", {"aio": text}).names
    meant = "|".join(names["in stack"].values())
    assert "aio.join" in meant and "_broken" not in meant
    line = list(shrink.in_words(['  File "stack", line 1, in join'], names))[0]
    assert line.endswith("in aio.join")


# By chance


def pairs(count):
    """[(a program, what it becomes)], and how many functions they have."""
    found, had, has = [], 0, 0
    for seed in range(count):
        text = random_programs.program(seed)
        tree = ast.parse(text)
        inline.inline({"covey/it.py": tree}, set(random_programs.KEPT))
        found.append((text, ast.unparse(tree)))
        had, has = had + text.count("def "), has + found[-1][1].count("def ")
    return found, had, has


def test_programs_by_chance_do_the_same():
    found, had, has = pairs(400)
    world = {}
    exec(random_programs.RUN, world)
    both = [(world["run"](old), world["run"](new)) for old, new in found]
    known = [(old, new) for old, new in both if old is not None]
    assert [pair for pair in known if pair[0] != pair[1]] == []
    assert len(known) > 300 and has < 0.85 * had


def test_programs_by_chance_do_the_same_on_micropython(tmp_path):
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    (tmp_path / "both.json").write_text(json.dumps(pairs(200)[0]))
    script = random_programs.RUN + (
        "import json\nwith open('both.json') as file:\n    both = json.load(file)\n"
        "for old, new in both:\n    said = run(old)\n"
        "    if said is not None:\n        print('same' if said == run(new) else new)\n"
    )
    (tmp_path / "it.py").write_text(script)
    done = subprocess.run(
        [wrapper, "-X", "heapsize=8m", "it.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split("\n")) == {"same", ""} and done.stdout.count("same") > 150


# The whole of it


_SPELT = "_spelt_out"  # for a name that MicroPython has in ROM is a number


def files_of_boards(inlined):
    """{file: its text} of a member's image, before names are short."""
    texts = [(ROOT / "firmware" / name).read_text() for name in ("boot.py", "main.py")]
    found = code.select(texts, "rv32imc", ("udp", "ip"), [ROOT / "firmware"])
    trees = {
        file: ast.parse(code._text(path, found.root))
        for file, path in found.kept.items()
        if file.startswith("covey/")
    }
    applications = [ast.parse(text) for text in found.heard]
    words = set().union(*(shrink.Names(tree).words for tree in applications))
    shake.shake(trees, words)
    trees = bundle.bundle(trees, applications, set(), words)
    if inlined:
        inline.inline(trees, words)
    return {file: ast.unparse(tree) for file, tree in trees.items()}


def frames_in(text, tmp_path):
    """{a function: the words of each frame of one that is called so}, as mpy-cross has it."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            node.name += _SPELT
    text = ast.unparse(tree)
    code._compile(text, "it", tmp_path / "it.mpy", "rv32imc", code.FOR_BOARDS)
    data = (tmp_path / "it.mpy").read_bytes()
    reader = _Reader(data, 4)
    if data[2] & 0x40:
        reader.uint()
    count, constants = reader.uint(), reader.uint()
    names = []
    for _ in range(count):
        size = reader.uint()
        names.append("" if size & 1 else data[reader.at : reader.at + (size >> 1)].decode())
        reader.skip(0 if size & 1 else (size >> 1) + 1)
    for _ in range(constants):
        _skip_constant(reader)
    found = {}
    _frames(reader, names, found)
    return found


def _frames(reader, names, found):
    """As py/bc.h has it: MP_BC_PRELUDE_SIG, MP_BC_PRELUDE_SIZE, then the name."""
    head = reader.uint()
    kind, has_children, size = head & 3, head & 4, head >> 3
    inner = _Reader(reader._data, reader.at)
    reader.skip(size)
    if kind == 0:
        octet = inner.octet()
        state, handlers, at = octet >> 3 & 15, octet >> 2 & 1, 0
        while octet & 0x80:
            octet = inner.octet()
            state |= (octet & 0x30) << 2 * at
            handlers |= (octet & 2) << at
            at += 1
        while inner.octet() & 0x80:
            pass
        name = names[inner.uint()]
        if name.endswith(_SPELT):
            words = state + 1 + 3 * handlers
            found.setdefault(name.removesuffix(_SPELT), []).append(words)
    elif kind == 1:
        reader.uint()
    else:
        flags = reader.uint()
        rodata = reader.uint() if flags & 0x20 else 0
        if flags & 0x40:
            reader.uint()
        reader.skip(rodata)
    for _ in range(reader.uint() if has_children else 0):
        _frames(reader, names, found)


def test_frames_are_what_mpy_cross_makes_them(tmp_path):
    """Never less, or one could lie on the heap; and mostly the same."""
    exact = total = 0
    for file, text in files_of_boards(inlined=False).items():
        found = frames_in(text, tmp_path)
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS)]
        for node in nodes:
            if (
                sum(other.name == node.name for other in nodes)
                == 1
                == len(found.get(node.name, ()))
            ):
                said = frames.frame_of(node)
                assert said >= found[node.name][0], (file, node.name)
                exact, total = exact + (said == found[node.name][0]), total + 1
    assert total > 400 and exact > 0.9 * total


def test_all_frames_that_were_small_are(tmp_path):
    """Of the whole image: what is left had its frame where it has it, or a generator's."""
    before, after = files_of_boards(inlined=False), files_of_boards(inlined=True)
    had = has = 0
    for file in before:
        old, new = frames_in(before[file], tmp_path), frames_in(after[file], tmp_path)
        had, has = had + sum(map(len, old.values())), has + sum(map(len, new.values()))
        waiting = {
            node.name
            for node in ast.walk(ast.parse(after[file]))
            if isinstance(node, FUNCTIONS) and any(isinstance(n, _WAITING) for n in ast.walk(node))
        }
        for name in new.keys() - waiting:
            assert len(new[name]) == len(old[name]), (file, name)
            for words, more in zip(old[name], new[name], strict=True):
                assert more <= (frames.ROOM if words <= frames.ROOM else words + 4), (file, name)
    assert has < had - 40, "a rule that no longer finds anything is found here"
