"""firmware/sleep.py through several wakes, on 32-bit MicroPython and on CPython.

Real deep sleep ends the process; RTC memory is a file. What the key server has registered tells
which wakes went on with the keys that they had.
"""

import os
import signal
import time

import pytest

import member_process
from board_bench import ASLEEP, WIFI, Board, files_of
from site_bench import Bench
from test_firmware import hasten

KINDS = ["x86", "cpython"]


def quick(text):
    for usual, now in (
        ("SLEEP_S = 60", "SLEEP_S = 1"),
        ("AWAKE_S = 30", "AWAKE_S = 12"),
        ("ASK_EACH = 15", "ASK_EACH = 3"),
        ("group.asked(5)", "group.asked(10)"),  # a machine with much else to do
    ):
        assert usual in text
        text = text.replace(usual, now)
    return text


class Sleeper(Board):
    """A board whose power comes back when its sleep is over."""

    def wake(self, fails=0):
        """Until it sleeps again. fails: how many failures it tells of meanwhile."""
        before = self.count("covey: failed") + fails
        self.power()
        assert self.ended(60) == ASLEEP, self.lines[-20:]
        assert self.count("covey: failed") == before, self.lines[-20:]

    def sleep(self):
        time.sleep(int((self.world / "sleep").read_text()) / 1000)

    @property
    def rtc(self):
        path = self.world / "rtc"
        return path.read_bytes() if path.exists() else b""


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "site")
    yield bench
    bench.close()


@pytest.fixture
def ear(bench):
    """A receiver of the group that tells all that it hears."""
    bench.member("valve-3")
    heard = []

    def start():
        heard.append(
            member_process.join(bench.root / "members" / "valve-3" / "covey.json", "--listen")
        )
        heard[0].heard("status")  # from then on it listens
        return heard[0]

    yield start
    for each in heard:
        each.close()


@pytest.fixture
def sleeper(bench, tmp_path, request):
    bench.member("press-7", "--sender")
    folder = bench.root / "members" / "press-7"
    hasten(folder, 10)
    change = getattr(request.function, "changes", str)
    files = files_of(folder, request.param, "sleep.py", lambda text: change(quick(text)))
    board = Sleeper(tmp_path / "board", files, request.param)
    board.air()
    board.press(True)
    yield board
    board.close()
    said = "\n".join(board.lines)
    assert WIFI["password"] not in said and "Traceback" not in said, said
    bench.said += said


def registrations(bench, server):
    told = bench.events(server)
    return [e for e in told if e["event"] == "registered" and e["member"] == "press-7"]


@pytest.mark.parametrize("sleeper", KINDS, indirect=True)
def test_wakes_without_a_registration_and_one_after_a_rekey(bench, sleeper, ear):
    server = bench.serve()
    heard = ear()
    sleeper.wake()
    heard.packet(b"on")
    for n in (2, 3):
        sleeper.sleep()
        sleeper.wake()
        heard.packet(b"on", n)
    assert sleeper.count("covey: registering") == 1 and sleeper.rtc[0] == 2
    sleeper.sleep()
    bench.covey("rekey", "line1")
    heard.heard("rekeyed")
    time.sleep(1.5)  # DTD: what is sent under the old keys is dropped from here on
    sleeper.wake()  # it has no way to know
    assert heard.opened(b"on") == 3
    sleeper.wake()  # its third since it asked
    heard.packet(b"on", 4)
    assert sleeper.rtc[0] == 0 and sleeper.count("covey: registering") == 1
    sleeper.wake()
    heard.packet(b"on", 5)
    status = heard.heard("status", sum(e.get("event") == "status" for e in heard.events) + 1)
    assert "replay" not in status["drops"] and status["drops"]["retired_spi"] == 1
    asked = registrations(bench, server)
    assert [e["epoch"] - asked[0]["epoch"] for e in asked] == [0, 1]


@pytest.mark.parametrize("sleeper", KINDS, indirect=True)
def test_others_who_send_under_new_keys_are_noticed(bench, sleeper, ear):
    server = bench.serve()
    heard = ear()
    sleeper.wake()
    bench.member("robot-2", "--sender")
    path = bench.root / "members" / "robot-2" / "covey.json"
    talker = member_process.join(path, "--send", "hello", "--count", "1000", "--interval", "0.1")
    try:
        heard.packet(b"hello")
        bench.covey("rekey", "line1")
        heard.heard("rekeyed")
        talker.heard("rekeyed")  # ATD is 0: from here on it sends under the new keys
        time.sleep(1.5)  # DTD: and nobody takes what is sent under the old ones
        before = heard.opened(b"on")
        sleeper.wake()
        heard.packet(b"on", before + 1)
        assert sleeper.rtc[0] == 0  # it has asked
    finally:
        talker.close()
    assert len(registrations(bench, server)) == 2


def attentive(text):
    """A talker that another process keeps waiting is heard all the same."""
    assert "asyncio.sleep(0.5)" in text
    return text.replace("asyncio.sleep(0.5)", "asyncio.sleep(3)")


test_others_who_send_under_new_keys_are_noticed.changes = attentive


@pytest.mark.parametrize("sleeper", KINDS, indirect=True)
def test_only_a_wake_from_sleep_goes_on(bench, sleeper, ear):
    """Power that went, a reset while it is awake, memory that is not what it was: it registers."""
    server = bench.serve()
    heard = ear()
    sleeper.wake()
    kept = sleeper.rtc
    assert len(kept) > 200
    (sleeper.world / "cause").write_text("1")  # a brown-out that RTC memory has survived
    sleeper.wake()
    assert sleeper.count("covey: registering") == 2
    for damage in (os.urandom(700), b"\3" + os.urandom(2047), kept[:1] + bytes(len(kept) - 1)):
        (sleeper.world / "rtc").write_bytes(damage)
        sleeper.wake()
    assert sleeper.count("covey: registering") == 5
    (sleeper.world / "held").write_text("")
    sleeper.power()  # it goes on, and is killed in the middle of it
    sleeper.says("covey: member", 6)
    assert sleeper.rtc == b""
    sleeper.cut()
    (sleeper.world / "held").unlink()
    (sleeper.world / "cause").write_text("3")  # the watchdog
    sleeper.wake()
    assert sleeper.count("covey: registering") == 6
    (sleeper.world / "rtc").write_bytes(kept)  # octets of long ago, which nobody can put there
    (sleeper.world / "cause").write_text("1")
    sleeper.wake()
    assert sleeper.count("covey: registering") == 7
    status = heard.heard("status", sum(e.get("event") == "status" for e in heard.events) + 1)
    assert "replay" not in status["drops"]
    bench.end(server)


def held(text):
    """It stays awake while the world says so."""
    sent = "    while not await group.send("
    assert sent in text
    stays = "    while desk.read('held') is not None:\n        await asyncio.sleep(0.1)\n"
    return "import desk\n" + text.replace(sent, stays + sent)


test_only_a_wake_from_sleep_goes_on.changes = held


def failing(text):
    """Its seed can't be written, or nothing be sent, as the world says."""
    return (
        """
import covey.aio
import desk
import onboard.seed

def replace(path, octets):
    if desk.read("full"):
        raise OSError(28)
    return written(path, octets)

async def send(group, payload):
    if desk.read("scarce"):
        raise MemoryError
    return await sent(group, payload)

written, onboard.seed._replace = onboard.seed._replace, replace
sent, covey.aio.Joined.send = covey.aio.Joined.send, send
"""
        + text
    )


@pytest.mark.parametrize("sleeper", KINDS, indirect=True)
def test_it_sleeps_over_what_fails(bench, sleeper, ear):
    """And does not start again at once, which would empty its battery."""
    bench.serve()
    heard = ear()
    sleeper.wake()
    heard.packet(b"on")
    kept = sleeper.rtc
    (sleeper.world / "full").write_text("1")
    sleeper.wake(fails=1)
    assert sleeper.rtc == kept  # nothing was drawn, nothing used
    (sleeper.world / "full").unlink()
    (sleeper.world / "scarce").write_text("1")
    sleeper.wake(fails=1)
    assert len(sleeper.rtc) == len(kept) and sleeper.rtc != kept
    (sleeper.world / "scarce").unlink()
    sleeper.wake()
    heard.packet(b"on", 2)
    assert sleeper.count("covey: registering") == 1


test_it_sleeps_over_what_fails.changes = failing


def hopeless(text):
    """It does not ask for long: nobody answers. AWAKE_S is for the rest, too."""
    assert "group.asked(10)" in text
    return text.replace("group.asked(10)", "group.asked(4)")


@pytest.mark.parametrize("sleeper", KINDS, indirect=True)
def test_nobody_there(bench, sleeper, ear):
    """No key server, no access point: what was kept is kept on, and keys are good meanwhile."""
    server = bench.serve()
    heard = ear()
    sleeper.wake()
    heard.packet(b"on")
    kept = sleeper.rtc
    bench.end(server, signal.SIGKILL)
    sleeper.wake()
    heard.packet(b"on", 2)
    assert sleeper.count("covey: registering") == 1 and sleeper.rtc != kept
    kept = sleeper.rtc
    sleeper.no_air()
    sleeper.wake(fails=1)
    assert sleeper.rtc == kept  # it was not used
    sleeper.air()
    for n in (3, 4):  # the second time it asks, and does without an answer
        sleeper.wake()
        heard.packet(b"on", n)
    assert sleeper.count("covey: registering") == 1


test_nobody_there.changes = hopeless
