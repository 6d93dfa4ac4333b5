"""What a member offers and asks for: proposals for its IKE SA, IDg, SAg, N(GROUP_SENDER).

AES-GCM-16 throughout, for data AES-GMAC too, and a key wrap that is never weaker than the cipher
beside it. What never changes stands here as it is sent (RFC 7296 sections 3.3.1, 3.3.2): a line
for each proposal's header and for each transform.
"""

from covey import ike
from covey.drops import DROP_IKE_PROPOSAL, FormatError

# Body of the SA payload of our IKE_SA_INIT. Two proposals, since a responder may combine all
# transforms within one (RFC 7296 section 3.3).
SAI = (
    b"\2\0\0\x2c\1\1\0\4"  # 1: for IKE, without SPI, of four transforms
    b"\3\0\0\x0c\1\0\0\x14\x80\x0e\1\0"  # ENCR_AES_GCM_16, 256 bits
    b"\3\0\0\x08\2\0\0\5"  # PRF_HMAC_SHA2_256
    b"\3\0\0\x08\4\0\0\x1f"  # CURVE25519
    b"\0\0\0\x08\x0d\0\0\3"  # KW_5649_256
    b"\0\0\0\x34\2\1\0\5"  # 2
    b"\3\0\0\x0c\1\0\0\x14\x80\x0e\0\x80"  # ENCR_AES_GCM_16, 128 bits
    b"\3\0\0\x08\2\0\0\5"
    b"\3\0\0\x08\4\0\0\x1f"
    b"\3\0\0\x08\x0d\0\0\1"  # KW_5649_128
    b"\0\0\0\x08\x0d\0\0\3"  # KW_5649_256
)

# What it comes to: (number of the proposal, bits of AES-GCM, KWA)
_OFFERED = (1, 256, ike.KW_5649_256), (2, 128, ike.KW_5649_128), (2, 128, ike.KW_5649_256)

# SAg: one for each protocol, with the same number (RFC 9838 section 2.3.3)
_SAG = (
    b"\2\0\0\x48\1\6\0\5"  # for GIKE_UPDATE
    b"\3\0\0\x0c\1\0\0\x14\x80\x0e\1\0"  # ENCR_AES_GCM_16, 256 bits
    b"\3\0\0\x0c\1\0\0\x14\x80\x0e\0\x80"  # and 128
    b"\3\0\0\x08\x0d\0\0\3"  # KW_5649_256
    b"\3\0\0\x08\x0d\0\0\1"  # KW_5649_128
    b"\0\0\0\x18\x0e\0\0\2\0\x12\0\x0c"  # GCAUTH_DIGITAL_SIGNATURE by
    b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"  # der.ECDSA_WITH_SHA256
    b"\0\0\0\x48\1\3\0\6"  # for ESP
    b"\3\0\0\x0c\1\0\0\x14\x80\x0e\1\0"  # ENCR_AES_GCM_16, 256 bits
    b"\3\0\0\x0c\1\0\0\x14\x80\x0e\0\x80"  # and 128
    b"\3\0\0\x0c\1\0\0\x15\x80\x0e\1\0"  # ENCR_NULL_AUTH_AES_GMAC, 256 bits
    b"\3\0\0\x0c\1\0\0\x15\x80\x0e\0\x80"  # and 128
    b"\3\0\0\x08\5\0\0\2"  # SN_32_UNSPECIFIED
    b"\0\0\0\x08\5\0\0\0"  # SN_32_SEQUENTIAL
)


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
    wanted = {
        (ike.ENCR, ike.ENCR_AES_GCM_16, key_bits),
        (ike.PRF, ike.PRF_HMAC_SHA2_256, None),
        (ike.KE_METHOD, ike.CURVE25519, None),
        (ike.KWA, kwa, None),
    }
    for transform in proposal.transforms:
        if not transform.unknown_attribute:
            wanted.discard((transform.kind, transform.id, transform.key_bits))
    return not wanted


def ask_for(config, awake=False, sends=True):
    """The payloads that ask for the group: IDg, SAg, and of a sender for one Sender-ID.

    awake: say that we have not started anew since we got the keys that we have. sends: False, to
    receive only, whatever covey.json says.
    """
    payloads = [group_of(config), (ike.SA, _SAG)]
    if config.sender and sends:
        payloads.append(ike.notify(ike.GROUP_SENDER, b"\0\0\0\1"))
    if awake:
        payloads.append(ike.notify(ike.COVEY_AWAKE))
    return payloads


def group_of(config):
    """The IDg payload."""
    return ike.IDg, ike.emit_id(ike.ID_KEY_ID, config.group)
