"""firmware/manifest.py: what it hands to MicroPython's build, on a stand-in for its functions."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from small_packages import parts
from test_micropython import interpreter, without

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware"


class Options:
    def __init__(self, given):
        self._given, self._usual = given, {}

    def defaults(self, **usual):
        self._usual = usual

    def __getattr__(self, name):
        return self._given.get(name, self._usual.get(name))


def frozen(name, given=None):
    """Run a manifest as MicroPython's tools/manifestfile.py does: (files, others included)."""
    files, others = {}, []

    def run(path, given):
        def include(other, **options):
            if other.startswith("$"):
                others.append(other)
            else:
                run(path.parent / other, options)

        def package(name, files=None, base_path=".", opt=None):
            assert opt == 3
            for file in files:
                source = Path(base_path, name, file)
                assert source.is_file(), source
                found[f"{name}/{file}"] = source.resolve()

        before = os.getcwd()
        os.chdir(path.parent)
        try:
            scope = {"include": include, "package": package, "options": Options(given)}
            exec(compile(path.read_text(), str(path), "exec"), scope)
        finally:
            os.chdir(before)

    found = files
    run(FIRMWARE / name, given or {})
    return files, others


@pytest.mark.parametrize(
    "name, kernel, without, port",
    [
        ("manifest.py", "mpy_ghash.py", "mpy_ghash_small.py", "$(PORT_DIR)/boards/manifest.py"),
        ("manifest_rp2.py", "mpy_ghash_small.py", "mpy_ghash.py", "$(BOARD_DIR)/manifest.py"),
    ],
)
def test_all_that_a_board_may_load_and_nothing_else(name, kernel, without, port):
    files, others = frozen(name)
    assert others == [port]
    assert f"covey/port/{kernel}" in files and f"covey/port/{without}" not in files
    wanted = {
        f"{package}/{path.relative_to(home / package).as_posix()}"
        for home, package in ((ROOT / "lib", "covey"), (FIRMWARE, "onboard"))
        for path in (home / package).rglob("*.py")
    }
    left = wanted - set(files) - set(parts("x64" if "rp2" in name else "x86"))
    assert set(files) <= wanted | {"covey/stack.py"}
    assert {f"covey/{name}.py" for name in ("stack", "aio", "config", "drops", "gcm")} <= set(
        files
    )
    assert {path.rpartition("/")[2] for path in left} <= {
        without,
        "mpy_ghash_ct.py",
        "cpy.py",
        "cpy_cmac.py",
        "cpy_later.py",
        "cpy_gcm.py",
        "cpy_path.py",
    }


def test_constant_time():
    files, _ = frozen("manifest.py", {"constant_time": True})
    kernels = {path for path in files if "mpy_ghash" in path or "mpy_tables" in path}
    assert kernels == {"covey/port/mpy_ghash_ct.py"}
    with pytest.raises(ValueError, match="ARMv6-M"):
        frozen("manifest.py", {"constant_time": True, "small": True})


def test_what_is_frozen_is_rewritten_and_runs(tmp_path):
    """As an image's code is, for a main.py that is not known; on 32-bit MicroPython."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    own = tmp_path / "own.py"
    own.write_text("from covey.membership import Membership\nMembership.step\n")
    files, _ = frozen("manifest.py", {"main": str(own), "names": str(tmp_path / "names.json")})
    for name, source in files.items():
        text = source.read_text()
        assert '"""' not in text or name.startswith("onboard/"), name
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    names = json.loads((tmp_path / "names.json").read_text())["stack"]
    assert any("_take_response" in meant.split("|") for meant in names.values())
    script = "import covey.aio, covey.cip\nfrom covey.membership import Membership as M\n"
    script += "from covey.gcm import GCMContext\n"
    script += "print(covey.aio.join, M.step, covey.aio.Joined.send, GCMContext.set_constant_time)"
    done = subprocess.run(
        [wrapper, "-X", "heapsize=2m", "-c", script],
        env={"MICROPYPATH": f"{tmp_path}:.frozen"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
