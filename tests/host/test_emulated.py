"""tools/emulated: what it hands to assembler, linker and boards, and what it makes of a console. A
whole run takes hours, and up to 213 MB for each architecture: `make test-boards`.
"""

import importlib
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from test_micropython import interpreter, without
from test_viper import changed_in_place, far_indexes, wrongly_indexed

TOOLS = Path(__file__).resolve().parents[2] / "tools"
FAULTY = """\
import sys
lines = sys.stdin
for typed in lines:
    if "run_mpy" in typed and "exec" in typed:
        break
print('{"test": "test_one", "ok": true, "error": null}')
print(@THEN@, flush=True)
if @WAITS@:
    lines.read()
"""


@pytest.fixture(scope="module")
def tools():
    names = "assemble calls link emulated.machines emulated.run emulated.chance".split()
    sys.path[:0] = [str(TOOLS), str(TOOLS / "emulated" / "xtensa")]
    try:
        return SimpleNamespace(**{n.split(".")[-1]: importlib.import_module(n) for n in names})
    finally:
        del sys.path[:2]


class Board:
    """A program in the place of the emulator."""

    arch = "rv32imc"

    def __init__(self, tmp_path, then, waits=True):
        self._script = tmp_path / "board.py"
        text = FAULTY.replace("@THEN@", repr(then)).replace("@WAITS@", repr(waits))
        self._script.write_text(text)

    def command(self, firmware):
        return [sys.executable, str(self._script)]


@pytest.fixture
def path(tmp_path, tools, monkeypatch):
    monkeypatch.setattr(tools.run.parts, "source", lambda home: Path("/nowhere"))
    path = tmp_path / "test_some.py"
    path.write_text("def test_one():\n    pass\n\n\ndef test_two():\n    pass\n")
    return path


@pytest.mark.parametrize(
    "then, waits, told",
    [
        ("EXCEPTION 15 at 6004ddf1, address 818", True, "EXCEPTION 15 at 6004ddf1, address 818"),
        ("HardFault exception caught:", True, "HardFault exception caught:"),
        ("it is gone", False, "it is gone"),
        ("ImportError: no module\nMPY: soft reboot", True, "ImportError: no module"),
    ],
)
def test_a_test_that_is_not_come_to_has_failed(tools, tmp_path, path, then, waits, told):
    results, _ = tools.run.run(Board(tmp_path, then, waits), None, path)
    assert results["test_one"] is None
    assert results["test_two"] == f"it did not come to this test: {told}"


def test_what_is_left_out_is_there_and_nothing_else(tools, tmp_path, path, monkeypatch):
    for stem, tests in tools.run.LEFT_OUT.items():
        assert set(tests) <= set(tools.run.names_of(tools.run.TESTS / f"{stem}.py"))
    line = '{"test": "test_two", "ok": true, "error": null}\nMPY: soft reboot'
    for stem, left in ("test_some", {"test_two"}), ("test_other", {"test_one", "test_two"}):
        monkeypatch.setattr(tools.run, "LEFT_OUT", {stem: {"test_one": "of it"}})
        assert tools.run.run(Board(tmp_path, line), None, path)[0] == dict.fromkeys(left)


@pytest.mark.parametrize("word", ["xtensa", "test_nothing"])
def test_what_is_not_there_is_refused(tools, word):
    with pytest.raises(SystemExit, match=f"there is no {word}"):
        tools.run.main(["rv32imc", word])


def test_a_failure_is_told_with_its_traceback(tools, tmp_path, path):
    line = '{"test": "test_two", "ok": false, "error": "Traceback: so"}'
    results, _ = tools.run.run(Board(tmp_path, line + "\nMPY: soft reboot"), None, path)
    assert results == {"test_one": None, "test_two": "Traceback: so"}


def test_a_board_that_hangs_is_ended(tools, tmp_path, path, monkeypatch):
    monkeypatch.setattr(tools.run, "LONGEST_S", 2)
    results, _ = tools.run.run(Board(tmp_path, "it thinks"), None, path)
    assert results["test_two"] == "it did not come to this test: it thinks"


def test_each_architecture_of_boards_is_there(tools):
    from covey_host.board import boards

    wanted = {boards.load(name).arch for name in boards.names()}
    assert {machine.arch for machine in tools.machines.MACHINES} == wanted


@pytest.mark.parametrize("arch, number", [("armv6m", 4), ("xtensawin", 10), ("rv32imc", 11)])
def test_a_board_has_to_say_that_it_is_of_the_architecture(tools, path, arch, number):
    """mpy_gcm takes its kernel by that: a Cortex-M3 has to pass for ARMv6-M."""
    assert f"_mpy >> 10 & 15 == {number} or sys.exit(" in tools.run.script_of(arch, path)


def test_branches_that_reach_too_far_go_around_a_jump(tools):
    around = tools.assemble.around
    assert around("\tbge\ta3, a2, .L14", ".L") == "\tblt\ta3, a2, .L; j .L14; .L:"
    assert around("\tbeqz.n\ta3, .L1", ".L") == "\tbnez\ta3, .L; j .L1; .L:"
    assert around("bbsi a4, 31, 2f", ".L") == "\tbbci\ta4, 31, .L; j 2f; .L:"
    for one, other in tools.assemble.OPPOSITE.items():
        assert tools.assemble.OPPOSITE[other] == one


def test_long_shifts_are_extractions(tools):
    lines = tools.assemble.as_llvm_says("\tsrli\ta1, a8, 16\n\tsrli\ta1, a8, 15\n\t.word\t.L2")
    assert lines == ["\textui\ta1, a8, 16, 16", "\tsrli\ta1, a8, 15", "\t.long\t.L2"]


def test_octets_in_base64_are_read(tools):
    assert tools.assemble.as_llvm_says('\t.base64 "AP8="\n\tnop') == ["\t.byte\t0, 255", "\tnop"]


def elf(code, relocations):
    """An object file of one section of code, at address 0x40, and its relocations."""
    heads = [(0,) * 10, (0, 1, 0, 0x40, 52, len(code), 0, 0, 0, 0)]
    entries = b"".join(struct.pack("<IIi", at, kind, 0) for at, kind in relocations)
    heads.append((0, 4, 0, 0, 52 + len(code), len(entries), 0, 1, 0, 12))
    at = 52 + len(code) + len(entries)
    header = b"\x7fELF" + bytes(28) + struct.pack("<I", at) + bytes(10)
    header += struct.pack("<HH", 40, len(heads)) + bytes(2)
    return header + code + entries + b"".join(struct.pack("<10I", *head) for head in heads)


def test_calls_are_turned_where_a_relocation_says_so(tools, tmp_path):
    call8, l32r, jump = b"\xe5\xff\xff", b"\x81\xff\xff", b"\x06\x00\x00"
    path = tmp_path / "some.o"
    text = call8 + l32r + call8 + jump + call8
    path.write_bytes(elf(text, [(0x40, 20), (0x43, 20), (0x46, 1), (0x49, 20), (0x4C, 20)]))
    assert tools.calls.turn(path, tools.calls.CALL0) == 2
    call0 = b"\xc5\xff\xff"
    assert path.read_bytes()[52 : 52 + 15] == call0 + l32r + call8 + jump + call0
    assert tools.calls.turn(path, tools.calls.CALL8) == 2
    assert path.read_bytes()[52 : 52 + 15] == text


def test_what_the_linker_is_told(tools):
    words = "-T link.ld -Wl,--gc-sections -Wl,-Map=some.map -o some.elf a.o b.o -lgcc".split()
    told = ["-T", "link.ld", "-Map=some.map", "-o", "some.elf", "a.o", "b.o"]
    assert tools.link.words_of(words) == (told, "some.elf")


@pytest.mark.parametrize("seed", range(3))
def test_viper_by_chance_says_what_kernels_may(tools, seed):
    text = tools.chance.program(seed, 40)
    assert text == tools.chance.program(seed, 40)
    for wrong in (wrongly_indexed, far_indexes, changed_in_place):
        assert wrong(text) == []
    for sign in ("ptr8", "ptr16", "ptr32", "uint", "while ", "else:", ">> (", " and (", "not ("):
        assert sign in text


def test_viper_by_chance_comes_to_its_end(tools, tmp_path, monkeypatch):
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    monkeypatch.setattr(tools.run, "DESK", wrapper)
    path = tmp_path / "chance.py"
    path.write_text(tools.chance.program(0, 20))
    answers = tools.run.answers(tools.run.on_desk(path))
    assert list(answers) == [f"f{i}" for i in range(20)]
    assert len(set(answers.values())) == 20


@pytest.mark.parametrize(
    "told, wrong",
    [
        ("GAVE f0 1 [7]\nGAVE f1 5 [8]\nEND", {}),
        ("GAVE f0 1 [7]\nGAVE f1 5 [9]\nEND", {"chance3.f1": "on x86 5 [8], here 5 [9]"}),
        ("GAVE f0 1 [7]\nHardFault", {"chance3.f1": "on x86 5 [8], here None"}),
    ],
)
def test_what_differs_from_x86_has_failed(tools, tmp_path, monkeypatch, told, wrong):
    monkeypatch.setattr(tools.run, "ROOT", tmp_path)
    (tmp_path / ".build").mkdir()
    monkeypatch.setattr(tools.run, "on_desk", lambda path: ["GAVE f0 1 [7]", "GAVE f1 5 [8]"])
    monkeypatch.setattr(tools.run, "typed", lambda search, *lines: "exec run_mpy\n")
    results, _ = tools.run.run_by_chance(Board(tmp_path, told), None, 3)
    assert set(results) == {"chance3.f0", "chance3.f1"}
    assert {name: error for name, error in results.items() if error} == wrong
    assert not (tmp_path / ".build" / "chance-rv32imc" / "chance3.py").exists()
