"""The documents as tests read them: blocks, sections, tables."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCS}
README = TEXTS[ROOT / "README.md"]
CLI, SPEC, DESIGN, THREATS = (
    TEXTS[ROOT / "docs" / name] for name in ("cli.md", "spec.md", "design.md", "threat-model.md")
)


def blocks(text, language):
    """The fenced blocks of a language, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def prose(text):
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def section(text, heading):
    """What stands below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    assert found, f"no heading {heading!r}"
    return found[1]


def tables(text):
    """Each table as {first cell: all cells}, without its head; the order is kept."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(text), re.M):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in table.splitlines()
        ]
        assert len({len(row) for row in rows}) == 1, f"rows of unequal length: {rows[0]}"
        names = [row[0] for row in rows[2:]]
        found.append(dict(zip(names, rows[2:], strict=True)))
        assert rows[0] and set("".join(rows[1])) <= set("-: ")
    return found


def table(text, heading, at=0):
    return tables(section(text, heading))[at]


def code(cell):
    """The first `code` in a cell."""
    found = re.match(r"`([^`]+)`", cell)
    assert found, cell
    return found[1]


def codes(names):
    return {code(name) for name in names}


def numbers(text):
    """Every whole number in a text, hexadecimal ones too."""
    return {int(n, 0) for n in re.findall(r"\b(?:0x[0-9A-F]+|0|[1-9]\d*)\b", text)}
