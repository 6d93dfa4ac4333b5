"""A gateway under systemd: its unit, and what it tells."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from covey_host.errors import MISUSE, Problem
from covey_host.gateway import netlink, service, unit, wires
from covey_host.gateway.fence import Fence
from covey_host.gateway.plan import load
from covey_host.gateway.tunnel import Tunnel
from covey_host.service import cli
from covey_host.service import unit as service_unit
from gateway_stand import CARDS, MEMBER, stand_in
from processes import PATIENCE_S
from test_gateway import BACK, OPENS, planned, written

PROGRAM = Path("/opt/covey/bin/covey")


@pytest.fixture
def text_of(tmp_path, monkeypatch):
    """make(folder) → the unit, as if gateway.toml and its members lay there."""
    plan = planned(tmp_path, {})

    def there(file):
        flows = [replace(f, member=file.parent / "members/gate/covey.json") for f in plan.flows]
        return replace(plan, flows=tuple(flows))

    monkeypatch.setattr(unit, "load", there)
    return lambda folder="/srv/gate": unit.unit(Path(folder, "gateway.toml"), "covey", "gate")


@pytest.fixture
def installed(monkeypatch):
    """Wherever this tree lies, `covey` lies where a service can reach it."""
    monkeypatch.setattr(service_unit, "_program", lambda: PROGRAM)


def test_a_gateway_has_raw_sockets_a_fence_and_no_more(text_of, installed):
    text = text_of()
    assert f"\nExecStart={PROGRAM} gateway /srv/gate/gateway.toml\n" in text
    assert (
        "\nCapabilityBoundingSet=CAP_NET_RAW CAP_NET_ADMIN\n" in text and "\nUser=covey\n" in text
    )
    assert "ReadWritePaths" not in text and "\nProtectSystem=strict\n" in text
    assert "\nProtectHome=read-only\n" in text_of("/home/anna/gate")


@pytest.mark.parametrize("folder", ("/tmp/gate", "/srv/my gate", "/srv/%h"))
def test_gateways_that_no_unit_can_reach(text_of, installed, folder):
    with pytest.raises(Problem) as refused:
        text_of(folder)
    assert refused.value.status == MISUSE


def test_a_wrong_gateway_gets_no_unit(tmp_path):
    with pytest.raises(Problem, match="gateway.toml:[0-9]+: flow.f0.port must be"):
        unit.unit(written(tmp_path, {"port": "0"}), "covey", "gate")


@pytest.mark.parametrize("option", ({"ttl": 2}, {"workers": 1}, {"site": Path("/srv/plant")}))
def test_it_takes_no_option_of_a_key_server(tmp_path, option):
    with pytest.raises(Problem, match=r"in its gateway\.toml\."):
        cli.unit(gateway=written(tmp_path, {}), **option)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_unit_and_finds_little_exposed(text_of, monkeypatch, tmp_path):
    monkeypatch.setattr(service_unit, "_TEMPORARY", ())  # it looks whether the program is there
    file = tmp_path / "gate.service"
    file.write_text(text_of())
    for words in (
        ["verify"],
        ["security", "--offline=yes", "--threshold=20", "--no-pager"],
    ):
        judged = subprocess.run(
            ["systemd-analyze", *words, str(file)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr
        assert "Unknown" not in judged.stderr


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """make() → a gateway without its cards, that never joins and looks often."""
    stand_in(tmp_path, monkeypatch)
    plan = load(written(tmp_path, {}))

    async def joins(_):
        await asyncio.Event().wait()

    def plain(*_):
        return stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    monkeypatch.setattr(Tunnel, "run", joins)
    monkeypatch.setattr(service, "_TURN_S", 0.01)
    for name in ("plain_out", "plain_in", "watch"):
        monkeypatch.setattr(wires, name, plain)
    with ExitStack() as stack:
        yield lambda: service.Gateway(plan, False)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ((9, "127.0.0.1"), "veth1 was taken out and put in"),  # without its fence
        ((4, "192.0.2.7"), "veth1 has the address 192.0.2.7 now, not 127.0.0.1"),
    ],
)
def test_a_card_that_is_another_ends_it(at_work, monkeypatch, now, said):
    gateway = at_work()
    monkeypatch.setattr(wires, "check", lambda *_: [CARDS[0], now])
    with pytest.raises(BaseExceptionGroup) as ended:
        asyncio.run(asyncio.wait_for(gateway.run(), PATIENCE_S))
    assert said in ended.value.exceptions[0].sentence


def test_a_second_gateway_touches_no_fence(at_work, monkeypatch):
    def held(plant):
        raise Problem(f"Another works on {plant}.", MISUSE)

    gateway, put = at_work(), []
    monkeypatch.setattr(Fence, "put", put.append)
    monkeypatch.setattr(wires, "claim", held)
    with pytest.raises(Problem, match="Another works on veth0"):
        asyncio.run(asyncio.wait_for(gateway.run(), PATIENCE_S))
    assert not put


def test_two_members_of_one_group_do_not_open_both(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    monkeypatch.setattr(netlink, "card_towards", lambda _: "veth1")
    other = tmp_path / "members/other"
    other.mkdir()
    (other / "psk").write_text("00" * 32)
    there = {"host": "192.0.2.1"}
    plan = planned(tmp_path, OPENS, {**BACK, "member": '"members/other"'})
    for facts, is_one in (
        ({"servers": [there, *MEMBER["servers"]]}, True),
        ({"servers": [there]}, False),
        ({"group": "line2"}, False),
    ):
        (other / "covey.json").write_text(json.dumps({**MEMBER, "idi": "gate-2", **facts}))
        if not is_one:
            service.Gateway(plan, False)
            continue
        with pytest.raises(Problem, match="Flows f0 and f1 are opened out of one group by two"):
            service.Gateway(plan, False)


def test_systemd_hears_of_its_start_and_end_and_that_it_lives(at_work, tmp_path, monkeypatch):
    async def lives(ear):
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(at_work().run())
        told = [await loop.sock_recv(ear, 100) for _ in range(2)]
        signal.raise_signal(signal.SIGTERM)
        await work
        while told[-1] == b"WATCHDOG=1":
            told[2:] = [await loop.sock_recv(ear, 100)]
        return told

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", ear.getsockname())
        told = asyncio.run(asyncio.wait_for(lives(ear), PATIENCE_S))
    ready = b"READY=1\nSTATUS=At work between veth0 and veth1."
    assert told == [ready, b"WATCHDOG=1", b"STOPPING=1"]
