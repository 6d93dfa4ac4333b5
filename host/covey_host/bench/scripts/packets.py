"""On MicroPython: a sender and a receiver, and every datagram that the costs of a packet need."""

from covey.member import Member
from covey.sa import SN_UNSPECIFIED, DataSA

KEYMAT = bytes(range(1, 21))
SPI = b"\x9f\x3a\x12\xc4"
PAYLOAD_MOST = 512
_GROUP = bytes([239, 192, 1, 32])
_DESTINATION = (_GROUP, _GROUP, 2222, 2222, 17)
_SOURCE = (bytes(4), b"\xff" * 4, 0, 65535, 0)
_SENDER_BITS = 16
_FORM = (10, 16)
_SENDER_ID = 65


def data_sa(spi=SPI, keymat=KEYMAT):
    return DataSA(spi, keymat, _DESTINATION, _SOURCE, SN_UNSPECIFIED, _SENDER_BITS, _FORM, None, 1)


def a_receiver():
    member = Member(payload_max=PAYLOAD_MOST)
    member.keys.install(data_sa(), 0)
    return member


def a_sender():
    member = Member(payload_max=PAYLOAD_MOST, sender=True)
    sa = data_sa()
    sa.become_sender(_SENDER_ID, _SENDER_BITS)
    member.keys.install(sa, 0)
    member.keys.activate(SPI, 0, 0)
    return member


class Wire:
    """Carries what a sender makes into a receiver's buffer, good or spoiled."""

    def __init__(self):
        self.sender = a_sender()
        self.receiver = a_receiver()
        self.length = 0  # of the datagram there

    def carry(self, n):
        """The next datagram, with a payload of n octets."""
        out = self.sender.out
        for i in range(n):
            out[i] = i & 255
        self.length = self.sender.send(n, 0)
        self.again()

    def again(self):
        """The same datagram once more."""
        tx, rx = self.sender.tx, self.receiver.rx
        for i in range(self.length):
            rx[i] = tx[i]

    def forge(self, n):
        self.carry(n)
        self.receiver.rx[self.length - 1] ^= 1

    def stray(self, n):
        """One for another group."""
        self.carry(n)
        self.receiver.rx[0] ^= 0xFF

    def cut(self, n):
        """One of a length that ESP can't have."""
        self.carry(n)
        self.length -= 1

    def receive(self):
        return self.receiver.receive(self.length, 0)
