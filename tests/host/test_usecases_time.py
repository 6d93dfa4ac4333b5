"""firmware/motors.py and photoeye.py as they are shipped, on a clock of the test's own: what each
board does at which millisecond, whatever comes to it over the air, and when.
"""

import asyncio
import importlib
import importlib.util
import random
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from board_bench import FIRMWARE
from covey import port
from covey.aio import Packet
from test_micropython import BUILD, interpreter, without

RPI_MS, TIMEOUT_MS, LEAD_MS = 10, 320, 500  # as the files have them


class Loop(asyncio.SelectorEventLoop):
    """Time passes where all sleep, and nowhere else."""

    def __init__(self, began_ms=0):
        super().__init__()
        self._now = 0.0
        self._began_ms = began_ms
        self._selector.select = self._pass

    def time(self):
        return self._now

    def _pass(self, timeout):
        assert timeout is not None, "nobody waits for a time: the story is stuck"
        self._now += max(timeout, 0)
        return []

    def ticks_ms(self):
        return port.ticks_add(self._began_ms, int(self._now * 1000 + 1e-6))


class Board:
    """What a file of firmware/ does to its board."""

    def __init__(self, _path):
        self.said, self.is_on, self.is_held = [], False, False

    def show(self, what, detail=""):
        self.said.append((port.ticks_ms(), what, str(detail)))

    def drive(self, is_on):
        self.is_on = is_on

    def is_pressed(self):
        return self.is_held

    def run(self, main):
        """Not here."""

    def all_of(self, what):
        return [detail for _, one, detail in self.said if one == what]

    def moments(self, what):
        return [ms for ms, one, _ in self.said if one == what]


class Line:
    """One group on the air: a producer, and consumers, to each of which frames come so late as
    `late` says: None is never; a function of the moment at which they leave, or ms."""

    def __init__(self, main):
        self.main = main
        self.ears = []
        self.tasks = []
        self.sender = 1 << 6
        self.stall_ms = 0  # so long the producer is busy with its next frame

    def load(self):
        spec = importlib.util.spec_from_file_location("the_board", FIRMWARE / self.main)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run(self, *works):
        self.tasks += map(asyncio.ensure_future, works)

    def produce(self, source=b"line", sender=None, confirmed=True, module=None):
        module = module or self.load()
        sender = self.sender if sender is None else sender

        async def send(payload):
            for ear in self.ears:
                ear.hears(Packet(bytes(payload), sender, confirmed, source if confirmed else None))
            stall_ms, self.stall_ms = self.stall_ms, 0
            await asyncio.sleep(stall_ms / 1000)

        group = SimpleNamespace(can_send=lambda: True, send=send)
        work = module.lead(group) if self.main == "motors.py" else module.look(group)
        self.run(work)
        module.board.task = self.tasks[-1]
        return module.board

    def consume(self, late=0):
        module = self.load()
        ear = Ear(late)
        self.ears.append(ear)
        if self.main == "motors.py":
            heard = module.Motor()
            self.run(heard.hear(ear), heard.turn())
        else:
            heard = module.Recipient()
            self.run(heard.hear(ear), heard.watch())
        module.board.ear = ear
        return module.board

    async def press(self, board):
        board.is_held = True
        await asyncio.sleep(0.02)
        board.is_held = False


class Ear:
    def __init__(self, late):
        self.late = late
        self._queue = asyncio.Queue()

    def hears(self, packet):
        late = self.late(port.ticks_ms()) if callable(self.late) else self.late
        if late is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(late / 1000, self._queue.put_nowait, packet)

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self._queue.get()


@pytest.fixture
def play(monkeypatch):
    """play(main, story, began_ms): story(line) on a clock that begins there."""
    monkeypatch.syspath_prepend(str(FIRMWARE))
    for name, parts in (("board", ("Board", "Pauses")), ("wifi", ("Wifi",))):
        module = ModuleType(f"onboard.{name}")
        for part in parts:
            setattr(module, part, lambda *_: SimpleNamespace(on_return=None))
        monkeypatch.setitem(sys.modules, f"onboard.{name}", module)
    sys.modules["onboard.board"].Board = Board

    def play(main, story, began_ms=0):
        async def whole():
            line = Line(main)
            try:
                await story(line)
                ended = [task for task in line.tasks if task.done() and not task.cancelled()]
                assert not ended, [task.exception() for task in ended]
            finally:
                for task in line.tasks:
                    task.cancel()
                await asyncio.gather(*line.tasks, return_exceptions=True)

        loop = Loop(began_ms)
        monkeypatch.setattr(port, "ticks_ms", loop.ticks_ms)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(whole())

    return play


def since(moments, other):
    return [port.ticks_diff(a, b) for a, b in zip(moments, other, strict=True)]


def instants(board):
    return [int(text.split(" at ")[1]) for text in board.all_of("instant")]


def test_what_is_shipped_fits_together(play):
    async def story(line):
        motors = line.load()
        assert (motors.INTERVAL_MS, motors.LEAD_MS) == (RPI_MS, LEAD_MS)
        assert motors.MULTIPLIER * RPI_MS == TIMEOUT_MS < LEAD_MS

    play("motors.py", story)


@pytest.mark.parametrize("began_ms", [0, (1 << 30) - 700])
def test_each_motor_latches_as_late_as_its_quickest_frame_was(play, began_ms):
    async def story(line):
        chance = random.Random(7)
        delays = [[chance.randrange(most) for _ in range(1000)] for most in (1, 9, 30, 200)]
        boards = []
        for own in delays:
            lasts = iter(own)
            boards.append(line.consume(lambda _, lasts=lasts: next(lasts)))
        producer = line.produce()
        for _ in range(3):
            await asyncio.sleep(0.3)
            await line.press(producer)
            await asyncio.sleep(0.6)
        assert producer.all_of("announced") == ["1: 600 rpm", "2: 1500 rpm", "3: -600 rpm"]
        due = instants(producer)
        assert since(due, producer.moments("announced")) == [LEAD_MS] * 3
        for board in boards:
            assert board.all_of("speed") == producer.all_of("announced") and board.is_on
            assert instants(board) == board.moments("speed")
        for board, own in zip(boards, delays, strict=True):
            for late, meant in zip(since(instants(board), due), range(3), strict=True):
                assert 0 <= late <= min(own[:100]) + 1, (meant, own[:3])

    play("motors.py", story, began_ms)


def test_one_frame_that_came_straight_through_just_before_the_instant_is_enough(play):
    """The motor sleeps till then by what it knew before; the producer was busy, so that its frames
    left at other moments than before."""
    for left_ms in range(1, RPI_MS + 1):

        async def story(line, left_ms=left_ms):
            producer = line.produce()
            await asyncio.sleep(0.004)  # so that it wakes at other moments
            motor = line.consume(
                lambda ms: (
                    0
                    if producer.all_of("instant") and instants(producer)[0] - ms <= RPI_MS
                    else 95
                )
            )
            await asyncio.sleep(0.3)
            await line.press(producer)
            line.stall_ms = 2 * RPI_MS - left_ms
            await asyncio.sleep(0.7)
            assert since(instants(motor), instants(producer)) == [0]

        play("motors.py", story)


def test_what_each_frame_waited_is_taken_off(play):
    """Also where none of an announcement came straight through."""

    async def story(line):
        producer, motor = line.produce(), line.consume()
        await asyncio.sleep(0.1)
        motor.ear.late = lambda ms: 150 + ms % 70
        await asyncio.sleep(0.3)
        await line.press(producer)
        await asyncio.sleep(1)
        assert since(instants(motor), instants(producer)) == [0]

    play("motors.py", story)


def test_silence_stops_a_motor_by_its_timeout_and_the_next_speed_starts_it(play):
    async def story(line):
        producer, motor = line.produce(), line.consume()
        await line.press(producer)
        await asyncio.sleep(1)
        assert motor.is_on
        motor.ear.late = lambda _: None
        began = port.ticks_ms()
        await asyncio.sleep(1)
        assert not motor.is_on and motor.all_of("stopped") == ["timed_out"]
        waited = port.ticks_diff(motor.moments("stopped")[0], began)
        assert TIMEOUT_MS - RPI_MS <= waited <= TIMEOUT_MS + RPI_MS
        assert motor.all_of("frames")[0].startswith("taken ")
        motor.ear.late = 0
        await asyncio.sleep(1)
        assert not motor.is_on
        await line.press(producer)
        await asyncio.sleep(0.6)
        assert motor.all_of("speed") == ["1: 600 rpm", "2: 1500 rpm"] and motor.is_on

    play("motors.py", story)


@pytest.mark.parametrize("held_ms", [1000, 60000])
def test_a_speed_that_was_held_back_moves_nothing(play, held_ms):
    """All frames of one motor come later by so much, in order and at their own pace."""

    async def story(line):
        producer, motor = line.produce(), line.consume()
        await line.press(producer)
        await asyncio.sleep(1)
        motor.ear.late = held_ms
        await asyncio.sleep(0.1)
        await line.press(producer)
        await asyncio.sleep(held_ms / 1000 + 1)
        assert motor.all_of("speed") == ["1: 600 rpm"] and not motor.is_on
        assert motor.all_of("stopped") == ["timed_out"]
        await asyncio.sleep(10.5)  # a connection's first frame may take so long
        assert "held_back" in motor.all_of("frames")[-1]
        motor.ear.late = 0
        await asyncio.sleep(0.1)
        await line.press(producer)
        await asyncio.sleep(0.6)
        assert motor.all_of("speed")[1:] == producer.all_of("announced")[-1:] and motor.is_on

    play("motors.py", story)


def test_an_eyes_state_that_was_held_back_lights_nothing(play):
    async def story(line):
        eye, lamp = line.produce(), line.consume()
        await asyncio.sleep(0.1)
        lamp.ear.late = 5000
        eye.is_held = True
        await asyncio.sleep(2)
        eye.is_held = False
        await asyncio.sleep(5)
        assert not lamp.is_on and "1" not in lamp.all_of("passed")
        assert lamp.all_of("stopped") == ["timed_out"]
        lamp.ear.late = 0
        await asyncio.sleep(0.1)
        assert lamp.all_of("passed") == ["0", "1"] and not lamp.is_on
        eye.is_held = True
        await asyncio.sleep(0.1)
        assert lamp.is_on

    play("photoeye.py", story)


@pytest.mark.parametrize("clock_ms", [-900000, 0, 900000])
def test_a_producer_that_starts_again_is_heard_whatever_its_clock_says(
    play, monkeypatch, clock_ms
):
    async def story(line):
        producer, motor = line.produce(), line.consume()
        await line.press(producer)
        await asyncio.sleep(1)
        producer.task.cancel()
        line.tasks.remove(producer.task)
        await asyncio.sleep(1)
        assert motor.all_of("stopped") == ["timed_out"]
        cyclic = sys.modules["onboard.cyclic"]
        ours = port.ticks_ms
        theirs = SimpleNamespace(
            ticks_ms=lambda: port.ticks_add(ours(), clock_ms), random_bytes=port.random_bytes
        )

        class Writer(cyclic.Writer):
            def make(self, is_running=True):
                monkeypatch.setattr(cyclic, "port", theirs)
                try:
                    return super().make(is_running)
                finally:
                    monkeypatch.setattr(cyclic, "port", port)

        module = line.load()
        module.Writer = Writer
        again = line.produce(module=module)  # the same Sender-ID: so it may be once an era is over
        await asyncio.sleep(0.05)
        await line.press(again)
        await asyncio.sleep(0.6)
        assert motor.all_of("speed") == ["1: 600 rpm", "1: 600 rpm"] and motor.is_on

    play("motors.py", story)


def test_the_first_that_is_proven_is_the_producer_and_nobody_else(play):
    async def story(line):
        producer, motor = line.produce(), line.consume()
        await asyncio.sleep(0.1)
        other = line.produce(source=b"motor-7", sender=9 << 6)
        await line.press(other)
        await asyncio.sleep(0.6)
        assert motor.all_of("speed") == []
        await line.press(producer)
        await asyncio.sleep(0.6)
        assert motor.all_of("speed") == ["1: 600 rpm"] and motor.is_on
        producer.task.cancel()
        line.tasks.remove(producer.task)
        await asyncio.sleep(0.5)
        await line.press(other)
        await asyncio.sleep(11)
        assert motor.all_of("speed") == ["1: 600 rpm"] and not motor.is_on
        assert "another_source" in motor.all_of("frames")[-1]

    play("motors.py", story)


def test_what_nothing_proves_moves_no_motor_and_is_counted(play):
    async def story(line):
        producer, motor = line.produce(confirmed=False), line.consume()
        await line.press(producer)
        await asyncio.sleep(11)
        assert motor.all_of("speed") == motor.all_of("connection") == []
        assert motor.all_of("frames")[0].startswith("taken 0, missed 0, last 0, unproven ")

    play("motors.py", story)


# Lag


@pytest.fixture
def lag(monkeypatch):
    monkeypatch.syspath_prepend(str(FIRMWARE))
    return importlib.import_module("onboard.lag").Lag()


WRAP = 1 << 30


@pytest.mark.parametrize("ours, theirs", [(0, 0), (WRAP - 50, 17), (9, WRAP - 50), (5, WRAP // 2)])
def test_lag_is_against_the_quickest(lag, ours, theirs):
    for left, came, expected in (
        (0, 40, 0),  # the first
        (10, 60, 10),
        (20, 30, 0),  # quicker than all
        (30, 70, 30),
        (40, 50, 0),
        (50, 1050, 990),
        (51, 1050, 989),
    ):
        assert lag.of(64, (theirs + left) % WRAP, (ours + came) % WRAP) == expected


def test_another_run_begins_anew(lag):
    assert lag.run == -1
    assert lag.of(64, 1000, 2000) == 0 and lag.of(64, 1000, 2500) == 500
    assert lag.of(65, 7, 9000) == 0 and lag.of(65, 7, 9100) == 100 and lag.run == 65


def test_a_run_that_was_left_does_not_come_back(lag):
    for_ever = importlib.import_module("onboard.lag").FOR_EVER
    for run in range(64, 69):
        assert lag.of(run, 1000, 2000) == 0
    for run in range(64, 68):  # the four before this one
        assert lag.of(run, 1010, 2010) == for_ever and lag.run == 68
    assert lag.of(68, 1010, 2510) == 500  # by the clock that it had
    assert lag.of(70, 0, 2520) == 0 and lag.of(68, 1020, 2530) == for_ever


@pytest.mark.parametrize("per_million", [-240, 240])
def test_crystals_are_forgiven_what_they_are_wrong_by(lag, per_million):
    """A week, a frame each ten seconds and what a connection asks meanwhile."""
    worst = 0
    for ms in range(0, 7 * 86400 * 1000, 10000):
        theirs = ms + ms * per_million // 1000000
        worst = max(worst, lag.of(64, theirs % WRAP, ms % WRAP))
        lag.go_on((ms + 5000) % WRAP)
    assert worst <= 10000 * 240 // 1000000 + 1


def test_silence_forgives_a_thousandth_of_itself(lag):
    lag.of(64, 0, 0)
    day = 86400 * 1000
    for ms in range(0, 8 * day, day):  # longer than ticks can tell apart
        lag.go_on(ms % WRAP)
    late = lag.of(64, 5 * day, 8 * day % WRAP)
    assert 3 * day - 8 * day // 1024 <= late <= 3 * day - 7 * day // 1024


@pytest.mark.parametrize("arch", ["x64", "x86"])
def test_on_micropython_it_takes_no_heap(arch):
    script = """
import micropython
from onboard.lag import Lag
lag = Lag()
TOP = (1 << 30) - 1
MOMENTS = [(0, TOP), (TOP, 0), (5, 900), (7, 1 << 29), (1 << 29, 3), (TOP, TOP)]
def steps():
    for told, now in MOMENTS:
        lag.of(64, told, now)
        lag.of(64, now, now)
        lag.of(65, told, now)
        lag.of(65, 0, now)
        lag.go_on(told)
steps()
micropython.heap_lock()
steps()
"""
    wrapper, reason = interpreter(arch)
    if wrapper is None:
        without(arch, reason)
    path = f".frozen:{BUILD / f'lib-{arch}'}:{FIRMWARE}"
    done = subprocess.run(
        [wrapper, "-c", script],
        env={"MICROPYPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
