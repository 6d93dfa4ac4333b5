POLLIN = 1
POLLOUT = 4


def poll():
    return None
