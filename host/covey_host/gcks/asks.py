"""What a key server that follows needs of the one that holds: a row of its own for each group.

    asks/REPLICA/GROUP   {"epoch": the number of the group's keys as they are known there,
                          "wants": "", "rekey" or "exclude": without that somebody can't register,
                          "waiting": {MEMBER: [whether it has fragments, or null: it is to have no
                          leaf; as what it asks]}: who waits for keys that nobody has used}

Put again with each change, and every few seconds while somebody waits; never deleted. What it says
is a wish: the holder does what it would do if these members had asked there.
"""

import json
from dataclasses import dataclass, field

from .roles import Role

PREFIX = "asks/"
REKEY, EXCLUDE = "rekey", "exclude"

Waiting = dict[str, tuple[bool | None, Role]]


@dataclass(frozen=True)
class Ask:
    epoch: int = 0
    wants: str = ""
    waiting: Waiting = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.wants or self.waiting)


def key_of(replica: str, group: str) -> str:
    return f"{PREFIX}{replica}/{group}"


def emitted(ask: Ask) -> bytes:
    waiting = {m: [fragments, role.value] for m, (fragments, role) in ask.waiting.items()}
    fields = {"epoch": ask.epoch, "wants": ask.wants, "waiting": waiting}
    return json.dumps(fields, separators=(",", ":")).encode()


def parsed(value: bytes) -> Ask:
    fields = json.loads(value)
    waiting = {m: (fragments, Role(role)) for m, (fragments, role) in fields["waiting"].items()}
    return Ask(fields["epoch"], fields["wants"], waiting)
