"""Security associations: what a policy may say, what a sender puts into its IV, wiping."""

from covey.drops import (
    DROP_OWN,
    DROP_POLICY,
    DROP_REPLAY,
    DROP_SELECTOR,
    DROP_STALE_SENDER,
    FormatError,
)
from covey.sa import SN_SEQUENTIAL, SN_UNSPECIFIED, DataSA, RekeySA
from datapath import (
    ANY,
    DESTINATION,
    GROUP,
    KEY128,
    KEY256,
    SPI,
    Bare,
    data_sa,
    padded,
    u32,
    udp,
)


def _refusal(make):
    try:
        make()
    except FormatError as error:
        return error.reason


def _source_port(sa):
    """Of what is sent under it."""
    framed = Bare(sa).frame(b"", 1)
    return framed[16] << 8 | framed[17]


def test_what_it_keeps():
    sa = data_sa(lifetime_s=3600, epoch=7)
    assert sa.spi == SPI and sa.epoch == 7 and sa.lifetime_s == 3600
    assert sa.destination == GROUP and sa.sn == SN_UNSPECIFIED and sa.sender_id == -1
    assert sa.next_seq == 1 and sa.port == 2222 and _source_port(sa) == 2222


def test_policies_that_are_not_carried_out():
    assert _refusal(lambda: data_sa(bits=16, form=(10, 12))) == DROP_POLICY
    assert _refusal(lambda: data_sa(bits=None, form=(0, 16))) == DROP_POLICY
    assert _refusal(lambda: data_sa(bits=None, form=(17, 16))) == DROP_POLICY
    assert _refusal(lambda: data_sa(bits=None, form=(10, 33))) == DROP_POLICY
    assert _refusal(lambda: data_sa(bits=33, form=None)) == DROP_POLICY
    assert _refusal(lambda: data_sa(bits=0, form=None)) == DROP_POLICY


def test_keys_of_both_lengths():
    for keymat in (KEY128, KEY256):
        buf = bytearray(SPI + u32(1) + bytes(8) + b"text" + bytes(16))
        data_sa(keymat=keymat).context.seal(buf, 0, 8, 4)
        assert data_sa(keymat=bytearray(keymat)).context.open(buf, 0, 8, 4)


def test_iv_head_of_every_width():
    # RFC 9838 section 2.5.2: right-aligned in the top bits of the IV
    for bits in range(1, 33):
        sa = data_sa(bits=bits, form=None)
        sa.become_sender(1, bits)
        assert sa.iv_head == u32(1 << (32 - bits)), bits
        assert Bare(sa).admit(1, 1) == DROP_OWN
        most = (1 << bits) - 1
        sa.become_sender(most, bits)
        assert sa.iv_head == u32(most << (32 - bits) & 0xFFFFFFFF), bits
        assert _refusal(lambda sa=sa, bits=bits: sa.become_sender(1 << bits, bits)) == DROP_POLICY


def test_a_new_sender_id_goes_on_counting_and_bars_the_old():
    sa = data_sa()
    sa.become_sender(5 << 6 | 1, 16)
    sa.next_seq = 100
    sa.become_sender(5 << 6 | 2, 16)
    assert sa.next_seq == 100 and sa.sender_id == 5 << 6 | 2
    assert Bare(sa).admit(5 << 6 | 1, 101) == DROP_STALE_SENDER
    plain = data_sa(form=None)
    plain.become_sender(8, 16)
    plain.become_sender(9, 16)
    assert Bare(plain).admit(8, 101) == DROP_REPLAY


def test_the_width_may_come_with_the_sender_id():
    sa = data_sa(bits=None, form=None)
    assert sa.senders.bits == 0
    sa.become_sender(3, 12)
    assert sa.senders.bits == 12
    assert Bare(sa).admit(3, 1) == DROP_OWN and Bare(sa).admit(4, 1) == 0


def test_a_single_sender_without_sender_id():
    sa = data_sa(sn=SN_SEQUENTIAL, bits=None, form=None)
    sa.become_sender(0, 0)
    assert sa.iv_head == bytes(4) and sa.sender_id == 0
    assert Bare(sa).admit(0, 1) == Bare(sa).admit(0xFFFFFFFF, 1) == DROP_OWN  # all that comes
    assert _refusal(lambda: sa.become_sender(1, 0)) == DROP_POLICY
    assert _refusal(lambda: sa.become_sender(1, 33)) == DROP_POLICY


def test_ports_that_we_send_from_and_to():
    def ports(destination, source):
        sa = data_sa(destination=(GROUP, GROUP) + destination, source=ANY[:2] + source)
        source_port = _source_port(sa)
        assert Bare(sa).trim(padded(udp(b"", source_port, sa.port))) == 0
        assert Bare(sa).frame(b"", 1)[16:20] == u32(source_port << 16 | sa.port)
        return source_port, sa.port

    assert ports((2222, 2222, 17), (0, 65535, 0)) == (2222, 2222)
    assert ports((2222, 2230, 17), (2222, 2222, 17)) == (2222, 2222)
    assert ports((2222, 2222, 17), (5000, 5001, 17)) == (5000, 2222)
    assert ports((2222, 2222, 17), (7, 9, 17)) == (9, 2222)
    assert ports((0, 65535, 0), (0, 65535, 0)) == (1, 1)
    assert ports((0, 0, 17), (0, 65535, 0)) == (0, 0)


def test_selects():
    sa = data_sa(destination=(GROUP, GROUP, 2222, 2223, 17), source=ANY[:2] + (1000, 0x9000, 17))

    def selects(source, port):
        answer = Bare(sa).trim(padded(udp(b"", source, port)))
        assert answer in (0, DROP_SELECTOR)
        return answer == 0

    for source in (1000, 0x8000, 0x9000):
        assert selects(source, 2222) and selects(source, 2223)
        assert not selects(source, 2221) and not selects(source, 2224)
    for source in (0, 999, 0x9001, 65535):
        assert not selects(source, 2222)


def test_wiped():
    sa = data_sa()
    sa.become_sender(65, 16)
    sa.wipe()
    assert sa.sender_id == -1


def test_rekey_sa():
    spi, keymat = bytes(range(16)), bytearray(range(36))
    sa = RekeySA(spi, keymat, 1, 128, "verifier", 9, DESTINATION, 3600, 2)
    for i in range(len(keymat)):
        keymat[i] = 0
    assert sa.spi == spi and sa.kwa == 1 and sa.verifier == "verifier"
    assert sa.next_message_id == 9 and sa.lifetime_s == 3600 and sa.epoch == 2
    assert sa.destination == DESTINATION
    assert sa.kwk == bytes(range(20, 36))
    buf = bytearray(b"head" + bytes(8) + b"text" + bytes(16))
    sa.context.seal(buf, 0, 4, 4)
    assert data_sa(keymat=KEY128).context.open(buf, 0, 4, 4)
    sa.wipe()
    assert sa.kwk == bytes(16)


def test_rekey_sa_key_lengths():
    def lengths(spi_len, keymat_len, key_bits):
        return RekeySA(bytes(spi_len), bytes(keymat_len), 1, key_bits, None)

    assert len(lengths(16, 36, 128).kwk) == 16
    assert len(lengths(16, 52, 128).kwk) == 32
    assert len(lengths(16, 68, 256).kwk) == 32


def test_the_callers_octets_are_copied():
    spi, keymat = bytearray(SPI), bytearray(KEY128)
    sa = DataSA(spi, keymat, DESTINATION, ANY, 2, 16, None, None, 1)
    spi[0] = 0
    for i in range(len(keymat)):
        keymat[i] = 0
    assert sa.spi == SPI
    buf = bytearray(SPI + u32(1) + bytes(8) + b"text" + bytes(16))
    sa.context.seal(buf, 0, 8, 4)
    assert data_sa().context.open(buf, 0, 8, 4)
