def ticks_ms():
    return 0


def ticks_us():
    return 0


def ticks_add(t, n):
    return (t + n) & 0x3FFFFFFF


def ticks_diff(a, b):
    return ((a - b + 0x20000000) & 0x3FFFFFFF) - 0x20000000


def gmtime():
    return (2000, 1, 1, 0, 0, 0, 0, 1)
