"""The key tree of a group: LKH (RFC 9838 appendix A; RFC 2627 section 5.4).

                        Rekey SA                  its keys are wrapped under each top node's
             +--------------+-------------+
             1              2             3       level 1: the top
         +---+---+      +---+---+
         4   5   6      7   8   9                 level 0: leaves, each a member's personal key

A node is a key that all members below it have, and nobody else: a KWK, and a Key ID that is new
with each new key. Node i of a level lies under node i // degree of the next one. Where the leaves
no longer fit, a level is added at the top, so that numbers stay. There is no object for each
member (treelevel.py), and a node without members has Key ID zero.

A level that was added has no key over the nodes that were there: members below it would not have
it. Such a node, always the first of its level, is seen through until replace() gives it a key.

A tree never changes half-way. A Draft says what would be; whoever made it writes pages(draft),
and then calls apply(draft).

    group/NAME/tree               {"degree", "kwk_len", "next_id", "sizes": nodes of each level}
    group/NAME/tree/LEVEL/PAGE    see treelevel.py
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .ledger import Changes, decode, encode
from .treelevel import NO_NODE, PAGE, Level, Node, page_count

Random = Callable[[int], bytes]
Place = tuple[int, int]  # level, number in it

_IDS = 1 << 32


@dataclass(frozen=True)
class Wrap:
    """`node` is to be sent wrapped under `under`."""

    node: Node
    under: Node


@dataclass(frozen=True)
class Round:
    """What one message has to bring so that some can follow no more, and all others can."""

    wraps: list[Wrap]
    tops: list[Node]


class KeyTree:
    """degree: children of a node; kwk_len: octets of a key, as the group's KWA has it."""

    def __init__(self, degree: int, kwk_len: int, next_id: int = 1):
        self.degree = degree
        self.kwk_len = kwk_len
        self.next_id = next_id
        self._levels = [Level(kwk_len)]
        self._free = array("I")  # leaves that nobody has, in order

    @property
    def sizes(self) -> list[int]:
        return [len(level) for level in self._levels]

    @property
    def members(self) -> int:
        return len(self._levels[0]) - len(self._free)

    def node(self, level: int, index: int) -> Node:
        return self._levels[level].node(index) if level < len(self._levels) else NO_NODE

    def free_leaf(self, after: int = -1) -> int:
        """The lowest one behind `after` that nobody has."""
        at = bisect_right(self._free, after)
        return self._free[at] if at < len(self._free) else max(after + 1, len(self._levels[0]))

    # The store

    @classmethod
    def loaded(cls, found: dict[str, bytes]) -> "KeyTree":
        """As it was stored; the keys of `found` are without group/NAME/."""
        facts = decode(found["tree"])
        tree = cls(facts["degree"], facts["kwk_len"], facts["next_id"])
        tree._levels = []
        for level, size in enumerate(facts["sizes"]):
            pages = [found[f"tree/{level}/{page}"] for page in range(page_count(size))]
            tree._levels.append(Level.loaded(tree.kwk_len, pages))
        tree._free = tree._levels[0].nobodies()
        return tree

    def row(self, tail: str) -> bytes | None:
        """As it is stored now: "tree", or "tree/LEVEL/PAGE"; None where there is none."""
        if tail == "tree":
            return self._facts(self.next_id, self.sizes)
        level, page = map(int, tail.split("/")[1:])
        sizes = self.sizes
        if level >= len(sizes) or page >= page_count(sizes[level]):
            return None
        return self._levels[level].page(page, (), sizes[level])

    def take(self, found: dict[str, bytes | None]) -> bool:
        """Rows that another key server has written, as row() has them; None: it is gone. False:
        it is another tree now, and to be loaded as a whole."""
        if "tree" in found:
            if found["tree"] is None:
                return False
            facts = decode(found["tree"])
            if (facts["degree"], facts["kwk_len"]) != (self.degree, self.kwk_len):
                return False
            self.next_id = facts["next_id"]
            self._resize(facts["sizes"])
        for tail, page in found.items():
            if tail == "tree" or page is None:
                continue
            level, number = map(int, tail.split("/")[1:])
            if level < len(self._levels):
                self._levels[level].take(number, page)
            if level == 0:
                at = bisect_left(self._free, number * PAGE)
                end = bisect_left(self._free, (number + 1) * PAGE)
                self._free[at:end] = self._levels[0].nobodies_in(number)
        return True

    def _resize(self, sizes: list[int]) -> None:
        del self._levels[len(sizes) :]
        for level, size in enumerate(sizes):
            if level == len(self._levels):
                self._levels.append(Level(self.kwk_len))
            was = len(self._levels[level])
            self._levels[level].grow(max(size, was))
            self._levels[level].cut(size)
            if level == 0:
                del self._free[bisect_left(self._free, size) :]
                self._free.extend(range(was, size))

    def _facts(self, next_id: int, sizes: list[int]) -> bytes:
        facts = {"degree": self.degree, "kwk_len": self.kwk_len, "next_id": next_id}
        return encode(facts | {"sizes": sizes})

    def pages(self, draft: "Draft", prefix: str) -> Changes:
        """What is to be written before apply(draft). prefix: group/NAME/."""
        draft.check()
        changes: Changes = {f"{prefix}tree": self._facts(draft.next_id, draft.sizes)}
        nodes: dict[Place, list[tuple[int, Node]]] = {}  # by level and page
        for (level, index), node in draft.nodes.items():
            nodes.setdefault((level, index // PAGE), []).append((index, node))
        for (level, page), changed in nodes.items():
            was = self._levels[level] if level < len(self._levels) else Level(self.kwk_len)
            octets = was.page(page, changed, draft.sizes[level])
            changes[f"{prefix}tree/{level}/{page}"] = octets
        return changes

    def dropping(self, prefix: str) -> Changes:
        """The write that takes all of it away."""
        pages: Changes = {f"{prefix}tree": None}
        for level, size in enumerate(self.sizes):
            pages |= {f"{prefix}tree/{level}/{page}": None for page in range(page_count(size))}
        return pages

    def apply(self, draft: "Draft") -> None:
        """The draft is in the store: from now on it is true."""
        self.next_id = draft.next_id
        self._free.extend(range(len(self._levels[0]), draft.sizes[0]))
        for level, size in enumerate(draft.sizes):
            if level == len(self._levels):
                self._levels.append(Level(self.kwk_len))
            self._levels[level].grow(size)
        for (level, index), node in draft.nodes.items():
            if level == 0 and bool(node) == self._is_free(index):
                if node:
                    del self._free[bisect_left(self._free, index)]
                else:
                    insort(self._free, index)
            self._levels[level].put(index, node)

    def _is_free(self, leaf: int) -> bool:
        return not self._levels[0].node(leaf)


class Draft:
    """Joins and leaves, decided and not yet true; any number of them.

    random: octets for new keys.
    """

    def __init__(self, tree: KeyTree, random: Random):
        self.nodes: dict[Place, Node] = {}  # what is not as in the tree
        self.sizes = tree.sizes
        self.next_id = tree.next_id
        self._tree = tree
        self._random = random
        self._last = -1  # the leaf given out last
        self._changed: set[int] = set()  # leaves whose members came or went
        self._unknown: set[Place] = set()  # keys that nobody has yet who was here before
        self._lets_go = False  # whether somebody left, and still has keys

    def node(self, level: int, index: int) -> Node:
        found = self.nodes.get((level, index))
        return self._tree.node(level, index) if found is None else found

    def join(self) -> int:
        """A leaf for a new member, with a key; and what lies over it where nobody is below."""
        leaf = self._last = self._tree.free_leaf(self._last)
        while leaf >= self._tree.degree ** len(self.sizes):
            self.sizes.append(0)
        for level, index in self._above(leaf):
            self.sizes[level] = max(self.sizes[level], index + 1)
        for level, index in reversed(self._above(leaf)):
            if not self.node(level, index) and not (level and self._below(level, index)):
                self._make(level, index)
                self._unknown.add((level, index))
        self._changed.add(leaf)
        return leaf

    def renew(self, leaf: int) -> None:
        """Another personal key for a member that registers again."""
        self._make(0, leaf)
        self._unknown.add((0, leaf))

    def rejoin(self, leaf: int) -> None:
        """renew() for a member that is to know nothing of before, as with join()."""
        self.renew(leaf)
        self._changed.add(leaf)

    def cost(self) -> int:
        """How many wrapped keys replace() would come to, or a few more."""
        places = self._over(self._changed) | self._keyless()
        below = (place for over in places for place in self._below(*over))
        return sum(place not in self._unknown for place in below)

    @property
    def path_cost(self) -> int:
        """How many a leaf's path takes at most."""
        return self._tree.degree * len(self.sizes)

    def leave(self, leaf: int) -> None:
        """The leaf is free, and so is what lies over it where nobody is left below. To be
        followed by replace(): the keys further up are still known to who left."""
        self._lets_go = True
        self._changed.add(leaf)
        for level, index in self._above(leaf):
            if level and self._below(level, index):
                break
            self.nodes[level, index] = NO_NODE

    def renew_all(self) -> None:
        """Every key over a member's own goes: whoever has such keys, and no leaf in this tree,
        can follow no more. To be followed by replace()."""
        self._lets_go = True
        self._changed.update(leaf for leaf in range(self.sizes[0]) if self.node(0, leaf))

    def replace(self) -> list[Wrap]:
        """New keys for all that lies over those who joined or left in this draft.

        → what everybody else needs besides the keys that they have: each new key under each of
        the nodes below it, the lowest first. A path of n nodes costs degree * n of these.
        """
        self._lets_go = False
        places = self._over(self._changed)
        self._changed = set()
        wraps = []
        for level, index in sorted(places | self._keyless()):
            below = self._below(level, index)
            if below:
                self._make(level, index)
                new = self.node(level, index)
                known = [place for place in below if place not in self._unknown]
                wraps += [Wrap(new, self.node(*place)) for place in known]
                if not known:
                    self._unknown.add((level, index))
        return wraps

    def rounds(self, leaves: Iterable[int], most: int, limit: int) -> list[Round] | None:
        """These leave, in so many messages that none has more than `most` wrapped keys, if one
        leaf needs no more. Where there is no room besides, newcomers and what growing left out
        go first. None, and of no use from then on: it takes more than `limit`."""
        rounds: list[Round] = []
        some: set[int] = set()
        for leaf in sorted(leaves):
            if some and self._cost(some | {leaf}) > most:
                rounds.append(self._round(some))
                some = set()
            if not some and self.cost() and self._cost({leaf}) > most:
                rounds.append(self._round(some))
            if len(rounds) >= limit:
                return None
            some.add(leaf)
        return [*rounds, self._round(some)] if some else rounds

    def whole(self, leaves: Iterable[int]) -> Round:
        """These leave, however much it takes: portions.py cuts it."""
        return self._round(set(leaves))

    def settling(self, most: int) -> list[Round]:
        """A message of its own for what growing left out, where none so long has room for it
        beside one path."""
        is_much = self._keyless() and self.cost() + self.path_cost > most
        return [self._round(set())] if is_much else []

    def _round(self, leaves: set[int]) -> Round:
        for leaf in leaves:
            self.leave(leaf)
        wraps = self.replace()
        return Round(wraps, self.tops())

    def tops(self) -> list[Node]:
        """Under which the Rekey SA's keys are sent to all who were here and stay."""
        tops = self._below(len(self.sizes), 0, self.sizes[-1])
        return [self.node(*place) for place in tops if place not in self._unknown]

    def path(self, leaf: int) -> list[Node]:
        """The keys of a member, the top first, its own last."""
        nodes = [self.node(*place) for place in reversed(self._above(leaf))]
        return [node for node in nodes if node]

    def check(self) -> None:
        """ValueError where somebody who left would go on knowing keys."""
        if self._lets_go:
            raise ValueError("leave() without replace()")

    # Inside

    def _cost(self, leaves: set[int]) -> int:
        """Wrapped keys, or some more, that it takes if these leave."""
        return self._tree.degree * len(self._over(leaves | self._changed) | self._keyless())

    def _keyless(self) -> set[Place]:
        """What lies over others and has no key, since the tree has grown."""
        first = [(level, 0) for level in range(1, len(self.sizes))]
        return {place for place in first if not self.node(*place) and self._below(*place)}

    def _over(self, leaves: set[int]) -> set[Place]:
        """All that lies over these."""
        return {place for leaf in leaves for place in self._above(leaf)[1:]}

    def _above(self, leaf: int) -> list[Place]:
        """A leaf and the nodes over it, upwards."""
        degree = self._tree.degree
        return [(level, leaf // degree**level) for level in range(len(self.sizes))]

    def _below(self, level: int, index: int, count: int | None = None) -> list[Place]:
        """The places of the nearest keys under a node, or under the root, which has `count`."""
        first = index * self._tree.degree
        found = []
        for child in range(first, first + (count or self._tree.degree)):
            if self.node(level - 1, child):
                found.append((level - 1, child))
            elif child == 0 and level > 1:
                found += self._below(level - 1, 0)
        return found

    def _make(self, level: int, index: int) -> None:
        self.nodes[level, index] = Node(self.next_id, self._random(self._tree.kwk_len))
        self.next_id = self.next_id % (_IDS - 1) + 1
