"""`covey join` against a real key server: what is sent arrives, what is said is stable."""

import json
import signal
import subprocess
import threading
import time

import pytest

from covey import port
from processes import PATIENCE_S, wait_until
from site_bench import GROUP, Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    made.member("press-7", "--sender")
    made.member("robot.2")
    yield made
    made.close()


class Joined:
    """A running `covey join --json`: its events as they come."""

    def __init__(self, bench, name, *arguments):
        self.bench = bench
        self.process = bench.launch("join", name, "--json", *arguments)
        self.events = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.bench.said += line
            self.events.append(json.loads(line))

    def heard(self, event, n=1, **facts):
        """Wait for n events with these facts; the latest of them."""

        def found():
            ended = self.process.poll() is not None and not self._reader.is_alive()
            hits = [e for e in self.events if e["event"] == event and facts.items() <= e.items()]
            assert hits[n - 1 :] or not ended, self.process.stderr.read()
            return hits[n - 1 :]

        try:
            return wait_until(found)[-1]
        except AssertionError as error:
            said = f"no {event} {facts} x {n} in {self.events}: {error}"
            raise AssertionError(said) from None

    def status(self):
        """The latest."""
        return [e for e in self.events if e["event"] == "status"][-1]

    def end(self):
        """It ends by itself: (exit status, stderr)."""
        try:
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it says where it is: PYTHONFAULTHANDLER
            raise AssertionError(f"it goes on: {self.process.stderr.read()}") from None
        self._reader.join()
        err = self.process.stderr.read()
        self.bench.said += err
        return status, err

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.end()


def test_a_text_reaches_another_member(bench):
    server = bench.serve()
    listener = Joined(bench, "robot.2", "--listen", "--count", "2")
    listener.heard("status")  # "registered" is told before its sockets are open
    sender = Joined(bench, "press-7", "--send", "speed=1500", "--count", "2", "--interval", "0.05")
    assert sender.end() == (0, "")
    assert listener.end() == (0, "")
    packets = [e for e in listener.events if e["event"] == "packet"]
    packet = {
        "event": "packet",
        "member": "robot.2",
        "payload": b"speed=1500".hex(),
        "text": "speed=1500",
        "sender": packets[0]["sender"],
        "confirmed": False,
        "source": None,
    }
    assert packets == [packet, packet]
    assert [e["event"] for e in sender.events if e["event"] != "status"] == [
        "registering",
        "registered",
        "left",
    ]
    last = sender.status()
    assert last["member"] == "press-7" and last["state"] == "member" and last["sent"] == 2
    assert last["interpreter"].startswith("cpython 3.")
    assert set(last["drops"]) <= {"own", "ike_message_id"}  # the latter: a repeat by either side
    assert set(last) >= {"epoch", "spi", "sender_id", "sent", "opened", "rekeys"}
    events = bench.events(server)
    told = [(e["event"], e["member"]) for e in events if "member" in e]
    assert told[:2] == [("registered", "robot.2"), ("registered", "press-7")]
    assert sorted(told[2:]) == [("left", "press-7"), ("left", "robot.2")]


@pytest.mark.parametrize("text", ["[]", " null\n", '"a"', "[{}]"])
def test_json_that_is_no_object_is_told_as_that(bench, text):
    bench.member("eye")
    path = bench.root / "members" / "eye" / "covey.json"
    path.write_text(text)
    assert bench.covey("join", "eye", status=2) == f"{path} must be an object in braces.\n"
    path.write_text("{")
    assert "covey.json is not JSON: check its commas" in bench.covey("join", "eye", status=2)


def test_a_text_waits_until_it_may_be_sent(bench):
    """Whoever registers before the new keys are sent under (ATD) is silent until then."""
    bench.edit('atd = "0s"', 'atd = "2s"')
    bench.edit('dtd = "1s"', 'dtd = "4s"')
    server = bench.serve()
    listener = Joined(bench, "robot.2", "--count", "1")
    listener.heard("status")
    began = time.monotonic()
    bench.covey("rekey", "line1")
    sender = Joined(bench, "press-7", "--send", "late", "--timeout", "60")
    assert sender.end()[0] == 0 and time.monotonic() - began > 1.5
    assert listener.end()[0] == 0 and listener.heard("packet")["text"] == "late"
    bench.end(server)


def test_lines_of_stdin_and_octets_that_are_no_text(bench):
    bench.serve()
    listener = bench.launch("join", "robot.2", "--listen", "--count", "4")
    while "registered" not in (said := listener.stderr.readline()):
        assert said, "it ended"
    sender = bench.launch("join", "press-7", "--send", "-")
    sender.stdin.write("one\n\ntwo words\nlast without end")
    assert sender.communicate(timeout=PATIENCE_S)[0] == "" and sender.returncode == 0
    lines = listener.communicate(timeout=PATIENCE_S)[0].splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "one",
        "",
        "two words",
        "last without end",
    ]
    listener = Joined(bench, "robot.2", "--count", "1")
    listener.heard("status")
    sender = Joined(bench, "press-7", "--send", "\x1b[2Jé")
    assert sender.end()[0] == 0 and listener.end()[0] == 0
    packet = listener.heard("packet")
    assert "text" not in packet and bytes.fromhex(packet["payload"]).decode() == "\x1b[2Jé"


def test_a_member_follows_a_rekey_and_a_killed_server(bench):
    # Members on a busy machine are slow to hear of new keys.
    bench.edit('atd = "0s"\ndtd = "1s"', 'atd = "2s"\ndtd = "4s"')
    server = bench.serve()
    listener = Joined(bench, "robot.2")
    listener.heard("status")
    sender = Joined(bench, "press-7", "--send", "x", "--count", "100000", "--interval", "0.02")
    listener.heard("packet", 3)
    bench.covey("rekey", "line1")
    listener.heard("rekeyed")
    sender.heard("rekeyed")
    bench.events(server, signal.SIGKILL)
    seen = len(listener.events)
    wait_until(lambda: len(listener.events) > seen + 5)  # the group goes on without it
    server = bench.serve()  # its start rekeys over the stored Rekey SA
    listener.heard("rekeyed", 2)
    sender.heard("rekeyed", 2)
    spi = bench.status()["groups"]["line1"]["spi"]
    listener.heard("status", spi=spi)
    sender.heard("status", spi=spi)
    assert sender.stop(signal.SIGINT)[0] == 130
    assert listener.stop()[0] == 143
    final = sender.status()
    opened = len([e for e in listener.events if e["event"] == "packet"])
    assert opened >= final["sent"] - 1 and "tag" not in final["drops"]
    bench.end(server)


def test_a_removed_member_is_out_and_the_others_go_on(bench):
    server = bench.serve()
    listener = Joined(bench, "robot.2")
    sender = Joined(bench, "press-7", "--send", "x", "--count", "100000", "--interval", "0.02")
    listener.heard("packet", 3)
    wire = port.group_socket(GROUP, bench.carrier_port, "127.0.0.1", 1)
    bench.covey("member", "remove", "robot.2")
    buf, rekeys = bytearray(2000), 0  # it was told on the wire before the command returned
    while (n := port.recv(wire, buf)) >= 0:
        rekeys += n > 4 and not any(buf[:4]) and buf[22] == 41
    assert rekeys  # repeats, too, where this command was slow to return
    port.close(wire)
    assert listener.heard("refused")
    sender.heard("rekeyed")

    # It hears the new keys, behind all that was under way under the old ones.
    wait_until(lambda: listener.status()["drops"].get("unknown_spi"))
    packets = len([e for e in listener.events if e["event"] == "packet"])
    sent = sender.status()["sent"]
    wait_until(lambda: sender.status()["sent"] > sent + 20)
    assert len([e for e in listener.events if e["event"] == "packet"]) == packets
    listener.stop()
    again = bench.launch("join", "robot.2")
    _, err = again.communicate(timeout=PATIENCE_S)
    bench.said += err
    assert again.returncode == 1 and "refused" in err
    assert len([e for e in sender.events if e["event"] == "registered"]) == 1
    sender.stop()
    events = [(e["event"], e.get("member"), e.get("reason")) for e in bench.events(server)]
    assert ("removed", "robot.2", None) in events
    assert ("refused", "robot.2", "authorization_failed") in events


def test_a_removal_without_a_server_is_carried_out_by_the_next_start(bench):
    server = bench.serve()
    listener = Joined(bench, "robot.2")
    listener.heard("registered")
    bench.events(server, signal.SIGKILL)
    assert "no key server is running" in bench.covey("member", "remove", "robot.2")
    server = bench.serve()
    listener.heard("refused")
    epochs = {e["epoch"] for e in listener.events if e["event"] == "status"}
    assert len(epochs) == 1  # no key of the new epoch reached it
    listener.stop()
    bench.end(server)


def test_a_member_that_may_not_come_in(bench):
    server = bench.serve()
    psk = bench.root / "members" / "press-7" / "psk"
    psk.write_text("00" * 32 + "\n")
    for arguments in (("press-7",), ("press-7", "--send", "x")):
        child = bench.launch("join", *arguments, "--timeout", "60")
        _, err = child.communicate(timeout=PATIENCE_S)
        bench.said += err
        assert child.returncode == 1 and "Traceback" not in err and err.splitlines()[-1]
    events = bench.events(server)
    assert [e["member"] for e in events if e["event"] == "authentication_failed"] == [
        "press-7"
    ] * 2
    assert not [e for e in events if e["event"] == "registered"]


def test_nobody_answers(bench):
    child = bench.launch("join", "robot.2", "--timeout", "0.5")
    _, err = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 1
    assert err.splitlines() == ["robot.2: registering", "No key server answered in time."]
