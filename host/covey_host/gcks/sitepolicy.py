"""The policy of a site whose key server has replicas: a row of the store, no file, is in force.

    site/policy      covey.toml, as text, of the machine where it was taken last
    site/former/N    the same of before, while groups that are in it and not in the later one may
                     not have been told that they end

It is written with the term: by the first replica that ever led, and by `covey reload` or `covey
group add` on any machine. `listen` in it means nothing: each machine's own covey.toml says where
that one listens. What else differs there is not in force, and is told.
"""

from dataclasses import replace

from ..errors import Problem
from . import policy
from .ledger import Ledger
from .policy import GroupPolicy, SitePolicy
from .policyvalues import Listen

ROW = "site/policy"
_FORMER = "site/former/"
_NAME = "the site's policy"

DIFFERS = (
    "covey.toml here is not the policy in force: `covey reload` would put this file in force, and"
    " `covey policy` prints what is."
)


def read(ledger: Ledger) -> str | None:
    value = ledger.read(ROW)
    return None if value is None else value.decode()


def write(ledger: Ledger, text: str) -> None:
    """Fenced where the ledger's term is not the newest."""
    ledger.read(ROW)
    ledger.write({ROW: text.encode()})


def remember(ledger: Ledger, text: str) -> None:
    """Of the policy in force, before one without some of its groups is written."""
    count = len(ledger.scan(_FORMER))
    ledger.write({f"{_FORMER}{count:04}": text.encode()})


def ending(ledger: Ledger, now: SitePolicy) -> dict[str, GroupPolicy]:
    """Groups that are remembered and not in the policy of now, as they were last."""
    found: dict[str, GroupPolicy] = {}
    for _, text in sorted(ledger.scan(_FORMER).items()):
        found |= parse(text.decode(), ()).groups
    return {name: group for name, group in found.items() if name not in now.groups}


def forget_former(ledger: Ledger) -> None:
    ledger.write({_FORMER + key: None for key in ledger.scan(_FORMER)})


def forget(ledger: Ledger) -> None:
    """covey.toml counts, until a first holder puts one in force again."""
    if ledger.read(ROW) is not None:
        ledger.write({ROW: None})


def parse(text: str, listen: tuple[Listen, ...]) -> SitePolicy:
    """What it is on a machine that listens there. Problem: it is of a newer Covey."""
    try:
        return replace(policy.parse(text, _NAME), listen=listen)
    except Problem as problem:
        raise Problem(f"{problem.sentence} Is this Covey older than the others?") from None


def is_same(one: SitePolicy, other: SitePolicy) -> bool:
    """Whatever each listens on."""
    return replace(one, listen=()) == replace(other, listen=())
