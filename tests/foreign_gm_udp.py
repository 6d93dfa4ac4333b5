"""The foreign member of foreign_gm.py on real sockets: the key server's port and the group's."""

import select
import socket
import time

from foreign_esp import AES_GCM, AES_GMAC, Air
from foreign_gm import GSA_AUTH, GSA_REGISTRATION, INFORMATIONAL, ForeignGM
from processes import PATIENCE_S

MARKER, RESPONSE = bytes(4), 0x20
SEQUENTIAL, UNSPECIFIED = 0, 2


class Wire:
    """A UDP socket towards a key server."""

    def __init__(self, port, marker=False):
        self._to, self._lead = ("127.0.0.1", port), MARKER if marker else b""
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))

    def close(self):
        self._sock.close()

    def send(self, message):
        self._sock.sendto(self._lead + message, self._to)

    def receive(self, timeout_s=PATIENCE_S):
        """The next message, or None."""
        if not select.select([self._sock], [], [], timeout_s)[0]:
            return None
        data = self._sock.recv(4096)
        assert data.startswith(self._lead)
        return data[len(self._lead) :]

    def ask(self, message):
        """The answer; asked again, it is the same to the bit (RFC 7296 section 2.1)."""
        self.send(message)
        answer = self._answer()
        self.send(message)
        assert answer is not None and self._answer() == answer
        return answer

    def _answer(self):
        """The next one; requests of theirs come again."""
        while (data := self.receive()) is not None and not data[19] & RESPONSE:
            pass
        return data


class GM(ForeignGM):
    """One on the air. site: who the key server must prove to be."""

    def __init__(self, wire, site, *args, **how):
        super().__init__(*args, **how)
        self.wire, self.site = wire, site
        self.air = None
        self.width = None  # of Sender-IDs
        self.heard = []  # what became of each message on the group's address
        self.inside = []  # (IV, port, payload) of packets
        self.messages = []  # GSA_REKEY as they came
        self.promised = True  # GSA_NEXT_SPI is expected to be kept

    def connect(self, **offer):
        self.take_sa_init(self.wire.ask(self.sa_init(**offer)))
        return self

    def ask_for_group(self, auth=None, **group):
        """GSA_AUTH → payloads behind IDr and AUTH."""
        payloads = (auth or self.auth_payloads()) + self.group_payloads(**group)
        answer = self.open(self.wire.ask(self.seal(GSA_AUTH, payloads)), GSA_AUTH)
        return self.check_identity(answer, self.site)

    def join(self, auth=None, **group):
        return self._keep(self.ask_for_group(auth, **group))

    def pull(self, **group):
        answer = self.wire.ask(self.gsa_registration(**group))
        return self._keep(self.open(answer, GSA_REGISTRATION))

    def talk(self, exchange, payloads):
        """Payloads of the answer to a request inside the IKE SA."""
        return self.open(self.wire.ask(self.seal(exchange, payloads)), exchange)

    def served(self, timeout_s=PATIENCE_S):
        """A request of the key server, answered by an empty message: its payloads."""
        request = self.wire.receive(timeout_s)
        message_id = int.from_bytes(request[20:24])
        payloads = self.open(request, INFORMATIONAL, message_id, 0)
        self.wire.send(self.seal(INFORMATIONAL, [], message_id=message_id, flags=0x28))
        return payloads

    def _keep(self, payloads):
        self.take_group(payloads)
        self.check_policy()
        return self

    def check_policy(self):
        """What RFC 9838 section 5 and the figures of section 4.4 want of a registration."""
        policy = self.policy
        assert policy.order == [6, 3, 0] and self.keys.order == [6, 3, 0]
        kek, tek = policy.sas[6], policy.sas[3]
        for sa in (kek, tek):
            kinds = [kind for kind, _ in sa["attributes"]]
            assert kinds.count(1) == 1 and kinds.count(2) <= 1  # lifetime, initial Message ID
            assert all(len(v) == len(sa["spi"]) for k, v in sa["attributes"] if k == 3)
            protocol, low, high, start, end = sa["destination"]
            assert protocol == 17 and low == high and start == end and start[0] & 0xF0 == 0xE0
        assert dict(kek["attributes"]).get(2) != bytes(4)  # left out where it is zero
        assert sorted(kind for kind, _, _ in kek["transforms"]) == [1, 13, 14]
        assert sorted(kind for kind, _, _ in tek["transforms"]) == [1, 5]
        assert (5, UNSPECIFIED, []) in tek["transforms"]
        is_sender = self.wants is not None
        assert (3 in policy.wide) == is_sender == bool(self.sender_ids)
        assert not is_sender or all(n >> policy.wide[3] == 0 for n in self.sender_ids)

    # The group's address

    def listen(self):
        """Join the multicast group where the Rekey SA's destination says."""
        _, port, _, address, _ = self.policy.sas[6]["destination"]
        self.air = Air(socket.inet_ntoa(address), port)
        return self

    def hear(self, until, timeout_s=PATIENCE_S):
        """Take what comes until until() holds."""
        end = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end, self.heard
            data = self.air.receive(0.05)
            if data is None:
                continue
            if data[:4] == MARKER:
                self._take_rekey(data[4:])
            elif self.tek and data[:4] == self.tek[0]:
                self.inside.append(self.air.open(self.key, data))

    def _take_rekey(self, message):
        before = self.promises()
        said = self.rekey(message)
        self.heard.append(said)
        self.messages.append(message)
        if said == "rekeyed" and self.promised:
            assert before == (self.rekey_sa.spi, self.tek[0])
        if said == "passed on" and self.promised:
            assert before[0] == self.rekey_sa.spi

    def promises(self):
        """GSA_NEXT_SPI of the Rekey SA and of the TEK, None without."""
        if self.rekey_sa is None:
            return None, None
        latest = self.kek, self.policy.sas[3]
        return tuple(dict(sa["attributes"]).get(3) for sa in latest)

    @property
    def key(self):
        (cipher,) = [id for kind, id, _ in self.policy.sas[3]["transforms"] if kind == 1]
        return Key(*self.tek, {20: AES_GCM, 21: AES_GMAC}[cipher])

    def send(self, payload, seq, sender_id=None):
        """ESP by scapy, our Sender-ID on top of the IV; the counter is our own affair."""
        self.width = bits = self.policy.wide.get(3, self.width)  # said at registration only
        number = self.sender_ids[0] if sender_id is None else sender_id
        iv = (number << 64 - bits | 0xABCDEF00 + seq).to_bytes(8)
        return self.air.send(self.key, payload, port=2222, seq=seq, iv=iv)

    def close(self):
        if self.air:
            self.air.close()
        self.wire.close()


class Key:
    """What scapy needs of a TEK."""

    port = 2222

    def __init__(self, spi, keymat, cipher=AES_GCM):
        self.spi, self.keymat, self.cipher = spi, keymat, cipher
