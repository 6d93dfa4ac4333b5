"""One level of a key tree: nodes side by side, without an object for each.

in the store    pages of 64 nodes: their Key IDs (4 octets each), then their keys
"""

import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

PAGE = 64  # nodes
NOBODY = 0  # the Key ID of a node without members; on the wire it means the key of an SA
_ID_LEN = 4


@dataclass(frozen=True)
class Node:
    """A key of the tree; Key ID zero: there is none."""

    key_id: int
    key: bytes = field(repr=False)

    def __bool__(self):
        return self.key_id != NOBODY


NO_NODE = Node(NOBODY, b"")


class Level:
    """kwk_len: octets of a key."""

    def __init__(self, kwk_len: int):
        self._kwk_len = kwk_len
        self._ids = array("I")
        self._keys = bytearray()

    @classmethod
    def loaded(cls, kwk_len: int, pages: list[bytes]) -> "Level":
        level = cls(kwk_len)
        cuts = [len(page) // (_ID_LEN + kwk_len) * _ID_LEN for page in pages]
        both = list(zip(pages, cuts, strict=True))
        level._ids = _swapped(array("I", b"".join(page[:cut] for page, cut in both)))
        level._keys = bytearray().join(page[cut:] for page, cut in both)
        return level

    def __len__(self) -> int:
        return len(self._ids)

    def node(self, index: int) -> Node:
        """NO_NODE where there is none, behind the last too."""
        if index >= len(self._ids) or not self._ids[index]:
            return NO_NODE
        at = index * self._kwk_len
        return Node(self._ids[index], bytes(self._keys[at : at + self._kwk_len]))

    def nobodies(self) -> array:
        """The numbers of all nodes without members, in order."""
        found, index = array("I"), -1
        for _ in range(self._ids.count(NOBODY)):
            index = self._ids.index(NOBODY, index + 1)
            found.append(index)
        return found

    def grow(self, size: int) -> None:
        """It is to have so many nodes, as many as now or more."""
        more = size - len(self._ids)
        self._ids.extend([NOBODY] * more)
        self._keys += bytes(more * self._kwk_len)

    def cut(self, size: int) -> None:
        """It is to have so many nodes, as many as now or fewer."""
        del self._ids[size:]
        del self._keys[size * self._kwk_len :]

    def take(self, number: int, page: bytes) -> None:
        """A page as it is stored, in place of the one here, if the level has as many nodes."""
        count, first = len(page) // (_ID_LEN + self._kwk_len), number * PAGE
        count = min(count, len(self._ids) - first)
        if count > 0:
            part = Level.loaded(self._kwk_len, [page])
            self._ids[first : first + count] = part._ids[:count]
            at, length = first * self._kwk_len, count * self._kwk_len
            self._keys[at : at + length] = part._keys[:length]

    def nobodies_in(self, number: int) -> array:
        """nobodies() of one page."""
        first = number * PAGE
        last = min(first + PAGE, len(self._ids))
        return array("I", [i for i in range(first, last) if not self._ids[i]])

    def put(self, index: int, node: Node) -> None:
        self._ids[index] = node.key_id
        at = index * self._kwk_len
        self._keys[at : at + self._kwk_len] = node.key or bytes(self._kwk_len)

    def page(self, number: int, nodes: Iterable[tuple[int, Node]], size: int) -> bytes:
        """What a page is to be in the store, with other nodes {index: node} in it, and once the
        level has so many."""
        first = number * PAGE
        last = min(first + PAGE, size)
        part = Level(self._kwk_len)
        part._ids = self._ids[first:last]
        part._keys = self._keys[first * self._kwk_len : last * self._kwk_len]
        part.grow(last - first)
        for index, node in nodes:
            part.put(index - first, node)
        return _swapped(part._ids).tobytes() + part._keys


def page_count(size: int) -> int:
    """Pages of a level with so many nodes."""
    return -(-size // PAGE)


def _swapped(ids: array) -> array:
    """Between this machine's order of octets and the network's."""
    if sys.byteorder == "little":
        ids.byteswap()
    return ids
