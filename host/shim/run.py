"""Start a board on this desktop: boot.py, main.py, and power for as long as the process lives.

    python run.py DESK FOLDER          the board's files are those of a directory
    micropython run.py DESK IMAGE      ... or of a LittleFS image, as they would lie in flash
    micropython run.py DESK FOLDER     ... or of a directory, too: covey is then on MICROPYPATH

DESK is the directory that `desk` speaks of. boot.py and main.py run unchanged: `machine`,
`network` and `esp32` are those of this directory. What main.py prints comes out as it is.
"""

import sys
import time

_HERE = __file__[: __file__.rfind("/") + 1]
_BLOCK = 4096
_FOLDER = 0x4000  # of a file's mode
_ERASED = b"\xff" * _BLOCK  # made once: erasing takes no heap on a board


class Flash:
    """A block device in a file. Each write is there when it returns, as in a chip.

    writes: so many are made, and half-way through the next one the power is gone; None: never.
    """

    def __init__(self, path, desk, writes):
        self._file = open(path, "r+b")
        self._blocks = self._file.seek(0, 2) // _BLOCK
        self._desk = desk
        self._left = writes

    def readblocks(self, block, buf, off=0):
        self._file.seek(block * _BLOCK + off)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, off=0):
        self._file.seek(block * _BLOCK + off)
        if self._left == 0:
            self._file.write(memoryview(buf)[: len(buf) // 2])
            self._desk.end(self._desk.CUT)
        if self._left is not None:
            self._left -= 1
        self._file.write(buf)

    def ioctl(self, what, block):
        if what == 4:
            return self._blocks
        if what == 5:
            return _BLOCK
        if what == 6:  # erase
            self.writeblocks(block, _ERASED)
        return 0


def put_around():
    """The modules of a board, in place of those that a desktop has or has not."""
    sys.path.insert(0, _HERE.rstrip("/") or ".")
    for name in ("machine", "network", "esp32", "neopixel"):
        sys.modules.pop(name, None)
    for name in ("desk", "link", "machine", "network", "esp32", "neopixel"):
        __import__(name)
    sys.path.pop(0)
    return sys.modules["desk"]


def power_up(desk, where, what):
    import os

    if desk.IS_CPYTHON or os.stat(what)[0] & _FOLDER:
        sys.path[:0] = [what, what + "/lib"]
        desk.place(where + "/")
        os.chdir(what)
        return
    import vfs

    desk.place(where + "/")
    writes = desk.read("writes")
    flash = Flash(what, desk, writes and int(writes))
    whole = vfs.VfsPosix(where)
    vfs.umount("/")
    vfs.mount(vfs.VfsLfs2(flash), "/")
    vfs.mount(whole, "/.desk")
    desk.place("/.desk/")
    sys.path[:] = ["", ".frozen", "/lib"]


def run(name):
    """As the firmware does: what it raises is printed. Whether it went well, or is not there."""
    try:
        with open(name) as file:
            text = file.read()
    except OSError:
        return True
    try:
        code = compile(text, name, "exec")
        file = text = None  # while it runs, a board keeps neither
        exec(code, {"__name__": "__main__"})
        return True
    except Exception as error:
        if hasattr(sys, "print_exception"):
            sys.print_exception(error)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    return False


def main(where, what):
    desk = put_around()
    power_up(desk, where, what)
    print("power: on")
    if run("boot.py"):  # else no main.py
        run("main.py")
    print("power: prompt")
    desk.hear_person()
    while True:  # a board waits for a person, or for its watchdog
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
