"""What a board does in steps, so that data go on meanwhile: each as a whole, and its longest step.

Costs of the whole are sums of steps. The heap is a member's at rest, tidied as a member does it,
in steps of their own: whatever else is collected would count.
"""

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import board
from .results import Table

TITLE = "public keys on the board's interpreter"

_HEAP = "512k"  # which the script fills
_MESSAGE = b"a rekey"  # the same key and message each time, so that counts are the same
ROWS = {  # by the labels of the script
    "x25519": "X25519",
    "prepare": "P-256: table of a key, once",
    "verify": "P-256: verification",
    "unwrap": "key unwrap",
}
_AIMS = (
    "Aims, of a board's instructions (rv32imc, docs/porting.md): 30 M for X25519 and for a"
    " verification, 200,000 for the longest step. x86 has no aim: its figures show what changes."
)


def run(table: Table, quick: bool, board=board) -> None:
    """board: what runs the scripts, a board on the desk (onboard.OnBoard) if not this machine."""
    costs = board.run("publickey", table, *arguments(), heap=_HEAP, counted=not quick)
    for label, what in ROWS.items():
        table.add(what, costs[label], costs.unit)
        table.add(f"longest step of {what}", costs.longest(label), costs.unit, what)
        if costs.steps(f"tidying {label}"):
            tidying = costs[f"tidying {label}"]
            table.add(f"tidying of the heap, {what}", tidying, costs.unit, what)
    per_kb = costs["collect"] / (costs.facts["heap"] / 1024)
    table.add("collection of a member's heap, for each KB of it", per_kb, costs.unit)
    table.note(_AIMS)
    table.add("P-256: a key read, in one step", costs["point"], costs.unit)


def arguments():
    """What the script is told behind its mode."""
    key = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = utils.decode_dss_signature(key.sign(_MESSAGE, algorithm))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_MESSAGE)
    wrapped = keywrap.aes_key_wrap_with_padding(bytes(16), bytes(range(36)))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return [octets.hex() for octets in (point, digest.finalize(), signature, bytes(16), wrapped)]
