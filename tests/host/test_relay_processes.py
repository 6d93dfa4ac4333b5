"""A mixed group with real processes and sockets: data by multicast to some, relayed to others."""

import json
import os
import signal
import socket

import pytest

import member_process
from foreign_nat import Nat
from processes import wait_until
from site_bench import GROUP, Bench

UNICAST = ("--delivery", "unicast")


class Plant(Bench):
    """Members as processes: each hears what all others send."""

    def __init__(self, root):
        super().__init__(root)
        listen = f'listen = [{{ address = "127.0.0.1:{self.port}", marker = true }}]'
        self.edit(f'listen = ["127.0.0.1:{self.port}"]', listen)
        self.edit("# liveness", 'liveness = "5s"\n# liveness')
        evict = 'evict_atd = "0s"\nevict_dtd = "1s"\nevict_gap = "200ms"'
        self.edit('dtd = "1s"', f'dtd = "2s"\n{evict}')
        self.members = {}
        self._count = 0

    def start(self, name, *words, on=member_process.join, nat=None):
        self.member(name, "--sender", *words)
        path = self.root / "members" / name / "covey.json"
        fields = json.loads(path.read_text())
        fields |= {"retransmit": {"first_ms": 100, "total_s": 2}, "rejoin_spread_s": 0}
        if words == UNICAST:
            assert (fields["delivery"], fields["liveness_s"]) == ("unicast", 15)
            fields["liveness_s"] = 1
            del fields["interface"]
        if nat is not None:
            fields["servers"][0]["host"] = nat.host
        path.write_text(json.dumps(fields))
        self.members[name] = on(path)
        self.members[name].heard("registered")
        self.members[name].heard("status")  # from then on it listens: a sender need not

    def all_hear_all(self):
        """A payload of each reaches all the others, once."""
        for name, member in self.members.items():
            self._count += 1
            payload = f"{name} {self._count}".encode()
            member.say(payload.decode())
            others = [self.members[other] for other in self.members if other != name]
            for other in others:
                other.packet(payload)
            assert [other.opened(payload) for other in others] == [1] * len(others)

    def all_followed(self, rekeys):
        for member in self.members.values():
            member.heard("rekeyed", rekeys)

    def relayed(self):
        """Counters of the relay that are not zero."""
        found = self.status()["counters"].items()
        return {name: n for name, n in found if name.startswith("relay") and n}

    def close(self):
        for member in self.members.values():
            member.close()
        super().close()


@pytest.fixture
def plant(tmp_path):
    made = Plant(tmp_path / "site")
    nat = Nat("127.0.0.1", [made.port])
    made.nat = nat
    yield made
    made.close()
    nat.close()


def listener(path):
    return member_process.join(path, "--listen", "--send", "-")


def forge(plant, spi):
    """What strangers can send: to the key server, and to the group."""
    stray = bytes.fromhex(spi) + os.urandom(60)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.sendto(stray, ("127.0.0.1", plant.port))
        sock.sendto(stray, (GROUP, plant.carrier_port))


def test_a_mixed_group(plant):
    server = plant.serve()
    plant.start("press-7", on=listener)
    plant.start("lamp", on=listener)
    plant.start("valve-3", *UNICAST, on=member_process.micropython, nat=plant.nat)
    plant.start("pump", *UNICAST, on=listener)
    group = plant.status()["groups"]["line1"]
    assert group["unicast"] == ["pump", "valve-3"]
    plant.all_hear_all()
    # two from each side, once each; ours are heard back from the group, and go no further
    sent = {"relayed": 4, "relay_sent": 2 * 2 + 2 * 2, "relay_replay": 2}
    wait_until(lambda: plant.relayed() == sent)
    forge(plant, group["spi"])
    sent |= {"relay_stranger": 1, "relay_tag": 1}
    wait_until(lambda: plant.relayed() == sent)

    plant.covey("rekey", "line1")
    plant.all_followed(1)
    plant.all_hear_all()

    plant.nat.rebind()
    wait_until(
        lambda: plant.nat.answers
    )  # a sign of life has shown the new place; data alone don't
    plant.all_hear_all()

    pump = plant.members.pop("pump")
    plant.covey("member", "remove", "pump")
    plant.all_followed(2)
    plant.all_hear_all()
    assert plant.status()["groups"]["line1"]["unicast"] == ["valve-3"]
    plant.members.pop("lamp").close()
    plant.covey("member", "remove", "lamp")
    plant.all_followed(3)
    plant.all_hear_all()
    last = f"press-7 {plant._count - 1}".encode()
    assert plant.members["valve-3"].opened(last) == 1 and pump.opened(last) == 0
    assert not any("excluded_all" in e["event"] for e in server.heard)

    plant.end(server, signal.SIGKILL)
    plant.serve()
    plant.members["press-7"].heard("rekeyed", 4)
    wait_until(lambda: plant.status()["groups"]["line1"]["holders"] == ["valve-3"])
    plant.members["valve-3"].heard("registered", 2)  # the keys are there, not only on their way
    plant.all_hear_all()
