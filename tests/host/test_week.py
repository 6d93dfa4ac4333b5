"""A week of rekeys and registrations leaves a small heap as it was, on 32-bit MicroPython."""

import json
import os
import subprocess

import pytest

from test_micropython import BUILD, ROOT, compile_lib, interpreter, without

HOURS = 168
OCTETS = json.loads((ROOT / "tests" / "recorded" / "group_story.json").read_text())


def week(hours, heap, room=0, reserves=True):
    """What week_script.py prints, an object a day."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    assert compile_lib() is None
    policy = OCTETS["sender"]
    lines = [policy["gsa"], policy["kd"], OCTETS["kwk"], OCTETS["spis"][:8], OCTETS["rekey1"][:32]]
    script = [ROOT / "tests" / "week_script.py", str(hours), str(room), str(int(reserves))]
    done = subprocess.run(
        [wrapper, "-X", f"heapsize={heap}", *script],
        env={**os.environ, "MICROPYPATH": f"{BUILD / 'lib-x86'}:.frozen"},
        input="".join(line + "\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("reserves", (True, False))
def test_flat_on_a_heap_half_as_large_again(reserves):
    """1.5 times what code and state take at rest, on a port that has both in its heap."""
    days = week(24, "1m", reserves=reserves)
    days = week(HOURS, days[-1]["all"] * 3 // 2, reserves=reserves)
    assert len(days) == 8 and days[-1]["drops"] == {"replay": 4 * HOURS + 1}
    assert {day["all"] for day in days[1:]} == {days[1]["all"]}


def test_flat_with_the_code_in_flash():
    """The state alone needs 1.75 times itself: what a rekey is parsed into lies between keys."""
    state = week(24, "1m")[-1]["state"]
    days = week(HOURS, "1m", room=state * 7 // 4)
    assert len(days) == 8 and {day["state"] for day in days[1:]} == {days[1]["state"]}
