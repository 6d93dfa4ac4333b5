"""`covey install` into running MicroPython over a pseudo-terminal, LittleFS in a file.

The cable is pulled, and the power fails, anywhere: what starts afterwards is the old member or the
new one, and the file system holds the files of that one and nothing else.
"""

import pytest

from covey_host.board import install
from covey_host.errors import Problem
from serial_line import Board
from serial_member import (
    BLOCKS,
    BOARD,
    NEW,
    OLD,
    SEED,
    content,
    flash_with,
    put,
    said_at_start,
    wait_for,
    without_seed,
)
from test_micropython import interpreter, without


@pytest.fixture(scope="module", autouse=True)
def micropython():
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The flash of a board that has the old member."""
    flash = tmp_path_factory.mktemp("board") / "old.bin"
    assert put(Board(flash, BLOCKS), OLD).sent == len(OLD)
    assert content(flash)[0] == without_seed(OLD)
    return flash.read_bytes()


def check_whole(flash):
    """One of the two runs, and is all there is. Which one."""
    said = said_at_start(flash)
    found, _ = content(flash)
    is_new = found == without_seed(NEW)
    name = "new" if is_new else "old"
    assert is_new or found == without_seed(OLD), sorted(found)
    assert said == [f"runs: {name} {name} {name} {name} {name}"]
    return name


def test_only_what_differs_is_sent(tmp_path, installed):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    seed = content(flash)[1]
    again = put(Board(flash, BLOCKS), OLD)
    assert (again.sent, again.octets, again.removed) == (0, 0, 0)
    done = put(Board(flash, BLOCKS), NEW)
    differing = {path for path, data in without_seed(NEW).items() if OLD.get(path) != data}
    assert (done.sent, done.removed) == (len(differing), 2)
    assert check_whole(flash) == "new"
    assert content(flash)[1] == seed  # the board's own is younger


def test_the_board_starts_again_with_the_new_member(tmp_path, installed):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    board = Board(flash, BLOCKS)
    install.install(board.port, lambda _: dict(NEW), BOARD)
    wait_for(board, b"runs: new")
    board.power_off()
    assert b"SW_CPU_RESET" in board.output


def test_a_member_that_never_ends_is_interrupted(tmp_path):
    endless = OLD | {"/main.py": b"import time\nprint('runs on')\nwhile True:\n time.sleep(1)\n"}
    flash = flash_with(tmp_path / "flash.bin", endless)
    board = Board(flash, BLOCKS, endless=b"runs on")
    wait_for(board, b"runs on")
    put(board, NEW)
    assert check_whole(flash) == "new" and b"KeyboardInterrupt" in board.output


def test_a_first_seed_is_drawn(tmp_path, installed):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    seed = content(flash)[1]
    assert len(seed) == 32 and seed != OLD[SEED]


def octets_to(flash, wanted):
    board = Board(flash, BLOCKS)
    put(board, wanted)
    return board.passed


def broken_off(board, wanted):
    """What is said of an installation over a cable that is pulled; empty: it was done before."""
    try:
        assert not put(board, wanted).is_restarted
        return ""
    except Problem as problem:
        assert problem.status == 1 and "\n" not in problem.sentence
        return problem.sentence


def test_the_cable_is_pulled_anywhere(tmp_path, installed):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    whole = octets_to(flash, NEW)
    seen = []
    for cable in range(3, whole, whole // 60):
        flash.write_bytes(installed)
        board = Board(flash, BLOCKS, cable=cable)
        sentence = broken_off(board, NEW)
        seen.append(check_whole(flash))
        if "nothing was changed" in sentence or "as it was" in sentence:
            assert seen[-1] == "old", sentence
        if "takes over" in sentence or not sentence:
            assert seen[-1] == "new", sentence
    assert seen == sorted(seen, reverse=True) and {"old", "new"} == set(seen)


def changes_of(flash, wanted):
    board = Board(flash, BLOCKS)
    install.install(board.port, lambda _: dict(wanted), BOARD)
    return board.unplug()


def test_the_power_fails_anywhere(tmp_path, installed):
    """At every write and erasure of the flash, half of which is done."""
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    whole = changes_of(flash, NEW)
    seen = []
    for power in range(1, whole + 1):
        flash.write_bytes(installed)
        with pytest.raises(Problem):
            put(Board(flash, BLOCKS, power=power), NEW)
        seen.append(check_whole(flash))
    assert seen == sorted(seen, reverse=True) and {"old", "new"} == set(seen)


def committed(flash, installed):
    """A flash where the new member waits: the power failed at once after the commit."""
    for power in range(1, 1000):
        flash.write_bytes(installed)
        with pytest.raises(Problem):
            put(Board(flash, BLOCKS, power=power), NEW)
        if "/covey.next/plan" in content(flash)[0]:
            return flash.read_bytes()
    raise AssertionError("it was never committed")


def test_the_power_fails_again_while_boot_completes_it(tmp_path, installed):
    flash = tmp_path / "flash.bin"
    waiting = committed(flash, installed)
    flash.write_bytes(waiting)
    board = Board(flash, BLOCKS)
    wait_for(board, b">>> ")
    whole = board.unplug()
    assert whole > 10
    for power in range(1, whole + 1):
        flash.write_bytes(waiting)
        board = Board(flash, BLOCKS, power=power)
        board.wait()
        board.power_off()
        assert b"runs:" not in board.output or power == whole
        assert check_whole(flash) == "new"
