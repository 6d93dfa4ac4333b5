"""Security associations: a key, what it may be used for, and how far it has been used.

No wire format and no clock here: when an SA comes and goes is the key store's affair.
"""

from struct import pack

from covey.drops import DROP_KD, DROP_POLICY, FormatError
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

    keymat: AES key and 4-octet salt, 20 or 36 octets, copied; the caller wipes it.
    destination, source: selectors (address_lo, address_hi, port_lo, port_hi, protocol).
    sn: SN_*. sender_bits: width of the Sender-ID in the IV, None where nobody told it.
    sender_form: (index_bits, bits) where Sender-IDs read as index | incarnation, else None.
    lifetime_s: None for no end. sender_slots: how many senders can be told apart, a power of two.
    integrity_only: AES-GMAC, whose packets everybody can read (RFC 4543), instead of AES-GCM.
    context, senders: what new_context() and new_senders() have made already.
    Raises FormatError where the policy is not one that a member can carry out.
    """

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
        context=None,
        senders=None,
    ):
        if len(keymat) not in (20, 36):
            raise FormatError(DROP_KD)
        if sn not in (SN_SEQUENTIAL, SN_UNSPECIFIED):
            raise FormatError(DROP_POLICY)
        self.spi = bytes(spi)
        self.epoch = epoch  # ordinal of the GSA generation it came with
        self.sn = sn
        self.lifetime_s = lifetime_s
        self.destination = bytes(destination[0])  # 4 octets
        port_lo, port_hi = _ports(destination)
        source_lo, source_hi = _ports(source)
        # What we put into the inner UDP header: the lowest port allowed; as the source the same.
        self.port = port_lo or min(1, port_hi)
        self.carrier_port = None  # UDP port that its packets go to (RFC 3948); None: protocol 50
        self.sender_slots = sender_slots
        self.words = w = words(_WORDS)
        w[_SOURCE_LO], w[_SOURCE_HI], w[_PORT_LO], w[_PORT_HI] = (
            source_lo,
            source_hi,
            port_lo,
            port_hi,
        )
        w[_PORTS] = word_of(pack(">HH", self.source_port, self.port))
        self.next_seq = 1
        self.senders = senders or new_senders(sn, sender_bits, sender_form, sender_slots)
        self.keymat = bytearray(keymat) if _keeps else None
        self.context = context or new_context(keymat, integrity_only)
        self.auth = None  # who proves that it was they who sent: see mac.py

    def become_sender(self, sender_id, bits):
        """Prepare for sending as sender_id, in the top `bits` of the IV (0: one sender only).

        Where the SA has been sent under before, as after a new registration, its numbers go
        on: no nonce comes twice even if a Sender-ID should. Raises FormatError where sender_id
        is wider than bits (RFC 9838 section 2.5.2: fatal).
        """
        if not 0 <= bits <= 32 or sender_id < 0 or sender_id >> bits:
            raise FormatError(DROP_POLICY)
        if self.sn == SN_SEQUENTIAL:
            self.senders = SenderTable(0, bits)  # what comes is not for us
        elif self.senders.bits != bits:
            # The width reached us as a sender only: from now on senders can be told apart.
            self.senders = SenderTable(self.sender_slots, bits)
        self.senders.bar(sender_id)  # also what we send now must not come back later
        self.words[_OWN] = sender_id
        self.words[_IS_OWN] = _EVERYBODY if self.sn == SN_SEQUENTIAL else 1
        self.words[_IV_HEAD] = word_of(self.iv_head)

    @property
    def source_port(self):
        return max(self.words[_SOURCE_LO], min(self.port, self.words[_SOURCE_HI]))

    @property
    def sender_id(self):
        """Our own in outbound use, -1: none."""
        return self.words[_OWN] if self.words[_IS_OWN] else _NOT_A_SENDER

    @property
    def iv_head(self):
        """The Sender-ID where it stands in the IV's upper half."""
        return pack(">I", self.words[_OWN] << (32 - self._senders.bits))

    @property
    def next_seq(self):
        """The number of the next packet that we send. Never goes back."""
        return self.words[_NEXT_SEQ]

    @next_seq.setter
    def next_seq(self, seq):
        self.words[_NEXT_SEQ] = seq

    @property
    def senders(self):
        """The windows of those whose packets come."""
        return self._senders

    @senders.setter
    def senders(self, table):
        self._senders = table
        link(self.words, _TABLE_OF, table.words)

    def wipe(self):
        """Forget the key. The SA is of no use afterwards."""
        self.words[_IS_OWN] = 0
        unlink(self.words, _TABLE_OF)
        self._senders.release()
        wipe(self.keymat or b"")
        auth, self.auth = self.auth, None
        if auth is not None:
            auth.release()
        self.context.wipe()


class RekeySA:
    """A Rekey SA: what GSA_REKEY messages are opened and judged with. RFC 9838 section 2.4.1.

    spi: 16 octets. keymat: GSK_e | GSK_w: AES key and 4-octet salt, then the default KWK;
    copied here, the caller wipes it. kwa: the key wrap transform. key_bits: of GSK_e.
    verifier: of signatures. next_message_id: the least that is not a replay. destination,
    source: selectors as above. lifetime_s: None for no end.
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
        source=None,
        lifetime_s=None,
        epoch=0,
    ):
        key_len = key_bits // 8 + 4
        if len(spi) != 16 or len(keymat) - key_len not in (16, 24, 32):
            raise FormatError(DROP_KD)
        self.spi = bytes(spi)
        self.epoch = epoch
        self.kwk = bytearray(keymat[key_len:])
        self.kwa = kwa
        self.key_bits = key_bits
        self.verifier = verifier
        self.next_message_id = next_message_id
        self.destination = destination
        self.source = source
        self.lifetime_s = lifetime_s
        self.gsk_e = bytearray(keymat[:key_len])  # which a RareContext works with
        self.context = RareContext(self.gsk_e)

    def wipe(self):
        wipe(self.kwk)
        wipe(self.gsk_e)
        self.context.wipe()


def new_context(keymat, integrity_only):
    """What a DataSA protects packets with."""
    return GMACContext(keymat) if integrity_only else GCMContext(keymat)


def new_senders(sn, bits, form, slots):
    """The windows of a DataSA. FormatError: see there."""
    if form is not None:
        index_bits, form_bits = form
        if not 0 < index_bits <= form_bits <= 32 or bits not in (None, form_bits):
            raise FormatError(DROP_POLICY)
        return SenderTable(slots, form_bits, index_bits)
    if bits is not None:
        if not 0 < bits <= 32:
            raise FormatError(DROP_POLICY)
        return SenderTable(slots, bits)
    return SenderTable(1 if sn == SN_SEQUENTIAL else 0)


def _ports(selector):
    port_lo, port_hi, protocol = selector[2:]
    if protocol not in (0, 17) or not 0 <= port_lo <= port_hi <= 0xFFFF:
        raise FormatError(DROP_POLICY)
    return port_lo, port_hi
