"""An integrity-only group with real processes: CPython, MicroPython and a foreign member, one who
reads along without a key, and one who would like to change what is said."""

import struct
import time
import tomllib

import pytest

from foreign_esp import AES_GCM, AES_GMAC, Air
from foreign_gm import GSA, KD, NO_PROPOSAL_CHOSEN, NOTIFY, notification, sag
from foreign_gm_udp import GM, Key, Wire
from member_process import join, micropython
from processes import PATIENCE_S, wait_until
from site_bench import GROUP, Bench

ESP_AND_IV, UDP = 16, 8  # octets in front of the text


class Plant(Bench):
    def __init__(self, root, bits):
        super().__init__(root)
        port = f"carrier_port = {self.carrier_port}"
        self.edit(port, f"{port}\nintegrity_only = true\nkey_bits = {bits}")
        for name in ("press-7", "valve-3", "saw"):
            self.member(name, "--sender")
        self.serve()
        self.bits, self.others = bits, []

    def join(self, name, on_micropython):
        path = self.root / "members" / name / "covey.json"
        if on_micropython:
            member = micropython(path)
        else:
            member = join(path, "--send", "-", "--listen")
        self.others.append(member)
        member.heard("status")
        return member

    def foreign(self):
        psk = bytes.fromhex((self.root / "members/saw/psk").read_text())
        site = tomllib.loads((self.root / "covey.toml").read_text())["identity"].encode()
        gm = GM(Wire(self.port), site, b"saw", psk, wants=1, kwa=3)
        gm.bits = self.bits
        self.others.append(gm)
        return gm.connect()

    def sag(self, cipher=21):
        return sag(self.bits, {128: 1, 256: 3}[self.bits], cipher=cipher)

    def close(self):
        for other in self.others:
            other.close()
        super().close()


@pytest.fixture(params=(128, 256))
def plant(request, tmp_path):
    made = Plant(tmp_path / "site", request.param)
    yield made
    made.close()


@pytest.fixture
def sniffer(plant):
    """It hears the group's address, and has no key."""
    made = Air(GROUP, plant.carrier_port)
    yield made
    made.close()


def status_of(member):
    """What it says of itself later than now."""
    status = member.heard("status", member.count("status") + 1)
    return status.get("detail") or status


class Refusals:
    """What members have refused since the test began, by name: this much, and nothing else."""

    def __init__(self, *members):
        self._told = {member: member.drops() for member in members}

    def more(self, *members, **wanted):
        for member in members:
            told = self._told[member]
            told.update({name: told.get(name, 0) + n for name, n in wanted.items()})
            end = time.monotonic() + PATIENCE_S
            while (found := member.drops()) != told:
                assert time.monotonic() < end, (found, told)


def seen(sniffer, text):
    """The packet with this text, found by looking."""
    found = []
    wait_until(lambda: found.append(sniffer.receive(1) or b"") or text in found[-1])
    return found[-1]


def flipped(octets, at, mask=1):
    changed = bytearray(octets)
    changed[at] ^= mask
    return bytes(changed)


def test_anyone_reads_and_only_members_write(plant, sniffer):
    press, valve = plant.join("press-7", False), plant.join("valve-3", True)
    ours, sender_ids = (press, valve), set()
    for sender, receiver in (ours, ours[::-1]):
        sender.say("speed=1500")
        octets = seen(sniffer, b"speed=1500")
        receiver.packet(b"speed=1500")
        inner = octets[ESP_AND_IV:-16]
        assert inner[:UDP] == struct.pack(">HHHH", 2222, 2222, UDP + 10, 0)
        assert inner[UDP:] == b"speed=1500" + bytes([0, 17])  # in clear to the end
        assert octets[10:16] == bytes(2) + octets[4:8]  # as everywhere: Sender-ID, number
        sender_ids.add(octets[8:10])
    assert len(sender_ids) == 2

    # One who knows the packets, not the key: replay, a number still to come, a change.
    refusals = Refusals(*ours)
    sniffer.raw(octets)
    ahead = octets[:4] + bytes([0, 0, 1, 0]) + octets[8:12] + bytes([0, 0, 1, 0]) + octets[16:]
    sniffer.raw(ahead)
    sniffer.raw(flipped(ahead, ESP_AND_IV + UDP))
    refusals.more(press, replay=1, tag=2)
    refusals.more(valve, own=3)

    # scapy, both ways, and everything that it could have said otherwise.
    saw = plant.foreign().join(sag=plant.sag()).listen()
    assert saw.key.cipher == AES_GMAC and len(saw.key.keymat) == plant.bits // 8 + 4
    for n, member in ((1, press), (2, valve)):
        saw.send(b"from scapy %d" % n, n)
        for other in ours:
            other.packet(b"from scapy %d" % n, sender=saw.sender_ids[0])
        member.say(f"to scapy {n}")
        saw.hear(lambda n=n: saw.inside and saw.inside[-1][2] == b"to scapy %d" % n)
        ours[n % 2].packet(b"to scapy %d" % n)
        refusals.more(member, own=1)
    iv = (saw.sender_ids[0] << 48 | 3).to_bytes(8)
    genuine = sniffer.seal(saw.key, b"valve=open", seq=3, iv=iv)
    for at in (ESP_AND_IV + UDP, ESP_AND_IV, -17, -1):  # text, port, next header, ICV
        sniffer.raw(flipped(genuine, at))
    as_gcm = Key(*saw.tek, AES_GCM)
    sniffer.raw(sniffer.seal(as_gcm, b"valve=open", seq=3, iv=iv))
    refusals.more(*ours, tag=5)
    assert not press.opened(b"valve=open") and not valve.opened(b"valve=open")
    sniffer.raw(genuine)
    sniffer.raw(genuine)
    for member in ours:
        member.packet(b"valve=open")
    refusals.more(*ours, replay=1)
    assert press.opened(b"valve=open") == valve.opened(b"valve=open") == 1


def test_new_keys_are_for_the_same_cipher(plant, sniffer):
    ours = plant.join("press-7", False), plant.join("valve-3", True)
    spis = set()
    for n in range(2):
        spi = plant.status()["groups"]["line1"]["spi"]
        for member in ours:
            wait_until(lambda member=member, spi=spi: status_of(member)["spi"] == spi)
        for sender, receiver in (ours, ours[::-1]):
            text = b"%d" % n + b" in clear"
            sender.say(text.decode())
            assert seen(sniffer, text)[:4].hex() == spi
            receiver.packet(text)
        spis.add(spi)
        plant.covey("rekey", "line1")
    assert len(spis) == 2


def test_who_cannot_do_it_stays_outside(plant):
    found = plant.foreign().ask_for_group(sag=plant.sag(cipher=20))
    assert found == [notification(NO_PROPOSAL_CHOSEN)]
    assert plant.status()["groups"]["line1"]["members"] == []
    found = plant.foreign().ask_for_group(sag=plant.sag())
    assert [kind for kind, _ in found] == [GSA, KD, NOTIFY]
