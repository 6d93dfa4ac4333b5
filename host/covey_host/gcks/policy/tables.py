"""One table of covey.toml: which keys it may have, and what each of them says."""

from collections.abc import Callable
from typing import Any

Keys = dict[str, tuple[str, Callable[[Any], Any]]]  # key in the table: (field, reader)
_NEEDED = ("identity", "address", "port")


class Wrong(Exception):
    """A mistake under a key of the table that is being read."""

    def __init__(self, key: str, sentence: str):
        super().__init__(sentence)
        self.key, self.sentence = key, sentence


def read_table(content: dict, keys: Keys) -> dict[str, Any]:
    """By field, what is there. Wrong where something is, or one is missing that is needed."""
    read = {}
    for key, value in content.items():
        if key not in keys:
            shown = key if key.isprintable() else repr(key)
            raise Wrong(key, f"{shown} is no key of this table: remove it or mend its spelling.")
        name, reader = keys[key]
        try:
            read[name] = reader(value)
        except ValueError as error:
            raise Wrong(key, f"{key} {error}") from None
    for key, (name, _) in keys.items():
        if name not in read and key in _NEEDED:
            raise Wrong("", f"{key} is missing.")
    return read
