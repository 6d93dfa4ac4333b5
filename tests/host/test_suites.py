"""tools/suites.py: several pytest processes on one suite, none of which hears another."""

import os
import signal
import subprocess
import sys

import pytest

from processes import ROOT, wait_until

sys.path.insert(0, str(ROOT / "tools"))
import suites  # noqa: E402

pytestmark = pytest.mark.skipif(
    not suites.has_namespaces(), reason="this system grants no network namespaces"
)

CONFTEST = """\
import os
from pathlib import Path
import pytest
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
    """suite(name=text, ...) starts tools/suites.py on these files."""
    started = []

    def start(**files):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        for name, text in files.items():
            (tmp_path / f"test_{name}.py").write_text(text)
        path = os.pathsep.join(
            [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        started.append(
            subprocess.Popen(
                [sys.executable, ROOT / "tools" / "suites.py", "-p", "no:cacheprovider"],
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
    said = done.communicate(timeout=60)[0].splitlines()
    assert done.returncode == 0, said
    assert sorted(line.split()[0] for line in lines(tmp_path / "ran")) == sorted(
        f"test_{name}{n}" for name in "abcdef" for n in (1, 2)
    )
    assert " 12 passed in " in said[-1] and "2 processes" in said[-1]
    assert all(f"test_{name}.py .." in said for name in "abcdef")


def test_what_fails_in_one_process_fails_all(suite):
    bad = "def test_bad():\n    assert 1 == 2, 'this is why'\n"
    done = suite(a=NEIGHBOUR.format("a", "b"), b=NEIGHBOUR.format("b", "a"), c=bad)
    said = done.communicate(timeout=60)[0]
    assert done.returncode == 1
    assert "this is why" in said and "\nFAILED test_c.py::test_bad - " in said
    assert " 1 failed, 2 passed in " in said.splitlines()[-1]


def test_neighbours_neither_hear_each_other_nor_want_the_same_port(suite, tmp_path):
    done = suite(a=NEIGHBOUR.format("a", "b"), b=NEIGHBOUR.format("b", "a"))
    assert done.communicate(timeout=60)[0].splitlines()[-1].count("2 passed")
    assert len({line.split()[1] for line in lines(tmp_path / "ran")}) == 2


def test_a_process_that_dies_fails_all(suite):
    dies = "import os\n\ndef test_dies():\n    os.kill(os.getpid(), 9)\n"
    done = suite(a=dies, b=QUIET.format("b"), c=QUIET.format("c"))
    said = done.communicate(timeout=60)[0]
    assert done.returncode == 2, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_both_and_they_put_away_what_they_had(suite, tmp_path, number):
    waits = "import time\n\ndef test_{}():\n    time.sleep(60)\n"
    done = suite(**{name: waits.format(name) for name in "abc"})
    wait_until(lambda: len(lines(tmp_path / "ran")) == 2)
    done.send_signal(number)
    done.communicate(timeout=30)
    assert done.returncode == 2
    assert len(lines(tmp_path / "closed")) == 2
    for line in lines(tmp_path / "ran"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(line.split()[1]), 0)


def test_killed_it_takes_them_along(suite, tmp_path):
    waits = "import time\n\ndef test_{}():\n    time.sleep(60)\n"
    done = suite(**{name: waits.format(name) for name in "ab"})
    wait_until(lambda: len(lines(tmp_path / "ran")) == 2)
    done.kill()
    wait_until(lambda: len(lines(tmp_path / "closed")) == 2)
