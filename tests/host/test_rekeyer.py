"""GSA_REKEY: what is on the wire, checked with hand-laid octets, and when it is sent."""

import struct
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey_host.gcks.download import kek_transforms
from foreign_gm import AUTH, DELETE, GSA, GSA_REKEY, KD, ForeignGM, Policy, RekeySA
from gcks_site import KEY, LINE1, SITE, Site

STRONG = LINE1 + "key_bits = 256\n"


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "state.db")
    made.add()
    made.add("lamp-1", sender=False)
    yield made
    made.store.close()


def rekey(site, group="line1"):
    site.air.clear()
    site.send(site.server.rekey(group, site.now))
    [out] = site.air
    return out


def test_a_member_follows_rekeys(site):
    gm = site.gm(wants=1)
    for _ in range(5):
        spi, tek, promised = gm.rekey_sa.spi, gm.tek, gm.policy.sas
        next_spis = {p: dict(promised[p]["attributes"])[3] for p in (3, 6)}
        assert gm.rekey(rekey(site).data) == "rekeyed"
        assert gm.deleted == tek[0]
        assert gm.tek[0] == next_spis[3] and gm.rekey_sa.spi == next_spis[6]
        assert gm.tek[1] != tek[1] and gm.rekey_sa.spi != spi
        site.wait(20_000)
    late = site.gm("lamp-1")
    assert late.tek == gm.tek and late.rekey_sa.spi == gm.rekey_sa.spi


def test_a_strong_group(tmp_path):
    site = Site(tmp_path / "state.db", SITE + STRONG)
    site.add()
    gm = ForeignGM(psk=KEY, wants=1, kwa=3)
    site.register(gm)
    assert len(gm.tek[1]) == 36
    assert len(gm.keys.keymat[gm.rekey_sa.spi]) == 36 + 32  # GSK_w as long as KW_5649_256 has it
    assert gm.rekey(rekey(site).data) == "rekeyed"
    assert len(gm.tek[1]) == 36 and len(gm.rekey_sa.kwk) == 32


def test_the_message_octet_by_octet(site):
    gm = site.gm()
    sa, out = gm.rekey_sa, rekey(site)
    data = out.data
    assert (out.address, out.group, out.marker) == (None, "line1", True)
    assert out.destination == ("239.192.1.32", 4500)
    assert data[:16] == sa.spi and any(data[:4])
    assert data[16:28] == struct.pack(">BBBBII", 46, 0x20, GSA_REKEY, 8, 0, len(data))
    assert data[28:32] == struct.pack(">BBH", GSA, 0, len(data) - 28)
    text = AESGCM(sa.key).decrypt(sa.salt + data[32:40], data[40:], data[:32])
    assert text[-1] == 0
    kinds, at = [], 0
    kind = data[28]
    while kind:
        kinds.append(kind)
        kind, critical, length = struct.unpack_from(">BBH", text, at)
        assert critical == 0
        auth_at, at = at, at + length
    assert kinds == [GSA, KD, DELETE, AUTH] and at == len(text) - 1
    # AUTH: method 14, then ASN.1 length, AlgorithmIdentifier and 71 octets of ECDSA-Sig-Value
    assert at - auth_at == 4 + 4 + 1 + 12 + 71
    assert text[auth_at + 4 : auth_at + 9] == b"\x0e\0\0\0\x0c"
    assert text[auth_at + 21 : auth_at + 23] == b"\x30\x45"
    assert len(data) < 1280


def test_gsa_of_a_rekey(site):
    gm = site.gm()
    gm.rekey(rekey(site).data)
    policy = gm.policy
    assert policy.order == [6, 3, 0] and gm.keys.order == [6, 3]
    kek, tek = policy.sas[6], policy.sas[3]
    assert kek["transforms"] == [(1, 20, [(14, 128)]), (13, 1, [])]
    assert tek["transforms"] == [(1, 20, [(14, 128)]), (5, 2, [])]
    assert [k for k, _ in kek["attributes"]] == [1, 3]  # GSA_INITIAL_MESSAGE_ID: zero, so absent
    assert dict(kek["attributes"])[1] == struct.pack(">I", 14400)
    assert dict(tek["attributes"])[1] == struct.pack(">I", 3600)
    anyone = (17, 0, 65535, bytes(4), b"\xff" * 4)
    group = b"\xef\xc0\x01\x20"
    assert kek["source"] == tek["source"] == anyone
    assert kek["destination"] == (17, 4500, 4500, group, group)
    assert tek["destination"] == (17, 2222, 2222, group, group)
    private = {16384: 4500, 16385: 10 << 8 | 16, 16386: bytes([0, 0, 0, 2])}
    assert policy.wide == {1: 5, 2: 10, **private}


def test_gsa_at_registration(site):
    site.wait(100_500)
    gm = site.gm(wants=1)
    assert gm.policy.order == gm.keys.order == [6, 3, 0]
    kek, tek = gm.policy.sas[6], gm.policy.sas[3]
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    assert kek["transforms"][2] == (14, 2, [(18, algorithm)])
    assert dict(kek["attributes"])[1] == struct.pack(">I", 14400 - 101)  # what is left
    assert dict(tek["attributes"])[1] == struct.pack(">I", 3600 - 101)
    private = {16384: 4500, 16385: 10 << 8 | 16, 16386: bytes([0, 0, 0, 1])}
    assert gm.policy.wide == {1: 0, 2: 10, 3: 16, **private}
    assert len(gm.keys.auth_key) == 91


def test_atd_at_registration_is_what_is_left(site):
    site.gm("lamp-1")
    site.wait(20_000)
    rekey(site)
    left = []
    for _ in range(7):
        left.append(site.gm("press-7", 1).policy.wide[1])
        site.wait(950)
    assert left == [5, 5, 4, 3, 2, 1, 0]


def test_initial_message_id_is_said_where_it_is_not_zero(site):
    group = site.server._groups["line1"]
    group.epoch = replace(group.epoch, rekey=replace(group.epoch.rekey, next_message_id=7))
    gm = site.gm()
    assert dict(gm.policy.sas[6]["attributes"])[2] == struct.pack(">I", 7)
    data = rekey(site).data
    assert data[20:24] == struct.pack(">I", 7)
    assert gm.rekey(data) == "rekeyed"


def test_forged_and_foreign_rekeys_fail_at_the_member(site):
    """The check of the check: the hand-laid verification does refuse."""
    gm = site.gm()
    data = rekey(site).data
    for at in (0, 19, 23, 28, 33, 60, len(data) - 1):
        forged = bytearray(data)
        forged[at] ^= 1
        with pytest.raises((InvalidTag, AssertionError)):
            gm.rekey_sa.open(bytes(forged))
    text = AESGCM(gm.rekey_sa.key).decrypt(gm.rekey_sa.salt + data[32:40], data[40:], data[:32])
    inside = bytearray(text)
    inside[70] ^= 1  # a member could seal this anew, but not sign it
    sealed = AESGCM(gm.rekey_sa.key).encrypt(
        gm.rekey_sa.salt + data[32:40], bytes(inside), data[:32]
    )
    with pytest.raises(InvalidSignature):
        gm.rekey_sa.open(data[:40] + sealed)
    assert gm.rekey_sa.open(data) is not None


def test_signatures_always_have_the_same_length(site):
    gm = site.gm()
    lengths, ivs = set(), set()
    for _ in range(20):
        data = rekey(site).data
        lengths.add(len(data))
        ivs.add(data[32:40])
        assert gm.rekey(data) == "rekeyed"
    assert len(lengths) == 1 and len(ivs) == 20


def test_repeats_are_the_same_octets_at_policys_spacing(tmp_path):
    text = SITE + LINE1 + 'repeats = 3\nrepeat_spacing = "250ms"\n'
    site = Site(tmp_path / "state.db", text)
    site.add()
    gm = site.gm()
    first = rekey(site)
    times = []
    start = site.now
    for _ in range(2000):
        outs, _ = site.server.step(site.now)
        times += [site.now - start for _ in outs]
        assert all(out == first for out in outs)
        site.now += 1
    assert times == [250, 500, 750]
    assert gm.rekey(first.data) == "rekeyed"
    assert gm.rekey(first.data) == "repeat"
    assert site.server._groups["line1"].is_quiet


def test_rekeys_by_itself_before_keys_end(tmp_path):
    site = Site(tmp_path / "state.db", SITE + LINE1 + 'lifetime = "100s"\n')
    site.add()
    gm = site.gm()
    born, moments = site.now, []
    for _ in range(10):
        site.air.clear()
        while not site.air:
            site.wait(100)
        moments.append(site.now - born)
        born = site.now
        assert gm.rekey(site.air[0].data) == "rekeyed"
        site.wait(5_000)
    assert all(75_000 <= moment <= 80_200 for moment in moments), moments
    assert len(set(moments)) > 3  # groups that began together are spread


def test_exclusion_says_delete_all_and_hands_out_no_keys(tmp_path):
    """Where there is no key tree: everybody is out, and registers again."""
    site = Site(tmp_path / "state.db", SITE + LINE1 + "key_tree = 0\n")
    site.add()
    site.add("lamp-1", sender=False)
    gm, other = site.gm(wants=1), site.gm("lamp-1")
    site.air.clear()
    site.send(site.server.remove_member("lamp-1", site.now))
    [out] = site.air
    sa = other.rekey_sa
    text = AESGCM(sa.key).decrypt(sa.salt + out.data[32:40], out.data[40:], out.data[:32])
    assert text[4:12] == b"\x03\x04\0\x01" + bytes(4)
    assert text[16:36] == b"\x06\x10\0\x01" + bytes(16)
    assert out.data[28] == DELETE and text[12] == AUTH
    assert len(text) == 12 + 24 + 92 + 1  # nothing else is in it
    assert gm.rekey(out.data) == "excluded" and other.rekey(out.data) == "excluded"
    site.store.close()


def test_the_public_key_fits_the_algorithm(site):
    gm = site.gm()
    assert isinstance(gm.rekey_sa, RekeySA) and isinstance(gm.policy, Policy)
    assert gm.keys.auth_key[:27] == bytes.fromhex(
        "3059301306072a8648ce3d020106082a8648ce3d030107034200" + "04"
    )
    assert [t.kind for t in kek_transforms(site.policy.groups["line1"].shape)] == [1, 13, 14]
