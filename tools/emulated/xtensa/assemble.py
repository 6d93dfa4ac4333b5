"""In the place of GNU as: `assemble.py LLVM_MC -o OUT [option ...] FILE`.

GCC for one Xtensa core (lx106) compiles for windows of registers, too, but its assembler knows no
such instruction. LLVM's does. What GNU as does of itself and LLVM's doesn't is done here: branches
that reach too far go around a jump, long shifts are field extractions, octets in base64 are read.
"""

import base64
import re
import subprocess
import sys

import calls

_PAIRS = """beq bne blt bge bltu bgeu beqi bnei blti bgei bltui bgeui bbc bbs bbci bbsi ball bnall
bany bnone beqz bnez bltz bgez""".split()
OPPOSITE = dict(zip(_PAIRS[::2] + _PAIRS[1::2], _PAIRS[1::2] + _PAIRS[::2], strict=True))
# By what it has, not by a core's name, which LLVM knows from 22 on.
HAS = (
    "debug density exception interrupt minmax miscsr mul16 mul32 nsa rvector sext timers1 windowed"
)
_TOO_FAR = re.compile(r"^<stdin>:(\d+):\d+: error: fixup value out of range", re.M)


def as_llvm_says(text):
    """The lines of GCC's assembly."""
    text = re.sub(r"^\t\.word\t", "\t.long\t", text, flags=re.M)
    text = re.sub(r"^\tsrli\t(\w+), (\w+), (\w+)$", _shift, text, flags=re.M)
    text = re.sub(r'^\t\.base64\s+"(.*)"$', _octets, text, flags=re.M)
    return text.split("\n")


def _octets(found):
    return "\t.byte\t" + ", ".join(map(str, base64.b64decode(found[1])))


def _shift(found):
    n = int(found[3], 0)
    return found[0] if n < 16 else f"\textui\t{found[1]}, {found[2]}, {n}, {32 - n}"


def around(line, label):
    """A branch that reaches anywhere, of one that doesn't."""
    operation, rest = line.split(maxsplit=1)
    operands, _, target = rest.rpartition(", ")
    opposite = OPPOSITE[operation.removesuffix(".n")]
    return f"\t{opposite}\t{operands}, {label}; j {target}; {label}:"


def assemble(llvm_mc, out, text):
    lines, made = as_llvm_says(text), 0
    has = ",".join(f"+{one}" for one in HAS.split())
    words = [llvm_mc, "-triple=xtensa", f"-mattr={has}", "-filetype=obj", "-", "-o", out]
    while True:
        done = subprocess.run(words, input="\n".join(lines), text=True, stderr=subprocess.PIPE)
        if not done.returncode:
            break
        far = [int(number) for number in _TOO_FAR.findall(done.stderr)]
        if not far or len(far) < done.stderr.count(" error: "):
            sys.exit(done.stderr)
        for number in far:
            made += 1
            lines[number - 1] = around(lines[number - 1], f".Lnear{made}")
    calls.turn(out, calls.CALL0)


def main():
    llvm_mc, *words = sys.argv[1:]
    out = words[words.index("-o") + 1]
    with open(words[-1]) as file:
        assemble(llvm_mc, out, file.read())


if __name__ == "__main__":
    main()
