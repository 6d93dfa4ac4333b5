"""What a member offers and asks for: proposals for its IKE SA, IDg, SAg, N(GROUP_SENDER).

AES-GCM-16 throughout, for data AES-GMAC too, and a key wrap that is never weaker than the cipher
beside it.
"""

import struct

from covey import der, ike
from covey.drops import DROP_IKE_PROPOSAL, FormatError
from covey.payloads import notify

IKE_TYPES = [ike.ENCR, ike.PRF, ike.KE_METHOD, ike.KWA]  # of one IKE proposal, in order


def _encr(key_bits, cipher=ike.ENCR_AES_GCM_16):
    return ike.Transform(ike.ENCR, cipher, key_bits)


def ike_proposal(num, spi, key_bits, *kwas):
    transforms = [
        _encr(key_bits),
        ike.Transform(ike.PRF, ike.PRF_HMAC_SHA2_256),
        ike.Transform(ike.KE_METHOD, ike.CURVE25519),
    ]
    transforms += [ike.Transform(ike.KWA, kwa) for kwa in kwas]
    return ike.Proposal(num, ike.IKE, spi, transforms)


def _ike_proposals(spi=b""):
    """Two, since a responder may combine all transforms within one (RFC 7296 section 3.3)."""
    return [
        ike_proposal(1, spi, 256, ike.KW_5649_256),
        ike_proposal(2, spi, 128, ike.KW_5649_128, ike.KW_5649_256),
    ]


def emit_sai(spi=b""):
    """Body of the SA payload of our IKE_SA_INIT; with our SPI: of the rekey of an IKE SA."""
    return ike.emit_sa(_ike_proposals(spi))


def parse_sar(body, spi_len=0):
    """Body of the responder's SA payload → (key bits, KWA, its SPI), or FormatError.

    It must be one of our proposals with exactly one of the offered transforms of each type
    (RFC 7296 section 2.7); RFC 9838 section 4.5.4 needs the key wrap, so KWA is among them.
    spi_len: 8 in the rekey of an IKE SA, where each side tells its new SPI.
    """
    answers = ike.parse_sa(body)
    for offered in _ike_proposals():
        if len(answers) == 1 and _is_choice(answers[0], offered, spi_len):
            answer = answers[0]
            return answer.of_kind(ike.ENCR)[0].key_bits, answer.of_kind(ike.KWA)[0].id, answer.spi
    raise FormatError(DROP_IKE_PROPOSAL)


def _is_choice(answer, offered, spi_len):
    if (answer.num, answer.protocol, len(answer.spi)) != (offered.num, ike.IKE, spi_len):
        return False
    if spi_len and not any(answer.spi):
        return False
    if sorted([t.kind for t in answer.transforms]) != IKE_TYPES:
        return False
    return all([t in offered.transforms for t in answer.transforms])


def ask_for(config, awake=False, sends=True):
    """The payloads that ask for the group: IDg, SAg, and of a sender for one Sender-ID.

    awake: say that we have not started anew since we got the keys that we have. sends: False, to
    receive only, whatever covey.json says.
    """
    payloads = [group_of(config), (ike.SA, _emit_sag())]
    if config.sender and sends:
        payloads.append(notify(ike.GROUP_SENDER, struct.pack(">I", 1)))
    if awake:
        payloads.append(notify(ike.COVEY_AWAKE))
    return payloads


def group_of(config):
    """The IDg payload."""
    return ike.IDg, ike.emit_id(ike.ID_KEY_ID, config.group)


def _emit_sag():
    """Body of SAg: one proposal a protocol, with the same number (RFC 9838 section 2.3.3)."""
    ciphers = [_encr(256), _encr(128)]
    rekey = ciphers + [
        ike.Transform(ike.KWA, ike.KW_5649_256),
        ike.Transform(ike.KWA, ike.KW_5649_128),
        ike.Transform(ike.GCAUTH, ike.GCAUTH_DIGITAL_SIGNATURE, algorithm=der.ECDSA_WITH_SHA256),
    ]
    data = ciphers + [
        _encr(256, ike.ENCR_NULL_AUTH_AES_GMAC),
        _encr(128, ike.ENCR_NULL_AUTH_AES_GMAC),
        ike.Transform(ike.SN, ike.SN_32_UNSPECIFIED),
        ike.Transform(ike.SN, ike.SN_32_SEQUENTIAL),
    ]
    return ike.emit_sa(
        [
            ike.Proposal(1, ike.GIKE_UPDATE, b"", rekey),
            ike.Proposal(1, ike.ESP, b"", data),
        ]
    )
