"""firmware/main.py on a desktop: from a LittleFS image on 32-bit MicroPython, and on CPython.

The key server, the access point and the other members are processes of their own.
"""

import json
import random
import signal
import socket
import subprocess
import time

import pytest

from board_bench import BITTEN, BOARD, RESET, WIFI, Board, files_of
from processes import PATIENCE_S
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

    def make(name, kind="x86", arguments=(), total_s=10, **options):
        bench.member(name, *arguments)
        folder = bench.root / "members" / name
        hasten(folder, total_s)
        board = Board(tmp_path / name, files_of(folder, kind, **options), kind)
        boards.append(board)
        return board

    yield make
    for board in boards:
        board.close()
        said = "\n".join(board.lines)
        for secret in (WIFI["password"], WIFI["ssid"]):
            assert secret not in said
        bench.said += said


def hasten(folder, total_s=10):
    """A member that gives a key server up after so long, not 31 s."""
    fields = json.loads((folder / "covey.json").read_text())
    fields["retransmit"] = {"first_ms": 100, "total_s": total_s}
    (folder / "covey.json").write_text(json.dumps(fields))


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


@pytest.mark.parametrize("kind", KINDS)
def test_the_access_point_goes_and_comes_back(bench, plug, kind):
    """A rekey is missed meanwhile, and asked for afterwards."""
    server = bench.serve()
    button, lamp = plug("press-7", kind, ["--sender"]), plug("valve-3", kind)
    on(button)
    on(lamp)
    button.press(True)
    lamp.shows(RELAY, 1)
    lamp.no_air()
    lamp.says("covey: wifi lost")
    lamp.shows(RELAY, 0)  # nobody says "on" any more
    bench.covey("rekey", "line1")
    button.says("covey: rekeyed")
    assert lamp.count("covey: wifi up") == 1
    lamp.air()
    lamp.says("covey: wifi up", 2)
    lamp.shows(RELAY, 1)
    lamp.shows(LED, 1)
    told = bench.events(server)
    asked = [e for e in told if e["event"] == "registered" and e["member"] == "valve-3"]
    assert len(asked) > 1 and asked[-1]["epoch"] == asked[0]["epoch"] + 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_server_goes_and_comes_back(bench, plug, kind):
    board = plug("valve-3", kind, total_s=6)
    board.air()
    board.power()
    board.says("covey: failed")  # there is none
    server = bench.serve()
    board.says("covey: member")
    bench.end(server, signal.SIGKILL)
    again = plug("press-7", kind, ["--sender"], total_s=6)
    again.air()
    again.press(True)
    again.power()
    again.says("covey: failed")
    bench.serve()
    again.says("covey: member")
    board.shows(RELAY, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_password_is_tried_for_ever(bench, plug, kind):
    board = plug("valve-3", kind, change=impatient)
    bench.serve()
    board.power()
    board.says("there is no such access point")
    board.air(password="another password")
    board.says("the access point refuses the password", 2)
    assert board.level(LED) is not None
    board.air()
    board.says("covey: member")
    board.shows(LED, 0)


def impatient(text):
    """Wi-Fi is given up after 0.6 s."""
    return "import onboard.wifi\n\nonboard.wifi._PATIENCE = 3\n" + text


@pytest.mark.parametrize("kind", KINDS)
def test_a_watchdog_that_is_not_fed(bench, plug, kind):
    """The first packet sends the board into a loop: it starts again, and again."""

    def hang(text):
        assert "board.drive(" in text
        loop = "def never_back(said):\n    while True:\n        pass\n\n\n"
        return loop + text.replace("board.drive(", "never_back(")

    bench.serve()
    button = plug("press-7", "cpython", ["--sender"])
    on(button)
    lamp = plug("valve-3", kind, change=hang, watchdog_ms=4000)
    on(lamp)
    assert lamp.ended() == BITTEN
    lamp.power()
    lamp.says("covey: member", 2)
    assert lamp.ended() == BITTEN


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_leaves_the_board_to_a_person(bench, plug, kind):
    bench.serve()
    board = plug("valve-3", kind, watchdog_ms=4000)
    on(board)
    with pytest.raises(subprocess.TimeoutExpired):
        board.ended(5)  # it is fed
    board.interrupt()
    board.says("power: prompt")
    with pytest.raises(subprocess.TimeoutExpired):
        board.ended(5)  # the watchdog is patient now


@pytest.mark.parametrize("kind", KINDS)
def test_what_should_never_happen_starts_the_board_again(bench, plug, kind):
    def break_it(text):
        assert "board.drive(" in text
        return text.replace("board.drive(", "board.no_such_thing(")

    bench.serve()
    button = plug("press-7", "cpython", ["--sender"])
    on(button)
    lamp = plug("valve-3", kind, change=break_it)
    on(lamp)
    assert lamp.ended() == RESET
    assert lamp.count("no_such_thing")
    lamp.lines.clear()  # a traceback, for once


def test_power_that_goes_at_each_write(bench, plug):
    """Whatever the flash was about to be told: the board comes up again with a seed of its own."""
    bench.serve()
    board = plug("press-7", "x86", ["--sender"])
    board.air()
    seeds = [board.file("seed")]
    writes = 0
    while True:
        (board.world / "writes").write_text(str(writes))
        board.power()
        if board.ends_cut():
            seeds.append(board.file("seed"))
            assert len(seeds[-1]) == 32
            writes += 1
            continue
        break
    assert writes > 3
    board.cut()
    assert board.count("covey: registering") == 1  # nothing was drawn before the seed was new
    assert len(set(seeds)) == 1 and board.file("seed") not in seeds
    (board.world / "writes").unlink()
    board.power()
    board.says("covey: member", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_power_that_goes_at_any_moment(bench, plug, kind):
    bench.serve()
    board = plug("press-7", kind, ["--sender"])
    board.air()
    chance = random.Random(7)
    for _ in range(12):
        board.power()
        time.sleep(chance.random() * 1.2)
        board.cut()
        assert len(board.file("seed")) == 32
    before = board.count("covey: member")
    board.power()
    board.says("covey: member", before + 1)
    receiver = plug("valve-3", "cpython")
    on(receiver)
    board.press(True)
    receiver.shows(RELAY, 1)


def dead(text):
    """A chip whose generator gives zeros. On a board all is in one file."""
    return (
        "try:\n    import covey.stack as chance\nexcept ImportError:\n"
        "    import covey.port.chance as chance\nsetattr(chance, 'urandom', bytes)\n" + text
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_starts_draw_the_same_even_from_a_dead_generator(bench, plug, kind):
    """In place of the key server: an ear for the first message, all of which is drawn."""
    board = plug("press-7", kind, change=dead)
    board.air()
    seeds, messages = [board.file("seed")], []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", bench.port))
        ear.settimeout(PATIENCE_S)
        for _ in range(3):
            board.power()
            messages.append(ear.recv(2048))
            board.cut()
            ear.setblocking(False)
            while True:  # what it has said again
                try:
                    ear.recv(2048)
                except BlockingIOError:
                    break
            ear.settimeout(PATIENCE_S)
            seeds.append(board.file("seed"))
    assert len(set(seeds)) == 4
    marker = 4 if messages[0][:4] == bytes(4) else 0
    assert len({m[marker : marker + 8] for m in messages}) == 3  # the initiator's SPI
    assert not any(seed[i : i + 8] in m for seed in seeds for m in messages for i in range(25))
    bodies = [m[marker + 28 :] for m in messages]
    same = sum(a == b == c for a, b, c in zip(*bodies, strict=True))
    assert same < len(bodies[0]) - 60  # nonces and public values, 32 octets each


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_that_is_not_there_is_made(bench, plug, kind):
    bench.serve()
    (bench.root / "members").mkdir(exist_ok=True)
    board = plug("press-7", kind, change=lambda text: "import os\nos.remove('seed')\n" + text)
    on(board)
    board.cut()
    assert len(board.file("seed")) == 32
