"""A board with a serial port: `micropython serial_board.py FLASH BLOCKS [CUT]`.

The file FLASH is its flash, mounted at / as LittleFS (formatted where it holds none). It starts
as the ports do: boot.py, then main.py, then the prompt. The unix port has no raw REPL, so the one
here speaks it, with its raw-paste mode. Ctrl-C is a character at the prompt, SIGINT to main.py.
End of stdin is the end.

With CUT the power fails at that operation on the flash, counted from 1: half of it is done. CUT 0
never fails, and says at the end how many there were, on stderr.
"""

import os
import sys

import vfs

_SIZE = 4096
_WINDOW = 128


class Reset(BaseException):
    """The program has restarted its board."""


class Machine:
    """`machine`, what installing uses of it."""

    class WDT:
        def __init__(self, id=0, timeout=5000):
            if timeout > 10000:
                raise ValueError("as on the RP2040")

        def feed(self):
            pass

    @staticmethod
    def reset():
        raise Reset


class Flash:
    """NOR flash in a file: 4096-octet blocks."""

    def __init__(self, path, blocks, cut):
        self._blocks = blocks
        self._cut = cut
        self.count = 0  # of writes and erasures
        try:
            self._file = open(path, "r+b")
        except OSError:
            with open(path, "wb") as file:
                for _ in range(blocks):
                    file.write(b"\xff" * _SIZE)
            self._file = open(path, "r+b")

    def readblocks(self, block, buf, offset=0):
        self._file.seek(block * _SIZE + offset)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset=0):
        self._change(block * _SIZE + offset, bytes(buf))

    def ioctl(self, request, argument):
        if request == 4:
            return self._blocks
        if request == 5:
            return _SIZE
        if request == 6:
            self._change(argument * _SIZE, b"\xff" * _SIZE)
        return 0

    def _change(self, at, text):
        self.count += 1
        is_last = self.count == self._cut
        self._file.seek(at)
        self._file.write(text[: len(text) // 2] if is_last else text)
        self._file.flush()
        if is_last:
            os.system("kill -9 $PPID")


def mount(flash):
    vfs.umount("/")
    try:
        found = vfs.VfsLfs2(flash, readsize=32, progsize=32, lookahead=32)
    except OSError:
        vfs.VfsLfs2.mkfs(flash, readsize=32, progsize=32, lookahead=32)
        found = vfs.VfsLfs2(flash, readsize=32, progsize=32, lookahead=32)
    vfs.mount(found, "/")
    os.chdir("/")


def run_file(name):
    """As the ports do at a start."""
    try:
        with open(name) as file:
            text = file.read()
    except OSError:
        return
    error = run(text, {"__name__": "__main__"})
    if error is not None:
        sys.print_exception(error, sys.stdout)


def run(text, names):
    """What it raised, or None."""
    try:
        exec(text, names)
    except Reset:
        raise
    except BaseException as error:
        return error


def start(names, with_main):
    names.clear()
    names["__name__"] = "__main__"
    for name in list(sys.modules):
        del sys.modules[name]
    sys.modules["machine"] = Machine
    sys.path[:] = ["", ".frozen", "/lib"]
    run_file("/boot.py")
    if with_main:
        run_file("/main.py")


def say(text):
    sys.stdout.buffer.write(text)


def octet():
    """The next from the line; b"" at its end."""
    return sys.stdin.buffer.read(1)


def power_on():
    say(b"rst:0x1 (POWERON)\r\n")
    while True:
        try:
            return prompt()
        except Reset:
            say(b"rst:0xc (SW_CPU_RESET)\r\n")


def prompt():
    """Both prompts; the friendly one understands only how to become the raw one."""
    session = Session()
    start(session.names, True)
    say(b"\r\n>>> ")
    while c := octet():
        session.take(c)


class Session:
    def __init__(self):
        self.names = {}
        self._is_raw = False
        self._line = bytearray()

    def take(self, c):
        line = self._line
        if c == b"\x01":
            self._is_raw = True
            self._line = bytearray()
            say(b"raw REPL; CTRL-B to exit\r\n>")
        elif c == b"\x03":
            self._line = bytearray()
        elif not self._is_raw:
            say(c)
        elif c == b"\x02":
            self._is_raw = False
            say(b"\r\n>>> ")
        elif c == b"\x05" and not line:
            text = paste()
            if text is not None:
                answer(text, self.names)
        elif c == b"\x04" and line:
            self._line = bytearray()
            say(b"OK")
            answer(line, self.names)
        elif c == b"\x04":
            say(b"OK\r\nMPY: soft reboot\r\n")
            start(self.names, False)
            say(b"raw REPL; CTRL-B to exit\r\n>")
        else:
            line.extend(c)


def paste():
    """The text of raw-paste mode; None where the line ends in it, or something else was meant."""
    if octet() + octet() != b"A\x01":
        say(b"R\x00")
        return None
    say(b"R\x01" + bytes([_WINDOW, 0]) + b"\x01")
    text = bytearray()
    while c := octet():
        if c == b"\x04":
            say(b"\x04")
            return text
        text.extend(c)
        if len(text) % _WINDOW == 0:
            say(b"\x01")
    return None


def answer(text, names):
    error = run(text.decode(), names)
    say(b"\x04")
    if error is not None:
        sys.print_exception(error, sys.stdout)
    say(b"\x04>")


flash = Flash(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
mount(flash)
power_on()
sys.stderr.write("changes: %d\n" % flash.count)
