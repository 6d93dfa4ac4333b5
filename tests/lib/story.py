"""tests/recorded/group_story.json for tests: octets of a group that lib/ had no part in making."""

import binascii
import json

from covey import gsa, kd
from covey.assignment import Assignment, Terms, build
from covey.drops import FormatError
from covey.job import finish

_HERE = __file__[: -len("lib/story.py")]


def _octets(value):
    if isinstance(value, dict):
        return {name: _octets(value[name]) for name in value}
    if isinstance(value, list):
        return [_octets(one) for one in value]
    return binascii.unhexlify(value)


with open(_HERE + "recorded/group_story.json") as _file:
    STORY = _octets(json.load(_file))

KWK = STORY["kwk"]
T1, T2, T3 = (STORY["spis"][i : i + 4] for i in (0, 4, 8))


def registered(policy=STORY["receiver"], sending=False, was=None):
    """The Assignment of a registration that brought policy's GSA and KD."""
    told = gsa.parse_gsa(policy["gsa"]), kd.parse_kd(policy["kd"])
    return finish(built(*told, bytearray(KWK), was or Terms(), True, sending))


def built(policy, keys, kwk, was, registering, sending, is_rekey=None):
    """Job: the Assignment that these make; what is not registering is a GSA_REKEY, unless said."""
    made = Assignment(policy, keys, kwk)
    made.registering, made.sends = registering, sending
    made.is_rekey = not registering if is_rekey is None else is_rekey
    yield from build(made, was, 16)
    return made


def worked(rekey, was, sending=False):
    """Job: the Assignment that the message in work makes, as Rekey.work() has it."""
    made = Assignment()
    made.is_rekey, made.sends = True, sending
    yield from rekey.work(made, was, 16)
    return made


def install(group, made, registering, now_ms):
    """Carry out an Assignment at once: whether it excludes us."""
    try:
        made.registering = registering
        finish(group.changes(made, now_ms))
        return made.excludes
    finally:
        group.give_up(made)


def begun(rekey, data):
    """What Rekey.begin() says of a datagram, at once."""
    return finish(rekey.begin(data))


def forged_anew(data, context, number):
    """A whole GSA_REKEY as somebody with the group's keys makes it of another one: well sealed,
    badly signed, and unlike those of other numbers.
    """
    made = bytearray(data)
    text_len = len(made) - 32 - 8 - 16  # behind header and SK, IV; before the ICV
    assert finish(context.open_job(made, 0, 32, text_len))
    made[32:40] = b"\xe0\0\0\0" + bytes([number >> shift & 255 for shift in (24, 16, 8, 0)])
    made[-18] ^= 1  # the end of the signature; pad length and ICV follow
    context.seal(made, 0, 32, text_len)
    return bytes(made)


def why_not(work, *args):
    """The reason of the FormatError that work(*args) raises, None if it raises none."""
    try:
        work(*args)
    except FormatError as error:
        return error.reason
    return None
