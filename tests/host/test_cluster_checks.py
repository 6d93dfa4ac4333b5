"""host/covey_host/cluster/checks.py: a history that is good is found good, and each defect in it
is found by the check that is meant to."""

import json
import struct
from dataclasses import replace

import pytest

from covey_host.cluster import checks
from covey_host.cluster.history import History, Removal, Row
from covey_host.cluster.wire import Datagram
from covey_host.gcks import policy, senders
from covey_host.gcks.epoch import Parcel, encode_state, first_epoch, next_epoch, sent_over
from covey_host.gcks.senders import Row as Index

GROUP = "line1"
POLICY = """\
identity = "gcks.example"
[group.line1]
address = "239.192.1.32"
port = 2222
"""
SHAPE = policy.parse(POLICY).groups[GROUP].shape
PRESS, DRILL = ("127.0.0.1", 40001), ("127.0.0.1", 40002)
TO = ("239.192.1.32", 4500)


class Random:
    """Different octets each time, the same in each run."""

    def __init__(self):
        self._n = 0

    def __call__(self, count):
        self._n += 1
        return self._n.to_bytes(2) * (count // 2) + bytes(count % 2)


def rekey(sa, number, text=b"x" * 40):
    """A GSA_REKEY, as far as it is looked at."""
    inner = struct.pack(">BBH", 0, 0, 4 + 8 + len(text)) + number.to_bytes(8) + text
    head = sa.spi + bytes([46, 0x20, 41, 0]) + struct.pack(">II", number, 28 + len(inner))
    return head + inner


def esp(epoch, sender, number, text=b"y" * 20):
    iv = sender.to_bytes(2) + number.to_bytes(6)
    return epoch.tek_spi + number.to_bytes(4) + iv + text


class Story:
    """Two senders come, two rekeys, one of the senders is removed by the second."""

    def __init__(self):
        self.history = History(GROUP)
        self.revision = 10
        random = Random()
        self.first = first_epoch(SHAPE, random)
        self.epochs = [self.first]
        self.write({"state": encode_state(self.first, ())})
        for name, index in (("press", 0), ("drill", 1)):
            self.issue(name, index, self.first)
            self.member(name, {"removed": False})
        self.change(random, {"n": 1})
        self.change(random, {"n": 2, "removes": "drill"})
        self.history.removals.append(Removal("drill", 9.0, self.revision))

    @property
    def last(self):
        return self.epochs[-1]

    def write(self, entries, prefix=f"group/{GROUP}/"):
        self.revision += 1
        for key, value in entries.items():
            self.history.rows.append(Row(self.revision, prefix + key, value))

    def member(self, name, fields):
        self.write({name: json.dumps(fields).encode()}, "authority/member/")

    def issue(self, name, index, epoch, used=1):
        row = Index(name, epoch.era, epoch.life, epoch.number, used, used)
        entries = {f"sender/{index}": senders.encode_row(row), f"member/{name}": b"{}"}
        self.write(entries)
        value = senders.sender_id(SHAPE, index, row)
        self.history.hold(1.0, f"{name}-1", epoch.tek_spi.hex(), value)
        source = PRESS if name == "press" else DRILL
        self.say(esp(epoch, value, 1), source)

    def say(self, data, source=("127.0.0.1", 848)):
        self.history.wire.append(Datagram(float(len(self.history.wire)), source, TO, data))

    def change(self, random, what):
        old = self.last
        new = next_epoch(old, SHAPE, random, excludes=False, started=False)
        message = rekey(old.rekey, old.rekey.next_message_id)
        parcel = Parcel((message,), TO, sent_over(old.rekey), False)
        entries = {"state": encode_state(new, (parcel,))}
        if gone := what.get("removes"):
            entries |= {f"member/{gone}": None, "sender/1": None}
            fields = json.dumps({"removed": True}).encode()
            self.history.rows.append(Row(self.revision + 1, f"authority/member/{gone}", fields))
        self.write(entries)
        self.say(bytes(4) + message)
        self.say(bytes(4) + message)
        self.say(esp(new, 0, 5 + what["n"]), PRESS)
        self.epochs.append(new)
        self.history.hold(5.0, "press-1", new.tek_spi.hex(), 0)


def failed(story):
    return [verdict.name for verdict in checks.all_of(story.history) if not verdict.ok]


def test_a_good_history_is_good():
    story = Story()
    assert failed(story) == []
    details = {verdict.detail for verdict in checks.all_of(story.history)}
    assert {"3 Rekey SAs, to epoch 3", "2 rekeys, data under 3 TEKs", "1 were removed"} <= details


# Defects: what is wrong, and which check says so


def goes_back(story):
    """A holder that has slept writes the epoch that it had."""
    story.write({"state": encode_state(story.epochs[1], ())})


def branches(story):
    """The same epoch's number, other keys."""
    other = next_epoch(story.epochs[1], SHAPE, Random(), excludes=False, started=True)
    story.write({"state": encode_state(other, ())})


def counts_back(story):
    sa = replace(story.last.rekey, next_message_id=3)
    story.write({"state": encode_state(replace(story.last, rekey=sa), ())})
    story.write({"state": encode_state(story.last, ())})


def keeps_the_spi(story):
    new = next_epoch(story.last, SHAPE, Random(), excludes=False, started=True)
    new = replace(new, tek_spi=story.last.tek_spi)
    story.write({"state": encode_state(new, ())})


def says_what_it_never_wrote(story):
    story.say(bytes(4) + rekey(story.last.rekey, 7))


def sends_under_unknown_keys(story):
    other = replace(story.last, tek_spi=b"\x77" * 4)
    story.say(esp(other, 0, 9), PRESS)


def sends_a_nonce_again(story):
    story.say(esp(story.last, 0, 7, b"z" * 20), PRESS)


def says_a_number_again(story):
    """Two different messages of one number; the second one is in the store, too."""
    old = story.epochs[1]
    message = rekey(old.rekey, old.rekey.next_message_id, b"other" * 8)
    parcel = Parcel((message,), TO, sent_over(old.rekey), False)
    story.write({"state": encode_state(story.last, (parcel,))})


def issues_again(story):
    story.issue("lathe", 2, story.last)
    story.write({"sender/2": None})
    story.issue("mill", 2, story.last)


def counts_incarnations_back(story):
    story.issue("press", 0, story.last, used=4)
    story.write({"sender/0": senders.encode_row(Index("press", 0, 0, 3, 2, 2))})


def two_hold_one(story):
    story.history.hold(6.0, "mill-1", story.last.tek_spi.hex(), 0)


def two_ports_send_as_one(story):
    story.say(esp(story.last, 0, 99), DRILL)


def lets_it_in_again(story):
    story.member("drill", {"removed": False})


def enrols_it_again(story):
    story.write({"member/drill": b"{}"})


def hands_it_the_keys(story):
    story.history.hold(9.0, "drill-2", story.last.tek_spi.hex(), None)


def said_too_soon(story):
    """The command had said so when the member was still in."""
    story.history.removals[0] = Removal("drill", 2.0, story.revision - 1)


LINEAGE, STORE = "one lineage of KEKs", "all that was sent is of the store's keys"
NONCES, IDS = "no (key, nonce) pair is used twice", "no Message ID is issued twice"
INCARNATIONS = "no incarnation is issued twice"
REMOVED = "an eviction once acknowledged is not undone"


@pytest.mark.parametrize(
    "defect, expected",
    [
        (goes_back, LINEAGE),
        (branches, LINEAGE),
        (counts_back, LINEAGE),
        (keeps_the_spi, LINEAGE),
        (says_what_it_never_wrote, STORE),
        (sends_under_unknown_keys, STORE),
        (sends_a_nonce_again, NONCES),
        (says_a_number_again, IDS),
        (issues_again, INCARNATIONS),
        (counts_incarnations_back, INCARNATIONS),
        (two_hold_one, INCARNATIONS),
        (two_ports_send_as_one, INCARNATIONS),
        (lets_it_in_again, REMOVED),
        (enrols_it_again, REMOVED),
        (hands_it_the_keys, REMOVED),
        (said_too_soon, REMOVED),
    ],
)
def test_a_defect_is_found(defect, expected):
    story = Story()
    defect(story)
    assert expected in failed(story)


def test_nothing_heard_is_no_proof():
    history = History(GROUP)
    assert not checks.one_lineage(history).ok and not checks.nonces_once(history).ok


def test_who_is_not_back():
    facts = {"state": "member", "spi": "01020304"}
    assert checks.back("01020304", [("press", facts)]).ok
    assert not checks.back("01020305", [("press", facts)]).ok
    assert not checks.back("01020304", [("press", {**facts, "state": "registering"})]).ok
