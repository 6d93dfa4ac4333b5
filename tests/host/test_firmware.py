"""firmware/main.py on a desktop: from a LittleFS image on 32-bit MicroPython, and on CPython.

The key server, the access point and the other members are processes of their own.
"""

import json

import pytest

from board_bench import BITTEN, BOARD, RESET, WIFI, Board, files_of
from site_bench import Bench

LED, RELAY = BOARD["led"], BOARD["relay"]
KINDS = ["x86", "cpython"]


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "site")
    yield bench
    bench.close()


@pytest.fixture
def plug(bench, tmp_path):
    """Make boards of members; all are unplugged in the end, and none has told a secret."""
    boards = []

    def make(name, kind="x86", arguments=(), **options):
        bench.member(name, *arguments)
        folder = bench.root / "members" / name
        board = Board(tmp_path / name, files_of(folder, **options), kind)
        boards.append(board)
        return board

    yield make
    for board in boards:
        board.close()
        said = "\n".join(board.lines)
        for secret in (WIFI["password"], WIFI["ssid"]):
            assert secret not in said
        bench.said += said


def on(board):
    board.air()
    board.power()
    board.says("covey: member")


@pytest.mark.parametrize("kind", KINDS)
def test_two_boards_one_button_one_led(bench, plug, kind):
    bench.serve()
    button, lamp = plug("press-7", kind, ["--sender"]), plug("valve-3", kind)
    on(button)
    on(lamp)
    assert lamp.level("pm") == 0  # power-save is off
    lamp.shows(LED, 0)
    button.press(True)
    lamp.shows(LED, 1)
    lamp.shows(RELAY, 1)
    bench.covey("rekey", "line1")
    lamp.says("covey: rekeyed")
    button.says("covey: rekeyed")
    button.press(False)
    lamp.shows(LED, 0)
    button.press(True)
    lamp.shows(RELAY, 1)
    button.cut()  # nobody says so any more
    lamp.shows(RELAY, 0)
    assert json.loads(bench.covey("status", "--json"))["groups"]["line1"]["epoch"] >= 2
