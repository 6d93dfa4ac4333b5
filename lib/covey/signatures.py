"""Signed packets: behind each payload an ECDSA signature, of it alone or of a tree over several.

    | SPI | number | IV | UDP header | payload | path | position | levels | signature | padding

What is signed is merkle.py's statement on the packet's root. Each packet of a tree verifies alone;
once one has, the others cost some hashes. Whoever has the group's key can change all of it, and
make ESP's own tag anew, but no signature of another member. Verifying takes long: a packet waits
for it while others pass (verifying.py). So does signing, which comes before a packet is framed, as
its number is signed: sign_job(), then send() for each of the payloads. All of this takes heap.
"""

from covey import merkle
from covey.drops import DROP_SOURCE, DROP_UNPROVEN, DROP_UNSIGNED, WAITS
from covey.octets import wipe
from covey.p256_sign import sign_job
from covey.path import heard
from covey.port import const, random_bytes
from covey.signers import TAIL, emit_trailer, parse_trailer
from covey.verifying import Verifying, let_go
from covey.waiting import room_of

_PAYLOAD = const(24)
_KNOWN = const(4)  # statements of a sender that are remembered
_PATIENCE_MS = const(60000)  # for which a packet waits: a board verifies one in a second or two


class Claim:
    """What a packet says: that one sender, of this index, has signed this statement so."""

    def __init__(self, index, statement, r, s):
        self.index = index
        self.statement = statement
        self.r = r
        self.s = s


class Signatures:
    """Of one data SA. most_levels: of a tree; signers: vouched.Signers; names: index → identity;
    own: our index, and key: our private key, copied; both None: we don't send. low_bits, epoch: as
    in mac.py.
    """

    keeper = None  # nothing has to be done as time goes by
    signs_ahead = True  # sign_job() comes before send()

    def __init__(self, most_levels, signers, names, own, key, low_bits, epoch):
        self.trailer = TAIL  # octets behind the payload of the next packet
        self.most_levels = most_levels
        self.signers = signers
        self.names = names
        self._own = own
        self._key = None if key is None else bytearray(key)
        self._low_bits = low_bits
        self._epoch = (epoch & 0xFFFFFFFF).to_bytes(4, "big")
        self._known = {}  # index → statements that are verified, the latest first
        self._signed = []  # trailers of the next packets

    def release(self):
        """Of no use for sending afterwards; what waits can still be judged. Takes no heap."""
        wipe(self._key or b"")
        self._known.clear()
        self._signed.clear()

    def name_of(self, sender):
        """The identity of who has this Sender-ID; None: nobody that we know."""
        return self.names.get(sender >> self._low_bits)

    # Receiving

    def confirm(self, member, payload_len, now_ms):
        """The length without the trailer; WAITS: its signature is to be verified; or a DROP_*."""
        index = heard(member.words) >> self._low_bits
        found = self._parse(member.rx, payload_len)
        if found is None or index not in self.names or index == self._own:
            return DROP_SOURCE
        if self._statement(member.rx, index, found) in self._known.get(index, ()):
            return found[0] - _PAYLOAD
        room = room_of(member)
        if not isinstance(room.engine, Verifying):
            let_go(room)  # of what waits for other proofs: policy has gone over to signatures
            room.engine = Verifying()
        n = found[0] - _PAYLOAD
        how = self, index, 0, now_ms, _PATIENCE_MS
        reason = room.keep(member.rx, n, payload_len - n, *how)
        if reason == WAITS:
            room.engine.came()
        return reason

    def prove(self, member, payload_len, packet, proof_at):
        """The length without the trailer, of a packet in rx whose statement is verified, as it
        lies in packet; DROP_UNPROVEN where it says something else by now, of another sender.
        """
        index = heard(member.words) >> self._low_bits
        found = self._parse(member.rx, payload_len)
        if found is None or index not in self.names:
            return DROP_UNPROVEN
        if self._statement(member.rx, index, found) != packet[proof_at:]:
            return DROP_UNPROVEN
        return found[0] - _PAYLOAD

    def claim(self, packet, payload_len, index):
        """What an opened packet says that confirm() has seen, of a sender with this index."""
        end = _PAYLOAD + payload_len
        r = int.from_bytes(bytes(packet[end - 64 : end - 32]), "big")
        s = int.from_bytes(bytes(packet[end - 32 : end]), "big")
        statement = self._statement(packet, index, self._parse(packet, payload_len))
        return Claim(index, statement, r, s)

    def knows(self, claim):
        """Whether its statement is known to be signed."""
        return claim.statement in self._known.get(claim.index, ())

    def verify_job(self, claim):
        """Job: whether it is true; if so its statement is known from now on."""
        verifier = self.signers.verifier(self.names[claim.index])
        yield
        is_true = yield from verifier.verify(claim.statement, claim.r, claim.s)
        if is_true:
            known = self._known.get(claim.index, [])
            self._known[claim.index] = ([claim.statement] + known)[:_KNOWN]
        return is_true

    def _parse(self, buf, payload_len):
        return parse_trailer(buf, _PAYLOAD, _PAYLOAD + payload_len, self.most_levels)

    def _statement(self, buf, index, found):
        at, position, levels = found
        leaf = merkle.leaf_of(buf, at - _PAYLOAD, self._epoch, self.names[index])
        path = memoryview(buf)[at : at + merkle.NODE * levels]
        return merkle.statement(levels, merkle.root_of(leaf, position, path))

    # Sending

    def most_in_a_batch(self):
        return 1 << self.most_levels

    def trailer_of(self, count):
        """Octets behind each of so many payloads that are signed together."""
        levels = 0
        while 1 << levels < count:
            levels += 1
        return TAIL + merkle.NODE * levels

    def sign_job(self, sa, payloads, random=random_bytes):
        """Job: sign the next packets of this data SA, whose payloads these are: most_in_a_batch()
        at most. Nobody may send under it until send() was called for each of them, in their order.
        """
        self.forget_signed()
        key, name = self._key, self.names[self._own]
        tree = merkle.Tree(len(payloads))
        for i in range(len(payloads)):
            number = (sa.next_seq + i).to_bytes(4, "big")
            head = sa.spi + number + sa.iv_head
            tree.put(i, merkle.leaf(head, sa.port, self._epoch, name, payloads[i]))
            yield
        root = yield from tree.grow()
        digest = merkle.statement(tree.levels, root)
        r, s = yield from sign_job(key, digest, random)
        signed = []
        for i in range(len(payloads)):
            signed.append(emit_trailer(tree.path(i), i, r, s))
            yield
        # At the very end, and at once: from here on may_send() allows it.
        self._signed = signed
        self.trailer = len(signed[0])

    def forget_signed(self):
        """What was signed is not sent."""
        self._signed.clear()
        self.trailer = TAIL

    def may_send(self, now_ms):
        """0, or DROP_UNSIGNED where sign_job() has not come first."""
        return 0 if self._signed else DROP_UNSIGNED

    def sign(self, tx, n, now_ms):
        """Fill the trailer of a packet that frame() made; n: octets of payload with it."""
        end = _PAYLOAD + n
        trailer = self._signed.pop(0)
        if len(trailer) != self.trailer:  # it would move tx, which kernels know by its address
            raise ValueError("a trailer of another length than was framed")
        tx[end - self.trailer : end] = trailer
        if not self._signed:
            self.trailer = TAIL
