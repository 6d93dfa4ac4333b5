"""The payloads of one message by their kinds, and those we answer with."""

from covey import ike
from covey.drops import DROP_IKE_FORMAT, FormatError

Payloads = list[tuple[int, bytes]]  # (kind, body), to be emitted in this order


class Parts:
    """The payloads of one message, by kind. What may be there once is there once."""

    def __init__(self, payloads: list[ike.Payload]):
        self._payloads = payloads
        self.notifies = [ike.parse_notify(body) for body in self.all(ike.NOTIFY)]

    def all(self, kind: int) -> list[bytes]:
        return [p.body for p in self._payloads if p.kind == kind]

    def one(self, kind: int) -> bytes | None:
        """FormatError where there are several."""
        found = self.all(kind)
        if len(found) > 1:
            raise FormatError(DROP_IKE_FORMAT)
        return found[0] if found else None

    def needed(self, kind: int) -> bytes:
        """FormatError where there is not exactly one."""
        body = self.one(kind)
        if body is None:
            raise FormatError(DROP_IKE_FORMAT)
        return body


def notify(type: int, data: bytes = b"") -> tuple[int, bytes]:
    return ike.NOTIFY, ike.emit_notify(ike.Notify(0, b"", type, data))
