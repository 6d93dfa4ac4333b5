"""On MicroPython: host/shim's board, its code in ROMFS. Arguments: the shim, DESK, IMAGE, ROM.

ROM is put into memory outside the heap, as the flash of a board lies outside it.
"""

import sys

import ffi
import uctypes
import vfs


def outside_the_heap(path):
    malloc = ffi.open("libc.so.6").func("p", "malloc", "I")
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        octets = uctypes.bytearray_at(malloc(size), size)
        assert file.readinto(octets) == size
    return octets


def main(shim, where, image, rom):
    sys.path.insert(0, shim)
    import run

    octets = outside_the_heap(rom)
    desk = run.put_around()
    run.power_up(desk, where, image)
    vfs.mount(vfs.VfsRom(octets), "/rom")
    sys.path.append("/rom")
    run.run("boot.py")
    run.run("main.py")
    print("power: prompt")


main(*sys.argv[1:])
