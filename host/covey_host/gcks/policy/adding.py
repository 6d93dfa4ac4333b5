"""A group more in covey.toml, as it would have been typed."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import FAILURE, MISUSE, Problem
from ...site import check_name
from .groups import read_group
from .reading import load, parse
from .settings import GroupPolicy
from .tables import Wrong


def append_group(
    path: Path,
    name: str,
    check: Callable[[GroupPolicy], None] = lambda made: None,
    /,
    **settings: Any,
) -> GroupPolicy:
    """Add [group.NAME] at the end of covey.toml, as it would have been typed.

    settings: keys of the table; those that are None are left out. Problem where the name is
    taken, the result would be refused, or by check(): then the file is untouched.
    """
    check_name("group", name)
    groups = load(path).groups
    if name in groups:
        raise Problem(f"{path} has a group {name} already: choose another name.", MISUSE)
    settings = {key: value for key, value in settings.items() if value is not None}
    try:
        read_group(name, settings, groups)
    except Wrong as wrong:  # on no line yet
        raise Problem(f"Group {name} can't be added: {wrong.sentence}", MISUSE) from None
    text = path.read_text(encoding="utf-8")
    block = [f"[group.{_toml_key(name)}]"]
    block += [f"{key} = {_toml_value(value)}" for key, value in settings.items()]
    text = text.rstrip("\n") + "\n\n" + "\n".join(block) + "\n"
    made = parse(text, str(path)).groups[name]
    check(made)
    replace_text(path, text)
    return made


def replace_text(path: Path, text: str) -> None:
    """The whole new text or the whole old one, whatever is killed in between."""
    draft = path.with_name(path.name + ".new")
    try:
        fd = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise Problem(
            f"{path} can't be written: {os.strerror(error.errno or 0)}.", FAILURE
        ) from None


def _toml_key(name: str) -> str:
    return f'"{name}"' if "." in name else name


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)
