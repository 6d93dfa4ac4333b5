"""What lies in etcd as entries, read from one moment: their values, versions, and what is new."""

from collections.abc import Callable, Sequence

from ..errors import Problem
from . import Changed, Lead, etcdwriter
from .etcdclient import Answer, Client, Found, get
from .etcdrows import Row, part, parts_of, row_of
from .etcdwriter import keys_in

_PAGE = 200  # rows that are read at once
_ROWS = 100  # keys that are asked for at once
_COMPACTED = "compacted"


class Reader:
    """carry_out: what a journal that is found asks for comes before anything is read."""

    def __init__(self, client: Client, prefix: bytes, carry_out: Callable[[Found], None]):
        self._client = client
        self._prefix = prefix
        self._carry_out = carry_out
        self._odd: dict[str, Row] = {}  # entries whose version is not their mod, as last seen

    def read(self, key: str) -> tuple[bytes | None, int]:
        return self.read_many([key])[0]

    def read_many(self, keys: Sequence[str]) -> list[tuple[bytes | None, int]]:
        while True:
            found = self._whole(keys)
            if found is not None:
                return found

    def scan(self, prefix: str, after: str, most: int) -> list[tuple[str, bytes, int]]:
        while True:
            found = self._scan(prefix, after, most)
            if found is not None:
                return found

    def changed(self, prefix: str, since: int) -> Changed:
        while True:
            found = self._changed(prefix, since)
            if found is not None:
                return found

    def expected(self, key: str, version: int) -> Row:
        """As it is if it has this version."""
        row = self._odd.get(key)
        return row if row and row.version == version else Row(None, version, version)

    def forget(self, key: str) -> None:
        self._odd.pop(key, None)

    def asked_of_lead(self) -> list:
        return [get(self._at(name)) for name in ("term", "owner", "run", "beat")]

    def _whole(self, keys: Sequence[str]) -> list[tuple[bytes | None, int]] | None:
        """None: look again."""
        found = self.rows(keys)
        if found is None:
            return None
        values: list[tuple[bytes | None, int]] = []
        for row in found[0]:
            value = self._joined(row, found[1]) if row.parts else row.value
            if row.parts and value is None:
                return None
            values.append((value, row.version))
        return values

    def _changed(self, prefix: str, since: int) -> Changed | None:
        """None: look again."""
        asked = [etcdwriter.slots(self._prefix, since), get(self._at("journal"))]
        answer = self._client.transact([], asked + self.asked_of_lead())
        slots, journal, *told = answer.rows
        if answer.revision < since:
            raise self._client.went_back()
        if journal:
            self._carry_out(journal[0])
            return None
        keys = keys_in(slots)
        if not since:
            rows = self._scan(prefix, revision=answer.revision)
        elif keys is None:
            rows = self._newer(prefix, since, answer.revision)
        else:
            rows = self._those(sorted(k for k in keys if k.startswith(prefix)), answer.revision)
        if rows is None:
            return None
        newer = [row for row in rows if row[2] > since]
        return Changed(newer, answer.revision, lead_of(told))

    def _newer(self, prefix: str, since: int, revision: int) -> list | None:
        """Those, and perhaps others. None where etcd has forgotten that moment."""
        start = self._at("e/" + prefix)
        answer = self._past([get(start, start + b"\x7f", revision=revision, since=since)])
        return None if answer is None else self._opened(answer.rows[0], revision)

    def _those(self, keys: list[str], revision: int) -> list | None:
        rows: list[tuple[str, bytes, int]] = []
        for at in range(0, len(keys), _ROWS):
            asked = [get(self._at("e/" + key), revision=revision) for key in keys[at : at + _ROWS]]
            answer = self._past(asked)
            some = answer and self._opened([f for found in answer.rows for f in found], revision)
            if some is None:
                return None
            rows += some
        return rows

    def _opened(self, found: list[Found], revision: int) -> list | None:
        """(key, value, version) of each; None where etcd has forgotten a part."""
        rows, skip = [], len(self._at("e/"))
        for each in found:
            row, key = row_of(each), each.key[skip:].decode()
            self.note(key, row)
            value = self._joined(row, revision) if row.parts else row.value
            if value is None:
                return None
            rows.append((key, value, row.version))
        return rows

    def rows(self, keys: Sequence[str]) -> tuple[list[Row], int] | None:
        """Without their parts, of one moment, and which; None: look again."""
        rows: list[Row] = []
        revision = 0
        for at in range(0, len(keys), _ROWS):
            some = keys[at : at + _ROWS]
            asked = [get(self._at("e/" + key), revision=revision) for key in some]
            answer = self._past([*asked, get(self._at("journal"))])
            if answer is None:
                return None
            *found, journal = answer.rows
            if journal:
                self._carry_out(journal[0])
                return None
            for key, each in zip(some, found, strict=True):
                rows.append(row_of(each[0] if each else Found()))
                self.note(key, rows[-1])
            revision = revision or answer.revision
        return rows, revision

    def note(self, key: str, row: Row) -> None:
        if row.version != row.mod:
            self._odd[key] = row
        else:
            self._odd.pop(key, None)

    def _joined(self, row: Row, revision: int) -> bytes | None:
        """A value in parts; None where it was replaced, and etcd has forgotten it."""
        start, _ = parts_of(self._prefix, row.version, row.number)
        value = bytearray()
        for i in range(row.parts):
            answer = self._past([get(part(start, i), revision=revision)])
            if answer is None or not answer.rows[0]:
                return None
            value += answer.rows[0][0].value
        return bytes(value)

    def _scan(
        self, prefix: str, after: str = "", most: int = -1, revision: int = 0
    ) -> list[tuple[str, bytes, int]] | None:
        """revision: of the moment, 0 for now. None: look again."""
        start = self._at("e/" + prefix)
        end = start + b"\x7f"  # keys are ASCII: nothing sorts above
        if after > prefix:
            start = self._at("e/" + after) + b"\0"
        rows: list[tuple[str, bytes, int]] = []
        while (most < 0 or len(rows) < most) and start < end:
            limit = _PAGE if most < 0 else min(_PAGE, most - len(rows))
            asked = [get(start, end, limit, revision), get(self._at("journal"), revision=revision)]
            answer = self._past(asked)
            if answer is None:
                return None
            found, journal = answer.rows
            if journal:
                self._carry_out(journal[0])
                return None
            revision = revision or answer.revision
            some = self._opened(found, revision)
            if some is None:
                return None
            rows += some
            if len(found) < limit:
                break
            start = found[-1].key + b"\0"
        return rows

    def _past(self, asked: list) -> Answer | None:
        """None where etcd has compacted that moment away."""
        try:
            return self._client.transact([], asked)
        except Problem as problem:
            if _COMPACTED not in problem.sentence:
                raise
            return None

    def _at(self, name: str) -> bytes:
        return self._prefix + name.encode()


def lead_of(rows: list[list[Found]]) -> Lead:
    """As asked_of_lead() finds it."""
    term, owner, run, beat = (found[0] if found else Found() for found in rows)
    texts = int(term.value or b"0"), owner.value.decode(), run.value.decode()
    return Lead(*texts, beat.value, beat.mod)
