r"""A Round in several messages, of which each member needs one.

    top --- X --- Y --- own key       somebody's way: SA_KEY under top, top under X, X under Y
              \-- Z --- own key       the next one's: SA_KEY under top, top under X, X under Z

What two ways share is in a message once, and again in each further one that has a way over it: so
few of its keys come twice that it costs hardly more than the whole. The order is that of the
tree from left to right, so that neighbours share a message.
"""

from collections.abc import Iterator

from .keytree import Round, Wrap
from .treelevel import Node

Way = tuple[Wrap, ...]  # the lowest first


def cut(whole: Round, room: int, wrap_len: int, top_len: int) -> list[Round]:
    """Portions of at most `room` octets, where one way takes no more. Together they have a way
    for all who have one in the whole, and none for others.

    wrap_len: octets of a wrapped key; top_len: of the Rekey SA's keys under one top node.
    """
    order = {wrap.under.key_id: place for place, wrap in enumerate(whole.wraps)}
    portions: list[Round] = []
    wraps: dict[int, Wrap] = {}  # of the portion that is being filled, by their place
    tops: dict[int, Node] = {}
    for top, way in _ways(whole):
        new = {order[wrap.under.key_id]: wrap for wrap in way}
        count = len(wraps) + sum(place not in wraps for place in new)
        length = count * wrap_len + (len(tops) + (top.key_id not in tops)) * top_len
        if tops and length > room:
            portions.append(_portion(wraps, tops))
            wraps, tops = {}, {}
        wraps |= new
        tops[top.key_id] = top
    return [*portions, _portion(wraps, tops)] if tops else portions


def _portion(wraps: dict[int, Wrap], tops: dict[int, Node]) -> Round:
    return Round([wraps[place] for place in sorted(wraps)], list(tops.values()))


def _ways(whole: Round) -> Iterator[tuple[Node, Way]]:
    """From each key that members have already, and that opens something, up to its top node."""
    below: dict[int, list[Wrap]] = {}
    for wrap in whole.wraps:
        below.setdefault(wrap.node.key_id, []).append(wrap)

    def ways(node: Node, above: Way) -> Iterator[Way]:
        if node.key_id not in below:  # it is not new
            yield above
        for wrap in below.get(node.key_id, ()):
            yield from ways(wrap.under, (wrap, *above))

    for top in whole.tops:
        for way in ways(top, ()):
            yield top, way
