"""Run by MicroPython: mount what lies at a place of a file; print each path with its SHA-256.

    mount_script.py FILE OFFSET SIZE PROGRAM [lfs2|rom] [PATH...]

From RAM, as a board mounts its flash. PATHs are imported afterwards, from what was mounted.
"""

import hashlib
import os
import sys

import vfs

BLOCK = 4096


class RAM:
    def __init__(self, data):
        self.data = data

    def readblocks(self, block, buf, off=0):
        at = block * BLOCK + off
        buf[:] = memoryview(self.data)[at : at + len(buf)]

    def writeblocks(self, block, buf, off=None):
        at = block * BLOCK + (off or 0)
        self.data[at : at + len(buf)] = buf

    def ioctl(self, what, value):
        if what == 4:
            return len(self.data) // BLOCK
        if what == 5:
            return BLOCK
        return 0


def show(folder):
    for entry in sorted(os.ilistdir(folder)):
        path = folder.rstrip("/") + "/" + entry[0]
        if entry[1] & 0x4000:
            show(path)
        else:
            with open(path, "rb") as file:
                data = file.read()
            digest = "".join([f"{octet:02x}" for octet in hashlib.sha256(data).digest()])
            print(path, len(data), digest)


name, offset, size, program, kind = sys.argv[1:6]
with open(name, "rb") as file:
    file.seek(int(offset))
    data = bytearray(int(size))
    file.readinto(data)
if kind == "lfs2":
    vfs.mount(vfs.VfsLfs2(RAM(data), progsize=int(program), readsize=32, lookahead=32), "/board")
else:
    vfs.mount(vfs.VfsRom(memoryview(data)), "/board")
show("/board")
sys.path[:] = ["/board", "/board/lib", ".frozen"]
for module in sys.argv[6:]:
    __import__(module)
    print("imported", module)
with open("/board/new", "w") if kind == "lfs2" else open("/dev/null", "w") as file:
    file.write("the board goes on writing")
if kind == "lfs2":
    with open("/board/new") as file:
        assert file.read() == "the board goes on writing"
