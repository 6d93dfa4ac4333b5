"""Trees over packets: what leads to the root, and what doesn't."""

from covey.job import finish
from covey.merkle import Tree, leaf, leaf_of, root_of, statement
from covey.port import sha256

HEAD = b"abcd\0\0\0\x07\x10\x09\0\0"
EPOCH = bytearray(b"\0\0\0\x05")


def grown(count):
    tree = Tree(count)
    leaves = [sha256(bytes([n])).digest() for n in range(count)]
    for n in range(count):
        tree.put(n, leaves[n])
    return tree, leaves, finish(tree.grow())


def test_octets():
    """Written out once more, by hand."""
    found = leaf(HEAD, 2222, EPOCH, b"press-7", b"speed=1500")
    plain = b"\0Covey ECDSA" + HEAD + b"\x08\xae" + EPOCH + b"\0\x07press-7" + b"speed=1500"
    assert found == sha256(plain).digest()
    buf = bytearray(HEAD + bytes(4) + b"\1\2\x08\xae\0\x12\0\0" + b"speed=1500" + b"trailer")
    assert leaf_of(buf, 10, EPOCH, b"press-7") == found
    assert statement(3, found) == sha256(b"\x02Covey ECDSA\x03" + found).digest()
    tree, (a, b, c), root = grown(3)
    left = sha256(b"\x01" + a + b).digest()
    right = sha256(b"\x01" + c + bytes(32)).digest()
    assert root == sha256(b"\x01" + left + right).digest()
    assert tree.path(0) == b + right and tree.path(2) == bytes(32) + left


def test_every_leaf_leads_to_the_root():
    for count, levels in ((1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (33, 6), (64, 6)):
        tree, leaves, root = grown(count)
        assert tree.levels == levels
        for n in range(count):
            path = tree.path(n)
            assert len(path) == 32 * levels
            assert root_of(leaves[n], n, path) == root
            assert root_of(leaves[n], n, memoryview(path)) == root


def test_nothing_else_does():
    tree, leaves, root = grown(6)
    for n in range(6):
        path = tree.path(n)
        for other in range(8):
            if other != n:
                assert root_of(leaves[n], other, path) != root
        assert root_of(leaves[n - 1], n, path) != root
        assert root_of(leaves[n], n, path[32:]) != root
        for bit in (0, 300, 767):
            bad = bytearray(path)
            bad[bit >> 3] ^= 1 << (bit & 7)
            assert root_of(leaves[n], n, bad) != root
    assert len({statement(levels, root) for levels in range(7)}) == 7


def test_all_of_a_packet_is_bound():
    same = HEAD, 2222, EPOCH, b"press-7", b"speed=1500"
    seen = {leaf(*same)}
    for at, other in (
        (0, b"abce" + HEAD[4:]),
        (0, HEAD[:7] + b"\x08" + HEAD[8:]),
        (0, HEAD[:9] + b"\x0a" + HEAD[10:]),
        (1, 2223),
        (2, b"\0\0\0\x06"),
        (3, b"press-8"),
        (3, b"press-7s"),
        (4, b"speed=9000"),
        (4, b""),
    ):
        changed = list(same)
        changed[at] = other
        seen.add(leaf(*changed))
    seen.add(leaf(HEAD, 2222, EPOCH, b"press-7s", b"peed=1500"))
    assert len(seen) == 11
