"""etcd's key-value calls as blocking HTTP: the JSON gateway of etcd 3.4 and newer (/v3/...).

Nothing but the standard library. Every call may be made again with another node: what is asked
for must bear being done twice. While no node answers, calls fail at once, so that whoever waits
on us is not kept: all but one a second; all of them after hurry(), for then a thread looks for
a node that answers.
"""

import json
import socket
import ssl
import threading
import time
from base64 import b64decode, b64encode
from typing import Any, NamedTuple

from ..errors import MISUSE, Problem
from . import WentBack
from .etcdhttp import Connection, NoEtcd
from .place import Place

_PATIENCE_S = 5.0  # of one call, over all nodes: an election takes 1 to 3 s at etcd's defaults
_HURRY_S = 1.0  # the same after hurry(), unless etcd is slow
_PROBE_S = 0.3  # the same while none has answered lately
_REST_S = 1.0  # between such calls
# Of one node, where there are others; as much more each time once all were asked: what a leader
# had taken when it died is answered never, asked anew it is done by the next one
_ATTEMPT_S = 0.3
_SLOWEST_S = 2.0  # as which etcd's own pace makes that
_SCOUT_S = 0.1  # between a thread's tries
_PAUSE_S = 0.05
_UNAVAILABLE = {4, 14}  # gRPC: deadline exceeded, unavailable
_ITSELF = "connection error"  # of the gateway to the node that it is a part of
_BUSY = "too many requests"
_NO_SPACE = "database space exceeded"


class Unreachable(Problem):
    """No node answered: what was asked for may have been done, or be done yet."""


class Found(NamedTuple):
    """A key as etcd has it; mod 0: there is none."""

    value: bytes = b""
    mod: int = 0
    create: int = 0
    lease: int = 0
    key: bytes = b""


class Answer(NamedTuple):
    is_done: bool
    rows: list[list[Found]]  # of each operation, in their order; nothing of what only writes
    revision: int


# What a transaction asks and does


def has_mod(key: bytes, mod: int) -> dict[str, str]:
    return {"key": _text(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(mod)}


def was_made(key: bytes, create: int) -> dict[str, str]:
    target = {"target": "CREATE", "result": "EQUAL", "create_revision": str(create)}
    return {"key": _text(key), **target}


def has_value(key: bytes, value: bytes) -> dict[str, str]:
    return {"key": _text(key), "target": "VALUE", "result": "EQUAL", "value": _text(value)}


def has_none(start: bytes, end: bytes) -> dict[str, str]:
    """Of the keys from start to before end."""
    return was_made(start, 0) | {"range_end": _text(end)}


def is_no_newer(start: bytes, end: bytes, revision: int) -> dict[str, str]:
    """None of those keys, where it is there, has been put after that revision."""
    target = {"target": "MOD", "result": "LESS", "mod_revision": str(revision + 1)}
    return {"key": _text(start), "range_end": _text(end), **target}


def get(
    key: bytes, end: bytes = b"", limit: int = 0, revision: int = 0, since: int = 0
) -> dict[str, Any]:
    """end: all from key to before that. revision: as they were then. since: only what was put
    after that revision."""
    asked = {"key": _text(key), "limit": str(limit), "revision": str(revision)}
    if since:
        asked["min_mod_revision"] = str(since + 1)
    return {"request_range": asked | ({"range_end": _text(end)} if end else {})}


def put(key: bytes, value: bytes, lease: int = 0) -> dict[str, Any]:
    return {"request_put": {"key": _text(key), "value": _text(value), "lease": str(lease)}}


def keep(key: bytes) -> dict[str, Any]:
    """The key is no longer under a lease; its value stays."""
    return {"request_put": {"key": _text(key), "ignore_value": True}}


def delete(key: bytes, end: bytes = b"") -> dict[str, Any]:
    named = {"key": _text(key)} | ({"range_end": _text(end)} if end else {})
    return {"request_delete_range": named}


class Client:
    """Owned by one thread."""

    def __init__(self, place: Place):
        """Problem where its files are none."""
        place.check()
        self._place = place
        self._url = place.url
        self._nodes = place.nodes
        self._tls = _context(place) if place.ca else None
        self._at = 0
        self.tries = 0  # of the last call: all but the last of them may have been done
        self._connection: Connection | None = None
        self._addresses: dict[str, str] = {}  # of nodes that have names: asked for once
        self._attempt_s = _ATTEMPT_S
        self._why = ""  # the last call failed, since
        self._rests_until = 0.0
        self._is_hurried = False
        self._scout: _Scout | None = None
        self._cluster = ""  # the ID of etcd, and the newest revision, as last seen
        self._revision = 0

    def transact(self, compares: list, success: list, failure: list | None = None) -> Answer:
        body = {"compare": compares, "success": success, "failure": failure or []}
        done = self.call("kv/txn", body)
        rows = [
            [_found(each) for each in response.get("response_range", {}).get("kvs", ())]
            for response in done.get("responses", ())
        ]
        header = done["header"]
        revision, cluster = int(header["revision"]), header["cluster_id"]
        if revision < self._revision or cluster != (self._cluster or cluster):
            raise self.went_back()
        self._revision, self._cluster = revision, cluster
        return Answer(bool(done.get("succeeded")), rows, revision)

    def went_back(self) -> WentBack:
        return WentBack(f"{self._url} went back in time: start the key servers anew.")

    def hurry(self) -> None:
        """Whoever calls from now on has others waiting."""
        self._is_hurried = True

    def grant(self, ttl_s: int) -> int:
        return int(self.call("lease/grant", {"TTL": str(ttl_s), "ID": "0"})["ID"])

    def renew(self, lease: int) -> bool:
        """Whether it was there still."""
        done = self.call("lease/keepalive", {"ID": str(lease)})
        return int(done.get("result", {}).get("TTL", "0")) > 0

    def revoke(self, lease: int) -> None:
        """One that is gone is no error."""
        self.call("lease/revoke", {"ID": str(lease)}, absent_is_fine=True)

    def close(self) -> None:
        if self._scout:
            self._scout.stop()
            self._scout = None
        self._hang_up()

    def call(self, path: str, body: dict, absent_is_fine: bool = False) -> dict[str, Any]:
        """Problem where etcd refuses; Unreachable where no node answers in time."""
        end = time.monotonic() + self._time_for_a_call()
        self.tries = 1
        while True:
            try:
                status, done = self._ask(path, json.dumps(body).encode(), end)
                if status == 200:
                    self._why = ""
                    return done
                code, words = done.get("code"), str(done.get("message") or done.get("error"))
                if code == 5 and absent_is_fine:
                    return {}
                if code not in _UNAVAILABLE and _BUSY not in words:
                    raise self._refused(words)
                why, is_tls = words, False
            except (OSError, NoEtcd) as error:
                why, is_tls = _reason(error), isinstance(error, ssl.SSLError)
            failed = self._nodes[self._at]
            self._hang_up()
            self._at = (self._at + 1) % len(self._nodes)
            if time.monotonic() >= end or (is_tls and self.tries >= len(self._nodes)):
                break
            if self.tries % len(self._nodes) == 0:
                time.sleep(_PAUSE_S)
            self.tries += 1
        self._why = self._sentence(failed, why, is_tls)
        self._rests_until = time.monotonic() + _REST_S
        if self._is_hurried:
            self._scout = _Scout(self._place)
        raise Unreachable(self._why)

    def _time_for_a_call(self) -> float:
        """Unreachable where none is to be made."""
        if self._scout:
            if not self._scout.has_found:
                raise Unreachable(self._why)
            found, self._scout = self._scout.client, None
            self._at, self._addresses = found._at, found._addresses
            self._attempt_s = max(self._attempt_s, found._attempt_s)
        elif self._why and time.monotonic() < self._rests_until:
            raise Unreachable(self._why)
        elif self._why:
            return _PROBE_S
        return max(_HURRY_S, 2 * self._attempt_s) if self._is_hurried else _PATIENCE_S

    def _ask(self, path: str, body: bytes, end: float) -> tuple[int, dict[str, Any]]:
        now = time.monotonic()
        if len(self._nodes) > 1:
            end = min(end, now + self._attempt_s * max(1, self.tries - len(self._nodes)))
        end = max(end, now + 0.05)
        if self._connection is None:
            self._connection = Connection(self._nodes[self._at], self._address(), self._tls, end)
        answer = self._connection.post(path, body, end)
        took = time.monotonic() - now
        self._attempt_s = max(_ATTEMPT_S, min(2 * took, _SLOWEST_S), 0.9 * self._attempt_s)
        return answer

    def _address(self) -> str:
        """Names are asked for once, since that may take long; again where a thread does it."""
        host, port = self._nodes[self._at]
        if host not in self._addresses:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
            self._addresses[host] = str(found[0][4][0])
        return self._addresses[host]

    def _hang_up(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _sentence(self, node: tuple[str, int], why: str, is_tls: bool) -> str:
        where = f"{node[0]}:{node[1]}"
        if is_tls:
            return f"etcd at {where} and this machine don't take each other's certificates: {why}."
        if _ITSELF in why:
            return (
                f"etcd at {where} doesn't reach itself: its certificate has to serve clients too"
                " (clientAuth)."
            )
        return f"{self._url} doesn't answer ({why}): check that most of its nodes run."

    def _refused(self, words: str) -> Problem:
        if _NO_SPACE in words:
            return Problem(
                f"{self._url} has no more room: compact and defragment it, see etcdctl."
            )
        return Problem(
            f"{self._url} refuses to work for us: {words.removeprefix('etcdserver: ')}."
        )


class _Scout:
    """A thread that tries the nodes until one has written something: there is a leader."""

    def __init__(self, place: Place):
        self.client = Client(place)
        self.has_found = False
        self._is_over = threading.Event()
        self._nothing = [was_made(place.prefix + b"site", 0)], [put(place.prefix + b"site", b"")]
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._is_over.set()

    def _run(self) -> None:
        while not self._is_over.wait(_SCOUT_S):
            self.client._why = ""  # with patience: etcd may be slow
            self.client._addresses.clear()
            try:
                self.client.transact(*self._nothing)
            except Unreachable:
                continue
            except Problem:
                pass  # an answer too
            self.client._hang_up()
            self.has_found = True
            return


def _context(place: Place) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=place.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(place.cert, place.key, password="")  # nobody to ask
    except OSError as error:
        names = f"{place.ca}, {place.cert} and {place.key}"
        what = f"{names} can't be used for etcd: {_reason(error)}"
        raise Problem(f"{what}.", MISUSE) from error
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, NoEtcd):
        return str(error)
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "it ended the connection"


def _found(fields: dict[str, str]) -> Found:
    numbers = (int(fields.get(f"{name}", "0")) for name in _NUMBERS)
    return Found(b64decode(fields.get("value", "")), *numbers, b64decode(fields.get("key", "")))


_NUMBERS = ("mod_revision", "create_revision", "lease")


def _text(octets: bytes) -> str:
    return b64encode(octets).decode()
