"""Print what flash and RAM a member takes on boards: `size_board.py BOARD... [--keep]`, or all.

The heap is found by trial: main.py starts from the very image that the board would get, on the
32-bit MicroPython, whose objects are as large as the boards', with a heap of N octets. N is enough
if three times out of three it comes up, registers at a real key server, hears another member, the
longest packets that it is made for among others, and is heard, follows a rekey, and all that again
under the new keys. The smallest N is sought by
halving. The stand-ins for a board's modules take some of it, which is taken off; they leave more
garbage than a board's do, so the figure errs upwards.

--keep writes the figure to host/covey_host/board/heap.json, by which `covey image` warns.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace

from build_mpy import BUILD, ROOT

from covey_host.bench.plant import Plant
from covey_host.bench.results import Missing
from covey_host.board import boards, filesystem, image, members, mpyfile, need
from covey_host.board import files as contents
from covey_host.errors import Problem

STEP = 1024  # octets of heap: no finer answer is sought
TIMES = 3  # one heap that is too small by a little may do, as the pieces happen to fall
LEAST, MOST = 96 * 1024, 320 * 1024
PATIENCE_S = 20  # until one trial has gone well; it takes about three
_AGAIN_S = 0.3
_FAILED_JOINS = 2  # after so many a trial is given up
_WRAPPER = BUILD / "micropython" / "x86" / "micropython"
_SHIM = ROOT / "host" / "shim" / "run.py"
_SCRIPT = ROOT / "host" / "covey_host" / "bench" / "scripts" / "rom_board.py"
_WIFI = {"ssid": "here", "password": "not needed at all"}
_RELAY = 5
_NAMES = 330  # that an image brings: MicroPython's list of them has room for the stand-ins' then


class Trial:
    """A site with a key server, the board's image, and another member; many tries of it."""

    def __init__(self, board, romfs=False):
        self._plant = Plant()
        self._board = board
        self._romfs = romfs

    def __enter__(self):
        self._plant.__enter__()
        try:
            self._folder = self._plant.folder / "world"
            self._folder.mkdir()
            (self._folder / "air").write_text("\n".join([*_WIFI.values(), ""]))
            path = self._plant.member("board", "--sender")
            self._flash = self._image(path)
            self._peer = self._plant.member("peer", "--sender")
            self._start_peer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._plant.__exit__()

    def _image(self, path):
        """What its flash holds, with code that this machine's MicroPython runs."""
        here = replace(self._board, arch="x86", pins={"relay": _RELAY, "relay_on": 1})
        member = replace(members.load(None, str(path)), wifi=json.dumps(_WIFI).encode())
        holds = contents.contents(member, here)
        files, rom = image.apart(holds)
        self._rom = self._plant.folder / "rom"
        self._rom.write_bytes(rom)
        return filesystem.littlefs(files if self._romfs else holds.files, 1 << 20, here)

    def _start_peer(self):
        """It says what we write to it, and tells what it hears."""
        words = ("-m", "covey_host", "join", str(self._peer), "--listen", "--json", "--send", "-")
        self._peer_lines = []
        self._mouth = self._plant.start([sys.executable, *words])
        reader = threading.Thread(target=self._read, args=(self._mouth, self._peer_lines))
        reader.daemon = True
        reader.start()

    def _say(self, word):
        self._mouth.stdin.write(word + "\n")
        self._mouth.stdin.flush()

    @staticmethod
    def _read(child, lines):
        for line in child.stdout:
            lines.append(line.rstrip())

    def lives(self, heap):
        """Whether a member lives with a heap of so many octets."""
        flash = self._plant.folder / "flash"
        flash.write_bytes(self._flash)
        (self._folder / "pins").unlink(missing_ok=True)
        words = [_SHIM, self._folder, flash]
        if self._romfs:
            words = [_SCRIPT, _SHIM.parent, self._folder, flash, self._rom]
        child = subprocess.Popen(
            [_WRAPPER, "-X", f"heapsize={heap}", *words],
            env={**os.environ, "MICROPYPATH": ".frozen"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        said = []
        threading.Thread(target=self._read, args=(child, said), daemon=True).start()
        try:
            return self._goes_through_life(child, said)
        finally:
            child.kill()
            child.wait()

    def _goes_through_life(self, child, said):
        end = time.monotonic() + PATIENCE_S

        def comes(condition, word=None):
            """Meanwhile the word is said again and again: a datagram may be lost."""
            said_at = time.monotonic()
            while not condition():
                if word and time.monotonic() > said_at + _AGAIN_S:
                    self._say(word)
                    said_at = time.monotonic()
                lines = list(said)
                failures = sum("covey: failed" in line for line in lines)
                has_ended = child.poll() is not None or "power: prompt" in lines
                if has_ended or failures >= _FAILED_JOINS or time.monotonic() > end:
                    return False
                time.sleep(0.02)
            return True

        def talks():
            """From now on it hears the other, and is heard."""
            heard = len(self._peer_lines)
            longest = "off".ljust(self._board.limits["payload"], ".")  # what isn't "on" is off
            for word, level in (("on", "1"), (longest, "0")):
                self._say(word)
                if not comes(lambda level=level: self._relay() == level, word):
                    return False
            return comes(lambda: any('"text": "off"' in x for x in self._peer_lines[heard:]))

        if not comes(lambda: any("covey: member" in line for line in list(said))) or not talks():
            return False
        self._plant.rekey()
        return comes(lambda: any("covey: rekeyed" in line for line in list(said))) and talks()

    def _relay(self):
        """The level that it was last set to; None before that."""
        try:
            lines = (self._folder / "pins").read_text().splitlines()
        except FileNotFoundError:
            return None
        levels = [line.split()[1] for line in lines if line.startswith(f"{_RELAY} ")]
        return levels[-1] if levels else None


def smallest(trial):
    """Octets of heap with which a member lives each time, and with STEP fewer not. Missing: none
    do.
    """

    def is_enough(heap):
        return all(trial.lives(heap) for _ in range(TIMES))

    least, most = LEAST, MOST
    if not is_enough(most):
        raise Missing(f"no member lives with {most} octets of heap")
    while most - least > STEP:
        middle = (least + most) // 2 // STEP * STEP
        if is_enough(middle):
            most = middle
        else:
            least = middle
    return most


def of_shims():
    """Octets of heap that host/shim takes, which no board has."""
    script = (
        "import gc, sys\nclass A: pass\n"
        f"for i in range({_NAMES}): hasattr(A, 'name%d' % i)\n"
        f"sys.path.insert(0, {str(_SHIM.parent)!r})\n"
        "gc.collect()\nbefore = gc.mem_alloc()\nimport run\n"
        "run.put_around()\ngc.collect()\nprint(gc.mem_alloc() - before)\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(script)
        file.flush()
        command = [_WRAPPER, "-X", "heapsize=1m", file.name]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def heap_of(board, romfs):
    """Octets of heap that main.py takes with this board's limits."""
    if not _WRAPPER.exists():
        raise Missing("there is no 32-bit MicroPython")
    with Trial(board, romfs) as trial:
        return smallest(trial) - of_shims()


# What is printed


def size(board, *, keep):
    with Plant() as plant:
        member = members.load(None, str(plant.member("board", "--sender")))
        holds = contents.contents(member, board)
    used = filesystem.littlefs_used(filesystem.littlefs(holds.files, board.vfs.size, board), board)
    machine = 0
    for path, data in holds.code.items():
        found = mpyfile.parse(data)
        machine += found.machine_code
        print(f"{path.removeprefix('/lib/'):32} {len(data):7}  {found.machine_code:7}")
    code = sum(map(len, holds.code.values()))
    print(f"{'.mpy octets, of them machine code':32} {code:7}  {machine:7}\n")
    print(f"flash: {used} of {board.vfs.size} octets of the file system, with all files")
    limits = ", ".join(f"{key} {value}" for key, value in board.limits.items())
    heap = {key: heap_of(board, key == need.IN_ROMFS) for key in (need.IN_RAM, need.IN_ROMFS)}
    print(f"heap:  {heap[need.IN_RAM]} octets with {limits}; main.py and its code are in it")
    print(f"       {heap[need.IN_ROMFS]} octets with the code in ROMFS (--romfs)")
    where = "on the heap, too" if need.is_code_on_heap(board) else "in memory besides the heap"
    print(f"       {machine} octets of machine code lie {where}")
    expected = "none that is known" if board.heap is None else board.heap
    print(f"       the board file expects {expected}: {board.heap_from}")
    if keep:
        need.keep(board.limits, heap)
        print(f"kept in {need.MEASURED.relative_to(ROOT)}")


def main():
    words = [word for word in sys.argv[1:] if word != "--keep"]
    try:
        for name in boards.names() if words == ["all"] else words:
            size(boards.load(name), keep="--keep" in sys.argv)
    except (Missing, Problem) as error:
        sys.exit(f"size: {str(error).rstrip('.')}.")


if __name__ == "__main__":
    main()
