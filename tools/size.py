"""Print how large lib/covey is: lines of source, octets of .mpy for four architectures.

The .mpy are made as boards get them, at -O1 (without asserts). Code of a native or viper function
is machine code, which is why the columns differ.
"""

import sys
import tempfile
from pathlib import Path

from build_mpy import SOURCE, Broken, compile_file, fits, sources

ARCHS = {
    "x64": "desktop",
    "xtensawin": "ESP32, S2, S3",
    "rv32imc": "ESP32-C3, C6",
    "armv6m": "RP2040",
}


def measure(folder):
    """Rows of (name, lines, octets per architecture)."""
    for source in sources():
        name = str(source.relative_to(SOURCE))
        octets = []
        for arch in ARCHS:
            if not fits(source, arch):
                octets.append(0)
                continue
            target = Path(folder) / arch / Path(name).with_suffix(".mpy")
            compile_file(source, target, arch, optimise=1)
            octets.append(target.stat().st_size)
        yield name, len(source.read_text().splitlines()), octets


def main():
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = list(measure(folder))
    except Broken as error:
        sys.exit(f"size: {error}")
    total = [sum(column) for column in zip(*(row[2] for row in rows), strict=True)]
    rows.append(("total", sum(row[1] for row in rows), total))
    width = max(len(row[0]) for row in rows)
    print(f"{'':{width}}  lines  " + "  ".join(f"{arch:>9}" for arch in ARCHS))
    for name, lines, octets in rows:
        print(f"{name:{width}}  {lines:5}  " + "  ".join(f"{count:9}" for count in octets))
    print("\n.mpy octets at -O1; " + ", ".join(f"{arch}: {what}" for arch, what in ARCHS.items()))


if __name__ == "__main__":
    main()
