"""Who makes and checks the proofs of a group whose packets show who sent them: by its policy.

Loaded by the first such group; what its proofs are made of, behind that (sources.py).
"""

from covey import ike, sources
from covey.drops import DROP_POLICY, FormatError


def build_job(made, was):
    """Job: what an Assignment that is otherwise whole has of proofs. was: the Terms in force."""
    terms, policy = made.terms, made.policy
    kwk = made.kwk if made.registering else None
    esp = [p for p in policy.policies if p.protocol == ike.ESP]
    build = _builder(sources.mode_of(esp[0].attributes))
    yield
    found = yield from build(esp, policy.group_wide, made.keys.member, kwk, was, terms)
    terms.sources, each = found
    for i in range(len(each)):
        made.data_sas[i].auth = each[i]  # which wipes it, from now on
    for sa in made.data_sas:
        sources.enlist(sa, terms.sources.rows)


def _builder(mode):
    """What makes the proofs of a mode."""
    try:
        if mode == sources.MACS:
            from covey import proofs

            return proofs.build_job
        if mode == sources.TESLA:
            from covey import timed

            return timed.build_job
        if mode == sources.SIGNED:
            from covey import vouched

            return vouched.build_job
    except ImportError:  # an image for a group without this one
        pass
    raise FormatError(DROP_POLICY)
