"""SA payload against octets laid out from RFC 7296 section 3.3; keys against published values."""

from covey import iana
from covey.drops import DROP_IKE_FORMAT
from covey.ikerekey import has_valid_key_length
from covey.ikesa import (
    KWK_LEN,
    Keys,
    Proposal,
    Transform,
    default_kwk,
    derive,
    emit_attribute,
    emit_sa,
    emit_transforms,
    parse_attributes,
    parse_sa,
    parse_transforms,
    psk_auth,
)
from covey.job import finish
from covey.prf import prf_plus
from layout import octets, patched, reasons_of_changes, why_refused
from vectors import load

# SAg, RFC 9838 section 2.3.3: a proposal for each protocol, the same number, no SPI
SAG = octets(
    "02 00 0048",  # proposal: more follow, length 72
    "01 06 00 05",  # number 1, GIKE_UPDATE (6), SPI size 0, 5 transforms
    "03 00 000c 01 00 0014 800e 0080",  # ENCR_AES_GCM_16, Key Length 128
    "03 00 000c 01 00 0014 800e 0100",  # ENCR_AES_GCM_16, Key Length 256
    "03 00 0008 0d 00 0001",  # KWA (13), KW_5649_128
    "03 00 0008 0d 00 0003",  # KW_5649_256
    "00 00 0018 0e 00 0002",  # GCAUTH (14), digital signature: the last
    "0012 000c 300a06082a8648ce3d040302",  # Signature Algorithm Identifier (18), TLV
    "00 00 0030",  # proposal: the last, length 48
    "01 03 04 04",  # number 1 too, ESP, SPI size 4 (not sent in SAg; kept), 4 transforms
    "9f3a12c4",  # SPI
    "03 00 000c 01 00 0014 800e 0080",  # ENCR_AES_GCM_16, Key Length 128
    "03 00 0008 03 00 0000",  # INTEG, none
    "03 00 0008 05 00 0000",  # SN (5), 32-bit sequential
    "00 00 0008 05 00 0002",  # 32-bit unspecified
)
ALGORITHM = octets("300a06082a8648ce3d040302")


def _sag():
    return [
        Proposal(
            1,
            iana.GIKE_UPDATE,
            b"",
            [
                Transform(iana.ENCR, iana.ENCR_AES_GCM_16, 128),
                Transform(iana.ENCR, iana.ENCR_AES_GCM_16, 256),
                Transform(iana.KWA, iana.KW_5649_128),
                Transform(iana.KWA, iana.KW_5649_256),
                Transform(iana.GCAUTH, iana.GCAUTH_DIGITAL_SIGNATURE, algorithm=ALGORITHM),
            ],
        ),
        Proposal(
            1,
            iana.ESP,
            octets("9f3a12c4"),
            [
                Transform(iana.ENCR, iana.ENCR_AES_GCM_16, 128),
                Transform(iana.INTEG, iana.INTEG_NONE),
                Transform(iana.SN, iana.SN_32_SEQUENTIAL),
                Transform(iana.SN, iana.SN_32_UNSPECIFIED),
            ],
        ),
    ]


def test_sa_parse():
    rekey, esp = parse_sa(SAG)
    assert (rekey.num, rekey.protocol, rekey.spi) == (1, 6, b"")
    assert (esp.num, esp.protocol, esp.spi) == (1, 3, octets("9f3a12c4"))
    assert [(t.kind, t.id) for t in rekey.transforms] == [
        (1, 20),
        (1, 20),
        (13, 1),
        (13, 3),
        (14, 2),
    ]
    assert [t.key_bits for t in rekey.of_kind(iana.ENCR)] == [128, 256]
    assert [t.id for t in esp.of_kind(iana.SN)] == [0, 2]
    assert rekey.transforms[4].algorithm == ALGORITHM
    assert esp.of_kind(iana.KWA) == []
    assert parse_sa(SAG) == _sag()


def test_sa_emit():
    assert emit_sa(_sag()) == SAG
    assert emit_sa(_sag()[:1]) == patched(SAG[:72], 0, "00")
    assert emit_transforms(_sag()[1].transforms) == SAG[84:]


def test_sa_ignores_reserved():
    data = patched(SAG, 1, "ff")  # of a proposal
    data = patched(data, 9, "ff")  # of a transform, twice
    data = patched(data, 13, "ff")
    assert parse_sa(data) == _sag()


def test_sa_cut_at_every_octet():
    for n in range(len(SAG)):
        assert why_refused(parse_sa, SAG[:n]) == DROP_IKE_FORMAT
        if 80 <= n:  # and where the proposal agrees with the cut
            assert (
                why_refused(parse_sa, patched(SAG[:n], 74, "%04x" % (n - 72))) == DROP_IKE_FORMAT
            )


def test_sa_refused():
    for off, field in (
        (0, "00"),  # the last, yet one follows
        (0, "01"),
        (72, "02"),  # more follow, yet it is the last
        (72, "03"),
        (2, "0000"),  # lengths
        (2, "0007"),
        (2, "0047"),
        (2, "0049"),
        (6, "04"),  # an SPI that is not there
        (6, "ff"),
        (7, "00"),  # another number of transforms
        (7, "04"),
        (7, "06"),
        (8, "00"),  # the last transform, yet others follow
        (8, "02"),
        (10, "0007"),
        (10, "000b"),  # an attribute cut
        (10, "000d"),
        (48, "03"),  # more transforms follow, yet it is the last
        (58, "000b"),  # a TLV shorter than its transform
        (58, "000d"),
        (58, "ffff"),
        (-1, "00"),
    ):
        assert why_refused(parse_sa, patched(SAG, off, field)) == DROP_IKE_FORMAT, (off, field)


def test_sa_any_octet_changed():
    assert reasons_of_changes(parse_sa, SAG) == {None, DROP_IKE_FORMAT}


def test_proposal_without_transforms():
    assert parse_sa(octets("00 00 0008 01 01 00 00")) == [Proposal(1, 1, b"", [])]
    assert emit_sa([Proposal(1, 1, b"", [])]) == octets("00 00 0008 01 01 00 00")
    assert why_refused(parse_sa, octets("00 00 0008 01 01 00 01")) == DROP_IKE_FORMAT


def test_attributes():
    data = octets(
        "800e 0080",  # TV: type 14, value 128
        "4000 0003 aabbcc",  # TLV: type 16384, three octets
        "ffff ffff",  # TV: type 32767, value 65535
        "0001 0000",  # TLV without a value
    )
    found = [(14, 128), (16384, octets("aabbcc")), (32767, 65535), (1, b"")]
    assert list(parse_attributes(data)) == found
    assert b"".join([emit_attribute(kind, value) for kind, value in found]) == data
    boundaries = (0, 4, 11, 15)
    for n in range(len(data)):
        if n not in boundaries:
            assert why_refused(list, parse_attributes(data[:n])) == DROP_IKE_FORMAT
        else:
            assert list(parse_attributes(data[:n])) == found[: boundaries.index(n)]


def _one(*fields):
    """The transform that these octets are."""
    data = octets(*fields)
    (transform,), end = parse_transforms(data)
    assert end == len(data)
    return transform


def test_transform_unknown_attribute():
    # RFC 7296 section 3.3.6: not malformed, but not acceptable
    assert not _one("00 00 000c 01 00 0014 800e 0080").unknown_attribute
    odd = _one("00 00 0010 01 00 0014 800e 0080 900f 0001")
    assert odd.unknown_attribute and odd.key_bits == 128
    # the Signature Algorithm Identifier belongs to GCAUTH's digital signature alone
    assert not _one("00 00 000e 0e 00 0002 0012 0002 3000").unknown_attribute
    assert _one("00 00 000e 0e 00 0001 0012 0002 3000").unknown_attribute
    assert _one("00 00 000e 01 00 0014 0012 0002 3000").unknown_attribute


def test_transform_attribute_refused():
    for fields in (
        "00 00 000e 01 00 0014 000e 0002 0080",  # Key Length as TLV
        "00 00 0010 01 00 0014 800e 0080 800e 0080",  # twice
        "00 00 000c 0e 00 0002 8012 0001",  # Signature Algorithm Identifier as TV
        "00 00 000c 0e 00 0002 0012 0000",  # and empty
        "00 00 0012 0e 00 0002 0012 0001 30 0012 0001 30",  # twice
    ):
        assert why_refused(parse_transforms, octets(fields)) == DROP_IKE_FORMAT


def test_transform_key_length():
    # RFC 7296 section 3.3.5: AES must say its key's length, what has one length must not
    assert has_valid_key_length(Transform(iana.ENCR, iana.ENCR_AES_GCM_16, 128))
    assert not has_valid_key_length(Transform(iana.ENCR, iana.ENCR_AES_GCM_16))
    assert has_valid_key_length(Transform(iana.KWA, iana.KW_5649_256))
    assert not has_valid_key_length(Transform(iana.KWA, iana.KW_5649_256, 256))
    assert not has_valid_key_length(Transform(iana.PRF, iana.PRF_HMAC_SHA2_256, 256))
    assert has_valid_key_length(Transform(iana.ENCR, 999, 256))  # who knows
    assert has_valid_key_length(Transform(iana.ENCR, 999))


def test_transforms_at_an_offset():
    data = b"\xff" + SAG[8:72] + b"\xee"
    transforms, end = parse_transforms(data, 1)
    assert transforms == _sag()[0].transforms and end == 65


def derived(nonce_i, nonce_r, shared, *others, **more):
    return Keys(*finish(derive(nonce_i, nonce_r, bytearray(shared), *others, **more)))


def test_deriving_gives_way_and_wipes():
    shared = bytearray(b"s" * 32)
    job = derive(bytes(16), bytes(16), shared, bytes(8), bytes(8), 256)
    next(job)
    assert shared == bytes(32)
    assert len(list(job)) == 6  # a block of prf+ each, then what is cut of them


def test_derive():
    # RFC 7296 section 2.14: the published stream, cut by hand for AES-GCM with its salt
    checked = 0
    for vector in load("ikev2_kdf"):
        v = {name: bytes.fromhex(vector[name]) for name in vector}
        args = v["ni"], v["nr"], v["g_ir"], v["spi_i"], v["spi_r"]
        for bits, encr_len in ((128, 20), (256, 36)):
            keys = derived(*args, bits)
            off = 32 + 2 * encr_len
            if len(v["dkm"]) < off + 64:
                continue
            assert keys.sk_d == v["dkm"][:32]
            assert keys.sk_ei == v["dkm"][32 : 32 + encr_len]
            assert keys.sk_er == v["dkm"][32 + encr_len : off]
            assert keys.sk_pi == v["dkm"][off : off + 32]
            assert keys.sk_pr == v["dkm"][off + 32 : off + 64]
            checked += 1
    assert checked


def test_derive_from_the_sa_before():
    # RFC 7296 section 2.18: SKEYSEED from the old SK_d, as published; the stream is prf+ of it
    for vector in load("ikev2_kdf"):
        v = {name: bytes.fromhex(vector[name]) for name in vector}
        args = v["ni"], v["nr"], v["g_ir_new"], v["spi_i"], v["spi_r"], 128
        keys = derived(*args, sk_d=v["dkm"][:32])
        seed = v["ni"] + v["nr"] + v["spi_i"] + v["spi_r"]
        stream = prf_plus(v["skeyseed_rekey"], seed, 136)
        assert keys.sk_d == stream[:32]
        assert keys.sk_ei == stream[32:52] and keys.sk_er == stream[52:72]


def test_keys_are_wiped_and_not_shown():
    keys = derived(bytes(16), bytes(16), bytes(32), bytes(8), bytes(8), 128)
    assert "sk_d=..." in repr(keys) and repr(bytes(keys.sk_d[:4])) not in repr(keys)
    parts = keys.sk_d, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr
    assert [len(p) for p in parts] == [32, 20, 20, 32, 32]
    assert all([any(p) for p in parts])
    keys.wipe()
    assert not any([any(p) for p in parts])


def test_psk_auth():
    # Computed from RFC 7296 section 2.15 with another implementation of HMAC-SHA-256
    message, nonce = b"message" * 20, bytes(range(32))
    auth = psk_auth(b"k" * 16, b"\x07" * 32, message, nonce, octets("0b000000 707265737337"))
    assert auth == octets("0a8a4f1bee2e970fe5adbc3817bea710b446465d3077ad810696991ea7e9ee01")


def test_default_kwk():
    # RFC 9838 section 3.1.1: prf+ with HMAC-SHA-256 by another implementation
    sk_d = bytearray(range(32))
    whole = octets("b169180742eb22165048cce7281f2e65465010931c41a1b39a8492aff33a06d4")
    assert KWK_LEN == {1: 16, 2: 24, 3: 32}
    for kwa in KWK_LEN:
        assert default_kwk(sk_d, kwa) == whole[: KWK_LEN[kwa]]
