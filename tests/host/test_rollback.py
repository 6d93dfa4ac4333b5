"""The whole state of the key server's machine rolled back, by real processes: no nonce comes
twice, no old key comes into use, and members that live on come back.

tests/host/test_group.py does the same on a virtual clock, at each write of a story.
"""

import json
import shutil
import signal

import pytest

from member_process import join
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def keys_of(bench):
    """SPIs and keys of the group, as the store has them now."""
    store = bench.store()
    try:
        epoch = json.loads(store.read("group/line1/state")[0])["epoch"]
    finally:
        store.close()
    return {epoch["tek_spi"], epoch["tek_keymat"], epoch["rekey"]["spi"], epoch["rekey"]["keymat"]}


def spis_of(bench):
    """Of ESP that was on the wire."""
    return {key.hex() for kind, key, _ in bench.witness.look()._digests if kind == "ESP"}


def member(bench, name, *arguments):
    """In a process that outlives the key server, and soon sees that it has another one."""
    bench.member(name, *(["--sender"] if arguments[0] == "--send" else []))
    path = bench.root.parent / name
    shutil.copytree(bench.root / "members" / name, path)
    config = path / "covey.json"
    fields = json.loads(config.read_text())
    fields |= {"liveness_s": 1, "retransmit": {"first_ms": 100, "total_s": 2}}
    config.write_text(json.dumps(fields))
    return join(config, *arguments)


def test_a_machine_that_is_rolled_back_uses_no_key_and_no_nonce_again(bench, tmp_path):
    server = bench.serve()
    saw, press = member(bench, "saw", "--send", "-"), member(bench, "press", "--listen")
    try:
        for each in (saw, press):
            each.heard("registered")
        saw.say("then")
        press.packet(b"then")
        used = keys_of(bench)

        server.send_signal(signal.SIGSTOP)  # all of the machine stands still
        shutil.copytree(bench.root, tmp_path / "then", ignore=shutil.ignore_patterns("run"))
        server.send_signal(signal.SIGCONT)

        for at in range(2):  # what the machine is going to forget
            bench.covey("rekey", "line1")
            used |= keys_of(bench)
            press.heard("rekeyed", at + 1)
            saw.say(f"later {at}")
            press.packet(f"later {at}".encode())
        bench.member("lathe")
        bench.covey("member", "remove", "lathe")
        used |= keys_of(bench)
        bench.end(server, signal.SIGKILL)
        shutil.rmtree(bench.root)
        shutil.copytree(tmp_path / "then", bench.root)

        server = bench.serve()
        found = keys_of(bench)
        assert not found & used, "an SPI or a key of before is in use again"
        for each in (saw, press):
            each.heard("registered", 2)
        before = spis_of(bench)
        for at in range(3):
            saw.say(f"now {at}")
            press.packet(f"now {at}".encode())
        spis = {octets for octets in keys_of(bench) if len(octets) == 8}
        assert not spis & used
        if bench.witness._sock:  # root, on Linux
            assert spis_of(bench) - before <= spis and spis <= spis_of(bench)
            assert before & used, "what was sent before was not seen"
        assert "There is no member lathe" in bench.covey("why", "lathe", status=2)
    finally:
        for each in (saw, press):
            each.close()
