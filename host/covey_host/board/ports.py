"""Serial ports: is it there, may we open it, is it free. Each answer is one sentence."""

import grp
import os
import re
from pathlib import Path

from serial.tools import list_ports

from ..errors import Problem

_IN_USE = re.compile(r"exclusively lock|resource busy|errno (11|16)\b|access is denied")


def check(port: str) -> None:
    """Problem if it can be seen, without opening it, that the port will not do."""
    if "://" in port or os.name != "posix":  # a port elsewhere, or one that is no file
        return
    path = Path(port)
    if not path.exists():
        raise Problem(f"There is no port {port}: {named()}")
    if not path.is_char_device():
        raise Problem(f"{port} is no serial port: {named()}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise _not_allowed(port)


def refusal(port: str, said: str) -> Problem:
    """Why a port could not be opened, from what the system said."""
    said = said.lower()
    if "permission denied" in said:
        return _not_allowed(port)
    if _IN_USE.search(said):
        return Problem(
            f"{port} is in use: close whatever has it open, such as a serial terminal, and try"
            " again."
        )
    if "://" in port:
        return Problem(f"Nothing can be reached at {port}.")
    return Problem(f"{port} can't be opened: {named()}")


def named() -> str:
    """The ports of this machine, as the second half of a sentence."""
    found = sorted(each.device for each in list_ports.comports())
    if found:
        return f"the ports here are {', '.join(found)}."
    return (
        "there is none here; plug the board in, by a cable that carries data and not power alone."
    )


def _not_allowed(port: str) -> Problem:
    try:
        group = grp.getgrgid(os.stat(port).st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    return Problem(
        f"You may not open {port}: add yourself to its group (sudo usermod -aG {group} $USER), log"
        " in again, and try again."
    )
