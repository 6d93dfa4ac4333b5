"""What the many-process tests share: children with our source on their path, and waiting."""

import os
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 90  # for what comes at once where nothing else runs: there it costs nothing
ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith("COVEY_")},
    "PYTHONPATH": os.pathsep.join([str(ROOT / "lib"), str(ROOT / "host")]),
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "TERM": "dumb",
}


def start(*arguments, **options):
    """A child Python with pipes for all three streams, text mode, not waited for."""
    options.setdefault("env", ENVIRONMENT)
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        **options,
    )


def run(*arguments, timeout=60, **options):
    """The same, waited for: a CompletedProcess."""
    options.setdefault("env", ENVIRONMENT)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def wait_until(condition, timeout_s=PATIENCE_S, step_s=0.02):
    """Poll until condition() is true; its value. AssertionError after timeout_s."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not true within {timeout_s} s: {condition}"
        time.sleep(step_s)
