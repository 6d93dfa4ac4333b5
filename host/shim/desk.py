"""What lies around a board that is no board: its access point, its pins, its power.

A directory of plain files, which whoever plays the world reads and writes:

    air         the access point: SSID, password, a line each. No file: it is gone
    inputs      JSON: pin → level
    pins        a line for each change of an output: pin, level
    rtc         RTC memory, which outlives sleep and reset, not the loss of power
    nvs         JSON: namespace → key → octets in hexadecimal
    cause       why the board starts, as machine.reset_cause() says; no file: power came
    sleep       how many ms it sleeps for
    writes      after so many writes to its flash the power is gone (MicroPython); no file: never

A board ends its process; whoever started it starts it again: see the exit statuses.
"""

import sys

IS_CPYTHON = sys.implementation.name == "cpython"
RESET = 64  # exit status: start me again
ASLEEP = 65  # the same after as many ms as `sleep` says
CUT = 66  # its power went, as `writes` wanted

_folder = ""
_room = memoryview(bytearray(512))  # most files are shorter: asking a radio or a pin takes no heap


def place(folder):
    """Where the files are, with a slash at its end."""
    global _folder
    _folder = folder


def read(name):
    """Octets, or None where there is no such file."""
    try:
        with open(_folder + name, "rb") as file:
            n = file.readinto(_room)
            return bytes(_room[:n]) + file.read() if n == len(_room) else bytes(_room[:n])
    except OSError:
        return None


def write(name, octets):
    with open(_folder + name, "wb") as file:
        file.write(octets)


def append(name, octets):
    with open(_folder + name, "ab") as file:
        file.write(octets)


if IS_CPYTHON:
    import os
    import signal

    def end(status):
        """The process is over, whatever it was about to do."""
        sys.stdout.flush()
        os._exit(status)

    def bite_in(ms):
        """A signal ends the process then, whatever it does; 0: not any more."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, ms / 1000)

    def hear_person():
        """Ctrl-C is raised here and from here on: it always is."""

else:
    import struct

    import ffi

    _libc = ffi.open("libc.so.6")
    _exit = _libc.func("v", "_exit", "i")
    _setitimer = _libc.func("i", "setitimer", "ipp")
    _sigprocmask = _libc.func("i", "sigprocmask", "ipp")
    _BLOCK, _UNBLOCK = 0, 1  # Linux's numbers
    _SIGINT = bytes([1 << 2 - 1]) + bytes(127)  # a sigset_t with one bit

    def end(status):
        """The process is over, whatever it was about to do."""
        _exit(status)

    def bite_in(ms):
        """A signal ends the process then, whatever it does; 0: not any more.

        Ctrl-C waits from one call to the next. MicroPython for Unix raises it wherever it is, in
        the midst of a collection as well, and the heap stays locked: no chip does so.
        """
        _setitimer(0, struct.pack("@4l", 0, 0, ms // 1000, ms % 1000 * 1000), None)
        hear_person()
        _sigprocmask(_BLOCK, _SIGINT, None)

    def hear_person():
        """Ctrl-C is raised here and from here on."""
        _sigprocmask(_UNBLOCK, _SIGINT, None)
