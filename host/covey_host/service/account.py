"""`covey serve --user`: root opens ports, and nothing else is done as root.

The site's files are opened and made as the user, from the first one on: root stays in reserve as
the process's real user until the sockets are there, and is then given up for good.
"""

import os
import pwd
from contextlib import contextmanager

from ..errors import MISUSE, Problem


class Account:
    def __init__(self, name: str):
        """Problem where there is no such user, or this process can't become it."""
        try:
            found = pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise Problem(f"There is no user {name!r} on this machine.", MISUSE) from None
        self.name, self._user, self._group = name, found.pw_uid, found.pw_gid
        self._is_root = os.geteuid() == 0
        if self._user == 0:
            raise Problem("--user is to name one that is not root.", MISUSE)
        if not self._is_root and os.geteuid() != self._user:
            raise Problem(f"Only root can become {name}: leave --user out.", MISUSE)

    def assume(self) -> None:
        """Be the user, with root in reserve. Twice is once. Problem where the system doesn't let
        us."""
        if not self._is_root or os.geteuid() == self._user:
            return
        try:
            os.initgroups(self.name, self._group)
            os.setegid(self._group)
            os.seteuid(self._user)
        except OSError as error:  # root in a container, without the capabilities
            why = os.strerror(error.errno or 0)
            raise Problem(f"This process can't become {self.name} ({why}).") from error

    @contextmanager
    def as_root(self):
        """For what only root can do: ports below 1024."""
        if not self._is_root:
            yield
            return
        os.seteuid(0)
        try:
            yield
        finally:
            os.seteuid(self._user)

    def drop(self) -> None:
        """Be the user for good: real, effective and saved."""
        if not self._is_root:
            return
        os.seteuid(0)
        os.setgid(self._group)
        os.setuid(self._user)
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise Problem("Root could not be given up: the key server does not start.")
