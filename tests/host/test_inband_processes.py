"""An inband group with real processes and sockets: told, killed, and there again."""

import signal
import tomllib

import pytest

from foreign_gm import GSA, GSA_REGISTRATION, INFORMATIONAL, KD, NOTIFY
from foreign_gm_udp import GM, Wire
from ike_peer import DELETE_IKE, GSA_INBAND_REKEY, OUT
from processes import wait_until
from site_bench import Bench

ALIVE = INFORMATIONAL, []


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    made.edit(f"carrier_port = {made.carrier_port}", 'rekey = "inband"')
    made.edit("# liveness", 'liveness = "5s"\n# liveness')
    yield made
    made.close()


class Inband(GM):
    """What a foreign member does of an inband rekey: answers it."""

    _last = b"", b""  # request and answer

    def told(self, *life):
        """The next request of the server, answered: its payloads. Repeats are answered again, and
        so are questions for a sign of life, unless one is waited for.
        """
        while (found := self._answered()) in (None, ALIVE) and found not in life:
            pass
        return found

    def _answered(self):
        request = self.wire.receive()
        assert request is not None
        if request == self._last[0]:
            return self.wire.send(self._last[1])
        exchange, message_id = request[18], int.from_bytes(request[20:24])
        payloads = self.open(request, exchange, message_id, 0)
        self._last = request, self.seal(exchange, [], message_id=message_id, flags=0x28)
        self.wire.send(self._last[1])
        return exchange, payloads


def member(bench, name):
    text = (bench.root / "members" / name / "psk").read_text()
    site = tomllib.loads((bench.root / "covey.toml").read_text())["identity"].encode()
    gm = Inband(Wire(bench.port), site, name.encode(), bytes.fromhex(text), wants=1)
    found = gm.connect().ask_for_group()
    assert [kind for kind, _ in found] == [GSA, KD, NOTIFY]
    return gm


def holders(bench):
    return bench.status()["groups"]["line1"]["holders"]


def test_told_and_removed(bench):
    for name in ("press-7", "valve-3"):
        bench.member(name, "--sender")
    server = bench.serve()
    press, valve = member(bench, "press-7"), member(bench, "valve-3")
    assert holders(bench) == ["press-7", "valve-3"]
    assert "rekey=inband" in bench.covey("status") and "holders=2" in bench.covey("status")
    bench.covey("rekey", "line1")
    assert press.told()[0] == valve.told()[0] == GSA_INBAND_REKEY
    wait_until(lambda: holders(bench) == ["press-7", "valve-3"])
    bench.covey("member", "remove", "valve-3")
    assert press.told()[0] == GSA_INBAND_REKEY
    assert valve.told() == (GSA_INBAND_REKEY, OUT)
    assert valve.told() == (INFORMATIONAL, [DELETE_IKE])
    wait_until(lambda: holders(bench) == ["press-7"])
    assert press.told(ALIVE) == ALIVE
    log = bench.events(server)
    assert [e["event"] for e in log].count("rekeyed") == 2
    for gm in (press, valve):
        gm.close()


def test_killed_between_telling_one_and_the_other(bench):
    """The next server knows no IKE SA: it starts over, and whoever comes back is told all."""
    bench.member("press-7", "--sender")
    bench.member("valve-3", "--sender")
    server = bench.serve()
    press, valve = member(bench, "press-7"), member(bench, "valve-3")
    bench.covey("rekey", "line1")
    assert press.told()[0] == GSA_INBAND_REKEY
    bench.end(server, signal.SIGKILL)  # the other one's answer is still awaited
    before = bench.status()["groups"]["line1"]
    bench.serve()
    after = bench.status()["groups"]["line1"]
    assert after["epoch"] == before["epoch"] + 1 and after["spi"] != before["spi"]
    assert after["members"] == after["holders"] == []
    assert after["absent"] == ["press-7", "valve-3"]
    for gm in (press, valve):
        while gm.wire.receive(0.05):
            pass
        gm.wire.send(gm.seal(INFORMATIONAL, []))
        assert gm.wire.receive(0.3) is None
    again = member(bench, "press-7")
    bench.covey("rekey", "line1")
    assert again.told()[0] == GSA_INBAND_REKEY
    assert [k for k, _ in again.talk(GSA_REGISTRATION, again.group_payloads())] == [
        GSA,
        KD,
        NOTIFY,
    ]
    wait_until(lambda: holders(bench) == ["press-7"])
    for gm in (press, valve, again):
        gm.close()
