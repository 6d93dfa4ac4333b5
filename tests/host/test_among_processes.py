"""Two key servers over a real etcd, as their people see them: commands, a kill, a drain."""

import json
import shutil
from contextlib import suppress

import pytest

import etcd_plant
from covey_host import commands
from covey_host.store import Locked
from covey_host.store.etcdclient import Client, get
from covey_host.store.place import Place
from processes import ENVIRONMENT, PATIENCE_S, wait_until
from site_bench import Bench, free_port

SPACING = 'repeat_spacing = "100ms"'


class Beside(Bench):
    """Another machine of the same site: it has three of its files."""

    def __init__(self, root, other):
        self.root, self.port = root, free_port()
        self.environment = {**ENVIRONMENT, "COVEY_SITE": str(root)}
        self.said, self._running, self.witness = "", [], other.witness
        root.mkdir(mode=0o700)
        for name in ("site.key", "store.toml", "covey.toml"):
            shutil.copy(other.root / name, root / name)
        self.edit(f"127.0.0.1:{other.port}", f"127.0.0.1:{self.port}")


@pytest.fixture
def node(tmp_path):
    with etcd_plant.running(tmp_path) as made:
        yield made


@pytest.fixture
def machines(node, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "_LOCK_WAIT_S", 0.3)
    north = Bench(tmp_path / "north")
    north.covey("store", "copy", "state.db", f"etcd://{node.here}/plant1")
    south = Beside(tmp_path / "south", north)
    yield north, south
    south.close()
    north.close()


def cluster(bench):
    return bench.status()["cluster"]


def has_taken(node, store, name):
    """As another process, after its lease has ended."""
    place = Place(f"etcd://{node.here}/plant1")
    client = Client(place)
    for found in client.transact([], [get(place.prefix + b"r/" + name.encode())]).rows[0]:
        client.revoke(found.lease)
    client.close()
    with suppress(Locked):  # it was faster
        store.join(name)
        return True


def test_two_key_servers(node, machines):
    north, south = machines
    first = north.serve("--replica", "north")
    second = south.serve("--replica", "south", "--advertise", "192.0.2.2")
    wait_until(lambda: len(cluster(north)["replicas"]) == 2)
    assert {row["at"] for row in cluster(south)["replicas"]} == {"127.0.0.1", "192.0.2.2"}
    assert cluster(north)["leads"] and cluster(south)["holder"] == "north"
    said = south.covey("status")
    assert "It is replica south, and follows north (term " in said

    # what only the holder does is done where it is asked for
    servers = [f"127.0.0.1:{port}" for port in (north.port, south.port)]
    known = [word for server in servers for word in ("--server", server)]
    south.covey("member", "add", "m1", "--group", "line1", *known)
    assert cluster(south)["leads"] and (south.root / "members" / "m1" / "psk").exists()
    member = south.launch("join", "m1", "--json", "--listen", "--interface", "127.0.0.1")
    while json.loads(member.stdout.readline()).get("event") != "registered":
        pass

    # a name is had once; without a server here there is nobody to ask
    third = Beside(south.root.with_name("third"), south)
    said = third.covey("serve", "--replica", "north", status=1)
    assert "(replica north, process" in said and said.endswith("stop it first.\n")
    assert "on a machine where one of them runs" in third.covey("member", "list", status=1)

    # the holder is killed
    epoch = south.epoch()
    south.end(second, 9)
    wait_until(lambda: cluster(north)["leads"])
    assert north.epoch() == epoch, "nobody needs new keys"
    north.covey("rekey", "line1")
    second = south.serve()
    assert south.covey("health") == "The key server does its work.\n"
    assert south.epoch() == epoch + 1

    # policy is one for all, whatever a file says
    assert SPACING in south.covey("policy")
    south.edit(SPACING, SPACING.replace("100", "200"))
    asked = ["group", "add", "line9", "--address", "239.192.1.9", "--port", "2230"]
    assert "is not the policy in force" in south.covey(*asked, status=2)
    south.covey("reload")
    wait_until(lambda: SPACING not in north.covey("policy"))
    wait_until(lambda: north.epoch() == south.epoch() > epoch + 1)

    # one is drained, the other leads; alone it stays
    assert "Members go to 127.0.0.1 from now on" in south.covey("drain")
    assert second.wait(10) == 0
    assert cluster(north)["leads"] and member.poll() is None
    wait_until(lambda: len(cluster(north)["replicas"]) == 1)
    assert "No other key server takes members" in north.covey("drain", status=1)

    # and whoever was stopped for so long that another one has its name ends
    other = south.store()
    wait_until(lambda: has_taken(node, other, "north"))
    assert first.wait(PATIENCE_S) == 1
    assert "(replica north, process" in (said := north.end(first)[2].splitlines()[-1])
    assert said.endswith("stopping.")
    other.close()
    for bench in machines:
        assert bench.covey("audit", "verify").startswith("The log is whole")
