"""A mixed group with real processes and sockets: data by multicast to some, relayed to others."""

import json
import signal
import socket
import time

import pytest

import member_process
from processes import wait_until
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    listen = f'listen = [{{ address = "127.0.0.1:{made.port}", marker = true }}]'
    made.edit(f'listen = ["127.0.0.1:{made.port}"]', listen)
    made.edit("# liveness", 'liveness = "5s"\n# liveness')
    made.edit('dtd = "1s"', 'dtd = "2s"\nevict_atd = "0s"\nevict_dtd = "1s"\nevict_gap = "200ms"')
    yield made
    made.close()


class Plant:
    """Members as processes: each hears what all send."""

    def __init__(self, bench):
        self.bench = bench
        self.members = {}
        self._count = 0

    def add(self, name, *words, micropython=False, by=None):
        """by: the port of 127.0.0.1 by which it reaches the key server."""
        self.bench.member(name, "--sender", *words)
        path = self.bench.root / "members" / name / "covey.json"
        fields = json.loads(path.read_text())
        fields |= {"retransmit": {"first_ms": 100, "total_s": 2}, "rejoin_spread_s": 0}
        if "unicast" in words:
            assert fields["delivery"] == "unicast" and fields["liveness_s"] == 15
            fields["liveness_s"] = 1
            del fields["interface"]
        if by is not None:
            fields["servers"][0]["port"] = by
        path.write_text(json.dumps(fields))
        how = member_process.micropython if micropython else self._join
        self.members[name] = how(path)
        self.members[name].heard("registered")
        return self.members[name]

    def _join(self, path):
        return member_process.join(path, "--listen", "--send", "-")

    def all_hear_all(self, *names):
        """A payload of each reaches all the others, once."""
        for name in names or self.members:
            self._count += 1
            payload = f"{name} {self._count}".encode()
            self.members[name].say(payload.decode())
            for other in names or self.members:
                if other != name:
                    self.members[other].packet(payload)
                    assert self.members[other].opened(payload) == 1

    def close(self):
        for member in self.members.values():
            member.close()


@pytest.fixture
def plant(bench):
    made = Plant(bench)
    yield made
    made.close()


def counters(bench):
    return bench.status()["counters"]


def test_a_mixed_group(bench, plant):
    server = bench.serve()
    plant.add("press-7")
    plant.add("lamp")
    plant.add("valve-3", "--delivery", "unicast", micropython=True)
    plant.add("pump", "--delivery", "unicast")
    assert bench.status()["groups"]["line1"]["unicast"] == ["pump", "valve-3"]
    plant.all_hear_all()
    print(counters(bench))
    bench.covey("rekey", "line1")
    for member in plant.members.values():
        member.heard("rekeyed")
    plant.all_hear_all()
    bench.covey("member", "remove", "pump")
    print(counters(bench))
    bench.end(server)
