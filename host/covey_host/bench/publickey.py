"""What a board does in steps, so that data go on meanwhile: each as a whole, and its longest step.

Costs of the whole are sums of steps; collections of the heap lie between steps, not in them.
"""

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import board
from .results import Table

TITLE = "public keys on the board's interpreter"

_MESSAGE = b"a rekey"  # the same key and message each time, so that counts are the same
_ROWS = {
    "x25519": "X25519",
    "prepare": "P-256: table of a key, once",
    "verify": "P-256: verification",
    "unwrap": "key unwrap",
}


def run(table: Table, quick: bool, board=board) -> None:
    """board: what runs the scripts, a board on the desk (onboard.OnBoard) if not this machine."""
    costs = board.run("publickey", table, *_arguments(), counted=not quick)
    for label, what in _ROWS.items():
        table.add(what, costs[label], costs.unit)
        table.add(f"longest step of {what}", costs.longest(label), costs.unit, what)
    table.add("P-256: a key read, in one step", costs["point"], costs.unit)


def _arguments():
    key = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = utils.decode_dss_signature(key.sign(_MESSAGE, algorithm))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_MESSAGE)
    wrapped = keywrap.aes_key_wrap_with_padding(bytes(16), bytes(range(36)))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return [octets.hex() for octets in (point, digest.finalize(), signature, bytes(16), wrapped)]
