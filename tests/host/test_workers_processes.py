"""`covey serve --workers 2` as processes see it: two ports, kill -9 of a worker and of the keeper,
data that are relayed."""

import os
import signal
import tomllib

import pytest

import member_process
from foreign_gm_udp import GM, Wire
from processes import wait_until
from site_bench import Bench, free_port
from test_relay_processes import UNICAST, Plant, listener


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def workers(bench):
    """Processes by their numbers, once all are there."""

    def found():
        processes = bench.status()["server"]["workers"]
        return processes if all(processes.values()) else None

    return wait_until(found)


def is_alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Foreign:
    """A member on the air, at either of two ports."""

    def __init__(self, bench, name, ports):
        psk = bytes.fromhex((bench.root / "members" / name / "psk").read_text())
        identity = tomllib.loads((bench.root / "covey.toml").read_text())["identity"]
        self.wires = [Wire(port) for port in ports]
        self.gm = GM(self.wires[0], identity.encode(), name.encode(), psk, wants=1)

    def begin(self):
        self.gm.connect()
        return self.gm.spi_r[0]

    def go_on(self):
        """At the other port, which may be another worker's."""
        self.gm.wire = self.wires[1]
        self.gm.join()
        return self

    def close(self):
        for wire in self.wires:
            wire.close()


def test_members_and_kills(bench):
    other = free_port()
    bench.edit(f'"127.0.0.1:{bench.port}"', f'"127.0.0.1:{bench.port}", "127.0.0.1:{other}"')
    ports = bench.port, other
    for number in range(3):
        bench.member(f"m{number}", "--sender")
    server = bench.serve("--workers", "2")
    first = workers(bench)
    assert sorted(first) == ["1", "2"] and all(map(is_alive, first.values()))
    assert server.heard[-1]["workers"] == first

    # both let members in, whichever port they go on at
    seen, left = {}, []
    while set(seen) != {1, 2}:
        one = Foreign(bench, "m0", ports)
        seen.setdefault(one.begin(), one)
        one.go_on()
        left.append(one)
        assert len(left) < 64, "the system gives all to one"
    inside = left[-1]  # the newest of its name

    # a worker is killed: who is in stays in, who was about to come begins anew
    begun = []
    while not begun or begun[-1].gm.spi_r[0] != 1:
        begun.append(Foreign(bench, "m1", ports))
        begun[-1].begin()
        assert len(begun) < 64
    (bench.root / "site.key").rename(bench.root / "moved.key")  # it is needed at the start only
    os.kill(first["1"], signal.SIGKILL)
    wait_until(lambda: workers(bench)["1"] != first["1"])
    (bench.root / "moved.key").rename(bench.root / "site.key")
    assert workers(bench)["2"] == first["2"]
    inside.gm.pull()
    again = Foreign(bench, "m1", ports)
    again.begin()
    again.go_on()
    lost = begun[-1].gm
    lost.wire.send(lost.gsa_auth())
    wait_until(lambda: bench.status()["counters"].get("ike_spi"))
    assert lost.wire.receive(0) is None

    # the ports are the key server's, though several processes have them
    rival = Bench(bench.root.parent / "rival")
    rival.edit(f"127.0.0.1:{rival.port}", f"127.0.0.1:{bench.port}")
    for words in ((), ("--workers", "2")):
        said = rival.covey("serve", "--interface", "127.0.0.1", *words, status=1)
        assert f"UDP port {bench.port}" in said and "in use" in said
    rival.close()

    # the keeper is killed: its workers end, and another one begins
    last = workers(bench).values()
    server.kill()
    wait_until(lambda: not any(map(is_alive, last)))
    heard = bench.end(server, signal.SIGKILL)[2]
    assert '"worker_ended"' in heard
    server = bench.serve("--workers", "1")
    anew = Foreign(bench, "m2", ports)
    assert anew.begin() == 1
    anew.go_on()
    for one in [*left, *begun, again, anew]:
        one.close()
    ended = workers(bench).values()
    assert bench.end(server)[0] == 0
    wait_until(lambda: not any(map(is_alive, ended)))


@pytest.fixture
def plant(tmp_path):
    made = Plant(tmp_path / "site")
    yield made
    made.close()


def test_data_are_relayed_and_policy_is_followed(plant):
    plant.serve("--workers", "2")
    plant.start("a", *UNICAST, on=listener)
    plant.start("b", on=listener)
    plant.start("c", *UNICAST, on=listener)
    plant.all_hear_all()
    assert plant.relayed()["relay_sent"] > 0
    # what is in force is what workers have: cookies are asked for from now on
    plant.edit('identity = "', 'cookies_from = 0\nidentity = "')
    plant.covey("reload")
    assert not plant.status()["counters"].get("cookie_asked")
    plant.member("late")
    path = plant.root / "members" / "late" / "covey.json"
    plant.members["late"] = member_process.join(path, "--listen")
    plant.members["late"].heard("registered")
    wait_until(lambda: plant.status()["counters"].get("cookie_asked"))
