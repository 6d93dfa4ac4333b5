"""Security associations: a key, what it may be used for, and how far it has been used.

No wire format and no clock here: when an SA comes and goes is the key store's affair.
"""

from struct import pack

from covey.drops import DROP_POLICY, need
from covey.gcm import GCMContext, GMACContext, RareContext
from covey.octets import wipe
from covey.port import const, link, unlink, word_of, words
from covey.replay import SenderTable

SN_SEQUENTIAL = 0  # 32-bit sequential numbers: one sender
SN_UNSPECIFIED = 2  # RFC 9838 section 2.6: several senders, whose numbers mix

_NOT_A_SENDER = -1

# As path.py has them.
_IV_HEAD = const(1)
_PORTS = const(2)
_NEXT_SEQ = const(3)
_SOURCE_LO = const(4)
_SOURCE_HI = const(5)
_PORT_LO = const(6)
_PORT_HI = const(7)
_OWN = const(8)
_IS_OWN = const(9)
_TABLE_OF = const(10)
_EVERYBODY = const(2)
_WORDS = const(12)


_keeps = False


def keep_keys():
    """Data SAs made from now on can tell their keys: for a member that sleeps (resume.py)."""
    global _keeps
    _keeps = True


class DataSA:
    """A Data-Security SA: ESP, transport mode, AES-GCM-16 or AES-GMAC, UDP inside.

    keymat: AES key and 4-octet salt, 20 or 36 octets, copied; the caller wipes it. None:
    take_key() is a step of its own.
    destination, source: selectors (address_lo, address_hi, port_lo, port_hi, protocol).
    sn: SN_*. sender_bits: width of the Sender-ID in the IV, None where nobody told it.
    sender_form: (index_bits, bits) where Sender-IDs read as index | incarnation, else None.
    lifetime_s: None for no end. sender_slots: how many senders can be told apart, a power of two.
    integrity_only: AES-GMAC, whose packets everybody can read (RFC 4543), instead of AES-GCM.
    Raises FormatError where the policy is not one that a member can carry out.
    """

    keymat = None  # a copy, where SAs keep theirs
    auth = None  # who proves that it was they who sent: see mac.py
    carrier_port = None  # UDP port that its packets go to (RFC 3948); None: protocol 50

    def __init__(
        self,
        spi,
        keymat,
        destination,
        source,
        sn,
        sender_bits,
        sender_form,
        lifetime_s,
        epoch,
        sender_slots=16,
        integrity_only=False,
    ):
        self.spi = bytes(spi)
        self.epoch = epoch  # ordinal of the GSA generation it came with
        self.sn = sn
        self.lifetime_s = lifetime_s
        self.destination = bytes(destination[0])  # 4 octets
        self.sender_slots = sender_slots
        self.words = w = words(_WORDS)
        w[_SOURCE_LO], w[_SOURCE_HI] = source[2:4]
        w[_PORT_LO], w[_PORT_HI] = destination[2:4]
        # What we put into the inner UDP header: the lowest port allowed; as the source the same.
        self.port = w[_PORT_LO] or min(1, w[_PORT_HI])
        source_port = max(w[_SOURCE_LO], min(self.port, w[_SOURCE_HI]))
        w[_PORTS] = word_of(pack(">HH", source_port, self.port))
        w[_NEXT_SEQ] = 1
        self.senders = self.context = None  # they have their place before they have memory
        self.track(_new_senders(sn, sender_bits, sender_form, sender_slots))
        if keymat is not None:
            self.take_key(keymat, integrity_only)

    def take_key(self, keymat, integrity_only):
        """What packets are protected with."""
        if _keeps:
            self.keymat = bytearray(keymat)
        self.context = GMACContext(keymat) if integrity_only else GCMContext(keymat)

    def become_sender(self, sender_id, bits):
        """Prepare for sending as sender_id, in the top `bits` of the IV (0: one sender only).

        Where the SA has been sent under before, as after a new registration, its numbers go
        on: no nonce comes twice even if a Sender-ID should. Raises FormatError where sender_id
        is wider than bits (RFC 9838 section 2.5.2: fatal).
        """
        need(0 <= bits <= 32 and sender_id >= 0 and not sender_id >> bits, DROP_POLICY)
        # Of the one sender: what comes is not for us
        slots = 0 if self.sn == SN_SEQUENTIAL else self.sender_slots
        if not slots or self.senders.bits != bits:
            # The width reached us as a sender only: from now on senders can be told apart.
            self.track(SenderTable(slots, bits))
        self.senders.bar(sender_id)  # also what we send now must not come back later
        self.words[_OWN] = sender_id
        self.words[_IS_OWN] = 1 if slots else _EVERYBODY
        # The Sender-ID where it stands in the IV's upper half
        self.iv_head = pack(">I", sender_id << (32 - bits))
        self.words[_IV_HEAD] = word_of(self.iv_head)

    @property
    def sender_id(self):
        """Our own in outbound use, -1: none."""
        return self.words[_OWN] if self.words[_IS_OWN] else _NOT_A_SENDER

    @property
    def next_seq(self):
        """The number of the next packet that we send. Never goes back."""
        return self.words[_NEXT_SEQ]

    @next_seq.setter
    def next_seq(self, seq):
        self.words[_NEXT_SEQ] = seq

    def track(self, senders):
        """The windows of those whose packets come are in this SenderTable."""
        link(self.words, _TABLE_OF, senders.words)
        self.senders = senders  # behind: what the words lead to is kept alive

    def wipe(self):
        """Forget the key. The SA is of no use afterwards."""
        self.words[_IS_OWN] = 0
        unlink(self.words, _TABLE_OF)
        if self.senders is not None:
            self.senders.release()
        wipe(self.keymat or b"")
        auth, self.auth = self.auth, None
        if auth is not None:
            auth.release()
        if self.context is not None:
            self.context.wipe()


class RekeySA:
    """A Rekey SA: what GSA_REKEY messages are opened and judged with. RFC 9838 section 2.4.1.

    spi: 16 octets. keymat: GSK_e | GSK_w: AES key and 4-octet salt, then the default KWK;
    copied here, the caller wipes it. kwa: the key wrap transform. key_bits: of GSK_e.
    verifier: of signatures. next_message_id: the least that is not a replay. destination:
    a selector as above. lifetime_s: None for no end.
    """

    def __init__(
        self,
        spi,
        keymat,
        kwa,
        key_bits,
        verifier,
        next_message_id=0,
        destination=None,
        lifetime_s=None,
        epoch=0,
    ):
        key_len = key_bits // 8 + 4
        self.spi = bytes(spi)
        self.epoch = epoch
        self.kwk = bytearray(keymat[key_len:])
        self.kwa = kwa
        self.verifier = verifier
        self.next_message_id = next_message_id
        self.destination = destination
        self.lifetime_s = lifetime_s
        self.gsk_e = bytearray(keymat[:key_len])  # which a RareContext works with
        self.context = RareContext(self.gsk_e)

    def wipe(self):
        wipe(self.kwk)
        wipe(self.gsk_e)
        self.context.wipe()


def _new_senders(sn, bits, form, slots):
    """The windows of a DataSA."""
    index_bits = None
    if form is not None:
        index_bits, form_bits = form
        need(0 < index_bits <= form_bits and bits in (None, form_bits), DROP_POLICY)
        bits = form_bits
    elif bits is None:
        return SenderTable(1 if sn == SN_SEQUENTIAL else 0)
    need(0 < bits <= 32, DROP_POLICY)
    return SenderTable(slots, bits, index_bits)
