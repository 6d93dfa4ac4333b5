"""Ctrl-C at every moment of a command: it ends, with the right status, without a traceback, and is
never lost."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from covey_host import cli
from processes import ENVIRONMENT, ROOT, run

SCRIPT = ROOT / "tests" / "ctrl_c_script.py"
QUIET = ("", "press-7: registering\n")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of a site with a member."""
    site = tmp_path_factory.mktemp("interrupts") / "site"
    for words in (
        f"init {site}",
        f"group add line1 --address 239.192.1.32 --port 2222 --site {site}",
        f"member add press-7 --group line1 --server 127.0.0.1:9 --site {site}",
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(words.split())
        assert ended.value.code == 0
    return {**ENVIRONMENT, "COVEY_SITE": str(site)}


@pytest.mark.parametrize("command, dropped", [("join press-7 --timeout 0", 10), ("group list", 0)])
def test_at_each_moment_of_a_command(environment, command, dropped):
    done = run(SCRIPT, "each", *command.split(), env=environment, timeout=180)
    moments = json.loads(done.stdout.splitlines()[-1])
    bad = [each for each in moments if each[1] != 130 or each[2] not in QUIET]
    assert not bad and len(moments) > 20, bad
    where = [name for name, _, _ in moments]
    assert where.count("_get_module_lock.<locals>.cb") >= dropped


def test_as_a_loop_is_made_and_works(environment):
    def interrupted(calls):
        return run(SCRIPT, calls, "join", "press-7", env=environment)

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(interrupted, (1, 10, 100, 300, 1000, 5000)):
            assert (done.returncode, done.stdout) == (130, ""), done.stderr
            assert done.stderr in QUIET


def test_where_it_is_ignored_it_stays_ignored(environment):
    source = (
        "import os, signal\n"
        "from covey_host import commands\n"
        "from covey_host.__main__ import main\n"
        "commands.group_list = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "main()\n"
    )

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    command = "-c", source, "group", "list"
    assert run(*command, env=environment).returncode == 130
    assert run(*command, env=environment, preexec_fn=ignore).returncode == 0


def test_what_else_is_dropped_is_told_as_ever(environment):
    source = (
        "from covey_host import commands\n"
        "from covey_host.__main__ import main\n"
        "class Bad:\n"
        "    def __del__(self):\n"
        "        raise ValueError('in a finalizer')\n"
        "commands.group_list = lambda *_: Bad() and None\n"
        "main()\n"
    )
    done = run("-c", source, "group", "list", env=environment)
    assert done.returncode == 0 and "ValueError: in a finalizer" in done.stderr
