"""host/covey_host/board/bundle.py: one file of many does what they did.

Each rule on small packages of its own, whose covey.aio runs on CPython before and after; and the
whole of lib/covey, of which MicroPython itself says what it loads at the start.
"""

import re
import subprocess

import pytest

from covey_host.board import code, program, shrink
from covey_host.board.mpyfile import _Reader
from markdown import ROOT
from small_packages import parts, rewritten, says_the_same
from test_micropython import compile_lib, interpreter, without


@pytest.fixture
def same(tmp_path):
    """A function: what main.py prints with the source, and with what a board gets, is the same;
    {file: its text} of the latter.
    """

    def of(main, **texts):
        made = rewritten(tmp_path, main, texts)
        says_the_same(tmp_path, main, made)
        return made.texts

    return of


def test_what_is_loaded_at_the_start_is_one_file(same):
    made = same(
        "import covey.aio\nprint(covey.aio.join(2))",
        aio="from covey import ike\nfrom covey.sa import SA as Data\n\ndef join(n):\n"
        "    return ike.SA(n).spi(), Data(n).spi(), _late(n)\n\ndef _late(n):\n"
        "    from covey.late import more\n    return more(n)\n",
        ike="from covey import sa\n\nclass SA:\n    def __init__(self, n):\n"
        "        self.n = sa.twice(n)\n\n    def spi(self):\n        return 'ike', self.n\n",
        sa="def twice(n):\n    return 2 * n\n\nclass SA:\n    def __init__(self, n):\n"
        "        self.n = twice(n)\n\n    def spi(self):\n        return 'data', self.n\n",
        late="from covey import ike, sa\n\ndef more(n):\n"
        "    return ike.SA(n).spi(), sa.twice(n)\n",
    )
    assert made.keys() == {f"covey/{n}.py" for n in ("__init__", "aio", "late", "stack")}
    assert made["covey/aio.py"] == "from .stack import join\n"
    assert made["covey/late.py"].startswith("from .stack import ")


def test_a_star_hands_on_what_is_imported_and_not_what_is_private(same):
    made = same(
        "import covey.aio\nprint(covey.aio.join())",
        aio="import sys\nfrom covey import port\nfrom covey.port import own\n\ndef join():\n"
        "    return port.clock(), own(), port.digest(b'').hexdigest(), _secret()\n\n"
        "def _secret():\n    return 'mine', sys.byteorder\n",
        port____init__="import sys\n\nif sys.byteorder:\n    from covey.port.mpy import *\n",
        port__mpy="from hashlib import sha256 as digest\nfrom covey.port.far import clock\n"
        "from covey.far import own\n\ndef _secret():\n    return 'not this'\n",
        port__far="def clock():\n    return 'clock'\n",
        far="from covey.port import far\n\ndef own():\n    return far.clock(), 'own'\n",
    )
    assert "if " not in made["covey/stack.py"], "it only chose what to import"
    assert made["covey/stack.py"].count("import sys") == 1


def test_late_files_find_what_others_hand_on(same):
    same(
        "import covey.aio\nprint(covey.aio.join())",
        aio="from covey.deep import count as number\nfrom covey.other import count\n\n"
        "def join():\n    from covey import second\n    return number(), count(), second.f()\n",
        deep="def count():\n    return 'deep'\n",
        other="def count():\n    return 'other'\n",
        first="from covey.deep import count\n",
        second="from covey.first import count\nfrom covey import first\n\ndef f():\n"
        "    from covey.other import count as others\n"
        "    return count(), first.count(), others()\n",
    )


def test_names_that_are_local_somewhere(same):
    """Arguments, variables, what a loop or an `except` binds, and classes hide no global."""
    same(
        "import covey.aio\nprint(covey.aio.join(1))",
        aio="from covey import a, b\n\ndef join(limit):\n"
        "    size = a.size(limit)\n"
        "    rest = [a.item(item) for item in (1, 2) if item != b.limit]\n"
        "    try:\n        a.fail()\n    except ValueError as fail:\n        said = str(fail)\n"
        "    def inner(size=a.size):\n        return size(b.limit)\n"
        "    add = lambda item, more=b.limit: item + more + a.item(0)\n"
        "    return size, rest, said, inner(), add(3), Kind().item, Kind.size(), limit\n\n"
        "class Kind:\n    item = a.item(7)\n    twice = item, b.limit\n\n"
        "    def size():\n        return a.size(Kind.twice[1])\n",
        a="def size(n):\n    return 'size', n\n\ndef item(n):\n    return 10 * n\n\n"
        "def fail():\n    raise ValueError('failed')\n",
        b="limit = 5\nlimits = [limit for limit in range(3)]\nlimit += 1\n",
    )


def test_globals_that_change(same):
    same(
        "import covey.aio\nprint(covey.aio.join())",
        aio="from covey import first, second\n\ndef join():\n    first.count()\n"
        "    return first.count(), second.count(), second.count(), second.count()\n",
        first="_n = 0\n\ndef count():\n    global _n\n    _n += 1\n    return _n\n",
        second="_n = 10\n\ndef count():\n    global _n, made\n    _n += 1\n    made = _n\n"
        "    return _n, made\n",
    )


def test_a_global_may_be_a_file_that_is_loaded_late(same):
    """As the kernel of AES-GCM is. One that stays behind is asked for in vain, as before."""
    same(
        "import covey.aio\nprint(covey.aio.join())",
        aio="from covey.port import kernel as same_name\n_kernel = None\n\ndef join():\n"
        "    global _kernel\n    first = _kernel is None\n    if first:\n"
        "        from covey.port import fast as _kernel\n    else:\n"
        "        from covey.port import left_behind as _kernel\n"
        "    return first, _kernel.f(), same_name()\n",
        port____init__="def kernel():\n    from covey.port.fast import kernel\n\n"
        "    return kernel()\n",
        port__fast="def f():\n    return 'fast'\n\ndef kernel():\n    return 'late'\n",
    )


def test_what_an_application_imports_is_there(same):
    """By the names of the source, with whatever these became; and none of the others' names."""
    made = same(
        "from covey import sa\nfrom covey.ike import parse as p\nimport covey.aio\n"
        "print(sa.parse(), p(), covey.aio.join(), covey.aio.Packet)",
        aio="from covey import ike, sa\n\nPacket = 3\n\ndef join():\n"
        "    return ike.parse(), sa.parse(), sa.hidden()\n",
        ike="def parse():\n    return 'ike'\n",
        sa="def parse():\n    return 'sa'\n\ndef hidden():\n    return 'hidden'\n",
    )
    assert re.fullmatch(r"from \.stack import \w+ as parse\n", made["covey/sa.py"])
    assert made["covey/aio.py"] == "from .stack import Packet, join\n"


def test_a_file_that_nothing_loads_at_the_start_stays_one(same):
    made = same(
        "import covey.aio, covey.cip\nprint(covey.aio.join(), covey.cip.frame())",
        aio="from covey.sa import f\n\ndef join():\n    return f()\n",
        cip="from covey.sa import f\n\ndef frame():\n    return f(), 'cip'\n",
        sa="def f():\n    return 1\n",
    )
    assert {"covey/cip.py", "covey/stack.py"} < made.keys() and "covey/sa.py" not in made


def test_without_a_member_all_files_stay(same):
    """Nothing is refused, then: a part that is imported as a whole is what it was."""
    made = same(
        "from covey import gcm\nprint(gcm.f())",
        gcm="from covey.port import g\n\ndef f():\n    return g()\n",
        port____init__="from covey.port.mpy import *\n",
        port__mpy="def g():\n    return 1\n",
    )
    assert made.keys() == {
        f"covey/{name}.py" for name in ("__init__", "gcm", "port/__init__", "port/mpy")
    }


@pytest.mark.parametrize(
    "text, why",
    [
        ("def join():\n    return str(sa)\n", "covey/aio.py: sa, a file, is used as a value"),
        (
            "def join():\n    from covey import late\n    return late.sa.x\n",
            "covey/aio.py: late.sa, a file, is used as a value",
        ),
        ("def join():\n    sa.x = 1\n", "covey/aio.py: sa.x is not covey/sa.py's"),
        ("def join():\n    return sa.none\n", "covey/aio.py: sa.none is not covey/sa.py's"),
        ("from covey.sa import n\n\ndef join():\n    return n\n", "which covey/sa.py changes"),
        (
            "def join():\n    time = sa.time()\n    return time\n",
            "covey/aio.py: time is local where the global is meant",
        ),
        (
            "from os import urandom as time\n",
            "time is imported from os:urandom and from time:time",
        ),
    ],
)
def test_what_it_can_not_follow_is_said(tmp_path, text, why):
    sa = "from time import time\n\nn = x = []\n\ndef f():\n    global n\n    n = time(x)\n\nf()\n"
    late = "from covey import sa\n"
    with pytest.raises(SyntaxError, match=re.escape(why)):
        rewritten(
            tmp_path,
            "import covey.aio",
            {"aio": "from covey import sa\n" + text, "sa": sa, "late": late},
        )


SA = "def f():\n    return 1\n\ndef g():\n    return 2\n"
OTHER = "def f():\n    return 3\n"
MAIN = "import covey.aio"


@pytest.mark.parametrize(
    "aio, others, why",
    [
        (
            "from covey import other\nfrom covey.sa import f\n\ndef join():\n"
            "    from covey.other import f\n    return f(), other.f()\n\n"
            "def more():\n    return f()\n",
            {},
            "f is imported from more than one file",
        ),
        (
            "from covey.sa import f\nf = f or 2\n",
            {},
            "f is imported, and means something else, too",
        ),
        (
            "from covey import sa\n\ndef join():\n    from covey.sa import f\n    f = sa.f or f\n"
            "    return f\n",
            {},
            "f is imported in join(), and bound anew",
        ),
        (
            "from covey import sa\n_f = None\n\ndef join():\n    global _f\n"
            "    from covey.sa import f as _f\n    return sa.f(), _f()\n",
            {},
            "_f is imported, and means something else, too",
        ),
        (
            "from covey import sa\nlate = [sa]\n\ndef join():\n    from covey import late\n"
            "    return late.f()\n",
            {"late": SA},
            "late is imported, and means something else, too",
        ),
        (
            "try:\n    from covey.sa import f\nexcept ImportError:\n    pass\njoin = f\n",
            {},
            "f is imported in a `try`",
        ),
        (
            "from covey import sa\n\nclass K:\n    from covey.sa import f\n\njoin = K.f, sa.g\n",
            {},
            "the class K imports",
        ),
        (
            "from covey.sa import f\n\nclass K:\n    f = f\n",
            {},
            "f is a global, and bound in the class K, too",
        ),
        ("import covey.sa\n", {}, "covey's files are imported by `from`"),
        ("from .sa import f\njoin = f\n", {}, "covey's files are imported by their whole names"),
        (
            "from covey.sa import f\njoin = f, __name__\n",
            {},
            "__name__ is another in the one file",
        ),
        ("from covey.sa import f\ndel f\n", {}, "a global is deleted"),
        (
            "from covey import sa\nfrom covey.port import unload\n\ndef join():\n"
            "    unload('sa')\n    return sa.f()\n",
            {"port": "def unload(name):\n    pass\n"},
            "sa is to be forgotten, but a part of the one file",
        ),
        (
            "from covey import sa\n\ndef join(x):\n    def inner():\n        global x\n"
            "        x = 2\n    return inner(), sa.f(), x\n",
            {},
            "inner(), inside join(), says `global`",
        ),
        (
            "from covey import sa\n\ndef join():\n    from covey import late\n"
            "    return sa.f, late.h()\n",
            {"late": "from covey.sa import *\n\ndef h():\n    return f()\n"},
            "all of covey.sa is imported",
        ),
        (
            "from covey import sa, other\njoin = sa.f, other.h\n",
            {"other": "from os import abs\n\ndef h():\n    return abs\n", "sa": "f = abs(-2)\n"},
            "abs is imported, and covey/sa.py means the builtin",
        ),
        (
            "from covey import sa\njoin = sa.f\n",
            {
                "sa": "from covey import other\nf = other.g\n",
                "other": "from covey import sa\ng = [sa]",
            },
            "covey/sa.py is imported by what it imports",
        ),
        (
            "from covey import stack\njoin = stack.f\n",
            {"stack": SA},
            "that is the name of the one",
        ),
        (
            "from covey import sa\n\ndef join():\n    from covey import late\n"
            "    return sa.f, late.h()\n",
            {
                "sa": "n = 0\n\ndef f():\n    global n\n    n = [n]\n\nf()\n",
                "late": "from covey import sa\n\ndef h():\n    return sa.n\n",
            },
            "covey/late.py imports n, which covey/sa.py changes",
        ),
    ],
)
def test_what_would_be_misunderstood_is_refused(tmp_path, aio, others, why):
    texts = {"sa": SA, "other": OTHER, "aio": aio, **others}
    with pytest.raises(SyntaxError, match=re.escape(why)):
        rewritten(tmp_path, MAIN, texts)


# `sa` looks at what was done before it was loaded.
ITEMS = "items = [0]\n\ndef mark(x):\n    items.append(x)\n    return x\n"
LOOKS = "from covey.items import items\nn = sum(items)\n\ndef f():\n    return n\n"
BEHIND = "covey/aio.py: a part is imported behind what is done here"
CONDITION = "covey/aio.py: covey/sa.py is loaded by a condition only, and does something"


@pytest.mark.parametrize(
    "before, why",
    [
        ("print(1)", BEHIND),
        ("mark(1)", BEHIND),
        ("@mark\ndef g():\n    pass", BEHIND),
        ("@mark\nclass K:\n    pass", BEHIND),
        ("def g(x=mark(1)):\n    pass", BEHIND),
        ("def g(*, x=mark(1)):\n    pass", BEHIND),
        ("class K:\n    x = mark(1)", BEHIND),
        ("class K:\n    def x(self, y=mark(1)):\n        pass", BEHIND),
        ("x = [mark(n) for n in (1, 2)]", BEHIND),
        ("items[0] = 7", BEHIND),
        ("x = items\nx += [3]", BEHIND),
        ("x = items[0]", BEHIND),
        ("x = items + [0]", BEHIND),
        ("for x in (1, 2):\n    pass", BEHIND),
        ("if mark(1):", CONDITION),
        ("import sys\nif sys.maxsize == 5:", CONDITION),
    ],
)
def test_another_order_is_refused(tmp_path, before, why):
    """Else sa would find something else there, or be found, than where nothing is one file."""
    indent = "    " if before.endswith(":") else ""
    aio = f"from covey.items import items, mark\n{before}\n{indent}from covey.sa import f\n"
    aio += "\ndef join():\n    return f(), items, mark\n"
    with pytest.raises(SyntaxError, match=re.escape(why)):
        rewritten(tmp_path, MAIN, {"aio": aio, "sa": LOOKS, "items": ITEMS})


def test_what_does_nothing_may_stand_before_an_import(same):
    made = same(
        "import covey.aio\nprint(covey.aio.join())",
        aio="import sys\n\nX = -1\nY, Z = (X, [2]), {3: X}\nIS = sys.platform != 'x' or not X\n"
        "join = None\n\nclass K:\n    n = 1\n\n    @property\n    def g(self):\n"
        "        return self.n\n\n    @staticmethod\n    def h(n=2, *, m=3):\n"
        "        return n + m\n\nif IS:\n    from covey.quiet import q\n\n"
        "from covey.sa import f\n\ndef join():\n    return f(), q(), K().g, K.h(), Y, Z\n",
        sa="n = sum((1, 2))\n\ndef f():\n    return n\n",
        quiet="import sys\n\nn = {True: 4, False: 5}[sys.byteorder == 'big']"
        "\n\ndef q():\n    return n\n",
    )
    assert made.keys() == {f"covey/{name}.py" for name in ("__init__", "aio", "stack")}


@pytest.mark.parametrize(
    "sa, why",
    [
        ("def f():\n    from covey import late\n    return late.h()\n\nx = f()\n", "f"),
        ("def f():\n    from covey.last import g\n    return g()\n\nx = f()\n", "f"),
        (
            "class K:\n    def __init__(self):\n        from covey import late\n"
            "        self.x = late.h()\n\nclass L(K):\n    pass\n\nx = L().x\n",
            "L",
        ),
        (
            "class K:\n    def way(self):\n        from covey import late\n"
            "        return late.h()\n\nx = K().way()\n",
            "way",
        ),
        (
            "def f(it=None):\n    from covey import late\n    return late.h()\n\ng = f\n\n"
            "def e():\n    return g()\n\n@e\nclass K:\n    pass\n\nx = [1]\n",
            "e",
        ),
    ],
)
def test_nothing_is_loaded_late_while_the_one_file_is_loaded(tmp_path, sa, why):
    """It would find what stands behind there not yet, and might take that for an answer."""
    texts = {
        "aio": "from covey import sa\nfrom covey.last import g\n\ndef join():\n"
        "    return sa.x, g()\n",
        "late": "try:\n    from covey.last import g\n    there = [1]\nexcept ImportError:\n"
        "    there = []\n\ndef h():\n    return there and g()\n",
        "last": "def g():\n    return 5\n",
    }
    expected = f"covey/sa.py: {why} may import while the one file is loaded"
    with pytest.raises(SyntaxError, match=re.escape(expected)):
        rewritten(tmp_path, MAIN, {**texts, "sa": sa})


@pytest.mark.parametrize(
    "main, why",
    [
        ("import covey.aio\nprint(covey.sa.f)", "covey.sa is used, and not imported"),
        ("from covey import sa\nsa.pause = 2", "covey.sa.pause is set, which changes nothing"),
        ("import covey.aio\nprint(covey.aio.sa)", "covey.aio.sa is a file, and to be imported"),
        ("from covey.aio import sa", "covey.aio.sa is a file, and to be imported"),
        ("from covey import sa\nprint(sa.n)", "covey.sa.n changes, and can't be looked at"),
    ],
)
def test_what_an_application_would_find_changed_is_refused(tmp_path, main, why):
    texts = {
        "aio": "from covey import sa\n\ndef join():\n    return sa.f(), sa.n\n",
        "sa": "pause = n = 1\n\ndef f():\n    global n\n    n = n + pause\n    return n\n",
    }
    with pytest.raises(SyntaxError, match=re.escape(f"an application: {why}")):
        rewritten(tmp_path, main, texts)


def test_a_traceback_tells_the_file_of_each_function(tmp_path):
    """What it calls the one file is no help, and one short name is many functions'."""
    texts = {
        "aio": "from covey.sa import SA\n\ndef join():\n"
        "    return SA().spi_of_it(), Own().size_of_it()\n\n"
        "class Own:\n    def size_of_it(self, *others):\n        return 1\n",
        "sa": "class SA:\n    def spi_of_it(self, *others):\n        return 2\n",
    }
    names = rewritten(tmp_path, MAIN, texts).names
    meant = "|".join(names["in stack"].values()).split("|")
    assert {"aio.join", "aio.size_of_it", "sa.spi_of_it"} <= set(meant)
    short = next(short for short in names["stack"] if "spi_of_it" in names["stack"][short])
    said = f'  File "stack", line 1, in {short}\nAttributeError: {short!r}\n'.splitlines()
    lines = list(shrink.in_words(said, names))
    assert "sa.spi_of_it" in lines[0] and "aio.Own" not in lines[0]
    assert "spi_of_it" in lines[1] and "sa." not in lines[1]


def names_in(data):
    """How many names a .mpy file has, and the octets of each in its code, as uint() reads them."""
    reader = _Reader(data, 4)
    if data[2] & 0x40:
        reader.uint()
    return reader.uint()


def test_names_that_are_said_often_take_one_octet(tmp_path):
    """The same text with and without the statement that says them first."""
    texts = {"aio": "".join(f"def rare_{i}():\n    pass\n" for i in range(300))}
    texts["aio"] += "class C:\n    def join(self):\n" + "".join(
        "        self.hot = self.hotter\n" for _ in range(200)
    )
    texts["aio"] += "\ndef join():\n    return C, " + ", ".join(f"rare_{i}" for i in range(300))
    text = rewritten(tmp_path, "import covey.aio", texts).texts["covey/stack.py"]
    first, _, rest = text.partition("\n")
    assert first == "for _ in ():"
    said, _, rest = rest.partition("\n")
    sizes = []
    for source in (text, rest):
        target = tmp_path / "it.mpy"
        code._compile(source, "it", target, "rv32imc", 3)
        assert names_in(target.read_bytes()) > 300
        sizes.append(target.stat().st_size)
    spent = 3 * said.count(".")
    assert sizes[1] - sizes[0] > 390 - spent, "two names, 200 times"


def test_the_parts_are_what_micropython_loads():
    """It loads the source itself: nothing is missing in the one file, and nothing is too early."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    assert compile_lib() is None
    script = "import sys, covey.aio\nfor name in sys.modules:\n    print(name)\n"
    done = subprocess.run(
        [wrapper, "-X", "heapsize=2m", "-c", script],
        env={"MICROPYPATH": f"{ROOT / '.build' / 'lib-x86'}:.frozen"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name for name in done.stdout.split() if name.startswith("covey.")}
    numbers_alone = {"covey.iana", "covey.sentences"}
    assert {program.dotted(file) for file in parts("x86")} == loaded - numbers_alone
