"""firmware/motors.py and photoeye.py: what they stand on, alone; both as boards on a desktop, from
the image that `covey image --main` makes; and what `make run` judges of them.
"""

import asyncio
import importlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from board_bench import BOARD, FIRMWARE
from covey import cip, port
from covey.aio import Packet
from covey_host.demo import usecases
from processes import PATIENCE_S
from test_firmware import bench, on, plug  # noqa: F401


def onboard(name):
    """A file of firmware/onboard/, which may import others of it."""
    sys.path.append(str(FIRMWARE))
    try:
        return importlib.import_module(f"onboard.{name}")
    finally:
        sys.path.remove(str(FIRMWARE))


instant, cyclic = onboard("instant"), onboard("cyclic")
LEAD_MS = 300
CONNECTION = b"\1\2\3\4"


class Line:
    """A producer and a follower on a clock of our own; now_ms wraps where ticks do."""

    def __init__(self, began_ms=0):
        self.began_ms = began_ms
        self.announcer, self.follower = instant.Announcer(LEAD_MS), instant.Follower()

    def at(self, ms):
        return port.ticks_add(self.began_ms, ms)

    def set(self, value, ms):
        return self.announcer.set(value, self.at(ms))

    def frame(self, ms, late_ms=0):
        """One that leaves then and comes so much later: what the follower says."""
        buf = bytearray(3 + instant.LEN)
        self.announcer.emit(buf, 3, self.at(ms))
        return self.follower.hear(buf, 3, self.at(ms + late_ms))

    def latch(self, ms):
        return self.follower.latch(self.at(ms))


@pytest.mark.parametrize("began_ms", [0, (1 << 30) - 100])
def test_a_setting_is_taken_up_at_its_instant_and_not_before(began_ms):
    line = Line(began_ms)
    assert line.set(1500, 0)
    for ms in range(0, LEAD_MS, 10):
        assert line.frame(ms) and not line.latch(ms) and line.follower.value == 0
    assert not line.latch(LEAD_MS - 1) and line.latch(LEAD_MS)
    assert (line.follower.number, line.follower.value) == (1, 1500)
    assert line.frame(LEAD_MS + 10) and not line.latch(LEAD_MS + 10)


def test_the_quickest_frame_counts_whatever_the_others_waited():
    line = Line()
    line.set(-600, 0)
    delays = [90, 40, 2, 200, 70]
    for n, late_ms in enumerate(delays):
        assert line.frame(n * 10, late_ms)
    assert not line.latch(LEAD_MS + 1) and line.latch(LEAD_MS + 2)
    assert line.follower.value == -600


def test_one_frame_of_all_is_enough():
    line = Line()
    line.set(7, 0)
    line.frame(LEAD_MS - 10)
    assert line.follower.wait_ms(50, line.at(LEAD_MS - 10)) == 10
    assert line.follower.wait_ms(5, line.at(LEAD_MS - 10)) == 5
    assert line.latch(LEAD_MS) and line.follower.wait_ms(50, line.at(LEAD_MS)) == 50


def test_no_second_setting_before_the_first_is_in_force():
    line = Line()
    assert line.set(1, 0) and not line.set(2, LEAD_MS - 1)
    assert line.announcer.value == 1
    assert line.set(2, LEAD_MS) and line.announcer.number == 2


def test_whoever_comes_late_stands_until_the_next_setting():
    line = Line()
    line.set(600, 0)
    assert line.frame(LEAD_MS + 10) and not line.latch(LEAD_MS + 20) and line.follower.value == 0
    line.set(900, 1000)
    line.frame(1010)
    assert line.latch(1000 + LEAD_MS) and line.follower.value == 900
    line.follower.stop()
    assert line.frame(2000) and not line.latch(2000) and line.follower.value == 0


def test_a_setting_that_was_never_announced_stops_who_runs_at_another():
    line = Line()
    line.set(600, 0)
    line.frame(0)
    line.latch(LEAD_MS)
    line.set(1500, 1000)
    assert not line.frame(1000 + LEAD_MS) and line.follower.value == 0
    assert line.frame(1010 + LEAD_MS) and not line.latch(5000)


def test_a_producer_that_starts_again_stops_who_runs():
    line = Line()
    line.set(600, 0)
    line.frame(0)
    line.latch(LEAD_MS)
    line.announcer = instant.Announcer(LEAD_MS)
    assert not line.frame(1000) and line.follower.value == 0
    line.set(900, 1010)  # its first one, too
    line.frame(1010)
    assert line.latch(1010 + LEAD_MS) and line.follower.value == 900


def test_the_same_number_is_not_the_same_setting():
    line = Line()
    line.set(600, 0)
    line.frame(0)
    line.latch(LEAD_MS)
    line.announcer = instant.Announcer(LEAD_MS)
    line.set(900, 1000)
    assert line.frame(1000) and line.latch(1000 + LEAD_MS) and line.follower.value == 900


def test_numbers_wrap_and_values_have_a_sign():
    line = Line()
    line.announcer.number = 0xFFFF
    line.set(-32768, 0)
    line.frame(0)
    assert line.latch(LEAD_MS) and (line.follower.number, line.follower.value) == (0, -32768)


def packet(writer, source=b"line", sender=64, **options):
    """Its next frame. source: None where nothing proves who sent it."""
    frame = bytes(writer.make(**options))
    return Packet(frame, sender, source is not None, source)


@pytest.mark.parametrize("has_clock", [False, True])
@pytest.mark.parametrize("has_header", [False, True])
def test_what_a_writer_makes_a_reader_takes(has_header, has_clock):
    writer = cyclic.Writer(CONNECTION, 2, has_header, has_clock)
    reader = cyclic.Reader(CONNECTION, 10, 4, has_header, has_clock)
    assert writer.off == reader.off and reader.facts() == ""
    writer.frame[writer.off :] = b"ab"
    assert reader.take(packet(writer), 2) == cip.FRESH
    again = packet(writer)
    assert reader.take(again, 2) == cip.UNCHANGED and again.payload[reader.off :] == b"ab"
    assert reader.take(again, 2) == cip.LATE
    writer.frame[writer.off] = 0
    for _ in range(3):
        lost = packet(writer)
    assert reader.take(packet(writer, is_running=False), 2) == cip.FRESH
    assert (reader.taken, reader.missed, reader.last) == (3, 3, 6)
    assert reader.is_running is not has_header
    assert reader.take(lost, 2) == cip.LATE
    other = cyclic.Writer(b"\1\2\3\5", 2, has_header, has_clock)
    assert reader.take(packet(other), 2) == cip.FOREIGN
    assert reader.facts() == "taken 3, missed 3, last 6, foreign 1, late 2"
    reader.open()
    assert (reader.taken, reader.missed, reader.facts()) == (0, 0, "")


def test_time_alone_makes_no_frame_new(monkeypatch):
    now = [1000]
    monkeypatch.setattr(port, "ticks_ms", lambda: now[0])
    writer = cyclic.Writer(CONNECTION, 2, has_clock=True)
    reader = cyclic.Reader(CONNECTION, 10, 4, has_clock=True)
    assert reader.take(packet(writer), 2) == cip.FRESH
    now[0] += 10
    assert reader.take(packet(writer), 2) == cip.UNCHANGED


def test_a_frame_that_was_held_back_is_none_though_it_is_newer(monkeypatch):
    """By more than the connection's timeout, in this connection and in the next."""
    now = [1000]
    monkeypatch.setattr(port, "ticks_ms", lambda: now[0])
    writer = cyclic.Writer(CONNECTION, 2, has_clock=True)
    reader = cyclic.Reader(CONNECTION, 10, 4, has_clock=True)
    assert reader.take(packet(writer), 2) == cip.FRESH
    now[0] += 10
    held = packet(writer)
    now[0] += 41
    assert reader.has_timed_out()
    reader.open()
    assert reader.take(held, 2) == cyclic.HELD_BACK
    prompt = packet(writer)
    now[0] += 40
    assert reader.take(prompt, 2) >= 0 and reader.lag_ms == 40
    assert reader.facts() == "taken 1, missed 0, last 3, held_back 1"
    anew = cyclic.Writer(CONNECTION, 2, has_clock=True)
    for _ in range(9):
        started = packet(anew)
    assert reader.take(started, 2) == cyclic.HELD_BACK  # while the other's connection is open
    now[0] += 50
    reader.open()
    assert reader.take(packet(anew), 2) == cip.FRESH


@pytest.mark.parametrize("is_proven", [False, True])
def test_where_nothing_proves_it_nobody_says_that_the_producer_has_left_its_run(
    monkeypatch, is_proven
):
    """A member that was first at a connection: once it is put out, the producer is heard again."""
    now = [1000]
    monkeypatch.setattr(port, "ticks_ms", lambda: now[0])
    source = b"line" if is_proven else None
    writer, other = (cyclic.Writer(CONNECTION, 2, has_clock=True) for _ in range(2))
    reader = cyclic.Reader(CONNECTION, 10, 4, has_clock=True)
    assert reader.take(packet(writer, source), 2) == cip.FRESH
    now[0] += 50
    assert reader.has_timed_out()
    reader.open()
    assert reader.take(packet(other, source), 2) == cip.FRESH
    assert reader.take(packet(writer, source), 2) == cyclic.HELD_BACK
    now[0] += 50
    assert reader.has_timed_out()
    reader.open()
    held_back = reader.take(packet(writer, source), 2) == cyclic.HELD_BACK
    assert held_back is is_proven  # then the producer itself has begun another run


def test_who_may_have_sent_a_frame():
    writer = cyclic.Writer(CONNECTION, 2)
    reader = cyclic.Reader(CONNECTION, 10, 4)
    assert reader.take(packet(writer, None), 2) == cip.FRESH  # a group that proves nothing
    foreign = cyclic.Writer(b"\1\2\3\5", 2)
    assert reader.take(packet(foreign, b"other"), 2) == cip.FOREIGN  # nor does that say who
    assert reader.take(packet(writer), 2) >= 0
    assert reader.take(packet(writer, None), 2) == cyclic.UNPROVEN
    assert reader.take(packet(writer, b"other"), 2) == cyclic.ANOTHER
    reader.open()
    assert reader.take(packet(writer, b"other"), 2) == cyclic.ANOTHER
    assert reader.facts() == "taken 0, missed 0, last 0, another_source 1"
    reader = cyclic.Reader(CONNECTION, 10, 4, producer=b"line", needs_proof=True)
    assert reader.take(packet(writer, None), 2) == cyclic.UNPROVEN
    assert reader.take(packet(writer, b"other"), 2) == cyclic.ANOTHER
    assert reader.take(packet(writer), 2) == cip.FRESH


def test_each_way_to_be_no_frame_has_a_name_and_a_count():
    writer = cyclic.Writer(CONNECTION, 4, has_header=True)
    reader = cyclic.Reader(CONNECTION, 10, 4, has_header=True)
    good = bytes(writer.make())

    def put(at, octets):
        return good[:at] + octets + good[at + len(octets) :]

    odd = {
        "short": good[:19],
        "item_count": put(0, b"\3\0"),  # as with a sockaddr item more
        "address_item": put(2, b"\xa1\0"),
        "address_length": put(4, b"\4\0"),
        "data_item": put(14, b"\xb2\0"),
        "data_length": put(16, b"\1\0"),
        "cut": put(16, b"\xff\xff"),
        "trailing": good + bytes(1400),
        "foreign": put(6, b"\x77"),
    }
    for octets in odd.values():
        assert reader.take(Packet(octets, 64, True, b"line"), 4) < 0
    assert reader.facts() == "taken 0, missed 0, last 0, " + ", ".join(f"{n} 1" for n in odd)
    longer = cyclic.Writer(CONNECTION, 1300, has_header=True)
    assert reader.take(packet(longer), 4) == cip.DATA_LENGTH
    assert set(cyclic.NAMES.values()) > {"held_back", *odd} and reader.taken == 0


def test_data_of_another_length_are_not_used():
    writer, reader = cyclic.Writer(CONNECTION, 3), cyclic.Reader(CONNECTION, 10, 4)
    assert reader.take(packet(writer), 2) == cip.DATA_LENGTH and reader.taken == 0
    assert reader.take(Packet(b"", None, False), 2) == cip.SHORT
    assert reader.facts().endswith("last 0, short 1, data_length 1")


def test_data_of_another_length_keep_no_connection_alive(monkeypatch):
    now = [1000]
    monkeypatch.setattr(port, "ticks_ms", lambda: now[0])
    writer, longer = (cyclic.Writer(CONNECTION, n, has_header=True) for n in (2, 3))
    reader = cyclic.Reader(CONNECTION, 10, 4, has_header=True)
    assert reader.take(packet(writer), 2) == cip.FRESH
    now[0] += 39
    assert reader.take(packet(longer, is_running=False), 2) == cip.DATA_LENGTH
    assert reader.is_running and not reader.has_timed_out()
    now[0] += 1
    assert reader.has_timed_out() and not reader.is_running


def test_what_is_overdue_is_left_out(monkeypatch):
    now, slept = [1000], []

    async def sleep(seconds):
        slept.append(round(seconds * 1000))
        now[0] += slept[-1]

    monkeypatch.setattr(port, "ticks_ms", lambda: now[0])
    monkeypatch.setattr(cyclic.asyncio, "sleep", sleep)
    pace = cyclic.Pace(10)

    async def play():
        await pace.next()
        now[0] += 4
        await pace.next()
        now[0] += 55
        await pace.next()
        await pace.next()

    asyncio.run(play())
    assert slept == [10, 6, 0, 10]


# On a desktop, as they would lie in flash


def impatient(text):
    assert "MULTIPLIER = 32" in text
    return text.replace("MULTIPLIER = 32", "MULTIPLIER = 300").replace(
        "LEAD_MS = 500", "LEAD_MS = 3500"
    )


def make(plug, main, name, kind, *words, change=impatient):  # noqa: F811
    board = plug(name, kind, words, main=main, change=change)
    on(board)
    return board


def test_a_motor_follows_the_line_and_stops_without_it(bench, plug):  # noqa: F811
    bench.edit('atd = "0s"\ndtd = "1s"', 'atd = "1s"\ndtd = "3s"\nsource_auth = "mac"')
    bench.serve()
    motor = make(plug, "motors.py", "motor-1", "x86")
    line = make(plug, "motors.py", "line", "cpython", "--sender")
    motor.says("covey: connection open")
    line.press(True)
    line.says("covey: announced 1: 600 rpm")
    motor.says("covey: speed 1: 600 rpm")
    motor.shows(BOARD["relay"], 1)
    line.cut()
    motor.says("covey: stopped timed_out")
    motor.shows(BOARD["relay"], 0)


def test_no_motor_obeys_who_is_not_proven(bench, plug):  # noqa: F811
    """Without source_auth anybody in the group could have sent it."""

    def tells(text):
        asks = "            if reader.take(packet, LEN) < 0:\n"
        assert text.count(asks) == 1
        said = '                board.show("unproven")\n'
        return impatient(text).replace(asks, asks + said)

    bench.serve()
    motor = make(plug, "motors.py", "motor-1", "cpython", change=tells)
    make(plug, "motors.py", "line", "cpython", "--sender")
    motor.says("covey: unproven", 50)
    assert motor.count("covey: connection") == 0


def test_an_eye_tells_who_hears_it(bench, plug):  # noqa: F811
    bench.serve()
    eye = make(plug, "photoeye.py", "eye", "x86", "--sender")
    eye.press(True)
    eye.says("covey: passed 1")
    lamp = make(plug, "photoeye.py", "lamp", "x86")  # late, and told all
    lamp.says("covey: passed 1")
    lamp.shows(BOARD["relay"], 1)
    eye.press(False)
    lamp.shows(BOARD["relay"], 0)
    eye.press(True)
    lamp.says("covey: passed 2")
    eye.cut()
    lamp.says("covey: stopped timed_out")
    lamp.shows(BOARD["relay"], 0)


def test_a_boards_power_ends_with_stdin_and_what_it_says_is_an_event():
    says = "print('covey: speed 1: 600 rpm'); print('x', flush=True); import time; time.sleep(600)"
    command = [sys.executable, usecases._POWERED, sys.executable, "-c", says]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as power:
        event = json.loads(power.stdout.readline())
        assert (event["event"], event["what"], event["detail"]) == ("said", "speed", "1: 600 rpm")
        assert power.stdout.readline() == "x\n"
        power.stdin.close()
        assert power.wait(PATIENCE_S) == 0 and power.stdout.read() == ""


# What `make run` judges

TOLD = ["1: 600 rpm", "2: 1500 rpm", "3: -600 rpm"]
GOOD = usecases.Told(
    "motors",
    TOLD,
    2,
    [usecases.Heard(name, list(TOLD), ["timed_out"], (700, 0, 700)) for name in "ac"],
    usecases.Heard("b", TOLD[:2], ["timed_out"], (400, 0, 400)),
)
INSTANTS = {"1": (1 << 30) - 2, "2": 5000, "3": 9000}  # in ticks, which wrap
LATER = {"1": 1, "2": 5000, "3": 9012}
TIMED = replace(
    GOOD,
    stayed=[
        replace(GOOD.stayed[0], instants=dict(LATER)),
        replace(GOOD.stayed[1], instants=dict(INSTANTS)),
    ],
    removed=replace(GOOD.removed, instants={"1": 0, "2": 5001}),
    instants=INSTANTS,
)


def test_all_that_should_hold():
    verdict = usecases.judged(GOOD)
    assert verdict.ok and "3 told, a, c did all of them" in verdict.detail
    assert "instant" not in verdict.detail
    verdict = usecases.judged(TIMED)
    assert verdict.ok and "at its instant, 12 ms late at most, 12 ms apart" in verdict.detail


def spoilt():
    one = GOOD.stayed[0]
    for changes in (
        {"followed": TOLD[:2]},
        {"followed": TOLD[::-1]},
        {"frames": (699, 1, 700)},
        {"refused": "held_back 1"},
        {"frames": (699, 0, 699)},
        {"frames": None},
        {"stops": ["timed_out", "timed_out"]},
        {"stops": ["out of step"]},
    ):
        yield replace(GOOD, stayed=[replace(one, **changes), GOOD.stayed[1]])
    for changes in (
        {"followed": TOLD},
        {"followed": TOLD[:1]},
        {"stops": []},
        {"stops": ["idle"]},
        {"frames": None},
        {"refused": "late 2"},
    ):
        yield replace(GOOD, removed=replace(GOOD.removed, **changes))
    late = TIMED.stayed[0].instants
    for instants in (
        {},
        INSTANTS | {"2": 4998},  # before it
        INSTANTS | {"1": (1 << 30) - 4},
        {"1": 1, "2": 5000},
        late | {"4": 12000},
    ):
        yield replace(TIMED, stayed=[replace(TIMED.stayed[0], instants=instants), TIMED.stayed[1]])
    for instants in ({"1": 0}, {"1": 0, "2": 4998}, LATER):
        yield replace(TIMED, removed=replace(TIMED.removed, instants=instants))
    yield replace(TIMED, instants={"1": 0, "2": 5000})
    yield replace(GOOD, before=0, removed=replace(GOOD.removed, followed=[]))
    yield replace(GOOD, before=3, removed=replace(GOOD.removed, followed=TOLD))


@pytest.mark.parametrize("told", list(spoilt()))
def test_what_should_not(told):
    assert not usecases.judged(told).ok


def test_a_run_is_patient():
    for case in usecases.CASES:
        text = (FIRMWARE / case.main).read_text()
        patient = usecases._patient(text)
        assert patient != text and "\nMULTIPLIER = 256 " in patient
        assert "\nLEAD_MS = 500" not in patient and "\nINTERVAL_MS = 10 " in patient
