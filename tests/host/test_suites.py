"""tools/suites.py: several pytest processes on one suite, none of which hears another."""

import os
import signal
import subprocess
import sys

import pytest

from processes import PATIENCE_S, ROOT, run, wait_until

sys.path.insert(0, str(ROOT / "tools"))
import suites  # noqa: E402

pytestmark = pytest.mark.skipif(
    not suites.has_namespaces(), reason="this system grants no network namespaces"
)

CONFTEST = """\
import os
from pathlib import Path
import pytest
if "COVEY_TURNS" in os.environ:
    from turns import pytest_runtestloop, pytest_sessionfinish

HERE = Path(__file__).parent

@pytest.fixture(autouse=True)
def told(request):
    with open(HERE / "ran", "a") as file:
        file.write(f"{request.node.name} {os.getpid()}\\n")
    yield
    with open(HERE / "closed", "a") as file:
        file.write(request.node.name + "\\n")
"""
QUIET = "def test_{0}1():\n    pass\n\ndef test_{0}2():\n    pass\n"
WAITS = "import time\n\ndef test_{}():\n    time.sleep(60)\n"
# Each waits for the other, so that they run at the same time; then both say and hear.
NEIGHBOUR = """\
import os, socket, struct, time
from pathlib import Path

HERE, ME, OTHER = Path(__file__).parent, "{0}", "{1}"
GROUP, PORT = "239.192.7.1", 47001

def test_{0}():
    own = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    own.bind(("0.0.0.0", PORT))  # nobody else has it
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((GROUP, PORT))
    membership = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership[4:])
    sock.settimeout(0.05)
    (HERE / ("here-" + ME)).touch()
    while not (HERE / ("here-" + OTHER)).exists():
        time.sleep(0.01)
    heard = set()
    for _ in range(20):
        sock.sendto(ME.encode(), (GROUP, PORT))
        heard.add(sock.recv(100).decode())
    (HERE / ("done-" + ME)).touch()
    while not (HERE / ("done-" + OTHER)).exists():
        time.sleep(0.01)
    assert heard == {{ME}}
"""


@pytest.fixture
def suite(tmp_path):
    """suite(name=text, ...) starts tools/suites.py on these files, with these arguments."""
    started = []

    def start(*arguments, **files):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        for name, text in files.items():
            (tmp_path / f"test_{name}.py").write_text(text)
        path = os.pathsep.join(
            [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        started.append(
            subprocess.Popen(
                [
                    sys.executable,
                    ROOT / "tools" / "suites.py",
                    "-p",
                    "no:cacheprovider",
                    *arguments,
                ],
                cwd=tmp_path,
                env={**os.environ, "JOBS": "2", "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_each_test_is_run_once(suite, tmp_path):
    done = suite(**{name: QUIET.format(name) for name in "abcdef"})
    said = done.communicate(timeout=PATIENCE_S)[0].splitlines()
    assert done.returncode == 0, said
    assert sorted(line.split()[0] for line in lines(tmp_path / "ran")) == sorted(
        f"test_{name}{n}" for name in "abcdef" for n in (1, 2)
    )
    assert " 12 passed in " in said[-1] and "2 processes" in said[-1]
    assert all(f"test_{name}.py .." in said for name in "abcdef")


def test_neighbours_hear_nothing_of_each_other_but_fail_together(suite, tmp_path):
    """And both have the same port."""
    bad = "def test_bad():\n    assert 1 == 2, 'this is why'\n"
    done = suite(a=NEIGHBOUR.format("a", "b"), b=NEIGHBOUR.format("b", "a"), c=bad)
    said = done.communicate(timeout=PATIENCE_S)[0]
    assert done.returncode == 1
    assert "this is why" in said and "\nFAILED test_c.py::test_bad - " in said
    assert " 1 failed, 2 passed in " in said.splitlines()[-1]
    ran = [line.split() for line in lines(tmp_path / "ran")]
    assert len({number for name, number in ran if name != "test_bad"}) == 2


def test_a_process_that_dies_fails_all(suite):
    dies = "import os\n\ndef test_dies():\n    os.kill(os.getpid(), 9)\n"
    done = suite(a=dies, b=QUIET.format("b"), c=QUIET.format("c"))
    said = done.communicate(timeout=PATIENCE_S)[0]
    assert done.returncode == 2, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_both_and_they_put_away_what_they_had(suite, tmp_path, number):
    done = suite(**{name: WAITS.format(name) for name in "abc"})
    wait_until(lambda: len(lines(tmp_path / "ran")) == 2)
    done.send_signal(number)
    done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 2
    assert len(lines(tmp_path / "closed")) == 2
    for line in lines(tmp_path / "ran"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(line.split()[1]), 0)


def test_ctrl_c_ends_children_of_a_suite_in_a_scripts_background():
    test = "tests/host/test_cli.py::test_ctrl_c_while_modules_load_is_quiet_too"
    done = run(
        *("-m", "pytest", "-p", "no:cacheprovider", test),
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0 and " 1 passed" in done.stdout, done.stdout


def test_killed_it_takes_them_along(suite, tmp_path):
    done = suite(**{name: WAITS.format(name) for name in "ab"})
    wait_until(lambda: len(lines(tmp_path / "ran")) == 2)
    done.kill()
    wait_until(lambda: len(lines(tmp_path / "closed")) == 2)


# Tests that fail once. test_join.py is one of those in real time, and test_gcm.py is not.

ONCE = """\
from pathlib import Path
import pytest

@pytest.mark.parametrize("n", range({tests}))
def test_once(n):
    mark = Path(f"{{__file__}}-{{n}}-was-here")
    if not mark.exists():
        {touch}
        assert False, "{why}"
"""
TOUCH = "mark.touch()"


def once(tests=1, touch=TOUCH, why="not this time"):
    return ONCE.format(tests=tests, touch=touch, why=why)


def test_who_fails_once_is_named(suite, tmp_path):
    done = suite(join=once(3), b=QUIET.format("b"))
    said = done.communicate(timeout=PATIENCE_S)[0]
    assert done.returncode == 0, said
    *rest, a, b, c, last = said.splitlines()
    for n, line in enumerate((a, b, c)):
        reason = "AssertionError: not this time"
        assert line.startswith(f"UNSTEADY test_join.py::test_once[{n}] - {reason}")
    assert " 2 passed, 3 unsteady in " in last and "failed, but not alone" in rest[-1]
    assert "FAILURES" in said and "was-here" in said  # and why
    ran = [line.split()[0] for line in lines(tmp_path / "ran")]
    assert [ran.count(f"test_once[{n}]") for n in range(3)] == [3, 3, 3]


@pytest.mark.parametrize(
    "arguments, files, runs",
    [
        ((), {"join": once(touch="pass")}, 2),
        ((), {"join": once(4)}, 4),
        ((), {"gcm": once()}, 1),
        ((), {"join": once(), "gcm": once(touch="pass")}, 2),
        ((), {"join": once(why="ESP: nonce 01 again under 02")}, 1),
        ((), {"join": once(why=r"it lies in /tmp\nok a\nFAIL b: the valve obeyed 3 of 10")}, 1),
        ((), {"demo": once()}, 1),
        (("-k", "once"), {"join": once()}, 1),
        (("test_join.py", "test_b.py"), {"join": once()}, 1),
    ],
    ids=[
        "always",
        "four",
        "no time",
        "one of two",
        "grave",
        "in its third line",
        "demo",
        "by -k",
        "by path",
    ],
)
def test_who_fails_otherwise_fails(suite, tmp_path, arguments, files, runs):
    done = suite(*arguments, b=QUIET.format("b"), **files)
    said = done.communicate(timeout=PATIENCE_S)[0]
    assert done.returncode == 1 and "UNSTEADY" not in said, said
    assert "failed" in said.splitlines()[-1] and "FAILED test_" in said
    assert sum("once" in line for line in lines(tmp_path / "ran")) == runs


def test_what_a_fixture_finds_is_not_asked_again(suite, tmp_path):
    finds = "import pytest\n\n@pytest.fixture\ndef found():\n    yield\n    assert False\n\n"
    done = suite(join=finds + "def test_found(found):\n    pass\n", b=QUIET.format("b"))
    said = done.communicate(timeout=PATIENCE_S)[0]
    assert done.returncode == 1 and "UNSTEADY" not in said, said
    assert sum("found" in line for line in lines(tmp_path / "ran")) == 1


def test_who_hangs_is_ended_and_named(suite):
    limit = ("-o", "faulthandler_timeout=2", "-o", "faulthandler_exit_on_timeout=true")
    done = suite(*limit, a=WAITS.format("a"), b=QUIET.format("b"))
    said = done.communicate(timeout=PATIENCE_S)[0]
    assert done.returncode == 1, said
    assert "a process ended in the midst of test_a.py::test_a" in said
