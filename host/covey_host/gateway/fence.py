"""What stands between the two cards, whatever becomes of the gateway: rules of the kernel's packet
filter, which stay when the program that made them ends.

A kernel routes no multicast by itself; but somebody may make the machine a bridge or a multicast
router, and UDP is routed as it comes. So of IPv4, what no socket of this machine has sent

    leaves by either card         not to many: a group's address, or a frame for all
    enters the plant              not by UDP at all, but for the pairs that the plan names

A consumer often doesn't care whether a frame was sent to a group or to itself, hence the second.
IGMP passes: the kernel's own has no socket. A card upon another (VLAN) has the first rule there as
well, since a bridge may have that one.

    covey_PLANT            the table, in family netdev: `nft list table netdev covey_eth1`
      out_CARD             a chain at the egress of each card: no ingress, or we would not hear
"""

import errno
from ipaddress import IPv4Network

from ..errors import FAILURE, Problem
from . import netlink, nftables
from .nftables import ACCEPT, DROP, LINK, NETWORK, create, delete, holds, is_protocol, verdict
from .plan import Pair, Plan

_IPV4, _TAGS = b"\x08\0", (b"\x81\0", b"\x88\xa8")  # EtherTypes: of IPv4, and of a VLAN's tag
_TAG_LEN = 4
_IGMP, _UDP = b"\x02", b"\x11"
_FOR_ALL = LINK, 0, b"\x01", b"\x01"  # an Ethernet frame to a group, or to everybody
_MULTICAST = b"\xe0", b"\xf0"  # 224.0.0.0/4
_WHO, _FROM, _TO = 9, 12, 16  # offsets into an IPv4 header: protocol, source, destination
_HINTS = {
    errno.EPERM: "run it as root or with CAP_NET_ADMIN",
    errno.EAFNOSUPPORT: "it needs a kernel with nf_tables, 5.16 or later",
    errno.EPROTONOSUPPORT: "it needs a kernel with nf_tables, 5.16 or later",
    errno.EOPNOTSUPP: "it needs a kernel with nf_tables, 5.16 or later",
}


class Fence:
    """Of one plan. Problem where it can't be made: then nothing may be joined."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self.table = "covey_" + _plain(plan.plant)
        self._door: nftables.Door | None = None
        self._ear = None

    def check(self) -> None:
        """Whether the kernel would take it. It is as before then."""
        self._change(self._messages(), only_check=True)

    def put(self) -> None:
        """As the plan has it, in place of what there was: there is no moment without."""
        self._change(self._messages())

    def take_away(self) -> None:
        new, old = nftables.NEW_TABLE, nftables.DEL_TABLE
        name = nftables.table(self.table)
        self._change([create(new, name), delete(old, name)])

    def listen(self):
        """A socket that has something to read when anybody has changed a filter."""
        try:
            self._ear = nftables.listener()
        except OSError as error:
            raise _problem(error) from None
        return self._ear

    def mend(self) -> bool:
        """After something came: put it anew if it was ours that was changed. Whether it was."""
        changed = nftables.tables_changed(self._ear, self._door.number)
        if not changed & {self.table, None}:
            return False
        self.put()
        return True

    def close(self) -> None:
        """What stands, stands."""
        for each in (self._door, self._ear):
            if each is not None:
                each.close()
        self._door = self._ear = None

    def _change(self, messages, only_check=False) -> None:
        try:
            if self._door is None:
                self._door = nftables.Door()
            self._door.change(messages, only_check=only_check)
        except OSError as error:
            raise _problem(error) from None

    def _messages(self) -> list[tuple[int, int, bytes]]:
        plan = self._plan
        name = nftables.table(self.table)
        made = [create(nftables.NEW_TABLE, name), delete(nftables.DEL_TABLE, name)]
        made.append(create(nftables.NEW_TABLE, name))
        try:
            below = [
                lower for card in (plan.plant, plan.protected) for lower in netlink.below(card)
            ]
        except OSError as error:
            raise _problem(error) from None
        for card in dict.fromkeys((plan.plant, plan.protected, *below)):
            chain = "out_" + _plain(card)
            body = nftables.egress_chain(self.table, chain, card)
            made.append(create(nftables.NEW_CHAIN, body))
            for statements in rules(card == plan.plant, plan.pairs):
                body = nftables.rule(self.table, chain, *statements)
                made.append(create(nftables.NEW_RULE, body))
        return made


def rules(into_plant: bool, pairs: tuple[Pair, ...]) -> list[tuple[bytes, ...]]:
    """What leaves by a card, in order: the first that holds decides, and none lets it pass."""
    made = [(nftables.has_socket(), verdict(ACCEPT))]
    for head, off in (((is_protocol(_IPV4),), 0), *((_tagged(tag), _TAG_LEN) for tag in _TAGS)):
        made.append((*head, holds(NETWORK, off + _WHO, _IGMP), verdict(ACCEPT)))
        made.append((*head, holds(*_FOR_ALL), verdict(DROP)))
        made.append((*head, holds(NETWORK, off + _TO, *_MULTICAST), verdict(DROP)))
        if into_plant:
            udp = (*head, holds(NETWORK, off + _WHO, _UDP))
            made += [(*udp, *_is_of(pair, off), verdict(ACCEPT)) for pair in pairs]
            made.append((*udp, verdict(DROP)))
    for tag in _TAGS:  # a tag behind a tag: who knows what follows
        for inner in _TAGS:
            deep = is_protocol(tag), holds(NETWORK, 2, inner)
            made.append((*deep, holds(*_FOR_ALL), verdict(DROP)))
    return made


def _tagged(tag: bytes) -> tuple[bytes, ...]:
    """IPv4 behind a tag that is in the frame still: the network header begins with the tag."""
    return is_protocol(tag), holds(NETWORK, 2, _IPV4)


def _is_of(pair: Pair, off: int) -> tuple[bytes, ...]:
    return _is_in(pair.source, off + _FROM), _is_in(pair.to, off + _TO)


def _is_in(network: IPv4Network, off: int) -> bytes:
    return holds(NETWORK, off, network.network_address.packed, network.netmask.packed)


def _plain(card: str) -> str:
    """A card's name as nft takes it in a command."""
    return "".join(c if c.isascii() and c.isalnum() or c in "_." else f"/{ord(c):x}" for c in card)


def _problem(error: OSError) -> Problem:
    why = _HINTS.get(error.errno or 0, error.strerror or str(error))
    return Problem(
        "The fence between the two cards can't be made in the kernel's packet filter, and without"
        f" it nothing is joined: {why}.",
        FAILURE,
    )
