"""A member that does all of IKEv2 that RFC 9838 stands on, from the RFCs alone: NAT, cookies,
fragments, requests of the key server, and the rekeying of its IKE SA. Nothing of lib/, host/.
"""

import socket
import struct
import time

import foreign_ikesa
from foreign_esp import Air
from foreign_gm import (
    CREATE_CHILD_SA,
    DELETE,
    GSA,
    GSA_AUTH,
    GSA_REGISTRATION,
    IKE_SA_INIT,
    INFORMATIONAL,
    KD,
    KE,
    NONCE,
    NOTIFY,
    SA,
    SKF,
    USE_TRANSPORT_MODE,
    Keys,
    Policy,
    notification,
    notifies,
)
from foreign_gm_udp import GM
from foreign_ikesa import GSA_INBAND_REKEY, Rekey, answer_rekey
from foreign_nat import NAT_DESTINATION, NAT_SOURCE, detection
from processes import PATIENCE_S

MARKER = bytes(4)
COOKIE, FRAGMENTATION = 16390, 16430
DELETE_IKE = DELETE, b"\1\0\0\0"


class Citizen(GM):
    """Tests set the attributes. on: exchange → what answers a request of the server instead:
    sa, message → payloads, or None for silence."""

    def __init__(self, road, site, *args, nat=True, fragments=True, **how):
        super().__init__(road, site, *args, **how)
        self.nat, self.wants_fragments = nat, fragments
        self.room = None  # inner octets of our fragments
        self.most = None  # octets of a datagram that we take in
        self.lies = ()  # "source", "destination"
        self.ignores_cookie = None  # what we send back instead of a cookie; b"": nothing
        self.sa = None
        self.sas = {}  # (SPIi, SPIr) → IkeSa
        self.choices = None  # (bits, KWA) that we offer in a rekey; None: what we have
        self.nonce = self.answer_nonce = None  # of ours in rekeys that we begin, and in others
        self.told = []  # Message of each request of the server, oldest first
        self.on = {}
        self.epochs = []  # (Policy, Keys, Deletes) of each inband rekey
        self.carrier_port = 4500
        self.inband = False  # no Rekey SA is expected
        self.nat_found = {}
        self.types = []  # of notifications in the answer to IKE_SA_INIT
        self.cookies = 0
        self.parts_came = self.longest = 0  # fragments of GSA_REKEY, octets of the longest
        self._parts = {}  # of GSA_REKEY: (SPI, Message ID, total) → {number: octets}
        self._waiting = []  # messages that came while another was awaited

    # IKE_SA_INIT

    def connect(self, extra=(), **offer):
        first = []
        while True:
            answer = self.wire.ask(self.sa_init(first=first, extra=[*self._notices(), *extra]))
            payloads = self.clear(answer)
            if notifies(payloads) != [COOKIE]:
                break
            assert len(payloads) == 1 and answer[8:16] == bytes(8), "COOKIE alone, no SPI"
            cookie = payloads[0][1][4:]
            assert 1 <= len(cookie) <= 64 and self.cookies < 2
            self.cookies += 1
            first = [notification(COOKIE, cookie)]
        self.take_sa_init(answer)
        return self

    def _notices(self):
        found = []
        if self.nat:
            spis = self.spi_i, bytes(8)
            source, destination = (
                detection(*spis, at) for at in (self.wire.address, self.wire.to)
            )
            source = bytes(20) if "source" in self.lies else source
            destination = bytes(20) if "destination" in self.lies else destination
            found += [notification(NAT_SOURCE, source), notification(NAT_DESTINATION, destination)]
        return found + [notification(FRAGMENTATION)] * self.wants_fragments

    def take_sa_init(self, data):
        """Notifications come behind the rest; only what was asked for is answered."""
        payloads = self.clear(data)
        notified = [body for kind, body in payloads if kind == NOTIFY]
        plain = [one for one in payloads if one[0] != NOTIFY]
        assert sorted(kind for kind, _ in plain) == [SA, KE, NONCE]
        self._plain = plain
        super().take_sa_init(data)
        self._take_notices([(struct.unpack(">BBH", body[:4]), body[4:]) for body in notified])

    def clear(self, data, exchange=IKE_SA_INIT, message_id=0):
        plain, self._plain = getattr(self, "_plain", None), None
        return plain or super().clear(data, exchange, message_id)

    def _take_notices(self, notified):
        assert all((protocol, size) == (0, 0) for (protocol, size, _), _ in notified)
        self.types = types = [type for (_, _, type), _ in notified]
        assert set(types) <= {NAT_SOURCE, NAT_DESTINATION, FRAGMENTATION}
        hashes = {type: [d for (_, _, t), d in notified if t == type] for type in types}
        assert len(hashes.get(NAT_DESTINATION, ())) == (1 if self.nat else 0)
        assert bool(hashes.get(NAT_SOURCE)) == self.nat
        if self.nat:
            spis = self.spi_i, self.spi_r
            self.nat_found = {
                "theirs": detection(*spis, self.wire.to) not in hashes[NAT_SOURCE],
                "ours": detection(*spis, self.wire.address) != hashes[NAT_DESTINATION][0],
            }
        assert types.count(FRAGMENTATION) == (1 if self.wants_fragments else 0)
        self.sa.fragments = self.wants_fragments
        self.sa.room, self.sa.most = self.room, self.most

    def _derive(self, shared):
        super()._derive(shared)
        nonces = self.nonce_i, self.nonce_r
        self.sa = foreign_ikesa.first(
            True, self.spi_i, self.spi_r, *nonces, shared, self.bits, self.kwa
        )
        self.sas = {(self.spi_i, self.spi_r): self.sa}

    def float(self):
        """RFC 7296 section 2.23: to the port with the marker, as soon as a NAT is found."""
        (port,) = [port for port, marker in self.wire.ports.items() if marker]
        self.wire.float(port)
        return self

    # Requests of ours

    def talk(self, exchange, payloads, sa=None, room=None, order=list):
        """Payloads of the answer; a second time it is the same to the bit. order: what becomes of
        the datagrams on their way."""
        sa = sa or self.sa
        message_id, datagrams = sa.request(exchange, payloads, room)
        answer = self._answer(sa, exchange, message_id, order(datagrams))
        again = self._answer(sa, exchange, message_id, datagrams[:1])
        assert again.datagrams == answer.datagrams
        return answer.payloads

    def _answer(self, sa, exchange, message_id, datagrams):
        for data in datagrams:
            self.wire.send(data)
        answer = self.next(
            lambda found, m: found is sa and m.is_response and m.message_id == message_id
        )
        assert answer is not None, "no answer"
        assert answer.exchange == exchange
        return answer

    def silence(self, exchange, payloads, sa=None, timeout_s=0.3):
        """The same, where no answer is to come."""
        _, datagrams = (sa or self.sa).request(exchange, payloads)
        for data in datagrams:
            self.wire.send(data)
        assert self.next(lambda found, m: m.is_response, timeout_s) is None

    def ask_for_group(self, auth=None, room=None, order=list, **group):
        payloads = (auth or self.auth_payloads()) + self.group_payloads(**group)
        return self.check_identity(
            self.talk(GSA_AUTH, payloads, room=room, order=order), self.site
        )

    def pull(self, **group):
        return self._keep(self.talk(GSA_REGISTRATION, self.group_payloads(**group)))

    def end(self):
        """Delete of the IKE SA by us."""
        assert self.talk(INFORMATIONAL, [DELETE_IKE]) == []
        self.drop(self.sa)

    def drop(self, sa):
        """Repeats over it are answered all the same; it is there for nothing else."""
        sa.ended = True

    # Rekeying the IKE SA

    def rekeying(self, choices=None, **how):
        mine = [(self.sa.bits, self.sa.kwa)]
        return Rekey(self.sa, choices or self.choices or mine, self.nonce, **how)

    def rekey_ike(self, delete_old=True, **how):
        """→ the old one."""
        pending, old = self.rekeying(**how), self.sa
        made = pending.take(self.talk(CREATE_CHILD_SA, pending.payloads()))
        self.use(made)
        if delete_old:
            assert self.talk(INFORMATIONAL, [DELETE_IKE], sa=old) == []
            self.drop(old)
        return old

    def use(self, made):
        self.sas[made.spi_i, made.spi_r] = self.sa = made

    @property
    def gsk_w(self):
        return self.sa.kwk

    @gsk_w.setter
    def gsk_w(self, value):
        """ForeignGM computes one for the first IKE SA only."""

    # Requests of theirs

    def next(self, wanted, timeout_s=PATIENCE_S):
        """The first message for which wanted(IkeSa, Message); others wait. None: none came."""
        for place, (sa, message) in enumerate(self._waiting):
            if wanted(sa, message):
                return self._waiting.pop(place)[1]
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            data = self.wire.receive(left)
            sa = data and self.sas.get((data[:8], data[8:16]))
            if sa is None:
                assert data is None, "a message of no IKE SA of ours"
                continue
            if not data[19] & 0x20:
                if self._repeated(sa, data):
                    continue
                assert not sa.ended, "a request over an IKE SA that has ended"
            message = sa.take(data)
            if message is not None and (message.is_response or self._is_new(sa, message)):
                if wanted(sa, message):
                    return message
                self._waiting.append((sa, message))
        return None

    def _is_new(self, sa, message):
        """False for the repeat of one that waits for its answer still."""
        if message.message_id in sa.taken:
            return False
        sa.taken.add(message.message_id)
        return True

    def _repeated(self, sa, data):
        """A request again: the same answer, to its fragment 1 only."""
        if data not in sa.last[0]:
            return False
        for answer in sa.last[1] if foreign_ikesa.number_of(data) < 2 else ():
            self.wire.send(answer)
        return True

    def serve(self, timeout_s=PATIENCE_S, exchange=None):
        """The next request of the server, answered: Message, or None."""
        found = []

        def is_request(sa, message):
            if message.is_response or exchange not in (None, message.exchange):
                return False
            found.append(sa)
            return True

        message = self.next(is_request, timeout_s)
        if message is not None:
            (sa,) = found
            assert message.message_id == sa.peer_id
            self.told.append(message)
            payloads = self.on.get(message.exchange, self._reply)(sa, message)
            if payloads is None:
                sa.taken.remove(message.message_id)
            else:
                self.reply(sa, message, payloads)
        return message

    def reply(self, sa, message, payloads):
        sa.peer_id += 1
        datagrams = sa.emit(message.exchange, payloads, message.message_id, True)
        sa.last = message.datagrams, datagrams
        for data in datagrams:
            self.wire.send(data)
        if message.exchange == INFORMATIONAL and DELETE_IKE in message.payloads:
            self.drop(sa)

    def _reply(self, sa, message):
        if message.exchange == CREATE_CHILD_SA:
            wanted = sa.bits, sa.kwa
            answer, made = answer_rekey(sa, message.payloads, wanted, self.answer_nonce)
            self.use(made)
            return answer
        if message.exchange == GSA_INBAND_REKEY:
            self.take_inband(sa, message)
            return []
        assert message.exchange == INFORMATIONAL
        assert DELETE_IKE not in message.payloads or message.payloads == [DELETE_IKE]
        return []

    # The group

    def take_inband(self, sa, message):
        """RFC 9838 section 2.4.2, and the second table of section 5."""
        bodies = dict(message.payloads)
        deletes = [body for kind, body in message.payloads if kind == DELETE]
        assert set(bodies) <= {GSA, KD, DELETE, NOTIFY} and (GSA in bodies) == (KD in bodies)
        assert message.kinds.count(GSA) < 2 and message.kinds.count(KD) < 2
        self.deleted = deletes
        if GSA not in bodies:
            assert deletes
            self.epochs.append((None, None, deletes))
            return
        policy, keys = Policy(bodies[GSA]), Keys(bodies[KD], sa.kwk)
        assert not keys.sender_ids, "GM_SENDER_ID is for registrations"
        assert keys.order and set(keys.keymat) == {one["spi"] for one in policy.sas.values()}
        assert policy.wide is None or 3 not in policy.wide, "GWP_SENDER_ID_BITS likewise"
        self.check_inband(policy, keys)
        self.epochs.append((policy, keys, deletes))
        self.policy, self.keys = policy, keys
        self._take_tek()

    def listen(self):
        """At the group's address, also without a Rekey SA: then there is only data."""
        if 6 in self.policy.sas:
            return super().listen()
        _, _, _, address, _ = self.policy.sas[3]["destination"]
        self.air = Air(socket.inet_ntoa(address), self.carrier_port)
        return self

    def check_inband(self, policy, keys):
        assert 6 not in policy.sas and keys.auth_key is None
        for sa in policy.sas.values():
            assert not {kind for kind, _ in sa["attributes"]} & {1, 2, 3}
            assert sorted(kind for kind, _, _ in sa["transforms"]) == [1, 5]

    def _keep(self, payloads):
        if not self.inband:
            return super()._keep(payloads)
        assert [kind for kind, _ in payloads] == [GSA, KD, NOTIFY]
        assert notifies(payloads) == [USE_TRANSPORT_MODE]
        self.policy, self.keys = Policy(payloads[0][1]), Keys(payloads[1][1], self.gsk_w)
        self.check_inband(self.policy, self.keys)
        self.sender_ids = self.keys.sender_ids
        is_sender = self.wants is not None
        assert (3 in self.policy.wide) == is_sender == bool(self.sender_ids)
        self._take_tek()
        return self

    def _take_rekey(self, message):
        """GSA_REKEY in fragments too (section 2.4.1.2), in whatever order."""
        if message[16] != SKF:
            return super()._take_rekey(message)
        assert self.sa.fragments, "fragments that nobody agreed upon"
        self.parts_came += 1
        self.longest = max(self.longest, len(message))
        number, total = struct.unpack_from(">HH", message, 32)
        parts = self._parts.setdefault((message[:16], message[20:24], total), {})
        parts[number] = message
        if len(parts) == total:
            ordered = [parts[n + 1] for n in range(total)]
            parts.clear()
            self.heard.append(self.rekey(ordered[0], ordered))
            self.messages.append(b"".join(ordered))
        return None
