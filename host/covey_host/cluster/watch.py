"""Every write that etcd has done below a prefix, in its order: its own history, as it goes on.

A thread asks one node after the other, past all links, for what was written since the last it
has heard of; so nothing is missed while nodes are killed, stopped or cut off.
"""

import http.client
import json
import threading
from base64 import b64decode
from collections.abc import Callable
from typing import NamedTuple

from ..store.etcdrows import span
from .nodes import HOST, Node, text

_SILENCE_S = 3  # then another node is asked
_PAUSE_S = 0.05


class Write(NamedTuple):
    revision: int
    key: str  # without the prefix
    value: bytes | None  # as etcd has it; None: it was deleted


class Watch:
    """start(), then stop(). hear is called in the thread; trouble: why it ended too soon."""

    def __init__(self, nodes: list[Node], prefix: bytes, hear: Callable[[Write], None]):
        self.revision = 0  # of the last write
        self.trouble = ""
        self._ports = [node.port for node in nodes]
        self._prefix = prefix
        self._hear = hear
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(2 * _SILENCE_S)

    def _run(self) -> None:
        at = 0
        while not self._is_over.is_set() and not self.trouble:
            try:
                self._follow(self._ports[at])
            except (OSError, http.client.HTTPException, ValueError):
                pass
            at = (at + 1) % len(self._ports)
            self._is_over.wait(_PAUSE_S)

    def _follow(self, port: int) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_SILENCE_S)
        start, end = span(self._prefix)
        wanted = {"key": text(start), "range_end": text(end)}
        wanted["start_revision"] = str(self.revision + 1)
        try:
            connection.request("POST", "/v3/watch", json.dumps({"create_request": wanted}))
            answer = connection.getresponse()
            while not self._is_over.is_set():
                line = answer.readline()
                if not line:
                    return
                self._take(json.loads(line).get("result", {}))
        finally:
            connection.close()

    def _take(self, result: dict) -> None:
        if int(result.get("compact_revision", "0")) > self.revision:
            self.trouble = "etcd has compacted what was not heard yet"
            return
        for event in result.get("events", ()):
            row = event["kv"]
            revision = int(row["mod_revision"])
            if revision <= self.revision:
                continue  # heard from another node; what one write did comes as one
            key = b64decode(row["key"])[len(self._prefix) :].decode()
            is_gone = event.get("type") == "DELETE"
            self._hear(Write(revision, key, None if is_gone else b64decode(row.get("value", ""))))
        for event in result.get("events", ())[-1:]:
            self.revision = int(event["kv"]["mod_revision"])
