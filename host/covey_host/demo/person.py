"""What a person does at a site: types a command, edits covey.toml."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from .cast import Lost


async def covey(*words: str, folder: Path, site: str, status: int = 0) -> list[dict]:
    """A command typed in the folder: the JSON objects that it printed. Lost where it ends
    otherwise."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "covey_host", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "COVEY_SITE": site},
        start_new_session=True,
    )
    try:
        out, complaint = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode != status:
        raise Lost(f"covey {' '.join(words)}: {complaint.decode().strip()}")
    return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


def listen(policy: Path, *places: str) -> None:
    """The key server does so there. places: as TOML has them."""
    line = f"listen = [{', '.join(places)}]"
    text = re.sub(r"(?m)^listen = .*$", line, policy.read_text(), count=1)
    policy.write_text(text)
