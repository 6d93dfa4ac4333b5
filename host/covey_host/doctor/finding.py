"""One finding: a line for a person, an object for a program."""

from collections.abc import Iterable
from typing import NamedTuple

from .. import output
from ..errors import FAILURE

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    level: str
    subject: str  # what was looked at, in a word or two
    said: str  # what was found
    fix: str = ""  # what to do about it, a sentence; empty with ok


def ok(subject: str, said: str) -> Finding:
    return Finding(OK, subject, said)


def warn(subject: str, said: str, fix: str) -> Finding:
    return Finding(WARN, subject, said, fix)


def fail(subject: str, said: str, fix: str) -> Finding:
    return Finding(FAIL, subject, said, fix)


def show(findings: Iterable[Finding], as_json: bool) -> int:
    """Each as it comes; the exit status: whether any has failed."""
    status = 0
    for finding in findings:
        status = FAILURE if finding.level == FAIL else status
        if as_json:
            output.emit({"event": "finding", **finding._asdict()})
        else:
            output.line(output.printable(line_of(finding)))
    return status


def line_of(finding: Finding) -> str:
    fix = f" {finding.fix}" if finding.fix else ""
    return f"{finding.level:4} {finding.subject}: {finding.said}.{fix}"
