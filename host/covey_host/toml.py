"""TOML files that a person edits: what is wrong in one is told with its line."""

import re
import tomllib

from .errors import MISUSE, Problem


def parse(text: str, name: str) -> dict:
    """The tables of a text. Problem, with the line, where it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")  # a line, or the end of the document
        line = re.match(r"line (\d+)", place)
        at = line[1] if line else len(text.splitlines())
        raise Problem(f"{name}:{at}: {what}.", MISUSE) from None
    except (ValueError, RecursionError):  # tomllib's own limits: it names no place
        what = "a number has thousands of digits, or brackets lie hundreds deep"
        raise Problem(f"{name} can't be read: {what}.", MISUSE) from None


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line on which the value at this path of keys begins, in a text that is TOML; None if it
    isn't there.

    tomllib tells no lines. But the first lines of a file are TOML whenever no value is cut in
    two; so the value begins after the last such beginning that lacks it. For short files: each
    beginning is parsed.
    """
    lines = text.splitlines()
    whole = 0  # so many lines are TOML, and lack the value
    for count in range(1, len(lines) + 1):
        try:
            found = tomllib.loads("\n".join(lines[:count]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if path and _holds(found, path):
            return next(i for i in range(whole, count) if _is_told(lines[i])) + 1
        whole = count
    return None


def _holds(found, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    return True


def _is_told(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")
