"""The key tree: who can find a way to the Rekey SA, who can't, and what it costs.

Members here know nothing of trees: they do what RFC 9838 section 3.2.3 says, on Key IDs. Somebody
who was put out tries harder: with all keys that it ever had, alone and with others, on everything
that was ever sent.
"""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey_host.gcks.keytree import Draft, KeyTree, Node

DEGREES = st.integers(2, 5)


def counting():
    count = itertools.count(1)
    return lambda n: next(count).to_bytes(n)


@dataclass
class Plant:
    """A tree, its members by leaf, and all that was said on the air."""

    degree: int = 4
    tree: KeyTree = None
    paths: dict[int, list[Node]] = field(default_factory=dict)  # Working Key Paths
    gone: list[set[bytes]] = field(default_factory=list)  # all keys that one who is out had
    air: list = field(default_factory=list)  # (wraps, tops) of each message
    had: dict[int, set[bytes]] = field(default_factory=dict)  # all keys that a member ever had

    def __post_init__(self):
        self.tree = KeyTree(self.degree, 16)
        self.random = counting()
        self.store = {}

    def draft(self):
        return Draft(self.tree, self.random)

    def write(self, draft):
        self.store |= self.tree.pages(draft, "")
        self.tree.apply(draft)

    def admit(self, count=1):
        """Without backward secrecy: no message."""
        draft = self.draft()
        leaves = [draft.join() for _ in range(count)]
        self.write(draft)
        self.register(draft, leaves)
        return leaves

    def change(self, joins=0, leaves=()):
        """One message; → (leaves of those who came, the message)."""
        draft = self.draft()
        for leaf in leaves:
            draft.leave(leaf)
            self.gone.append(self.had.pop(leaf))
            del self.paths[leaf]
        came = [draft.join() for _ in range(joins)]
        wraps = draft.replace()
        message = wraps, draft.tops()
        self.write(draft)
        self.air.append(message)
        for leaf in self.paths:
            self.hear(leaf, *message)
        self.register(draft, came)
        return came, message

    def register(self, draft, leaves):
        for leaf in leaves:
            assert leaf not in self.paths, "two members with one personal key"
            self.paths[leaf] = draft.path(leaf)
            self.had[leaf] = {node.key for node in self.paths[leaf]}

    def hear(self, leaf, wraps, tops):
        """Section 3.2.3: from one of the tops to a key of the Working Key Path."""
        path = self.paths[leaf]
        known = {node.key_id: place for place, node in enumerate(path)}
        for top in tops:
            found = chain(top, wraps, known)
            if found is not None:
                new, end = found
                if new:
                    self.paths[leaf] = new + path[known[end] :]
                self.had[leaf] |= {node.key for node in new}
                return
        raise AssertionError(f"leaf {leaf} has lost the group")


def chain(top, wraps, known):
    """([new keys, top first], the Key ID in `known` that opens the last), or None."""
    if top.key_id in known:
        return [], top.key_id
    for wrap in wraps:
        if wrap.node.key_id == top.key_id:
            found = chain(wrap.under, wraps, known)
            if found is not None:
                return [top, *found[0]], found[1]
    return None


def opened_by(keys, air):
    """All keys that follow from these and everything that was ever sent."""
    keys = set(keys)
    while True:
        more = {w.node.key for wraps, _ in air for w in wraps if w.under.key in keys} - keys
        if not more:
            return keys
        keys |= more


def reaches(keys, message):
    return any(top.key in keys for top in message[1])


MOVES = st.lists(
    st.tuples(st.integers(0, 3), st.sets(st.integers(0, 30), max_size=3), st.booleans()),
    max_size=25,
)


@settings(deadline=None, max_examples=200)
@given(DEGREES, MOVES)
def test_who_stays_follows_and_who_is_out_stays_out(degree, moves):
    plant = Plant(degree)
    plant.admit(3)
    for joins, choices, secretly in moves:
        leaves = {sorted(plant.paths)[c % len(plant.paths)] for c in choices if plant.paths}
        if secretly and not leaves:
            plant.admit(joins)
            continue
        already = len(plant.air)
        came, message = plant.change(joins, leaves)
        for leaf in came:  # nothing that was sent before it came
            assert not any(
                reaches(opened_by(plant.had[leaf], plant.air), earlier)
                for earlier in plant.air[:already]
            )
        together = set().union(*plant.gone)
        assert not reaches(opened_by(together, plant.air), message)
        for leaf, path in plant.paths.items():
            assert path == plant.draft().path(leaf), "server and member see different paths"


@settings(deadline=None, max_examples=50)
@given(DEGREES, MOVES)
def test_a_tree_comes_back_from_the_store_as_it_was(degree, moves):
    plant = Plant(degree)
    plant.admit(2)
    for joins, choices, _ in moves:
        leaves = {sorted(plant.paths)[c % len(plant.paths)] for c in choices if plant.paths}
        plant.change(joins, leaves)
    again = KeyTree.loaded(plant.store)
    assert again.sizes == plant.tree.sizes and again.members == len(plant.paths)
    assert again.next_id == plant.tree.next_id and again.degree == degree
    for level, size in enumerate(again.sizes):
        for index in range(size):
            assert again.node(level, index) == plant.tree.node(level, index)
    free = [leaf for leaf in range(plant.tree.sizes[0]) if not plant.tree.node(0, leaf)]
    for tree in (again, plant.tree):
        for after in range(-1, tree.sizes[0] + 1):
            lowest = max(after + 1, tree.sizes[0])
            assert tree.free_leaf(after) == min([f for f in free if f > after], default=lowest)


def test_the_example_of_the_rfc():
    """Appendix A: eight members, degree two; F is excluded. IDs differ, shape doesn't."""
    plant = Plant(2)
    a, b, c, d, e, f, g, h = plant.admit(8)
    plant.tree.apply(settled(plant))  # the keys that growing left out
    for leaf in plant.paths:
        plant.paths[leaf] = plant.draft().path(leaf)
        plant.had[leaf] = {node.key for node in plant.paths[leaf]}
    was = {leaf: [node.key_id for node in path] for leaf, path in plant.paths.items()}
    assert [len(path) for path in was.values()] == [3] * 8
    _, (wraps, tops) = plant.change(leaves=[f])
    ids = [(wrap.node.key_id, wrap.under.key_id) for wrap in wraps]
    sixteen, fifteen = ids[0][0], ids[-1][0]
    one, six, eleven = was[a][0], was[g][1], was[e][2]
    assert ids == [(sixteen, eleven), (fifteen, sixteen), (fifteen, six)]
    assert [top.key_id for top in tops] == [one, fifteen]
    now = {leaf: [node.key_id for node in path] for leaf, path in plant.paths.items()}
    for leaf in (a, b, c, d):
        assert now[leaf] == was[leaf]
    assert now[e] == [fifteen, sixteen, eleven]
    assert now[g] == [fifteen, six, was[g][2]] and now[h] == [fifteen, six, was[h][2]]
    assert f not in now


def settled(plant):
    draft = plant.draft()
    draft.replace()
    return draft


@pytest.mark.parametrize("degree", [2, 3, 4, 8])
def test_a_leave_costs_what_its_path_does(degree):
    """degree keys a level, less one for the leaf that is gone."""
    plant = Plant(degree)
    height = 3
    plant.admit(degree**height)
    plant.tree.apply(settled(plant))
    draft = plant.draft()
    draft.leave(degree)
    assert len(draft.replace()) == degree * (height - 1) - 1
    assert len(draft.tops()) == degree


def test_a_thousand_leaves_cost_less_than_a_thousand_times_one():
    plant = Plant(4)
    plant.admit(4096)
    plant.tree.apply(settled(plant))
    draft = plant.draft()
    for leaf in range(1024):  # a quarter of the tree: all that lies under one top node
        draft.leave(leaf)
    assert draft.replace() == [] and len(draft.tops()) == 3


def test_freed_leaves_are_given_out_again_under_other_keys():
    plant = Plant(3)
    plant.admit(9)
    old = plant.tree.node(0, 4)
    plant.change(leaves=[4, 7])
    assert plant.tree.members == 7 and not plant.tree.node(0, 4)
    assert plant.admit(3) == [4, 7, 9]
    assert plant.tree.node(0, 4) not in (old, Node(0, b""))


def test_a_member_that_registers_again_has_another_personal_key():
    plant = Plant(4)
    plant.admit(5)
    draft = plant.draft()
    draft.renew(2)
    plant.write(draft)
    assert draft.path(2)[-1] != plant.paths[2][-1]
    plant.paths[2] = draft.path(2)
    plant.change(leaves=[3])  # its neighbour


def test_who_left_is_not_forgotten_by_mistake():
    plant = Plant(4)
    plant.admit(5)
    draft = plant.draft()
    draft.leave(1)
    with pytest.raises(ValueError, match="without replace"):
        plant.tree.pages(draft, "")


def test_a_draft_that_is_given_up_changes_nothing():
    plant = Plant(2)
    plant.admit(5)
    before = [[plant.tree.node(level, i) for i in range(8)] for level in range(4)]
    sizes, next_id = plant.tree.sizes, plant.tree.next_id
    draft = plant.draft()
    draft.leave(0)
    draft.join()
    draft.replace()
    assert [[plant.tree.node(level, i) for i in range(8)] for level in range(4)] == before
    assert (plant.tree.sizes, plant.tree.next_id) == (sizes, next_id)


def test_key_ids_are_never_zero():
    tree = KeyTree(4, 16, next_id=(1 << 32) - 1)
    draft = Draft(tree, counting())
    draft.join()
    draft.join()
    assert [draft.node(0, i).key_id for i in (0, 1)] == [(1 << 32) - 1, 1]


def test_keys_are_not_shown():
    tree = KeyTree(4, 16)
    draft = Draft(tree, lambda n: b"\xab" * n)
    draft.join()
    assert "xab" not in repr(draft.node(0, 0)) and "ab" * 4 not in repr(draft.node(0, 0))


def test_a_change_writes_the_pages_of_its_paths_only():
    plant = Plant(4)
    plant.admit(4**5)
    plant.tree.apply(settled(plant))
    draft = plant.draft()
    draft.leave(700)
    draft.replace()
    changes = plant.tree.pages(draft, "group/g/")
    assert len(changes) == 1 + 5 and "group/g/tree/0/10" in changes
    assert len(changes["group/g/tree/0/10"]) == 64 * 20
