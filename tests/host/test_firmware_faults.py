"""firmware/main.py when a part of it fails for good: no board goes on as half a member."""

# ruff: noqa: F811  fixtures are imported by name
import json

import pytest

from board_bench import RESET, Board, files_of
from test_firmware import KINDS, bench, hasten, on, plug  # noqa: F401


def before(lines):
    """main.py, these lines first."""
    return lambda text: lines + text


SAY_NO_MORE = """
import covey.aio
sent = covey.aio.Joined.send
left = [5]

async def fail(group, payload):
    left[0] -= 1
    if left[0] < 0:
        raise MemoryError
    return await sent(group, payload)

covey.aio.Joined.send = fail
"""

RADIO = """
import network

def fail(*_):
    with open("{fails}") as file:
        if file.read() == "1":
            raise {error}
    return joined(*_)

joined = network.WLAN.connect
network.WLAN.connect = fail
import onboard.wifi
onboard.wifi.Pauses = lambda *_: Hasty()

class Hasty:
    def end(self):
        pass

    async def rest(self):
        import asyncio
        await asyncio.sleep(0.05)
"""

KEEP_NO_MORE = """
import onboard.wifi
kept = onboard.wifi.Wifi.is_up
looks = [20]

def fail(wifi):
    looks[0] -= 1
    if looks[0] < 0:
        raise MemoryError
    return kept(wifi)

onboard.wifi.Wifi.is_up = fail
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_speaker_that_falls_silent(bench, plug, kind):
    """It would go on to hear, and nobody would know that its button is dead."""
    bench.serve()
    button = plug("press-7", kind, ["--sender"], change=before(SAY_NO_MORE))
    on(button)
    assert button.ended() == RESET
    button.lines.clear()  # a traceback, for once


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_keeps_wifi_fails(bench, plug, kind):
    bench.serve()
    lamp = plug("valve-3", kind, change=before(KEEP_NO_MORE))
    lamp.air()
    lamp.power()
    assert lamp.ended() == RESET
    lamp.lines.clear()


@pytest.mark.parametrize(
    "error", ["OSError('Wifi Internal Error')", "RuntimeError('Wifi Unknown Error 0x3001')"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_radio_that_fails(bench, plug, tmp_path, kind, error):
    """What the ESP32's says; it may come to itself, else the board starts again."""
    bench.serve()
    fails = tmp_path / "fails"
    fails.write_text("1")
    shown = "/.desk/fails" if kind == "x86" else fails
    lamp = plug("valve-3", kind, change=before(RADIO.format(fails=shown, error=error)))
    if kind == "x86":
        fails = lamp.world / "fails"
        fails.write_text("1")
    lamp.air()
    lamp.power()
    lamp.says("covey: wifi the radio fails: Wifi", 3)
    fails.write_text("0")
    lamp.says("covey: wifi up")
    lamp.no_air()
    fails.write_text("1")
    assert lamp.ended() == RESET
    lamp.lines.clear()


def test_the_radio_has_its_memory_before_the_heap_grows(bench, plug):
    look = "import network, sys\nprint('radio', network.WLAN._is_active, 'covey' in sys.modules)\n"
    board = plug("valve-3", change=before(look))
    board.power()
    board.says("radio True False")


PLANS = {
    "nothing": b"",
    "garbage": b"\xff\0garbage",
    "empty": b"[]",
    "no moves": b"[[], []]",
    "another shape": b'{"moves": [1], "version": 7}',
    "no path": b'[[["0", 5]], []]',
    "not among its files": b'[[["../0", "/main.py"]], []]',
    "what can't go": json.dumps([[["7", "/main.py"]], ["/lib/covey"]]).encode(),
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_that_nobody_can_follow(bench, tmp_path, plan):
    """The old member goes on: MicroPython runs no main.py behind a boot.py that fails."""
    bench.member("valve-3")
    folder = bench.root / "members" / "valve-3"
    hasten(folder)
    files = files_of(folder)
    files["covey.next/plan"] = PLANS[plan]
    files["covey.next/0"] = b"print('new')"
    files["covey.part/0"] = b"print('part')"
    files["lib/onboard/keep.py"] = b""
    board = Board(tmp_path / "board", files)
    try:
        board.power()
        board.says("covey: wifi connecting")
    finally:
        board.close()
