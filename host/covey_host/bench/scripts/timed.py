"""On MicroPython: what it costs that packets are proven by time (TESLA), beside plain ESP.

Time is what the script says. Keys are made ahead by the control loop: a cost of its own.
"""

import gc

from counting import cost, report
from packets import PAYLOAD_MOST, SPI, a_receiver, a_sender, data_sa

from covey import sources
from covey.chainhash import Step
from covey.drops import NOTHING, WAITS
from covey.member import Member
from covey.tesla import TimedMACs
from covey.timekeeper import Timekeeper
from covey.timing import Timing
from covey.waiting import room_of

LOW_BITS = 6
INDEX = 1
NAMES = {INDEX: b"press-7"}
ROSTER = ((INDEX, 0, NAMES[INDEX]),)
LEN = 64
BITS = 10
INTERVAL_MS = 100
TIMING = Timing(8, 2, BITS, INTERVAL_MS, b"abcd", 100)
FIRST = 1 << BITS
SALT = b"saltsalt"


def stones():
    """Of a chain that begins with FIRST; and the key before it."""
    step = Step()
    step.stand(SALT, FIRST + (2 << BITS) - 1, bytes(16), 0)
    wanted = [FIRST - 1 + (1 << j) for j in range(BITS + 1)]
    found = {}
    while step.at >= FIRST:
        if step.at in wanted:
            found[step.at] = bytearray(16)
            step.put(found[step.at], 0)
        step.back()
    before = bytearray(16)
    step.put(before, 0)
    return [found[at] for at in wanted], bytes(before)


keys, commitment = stones()


def member(sends):
    made = Member(payload_max=PAYLOAD_MOST, sender=sends)
    keeper = Timekeeper(TIMING, NAMES[INDEX] if sends else None)
    keeper.chains.tell([(INDEX, FIRST, SALT, FIRST - 1, commitment)], NAMES)
    keeper.clock.learn(FIRST * INTERVAL_MS, 0, 0)
    sa = data_sa()
    sources.enlist(sa, ROSTER)
    sa.auth = TimedMACs(keeper, NAMES, LOW_BITS, 7)
    if sends:
        keeper.own.take(FIRST - 1, SALT, keys)
        sa.become_sender(INDEX << LOW_BITS | 3, 16)
    made.keys.install(sa, 0)
    if sends:
        made.keys.activate(SPI, 0, 0)
    return made, keeper


(sender, sends_by), (receiver, _) = member(True), member(False)
own = sends_by.own
now_ms = 50
length = 0


def forward(intervals=1):
    global now_ms
    now_ms += INTERVAL_MS * intervals
    while own.step(sends_by.clock.earliest(now_ms)):
        pass


def send():
    global length
    length = sender.send(LEN, now_ms)


def carry():
    send()
    for i in range(length):
        receiver.rx[i] = sender.tx[i]


def receive():
    assert receiver.receive(length, now_ms) == WAITS


def prove():
    assert receiver.next_proven(now_ms) == LEN


def prove_all():
    while receiver.next_proven(now_ms) != NOTHING:
        pass


def next_interval():
    prove_all()
    forward()


def one_to_be_proven(same):
    """The packet of two intervals before, whose key has just come. same: it is the second one."""
    for _ in range(3):
        next_interval()
        for _ in range(1 + same):
            carry()
            receive()
    if same:
        prove()


def arrived():
    next_interval()
    carry()


def arrived_again():
    prove_all()
    carry()


bare = {  # as what it is compared with: the answers are looked at before
    "send": lambda: sender.send(LEN, now_ms),
    "receive": lambda: receiver.receive(length, now_ms),
    "prove": lambda: receiver.next_proven(now_ms),
}
octets = {}


def heap(label, call, prepare):
    prepare()
    call()
    prepare()
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    call()
    octets[label] = gc.mem_alloc() - before
    gc.enable()


plain, hears = a_sender(), a_receiver()


def plain_carry():
    n = plain.send(LEN, 0)
    hears.rx[:n] = plain.tx[:n]
    return n


plain_len = plain_carry()
cost("plain", lambda: plain.send(LEN, 0))
cost("plain", lambda: hears.receive(plain_len, 0), plain_carry)

forward(0)
for label, call, prepare in (
    ("send", send, lambda: None),
    ("send first", send, next_interval),
    ("receive", receive, arrived_again),
    ("receive first", receive, arrived),
    ("prove", prove, lambda: one_to_be_proven(1)),
    ("prove first", prove, lambda: one_to_be_proven(0)),
):
    if "receive" in label:  # what it brings is known already, or it is the first
        for _ in range(4):
            arrived()
            receive()
    heap(label, call, prepare)
    cost(label, bare[label.split()[0]], prepare)


ROUNDS = 64  # of a traversal: what one takes depends on where it is


def a_round():
    own._round(own._at)


for _ in range(ROUNDS):
    cost("round", a_round, gc.collect)
gc.collect()
before = gc.mem_alloc()
kept = member(True)
gc.collect()
octets["a sender, with all of its member"] = gc.mem_alloc() - before
before = gc.mem_alloc()
more = member(False)
gc.collect()
octets["a receiver, with all of its member"] = gc.mem_alloc() - before
before = gc.mem_alloc()
room_of(more[0])
gc.collect()
octets["room for 16 packets of 1536 octets"] = gc.mem_alloc() - before
report(octets=octets, length=length)
