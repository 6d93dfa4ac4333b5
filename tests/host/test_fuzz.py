"""A little fuzzing in every test run: each target's corpus, and its nearest neighbours.

The same inputs each time, a few seconds in all; `make fuzz` goes on from there. And what a parser
of lib/ says of each input is the same on MicroPython, 32-bit and 64-bit.
"""

import random
import shutil
import subprocess
import sys
import time
import zlib

import pytest

from fuzz import answers, targets
from fuzz.program import Program
from fuzz.spoil import spoil, spoil_octets
from test_micropython import ARCHS, BUILD, ROOT, TESTS, compile_lib, interpreter, without

AT_ONCE_S = 2  # for one input, on a machine that does other things too
NEIGHBOURS = 500  # of each target, but of
SLOW = {"control": 40, "sleep": 40, "server": 60, "outsider": 30, "mole": 40, "master": 40}
SLOW |= {"tesla": 60, "ecdsa": 40}


def neighbours(name, count):
    """Its corpus, changed in one to three places; the same in each run."""
    chance = random.Random(zlib.crc32(name.encode()))
    known = targets.corpus(name)
    for _ in range(count):
        data = chance.choice(known)
        for _ in range(chance.randrange(1, 4)):
            change = Program(chance.randbytes(300))
            data = spoil_octets(data, chance.randrange(8), change)
        yield data[:1024]


def run(name, data):
    began = time.thread_time()
    targets.TARGETS[name](data)
    assert time.thread_time() - began < AT_ONCE_S, data.hex()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_corpus_and_what_lies_beside_it(name):
    for data in targets.corpus(name):
        run(name, data)
    for data in neighbours(name, SLOW.get(name, NEIGHBOURS)):
        run(name, data)


@pytest.mark.parametrize("arch", ARCHS)
def test_micropython_says_the_same(arch, tmp_path):
    wrapper, reason = interpreter(arch)
    if wrapper is None:
        without(arch, reason)
    assert not compile_lib()
    inputs = [
        (name, data)
        for name in answers.TARGETS
        for data in [*targets.corpus(name), *neighbours(name, 100)]
    ]
    file = tmp_path / "inputs"
    file.write_text("".join(f"{name} {data.hex()}\n" for name, data in inputs))
    done = subprocess.run(
        [wrapper, "-X", "heapsize=4m", ROOT / "tests" / "fuzz" / "answers.py", file],
        env={"MICROPYPATH": f"{BUILD / f'lib-{arch}'}:{TESTS}:{ROOT / 'tests'}:.frozen"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stdout.splitlines()
    assert len(said) == len(inputs), done.stderr
    for (name, data), line in zip(inputs, said, strict=True):
        assert line == f"{name} {answers.answer(name, data)}", data.hex()


def test_every_target_has_a_corpus_and_every_corpus_a_target():
    assert {path.name for path in targets.CORPUS.iterdir()} == set(targets.TARGETS)
    for name in targets.TARGETS:
        assert sum(map(len, targets.corpus(name))) <= 8192, "keep it small"


def test_one_input_can_be_tried(tmp_path):
    file = tmp_path / "finding"
    file.write_bytes(b"30")
    command = [sys.executable, ROOT / "tools" / "fuzz.py", "--try", file]
    assert subprocess.run([*command, "der"]).returncode == 0
    done = subprocess.run([*command, "nothing"], capture_output=True, text=True)
    assert done.returncode == 2 and "name targets of these: ike" in done.stderr


def test_a_finding_is_kept_and_told(tmp_path, monkeypatch):
    """The tool itself, where `make fuzz` has installed atheris."""
    pytest.importorskip("atheris")
    tree = tmp_path / "tree"
    for folder in ("lib", "host", "tests", "tools", "boards", "firmware"):
        shutil.copytree(ROOT / folder, tree / folder)
    der = tree / "lib" / "covey" / "der.py"
    der.write_text(der.read_text().replace("off + 2 > len(data) or data", "data"))
    monkeypatch.setenv("PYTHONPATH", f"{tree / 'lib'}:{tree / 'host'}")
    command = [sys.executable, tree / "tools" / "fuzz.py", "--minutes", "0.1", "--seed", "1"]
    done = subprocess.run([*command, "der", "cip"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "der: FOUND SOMETHING" in done.stdout and "IndexError" in done.stdout
    assert "cip: " in done.stdout and "cip: FOUND" not in done.stdout  # others go on
    assert len(list((tree / ".build" / "fuzz" / "findings").iterdir())) == 1
    learnt = list((tree / ".build" / "fuzz" / "cip").iterdir())
    assert len(learnt) > len(targets.corpus("cip"))  # it began with these, and kept more


def test_no_change_is_no_change():
    payloads = [(33, b"abc"), (40, b"")]
    assert spoil(payloads, Program(b"")) == [(33, b"abc", False), (40, b"", False)]
