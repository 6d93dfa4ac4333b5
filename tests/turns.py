"""Several pytest processes share one suite: each takes the next file that nobody has taken.

tools/suites.py starts them. In the directory that COVEY_TURNS names what is taken is marked, and
each tells there what it has run. conftest.py takes the hooks from here in such a process.
"""

import json
import os
from itertools import groupby
from pathlib import Path

TURNS = Path(os.environ.get("COVEY_TURNS", "."))
# What takes a minute or more is begun with, so that nobody is left with it at the end.
LONG = [
    "test_simulator.py",
    "test_firmware.py",
    "test_board_flash.py",
    "test_micropython.py",
    "test_firmware_faults.py",
    "test_bench.py",
    "test_board_flash_refusals.py",
    "test_doctor.py",
    "test_demo.py",
    "test_simulator_loss.py",
    "test_eviction.py",
]
CHOICES = ("keyword", "markexpr", "lf", "stepwise")  # options by which a person chooses tests


def ours(items):
    """[items of one file] that nobody else runs, one file after the other."""
    files = [list(some) for _, some in groupby(items, lambda item: item.path)]
    order = {name: place for place, name in enumerate(LONG)}
    files.sort(key=lambda some: order.get(some[0].path.name, len(order)))
    for place, some in enumerate(files):
        try:
            (TURNS / f"taken-{place}").touch(exist_ok=False)
        except FileExistsError:
            continue
        yield some


def pytest_runtestloop(session):
    """As pytest's own, of these."""
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        raise session.Interrupted("what can't be collected can't be run")
    if session.config.option.collectonly:
        return True
    session.ran = 0
    now = TURNS / f"now-{os.getpid()}"
    for items in ours(session.items):
        for item, following in zip(items, [*items[1:], session], strict=True):
            now.write_text(item.nodeid)
            # Behind the last one nothing is needed any more but what belongs to the session.
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            session.ran += 1
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
    return True


def pytest_sessionfinish(session):
    """Tell what came of it."""
    config = session.config
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    facts = {
        "of": len(session.items),
        "ran": getattr(session, "ran", 0),
        "counts": {name: len(found) for name, found in stats.items() if name},
        "failed": {one.nodeid: why(one) for one in stats.get("failed", ())},
        "reports": [str(one.longrepr) for one in stats.get("failed", ())],
        "is_whole": config.args_source is not config.ArgsSource.ARGS
        and not any(config.getoption(name, None) for name in CHOICES),
    }
    (TURNS / f"now-{os.getpid()}").unlink(missing_ok=True)
    (TURNS / f"told-{os.getpid()}").write_text(json.dumps(facts))


def why(report):
    """A line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).partition("\n")[0]
