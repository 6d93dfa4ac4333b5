"""Write requirements.lock anew from pyproject.toml: every version, every hash, no address.

requirements-bench.lock and requirements-fuzz.lock have what the extras `bench` and `fuzz` need
besides. All hold for Python 3.11 to 3.14 on Linux and macOS; atheris has wheels for Linux alone.
Run it on purpose, read the difference, run the tests, commit. uv is installed beside the tree's
own packages, under .build.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".build" / "uv"
UV = "uv==0.13.9"
# Where the newest version has no wheel: the last one that had. Both lines are needed: with only
# the second, uv settles on one old version for everybody.
CONSTRAINTS = """
cryptography >= 50 ; sys_platform != 'darwin' or platform_machine != 'x86_64'
cryptography < 49 ; sys_platform == 'darwin' and platform_machine == 'x86_64'
atheris >= 3.1 ; python_version >= '3.12'
atheris < 3.1 ; python_version < '3.12'
"""


def main():
    pip = [sys.executable, "-I", "-m", "pip", "install", "-q", "--upgrade", "--target", str(HOME)]
    HOME.mkdir(parents=True, exist_ok=True)
    constraints = HOME / "constraints.txt"
    constraints.write_text(CONSTRAINTS)
    run([*pip, UV])
    bounds = ["--constraint", str(constraints)]
    compile("requirements.lock", "dev", bounds)
    pinned = (ROOT / "requirements.lock").read_text()
    beside = [*bounds, "--constraint", "requirements.lock"]
    for name in re.findall(r"^([a-z0-9.-]+)==", pinned, re.M):
        beside += ["--no-emit-package", name]
    for extra in ("bench", "fuzz"):
        compile(f"requirements-{extra}.lock", extra, beside)


def compile(target, extra, more):
    words = ["pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"]
    words += ["--extra", extra, "--no-emit-index-url", "--no-emit-find-links", "--upgrade"]
    words += ["--custom-compile-command", "make lock", "-q", "-o", target]
    run([str(HOME / "bin" / "uv"), *words, *more, "pyproject.toml"])


def run(command):
    environment = {**os.environ, "UV_NO_CONFIG": "1"}
    status = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
