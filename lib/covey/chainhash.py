"""One step back along a TESLA chain, in place; and what a MAC's key is made of it (timing.py)."""

from struct import pack

from covey.port import const, later_kernels, micropython, sha256
from covey.timing import KEY_LEN, SALT_LEN

_AT = const(8)  # of the interval
_KEY = const(12)

_copy = later_kernels()[0]


class Step:
    """A place on a chain: the key of interval .at, in octets _KEY to the end of .octets."""

    def __init__(self):
        self.octets = bytearray(SALT_LEN + 4 + KEY_LEN)
        self.at = 0

    @micropython.native
    def stand(self, salt, at, buf, off):
        """At this interval of the chain with this salt. Its key stands at off."""
        self.at = at
        _copy(self.octets, 0, salt, 0, SALT_LEN)
        _copy(self.octets, _KEY, buf, off, KEY_LEN)

    @micropython.native
    def back(self):
        """To the interval before."""
        octets, at = self.octets, self.at
        octets[_AT] = at >> 24
        octets[_AT + 1] = at >> 16 & 255
        octets[_AT + 2] = at >> 8 & 255
        octets[_AT + 3] = at & 255
        _copy(octets, _KEY, sha256(octets).digest(), 0, KEY_LEN)
        self.at = at - 1

    @micropython.native
    def put(self, out, at):
        """The key, to there."""
        _copy(out, at, self.octets, _KEY, KEY_LEN)


def mac_key(salt, identity, key):
    """Of the MACs that this sender makes in the interval of this key: 16 octets."""
    work = sha256(b"Covey TESLA MAC")
    work.update(salt)
    work.update(pack(">H", len(identity)))
    work.update(identity)
    work.update(key)
    return work.digest()[:KEY_LEN]
