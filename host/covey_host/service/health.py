"""Whether a running key server does its work: for `covey health`."""

from typing import Any

from ..errors import Problem
from ..store import Store

_PROBES = "health"  # a number of it is used up by each question
_LISTED = 20  # groups, and troubles


def faults(store: Store, failed: str | None, status: dict[str, Any]) -> list[str]:
    """Sentences; none where all is well. failed: what the audit log says. status: KeyServer's."""
    found = []
    try:
        store.reserve(_PROBES, 1)  # a write: what can be read tells nothing of a full disk
    except Problem as problem:
        found.append(problem.sentence)
    if failed:
        found.append(failed)
    groups = status["groups"].items()
    found += [f"Group {name} has no keys." for name, facts in groups if facts["epoch"] is None]
    return found[:_LISTED]


def warnings(*, was_cut: bool) -> dict[str, str]:
    """Reason → sentence, of what somebody should look at while the key server does its work."""
    if not was_cut:
        return {}
    return {"audit_cut": "The audit log was cut or replaced: see `covey audit verify`."}


def answer(
    faults: list[str], troubles: list[str], warnings: dict[str, str] | None = None
) -> dict[str, Any]:
    found = {"healthy": not faults, "faults": faults, "warnings": warnings or {}}
    return {**found, "troubles": troubles[:_LISTED]}
