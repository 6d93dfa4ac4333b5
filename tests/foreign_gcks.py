"""A key server written from RFC 7296 and RFC 9838 alone, on real sockets: nothing of lib/, host/.

A thread answers members on loopback. What it says can be replaced piece by piece by a test; what
members say is held to the RFCs' letter, and whatever is wrong with it is raised by close().
"""

import select
import struct
import threading
import time
import traceback

from cryptography.exceptions import InvalidTag

from foreign_door import Door, proposals_of
from foreign_gm import (
    AUTH,
    CREATE_CHILD_SA,
    GROUP_SENDER,
    GSA_AUTH,
    GSA_REGISTRATION,
    IDG,
    IDI,
    IDR,
    IKE_SA_INIT,
    INFORMATIONAL,
    KEY_ID,
    NOTIFY,
    SA,
    identity,
)
from foreign_group import delete
from foreign_ikesa import Rekey, answer_rekey, number_of
from foreign_nat import bound
from processes import PATIENCE_S

MARKER = bytes(4)
RESPONSE, INITIATOR = 0x20, 0x08
COOKIE, FRAGMENTATION = 16390, 16430
DELETE_IKE = delete(1)


class ForeignGCKS(Door):
    """group: a ForeignGroup. Tests set the attributes, and read heard. more_ports: {port: marker},
    at which it is as well."""

    def __init__(
        self,
        group,
        psk=b"k" * 32,
        marker=False,
        name=b"line1",
        identity=b"gcks.foreign",
        host="127.0.0.1",
        port=0,
        more_ports=(),
    ):
        self.group, self.psk, self.marker = group, psk, marker
        self.name, self.identity = name, identity
        self.bits, self.kwa = 256, 3  # of the next IKE SA
        self.cookie = None  # to be demanded
        self.nat = False  # does it answer NAT_DETECTION_*
        self.lies = ()  # "source", "destination": a wrong hash is sent there
        self.fragments = False  # does it answer IKEV2_FRAGMENTATION_SUPPORTED
        self.room = None  # inner octets of fragments it sends, where they were agreed upon
        self.most = None  # octets of a datagram that it takes in
        self.order = lambda sa, message, datagrams: (
            datagrams
        )  # of an answer, when it goes out first
        self.on_init = None  # instead of the answer to IKE_SA_INIT: request → datagram
        self.on_auth = None  # instead of all payloads of the answer to GSA_AUTH: session, wants →
        self.after_auth = lambda session: None  # behind that answer
        self.on_pull = None  # the same for a pull
        self.on_child = None  # instead of the answer to CREATE_CHILD_SA: session, payloads →
        self.before_child = lambda session: None  # when one has come
        self.nonce = self.answer_nonce = None  # of ours in rekeys that we begin, and in others
        self.said = []  # payloads of the last answer
        self.deaf = False
        self.heard = []  # (what, detail), oldest first
        self.faults = []
        self.sessions = {}  # our SPI of each IKE SA → (Session, IkeSa)
        self.host = host
        sock = bound(host, port)
        self.port = sock.getsockname()[1]
        self._socks = {sock: marker}
        for at, has_marker in dict(more_ports).items():
            self._socks[bound(host, at)] = has_marker
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        self._thread.join()
        for sock in self._socks:
            sock.close()
        assert not self.faults, "\n".join(self.faults)

    def until(self, condition, story="", timeout_s=PATIENCE_S):
        end = time.monotonic() + timeout_s
        while not condition():
            assert not self.faults, "\n".join(self.faults)
            if time.monotonic() > end:
                raise TimeoutError(f"no {story} in {self.heard}")
            time.sleep(0.005)

    def wait(self, what, n=1, timeout_s=PATIENCE_S):
        """The detail of the n-th time that this was heard."""
        self.until(lambda: self.count(what) >= n, f"{what} x {n}", timeout_s)
        return [detail for said, detail in list(self.heard) if said == what][n - 1]

    def count(self, what):
        return sum(said == what for said, _ in list(self.heard))

    @property
    def session(self):
        """The one whose IKE SA was made last."""
        return list(self.sessions.values())[-1][0]

    def forget(self):
        """As after a restart: no IKE SA is known any more."""
        self.sessions = {}

    # What goes out

    def ask(self, session, exchange, payloads, times=2, sa=None):
        """A request of ours, answered so many times in the same octets: the answer's payloads."""
        sa = sa or session.sa
        message_id = self.tell(session, exchange, payloads, sa)
        answers = sa.answers.setdefault(message_id, [])
        for _ in range(PATIENCE_S):  # RFC 7296 section 2.1: whoever asks repeats
            try:
                self.until(lambda: len(answers) >= times, "answer", 0.5)
                break
            except TimeoutError:
                for data in sa.asked:
                    self.send(data, session.back)
        self.until(lambda: len(answers) >= times, "answer", 0.5)
        return sa.answered[message_id].payloads

    def tell(self, session, exchange, payloads, sa=None, order=list):
        """A request of ours, sent twice; its Message ID. order: what becomes of its datagrams."""
        sa = sa or session.sa
        message_id, sa.own_id = sa.own_id, sa.own_id + 1
        sa.asked = order(session.emit(sa, exchange, payloads, message_id, False))
        for _ in range(2):
            for data in sa.asked:
                self.send(data, session.back)
        return message_id

    def send(self, data, back):
        sock, address = back
        sock.sendto(MARKER + data if self._socks[sock] else data, address)

    def rekey(self, session, choices=None):
        """Of the IKE SA → the old one."""
        old = self.rekeyed(session, *self.begin_rekey(session, choices))
        assert self.ask(session, INFORMATIONAL, [DELETE_IKE], sa=old) == []
        self.drop(old)
        return old

    def begin_rekey(self, session, choices=None):
        """→ (foreign_ikesa.Rekey, Message ID)"""
        pending = Rekey(session.sa, choices or [(self.bits, self.kwa)], self.nonce)
        return pending, self.tell(session, CREATE_CHILD_SA, pending.payloads())

    def rekeyed(self, session, pending, message_id, use=True):
        """The answer is there: → the old one. use: from now on the new one is."""
        old = pending.old
        self.until(lambda: message_id in old.answered, "answer to our rekey")
        made = pending.take(old.answered[message_id].payloads)
        session.made.append(("ours", made))
        self.sessions[made.spi] = session, made
        session.sa = made if use else session.sa
        return old

    def _take_over(self, session, made):
        self.sessions[made.spi] = session, made
        session.sa = made

    def drop(self, sa):
        """Repeats of its last request are answered all the same."""
        sa.ended = True

    # What comes in

    def _run(self):
        while not self._closing:
            for sock in select.select([*self._socks], [], [], 0.1)[0]:
                data, address = sock.recvfrom(4096)
                try:
                    if data == b"\xff":
                        assert self._socks[sock], "a keep-alive where there is no marker"
                        self.heard.append(("keepalive", address))
                        continue
                    if self._socks[sock]:
                        assert data[:4] == MARKER, "no marker"
                        data = data[4:]
                    if not self.deaf:
                        self._take(data, (sock, address))
                except Exception:
                    self.faults.append(traceback.format_exc())

    def _take(self, data, back):
        first, version, exchange, flags, message_id, length = struct.unpack_from(
            ">BBBBII", data, 16
        )
        assert (version, length) == (0x20, len(data)) and any(data[:8])
        if exchange == IKE_SA_INIT:
            assert (data[8:16], flags, message_id) == (bytes(8), INITIATOR, 0)
            return self._init(first, data, back)
        spi = data[8:16] if flags & INITIATOR else data[:8]
        found = self.sessions.get(spi)
        if found is None or found[1].ended and data not in found[1].last[0]:  # section 2.21.4
            self.heard.append(("unknown", exchange))
            return None
        session, sa = found
        try:
            message = sa.take(data)
        except InvalidTag:
            return self.heard.append(("forged", exchange))
        if flags & RESPONSE:
            return message and self._answered(sa, message)
        if message_id == sa.peer_id:
            return message and self._request(session, sa, message, back)
        assert message_id == sa.peer_id - 1 and data in sa.last[0], "neither new nor a repeat"
        self.heard.append(("repeat", exchange))
        for answer in sa.last[1] if number_of(data) < 2 else ():
            self.send(answer, back)
        return None

    def _answered(self, sa, message):
        answers = sa.answers.setdefault(message.message_id, [])
        answers.append(message.datagrams)
        assert answers[0] == message.datagrams, "an answer is always the same"
        sa.answered.setdefault(message.message_id, message)

    def _request(self, session, sa, message, back):
        sa.peer_id += 1
        session.back = back
        session.came.append((back[0].getsockname()[1], back[1]))
        session.split.append(len(message.datagrams))
        payloads, after = self._answer(session, sa, message)
        self.said = payloads
        answer = session.emit(sa, message.exchange, payloads, message.message_id, True)
        sa.last = message.datagrams, answer
        for data in self.order(sa, message, answer):
            self.send(data, back)
        after(session)

    def _answer(self, session, sa, message):
        """→ (payloads, what to do behind the answer)"""
        rest, payloads, exchange = lambda session: None, message.payloads, message.exchange
        if exchange == GSA_AUTH:  # COVEY_AWAKE, which nobody else knows
            payloads = [p for p in payloads if p != (NOTIFY, b"\0\0\xa0\0")]
        bodies, kinds = dict(payloads), [kind for kind, _ in payloads]
        if exchange == INFORMATIONAL:
            self.heard.append(("informational", payloads))
            if DELETE_IKE in payloads:
                assert payloads == [DELETE_IKE]
                self.heard.append(("deleted", sa))
                return [], lambda session: self.drop(sa)
            return [], rest
        if exchange == CREATE_CHILD_SA:
            self.before_child(session)
            self.heard.append(("child", payloads))
            if self.on_child is not None:
                return self.on_child(session, payloads), rest
            answer, made = answer_rekey(sa, payloads, (self.bits, self.kwa), self.answer_nonce)
            session.made.append(("theirs", made))
            return answer, lambda session: self._take_over(session, made)
        if exchange == GSA_AUTH:
            assert not session.idi and message.message_id == 1
            assert kinds in ([IDI, IDR, AUTH, IDG, SA], [IDI, IDR, AUTH, IDG, SA, NOTIFY])
            assert bodies[IDI][:4] == b"\x0b\0\0\0" and bodies[IDR][:4] == b"\x02\0\0\0"
            whole = session.request, session.nonce_r, bodies[IDI]
            assert bodies[AUTH] == session.auth(session.sk_pi, *whole), "wrong AUTH"
            session.idi = bodies[IDI][4:]
            wants = self._wants(bodies)
            self.heard.append(("auth", (session.idi, wants)))
            if self.on_auth is not None:
                return self.on_auth(session, wants), self.after_auth
            group = self.group
            proof = session.proof(reserved=b"\xa5\xa5\xa5" if group.junk else bytes(3))
            granted = group.registration(session.kwk, wants)
            return (granted + proof if group.reverse else proof + granted), self.after_auth
        assert exchange == GSA_REGISTRATION and session.idi
        assert bodies[IDG] == identity(KEY_ID, self.name)
        if kinds == [IDG, NOTIFY] and (told := self._told(bodies[NOTIFY])) in (14, 49):
            self.heard.append(("refused" if told == 14 else "left", session.idi))
            return [], rest
        assert kinds in ([IDG, SA], [IDG, SA, NOTIFY])
        wants = self._wants(bodies)
        self.heard.append(("pull", (session.idi, wants)))
        if self.on_pull is not None:
            return self.on_pull(session, wants), rest
        return self.group.registration(sa.kwk, wants), rest

    def _wants(self, bodies):
        """IDg, SAg, N(GROUP_SENDER) → how many Sender-IDs are wanted, or None."""
        assert bodies[IDG] == identity(KEY_ID, self.name)
        offered = proposals_of(bodies[SA])  # section 4.3: no SPI; one number, no dependencies
        assert {(spi, number) for number, _, spi, _ in offered} == {(b"", 1)}
        assert sorted(protocol for _, protocol, _, _ in offered) == [3, 6]
        allowed = {6: {1, 13, 14}, 3: {1, 5}}
        for _, protocol, _, listed in offered:
            assert {kind for kind, _, _ in listed} == allowed[protocol]
        if NOTIFY not in bodies:
            return None
        assert self._told(bodies[NOTIFY]) == GROUP_SENDER and len(bodies[NOTIFY]) == 8
        return int.from_bytes(bodies[NOTIFY][4:])
