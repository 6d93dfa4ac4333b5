"""Wireshark's eyes on `make run`: every packet of the group, every IKE message, opened by tshark.

tshark gets what a person gets: the capture and the two tables that CAPTURE leaves, and the line
to type. What must come out is counted apart: by the run's own witness, by what members say, and
here from the headers that anyone can see.
"""

import json
import os
import shlex
import shutil
import socket
import struct
import subprocess
from collections import Counter

import pytest

import processes
from covey_host import wireshark
from test_demo import LEAST_S, environment  # noqa: F401

GSA_AUTH, GSA_REGISTRATION, GSA_REKEY, GSA_INBAND_REKEY = 39, 40, 41, 42
GOOD = "1"  # of a checksum
FIELDS = (
    "frame.number",
    "udp.srcport",
    "ip.dst",
    "esp.spi",
    "esp.icv_good",
    "esp.icv_bad",
    "esp.contained_data",
    "isakmp.exchangetype",
    "isakmp.enc.decrypted",
    "isakmp.enc.icd",
    "isakmp.ikev2.integrity_checksum",
    "ip.checksum.status",
    "udp.checksum.status",
)
CHECKS = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")


def tshark():
    """Its path; skipped where it isn't here, unless it was to be here."""
    found = shutil.which("tshark")
    if found is None:
        reason = "tshark is not here: apt-get install tshark"
        if os.environ.get("NEEDS_TSHARK"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def left(environment, tmp_path_factory):  # noqa: F811
    """What a run said, and the directory that it left."""
    tshark()
    directory = tmp_path_factory.mktemp("run") / "capture"
    settings = {**environment, "JSON": "1", "CAPTURE": str(directory)}
    done = processes.run("-m", "covey_host.demo", env=settings, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), directory, done.stderr


@pytest.fixture(scope="module")
def frames(left):
    """What tshark says of each packet: name of a field → text, of the outermost layer."""
    summary, directory, _ = left
    line = shlex.split(wireshark.command(directory, summary["capture"]["ports"]))
    home, tool, *options = [w.replace("FILE", str(directory / "run.pcap")) for w in line]
    name, _, value = home.partition("=")
    wanted = [word for field in FIELDS for word in ("-e", field)]
    done = subprocess.run(
        [tool, *options, *CHECKS, "-T", "fields", "-E", "occurrence=f", *wanted],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    complaints = [line for line in done.stderr.splitlines() if "root" not in line and line.strip()]
    assert not complaints, "it has no complaint about our tables"
    return [dict(zip(FIELDS, row.split("\t"), strict=True)) for row in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def by_socket(left):
    if left[0]["capture"]["by"] != "socket":
        pytest.skip("no packet socket here: the capture has the group's packets only")


def datagrams(directory):
    """(source port, destination, destination port, data) of each packet in a pcap."""
    octets = (directory / "run.pcap").read_bytes()
    magic, major, minor, _, _, _, linktype = struct.unpack_from("<IHHiIII", octets)
    assert (magic, major, minor, linktype) == (0xA1B2C3D4, 2, 4, 101)
    at, found = 24, []
    while at < len(octets):
        seconds, micros, length, whole = struct.unpack_from("<IIII", octets, at)
        packet = octets[at + 16 : at + 16 + length]
        assert length == whole == int.from_bytes(packet[2:4]) and micros < 10**6 < seconds
        start = (packet[0] & 15) * 4
        source, port, udp, _ = struct.unpack_from(">HHHH", packet, start)
        assert udp == len(packet) - start
        found.append((source, socket.inet_ntoa(packet[16:20]), port, packet[start + 8 :]))
        at += 16 + length
    return found


def inside_sk(directory, summary):
    """How many genuine messages of each exchange there are, from their headers, IKE_SA_INIT and
    the man in the middle's errors in clear left out."""
    capture, found = summary["capture"], Counter()
    markers = {int(port): marker for port, marker in capture["ports"].items()}
    for source, _, port, data in datagrams(directory):
        if source == capture["forged_from"] or not {source, port} & set(markers):
            continue
        marker = markers[port if port in markers else source]
        message = data[4:] if marker else data
        if marker and data[:4] != bytes(4):
            continue  # ESP
        if message[16] == 46:  # next payload: SK
            found[message[18]] += 1
    return found


def genuine(frames, left):
    return [f for f in frames if f["udp.srcport"] != str(left[0]["capture"]["forged_from"])]


# The group's packets


def test_every_packet_of_the_group_is_opened_and_its_icv_is_good(frames, left):
    packets = [f for f in genuine(frames, left) if f["esp.spi"]]
    assert len(packets) == left[0]["wire"]["packets"] > 500
    assert {(f["esp.icv_good"], f["esp.icv_bad"]) for f in packets} == {("1", "0")}
    assert len({f["esp.spi"] for f in packets}) == left[0]["wire"]["keys"] == 5


def test_what_is_inside_is_what_the_senders_sent(frames, left):
    """Inner UDP, and in it the I/O frames: the numbers of each connection without a gap."""
    summary, _, _ = left
    numbers = {}
    for frame in genuine(frames, left):
        if not frame["esp.spi"]:
            continue
        inner = bytes.fromhex(frame["esp.contained_data"])
        assert struct.unpack_from(">HHH", inner) == (2222, 2222, len(inner))
        connection, number = inner[14:18], int.from_bytes(inner[18:22], "little")
        numbers.setdefault(connection[::-1].hex(), []).append(number)
    sent = [m["sent"] for m in summary["members"] if m["sent"]]
    assert sorted(map(len, numbers.values())) == sorted(sent) and len(sent) == 2
    for of_one in numbers.values():
        assert of_one == list(range(1, len(of_one) + 1))


def test_only_the_attackers_packets_are_bad(frames, left):
    """And of those, replays and what it sealed with stolen keys are good: Wireshark knows of no
    windows."""
    forged = str(left[0]["capture"]["forged_from"])
    bad = [f for f in frames if f["esp.icv_bad"] == "1" or f["isakmp.ikev2.integrity_checksum"]]
    assert bad and {f["udp.srcport"] for f in bad} == {forged}
    assert any(f["esp.icv_good"] == "1" for f in frames if f["udp.srcport"] == forged)


# IKE


def test_every_rekey_is_opened(frames, left):
    wire = left[0]["wire"]
    rekeys = [f for f in genuine(frames, left) if f["isakmp.exchangetype"] == str(GSA_REKEY)]
    assert len(rekeys) == wire["rekeys"] + wire["rekey_repeats"]
    assert len({f["isakmp.enc.icd"] for f in rekeys}) == wire["rekeys"] == 5  # a removal takes two
    assert all(f["isakmp.enc.decrypted"] and f["isakmp.enc.icd"] for f in rekeys)
    assert not any(f["isakmp.ikev2.integrity_checksum"] for f in rekeys)


def test_every_message_of_every_registration_is_opened(frames, left, by_socket):
    summary, directory, _ = left
    opened = Counter(
        int(f["isakmp.exchangetype"])
        for f in genuine(frames, left)
        if f["isakmp.enc.decrypted"] and not f["isakmp.ikev2.integrity_checksum"]
    )
    assert opened == inside_sk(directory, summary)
    assert opened[GSA_INBAND_REKEY] >= 4, "to two members, and from them"
    log = summary["log"]
    asked = log["registered"] + log["refused"] + log["authentication_failed"] + log["left"]
    exchanges = {str(GSA_AUTH), str(GSA_REGISTRATION)}
    # What was sent twice, or passed on by the man in the middle, is the same message.
    different = {
        f["isakmp.enc.icd"]
        for f in genuine(frames, left)
        if f["isakmp.exchangetype"] in exchanges and f["isakmp.enc.decrypted"]
    }
    assert len(different) == 2 * asked, "a request and an answer each"


def test_it_was_seen_as_it_went_over_the_wire(left, by_socket):
    capture, wire = left[0]["capture"], left[0]["wire"]
    assert capture["lost"] == 0
    assert capture["packets"] > wire["packets"] + wire["rekeys"] + wire["rekey_repeats"]
    assert len(datagrams(left[1])) == capture["packets"]


def test_the_headers_are_right(frames):
    status = {(f["ip.checksum.status"], f["udp.checksum.status"]) for f in frames}
    assert status == {(GOOD, GOOD)}


# Who may read it, and who was told


def test_keys_and_packets_are_private_and_the_log_says_so(left):
    summary, directory, said = left
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {"run.pcap": 0o600, "esp_sa": 0o600, "ikev2_decryption_table": 0o600}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert summary["log"]["keys_exported"] == 1 and summary["seconds"] == int(LEAST_S)
    assert f"WIRESHARK_CONFIG_DIR={directory} tshark" in said.splitlines()[-1]
    keys = [row.split('"')[11] for row in (directory / "esp_sa").read_text().splitlines()]
    assert len(keys) >= 5 and not any(key.removeprefix("0x") in said for key in keys)
