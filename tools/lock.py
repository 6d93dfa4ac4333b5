"""Write requirements.lock anew from pyproject.toml: every version, every hash, no address.

It holds for Python 3.11 to 3.14 on Linux and macOS. Run it on purpose, read the difference, run
the tests, commit. uv is installed beside the tree's own packages, under .build.
"""

import os
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
"""


def main():
    pip = [sys.executable, "-I", "-m", "pip", "install", "-q", "--upgrade", "--target", str(HOME)]
    words = ["pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"]
    words += ["--extra", "dev", "--no-emit-index-url", "--no-emit-find-links", "--upgrade"]
    words += ["--constraint", str(HOME / "constraints.txt")]
    words += ["--custom-compile-command", "make lock", "-q", "-o", "requirements.lock"]
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "constraints.txt").write_text(CONSTRAINTS)
    environment = {**os.environ, "UV_NO_CONFIG": "1"}
    for command in ([*pip, UV], [str(HOME / "bin" / "uv"), *words, "pyproject.toml"]):
        status = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr).returncode
        if status:
            sys.exit(status)


if __name__ == "__main__":
    main()
