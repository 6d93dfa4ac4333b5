"""docs/member-api.md: its programs run as they stand, by what it says to type, on CPython and on
both MicroPythons; its tables name what `covey.aio` has.
"""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from covey import aio, membership, several
from markdown import ROOT, TEXTS, blocks, codes, section, table
from processes import ENVIRONMENT, PATIENCE_S, wait_until
from site_bench import Bench
from test_docs_tables import calls
from test_micropython import interpreter, without

DOC = TEXTS[ROOT / "docs" / "member-api.md"]
KINDS = ["cpython", "x64", "x86"]
WIFI = {"ssid": "plant floor", "password": "correct horse battery"}
BUTTON = 0  # its pin, in desk.toml


def programs():
    """Name → text, by the docstring that each begins with."""
    return {re.match(r'"""(\w+\.py): ', text)[1]: text for text in blocks(DOC, "python")}


def typed(heading, kind):
    """The lines of a section that run something on this interpreter, as a person types them."""
    lines = "".join(blocks(section(DOC, heading), "sh")).splitlines()
    found = [line for line in lines if ("/micropython" in line) == (kind != "cpython")]
    return [line.replace("x64", kind) for line in found if not line.startswith(". ")]


class Tree:
    """Where a person is: a directory with what `make setup` made, the programs, a site beside."""

    def __init__(self, folder: Path):
        self.bench = Bench(folder / "plant")
        self.folder = folder / "covey"
        self.folder.mkdir()
        for name in (".build", "lib", "host", "firmware"):
            (self.folder / name).symlink_to(ROOT / name)
        for name, text in programs().items():
            (self.folder / name).write_text(text)
        self._running: list[subprocess.Popen] = []

    def run(self, line: str) -> subprocess.Popen:
        """One line, in a terminal of its own. Its errors go where its words go."""
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        child = subprocess.Popen(
            ["/bin/sh", "-ec", line],
            cwd=self.folder,
            env={**ENVIRONMENT, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._running.append(child)
        return child

    def ends(self, line: str, status: int = 0) -> str:
        child = self.run(line)
        said = child.communicate(timeout=PATIENCE_S)[0]
        assert child.returncode == status, said
        return said

    def close(self) -> None:
        for child in self._running:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self.bench.close()


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param != "cpython":
        wrapper, reason = interpreter(request.param)
        if wrapper is None:
            without(request.param, reason)
    return request.param


def heard(child, text):
    """Its lines up to the one with this text."""
    lines = []
    for line in child.stdout:
        lines.append(line)
        if text in line:
            return lines
    pytest.fail(f"no {text!r} in:\n{''.join(lines)}")


def test_a_receiver_hears_a_sender_until_it_is_told_to_stop(tree, kind):
    bench = tree.bench
    bench.member("eye")
    bench.member("probe", "--sender")
    bench.member("boss", "--sender")
    receiver_line, sender_line = typed("Run it on this machine", kind)
    bench.serve()
    receiver = tree.run(receiver_line)
    heard(receiver, "member")
    assert not tree.ends(sender_line)
    assert bench.end(bench.launch("join", "boss", "--send", "stop"), 0)[0] == 0
    rest = receiver.communicate(timeout=PATIENCE_S)[0]
    assert receiver.returncode == 0, rest
    readings = re.findall(r"^(\d+) reading (\d+)$", rest, re.M)
    assert [int(number) for _, number in readings] == list(range(20))
    assert re.search(r"^\d+ stop\nleft", rest, re.M)


def test_what_a_person_can_mend_is_one_sentence(tree, kind):
    for line in typed("Run it on this machine", kind):
        said = tree.ends(line.replace("covey.json", "nothing.json"), 1)
        assert len(said.splitlines()) == 1 and "nothing.json" in said, said


@pytest.mark.parametrize("name", ["config.py", "gcm.py"])
def test_what_needs_no_group_prints_what_stands_below_it(tree, kind, name):
    shown = blocks(section(DOC, f"covey.{name.removesuffix('.py')}"), "text")[0]
    like = typed("Run it on this machine", kind)[0]
    # By another name: it must not stand in the way of a module's.
    (tree.folder / f"example_{name}").write_text(programs()[name])
    line = re.sub(r"receiver\.py .*", f"example_{name}", like)
    assert tree.ends(line) == shown


def test_main_runs_on_a_board_that_is_this_machine(tree, kind):
    bench = tree.bench
    bench.member("counter", "--sender")
    bench.member("eye")
    (bench.root / "wifi.json").write_text(json.dumps(WIFI))
    (toml,) = blocks(DOC, "toml")
    (tree.folder / "desk.toml").write_text(toml.replace("x64", kind))
    as_image, as_files = blocks(section(DOC, "Without a board"), "sh")
    bench.serve()
    eye = bench.launch("join", "eye", "--json")
    if kind == "cpython":
        air = next(line for line in as_image.splitlines() if "desk/air" in line)
        block = f"mkdir desk\n{air}\n{as_files}"
    else:
        block = as_image.replace("x64", kind)
    board = tree.run(block)
    heard(board, "covey: member")
    says(eye, "pressed 0")
    part = tree.folder / "desk" / "inputs.new"
    part.write_text(json.dumps({str(BUTTON): 0}))  # pulled up: it is pressed
    part.replace(tree.folder / "desk" / "inputs")
    says(eye, "pressed 1")
    bench.covey("rekey", "line1")
    heard(board, "covey: rekeyed")


def says(listener, text):
    """A packet with this text comes."""
    wait_until(lambda: json.loads(listener.stdout.readline()).get("text") == text)


# Tables


def test_the_arguments_of_join():
    assert codes(table(DOC, "join()")) == set(inspect.signature(aio.join).parameters)


def test_the_fields_of_a_packet():
    fields = {name for name in dir(aio.Packet(b"", None, False)) if not name.startswith("_")}
    assert codes(table(DOC, "Packet")) == fields


def test_what_joined_has():
    shown = {name.partition("(")[0] for name in codes(table(DOC, "Joined"))}
    public = {name: value for name, value in vars(aio.Joined).items() if name[0] != "_"}
    methods = {name for name, value in public.items() if callable(value)}
    assert methods <= shown
    for name in shown - methods - {"async for"}:
        assert name in public or f"self.{name} = " in inspect.getsource(aio.Joined), name
    for name, cells in table(DOC, "Joined").items():
        method = getattr(aio.Joined, name.strip("`").partition("(")[0], None)
        awaited = inspect.iscoroutinefunction(method)
        assert cells[1].startswith("to await: ") == awaited, name


def test_the_events():
    states = set(membership.NAMES) - {"idle"}  # where it begins: told to nobody
    sources = [Path(module.__file__) for module in (membership, several)]
    assert codes(table(DOC, "Events")) == states | set(calls(sources, "append"))
