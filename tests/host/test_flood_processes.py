"""A member that is put out floods real members, to hide it from them: a thousand forged GSA_REKEYs
a second, whose ICV is good.
"""

import threading
import time

import pytest

from covey_host.gcks.epoch import decode_state
from foreign_esp import Air
from forged_rekeys import ForgedRekeys
from member_process import join, micropython
from site_bench import GROUP, Bench

_LEARNED_S = 65  # see spec.md


class Flood:
    """Goes on in a thread of its own until it is closed."""

    def __init__(self, bench):
        store = bench.store()
        epoch, _ = decode_state(store.read("group/line1/state")[0])
        store.close()
        rekey = epoch.rekey
        self.sent = 0
        self._forged = ForgedRekeys(rekey.spi, rekey.keymat[: rekey.key_bits // 8 + 4])
        self._next_id = rekey.next_message_id
        self._air = Air(GROUP, bench.carrier_port)
        self._goes_on = True
        self._thread = threading.Thread(target=self._flood)
        self._thread.start()

    def _flood(self):
        while self._goes_on:
            make = self._forged.fragment if self.sent % 4 == 0 else self._forged.whole
            message = make(self._next_id + self.sent % 3)
            self._air.out.sendto(bytes(4) + message, (self._air.group, self._air.port))
            self.sent += 1
            time.sleep(0.001)

    def close(self):
        self._goes_on = False
        self._thread.join()
        self._air.close()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    made.running = []
    yield made
    for one in made.running:
        one.close()
    made.close()


def test_members_learn_of_an_eviction_behind_a_flood(bench):
    server = bench.serve()
    for name in ("board", "desk", "gone"):
        bench.member(name)
    path = bench.root / "members"
    members = [micropython(path / "board" / "covey.json"), join(path / "desk" / "covey.json")]
    bench.running += members
    for one in members:
        one.heard("status")
    bench.running.append(gone := join(path / "gone" / "covey.json"))
    gone.heard("status")
    bench.running.append(flood := Flood(bench))
    bench.covey("member", "remove", "gone")
    gone.heard("refused", timeout_s=_LEARNED_S)
    epoch = bench.epoch()
    for one in members:
        _until(one, bench.status()["groups"]["line1"]["spi"])
    flood.close()
    assert flood.sent > 300 and epoch == bench.epoch()
    bench.events(server)


def _until(one, spi):
    end = time.monotonic() + _LEARNED_S
    while True:
        told = one.heard("status", one.count("status") + 1)
        if (told.get("detail") or told)["spi"] == spi:
            return
        assert time.monotonic() < end, told
