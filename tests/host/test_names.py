"""How many names an image has: where there is one too many, MicroPython's table of names doubles.

MicroPython keeps each name that it has not got in ROM on the heap, and a list of them in pools, of
which each is twice as large as the last (py/qstr.c): with the 621st name comes one of 4.5 KB. So
the names of all files of an image are counted, as the 32-bit MicroPython has them once it has
loaded them all. Most members load fewer.
"""

import subprocess

import pytest

from covey_host.board import code, known
from covey_host.board.files import FIRMWARE
from test_micropython import interpreter, without

POOLS = (20, 40, 80, 160, 320)
ROOM = sum(POOLS)  # names; the next pool has 640 places
MARGIN = 8
CARRIERS = ("udp", "ip")
ROLES = {
    "plain": (),
    "mac": ("mac",),
    "tesla": ("tesla",),
    "ecdsa": ("ecdsa",),
    "certificates": ("certificates",),
    "rawkeys": ("rawkeys",),
    "ppk": ("ppk",),
    "several": ("several",),
    "several, certificates": ("several", "certificates"),
}
REMEDY = """
{count} names in the image of a member ({role}): with more than {room} each board of these members
pays 4.5 KB for a longer list of names, so {most} are the most here. Look at what is spelt (printed
above): a text of 10 octets or fewer is a name, too; `_X = 1` becomes none as const(1); what only
Covey's files name gets a name of ROM by itself, if host/covey_host/board/shorten.py may have it; a
file costs three, whatever is in it.
"""

# Its own names are ROM's, so that none of the image's is taken for one of its.
LOAD = """
import micropython, sys
class A: pass
for name in ("machine", "network", "neopixel", "esp32"):
    sys.modules[name] = A
micropython.qstr_info(1)
print("--")
for arg in sys.stdin:
    name, arg = arg.split()
    if name == "text":
        with open(arg) as file:
            compile(file.read(), arg, "exec")
    else:
        __import__(arg)
micropython.qstr_info(1)
"""


def names_of(roles, folder):
    """Those that MicroPython keeps on the heap once all of the image is loaded."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    texts = [FIRMWARE / name for name in ("boot.py", "main.py")]
    found = code.select(
        [text.read_text() for text in texts], "x86", (*CARRIERS, *roles), [FIRMWARE]
    )
    orders = [f"text {text}" for text in texts]
    for name, data in code.compile_all(found, "x86")[0].items():
        path = folder / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        dotted = name.removesuffix(".mpy").removesuffix("/__init__").replace("/", ".")
        orders.append(f"load {dotted}")
    (folder / "load.py").write_text(LOAD)
    done = subprocess.run(
        [wrapper, "-X", "heapsize=2m", folder / "load.py"],
        input="\n".join(sorted(orders, key=lambda order: order.count("."))),
        env={"MICROPYPATH": f"{folder / 'lib'}:.frozen"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(pool, done.stdout.split("--\n"))
    return after - before - (known.FOREIGN - known.DESKTOPS)  # a board has more of these in ROM


def pool(said):
    """Of micropython.qstr_info(1)."""
    entries = said.partition("\n")[2].removeprefix("Q(").removesuffix(")\n")
    return set(entries.split(")\nQ("))


@pytest.mark.parametrize("role", ROLES)
def test_the_table_of_names_has_room(role, tmp_path):
    names = names_of(ROLES[role], tmp_path)
    assert len(names) > 400, "all of them are there"
    print(*sorted(names), sep="\n")
    said = REMEDY.format(count=len(names), role=role, room=ROOM, most=ROOM - MARGIN)
    assert len(names) <= ROOM - MARGIN, said


def test_micropython_has_these_pools(tmp_path):
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    text = "import micropython\nclass A: pass\nfor i in range(700):\n    hasattr(A, 'a%d' % i)\n"
    (tmp_path / "fill.py").write_text(text + "    micropython.qstr_info()\n")
    done = subprocess.run([wrapper, tmp_path / "fill.py"], capture_output=True, text=True)
    counts = {}  # of names, by the number of pools: the most
    for line in done.stdout.splitlines():
        pools, names = (int(part.split("=")[1]) for part in line[11:].split(", ")[:2])
        counts[pools] = names
    assert counts[len(POOLS)] == ROOM and len(POOLS) + 1 in counts
