"""tests/nonces.py: the witness of every Bench sees a nonce that comes again, and nothing else."""

import os
import socket
import struct

import pytest

from member_process import join
from nonces import Book, Witness
from processes import run, start, wait_until
from site_bench import GROUP, Bench, free_port

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_PACKET") or os.geteuid(), reason="a packet socket is wanted"
)


def esp(iv, text=b"x" * 20, spi=0x1000):
    return struct.pack(">II", spi, 1) + iv.to_bytes(8) + text


def ike(exchange, flags, iv, text=b"x" * 28, spis=bytes(range(1, 17)), kind=46, before=b""):
    inner = before + struct.pack(">BBH", 41, 0, 4 + (4 if kind == 53 else 0) + 8 + len(text))
    inner += (b"\0\1\0\2" if kind == 53 else b"") + iv.to_bytes(8) + text
    first = 41 if before else kind
    if before:
        inner = bytes([kind]) + inner[1:]
    head = spis + bytes([first, 0x20, exchange, flags]) + struct.pack(">II", 7, 28 + len(inner))
    return head + inner


REKEY, INFORMATIONAL, INIT = 41, 37, 34


@pytest.mark.parametrize(
    "first, second",
    [
        (esp(1), esp(1, b"y" * 20)),
        (ike(REKEY, 0, 5), ike(REKEY, 0, 5, b"y" * 28)),
        (ike(REKEY, 0, 5), bytes(4) + ike(REKEY, 0, 5, b"y" * 28)),
        (ike(REKEY, 0, 5, kind=53), ike(REKEY, 0, 5, b"y" * 40)),
        (ike(INFORMATIONAL, 8, 5), ike(INFORMATIONAL, 8 | 0x20, 5)),  # request and answer
        (ike(INFORMATIONAL, 0, 5), ike(INFORMATIONAL, 0, 5, b"y" * 28)),
        (ike(INFORMATIONAL, 8, 5), ike(INFORMATIONAL, 8, 5, b"y", before=b"\0\0\0\x08abcd")),
    ],
)
def test_again_with_other_octets(first, second):
    book = Book()
    for data in (first, second, first):
        book.note(data)
    assert len(book.repeated) == 1 and book.uses == 1


@pytest.mark.parametrize(
    "first, second",
    [
        (esp(1), esp(1)),  # the same packet
        (esp(1), esp(2)),
        (esp(1), esp(1, spi=0x1001)),
        (ike(REKEY, 0, 5), bytes(4) + ike(REKEY, 0, 6)),
        (ike(REKEY, 0, 5), ike(REKEY, 0, 5, spis=bytes(range(2, 18)))),
        (ike(INFORMATIONAL, 8, 5), ike(INFORMATIONAL, 0, 5)),  # two directions, two keys
        (ike(INIT, 8, 1)[:28] + b"", esp(3)),
        (b"\xff", b"\xff"),
    ],
)
def test_no_second_use(first, second):
    book = Book()
    for data in (first, second):
        book.note(data)
    assert not book.repeated


SAY = """\
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
for data in sys.argv[3:]:
    sock.sendto(bytes.fromhex(data), (sys.argv[1], int(sys.argv[2])))
"""


def test_of_its_ports_and_of_others_processes_only():
    port, other, more = free_port(), free_port(), free_port()
    witness = Witness(GROUP, port, more)
    pairs = [esp(1).hex(), esp(1, b"y" * 20).hex()]
    run("-c", SAY, GROUP, other, *pairs)
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    for pair in pairs:  # this process forges, if anybody does
        own.sendto(bytes.fromhex(pair), (GROUP, port))
    own.close()
    assert not witness.look().uses
    run("-c", SAY, GROUP, port, pairs[0])
    run("-c", SAY, "127.0.0.1", more, esp(2).hex())
    assert witness.look().uses == 2 and not witness.book.repeated
    run("-c", SAY, GROUP, port, pairs[1])
    with pytest.raises(AssertionError, match="nonce 0000000000000001 again under 00001000"):
        witness.close()


def test_raw_esp_to_the_group():
    witness = Witness(GROUP, free_port())
    say = SAY.replace("socket.SOCK_DGRAM", "socket.SOCK_RAW, 50")
    pairs = [esp(1).hex(), esp(1, b"y" * 20).hex()]
    run("-c", say, GROUP.replace("239.192", "239.193"), 0, *pairs)
    assert not witness.look().uses
    done = run("-c", say, GROUP, 0, *pairs)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AssertionError, match="ESP"):
        witness.close()


# A key server that gives a sender that comes again the Sender-ID that it had.
FORGETFUL = """\
import sys
from covey_host.gcks import senders
senders.sender_id = lambda shape, index, row: index << shape.incarnation_bits
from covey_host.__main__ import main
sys.argv[1:] = {!r}
main()
"""


@pytest.mark.parametrize("is_forgetful", [False, True])
def test_a_bench_fails_where_a_sender_id_is_given_twice(tmp_path, is_forgetful):
    bench = Bench(tmp_path / "site")
    bench.member("press-7", "--sender")
    words = ["serve", "--json", "--interface", "127.0.0.1"]
    if is_forgetful:
        environment = bench.environment
        bench.watch(start("-c", FORGETFUL.format(words), env=environment))
    else:
        bench.serve()
    for payload in ("one", "two"):
        member = join(bench.root / "members" / "press-7" / "covey.json", "--send", payload)
        try:
            member.heard("registered")
            member.end()
        finally:
            member.close()
    kinds = {key[0] for key in bench.witness.look()._digests}
    assert kinds == {"ESP", "IKE SA"}
    if is_forgetful:
        with pytest.raises(AssertionError, match="ESP: nonce"):
            bench.close()
    else:
        bench.covey("rekey", "line1")
        wait_until(lambda: "GSA_REKEY" in {key[0] for key in bench.witness.look()._digests})
        bench.close()
