"""Freezes Covey into a MicroPython of your own: its code runs from flash, not from RAM.

    make -C ports/esp32 BOARD=ESP32_GENERIC_C3 FROZEN_MANIFEST=.../firmware/manifest.py

boot.py, main.py and what is a member's own stay in the board's file system. RP2040: see
manifest_rp2.py, which includes this one with other options.

What is frozen is rewritten as for an image (host/covey_host/board/shrink.py; Python 3.11), but
for a main.py that nobody knows: it may call what docs/porting.md names, and what the two that
Covey brings do. What yours does besides is kept by main="FILE". names="FILE" writes what the short
names in a traceback stand for, for `covey words`. constant_time=True: as `covey image` has it by
--constant-time, which has no say over code that is frozen.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

options.defaults(
    port="$(PORT_DIR)/boards/manifest.py",
    small=False,
    main="main.py",
    names=None,
    constant_time=False,
)

include(options.port)

sys.path.insert(0, os.path.abspath("../host"))
from covey_host.board.shrink import shrink  # noqa: E402  it needs no package but Python's own

# Of the kernels of GHASH those that the board can't have, or is not to.
unfit = {"mpy_ghash.py", "mpy_ghash_ct.py"} if options.small else {"mpy_ghash_small.py"}
if options.constant_time:
    unfit |= {"mpy_ghash.py", "mpy_ghash_small.py", "mpy_tables.py"}
    if "mpy_ghash_ct.py" in unfit:
        raise ValueError("ARMv6-M has no GHASH in constant time: its jumps are too short")

kept = {}
for package_path, base in (("covey", "../lib"), ("onboard", ".")):
    for path in sorted(Path(base, package_path).resolve().rglob("*.py")):
        if not path.name.startswith("cpy") and path.name not in unfit:
            kept[path.relative_to(Path(base).resolve()).as_posix()] = path

applications = ("boot.py", "main.py", "sleep.py", options.main)
heard = tuple(Path(name).read_text(encoding="utf-8") for name in applications)
shrunk = shrink(kept, heard, Path("../lib").resolve())
if options.names:
    Path(options.names).write_bytes(shrunk.names_json())

frozen = tempfile.mkdtemp()  # until MicroPython's build has read it
atexit.register(shutil.rmtree, frozen, ignore_errors=True)
for name, text in shrunk.texts.items():
    target = Path(frozen, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
for package_path in ("covey", "onboard"):
    inside = (name.partition("/") for name in shrunk.texts)
    files = [name for folder, _, name in inside if folder == package_path]
    package(package_path, files=files, base_path=frozen, opt=3)
