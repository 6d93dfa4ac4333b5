"""The key server (GCKS) of RFC 9838, sans-IO: octets and now_ms in, Outs back. See keyserver.py.

policy      covey.toml; policyvalues: its single values
authority   members, their pre-shared keys and roles; the site's rekey signing key
ledger      what the store is believed to hold, and the one way to change it; versions: of its rows
epoch       one generation of a group's keys, as it is stored
senders     which Sender-ID goes to whom, so that none is used twice under one key
download    GSA and KD payloads
rekeyer     GSA_REKEY messages, signed
repeats     those messages on their way
roster      who is in a group, and with which sender indexes
keytree     the key tree (LKH): who can find which keys
succession  which epoch comes next, and by which messages
group       one group over time: every change is in the store before anyone hears of it
proposals   which IKE proposal is taken, and whether SAg covers a group's policy
ikesa       one IKE SA: keys, message IDs, fragments, the cached answer; table: all of them; timers
sainit      IKE_SA_INIT; parts: the payloads of a message by their kinds; natd: NAT detection
redirects   where members are sent by a replica that is about to end
halfopen    whose IKE_SA_INIT is taken, and the flood; cookies: what an address proves
proof       AUTH, both ways
registrar   a member asks for a group
requests    what is to be asked of a member next; inband: GSA_INBAND_REKEY
ikerekey    new keys for an IKE SA, from either side
responder   IKE messages of members, from the first octet to the answer
disclosure  keys in clear, for who has to look into a capture
inbox       what has arrived and was not looked at yet
spis        SPIs that say which process has their IKE SA; lobby: what a worker does with messages
handover    an IKE SA that goes from a worker to the keeper; worker, workers: those processes
turns       whose write of a group was the last, where several key servers share a store
sharedgroup a group then; asks: what only its holder may do; sharedserver: a keyserver then
replica     which of them holds, and when another one takes over
company     what they say of themselves; sitepolicy: the policy that they share
among       the server of one of them: commands, policy, drains
keyserver   all of it together; server, sockets: around it, with clock and network
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Out:
    """One IKE message to send, without the non-ESP marker.

    To a member at `address` (as receive() was given it), or, where that is None, to `destination`:
    multicast address and port of the Rekey SA of `group`.
    """

    data: bytes
    address: Any = None
    group: str | None = None
    destination: tuple[str, int] | None = None
    marker: bool = False  # of destination: whether four zero octets go first (RFC 3948)
