"""Print how large lib/covey is: octets of .mpy for four architectures, heap after import.

    size.py             of each module, and what a member with a pre-shared key needs
    size.py diff [REV]  what has changed since the revision, by default the last tag

The .mpy are made as boards get them, at -O1 (without asserts). Code of a native or viper function
is machine code, which is why the columns differ. Heap is measured on the 32-bit MicroPython; that
machine code is not in it, since the unix port keeps it elsewhere.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from build_mpy import BUILD, ROOT

from covey_host.board.code import SOURCE, Broken, compile_file, fits, sources
from covey_host.bench.plant import Plant
from covey_host.bench.results import Missing
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

_BOARD = "x86"
_SCRIPTS = ROOT / "host" / "covey_host" / "bench" / "scripts"
_HEAP = "1m"


class Module:
    def __init__(self, name):
        self.name = name  # covey/sa.py
        self.lines = 0
        self.octets = dict.fromkeys(ARCHS, 0)
        self.heap = None  # octets that its import keeps
        self.is_loaded = False  # by `import covey.aio`

    @property
    def dotted(self):
        return self.name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def measure(root, folder):
    """{name: Module} of the source below root; .mpy go to folder."""
    modules = {}
    for source in sources(root):
        module = Module(str(source.relative_to(root)))
        module.lines = len(source.read_text().splitlines())
        for arch in [*ARCHS, _BOARD]:
            if fits(source, arch):
                target = (folder / arch / module.name).with_suffix(".mpy")
                compile_file(source, target, arch, optimise=1, root=root)
                if arch in ARCHS:
                    module.octets[arch] = target.stat().st_size
        modules[module.name] = module
    return modules


# Heap, on the 32-bit MicroPython


def micropython(folder, script, *words):
    """What a script prints there. Missing where there is none, or it fails."""
    wrapper = BUILD / "micropython" / _BOARD / "micropython"
    if not wrapper.exists():
        raise Missing("there is no 32-bit MicroPython")
    done = subprocess.run(
        [wrapper, "-X", f"heapsize={_HEAP}", _SCRIPTS / script, *words],
        env={**os.environ, "MICROPYPATH": f"{folder / _BOARD}:{_SCRIPTS}:.frozen"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Missing(f"{script} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def fill_heap(modules, root, folder):
    """Note which modules a member loads, and what each of all keeps on the heap."""
    loaded = micropython(folder, "imports.py")
    for module in modules.values():
        # Which of AES-GCM's kernels is loaded depends on the architecture: see fits().
        fits_board = (folder / _BOARD / module.name).with_suffix(".mpy").exists()
        module.is_loaded = module.dotted in loaded or not fits_board
    by_name = {module.dotted: module for module in modules.values()}
    taken = micropython(folder, "imports.py", *in_order(by_name, root, loaded))
    for dotted, octets in taken.items():
        by_name[dotted].heap = octets


def in_order(by_name, root, loaded):
    """The names, each behind those that it imports as far as there is no circle; those that no
    member loads come last, and parts of ports that are not loaded there not at all.
    """
    seen, order = set(), []

    def visit(dotted):
        is_other_port = dotted.startswith("covey.port.") and dotted not in loaded
        if dotted in seen or dotted not in by_name or is_other_port:
            return
        seen.add(dotted)
        for name in imports_of(root / by_name[dotted].name):
            visit(name)
        order.append(dotted)

    for dotted in ["covey", "covey.port", *sorted(loaded), *sorted(by_name)]:
        visit(dotted)
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


def state(folder):
    """Octets of heap of a registered member with SAS SAs and payloads of PAYLOAD octets."""
    with Plant() as plant:
        path = plant.member("valve", "--sender")
        fields = json.loads(path.read_text())
        fields["limits"] = {"sas": SAS, "payload": PAYLOAD}
        path.write_text(json.dumps(fields))
        return micropython(folder, "state.py", str(path), str(SAS))[1]


# What is printed


def show(modules, notes):
    width = max(len(name) for name in modules)
    print(f"{'':{width}}   lines  " + "  ".join(f"{arch:>9}" for arch in ARCHS) + "       heap")
    for module in modules.values():
        row(module.name, width, module.is_loaded, module.lines, module.octets, module.heap)
    member = [module for module in modules.values() if module.is_loaded]
    for name, some in (("all", list(modules.values())), ("a member", member)):
        if some:
            octets = {arch: sum(module.octets[arch] for module in some) for arch in ARCHS}
            heap = sum(module.heap or 0 for module in some) if member else None
            row(name, width, some is member, sum(module.lines for module in some), octets, heap)
    print("\n.mpy octets at -O1; " + ", ".join(f"{arch}: {what}" for arch, what in ARCHS.items()))
    print("heap: octets that an import keeps on 32-bit MicroPython, machine code not counted")
    print("*: loaded by `import covey.aio`: a member with a pre-shared key")
    for note in notes:
        print(note)


def row(name, width, is_loaded, lines, octets, heap):
    cells = "  ".join(f"{octets[arch]:9}" for arch in ARCHS)
    shown = "" if heap is None else heap
    print(f"{name:{width}} {'*' if is_loaded else ' '} {lines:5}  {cells}  {shown:>9}")


def against(what, octets, most):
    return f"{what}: {octets / 1024:.1f} KB, aim {most // 1024} KB ({octets / most:.2f})"


def size():
    notes = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modules = measure(SOURCE, folder)
        try:
            fill_heap(modules, SOURCE, folder)
            for arch in ARCHS:
                total = sum(each.octets[arch] for each in modules.values() if each.is_loaded)
                notes.append(against(f"code of a member, .mpy for {arch}", total, MOST_CODE))
            what = f"heap of a registered member, {SAS} SAs, payloads up to {PAYLOAD} octets"
            notes.append(against(what, state(folder), MOST_STATE))
        except (Missing, Problem) as error:
            notes.append(f"Left out: {error}.")
    show(modules, ["", *notes])


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
    print(f"\n.mpy octets at -O1 that lib/covey has, and more or fewer than at {revision}")


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
