"""Trees of SHA-256 (Merkle's) over packets: one signature for all, and each verifies alone.

    leaf        SHA-256(0 | label | SPI, number, IV's upper half | inner destination port | epoch |
                octets of the sender's identity, 2 | identity | payload)
    node        SHA-256(1 | left | right)
    statement   SHA-256(2 | label | levels | root), which is signed

The first octet keeps the three apart: no node passes for a leaf, nor a tree for a deeper one. A
place without a packet holds zeros, which are nobody's digest. A packet carries its path: the node
beside it on each level, from the leaf up; where none was beside it there is no level, and its leaf
is the root.
"""

from struct import pack

from covey.octets import u16
from covey.port import sha256

NODE = 32  # octets
_LABEL = b"Covey ECDSA"


def leaf_of(buf, n, epoch, identity):
    """Of a packet in clear, as it lies in rx or tx, with n octets of payload. epoch: 4 octets."""
    return leaf(buf[:12], u16(buf, 18), epoch, identity, memoryview(buf)[24 : 24 + n])


def leaf(head, port, epoch, identity, payload):
    """head: SPI, number, and the upper half of the IV with the Sender-ID, 12 octets."""
    digest = sha256(b"\0" + _LABEL)
    digest.update(head)
    digest.update(pack(">H", port))
    digest.update(epoch)
    digest.update(pack(">H", len(identity)))
    digest.update(identity)
    digest.update(payload)
    return digest.digest()


def statement(levels, root):
    """What is signed of a tree with so many levels above its leaves."""
    return sha256(b"\x02" + _LABEL + bytes((levels,)) + root).digest()


def root_of(found, position, path):
    """The root that a leaf, found, leads to along its path, a multiple of 32 octets."""
    for off in range(0, len(path), NODE):
        beside = bytes(path[off : off + NODE])
        found = _node(beside, found) if position & 1 else _node(found, beside)
        position >>= 1
    return found


class Tree:
    """Over so many leaves that are put in. Node i stands over 2 i and 2 i + 1; the root is 1."""

    def __init__(self, leaves):
        self.levels = 0
        while 1 << self.levels < leaves:
            self.levels += 1
        self._nodes = bytearray(NODE << self.levels + 1)

    def put(self, position, digest):
        at = (1 << self.levels) + position
        self._nodes[at * NODE : (at + 1) * NODE] = digest

    def grow(self):
        """Job: all nodes over the leaves → the root."""
        nodes = self._nodes
        for at in range((1 << self.levels) - 1, 0, -1):
            below = 2 * at * NODE
            nodes[at * NODE : (at + 1) * NODE] = _node(
                nodes[below : below + NODE], nodes[below + NODE : below + 2 * NODE]
            )
            yield
        return bytes(nodes[NODE : 2 * NODE])

    def path(self, position):
        """Of one leaf: 32 octets for each level."""
        at = (1 << self.levels) + position
        found = b""
        while at > 1:
            beside = (at ^ 1) * NODE
            found += self._nodes[beside : beside + NODE]
            at >>= 1
        return found


def _node(left, right):
    digest = sha256(b"\x01")
    digest.update(left)
    digest.update(right)
    return digest.digest()
