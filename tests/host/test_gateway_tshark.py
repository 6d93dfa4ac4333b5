"""Wireshark's dissector on what our codec and the gateway make: class 0 and 1 I/O, by its name."""

import json
import struct
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import enip
from covey import cip
from covey_host.gateway import encap
from covey_host.gateway.plain import Emitter
from covey_host.gateway.plan import OPEN, Flow
from test_tshark import tshark

TARGET, SCANNER, GROUP = "192.168.1.20", "192.168.2.9", "239.192.1.32"
ID = 0x12345678
RAW_IP = 101  # of a capture file: packets begin with their IP header
FIELDS = (
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "udp.checksum.status",
    "enip.cpf.sai.connid",
    "enip.cpf.sai.seq",
    "cip.seq",
    "cip.cm.to_connid",
    "cip.cm.toapi",
    "_ws.expert.message",
)


def emitter():
    places = Path("covey.json"), IPv4Address(GROUP), 2222, IPv4Address(TARGET)
    return Emitter(Flow("speed", OPEN, *places, "any"))


def looked_at(tmp_path, packets):
    """Each packet's fields: {name: values}."""
    with open(tmp_path / "wire.pcap", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP))
        for n, packet in enumerate(packets):
            file.write(struct.pack("<IIII", n, 0, len(packet), len(packet)) + packet)
    command = [tshark(), "-r", tmp_path / "wire.pcap", "-T", "json"]
    command += ["-o", "udp.check_checksum:TRUE"]
    for name in FIELDS:
        command += ["-e", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [each["_source"]["layers"] for each in json.loads(done.stdout)]


def exchange():
    """A Forward_Open and its reply, as two segments."""
    request, reply = enip.open_request(), enip.open_reply(ID, GROUP)
    asked = enip.segment(SCANNER, TARGET, 1, request, port=50000, to=44818)
    return [asked, enip.segment(TARGET, SCANNER, 1, reply)]


def test_what_a_producer_frames_is_cip_io(tmp_path):
    made = emitter()
    producer = cip.Producer(struct.pack("<I", ID))
    frames = []
    for is_new in (True, False, True):
        buf = bytearray(cip.DATA + 12)
        cip.emit_header(buf, cip.DATA, True)
        buf[cip.DATA + 4 :] = b"speed" + bytes(3)
        frames.append(bytes(buf[: producer.emit(buf, 0, 12, is_new)]))
    opened, *found = looked_at(tmp_path, exchange() + [made.datagram(f) for f in frames])[1:]
    assert opened["frame.protocols"] == ["raw:ip:tcp:enip:cip:cipcm"]
    assert "_ws.expert.message" not in opened
    for n, fields in enumerate(found):
        assert fields["frame.protocols"] == ["raw:ip:udp:cipio:cipio"]
        assert (fields["ip.src"], fields["ip.dst"]) == ([TARGET], [GROUP])
        assert fields["udp.checksum.status"] == ["1"]
        assert int(fields["enip.cpf.sai.connid"][0], 0) == ID
        assert fields["enip.cpf.sai.seq"] == [str(n + 1)]
        assert int(fields["cip.seq"][0], 0) == (1, 1, 2)[n]  # only known where it is class 1
        assert "_ws.expert.message" not in fields
    assert len(found) == 3


def test_what_it_reads_of_a_reply_we_read(tmp_path):
    told = encap.parse(enip.open_reply(ID, GROUP))
    [_, reply] = looked_at(tmp_path, exchange())
    assert int(reply["cip.cm.to_connid"][0], 0) == int.from_bytes(told.connection, "little")
    assert int(float(reply["cip.cm.toapi"][0])) == told.interval_us


def test_a_frame_that_is_cut_is_warned_of(tmp_path):
    frame = enip.frame(ID, 1, b"speed")
    [fields] = looked_at(tmp_path, [emitter().datagram(frame[:-1])])
    assert "_ws.expert.message" in fields or "malformed" in fields["frame.protocols"][0]
