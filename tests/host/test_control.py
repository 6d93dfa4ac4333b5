"""The control socket: private, bounded, one line a request; and bad clients."""

import asyncio
import json
import os
import select
import socket
import stat
import threading
from contextlib import contextmanager

import pytest

from covey_host import control
from covey_host.errors import MISUSE, Problem


def perform(request):
    if request.get("do") == "fail":
        raise Problem("No group is called line9.", MISUSE)
    return {"heard": request}


@contextmanager
def served(path, answer=perform):
    """A control socket in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = control.ControlSocket(path, answer)
    loop.run_until_complete(server.open())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "control.sock"


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    return sock, sock.makefile("rb")


def test_a_request_is_answered_and_a_problem_raised(path):
    with served(path):
        assert control.call(path, {"do": "x", "n": 1}) == {"heard": {"do": "x", "n": 1}}
        with pytest.raises(Problem, match="line9") as caught:
            control.call(path, {"do": "fail"})
        assert caught.value.status == MISUSE


def test_nobody_there_is_none(path):
    assert control.call(path, {}) is None
    with served(path):
        pass
    assert not path.exists()  # a graceful end removes it
    assert control.call(path, {}) is None


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_socket_and_directory_are_private(path, mask):
    before = os.umask(mask)
    try:
        with served(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_the_socket_of_a_killed_server_is_replaced(path):
    path.parent.mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    assert control.call(path, {}) is None
    with served(path):
        assert control.call(path, {"a": 1}) == {"heard": {"a": 1}}


def test_a_file_in_its_place_is_not_removed(path):
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(Problem, match="remove it"):
        asyncio.run(control.ControlSocket(path, perform).open())
    assert path.read_text() == "mine"


def test_several_requests_on_one_connection_and_two_clients(path):
    with served(path):
        one, lines = connect(path)
        two, others = connect(path)
        one.sendall(b'{"n": 1}\n{"n": 2}\n')
        two.sendall(b'{"n": 3}\n')
        assert [json.loads(lines.readline())["heard"]["n"] for _ in range(2)] == [1, 2]
        assert json.loads(others.readline())["heard"]["n"] == 3
        for each in (one, two, lines, others):
            each.close()


@pytest.mark.parametrize(
    "line", [b"\n", b"nonsense\n", b"[1]\n", b'"x"\n', b"\xff\xfe\n", b"[" * 60000 + b"\n"]
)
def test_what_is_no_request_is_refused_and_the_next_one_heard(path, line):
    with served(path):
        sock, lines = connect(path)
        sock.sendall(line + b'{"n": 4}\n')
        answer = json.loads(lines.readline())
        assert answer["ok"] is False and "JSON object" in answer["problem"]
        assert json.loads(lines.readline())["heard"] == {"n": 4}
        sock.close()
        lines.close()


def test_a_request_without_end_is_cut_off(path):
    with served(path):
        sock, lines = connect(path)
        try:
            for _ in range(100):
                sock.sendall(b"x" * 65536)
        except OSError:
            pass  # hung up on
        try:
            answer = lines.readline()
            assert not answer or "64 KiB" in json.loads(answer)["problem"]
        except ConnectionResetError:
            pass
        assert control.call(path, {"n": 5}) == {"heard": {"n": 5}}
        sock.close()
        lines.close()


def test_a_client_that_hangs_up_disturbs_nobody(path):
    with served(path):
        for data in (b"", b'{"n"', b'{"n": 6}\n'):
            sock, lines = connect(path)
            sock.sendall(data)
            sock.close()
            lines.close()
        assert control.call(path, {"n": 7}) == {"heard": {"n": 7}}


def test_a_fault_inside_is_answered_and_reported(path):
    def broken(request):
        return {"x": 1 // request["n"]}

    with served(path, broken):
        with pytest.raises(Problem, match="failed inside.*ZeroDivisionError"):
            control.call(path, {"n": 0})
        assert control.call(path, {"n": 1}) == {"x": 1}


def test_a_server_that_hangs_up_is_named(path):
    path.parent.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def hang_up():
        for answer in (b"", b"nonsense\n", b'{"ok": false}\n', b"[]\n", None):
            client = listener.accept()[0]
            select.select([client], [], [])
            if answer is not None:  # else killed with the request unread: the connection is reset
                client.recv(100)
                client.sendall(answer)
            client.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    for _ in range(5):
        with pytest.raises(Problem, match="hung up"):
            control.call(path, {})
    thread.join()
    listener.close()


def test_a_server_that_is_stuck_is_named(path, monkeypatch):
    monkeypatch.setattr(control, "_ANSWER_S", 0.1)
    path.parent.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with pytest.raises(Problem, match="does not answer"):
        control.call(path, {})
    listener.close()


def test_a_path_too_long_for_a_socket(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 90) / "run" / "control.sock"
    deep.parent.mkdir(parents=True)
    with pytest.raises(Problem, match="shorter path"):
        control.call(deep, {})
    monkeypatch.chdir(deep.parent.parent)  # from here its relative spelling is short enough
    with served(deep):
        assert control.call(deep, {"n": 8}) == {"heard": {"n": 8}}


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux says who asks")
def test_who_asks_is_known_from_the_system(path):
    with served(path, lambda request: {"who": control.caller()}):
        me = {"user": os.getuid(), "process": os.getpid()}
        assert control.call(path, {"user": 1, "process": 1}) == {"who": me}
    assert control.caller() == {"user": None, "process": None}
