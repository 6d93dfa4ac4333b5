"""ESP both ways with scapy, an implementation that is not ours."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.drops import DROP_OWN, DROP_REPLAY, DROP_SENDER_TABLE_FULL, DROP_TAG
from datapath import KEY128, KEY256, SPI, a_receiver, a_sender, delivers, refuses, send
from test_member import LITERAL

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of what a machine has no use for

from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402
from scapy.packet import Raw  # noqa: E402

_SPI = int.from_bytes(SPI, "big")
_GMAC = "AES-NULL-GMAC"
_KEYS = pytest.mark.parametrize("keymat", (KEY128, KEY256), ids=("aes128", "aes256"))


def _peer(keymat, spi=_SPI, cipher="AES-GCM"):
    return SecurityAssociation(ESP, spi=spi, crypt_algo=cipher, crypt_key=keymat)


def _plain(payload, source=2222, checksum=None):
    ip = IP(src="192.0.2.1", dst="239.192.1.32")
    return ip / UDP(sport=source, dport=2222, chksum=checksum) / Raw(payload)


def _made(peer, plain, seq, iv=None):
    return bytes(peer.encrypt(plain, seq_num=seq, iv=iv)[IP].payload)


def _opened(peer, datagram):
    """What scapy makes of an ESP packet from us."""
    ip = IP(src="192.0.2.1", dst="239.192.1.32", proto=50) / ESP(datagram)
    return peer.decrypt(IP(bytes(ip)))


def test_the_literals_are_scapys():
    for keymat, spi, seq, iv, source, payload, octets in LITERAL:
        peer = _peer(keymat, int(spi, 16))
        made = _made(peer, _plain(payload, source, 0), seq, bytes.fromhex(iv))
        assert made.hex() == octets


@_KEYS
def test_scapy_opens_ours(keymat):
    m, peer = a_sender(keymat=keymat), _peer(keymat)
    for n in range(65):
        payload = bytes(range(n))
        plain = _opened(peer, send(m, payload))
        assert plain[UDP].sport == plain[UDP].dport == 2222
        assert plain[UDP].len == 8 + n
        assert bytes(plain[UDP].payload) == payload


@_KEYS
def test_to_the_octet(keymat):
    m, peer = a_sender(0x0123, keymat=keymat), _peer(keymat)
    for n in range(65):
        ours = send(m, b"\xa5" * n)
        assert ours == _made(peer, _plain(b"\xa5" * n, checksum=0), n + 1, ours[8:16])


@_KEYS
@pytest.mark.parametrize("sn", (0, 2))
def test_we_open_scapys_with_random_ivs(keymat, sn):
    """Nobody told a width: the IV says nothing. Checksums as scapy computes them."""
    m, peer = a_receiver(keymat=keymat, sn=sn, bits=None, form=None), _peer(keymat)
    for seq in range(1, 60):
        datagram = _made(peer, _plain(bytes(range(seq))), seq)
        delivers(m, datagram, bytes(range(seq)), None)
        if sn == 0:
            refuses(m, datagram, DROP_REPLAY)
        else:
            delivers(m, datagram, bytes(range(seq)), None)


@_KEYS
@pytest.mark.parametrize("form", ((10, 16), None))
def test_we_open_scapys_whose_iv_names_a_sender(keymat, form):
    m, peer = a_receiver(keymat=keymat, form=form), _peer(keymat)
    for seq in range(1, 60):
        iv = bytes([0, 65]) + bytes(6 * [255 - seq])
        datagram = _made(peer, _plain(b"x" * seq), seq, iv)
        delivers(m, datagram, b"x" * seq, 65)
        refuses(m, datagram, DROP_REPLAY)


def test_random_ivs_where_a_width_is_known():
    """Every packet names another sender: as many as there are slots, and none is evicted."""
    m, peer = a_receiver(form=None), _peer(KEY128)
    for n in range(16):
        delivers(m, _made(peer, _plain(b"x"), 1, bytes([7, n]) + bytes(6)), b"x", 7 << 8 | n)
    refuses(m, _made(peer, _plain(b"x"), 1, b"\x08" + bytes(7)), DROP_SENDER_TABLE_FULL)
    delivers(m, _made(peer, _plain(b"x"), 2, b"\x07" + bytes(7)), b"x", 7 << 8)


def test_our_sender_id_used_by_another():
    m, peer = a_sender(65), _peer(KEY128)
    refuses(m, _made(peer, _plain(b"x"), 9, bytes([0, 65]) + bytes(6)), DROP_OWN)


@settings(max_examples=50)
@given(data=st.data(), payload=st.binary(max_size=64))
def test_any_change_to_scapys_packet_is_refused(data, payload):
    m, peer = a_receiver(bits=None, form=None), _peer(KEY128)
    datagram = bytearray(_made(peer, _plain(payload), 1))
    at = data.draw(st.integers(4, len(datagram) - 1))
    datagram[at] ^= data.draw(st.integers(1, 255))
    refuses(m, bytes(datagram), DROP_TAG)


@_KEYS
def test_integrity_alone_both_ways(keymat):
    """RFC 4543, to the octet."""
    m, peer = a_sender(0x0123, keymat=keymat, integrity_only=True), _peer(keymat, _SPI, _GMAC)
    other = a_receiver(keymat=keymat, integrity_only=True)
    for n in range(65):
        ours = send(m, b"\xa5" * n)
        assert ours == _made(peer, _plain(b"\xa5" * n, checksum=0), n + 1, ours[8:16])
        assert bytes(_opened(peer, ours)[UDP].payload) == b"\xa5" * n
        delivers(other, ours, b"\xa5" * n, 0x0123)
