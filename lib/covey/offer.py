"""What a member offers and asks for: proposals for its IKE SA, IDg, SAg, N(GROUP_SENDER).

AES-GCM-16 throughout, for data AES-GMAC too, and a key wrap that is never weaker than the cipher
beside it.
"""

import struct

from covey import der, ike
from covey.drops import DROP_IKE_PROPOSAL, FormatError

# Transforms that never change, as they are sent (RFC 7296 section 3.3.2) but for the header of
# four octets: type, 0, ID; then the key length in bits, or a DER AlgorithmIdentifier
GCM_256 = b"\1\0\0\x14\x80\x0e\1\0"
GCM_128 = b"\1\0\0\x14\x80\x0e\0\x80"
PRF = b"\2\0\0\5"  # PRF_HMAC_SHA2_256
CURVE25519 = b"\4\0\0\x1f"
KWA_256 = b"\x0d\0\0\3"
KWA_128 = b"\x0d\0\0\1"

# Of an IKE SA: (number of the proposal, bits of AES-GCM, KWA)
_OFFERED = (1, 256, ike.KW_5649_256), (2, 128, ike.KW_5649_128), (2, 128, ike.KW_5649_256)


def proposal(more, num, protocol, spi, *transforms):
    """Octets of a proposal, RFC 7296 section 3.3.1. more: 2 where another one follows."""
    out = b""
    left = len(transforms)
    for transform in transforms:
        left -= 1
        out += struct.pack(">BBH", 3 if left else 0, 0, 4 + len(transform)) + transform
    head = more, 0, 8 + len(spi) + len(out), num, protocol, len(spi), len(transforms)
    return struct.pack(">BBHBBBB", *head) + spi + out


def emit_sai(spi=b""):
    """Body of the SA payload of our IKE_SA_INIT; with our SPI: of the rekey of an IKE SA.

    Two proposals, since a responder may combine all transforms within one (RFC 7296 section 3.3).
    """
    all_of_it = proposal(2, 1, ike.IKE, spi, GCM_256, PRF, CURVE25519, KWA_256)
    return all_of_it + proposal(0, 2, ike.IKE, spi, GCM_128, PRF, CURVE25519, KWA_128, KWA_256)


def parse_sar(body, spi_len=0):
    """Body of the responder's SA payload → (key bits, KWA, its SPI), or FormatError.

    It must be one of our proposals with exactly one of the offered transforms of each type
    (RFC 7296 section 2.7); RFC 9838 section 4.5.4 needs the key wrap, so KWA is among them.
    spi_len: 8 in the rekey of an IKE SA, where each side tells its new SPI.
    """
    answers = ike.parse_sa(body)
    answer = answers[0]
    is_one = len(answers) == 1 and answer.protocol == ike.IKE and len(answer.transforms) == 4
    if is_one and len(answer.spi) == spi_len and any(answer.spi) == (spi_len > 0):
        for num, key_bits, kwa in _OFFERED:
            if answer.num == num and has_all(answer, key_bits, kwa):
                return key_bits, kwa, answer.spi
    raise FormatError(DROP_IKE_PROPOSAL)


def has_all(proposal, key_bits, kwa):
    """Whether an ike.Proposal holds what an IKE SA is made of."""
    wanted = [
        ike.Transform(ike.ENCR, ike.ENCR_AES_GCM_16, key_bits),
        ike.Transform(ike.PRF, ike.PRF_HMAC_SHA2_256),
        ike.Transform(ike.KE_METHOD, ike.CURVE25519),
        ike.Transform(ike.KWA, kwa),
    ]
    return all([transform in proposal.transforms for transform in wanted])


def ask_for(config, awake=False, sends=True):
    """The payloads that ask for the group: IDg, SAg, and of a sender for one Sender-ID.

    awake: say that we have not started anew since we got the keys that we have. sends: False, to
    receive only, whatever covey.json says.
    """
    # Digital signatures, by ecdsa-with-SHA256
    gcauth = b"\x0e\0\0\2\0\x12\0\x0c" + der.ECDSA_WITH_SHA256
    # One for each protocol, with the same number (RFC 9838 section 2.3.3)
    rekeys = GCM_256, GCM_128, KWA_256, KWA_128, gcauth
    data = (
        GCM_256,
        GCM_128,
        b"\1\0\0\x15\x80\x0e\1\0",  # AES-GMAC of 256 bits, and
        b"\1\0\0\x15\x80\x0e\0\x80",  # of 128
        b"\5\0\0\2",  # SN_32_UNSPECIFIED, and
        b"\5\0\0\0",  # SN_32_SEQUENTIAL
    )
    sag = proposal(2, 1, ike.GIKE_UPDATE, b"", *rekeys) + proposal(0, 1, ike.ESP, b"", *data)
    payloads = [group_of(config), (ike.SA, sag)]
    if config.sender and sends:
        payloads.append(ike.notify(ike.GROUP_SENDER, b"\0\0\0\1"))
    if awake:
        payloads.append(ike.notify(ike.COVEY_AWAKE))
    return payloads


def group_of(config):
    """The IDg payload."""
    return ike.IDg, ike.emit_id(ike.ID_KEY_ID, config.group)
