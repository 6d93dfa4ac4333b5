"""A week of rekeys, opened and verified, and of registrations leaves a small heap as it was, on
32-bit MicroPython.
"""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

from test_micropython import BUILD, ROOT, compile_lib, interpreter, without

sys.path.append(str(ROOT / "tests" / "recorded"))

import group_story as story  # noqa: E402

HOURS = 168


@cache
def keys():
    """What week_script.py reads: the keys of each hour."""
    kwk = bytes(range(16))
    found = b""
    over = old = None
    for hour in range(HOURS + 1):
        kek, tek = story.Kek(f"k{hour}"), story.Tek(f"t{hour}")
        if hour % 8 == 0:
            policy = story.rekey_policy(kek.spi, gcauth=story.ECDSA_WITH_SHA256)
            policy += story.esp_policy(tek.spi) + story.group_wide(0, 2, 16)
            bags = story.sa_key(6, kek.spi, kwk, kek.keymat)
            bags += story.sa_key(3, tek.spi, kwk, tek.keymat)
            own = story.tlv(2, story.spki(story.GCKS)), story.tlv(3, b"\0\0\0\x41")
            what = kwk, policy, bags + story.member_bag(*own)
        else:
            parts = story.renewal(over, kek, tek, old) + [story.delete(6, over.spi)]
            what = (over.signed(0, parts, f"hour {hour}"),)
        for octets in (tek.spi, *what):
            found += len(octets).to_bytes(2) + octets
        over, old = kek, tek
    return found


def week(hours, heap, room=0, reserves=True):
    """What week_script.py prints, an object a day."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    assert compile_lib() is None
    script = [ROOT / "tests" / "week_script.py", str(hours), str(room), str(int(reserves))]
    done = subprocess.run(
        [wrapper, "-X", f"heapsize={heap}", *script],
        env={**os.environ, "MICROPYPATH": f"{BUILD / 'lib-x86'}:.frozen"},
        input=keys(),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout[-300:] + done.stderr[-2000:]).decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("reserves", (True, False))
def test_flat_on_a_heap_half_as_large_again(reserves):
    """1.5 times what code and state take at rest, on a port that has both in its heap."""
    days = week(24, "1m", reserves=reserves)
    days = week(HOURS, days[-1]["all"] * 3 // 2, reserves=reserves)
    assert len(days) == 8 and days[-1]["drops"] == {"replay": 4 * HOURS + 1}
    assert {day["all"] for day in days[1:]} == {days[1]["all"]}


def test_flat_with_the_code_in_flash():
    """The state alone needs 1.75 times itself: what a rekey takes meanwhile, a datagram, what it
    is parsed into, the verifier's integers, is more than half of it.
    """
    state = week(24, "1m")[-1]["state"]
    days = week(HOURS, "1m", room=state * 7 // 4)
    assert len(days) == 8 and {day["state"] for day in days[1:]} == {days[1]["state"]}
