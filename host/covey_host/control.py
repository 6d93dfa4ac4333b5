"""Commands to a running key server: JSON lines over a private Unix socket.

    > {"do": "rekey", "group": "line1"}
    < {"ok": true, ...}   or   {"ok": false, "problem": "one sentence", "status": 1}

A request is one line of at most 64 KiB, its answer is one line; a connection carries any number
of them in turn. Who may open run/control.sock (0600 in a 0700 directory) may do all that the
server's owner may: there is no other check.
"""

import asyncio
import json
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

from .errors import FAILURE, Problem
from .site import private_directory

_MOST_OCTETS = 65536  # of a request
_IDLE_S = 60  # a client that says nothing for so long is hung up on
_ANSWER_S = 60  # how long a client waits: a removal is answered after it was sent
_PATH_MOST = 100  # octets of a Unix socket's path: 103 on macOS, 107 on Linux
_UCRED = struct.Struct("3i")  # of Linux: process, user, group

_UNKNOWN = {"user": None, "process": None}

_caller: ContextVar[dict] = ContextVar("caller")


def call(path: Path, request: dict, answer_s: float = _ANSWER_S) -> dict | None:
    """Ask the running server: its answer, or None where no server is running.

    Problem: what the server answers with, or that it does not answer.
    """
    line = json.dumps(request).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(answer_s)
            sock.connect(_reachable(path))
            sock.sendall(line)
            answer = sock.makefile("rb").readline()
    except (FileNotFoundError, ConnectionRefusedError):
        return None  # never started, or killed before it could remove its socket
    except (ConnectionResetError, BrokenPipeError):
        answer = b""  # it was killed meanwhile
    except TimeoutError:
        raise Problem(f"The key server does not answer on {path}: look at its log.") from None
    except OSError as error:
        raise Problem(f"{path} can't be used: {os.strerror(error.errno or 0)}.") from error
    return _parse_answer(path, answer)


def caller() -> dict:
    """Who asks, while perform() runs: user and process as numbers, None where unknown."""
    return dict(_caller.get(_UNKNOWN))


class ControlSocket:
    """The server's end: perform(request) gives the answer's fields or raises Problem.

    perform runs in the event loop, one request at a time, and its answer is sent after it
    returned: whoever has the answer may rely on what was done.
    """

    def __init__(self, path: Path, perform: Callable[[dict], dict]):
        self._path = path
        self._perform = perform
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Only under the store's lock: a socket that is there is a killed server's."""
        private_directory(self._path.parent)
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
                raise Problem(f"{self._path} is no socket: remove it first.")
            os.unlink(self._path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(_reachable(self._path))
            os.chmod(self._path, 0o600)  # before listen(): nobody could connect until now
            self._server = await asyncio.start_unix_server(
                self._converse, sock=sock, limit=_MOST_OCTETS
            )
        except OSError as error:
            sock.close()
            raise Problem(f"{self._path} can't be opened: {os.strerror(error.errno)}.") from error

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        for client in list(self._clients):
            client.close()
        self._server = None

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        _caller.set(_peer(writer))
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    line = await reader.readuntil(b"\n")
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except asyncio.LimitOverrunError:
            answer = _refusal("A request is one line of at most 64 KiB.", FAILURE)
            writer.write(json.dumps(answer).encode() + b"\n")
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            pass  # hung up, silent for too long, or gone
        except asyncio.CancelledError:
            pass  # the server ends while a client doesn't read: asyncio would log a traceback
        finally:
            self._clients.discard(writer)
            with suppress(OSError):
                writer.close()

    def _answer(self, line: bytes) -> dict:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            return _refusal("A request is a JSON object on one line.", FAILURE)
        try:
            return {"ok": True, **self._perform(request)}
        except Problem as problem:
            return _refusal(problem.sentence, problem.status)
        except Exception as error:  # a fault of ours ends one request, never the server
            name = type(error).__name__
            return _refusal(f"The key server failed inside ({name}): please report it.", FAILURE)


def _peer(writer: asyncio.StreamWriter) -> dict:
    """As the system says it, not the client."""
    sock, level = writer.get_extra_info("socket"), getattr(socket, "SO_PEERCRED", None)
    if level is None:
        return _UNKNOWN
    process, user, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, level, _UCRED.size))
    return {"user": user, "process": process}


def _refusal(sentence: str, status: int) -> dict:
    return {"ok": False, "problem": sentence, "status": status}


def _parse_answer(path: Path, line: bytes) -> dict:
    try:
        answer = json.loads(line)
        if answer.pop("ok"):
            return answer
        problem = Problem(answer["problem"], answer["status"])
    except (ValueError, KeyError, AttributeError, TypeError):
        raise Problem(f"The key server on {path} hung up: look at its log.") from None
    raise problem


def _reachable(path: Path) -> str:
    """The shortest spelling of a path that the system takes as a socket's address."""
    spelling = min(os.path.abspath(path), os.path.relpath(path), key=len)
    if len(os.fsencode(spelling)) > _PATH_MOST:
        raise Problem(f"{path} is too long for a socket: move the site to a shorter path.")
    return spelling
