"""Several messages over one Rekey SA that bring the same new one: each member has a way in one.

Each says by COVEY_PORTIONS how many are to come: so no way is no exclusion, and at the last one a
reason to ask. Loaded by the first such message, where many are put out at once.
"""

from covey.drops import DROP_REKEY_PORTION, need


def check(sa_policy, left, keys, path, rekey, chain):
    """Job: FormatError where another message has our way, or had it: before the signature of this
    one, as there are many.

    gsa.SAPolicy of its Rekey SA, how many are to come, kd.KD, Working Key Path, rekey.Rekey;
    chain: keypath.py's way to look for one.
    """
    found = rekey.find(sa_policy.spi) is not None
    if not found and left:
        bags = [bag.keys for bag in keys.bags if bag.spi == sa_policy.spi]
        wrap_keys = keys.member.wrap_keys if keys.member else ()
        found = not (yield from chain(sum(bags, []), wrap_keys, path))
    need(not found, DROP_REKEY_PORTION)
