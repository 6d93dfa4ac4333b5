"""The recorder of `make run CAPTURE=DIR`: its headers, whose packets it takes, a full disk."""

import asyncio
import logging
import os
import socket
import struct

import pytest

from covey_host.demo import recorder, verdicts
from covey_host.demo.recorder import Recorder
from covey_host.demo.tap import Book

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of what a machine has no use for

from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.utils import rdpcap  # noqa: E402

GROUP, SENDER = ("239.192.7.7", 20001), ("127.0.0.1", 40000)
GENUINE = bytes(range(1, 40))


@pytest.fixture
def deaf(monkeypatch):
    """No packet socket: what anybody but root has."""
    monkeypatch.setattr(recorder, "_packet_socket", lambda: None)


def record(path, *datagrams):
    made = Recorder(path, GROUP[0], [GROUP[1]])
    made.open()
    for data in datagrams:
        made.note(data, SENDER, GROUP)
    made.close()
    return made


def whole(packet):
    """The same packet with lengths and checksums as scapy makes them."""
    again = packet.copy()
    for layer, fields in ((IP, ("len", "chksum")), (UDP, ("len", "chksum"))):
        for field in fields:
            delattr(again[layer], field)
    return bytes(again)


def test_headers_made_anew_are_what_scapy_makes(tmp_path, deaf):
    made = record(tmp_path / "run.pcap", GENUINE, b"x", b"", bytes(1400))
    assert (made.by, made.packets, made.lost, made.trouble) == ("tap", 4, 0, None)
    packets = rdpcap(str(tmp_path / "run.pcap"))
    assert [bytes(p[UDP].payload) for p in packets] == [GENUINE, b"x", b"", bytes(1400)]
    for packet in packets:
        assert bytes(packet) == whole(packet)
        assert (packet.src, packet.dst, packet.sport, packet.dport) == (
            SENDER[0],
            GROUP[0],
            SENDER[1],
            GROUP[1],
        )


def test_a_checksum_that_comes_to_zero_is_sent_as_ones():
    """RFC 768: zero says that there is none."""
    for n in range(65536):
        packet = recorder._packet(n.to_bytes(2), SENDER, GROUP)
        if packet[26:28] == b"\xff\xff":
            break
        assert packet[26:28] != bytes(2)
    else:
        raise AssertionError("none came to zero")


def test_the_file_is_private_and_replaces_an_earlier_one(tmp_path, deaf):
    path, target = tmp_path / "run.pcap", tmp_path / "target"
    target.write_text("mine")
    path.symlink_to(target)
    before = os.umask(0)
    try:
        record(path, GENUINE)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600 and not path.is_symlink()
    assert target.read_text() == "mine"
    record(path)
    assert path.stat().st_size == 24


def is_root():
    found = recorder._packet_socket()
    if found:
        found.close()
    return bool(found)


@pytest.mark.skipif(not is_root(), reason="a packet socket takes root, on Linux")
def test_the_wire_is_recorded_as_it_is_and_nobody_elses_packets(tmp_path):
    async def play():
        made = Recorder(tmp_path / "run.pcap", GROUP[0], [ours])
        made.open()
        assert made.by == "socket"
        made.note(b"not twice", SENDER, GROUP)
        for port in (ours, others, ours):
            sender.sendto(GENUINE, ("127.0.0.1", port))
        await asyncio.sleep(0.05)
        sender.sendto(b"last", ("127.0.0.1", ours))
        made.close()
        return made

    receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    with receivers[0], receivers[1], socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for receiver in receivers:
            receiver.bind(("127.0.0.1", 0))
        ours, others = (receiver.getsockname()[1] for receiver in receivers)
        made = asyncio.run(play())
    packets = rdpcap(str(tmp_path / "run.pcap"))
    assert [bytes(p[UDP].payload) for p in packets] == [GENUINE, GENUINE, b"last"]
    assert all(bytes(p) == whole(p) for p in packets) and made.packets == 3


def test_fragments_and_other_protocols_stay_as_they_are():
    packet = bytearray(recorder._packet(GENUINE, SENDER, GROUP))
    packet[26:28] = b"\x12\x34"
    assert recorder._checked(bytes(packet)) != bytes(packet)
    for offset, value in ((6, 0x20), (7, 1), (9, 50)):
        changed = bytes(packet[:offset]) + bytes([value]) + bytes(packet[offset + 1 :])
        assert recorder._checked(changed) == changed


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_a_full_disk_ends_the_recording_and_a_verdict_says_so(tmp_path, deaf):
    made = Recorder(tmp_path / "run.pcap", GROUP[0], [GROUP[1]])
    made.open()
    made._file.close()
    made._file = open("/dev/full", "wb")
    for _ in range(20):
        made.note(bytes(1400), SENDER, GROUP)
    made.close()
    assert "No space left" in made.trouble and made.packets < 20
    verdict = verdicts.recorded(made, Book())
    assert not verdict.ok and "No space left" in verdict.detail


def test_a_capture_that_lacks_packets_is_no_good(tmp_path, deaf):
    book = Book()
    datagram = struct.pack(">II", 300, 1) + bytes(40)
    book.note(datagram)
    assert not verdicts.recorded(record(tmp_path / "a.pcap"), book).ok
    made = record(tmp_path / "b.pcap", datagram)
    assert verdicts.recorded(made, book).ok
    made.packets, made.lost = 0, 1
    verdict = verdicts.recorded(made, book)
    assert verdict.ok and "1 lost" in verdict.detail
