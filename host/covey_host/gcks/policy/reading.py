"""covey.toml as a whole, from its text: the site's keys, then its groups."""

import os
import re
from pathlib import Path

from ... import toml
from ...errors import MISUSE, Problem
from .. import policyvalues as values
from . import rules
from .groups import read_group
from .settings import NONE, SitePolicy
from .tables import Keys, Wrong, read_table

SITE: Keys = {
    "identity": ("identity", values.identity),
    "listen": ("listen", values.listen),
    "servers": ("servers", values.servers),
    "ike_idle": ("ike_idle_s", values.seconds(10, 7 * 86400)),
    "liveness": ("liveness_s", values.seconds(5, 86400)),
    "ike_lifetime": ("ike_lifetime_s", values.seconds(10, 30 * 86400)),
    "cookies_from": ("cookies_from", values.whole(0, 1024)),
    "fragment_size": ("fragment_size", values.fragment_size),
}


def load(path: Path) -> SitePolicy:
    """The policy in a file. Problem, with the line, where anything in it is wrong."""
    return parse(text_of(path), str(path))


def text_of(path: Path) -> str:
    """Of a file that may hold a policy."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Problem(f"{path} is not UTF-8 text.", MISUSE) from None
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from error


def parse(text: str, name: str = "covey.toml") -> SitePolicy:
    """The policy in a text; `name` is what a Problem calls it."""
    found = toml.parse(text, name)
    table = ""
    try:
        groups = found.pop("group", {})
        if not isinstance(groups, dict):
            raise Wrong("group", "groups are tables: [group.NAME].")
        site = read_table(found, SITE)
        read = {}
        for key, content in groups.items():
            table = f"group.{key}"
            read[key] = read_group(key, content, read)
            rules.check_beside(site, read[key], content)
        made = SitePolicy(**site, groups=read)
        table = ""
        if not made.fragment_size and any(g.source_auth != NONE for g in read.values()):
            raise Wrong(
                "fragment_size",
                "fragment_size must not be 0 where a group has source_auth: its rekeys may be"
                " longer than a frame.",
            )
        return made
    except Wrong as wrong:
        raise Problem(_place(text, name, table, wrong.key) + wrong.sentence, MISUSE) from None


def place_of(path: Path, group: str, key: str = "sender_id_form") -> str:
    """What leads a sentence about a key of a group: "covey.toml:12: group.line1: "."""
    return _place(path.read_text(encoding="utf-8"), str(path), f"group.{group}", key)


def _place(text: str, name: str, table: str, key: str) -> str:
    line = _line_of(text, table, key)
    return (f"{name}:{line}: " if line else f"{name}: ") + (f"{table}: " if table else "")


def _line_of(text: str, table: str, key: str) -> int | None:
    """The line of a key in a table, or of the table's header; None where it is not plain."""
    here, header = "", None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith("["):
            here = re.sub(r"[\"']", "", line.partition("]")[0].strip("[ "))
            if here == table:
                header = number
        elif here == table and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return header
