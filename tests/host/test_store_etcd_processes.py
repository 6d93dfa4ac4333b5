"""A site in etcd as its people see it: `covey store copy`, `covey serve --store`, etcd killed."""

import json
import os
import shutil

import pytest

import etcd_plant
import leaks
from covey_host import commands
from covey_host.store.etcdclient import Client, get
from covey_host.store.etcdrows import span
from covey_host.store.place import Place
from processes import wait_until
from site_bench import Bench


@pytest.fixture
def node(tmp_path):
    with etcd_plant.running(tmp_path) as made:
        yield made


@pytest.fixture
def bench(node, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "_LOCK_WAIT_S", 0.3)
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def octets(url):
    """All that who reads etcd has of the site, history left out."""
    client = Client(Place(url))
    rows = client.transact([], [get(*span(Place(url).prefix))]).rows[0]
    client.close()
    return b"".join(row.key + row.value for row in rows)


def lines(child):
    return json.loads(child.stderr.readline())


def joined(bench, name, *arguments):
    """A member that is in its group → its process."""
    member = bench.launch("join", name, "--json", "--listen", *arguments)
    while json.loads(member.stdout.readline()).get("event") != "registered":
        pass
    return member


def test_a_site_in_etcd_through_the_death_of_etcd_and_of_its_server(bench, node):
    url = f"etcd://{node.here}/plant1"
    bench.member("m0", "--sender")
    bench.member("m1")
    psk = bytes.fromhex((bench.root / "members" / "m0" / "psk").read_text())
    leaks.note(psk)
    said = bench.covey("serve", "--store", url, status=2)
    assert "move it by `covey store copy state.db" in said
    assert "Moved" in bench.covey("store", "copy", "state.db", url)
    assert not (bench.root / "state.db").exists()
    assert "is in etcd://" in bench.covey("store", "copy", "state.db", url, status=2)
    assert "names another store" in bench.covey("serve", "--store", url + "x", status=2)
    assert "etcdctl snapshot" in bench.covey("backup", bench.root / "x.backup", status=2)
    server = bench.serve("--store", url)
    first = joined(bench, "m0")
    epoch = bench.epoch()
    assert psk not in octets(url) and b"m0" in octets(url)

    # a quorum is lost: it goes on, refuses, says why, and comes back by itself
    node.kill()
    said = bench.covey("member", "remove", "m1", status=1)
    assert "doesn't answer" in said
    assert bench.covey("health", status=1)
    second = bench.launch("join", "m1", "--json", "--listen")
    while lines(server)["event"] != "trouble":
        pass
    assert server.poll() is None and first.poll() is None
    node.start().wait()
    while json.loads(second.stdout.readline()).get("event") != "registered":
        pass
    assert bench.epoch() == epoch, "nothing was half written"

    # it is killed: the next one on this machine works at once, and goes on with the same state
    bench.end(server, 9)
    server = bench.serve()
    assert "another program" not in bench.covey("member", "remove", "m1").lower()
    wait_until(lambda: bench.epoch() > epoch)
    assert "working on" in bench.covey("store", "copy", url, "state.db", status=1)
    status = bench.status()["groups"]["line1"]
    bench.end(server)

    # and back
    assert "Moved" in bench.covey("store", "copy", url, "state.db")
    assert not (bench.root / "store.toml").exists()
    said = bench.covey("store", "copy", "state.db", url, status=1)
    assert "holds something already" in said
    server = bench.serve()
    assert bench.status()["groups"]["line1"]["epoch"] >= status["epoch"]
    assert bench.covey("audit", "verify").startswith("The log is whole")
    names = [
        json.loads(line)["member"]
        for line in bench.covey("member", "list", "--json").split("\n")
        if line
    ]
    assert names == ["m0"]
    bench.end(server)


def test_a_second_directory_of_the_same_site_needs_its_key(bench, node, tmp_path):
    url = f"etcd://{node.here}"
    bench.covey("store", "copy", "state.db", url)
    other = Bench(tmp_path / "other")
    try:
        (other.root / "state.db").unlink()
        for beside in other.root.glob("state.db-*"):
            beside.unlink()
        said = other.covey("serve", "--store", url, status=1)
        assert "sealed under another key" in said and not (other.root / "store.toml").exists()
        text = (bench.root / "store.toml").read_text()
        (other.root / "store.toml").write_text(text.replace('id = "', 'id = "0'))
        os.chmod(other.root / "store.toml", 0o600)
        assert "holds another site" in other.covey("status", status=1)
        (other.root / "store.toml").write_text("url = 3")
        assert "takes url, id" in other.covey("status", status=2)
        (other.root / "store.toml").write_text("url")
        assert "is no TOML" in other.covey("status", status=2)
        (other.root / "store.toml").unlink()
        shutil.copy(bench.root / "site.key", other.root / "site.key")
        shutil.copy(bench.root / "covey.toml", other.root / "covey.toml")
        other.edit(str(bench.port), str(other.port))
        server = other.serve("--store", url)
        assert "Key servers are at work on" in bench.covey(
            "member", "add", "m9", "--group", "line1", status=1
        )
        other.end(server)
        bench.member("m9")
        assert "m9" in other.covey("member", "list")
    finally:
        other.close()
