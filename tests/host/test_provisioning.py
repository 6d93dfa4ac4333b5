"""Where secrets go: docs/provisioning.md, and what `covey member add` writes."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest

from covey_host.doctor import files
from covey_host.site import Site
from markdown import ROOT, TEXTS
from processes import ENVIRONMENT, wait_until
from site_bench import Bench

DOC = TEXTS[ROOT / "docs" / "provisioning.md"]
SHIM = ROOT / "host" / "shim"


@pytest.fixture(params=[False, True], ids=["no server", "a server"])
def bench(request, tmp_path):
    old = os.umask(0)  # the most careless one
    made = Bench(tmp_path / "site")
    if request.param:
        made.serve()
    yield made
    made.close()
    os.umask(old)


def tree(root):
    """Every path below, with its mode and, of a file, its octets."""
    found = {}
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        octets = path.read_bytes() if stat.S_ISREG(state.st_mode) else None
        found[str(path.relative_to(root))] = stat.S_IMODE(state.st_mode), octets
    return found


STORE = {"state.db", "state.db-wal", "state.db-shm"}
LOG = {"audit.log"}


def test_a_new_member_is_written_to_its_directory_and_the_store_alone(bench):
    above = {path.name for path in bench.root.parent.iterdir()}
    bench.member("valve-3")
    before = tree(bench.root)
    said = bench.member("press-7", "--sender")
    after = tree(bench.root)
    new = {path: after[path] for path in after if path not in before}
    assert set(new) - STORE == {
        "members/press-7",
        "members/press-7/psk",
        "members/press-7/covey.json",
        "members/press-7/seed",
    }
    assert {path: mode for path, (mode, _) in new.items() if path not in STORE} == {
        "members/press-7": 0o700,
        "members/press-7/psk": 0o600,
        "members/press-7/covey.json": 0o600,
        "members/press-7/seed": 0o600,
    }
    changed = {path for path in before if after.get(path) != before[path]}
    assert changed <= STORE | LOG
    assert all(after[path][0] == 0o600 for path in STORE & set(after))
    assert {path.name for path in bench.root.parent.iterdir()} == above
    psk = new["members/press-7/psk"][1].strip()
    for path, (_, octets) in after.items():
        if path != "members/press-7/psk" and path not in STORE and octets is not None:
            assert psk not in octets and bytes.fromhex(psk.decode()) not in octets, path
    assert psk.decode() not in said
    assert [f.level for f in files.modes(Site(bench.root))] == ["ok"]


def test_what_lies_in_a_members_directory_is_in_the_document(bench):
    bench.member("press-7")
    for path in (bench.root / "members" / "press-7").iterdir():
        assert f"`/{path.name}`" in DOC or f"`{path.name}`" in DOC, path.name


def test_the_member_whose_key_is_in_nvs(tmp_path):
    """The document's settings(), with `esp32` of the desktop, registers."""
    [code] = [b for b in re.findall(r"```python\n(.*?)```", DOC, re.S) if "NVS" in b]
    code = "\n".join(line.removeprefix("   ") for line in code.splitlines())
    made = Bench(tmp_path / "site")
    try:
        made.member("press-7")
        made.serve()
        folder = made.root / "members" / "press-7"
        psk = (folder / "psk").read_text().strip()
        (folder / "psk").unlink()
        (folder / "nvs").write_text(json.dumps({"covey": {"psk": psk}}))
        script = tmp_path / "main.py"
        script.write_text(code + JOIN)
        done = subprocess.run(
            [sys.executable, script],
            cwd=folder,
            env=ENVIRONMENT | {"PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{SHIM}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "member\n", done.stderr
        assert wait_until(lambda: made.status()["counters"]["registered"] == 1)
    finally:
        made.close()


JOIN = """

import asyncio


async def main():
    async with covey.aio.join(settings()) as joined:
        print(joined.status()["state"])


asyncio.run(main())
"""
