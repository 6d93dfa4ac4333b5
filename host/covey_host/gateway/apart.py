"""Whether two cards are two wires, by what the system tells of all its cards. Without I/O.

A card that has no plug of its own sends by others: a VLAN's by the one below it, a bridge by its
ports. What is opened leaves by all of them.
"""

from collections.abc import Mapping

from ..errors import MISUSE, Problem
from .netlink import Card

# None: a plug of its own. A tunnel's card is none of these: who knows by which wire it sends.
_KNOWN = {None, "vlan", "bond", "team", "bridge", "veth", "dsa"}
_PLUGS = {None, "dsa"}  # of a switch, too: the card that it names is inside the machine
_MOST_TAGS = 8  # the kernel stacks no more

Place = tuple[int | None, int]  # namespace, None for this one; number of the card there
Ways = dict[tuple[Place, tuple[int, ...]], Card | None]


def check(plant: str, protected: str, cards: Mapping[Place, Card]) -> None:
    """Problem where what leaves for the plant may leave by a wire of the protected network.
    KeyError: a card isn't there.
    """
    ways = {name: _ways(name, cards) for name in (plant, protected)}
    for card in ways[plant].values():
        if card is not None and card.kind not in _KNOWN:
            raise Problem(
                f"{plant} sends by {card.name}, which is of the kind {card.kind}: so nobody knows"
                " where that comes out. The plant needs a plug of its own, or a VLAN, a bond or a"
                " bridge of such.",
                MISUSE,
            )
    for place, tags in ways[plant]:
        for other, its_tags in ways[protected]:
            if place == other and (_ends(tags, its_tags) or _ends(its_tags, tags)):
                card = ways[plant][place, tags]
                shared = "one card" if card is None else f"one card, {card.name}"
                raise Problem(
                    f"{plant} and {protected} send by {shared}: what comes out of a group would"
                    " be on the protected network, in clear. Give the plant a plug of its own, or"
                    " each side a VLAN of its own.",
                    MISUSE,
                )


def _ends(tags: tuple[int, ...], with_tags: tuple[int, ...]) -> bool:
    """The last tag is the first on the wire."""
    return tags[len(tags) - len(with_tags) :] == with_tags and len(tags) >= len(with_tags)


def _ways(name: str, cards: Mapping[Place, Card]) -> Ways:
    """{(place, VLAN tags that a frame has got by then): card} of each by which a card sends; no
    card where it is of another namespace.
    """
    begin = next((place for place, card in cards.items() if card.name == name), None)
    if begin is None:
        raise KeyError(name)
    found: Ways = {}
    waiting = [(begin, ())]
    while waiting:
        place, tags = waiting.pop()
        if (place, tags) in found or len(tags) > _MOST_TAGS:
            continue
        card = found[place, tags] = cards.get(place)
        if card is None:
            continue
        near = [each for each, port in cards.items() if port.master == place[1]]
        if card.master is not None:
            near.append((None, card.master))
        waiting += [(each, tags) for each in near]
        if card.link is not None and card.kind not in _PLUGS:
            waiting.append((card.link, tags if card.tag is None else (*tags, card.tag)))
    return found
