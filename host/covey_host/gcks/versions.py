"""Versions of rows, as they were known last; those of one group can be forgotten, however many
others there are."""

from collections.abc import Iterable

_GROUP = "group/"


class Versions:
    def __init__(self):
        self._of: dict[str, dict[str, int]] = {}  # group/NAME/, or "" for all else → key → version

    def get(self, key: str) -> int:
        """0: there was none."""
        return self._of.get(_home(key), {}).get(key, 0)

    def put(self, key: str, version: int) -> None:
        self._of.setdefault(_home(key), {})[key] = version

    def forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            home = _home(key)
            if self._of.get(home, {}).pop(key, None) and not self._of[home]:
                del self._of[home]

    def forget_group(self, prefix: str) -> None:
        """group/NAME/: all of it."""
        self._of.pop(prefix, None)


def _home(key: str) -> str:
    return key[: key.index("/", len(_GROUP)) + 1] if key.startswith(_GROUP) else ""
