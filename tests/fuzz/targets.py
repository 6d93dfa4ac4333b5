"""All targets by name, and the octets that are known to lead somewhere: their corpus.

A corpus is a text file, one input a line in hexadecimal, the shorter ones first.
"""

from pathlib import Path

from fuzz import answers, deeds, files, gateway, proven
from fuzz import vault as vaults

CORPUS = Path(__file__).resolve().parent / "corpus"

PORTABLE = answers.TARGETS  # on MicroPython too
TARGETS = {**PORTABLE, **files.TARGETS, **proven.TARGETS, **deeds.TARGETS, **vaults.TARGETS}
TARGETS |= gateway.TARGETS


def corpus(name):
    """The inputs that are kept for this target."""
    path = CORPUS / name
    return [bytes.fromhex(line) for line in path.read_text().split("\n")[:-1]]


def keep(name, inputs):
    CORPUS.mkdir(exist_ok=True)
    lines = sorted({data.hex() for data in inputs}, key=lambda line: (len(line), line))
    (CORPUS / name).write_text("".join(line + "\n" for line in lines))
