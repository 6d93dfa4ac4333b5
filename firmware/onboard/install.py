"""Ends what `covey install` began, wherever it was cut off: boot.py calls settle() first of all.

Files of a member belong together: none of a new member may run beside one of the old. So they
come to a directory of their own, and one renaming says that all have come. What is in flash then
decides:

    /covey.part    some have come: they are removed, and the old member goes on
    /covey.next    all have come: they are moved into place, however often the power fails

`plan`, a file among them, is JSON: [[name, path], ...], the moves in their order, and
[path, ...], what has no place in the new member. The last one moved, main.py, is taken away
before the first move: should boot.py fail in between, nothing runs. LittleFS renames wholly or
not at all.
"""

import json
import os
import sys

PART = "/covey.part"
NEXT = "/covey.next"
_ENOENT, _EEXIST = 2, 17


def settle():
    """Whether a new member was moved into place. A second call finds nothing to do."""
    _clear(PART)
    try:
        waiting = os.listdir(NEXT)
    except OSError:
        return False
    plan = _plan() if "plan" in waiting else None
    if plan:
        moves, gone = plan
        name, path = moves[-1]
        if name in waiting:
            _remove(path)
        for path in gone:
            _remove(path)
        for name, path in moves:
            if name in waiting:
                _move(NEXT + "/" + name, path)
        _remove(NEXT + "/plan")
    _clear(NEXT)
    for name in list(sys.modules):  # this file may have been among them
        if name.split(".")[0] == "onboard":
            del sys.modules[name]
    return True


def _plan():
    """(moves, gone); None where it can't be read: of another version, or flash that fails. Then
    nothing was moved by us, and the old member goes on: a boot.py that fails would stop it.
    """
    try:
        with open(NEXT + "/plan") as file:
            moves, gone = json.load(file)
        for name, path in moves + [("", path) for path in gone]:
            if "/" in name or path[0] != "/":
                return None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None
    return (moves, gone) if moves else None


def _move(source, path):
    at = path.find("/", 1)
    while at > 0:
        try:
            os.mkdir(path[:at])
        except OSError as error:
            if error.errno != _EEXIST:
                raise
        at = path.find("/", at + 1)
    os.rename(source, path)


def _remove(path):
    try:
        os.remove(path)
    except OSError as error:
        if error.errno != _ENOENT:
            raise


def _clear(directory):
    try:
        for name in os.listdir(directory):
            os.remove(directory + "/" + name)
        os.rmdir(directory)
    except OSError:
        pass  # there is none
