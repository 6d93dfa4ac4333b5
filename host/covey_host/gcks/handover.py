"""An IKE SA whose peer has proven itself, as it goes from a worker to the keeper: octets.

    fields: length (4) | octets, one after the other, in the order of _Fields

The socket between the two is theirs alone. Nothing has been sealed with the keys yet: a worker's
answer ends what is half-open, and what goes on is answered by the keeper. So the keeper may begin
its count of IVs where it likes.
"""

import json
import struct
from functools import lru_cache
from typing import NamedTuple

from covey import ike

from . import proposals
from .epoch import Random
from .ikesa import IkeSA
from .parts import Payloads
from .sockets import Address

_HEADER_LEN = 28  # of an IKE message
_MOST_CHOSEN = 32  # few differ


class _Fields(NamedTuple):
    facts: bytes  # JSON, no secret in it
    address: bytes
    came_from: bytes  # the IKE_SA_INIT request, and
    origin: bytes  # its hash
    spi_i: bytes
    spi_r: bytes
    sk_d: bytes
    sk_ei: bytes
    sk_er: bytes
    sk_pi: bytes
    sk_pr: bytes
    chosen: bytes  # body of an SA payload
    first_hash: bytes  # of the request that goes along
    inner: bytes  # of that, in clear
    proof: bytes  # what our answer to it begins with: kind (1) | length (2) | body, each


def emit(sa: IkeSA, opened: ike.Opened, proof: Payloads) -> bytes:
    """opened: the peer's GSA_AUTH, which has proven it; proof: what proves us to it."""
    facts = {
        "identity": sa.identity,
        "proven_by": sa.proven_by,
        "chain": sa.chain,
        "heard_ms": sa.heard_ms,
        "used_ms": sa.used_ms,
        "message_id": opened.header.message_id,
        "first": opened.first,
        "flags": _flags(sa),
    }
    keys = sa.keys
    fields = _Fields(
        json.dumps(facts).encode(),
        sa.address.packed(),
        sa.origin[0].packed(),
        sa.origin[1],
        sa.spi_i,
        sa.spi_r,
        keys.sk_d,
        keys.sk_ei,
        keys.sk_er,
        keys.sk_pi,
        keys.sk_pr,
        ike.emit_sa([sa.chosen.answer]),
        sa.first_hash,
        opened.inner,
        b"".join(struct.pack(">BH", kind, len(body)) + body for kind, body in proof),
    )
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def parse(data: bytes, random: Random) -> tuple[IkeSA, ike.Opened]:
    """What emit() made → a half-open IKE SA with its proof, and the request to be answered."""
    found, off = [], 0
    while off < len(data):
        [length] = struct.unpack_from(">I", data, off)
        off += 4 + length
        found.append(bytes(data[off - length : off]))
    fields = _Fields(*found)
    facts = json.loads(fields.facts)
    keys = fields.sk_d, fields.sk_ei, fields.sk_er, fields.sk_pi, fields.sk_pr
    keys = ike.Keys(*map(bytearray, keys))
    chosen = _chosen(fields.chosen)
    sa = IkeSA(fields.spi_i, fields.spi_r, chosen, keys, random)
    sa.address = Address.unpacked(fields.address)
    sa.origin = Address.unpacked(fields.came_from), fields.origin
    sa.identity, sa.proven_by = facts["identity"], facts["proven_by"]
    sa.chain = tuple((id, until) for id, until in facts["chain"])
    sa.heard_ms, sa.used_ms = facts["heard_ms"], facts["used_ms"]
    sa.next_request = facts["message_id"]
    for name in _flags(sa):
        setattr(sa, name, facts["flags"][name])
    sa.first_hash = fields.first_hash
    sa.proof = _payloads(fields.proof)
    head = sa.spi_i, sa.spi_r, 0, ike.GSA_AUTH, ike.FLAG_I, sa.next_request, _HEADER_LEN
    opened = ike.Opened(
        ike.parse_header(ike.emit_ike_header(*head)),
        [],
        b"",
        facts["first"],
        bytearray(fields.inner),
    )
    return sa, opened


def _flags(sa: IkeSA) -> dict[str, bool]:
    """All that is true or false of it: what both ends can do, and how it came about."""
    return {name: value for name, value in vars(sa).items() if isinstance(value, bool)}


@lru_cache(_MOST_CHOSEN)
def _chosen(body: bytes) -> proposals.Chosen:
    return proposals.choose(ike.parse_sa(body))


def _payloads(data: bytes) -> Payloads:
    found, off = [], 0
    while off < len(data):
        kind, length = struct.unpack_from(">BH", data, off)
        off += 3 + length
        found.append((kind, data[off - length : off]))
    return found
