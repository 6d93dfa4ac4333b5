"""`covey status` and `covey why` on real processes: a member that reports, a killed server."""

import json
import signal
import time

import pytest

from processes import PATIENCE_S, wait_until
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def _reports(bench):
    """Members whose reports are in the store."""
    store = bench.store()
    try:
        return [key for key, _, _ in store.scan("contact/")]
    finally:
        store.close()


def test_a_start_in_a_healthy_group_is_no_alarm(bench):
    """Others send under the keys before until `atd` is over, and the newcomer hears that."""
    bench.edit('rejoin_spread = "0s"', 'rejoin_spread = "0s"\nreport_interval = "10s"')
    bench.edit('atd = "0s"\ndtd = "1s"', 'atd = "2s"\ndtd = "4s"')
    bench.edit("fresh_join = false", "fresh_join = true")
    bench.serve()
    bench.member("button", "--sender")
    bench.member("eye")

    def of(name):
        return json.loads(bench.covey("why", name, "--json"))

    def joined(name, *how):
        bench.launch("join", name, *how, "--json")
        wait_until(lambda: of(name)["groups"]["line1"]["state"] == "member")

    joined("button", "--send", "x", "--count", "100000", "--interval", "0.1")
    time.sleep(3)  # it sends
    joined("eye", "--listen")
    wait_until(lambda: any(row["event"] == "drops" for row in of("eye")["history"]))
    wait_until(lambda: of("eye")["report"]["opened"])
    told = of("eye")
    assert "unknown_spi" in told["report"]["drops"] and told["causes"] == []
    assert "stands in eye's way" in bench.covey("why", "eye")


def test_a_member_is_known_before_and_after_a_kill(bench):
    bench.edit('rejoin_spread = "0s"', 'rejoin_spread = "0s"\nreport_interval = "10s"')
    server = bench.serve()
    bench.member("eye")
    words = bench.covey("why", "eye")
    assert "never heard of eye" in words and "covey doctor" in words
    child = bench.launch("join", "eye", "--listen", "--json")

    def lag():
        return json.loads(bench.covey("status", "--json"))["groups"]["line1"]["lag"]

    wait_until(lambda: lag()["current"] == 1)  # within a quarter of report_interval
    shown = bench.covey("status")
    assert "member=1 waiting=0 excluded=0 left=0 never=0 current=1" in shown
    told = json.loads(bench.covey("why", "eye", "--json"))
    assert told["event"] == "why" and told["connected"] and told["heard_s"] < 10
    assert [row["event"] for row in told["history"]] == ["registered", "added"]
    assert told["history"][0]["boots"] and told["history"][0]["address"] == "127.0.0.1"
    assert told["report"]["state"] == "member" and told["files"] == []
    assert [cause["cause"] for cause in told["causes"]] == ["no_sender"]
    wait_until(lambda: _reports(bench))  # within ten seconds
    bench.end(server, signal.SIGKILL)
    after = json.loads(bench.covey("why", "eye", "--json"))
    assert after["history"] == [
        row | {"first_s": again["first_s"], "last_s": again["last_s"]}
        for row, again in zip(told["history"], after["history"], strict=True)
    ]
    assert after["report"]["spi"] == told["report"]["spi"] and not after["running"]
    words = bench.covey("why", "eye")
    assert "No key server is running" in words and "It said" in words
    assert "There is no member nose" in bench.covey("why", "nose", status=2)
    child.kill()


def test_a_wrong_key_is_found_on_both_sides(bench):
    bench.member("eye")
    words = bench.covey("why", "eye")
    assert "added to the site" in words and "No key server is running" in words
    bench.serve()
    (bench.root / "members" / "eye" / "psk").write_text("ab" * 32)
    child = bench.launch("join", "eye", "--timeout", "60")
    child.communicate(timeout=PATIENCE_S)
    words = bench.covey("why", "eye")
    assert "at 127.0.0.1 has another pre-shared key" in words
    assert "is not the key that the site has for it" in words
