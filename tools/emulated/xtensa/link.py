"""In the place of gcc as a linker: `link.py LD option ... object ...`. GCC's own options but -T,
-o and -Map are dropped; call8 is call0 for the linker, and itself again behind it.
"""

import subprocess
import sys

import calls


def words_of(options):
    """What GNU ld is told: (words, the name of what it makes)."""
    words, out, rest = [], None, iter(options)
    for option in rest:
        if option in ("-T", "-o"):
            value = next(rest)
            words += [option, value]
            out = value if option == "-o" else out
        elif option.startswith("-Wl,-Map="):
            words.append(option.removeprefix("-Wl,"))
        elif not option.startswith("-"):
            words.append(option)
    return words, out


def main():
    ld, *options = sys.argv[1:]
    words, out = words_of(options)
    how = ["--emit-relocs", "--no-relax", "--gc-sections", "--no-warn-rwx-segments"]
    done = subprocess.run([ld, *how, *words])
    if done.returncode:
        sys.exit(done.returncode)
    calls.turn(out, calls.CALL8)


if __name__ == "__main__":
    main()
