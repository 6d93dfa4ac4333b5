"""What is entered into the audit log, and who did it.

A command is entered before it is done, and once more where it fails: by the user of whoever asked,
as the system says it. Events of the key server are entered before anybody hears of what they tell.
What members and strangers cause has a quota. No octet of a key, a message or a file is entered.

Where nothing can be written, commands that let somebody in or give something out are refused;
those that put somebody out or take a right away are not, and the key server goes on.
"""

import hashlib
import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import permissions
from ..errors import Problem
from ..gcks import policy
from ..gcks.authority import Authority
from ..gcks.ledger import Ledger
from ..output import complain
from ..site import Site
from ..store import Store, location
from . import rows
from .journal import Journal
from .quota import Quota

SERVER = "server"  # did it by itself
_TOLD = 500  # characters of what somebody tells of himself
_LEFT_OUT_S = 600  # until entries of what was left out

_QUIET = {"moved", "waits", "unanswered", "trouble", "skipped", "drops"}
_READING = {"status", "why", "member list", "health", "policy"}
_ALWAYS = {"member remove", "rekey", "reload"}  # done even if it can't be entered
_STRANGERS = {"authentication_failed"}
_MEMBERS = {"registered", "left", "refused", "replaced"}
# Of a request; all else in it may be secret, or is long.
_FACTS = ("group", "member", "members", "sender", "role", "file", "auth", "ppk", "delivery")
_FACTS += ("settings", "servers", "interface", "ttl", "days", "revoke", "follow", "new", "new_key")
_FACTS += ("names",)
_LISTS = ("members", "names")  # entered in full, by several entries
_MOST_NAMES = 100  # in one entry
_MOST_TEXT = 500  # characters of a value
_FILES = ("ca_cert", "ca_key", "cert", "csr", "crl", "psk", "public_key")  # only that they came


class Recorder:
    """policy: the file whose hash is entered where it is taken. trouble(sentence) is told.
    has_events: whether event() will be told of exported keys, as a running server is."""

    def __init__(
        self,
        journal: Journal,
        policy: Path,
        trouble: Callable[[str], None],
        *,
        has_events: bool,
    ):
        self.by: Any = SERVER  # who asked for what is done just now
        self._journal = journal
        self._has_events = has_events
        self._policy = policy
        self._trouble = trouble
        self._members = Quota(burst=10, every_s=60, most=100_000)
        self._strangers = Quota(burst=5, every_s=300, most=64)
        self._left_out_s: float | None = None

    @contextmanager
    def command(self, request: dict, by: Any, takes: Callable[[], bool] = lambda: False):
        """Around what a person, or a signal, asks for: its events are theirs. takes(): whether it
        takes rights and gives none, where the request alone doesn't say. Gives what its answer is
        to have besides: `not_entered`, a sentence."""
        if not is_entered(request):
            yield {}
            return
        command = request["do"]
        if command == "failed":  # of one that was entered before and is done by whoever asks
            told = {name: str(request.get(name))[:_TOLD] for name in ("command", "reason")}
            self._journal.add(command, by, **told)
            self.settle()
            yield {}
            return
        by_event = command == "keys" and self._has_events  # whoever follows asks all the time
        if not by_event:
            for facts in _facts(request):
                self._journal.add("command", by, command=command, **facts)
        self.by = by
        try:
            failed = self.settle()
            if failed and not (_puts_out(request) or takes()):
                raise Problem(failed)
            yield {"not_entered": not_entered(failed)} if failed else {}
            if by_event and (failed := self.settle()):
                raise Problem(failed)
        except Exception as error:
            is_fault = not isinstance(error, Problem)
            reason = type(error).__name__ if is_fault else error.sentence
            self._journal.add("failed", by, command=command, reason=reason)
            raise
        finally:
            self.settle()
            self.by = SERVER

    def event(self, name: str, facts: dict[str, Any], now_s: float) -> None:
        """One of the log. settle() is to follow, before anybody hears of it."""
        if name in _QUIET:
            return
        by = self.by
        if name == "left_out":  # by a worker, which knows of strangers only
            self._strangers.leave_out((facts["of"], None), facts["count"], now_s)
            return
        if name in _STRANGERS:
            by = {"address": facts["address"]}
            if not self._strangers.take((name, facts["address"]), now_s):
                return
        elif name in _MEMBERS:
            by = {"member": facts["member"]}
            if not self._members.take((name, facts["member"]), now_s):
                return
        elif name == "reloaded":
            facts = facts | self.policy()
        self._journal.add(name, by, **facts)

    def enter(self, event: str, **facts: Any) -> None:
        """Of the server itself: its start and its end."""
        self._journal.add(event, self.by, **facts)

    def policy(self) -> dict[str, Any]:
        """Which covey.toml it is."""
        with suppress(OSError):
            return {"policy_sha256": hashlib.sha256(self._policy.read_bytes()).hexdigest()}
        return {"policy_sha256": None}

    def settle(self) -> str | None:
        """Make durable all there is. Where it can't be: told, and the sentence."""
        failed = self._journal.commit()
        if failed:
            self._trouble(failed)
        return failed

    def look(self) -> str | None:
        """settle(), also where nothing is to be written: the file may be gone."""
        failed = self._journal.look()
        if failed:
            self._trouble(failed)
        return failed

    @property
    def was_cut(self) -> bool:
        """Whether the log was found cut or replaced, since this was made."""
        return self._journal.was_cut

    @property
    def is_behind(self) -> bool:
        """Whether step() is to be called within a second: there is more than the store knows."""
        return not self._journal.is_marked

    def step(self, now_s: float) -> None:
        """What time has brought. Problem where the store takes no mark."""
        if self._left_out_s is None:
            self._left_out_s = now_s
        if now_s - self._left_out_s >= _LEFT_OUT_S:
            self._left_out_s = now_s
            self._enter_left_out()
        self.settle()
        self._journal.mark(now_s)

    def close(self) -> None:
        """Problem where the store takes no mark."""
        self._enter_left_out()
        try:
            self._journal.mark(0, at_once=True)
        finally:
            self._journal.close()

    def _enter_left_out(self) -> None:
        for kind, quota in (("address", self._strangers), ("member", self._members)):
            for key, count in quota.left_out():
                name, who = (None, None) if key is None else key
                self._journal.add("left_out", {kind: who}, of=name, count=count)
        self.settle()


@contextmanager
def alone(site: Site, store: Store, request: dict):
    """Around a command that is done without a running server, under the store's lock."""
    if not is_entered(request):
        yield
        return

    def takes() -> bool:
        with suppress(Problem):
            groups = policy.load(site.policy).groups
            return permissions.only_takes(Authority(Ledger(store)), groups, request)
        return False

    who = location.replica_of(site)
    try:
        journal = Journal(site.root, Ledger(store), time.time, who=who)
    except Problem as problem:
        if not (_puts_out(request) or takes()):
            raise
        rows.count_unwritten(Ledger(store), who)
        complain(not_entered(problem.sentence))
        yield
        return
    recorder = Recorder(journal, site.policy, complain, has_events=False)
    try:
        with recorder.command(request, person(os.getuid(), os.getpid()), takes):
            yield
    finally:
        with suppress(Problem):  # the mark is found again in the file
            recorder.close()


def not_entered(why: str) -> str:
    """For who is done a command of which the log can't tell."""
    return f"{why} This is done, and no entry tells of it."


@lru_cache(maxsize=64)
def _user_name(user: int) -> str | None:
    """Asked for once: it may come over a network."""
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return None


def person(user: int | None, process: int | None) -> dict[str, Any]:
    """By whom, of a user's and a process's number; None where the system doesn't say."""
    name = None if user is None else _user_name(user)
    return {"user": name, "uid": user, "process": process}


def is_entered(request: dict) -> bool:
    command = request.get("do")
    if not isinstance(command, str) or command in _READING:
        return False
    if command != "site ca":
        return True
    return request.get("new") is True or request.get("new_key") is True or bool(_files(request))


def _puts_out(request: dict) -> bool:
    """Whether it is done even if it can't be entered."""
    if request["do"] == "site ca":
        makes_keys = request.get("new") is True or request.get("new_key") is True
        return _files(request) == ["crl"] and not makes_keys
    return request["do"] in _ALWAYS or request.get("role") == "none"


def _files(request: dict) -> list[str]:
    return [name for name in _FILES if request.get(name) is not None]


def _facts(request: dict) -> Iterator[dict[str, Any]]:
    """Those of one entry, or of several where a list is long: nobody put out is left out."""
    facts = {name: request[name] for name in _FACTS if request.get(name) is not None}
    long = {name: value for name, value in facts.items() if name in _LISTS and _is_long(value)}
    facts = {name: _short(value, 2) for name, value in facts.items() if name not in long}
    if files := _files(request):
        facts["files"] = files
    if not long:
        yield facts
    for name, value in long.items():
        for at in range(0, len(value), _MOST_NAMES):
            some = [_short(each, 1) for each in value[at : at + _MOST_NAMES]]
            yield facts | {name: some, "of": len(value)}


def _is_long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > _MOST_NAMES


def _short(value: Any, depth: int) -> Any:
    """Of a command's value what has room in a line: whoever speaks to the socket may nest what it
    likes, and make it as long as it likes."""
    if isinstance(value, str):
        return value if len(value) <= _MOST_TEXT else value[:_MOST_TEXT] + "..."
    if not isinstance(value, dict | list):
        return value
    if not depth:
        return "?"
    if isinstance(value, dict):
        some = list(value.items())[:_MOST_NAMES]
        return {_short(name, 0): _short(each, depth - 1) for name, each in some}
    some = [_short(each, depth - 1) for each in value[:_MOST_NAMES]]
    return some if len(value) <= _MOST_NAMES else [*some, f"{len(value) - _MOST_NAMES} more"]
