"""A member is put out of a group of real processes, on CPython and 32-bit MicroPython.

Key server, sender and listeners on loopback; a wire tap that has the TEK of before, as who was put
out may have kept it.
"""

import signal
import socket
import threading
import time
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey import port
from covey_host.bench import crowd
from covey_host.gcks.epoch import decode_state
from covey_host.gcks.ledger import encode
from covey_host.gcks.roster import Enrolled
from covey_host.gcks.treelevel import PAGE
from foreign_esp import Air
from member_process import join, micropython
from processes import wait_until
from site_bench import GROUP, Bench

SKF, GSA_REKEY = 53, 41
_ESP_HEAD = 16
SLACK_S = 3  # for a machine that has other things to do, too
# Time for a busy machine's MicroPython to verify a signature before anybody sends under new keys.
UNHURRIED = 'evict_atd = "4s"\nevict_dtd = "8s"\n'


@dataclass
class Heard:
    at: float
    data: bytes


class Tap:
    """All datagrams of the group, with the time they came."""

    def __init__(self, number):
        self.heard = []
        self._sock = port.group_socket(GROUP, number, "127.0.0.1", 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.settimeout(0.2)
        self._is_open = True
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        while self._is_open:
            try:
                data = self._sock.recv(9000)
            except TimeoutError:
                continue
            self.heard.append(Heard(time.monotonic(), data))

    def close(self):
        self._is_open = False
        self._thread.join()
        port.close(self._sock)

    def rekeys(self):
        """IKE messages, each datagram once, in order."""
        found = dict.fromkeys(h.data[4:] for h in self.heard if not any(h.data[:4]))
        return [data for data in found if data[18] == GSA_REKEY]

    def opened_by(self, spi, keymat, besides=None):
        """When what this TEK opens was sent, by anybody but one Sender-ID."""
        times = []
        for one in self.heard:
            if one.data[:4] == spi and int.from_bytes(one.data[8:10]) != besides:
                text = one.data[_ESP_HEAD:]
                nonce = keymat[16:] + one.data[8:16]
                try:
                    AESGCM(keymat[:16]).decrypt(nonce, text, one.data[:8])
                except InvalidTag:
                    continue
                times.append(one.at)
        return times


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    made.members, made.taps = [], []
    yield made
    for one in (*made.taps, *made.members):
        one.close()
    made.close()


def added(bench, name, make=micropython):
    """A member that is in, its status told."""
    if not (bench.root / "members" / name).exists():
        bench.member(name, "--sender")
    one = make(bench.root / "members" / name / "covey.json")
    bench.members.append(one)
    one.heard("status")  # from then on it listens
    return one


class Talker:
    """Numbered payloads from a member, until it is stopped."""

    def __init__(self, member, period_s):
        self.count = 0
        self._member, self._period_s, self._goes_on = member, period_s, True
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self):
        while self._goes_on:
            self._member.say(f"n{self.count:05d}")
            self.count += 1
            time.sleep(self._period_s)

    def stop(self):
        self._goes_on = False
        self._thread.join()

    close = stop


def numbers(member):
    texts = [bytes.fromhex(e["payload"]) for e in list(member.events) if e["event"] == "packet"]
    return [int(text[1:]) for text in texts if text[:1] == b"n"]


def tek(bench):
    store = bench.store()
    epoch, _ = decode_state(store.read("group/line1/state")[0])
    store.close()
    return epoch.tek_spi, epoch.tek_keymat


def check_complete(talker, listeners):
    """Everything from the first that it heard, and nothing twice."""
    wait_until(lambda: all(talker.count - 1 in numbers(one) for one in listeners))
    for one in listeners:
        got = numbers(one)
        assert sorted(got) == list(range(min(got), talker.count)), "lost, or twice"


def test_others_lose_nothing_and_who_is_out_reads_nothing_after_the_time_told(bench):
    bench.edit('atd = "0s"\ndtd = "1s"\n', "")  # the defaults
    server = bench.serve()
    sender = added(bench, "sender")
    stay = [added(bench, "board"), added(bench, "desk", join)]
    out = added(bench, "gone")
    bench.taps.append(tap := Tap(bench.carrier_port))
    old = tek(bench)
    stolen = SimpleNamespace(spi=old[0], keymat=old[1], port=2222)
    sender_id = out.heard("status")["detail"]["sender_id"]
    bench.taps.append(air := Air(GROUP, bench.carrier_port))
    bench.taps.append(talker := Talker(sender, 0.02))
    for one in (*stay, out):
        wait_until(lambda one=one: len(numbers(one)) > 20)
    said = bench.covey("member", "remove", "gone")
    began = time.monotonic()
    assert "it reads nothing that is sent 3 s from" in said and "sends 5 s from now" in said
    injected = 0
    while time.monotonic() < began + 5 + SLACK_S + 1:  # who is out, with what it knew
        injected += 1
        iv = sender_id.to_bytes(2) + (1 << 20 | injected).to_bytes(6)
        air.send(stolen, b"x%.2f" % (time.monotonic() - began), seq=injected, iv=iv)
        time.sleep(0.05)
    out.heard("refused")
    talker.stop()
    check_complete(talker, stay)
    assert max(numbers(out)) < talker.count - 1
    theirs = tap.opened_by(*old, sender_id)
    assert max(theirs) < began + 3 + SLACK_S
    for one in stay:
        forged = [e["payload"] for e in list(one.events) if e["event"] == "packet"]
        forged = [float(bytes.fromhex(f)[1:]) for f in forged if f.startswith("78")]
        assert 0 < max(forged) < 5 + SLACK_S
    assert tap.opened_by(*tek(bench)), "nothing was sent under the new keys"
    bench.events(server)


def test_killed_between_the_two_messages_it_says_both_again(bench):
    bench.edit('atd = "0s"\ndtd = "1s"\n', UNHURRIED + 'evict_gap = "5s"\nrepeats = 0\n')
    server = bench.serve()
    sender = added(bench, "sender")
    stay = [added(bench, "board"), added(bench, "desk", join)]
    out = added(bench, "gone")
    bench.taps.append(tap := Tap(bench.carrier_port))
    bench.taps.append(talker := Talker(sender, 0.02))
    for one in (*stay, out):
        wait_until(lambda one=one: len(numbers(one)) > 20)
    before = len(tap.rekeys())
    bench.covey("member", "remove", "gone")
    wait_until(lambda: len(tap.rekeys()) > before)
    bench.events(server, signal.SIGKILL)
    [one] = tap.rekeys()[before:]
    server = bench.serve()
    spi = bench.status()["groups"]["line1"]["spi"]

    def follows(member):
        found = [e for e in list(member.events) if e["event"] == "status"]
        return found and (found[-1].get("detail") or found[-1]).get("spi") == spi

    wait_until(lambda: all(follows(member) for member in (sender, *stay)))
    assert sum(h.data[4:] == one for h in tap.heard) == 2, "message 1 was not said again"
    assert len(tap.rekeys()) == before + 3  # 1, 2, and that of the start
    out.heard("refused")
    wait_until(lambda: tap.opened_by(*tek(bench)))
    talker.stop()
    check_complete(talker, stay)
    assert max(numbers(out)) < talker.count - 1
    for member in stay:
        assert member.count("registered") == 1, "it had to come back"
    bench.events(server)


def follows(bench, *members):
    """Whether these have the present keys."""
    spi = bench.status()["groups"]["line1"]["spi"]

    def has(member):
        found = [e for e in list(member.events) if e["event"] == "status"]
        return found and (found[-1].get("detail") or found[-1]).get("spi") == spi

    return all(map(has, members))


def test_nobody_notices_that_one_is_removed_who_is_not_there(bench):
    """It left, and the next rekey put it out; or it never came, and the key server was killed
    since, so that it can't know that."""
    bench.edit('atd = "0s"\ndtd = "1s"\n', UNHURRIED)
    server = bench.serve()
    sender = added(bench, "sender")
    stay = [added(bench, "board"), added(bench, "desk", join)]
    left = added(bench, "gone")
    assert left.leave()[0] == 0
    bench.taps.append(talker := Talker(sender, 0.02))
    for one in stay:
        wait_until(lambda one=one: len(numbers(one)) > 20)
    bench.covey("rekey", "line1")
    wait_until(lambda: follows(bench, sender, *stay))
    epoch = bench.epoch()
    said = bench.covey("member", "remove", "gone")
    assert said == "Removed gone: it can register no more; its groups go on without it.\n"
    assert bench.epoch() == epoch

    events = bench.events(server, signal.SIGKILL)
    server = bench.serve()
    wait_until(lambda: follows(bench, sender, *stay))
    bench.member("typo")
    bench.member("other")
    said = bench.covey("member", "remove", "typo")
    assert "its groups go on without it." in said and "register again" not in said
    wait_until(lambda: follows(bench, sender, *stay))
    epoch = bench.epoch()
    assert "Group" not in bench.covey("member", "remove", "other")
    assert bench.epoch() == epoch
    talker.stop()
    check_complete(talker, stay)
    for member in (sender, *stay):
        assert not member.count("excluded"), "it was sent away"
    events += bench.events(server)
    assert "excluded_all" not in {event["event"] for event in events}


@pytest.mark.parametrize("why", ["no tree", "nobody left"])
def test_where_all_others_are_sent_away_the_command_says_so(bench, why):
    if why == "no tree":
        bench.edit("fresh_join = false\n", "fresh_join = false\nkey_tree = 0\n")
    bench.edit('rejoin_spread = "0s"', 'rejoin_spread = "3s"')
    server = bench.serve()
    stays = [added(bench, "desk", join)] if why == "no tree" else []
    added(bench, "gone", join)
    said = bench.covey("member", "remove", "gone")
    is_said = (
        "Group line1: all others have to register again, and nobody sends for 3 s; it" in said
    )
    assert is_said == bool(stays)
    assert ("go on without it" in said) != bool(stays)
    for member in stays:
        member.heard("registered", 2)
    assert "excluded_all" in {event["event"] for event in bench.events(server)}


DEGREE, LEAVES = 8, 8**5
GOING, STAYING = [5, 69, 20_000], [30_000, 30_001, 30_002]  # leaves


def plant_tree(bench, free, named=()):
    """A tree of many whom nobody asks for, in which only these leaves are to be had. named: leaves
    of members that can be removed, crowd.name_of()."""
    store = bench.store()
    versions = {key: version for key, _, version in store.scan("group/line1/")}
    pages = dict(crowd.tree_pages(LEAVES, DEGREE))
    for leaf in free:
        key, at = f"tree/0/{leaf // PAGE}", leaf % PAGE * 4
        pages[key] = pages[key][:at] + bytes(4) + pages[key][at + 4 :]
    prefixed = [(f"group/line1/{key}", page) for key, page in pages.items()]
    for leaf in named:
        row = encode(asdict(Enrolled(0, False, False, True, leaf)))
        prefixed.append((f"group/line1/member/{crowd.name_of(leaf)}", row))
        row = encode({"psk": bytes(32), "groups": {"line1": False}, "removed": False})
        prefixed.append((f"authority/member/{crowd.name_of(leaf)}", row))
    assert store.compare_and_swap([(k, versions.get(k, 0), page) for k, page in prefixed], None)
    store.close()


@pytest.mark.parametrize("many", [False, True])
def test_messages_above_the_threshold_are_followed_in_fragments(bench, many):
    """Of 32,768 members one goes, or three at once, far from each other. What is below the
    threshold the tests above show."""
    bench.edit('atd = "0s"\ndtd = "1s"\n', f"{UNHURRIED}key_tree = {DEGREE}\n")
    bench.end(bench.serve())
    plant_tree(bench, GOING + STAYING)
    server = bench.serve()
    going = [added(bench, f"out-{number}") for number in range(3)]
    sender = added(bench, "sender")
    stay = [added(bench, "board"), added(bench, "desk", join)]
    bench.taps.append(tap := Tap(bench.carrier_port))
    bench.taps.append(talker := Talker(sender, 0.02))
    if many:
        for one in going[:2]:
            assert one.leave()[0] == 0
    bench.covey("member", "remove", "out-2")
    going[2].heard("refused")
    wait_until(lambda: tap.opened_by(*tek(bench)))
    talker.stop()
    check_complete(talker, stay)
    parts = [data for data in tap.rekeys() if data[16] == SKF]
    assert max(map(len, parts)) <= 1248
    assert sum(map(len, parts)) > (3500 if many else 1248), "not what was to be shown"
    assert len(parts) == (3 if many else 2)
    for member in (sender, *stay):
        assert member.count("registered") == 1, "it had to come back"
    bench.events(server)


def test_forty_at_once_go_in_portions_of_which_each_member_verifies_one(bench):
    """Far from each other in the tree, and the members that stay likewise."""
    bench.edit('atd = "0s"\ndtd = "1s"\n', f"{UNHURRIED}key_tree = {DEGREE}\n")
    bench.end(bench.serve())
    staying = [5, 16_000, 32_000]
    crowded = range(100, LEAVES, LEAVES // 40)
    plant_tree(bench, staying, crowded)
    server = bench.serve()
    sender = added(bench, "sender")
    stay = [added(bench, "board"), added(bench, "desk", join)]
    bench.taps.append(tap := Tap(bench.carrier_port))
    bench.taps.append(talker := Talker(sender, 0.02))
    for one in stay:
        wait_until(lambda one=one: len(numbers(one)) > 20)
    before = len(tap.rekeys())
    bench.covey("member", "remove", *map(crowd.name_of, crowded))
    wait_until(lambda: tap.opened_by(*tek(bench)))
    talker.stop()
    check_complete(talker, stay)
    messages = {data[:16] + data[20:24] for data in tap.rekeys()[before:]}
    assert len({name[:16] for name in messages}) == 2 and len(messages) > 10
    for member in (sender, *stay):
        assert member.count("registered") == 1, "it had to come back"
        told = [e for e in list(member.events) if e["event"] == "status"][-1]
        drops = (told.get("detail") or told)["drops"]
        assert "key_path" not in drops and "key_portion" not in drops
    bench.events(server)
