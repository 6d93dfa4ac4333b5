"""Why a socket or a file can't be had, in a sentence for a person. Loaded when that is so.

errno: the module. no_address: the numbers by which this system says that it has no such address.
"""


def why_not(e, errno, no_address, host, port, *group):
    """group: of one that is joined, its interface and what else there is."""
    if e.errno in no_address:
        if not group:
            return "%s is no address of this machine: give one that is, or 0.0.0.0" % host
        if group[0]:
            return (
                "%s is no address of an interface of this machine that does multicast" % group[0]
            )
        return "there is no multicast route to %s: name an interface by its address" % host
    if e.errno == errno.EADDRINUSE:
        return "UDP port %d is in use: stop the other program or choose another port" % port
    if e.errno in (errno.EACCES, errno.EPERM):
        return "UDP port %d may not be opened by this user: choose one from 1024 on" % port
    return "UDP port %d on %s can't be opened: error %d" % (port, host, e.errno)


def unread(path, e):
    why = {2: "there is no such file", 13: "permission denied", 21: "it is a directory"}
    return "%s can't be read: %s" % (path, why.get(e.errno) or "the system's error %d" % e.errno)
