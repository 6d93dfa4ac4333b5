"""Print how large lib/covey is: octets of .mpy for four architectures, heap after import.

    size.py             of each module, what a plain member needs, and what its roles add
    size.py diff [REV]  what has changed since the revision, by default the last tag

A plain member has a pre-shared key, a group with the udp carrier, and a key server that rekeys it
by multicast. What it needs is seen, not reckoned: two of them register at a real key server, talk
to each other, follow a rekey and talk again, on the 32-bit MicroPython.

The .mpy of a module is what it would be as a file of its own in the image of firmware/main.py:
rewritten as a whole program (covey_host.board.shrink), at -O3. In the image itself, what a member
loads at its start is one file (covey_host.board.bundle): a row of its own, for which the aim is.
What such an image leaves behind is compiled for an application that asks for everything. Code of a
native or viper function is machine code, which is why the columns differ. Heap is measured on the
32-bit MicroPython; that machine code is not in it, since the unix port keeps it elsewhere.
"""

import ast
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from build_mpy import BUILD, ROOT

from covey_host.bench.plant import Plant
from covey_host.bench.results import Missing
from covey_host.board.code import SOURCE, Broken, compile_all, select, sources
from covey_host.board.files import FIRMWARE
from covey_host.board.program import STACK, dotted
from covey_host.errors import Problem

ARCHS = {
    "x64": "desktop",
    "xtensawin": "ESP32, S2, S3",
    "rv32imc": "ESP32-C3, C6",
    "armv6m": "RP2040",
}
MOST_CODE = 48 * 1024  # octets of .mpy that a member with a pre-shared key should need, and
MOST_STATE = 24 * 1024  # of heap, registered, with so many SAs and payloads of this length
SAS, PAYLOAD = 4, 512

# What a plain member does without, and when it is loaded. A test looks for files that are neither.
ROLES = {
    "the key server asks for something": ["answering", "requests"],
    "the IKE SA gets new keys (ike_lifetime_s)": ["renewal", "ikerekey"],
    "an IKE message comes in fragments, or leaves so": ["ikefrag"],
    "the key server refuses, in words": ["errornames"],
    "a drop is told by its name (status(), a refusal)": ["dropnames"],
    "a person is told what fails": ["sentences"],
    "covey.json is not taken": ["wrongfields"],
    "a socket or a file can't be had": ["port.mpy_whynot"],
    "the key server may not be silent for long (max_silence)": ["silence"],
    "the key server wants reports (report_interval)": ["report", "reporter"],
    "one rekey comes in several messages, as many are put out": ["portions"],
    "the ip carrier": ["ipcarrier", "ipv4", "port.mpy_esp"],
    "unicast delivery": ["relay"],
    "covey.json names other keys than a pre-shared one": ["otherkeys"],
    "a member with a certificate, or a raw public key": ["digital", "keyfiles"],
    "a member with a certificate": ["certfiles", "certs", "x509"],
    "a member with a raw public key": ["rawkeys"],
    "a member with a PPK": ["ppk"],
    "GCMContext.set_constant_time()": ["port.mpy_ghash_ct", "port.mpy_crypt"],
    "a group with source authentication": ["sources", "proving"],
    "a group whose packets have MACs for their receivers (mac)": ["proofs", "mac"],
    "a group with either kind of MAC (mac, tesla)": ["cmac", "port.mpy_cmac"],
    "packets that are proven later, or not": ["unproven"],
    "a group whose proofs come later (tesla, ecdsa)": ["waiting", "port.mpy_later"],
    "a group whose packets are signed (ecdsa)": [
        "vouched",
        "signers",
        "signatures",
        "verifying",
        "merkle",
        "p256_sign",
        "signing",
    ],
    "a group whose senders are proven by time (tesla)": [
        "timing",
        "timed",
        "tesla",
        "timekeeper",
        "clock",
        "chains",
        "chainhash",
        "ownchain",
        "pebbles",
    ],
    "a board that goes on where it was, after deep sleep": ["resume"],
    "more than one key server": ["several", "hopping"],
    "a key server names another (RFC 5685)": ["redirect"],
    "EtherNet/IP, where the application imports it": ["cip"],
}
_PLAIN = ("udp", "ip")  # as a board has it; the others are measured beside
_ALL_ROLES = (*_PLAIN, "relay", "mac", "tesla", "ecdsa", "certificates", "rawkeys", "ppk")
_ALL_ROLES += ("several",)
_UNROLLED = "covey.port.mpy_ghash"  # the 32-bit MicroPython loads this one; others need
_IN_LOOPS = {"covey.port.mpy_ghash_small", "covey.port.mpy_crypt"}

_STACK = STACK.replace(".py", ".mpy")
_ON_DEMAND = "set_constant_time, suspend"  # what an application says for it, see code.select
_BOARD = "x86"
_SCRIPTS = ROOT / "host" / "covey_host" / "bench" / "scripts"
_HEAP = "1m"


class Module:
    def __init__(self, name):
        self.name = name  # covey/sa.py
        self.lines = 0
        self.octets = dict.fromkeys(ARCHS, 0)
        self.heap = None  # octets that its import keeps
        self.needed = set()  # the architectures on which a plain member loads it

    @property
    def is_loaded(self):
        return bool(self.needed)

    @property
    def dotted(self):
        return dotted(self.name)


def measure(root, folder):
    """{name: Module} of the source below root. What our scripts need goes to folder, for x86."""
    modules = {}
    for source in sources(root):
        module = Module(str(source.relative_to(root)))
        module.lines = len(source.read_text().splitlines())
        modules[module.name] = module
    board = board_texts()
    everything = asks_for(modules.values())
    scripts = [path.read_text() for path in sorted(_SCRIPTS.glob("*.py"))]
    for arch in ARCHS:
        octets = compiled(everything, arch, root) | compiled(board, arch, root, _PLAIN)
        for module in modules.values():
            module.octets[arch] = len(octets.get(module.name.replace(".py", ".mpy"), b""))
    write(compiled(everything + scripts, _BOARD, root), folder)
    return modules


def write(files, folder):
    for name, data in files.items():
        path = folder / _BOARD / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def compiled(applications, arch, root, roles=_ALL_ROLES, in_one=False):
    """{covey/sa.mpy: octets} of what these texts can come to load."""
    found = select(applications, arch, roles, [FIRMWARE], root)
    return compile_all(found, arch, in_one=in_one)[0]


def image(modules, arch):
    """{covey/stack.mpy: octets} of all that a member loads from its image."""
    loaded = {
        module.name.replace(".py", ".mpy") for module in modules.values() if module.is_loaded
    }
    made = compiled(board_texts(), arch, SOURCE, _PLAIN, in_one=True)
    return {name: data for name, data in made.items() if name in loaded | {_STACK}}


def board_texts():
    return [(FIRMWARE / name).read_text() for name in ("boot.py", "main.py")]


def asks_for(modules):
    """An application that may come to load all of these."""
    return ["".join(f"import {module.dotted}\n" for module in modules) + _ON_DEMAND]


# What a member loads, and heap: on the 32-bit MicroPython


def command(folder, script, *words):
    wrapper = BUILD / "micropython" / _BOARD / "micropython"
    if not wrapper.exists():
        raise Missing("there is no 32-bit MicroPython")
    path = f"MICROPYPATH={folder / _BOARD}:{_SCRIPTS}:.frozen"
    return ["env", path, wrapper, "-X", f"heapsize={_HEAP}", _SCRIPTS / script, *words]


def micropython(folder, script, *words, given=None):
    """What a script prints there. Missing where there is none, or it fails. given: its stdin."""
    done = subprocess.run(
        command(folder, script, *words), input=json.dumps(given), capture_output=True, text=True
    )
    if done.returncode:
        raise Missing(f"{script} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def loaded_by(plant, folder):
    """The modules that a plain member has loaded once it has followed a rekey, in that order."""
    paths = [plant.member(name, "--sender") for name in ("saw", "drill")]
    child = plant.start(command(folder, "loaded.py", *paths))
    plant.wait_for(child.stdout, "ready")
    plant.rekey()
    return json.loads(plant.wait_for(child.stdout, "covey.aio"))


def note_loaded(modules, loaded):
    """Which kernel of AES-GCM is among them depends on the architecture: see fits()."""
    for arch in ARCHS:
        names = set(loaded)
        if not modules["covey/port/mpy_ghash.py"].octets[arch]:
            names = names - {_UNROLLED} | _IN_LOOPS
        for module in modules.values():
            if module.dotted in names:
                module.needed.add(arch)


def fill_heap(modules, root, folder, loaded):
    """Note what each module keeps on the heap: those of a member first."""
    by_name = {module.dotted: module for module in modules.values()}
    taken = micropython(folder, "imports.py", given=in_order(by_name, root, loaded))
    for name, octets in taken.items():
        by_name[name].heap = octets


def heap_of_image(modules, folder):
    """What a member's code keeps on the heap, loaded from an image."""
    files = image(modules, _BOARD)
    write(files, folder / "image")
    first = ["covey", dotted(STACK)]  # an import names the others
    names = [dotted(name.replace(".mpy", ".py")) for name in files]
    names = first + [name for name in names if name not in first]
    return sum(micropython(folder / "image", "imports.py", given=names).values())


def in_order(by_name, root, loaded):
    """The names, each behind those that it imports as far as there is no circle; those that no
    member loads come last, and parts of ports that are not loaded there not at all.
    """
    seen, order = set(), []

    def visit(name):
        is_other_port = name.startswith("covey.port.") and name not in loaded
        if name in seen or name not in by_name or is_other_port:
            return
        seen.add(name)
        for inner in imports_of(root / by_name[name].name):
            visit(inner)
        order.append(name)

    for name in ["covey", "covey.port", *sorted(loaded), *sorted(by_name)]:
        visit(name)
    order.remove("covey.port")
    return ["covey", "covey.port", *order[1:]]


def imports_of(path):
    """Names of modules, and of what may be modules, that a file imports when it is loaded."""
    for node in ast.parse(path.read_text()).body:
        for inner in ast.walk(node) if isinstance(node, ast.If) else [node]:
            if isinstance(inner, ast.Import):
                yield from (alias.name for alias in inner.names)
            elif isinstance(inner, ast.ImportFrom):
                yield inner.module
                yield from (f"{inner.module}.{alias.name}" for alias in inner.names)


def state(plant, folder):
    """Octets of heap of a registered member with SAS SAs and payloads of PAYLOAD octets."""
    path = plant.member("valve", "--sender")
    fields = json.loads(path.read_text())
    fields["limits"] = {"sas": SAS, "payload": PAYLOAD}
    path.write_text(json.dumps(fields))
    return micropython(folder, "state.py", str(path), str(SAS))[1]


# What is printed


def show(modules, images, heap, notes):
    width = max(max(len(name) for name in modules), max(map(len, ROLES)))
    print(f"{'':{width}}   lines  " + "  ".join(f"{arch:>9}" for arch in ARCHS) + "       heap")
    for module in modules.values():
        row(module.name, width, module.is_loaded, module.lines, module.octets, module.heap)
    sum_row("all", width, modules.values(), lambda module, arch: True)
    member = [module for module in modules.values() if module.is_loaded]
    if member:
        sum_row("a member", width, member, lambda module, arch: arch in module.needed, "*")
        lines = sum(module.lines for module in member)
        row("as boards get it", width, True, lines, images, heap)
        print("\nwhat is loaded besides, when")
        for role, names in ROLES.items():
            some = [modules[f"covey/{name.replace('.', '/')}.py"] for name in names]
            sum_row(role, width, some, lambda module, arch: arch not in module.needed)
    print("\n.mpy octets at -O3; " + ", ".join(f"{arch}: {what}" for arch, what in ARCHS.items()))
    print("heap: octets that an import keeps on 32-bit MicroPython, machine code not counted")
    print("*: loaded by a member that has registered, sent, received and followed a rekey")
    print("as boards get it: what is loaded at the start is one file, stack.mpy")
    for note in notes:
        print(note)


def sum_row(name, width, modules, counts, star=""):
    octets = {
        arch: sum(each.octets[arch] for each in modules if counts(each, arch)) for arch in ARCHS
    }
    heaps = [each.heap for each in modules if each.heap is not None]
    lines = sum(each.lines for each in modules)
    row(name, width, bool(star), lines, octets, sum(heaps) if heaps else None)


def row(name, width, is_loaded, lines, octets, heap):
    cells = "  ".join(f"{octets[arch]:9}" for arch in ARCHS)
    shown = "" if heap is None else heap
    print(f"{name:{width}} {'*' if is_loaded else ' '} {lines:5}  {cells}  {shown:>9}")


def against(what, octets, most):
    return f"{what}: {octets / 1024:.1f} KB, aim {most // 1024} KB ({octets / most:.2f})"


def size():
    images, heap, notes = {}, None, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modules = measure(SOURCE, folder)
        try:
            with Plant() as plant:
                loaded = loaded_by(plant, folder)
                registered = state(plant, folder)
            note_loaded(modules, loaded)
            fill_heap(modules, SOURCE, folder, loaded)
            images = {arch: sum(map(len, image(modules, arch).values())) for arch in ARCHS}
            heap = heap_of_image(modules, folder)
            for arch, octets in images.items():
                notes.append(against(f"code of a member, .mpy for {arch}", octets, MOST_CODE))
            what = f"heap of a registered member, {SAS} SAs, payloads up to {PAYLOAD} octets"
            notes.append(against(what, registered, MOST_STATE))
        except (Missing, Problem) as error:
            notes.append(f"Left out: {error}.")
    show(modules, images, heap, ["", *notes])


# Against a revision


def diff(revision):
    revision = revision or last_tag()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(revision, folder / "source")
        before = measure(folder / "source" / "lib", folder / "before")
        after = measure(SOURCE, folder / "after")
    show_diff(revision, before, after)


def show_diff(revision, before, after):
    names = sorted({*before, *after})
    width = max(map(len, names))
    print(f"{'':{width}}  lines  " + "  ".join(f"{arch:>16}" for arch in ARCHS))
    total = Module("all"), Module("all")
    for name in names:
        old, new = before.get(name, Module(name)), after.get(name, Module(name))
        for sum_, each in zip(total, (old, new), strict=True):
            sum_.lines += each.lines
            for arch in ARCHS:
                sum_.octets[arch] += each.octets[arch]
        if (old.lines, old.octets) != (new.lines, new.octets):
            diff_row(old, new, width)
    diff_row(*total, width)
    print(f"\n.mpy octets at -O3 that lib/covey has, and more or fewer than at {revision}")


def diff_row(old, new, width):
    cells = (f"{new.octets[arch]:8} {new.octets[arch] - old.octets[arch]:+7}" for arch in ARCHS)
    print(f"{new.name:{width}}  {new.lines - old.lines:+5}  " + "  ".join(cells))


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True)
    return done.stdout if done.returncode == 0 else None


def last_tag():
    tag = git("describe", "--tags", "--abbrev=0")
    if tag is None:
        sys.exit("size: there is no tag yet: name a revision, as in `make size-diff REV=main`.")
    return tag.decode().strip()


def unpack(revision, folder):
    """lib/covey as it was."""
    archive = git("archive", revision, "lib/covey")
    if archive is None:
        sys.exit(f"size: {revision} is no revision that has lib/covey: see `git log`.")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)


def main():
    try:
        if sys.argv[1:2] == ["diff"]:
            diff(sys.argv[2] if len(sys.argv) > 2 else None)
        else:
            size()
    except Broken as error:
        sys.exit(f"size: {error}")


if __name__ == "__main__":
    main()
