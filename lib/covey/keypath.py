"""The Working Key Path: a way to the Rekey SA's keys where a key tree hides them from others.

    SA_KEY is wrapped under X, X under Y, Y under a key that we have: from now on we have X and Y

RFC 9838 section 3.2.3. A path is a tuple of (Key ID, key as a bytearray): that next to the SA
first, our personal key last. Nothing here knows the shape of a tree. Loaded by the first group
that has one.

Where many are put out, several messages over one Rekey SA bring the same new one, and each member
finds a way in one of them: see portions.py.
"""

from covey import keywrap
from covey.drops import DROP_KEY_WRAP, FormatError
from covey.gsa import COVEY_PORTIONS
from covey.kd import ZERO_ID
from covey.octets import wipe
from covey.port import const

_AT_ONCE = const(16)  # attributes looked at in one step


def left_of(policy):
    """How many messages come behind the one with this gsa.SAPolicy; None: it is the only one."""
    return dict(policy.attributes).get(COVEY_PORTIONS)


def check_portion(policy, keys, path, rekey):
    """Job: FormatError where a message is one of several, and is not the one for us: see
    portions.py, which the first such message loads. gsa.GSA, kd.KD, Working Key Path, rekey.Rekey.
    """
    for sa_policy in policy.policies:
        left = left_of(sa_policy)
        if left is not None:
            yield
            from covey.portions import check

            yield
            yield from check(sa_policy, left, keys, path, rekey, _chain)


def unwrap_job(sa_keys, wrap_keys, path, kwk, kwk_len, key_len):
    """Job: (the SA's keying material, the path from now on), or None: there is no way for us.

    sa_keys, wrap_keys: kd.WrappedKey of one message. path: what we have, of which keys are not
    copied. kwk: GSK_w; kwk_len: octets of a KWK; key_len: of the keying material. FormatError
    where there would be a way, but what it leads over is broken. The caller wipes what is new.
    """
    sa_keys, wrap_keys = list(sa_keys), list(wrap_keys)
    was_broken = False
    while True:
        chain = yield from _chain(sa_keys, wrap_keys, path)
        if chain is None:
            if was_broken:
                raise FormatError(DROP_KEY_WRAP)
            return None
        yield
        keys = yield from _unwrapped(chain, path, kwk, kwk_len, key_len)
        last = chain[len(keys) - 1]  # the latest that could be looked into
        if keys[-1] is not None:
            return keys[-1], _renewed(path, chain, keys)
        was_broken = True
        for some in (sa_keys, wrap_keys):
            if last in some:
                some.remove(last)


def _chain(sa_keys, wrap_keys, path):
    """Job: what is to be unwrapped one by the other, an SA_KEY last; None: we can not."""
    by = {ZERO_ID: None}  # Key ID → by which WRAP_KEY we can have it; None: we have it
    for key_id, _ in path:
        by[key_id] = None
    looked = was = 0
    while len(by) > was:
        was = len(by)
        for key in wrap_keys:
            looked += 1
            if looked % _AT_ONCE == 0:
                yield
            if key.key_id not in by and key.kwk_id in by:
                by[key.key_id] = key
    for key in sa_keys:
        chain = [key]
        while by.get(chain[0].kwk_id):
            chain.insert(0, by[chain[0].kwk_id])
        if chain[0].kwk_id in by:
            return chain
    return None


def _unwrapped(chain, path, kwk, kwk_len, key_len):
    """Job: the keys of a chain, in order, up to the first that is broken: that is None."""
    keys = []
    key = dict(path).get(chain[0].kwk_id, kwk)
    is_whole = False
    try:
        for wrapped in chain:
            length = key_len if wrapped is chain[-1] else kwk_len
            key = yield from keywrap.unwrap_job(key, wrapped.data, length)
            keys.append(key)
            if key is None:
                break
        is_whole = key is not None
        return keys
    finally:
        if not is_whole:
            for key in keys:
                wipe(key or b"")


def _renewed(path, chain, keys):
    """The path from now on: new keys in place of what lay before the key that opened them."""
    new = range(len(chain) - 1)  # without the SA's keying material
    while new and path and path[0][0] != chain[0].kwk_id:
        path = path[1:]
    for i in new:
        path = ((chain[i].key_id, keys[i]),) + path
    return path
