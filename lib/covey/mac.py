"""Receiver-specific MACs: behind each payload a tag for each receiver, inside what ESP protects.

    | SPI | number | IV | UDP header | payload | tag of slot 0 | tag of slot 1 | ... | padding

Each is the head of an AES-CMAC (cmac.py) of SPI, number, Sender-ID, port, epoch and payload, under
 a key that one sender and one receiver share (sources.py). Whoever has the group's key can
change all of it, and make ESP's own tag anew: but not the tag of another receiver. Nothing here
takes heap.
"""

from covey.drops import DROP_SOURCE
from covey.path import heard
from covey.port import const, micropython

_PAYLOAD = const(24)


class ReceiverMACs:
    """Of one data SA. slots: tags in a packet, tag_len octets each; own: which is ours, or None.

    heard: index of a sender → its CMACContext. told: for each slot what we sign with, None where
    we have no key; None: we don't send. names: index → identity. low_bits: of a Sender-ID, which
    are its incarnation. epoch: the ordinal that the MACs bind.
    """

    keeper = None  # nothing has to be done as time goes by
    signs_ahead = False  # sign() does all

    def __init__(self, tag_len, slots, own, heard, told, names, low_bits, epoch):
        self.trailer = tag_len * slots  # octets behind the payload
        self.names = names
        self.is_receiver = own is not None
        self.is_sender = told is not None
        self._tag_len = tag_len
        self._own_at = 0 if own is None else _PAYLOAD + tag_len * own  # less the payload
        self._heard = heard
        self._told = told
        self._epoch = bytearray((epoch & 0xFFFFFFFF).to_bytes(4, "big"))
        self._low_bits = low_bits
        for index in heard:
            hold(heard[index])
        for context in told or ():
            if context is not None:
                hold(context)

    def release(self):
        """Of no use afterwards. Takes no heap."""
        for index in self._heard:
            let_go(self._heard[index])
        for context in self._told or ():
            if context is not None:
                let_go(context)

    @micropython.native
    def confirm(self, member, payload_len, now_ms):
        """The length without the trailer, or DROP_SOURCE."""
        n = payload_len - self.trailer
        if n < 0 or not self.is_receiver:
            return DROP_SOURCE
        context = self._heard.get(heard(member.words) >> self._low_bits)
        if context is None:
            return DROP_SOURCE
        at = n + self._own_at
        if not context.verify(member.rx, n, self._epoch, at, self._tag_len):
            return DROP_SOURCE
        return n

    def may_send(self, now_ms):
        """0: at any time."""
        return 0

    @micropython.native
    def sign(self, tx, n, now_ms):
        """Fill the trailer of a packet that frame() made; n: octets of payload with it."""
        n -= self.trailer
        at = n + _PAYLOAD
        epoch, tag_len = self._epoch, self._tag_len
        for context in self._told:
            if context is None:
                self._leave_out(tx, at)
            else:
                context.sign(tx, n, epoch, at, tag_len)
            at += tag_len

    def name_of(self, sender):
        """The identity of who has this Sender-ID; None: nobody that we know."""
        return self.names.get(sender >> self._low_bits)

    def _leave_out(self, tx, at):
        """Our own slot, and that of a receiver we have no key for: nobody believes these."""
        for i in range(at, at + self._tag_len):
            tx[i] = 0


def hold(context):
    """One more works with this CMACContext: an SA, or who makes them (proofs.py)."""
    context.users += 1


def let_go(context):
    """One less: the last one wipes it. Takes no heap."""
    context.users -= 1
    if context.users == 0:
        context.wipe()
