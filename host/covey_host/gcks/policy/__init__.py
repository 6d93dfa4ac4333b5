"""covey.toml: what a person decides about a site and its groups. A bad file is refused whole.

settings  what it says, once it is read
reading   the file as a whole: the site's keys, then its groups
tables    one table of it
groups    a group's table; rules: what its values don't allow together
adding    a group more
blank     the file as `covey init` writes it
"""

from .adding import append_group, replace_text
from .blank import template
from .reading import load, parse, place_of, text_of
from .settings import (
    ECDSA,
    INBAND,
    MAC,
    MULTICAST,
    NONE,
    REKEY_AT,
    STOP,
    TELL,
    TESLA,
    UNICAST,
    GroupPolicy,
    Shape,
    SitePolicy,
)

__all__ = [
    "ECDSA",
    "INBAND",
    "MAC",
    "MULTICAST",
    "NONE",
    "REKEY_AT",
    "STOP",
    "TELL",
    "TESLA",
    "UNICAST",
    "GroupPolicy",
    "Shape",
    "SitePolicy",
    "append_group",
    "load",
    "parse",
    "place_of",
    "replace_text",
    "template",
    "text_of",
]
