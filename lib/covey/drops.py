"""Why a packet or a message was refused, each with its clause; and the two kinds of error.

What comes from the network is refused with a number, counted, never raised (hot path), or
raised as FormatError inside a cold parser and turned into such a number one level up.
What a person did wrong is a ConfigError: one sentence that says what to do.
"""

# Not a drop: the datagram is an IKE message behind the non-ESP marker (RFC 3948 section 2.2).
IKE_MESSAGE = -100
# Nor these: a packet waits for the proof of who sent it; none can be judged now (waiting.py).
WAITS = -102
NOTHING = -103

# Carrier
DROP_EMPTY = -1  # a datagram of no octets
DROP_KEEPALIVE = -2  # RFC 3948 section 2.3: one octet 0xFF; quiet
DROP_LENGTH = -3  # RFC 4303 section 2: too short, too long, or not a multiple of four octets
DROP_IP_HEADER = -17  # RFC 791 section 3.1: version, lengths, protocol or checksum
DROP_IP_FRAGMENT = -18  # RFC 4303 section 3.4.1: ESP is taken after reassembly only
DROP_IP_DESTINATION = -19  # RFC 4303 section 2.1: another address than the SA's group
DROP_SOCKET = -32  # the system could not hand out a datagram: no memory, or no network
# Security association
DROP_UNKNOWN_SPI = -4  # RFC 4303 section 3.4.2: no such SA
DROP_RETIRED_SPI = -5  # RFC 9838 section 2.4.1.4: the SA was deleted (its DTD is over)
DROP_OWN = -6  # our own packet, looped back by the network; quiet
DROP_STALE_SENDER = -7  # the Sender-ID's incarnation is older than one already heard
DROP_SENDER_TABLE_FULL = -8  # more senders than windows: the unknown is refused, never the known
DROP_REPLAY = -9  # RFC 4303 section 3.4.3: seen before, or behind the window
DROP_TAG = -10  # RFC 4303 section 3.4.4.1: the ICV does not verify
DROP_SILENT = -39  # the key server is silent for longer than policy has it, which says "stop"
DROP_NOT_RECEIVER = -65  # this member only sends: nothing of the group is for it; quiet
# Inside a packet whose tag verified
DROP_PADDING = -11  # RFC 4303 section 2.4: not 1, 2, 3 ..., or longer than the payload
DROP_DUMMY = -12  # RFC 4303 section 2.6: next header 59; quiet
DROP_NEXT_HEADER = -13  # neither UDP (17) nor dummy (59)
DROP_INNER_LENGTH = -14  # RFC 768: a UDP length below its header's, or beyond the text
DROP_SELECTOR = -15  # RFC 4301 section 5.2: outside the SA's traffic selectors
DROP_SOURCE = -33  # its proof is wrong or missing: another member may have made it
DROP_NOT_ROSTERED = -34  # a Sender-ID that the key server gave to no sender of the group
DROP_CROWDED = -35  # more packets wait for a proof of who sent them than there is room for
DROP_UNPROVEN = -36  # no proof of who sent it came in time
DROP_UNSAFE = -37  # RFC 4082 section 3.5: it came so late that its key may be known already
DROP_EARLY = -38  # of an interval that can't have begun
DROP_NO_CLOCK = -47  # nothing is known, or not enough, of the key server's clock
DROP_NO_CHAIN = -48  # no chain of keys for this interval is known
DROP_DISCLOSURE = -49  # nothing but a key of an interval before; quiet
DROP_QUEUE_FULL = -16  # the application does not keep up
# IKE messages, RFC 7296
DROP_IKE_HEADER = -20  # section 3.1: version, length, flags
DROP_IKE_SPI = -21  # not an SA of ours
DROP_IKE_MESSAGE_ID = -22  # section 2.2: outside the window
DROP_IKE_EXCHANGE = -23  # not the exchange that is awaited
DROP_IKE_TAG = -24  # section 3.14: the ICV does not verify
DROP_IKE_FORMAT = -25  # a payload that does not parse
DROP_IKE_CRITICAL = -26  # section 2.5: an unknown payload marked critical
DROP_IKE_CLEAR_ERROR = -27  # section 2.21: an error without protection; noted, ends nothing
DROP_IKE_AUTH = -28  # section 2.15: the peer did not prove who it is
DROP_IKE_PROPOSAL = -29  # the answer chooses what was not offered
DROP_IKE_KE = -30  # RFC 8031 / 7748 section 6.1: a public value that is refused
DROP_IKE_FRAGMENT = -31  # RFC 7383 section 2.6: a duplicate, or too many or too long to be kept
DROP_IKE_CERT = -59  # RFC 4945: a certificate that doesn't parse or hold, or none is known there
DROP_IKE_PPK = -64  # RFC 8784 section 3: it uses no PPK, and we need it to
DROP_IKE_REDIRECT = -66  # RFC 5685: to nowhere that we know, too often, or not with our nonce
# Group policy and keys, RFC 9838
DROP_GSA = -40  # a GSA payload that does not parse
DROP_KD = -41  # a KD payload that does not parse
DROP_POLICY = -42  # a policy that this member does not take
DROP_KEY_WRAP = -43  # a wrapped key that does not open
DROP_KEY_PATH = -45  # section 3.2.3: no wrapped key leads on from ours: we are put out
DROP_KEY_PORTION = -46  # the last of several messages, and none had a way for us
DROP_CAPACITY = -44  # more SAs than the key store has slots
# GSA_REKEY, RFC 9838 section 2.4.1
DROP_REKEY_SPI = -50  # no such Rekey SA
DROP_REKEY_TAG = -51  # the ICV does not verify
DROP_REKEY_FORMAT = -52  # payloads that do not parse, or that must not be there
DROP_REKEY_SIGNATURE = -53  # the AUTH payload is missing or does not verify
DROP_REKEY_MESSAGE_ID = -54  # older than the one expected
DROP_REKEY_REPEAT = -55  # the very message that is in work or was the last one; quiet
DROP_REKEY_BUSY = -56  # another one is being verified
DROP_REKEY_PORTION = -57  # of several messages not the one for us; quiet
# Sending
DROP_UNSIGNED = -58  # in a group whose packets are signed: before its signature was made
DROP_NO_SA = -60  # nothing to send under: not registered, before ATD, or told to stop
DROP_NOT_SENDER = -61  # this member registered as a receiver only
DROP_OVERSIZE = -62  # a payload longer than the buffer
DROP_EXHAUSTED = -63  # RFC 4303 section 3.3.3: the sequence numbers of this SA are used up


def names():
    """{DROP_*: its short name, "unknown_spi"}. What they are called is loaded when asked."""
    from covey import dropnames

    return dropnames.names()


def name_of(reason):
    return names()[reason]


def sentence(number, *args):
    """What a person is told, see sentences.py; "" where there is no memory for it."""
    try:
        from covey.sentences import SENTENCES

        return SENTENCES[number] % args
    except MemoryError:
        return ""


_MOST = 67  # the first number that none has, so that a board has room for no more


class FormatError(Exception):
    """The peer's fault, found in a cold parser. `reason` is a DROP_*."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


def need(holds, reason=DROP_IKE_FORMAT):
    """FormatError where it does not hold: the peer's fault."""
    if not holds:
        raise FormatError(reason)


class ConfigError(Exception):
    """A person's or a program's fault: one sentence that says what to do."""


class Drops:
    """How often each reason occurred, in fixed memory. Counting allocates nothing.

    most: every reason is above -most.
    """

    most = _MOST

    def __init__(self):
        self._counts = [0] * _MOST

    def count(self, reason):
        """Count one drop and hand the reason on, so that `return drops.count(DROP_X)` reads."""
        counts = self._counts
        if counts[-reason] < 0x3FFFFFFF:  # stays a small int on 32-bit boards
            counts[-reason] += 1
        return reason

    def of(self, reason):
        return self._counts[-reason]

    def as_dict(self):
        """Name → count of every reason that occurred. Allocates."""
        counts = self._counts
        named = names()
        return {named[r]: counts[-r] for r in named if counts[-r]}
