"""host/covey_host/board/shrink.py: what boards get means the same as the source, and is shorter.

Each rule on small packages of its own, which run on CPython before and after.
"""

import ast
import builtins
import json
import keyword
import subprocess

import pytest

from covey_host.board import code, known, shorten, shrink
from markdown import ROOT
from processes import run
from small_packages import rewritten, says_the_same
from test_micropython import interpreter, without

LIB = ROOT / "lib"


@pytest.fixture
def shrunk(tmp_path):
    """A function: a package covey of files by name, as a board with this main.py gets it; but that
    each file stays one, which test_bundle.py is about.
    """
    return lambda main="", **texts: rewritten(tmp_path, main, texts, in_one=False)


@pytest.fixture
def same(shrunk, tmp_path):
    """A function: what main.py prints with the source, and with what a board gets, is the same;
    the latter.
    """

    def of(main, **texts):
        made = shrunk(main, **texts)
        says_the_same(tmp_path, main, made)
        return made

    return of


# Shaking


def test_what_nobody_names_is_left_out(same):
    made = same(
        "from covey import it\nprint(it.K().used())",
        it="import sys\nfrom covey.other import f, g\nA = 1\nB = (2, 3)\n\n"
        "class Dead:\n    pass\n\ndef dead():\n    return dead2()\n\n"
        "def dead2():\n    return A\n\n"
        "class K:\n    '''Words.'''\n    never = 3\n\n    def __init__(self):\n"
        "        self.unread = 5\n        self.read = 6\n\n"
        "    def used(self):\n        return self.read, B, f()\n\n"
        "    def unused(self):\n        return self.unused()\n",
        other="def f():\n    return 1\n\ndef g():\n    return 2\n",
    )
    it = made.texts["covey/it.py"]
    assert len(ast.parse(it).body) == 4, "two imports, B, K"
    assert len(ast.parse(it).body[3].body) == 2, "__init__ and used"
    assert "5" not in it and "Words" not in it
    assert len(ast.parse(made.texts["covey/other.py"]).body) == 1


def test_what_is_done_when_a_file_is_loaded_is_done(same):
    made = same("import covey.it", it="A = print('loaded')\nB = [n for n in (1, 2)]\n")
    assert "print" in made.texts["covey/it.py"]
    say = "def say(what):\n    print('said')\n    return what\n\n"
    for what in (
        "@say\ndef f():\n    pass\n",
        "def g(x=say(1)):\n    pass\n",
        "class K:\n    x = say(1)\n",
        "class K:\n    def y(self, n=say(1)):\n        pass\n",
    ):
        same("import covey.it", it=say + what)


def test_a_text_is_a_name_where_getattr_may_get_it(same):
    texts = {
        "it": "class K:\n    left = 1\n    right = 2\n\ndef f(name):\n"
        "    return getattr(K, name)\n\ndef both():\n    return f('left'), f('right')\n"
    }
    made = same("from covey.it import both\nprint(both())", **texts)
    assert "left" in made.texts["covey/it.py"] and "right" in made.texts["covey/it.py"]


def test_what_is_handed_on_is_there(same):
    same(
        "from covey.last import seven\nprint(seven())",
        first="def one():\n    return 7\n\ndef two():\n    return 8\n",
        middle="from covey.first import one\nfrom covey import first as all_of_it\n",
        last="from covey.middle import one, all_of_it\n\ndef seven():\n"
        "    return one(), all_of_it.two()\n",
    )


def test_what_is_imported_by_another_name_is_there(same):
    same(
        "from covey.last import seven\nprint(seven())",
        first="def one():\n    return 7\n\ndef two():\n    return one()\n",
        last="from covey.first import two as other\n\ndef seven():\n    return other()\n",
    )


def test_what_names_only_itself_goes_and_its_imports_with_it(same):
    """`close` closes, and nothing else does: who imports it and hands it on must not, either."""
    made = same(
        "from covey.last import seven\nprint(seven())",
        first="def seven():\n    return 7\n\ndef close(it):\n    it.close()\n",
        middle="from covey.first import close, seven\n",
        last="from covey.middle import close, seven\n",
    )
    assert not any("close" in text for text in made.texts.values())


def test_globals_are_all_of_them(same):
    main = "from covey.it import names\nprint(names())"
    same(main, it="DROP_A = -1\nDROP_B = -2\n\ndef names():\n    return sorted(globals())[:2]\n")


# Short names


def test_own_names_are_short_and_the_same_everywhere(same):
    made = same(
        "from covey.it import entry\nprint(entry(3))",
        it="from covey.other import Counter\nimport covey.other as rest\n\n_limit = 5\n\n"
        "def entry(amount):\n    global _limit\n    _limit += amount\n"
        "    counter = Counter(_limit, double=True)\n"
        "    return counter.total, rest.plain(counter)\n",
        other="class Counter:\n    def __init__(self, start_value, double=False):\n"
        "        self._value = start_value * (2 if double else 1)\n\n"
        "    @property\n    def total(self):\n        return self._value\n\n"
        "def plain(counter):\n    counter._value += 1\n    return counter.total\n",
    )
    for name in ("Counter", "_limit", "_value", "total", "plain", "double", "start_value"):
        assert not any(name in text for text in made.texts.values()), name
    assert "entry" in made.texts["covey/it.py"], "main.py says it"
    chosen = [{old: new for new, old in some.items()} for some in made.names.values()]
    for name in ("Counter", "total", "double", "plain"):
        assert len({some[name] for some in chosen if name in some}) == 1, name
    assert all(new in known.SHORTEST for some in chosen for new in some.values())


def test_names_of_micropython_and_of_what_is_imported_stay(same):
    made = same(
        "from covey.it import f\nprint(f(b'x'))",
        it="import hashlib\nfrom json import dumps as in_json\n\nclass Sum:\n"
        "    def __init__(self):\n        self.inner = hashlib.sha256()\n\n"
        "    def update(self, octets):\n        self.inner.update(octets)\n\n"
        "    def digest(self):\n        return self.inner.digest()\n\n"
        "def f(octets):\n    s = Sum()\n    s.update(octets)\n"
        "    return in_json(s.digest().hex())\n",
    )
    text = made.texts["covey/it.py"]
    assert {"update", "digest", "hexdigest"} & set(ast.unparse(ast.parse(text)).split()) == set()
    for name in ("update", "digest", "hashlib", "dumps", "in_json"):
        assert name in text
    assert "inner" not in text


def test_no_name_of_ours_becomes_a_cast_of_viper():
    casts = {"bool", "int", "uint", "object", "ptr", "ptr8", "ptr16", "ptr32"}
    assert not casts.intersection(shorten._POOL)


def test_what_is_asked_of_an_object_that_is_not_ours_stays(same):
    """A local name may be anybody's attribute."""
    made = same(
        "from covey.it import f\nclass Thing:\n    sized = 4\nprint(f(Thing()))",
        it="def f(thing):\n    sized = thing.sized\n    return sized\n",
    )
    assert ".sized" in made.texts["covey/it.py"]


def test_a_global_and_an_attribute_may_share_a_name(same, monkeypatch):
    """What a class says itself is in between: there one would hide the other."""
    monkeypatch.setattr(shorten, "_POOL", ("abs", "any"))
    monkeypatch.setattr(shorten, "_FOR_GLOBALS", ())
    made = same(
        "from covey.it import f\nprint(f())",
        it="step_of_it = 3\n\ndef plus(n):\n    return n + step_of_it\n\n"
        "class Thing:\n    size_of_it = step_of_it\n    twice = plus(size_of_it)\n\n"
        "    def __init__(self, added=step_of_it):\n        self.added_so_far = added\n\n"
        "    def sum_of_it(self):\n"
        "        return plus(self.added_so_far) + self.size_of_it + self.twice\n\n"
        "def f():\n    thing = Thing()\n    added_so_far = plus(thing.added_so_far)\n"
        "    return thing.sum_of_it(), added_so_far\n",
    )
    assert any("|" in old for old in made.names["it"].values())
    assert made.texts["covey/it.py"].count("abs") > 2


def test_what_is_set_from_outside_meets_all_that_an_object_may_have(same, monkeypatch):
    """Where no class has all that is set of one object, nobody knows what else it has."""
    monkeypatch.setattr(shorten, "_POOL", ("abs", "any", "pow", "chr"))
    texts = {
        "thing": "class Thing:\n    def __init__(self):\n        self._mine = 1\n\n"
        "    def mine_of_it(self):\n        return self._mine\n",
        "other": "class Other:\n    def __init__(self):\n        self.first_one = 2\n",
    }
    for file in ("thing", "other"):
        kind = file.capitalize()
        same(
            "from covey.user import f\nprint(f())",
            user=f"from covey.{file} import {kind}\n\ndef f():\n    t = {kind}()\n"
            "    t.first_one = 5\n    t.second_one = 6\n"
            "    return t.first_one, t.second_one, getattr(t, '_mine', 0)\n",
            **texts,
        )


def test_what_stays_behind_is_ours_too(shrunk, tmp_path):
    (tmp_path / "covey").mkdir()
    (tmp_path / "covey" / "behind.py").write_text(
        "class Behind:\n    def its_own(self):\n        pass\n"
    )
    made = shrunk(
        "from covey.it import f",
        it="def f(thing):\n    return thing.its_own, thing.not_ours\n",
    )
    assert "its_own" not in made.texts["covey/it.py"] and "not_ours" in made.texts["covey/it.py"]


def test_two_names_of_one_object_stay_two(same):
    """By inheritance, from outside, and by `import *`."""
    same(
        "from covey.low import f\nprint(f())",
        high="class High:\n    def __init__(self):\n        self._high = 1\n\n"
        "    def both(self):\n        return self._high\n",
        low="from covey.high import High\n\nclass Low(High):\n    def __init__(self):\n"
        "        super().__init__()\n        self._low = 2\n\n    def f(self):\n"
        "        return self.both(), self._low\n\ndef f():\n    return Low().f()\n",
    )
    same(
        "from covey.user import f\nprint(f())",
        thing="class Thing:\n    def __init__(self):\n        self._mine = 1\n\n"
        "    def mine(self):\n        return self._mine\n",
        user="from covey.thing import Thing\n\ndef f():\n    t = Thing()\n    t.theirs = 2\n"
        "    return t.mine(), t.theirs\n",
    )
    same(  # a class that has the name, and is not of this object
        "from covey.user import f\nprint(f())",
        thing="class Thing:\n    def __init__(self):\n        self._mine = 1\n\n"
        "    def mine(self):\n        return self._mine\n",
        user="from covey.thing import Thing\n\nclass Other:\n    def __init__(self):\n"
        "        self.theirs = 3\n\ndef f():\n    t = Thing()\n    t.theirs = 2\n"
        "    return t.mine(), t.theirs, Other().theirs\n",
    )
    same(
        "from covey.every import a\nprint(a())",
        every="from covey.part import *\n\ndef own():\n    return 1\n\ndef a():\n"
        "    return own(), part_of_it()\n",
        part="def part_of_it():\n    return inner_part()\n\ndef inner_part():\n    return 2\n",
    )


def test_arguments_keep_apart_from_what_they_might_hide(same):
    made = same(
        "from covey.it import f\nprint(f(3, [5, 6], 7, 8))",
        it="def f(amount, items, other, free):\n"
        "    inner = lambda other: other + amount\n"
        "    found = [items for items in items]\n"
        "    def deep(amount):\n        return amount + other\n"
        "    try:\n        raise ValueError(amount)\n    except ValueError as e:\n"
        "        return inner(1), found, deep(2), [free + n for n in items], str(e), other\n",
    )
    arguments = ast.parse(made.texts["covey/it.py"]).body[0].args.args
    assert [arg.arg for arg in arguments] == ["amount", "items", "other", "_"], "bound again"


def test_keywords_and_defaults(same):
    same(
        "from covey.it import f\nprint(f(), f(wide=4))",
        it="width = 2\n\ndef f(wide=width, *, tall=3):\n    return g(1, tall=tall, wide=wide)\n\n"
        "def g(first, wide, tall):\n    return first, wide, tall\n",
    )


def test_what_an_application_may_call_stays(shrunk):
    texts = {
        "aio": "class Joined:\n    def __init__(self, source, kept=None):\n"
        "        self.config = 1\n"
        "        self._mine = source\n        self._other = kept\n\n    def send(self, payload):\n"
        "        return payload, self._mine, self._other\n",
    }
    made = shrunk("import covey.aio", **texts)
    for name in ("Joined", "source", "kept", "config", "send", "payload"):
        assert name in made.texts["covey/aio.py"], name
    assert "_mine" not in made.texts["covey/aio.py"]


def test_relative_imports(same):
    made = same(
        "from covey.port.low import f\nprint(f())",
        port____init__="",
        port__low="from covey.port.near import a\nfrom covey.far import b\nfrom covey import far\n"
        "from covey import port\n\ndef f():\n    return a(), b(), far.b(), port.__name__\n",
        port__near="def a():\n    return 1\n",
        far="def b():\n    return 2\n",
    )
    said = made.texts["covey/port/low.py"]
    assert "from .near import" in said and "from ..far import" in said
    assert "from .. import far" in said and "from .. import port" in said


def test_the_same_files_give_the_same_text():
    """Whatever the order of sets: each process has its own."""
    script = (
        "import hashlib\nfrom covey_host.board import code\n"
        "found = code.select(['import covey.aio'], 'rv32imc', ('udp', 'ip'), ())\n"
        "made = code.rewritten(found)\n"
        "print(hashlib.sha256(repr((made.texts, made.names)).encode()).hexdigest())\n"
    )
    said = set()
    for seed in "12":
        done = run("-c", script, env={"PYTHONHASHSEED": seed}, timeout=60)
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1


# What it knows of MicroPython


def octets_of(names, tmp_path):
    """How many octets each costs in the table of a .mpy file, as mpy-cross writes it."""
    sizes = []
    for name in (None, *names):
        text = f"x.{name}\n" if name else "x\n"
        code._compile(text, "it", tmp_path / "it.mpy", "x86", 3)
        sizes.append((tmp_path / "it.mpy").stat().st_size)
    attribute = 2  # octets of its bytecode
    return [size - sizes[0] - attribute for size in sizes[1:]]


def test_names_of_rom_cost_what_it_says(tmp_path):
    few = (known.SHORTEST[0], known.SHORTEST[-1], known.SHORT[0], known.SHORT[-1], "aa", "a")
    assert octets_of(few, tmp_path) == [1, 1, 2, 2, 4, 3]
    names = known.SHORTEST + known.SHORT
    text = "x\n" + "".join(f"x.{name}\n" for name in names)
    code._compile(text, "it", tmp_path / "it.mpy", "x86", 3)
    data = (tmp_path / "it.mpy").read_bytes()
    table = len(known.SHORTEST) + 2 * len(known.SHORT)
    empty = code._compile("x\n", "it", tmp_path / "empty.mpy", "x86", 3)
    assert empty is None
    within = len(data) - (tmp_path / "empty.mpy").stat().st_size - table
    assert within < 7 * len(names), "bytecode alone: none of them is spelt"
    assert not any(name.encode() in data for name in names if len(name) > 3)
    assert len(set(names)) == len(names) and not any(map(keyword.iskeyword, names))


LOOK = """
import asyncio, io, json, select, socket, sys
seen = set()
for name in sys.argv[1:]:
    try:
        module = __import__(name)
    except ImportError:
        continue
    for part in name.split(".")[1:]:
        module = getattr(module, part)
    for name in dir(module):
        seen.add(name)
        if isinstance(getattr(module, name), type):
            seen.update(dir(getattr(module, name)))
def generator():
    yield
async def main():
    seen.update(dir(asyncio.create_task(other())))
async def other():
    seen.update(dir(asyncio.get_event_loop()))
asyncio.run(main())
from cryptolib import aes
from hashlib import sha256
for some in ("", b"", [], {}, (), set(), 1, generator(), generator, bytearray(), memoryview(b""),
        range(3), Exception(), OSError(3), select.poll(), socket.socket(), sha256(),
        aes(bytes(16), 1), asyncio.Event(), asyncio.Lock(), io.BytesIO()):
    seen.update(dir(some))
print(json.dumps(list(seen)))
"""
MODULES = "asyncio asyncio.core asyncio.event asyncio.funcs asyncio.lock asyncio.stream binascii"
MODULES += (
    " builtins cryptolib errno gc hashlib io json micropython os select socket struct sys time"
)


def test_all_that_micropython_has_is_known(tmp_path):
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    (tmp_path / "look.py").write_text(LOOK)
    done = subprocess.run(
        [wrapper, tmp_path / "look.py", *MODULES.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seen = {name for name in json.loads(done.stdout) if name[:2] != "__"}
    assert len(seen) > 300
    assert seen - known.FOREIGN - set(known.SHORTEST) - set(known.SHORT) == set()


# The whole of it


def image_of_main():
    texts = [(ROOT / "firmware" / name).read_text() for name in ("boot.py", "main.py")]
    return code.select(texts, "x86", ("udp", "ip"), [ROOT / "firmware"])


def test_getattr_gets_what_this_file_says():
    """Texts count as names in the files that call it; so no text may come from another."""
    asks = {}
    for path in code.sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "getattr",
                "setattr",
                "hasattr",
                "delattr",
            ):
                asks.setdefault(path.stem, set()).add(ast.unparse(node.args[1]))
    assert asks == {
        "loop": {"'core'"},
        "mpy": {"name"},  # of a module, which keeps it
        "ike": {"'open_job'"},
        "mpy_socket": {"'IP_ADD_MEMBERSHIP'"},
    }


def test_each_short_name_stands_for_one():
    made = code.rewritten(image_of_main(), in_one=False)
    assert sum(map(len, made.names.values())) > 1500
    for file, text in made.texts.items():
        mine = made.names.get(made.short_name(file), {})
        assert len(set(mine.values())) == len(mine), file
        olds = [old for some in mine.values() for old in some.split("|")]
        assert len(set(olds)) == len(olds), file
        known_here = {old for old in olds if not hasattr(builtins, old)}
        words = set(code_words(text))
        assert not words & known_here - set(mine), f"{file}: spelt here, and short elsewhere"


def code_words(text):
    for node in ast.walk(ast.parse(text)):
        for field in ("id", "attr", "arg", "name"):
            if isinstance(getattr(node, field, None), str):
                yield getattr(node, field)


def test_all_names_of_an_image_keep_it_small():
    """A rule that no longer finds anything is found here: what nobody outside knows is short."""
    made = code.rewritten(image_of_main())
    spelt = set().union(*map(code_words, made.texts.values()))
    assert not {"_follow_groups", "KeyWork", "parse_gsa_job", "_is_closed"} & spelt
    assert {"join", "Joined", "on_event", "membership", "ConfigError"} <= spelt
    assert not any("emit_gsa" in text for text in made.texts.values())
    names = [name for some in made.names.values() for name in some]
    in_rom = {*known.SHORTEST, *known.SHORT, *known.FOREIGN}
    assert sum(name in in_rom for name in names) > 0.78 * len(names)


def test_a_traceback_in_words():
    names = {"unicast": {"abs": "_take_response", "any": "settings"}}
    said = (
        "Traceback (most recent call last):\n"
        '  File "main.py", line 9, in member\n'
        '  File "unicast", line 1, in abs\n'
        "AttributeError: 'NoneType' object has no attribute 'any'\n"
        "covey: failed 'any'\n"
    )
    wanted = said.replace("in abs", "in _take_response").replace(
        "'any'\ncovey", "'settings'\ncovey"
    )
    assert "\n".join(shrink.in_words(said.splitlines(), names)) + "\n" == wanted


def test_a_traceback_from_the_body_of_a_class():
    """Which is where a board's memory ends first: as files are loaded."""
    names = {
        "stack": {"float": "Servers", "inf": "Value|_end", "abs": "join"},
        "in stack": {"inf": "registration._end", "abs": "aio.join"},
    }
    said = (
        '  File "main.py", line 9, in <module>\n'
        '  File "stack", line 1, in <module>\n'
        '  File "stack", line 1, in %s\n'
        "MemoryError: memory allocation failed, allocating 472 bytes\n"
    )

    def meant(word, said=said):
        return list(shrink.in_words((said % word).splitlines(), names))[2].split(" in ")[1]

    assert meant("float") == "Servers" and meant("inf") == "Value|_end"
    behind = said.replace('"stack", line 1, in <module>', '"stack", line 1, in abs')
    assert meant("inf", behind) == "registration._end" and meant("float", behind) == "Servers"


def test_words_of_a_file(tmp_path):
    (tmp_path / "it.names.json").write_text('{"unicast": {"abs": "_take_response"}}')
    (tmp_path / "said").write_text('  File "unicast", line 1, in abs\n')
    done = run(
        "-m", "covey_host", "words", "--names", tmp_path / "it.names.json", tmp_path / "said"
    )
    assert (done.returncode, done.stdout) == (0, '  File "unicast", line 1, in _take_response\n')
    done = run("-m", "covey_host", "words", "--names", tmp_path / "said")
    assert done.returncode == 2 and "holds no names: give the .names.json" in done.stderr
    done = run("-m", "covey_host", "words", "--names", tmp_path / "none")
    assert done.returncode == 2 and "can't be read" in done.stderr
