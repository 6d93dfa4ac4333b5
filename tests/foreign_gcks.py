"""A key server written from RFC 7296 and RFC 9838 alone, on a real socket: nothing of lib/, host/.

A thread answers members on 127.0.0.1. What it says can be replaced piece by piece by a test; what
members say is held to the RFCs' letter, and whatever is wrong with it is raised by close().
"""

import hashlib
import os
import socket
import struct
import threading
import time
import traceback

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from foreign_gm import (
    AUTH,
    FQDN,
    GROUP_SENDER,
    GSA_AUTH,
    GSA_REGISTRATION,
    IDG,
    IDI,
    IDR,
    IKE_SA_INIT,
    INFORMATIONAL,
    KE,
    KEY_ID,
    KWK_LEN,
    NONCE,
    NOTIFY,
    SA,
    SK,
    header,
    identity,
    key_length,
    notification,
    prf,
    prf_plus,
    proposal,
    sa_body,
    transform,
    transforms_of,
    unchain,
)
from foreign_group import chain, delete, littered

MARKER = bytes(4)
RESPONSE, INITIATOR = 0x20, 0x08
COOKIE = 16390
DELETE_IKE = delete(1)


def proposals_of(body):
    """An SA payload → [(number, protocol, SPI, [(type, ID, attributes)])], strictly."""
    found = []
    while True:
        more, zero, length, number, protocol, spi_len, count = struct.unpack_from(">BBHBBBB", body)
        assert zero == 0 and more in (0, 2) and 8 + spi_len <= length <= len(body)
        listed, rest = transforms_of(body[8 + spi_len : length])
        assert len(listed) == count and rest == b""
        found.append((number, protocol, body[8 : 8 + spi_len], listed))
        body = body[length:]
        if not more:
            assert body == b""
            return found


class Session:
    """One IKE SA, from the responder's side."""

    def __init__(self, server, request, address):
        self.server, self.address = server, address
        self.request, self.response = request, b""
        self.spi_i, self.spi_r = request[:8], os.urandom(8)
        self.nonce_i, self.nonce_r = b"", os.urandom(48)
        self.next_id, self.own_id = 1, 0
        self.last = b"", b""  # digest of the last request, and its answer
        self.idi = b""  # the identity, once it is proven
        self.answers = {}  # Message ID of ours → what came as the answer

    def derive(self, shared, bits, kwa):
        nonces, n = self.nonce_i + self.nonce_r, bits // 8 + 4
        keys = prf_plus(prf(nonces, shared), nonces + self.spi_i + self.spi_r, 96 + 2 * n)
        self.sk_d, self.sk_ei, self.sk_er = keys[:32], keys[32 : 32 + n], keys[32 + n : 32 + 2 * n]
        self.sk_pi, self.sk_pr = keys[-64:-32], keys[-32:]
        self.kwk = prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", KWK_LEN[kwa])

    def auth(self, sk_p, message, nonce, body, psk=None):
        padded = prf(psk or self.server.psk, b"Key Pad for IKEv2")
        return b"\x02\0\0\0" + prf(padded, message + nonce + prf(sk_p, body))

    def proof(self, psk=None, reserved=bytes(3)):
        """IDr and AUTH."""
        idr = bytes([FQDN]) + reserved + self.server.identity
        auth = self.auth(self.sk_pr, self.response, self.nonce_i, idr, psk)
        return [(IDR, idr), (AUTH, auth[:1] + reserved + auth[4:])]

    def seal(self, exchange, payloads, message_id, flags):
        first, inner = chain(payloads)
        pad = os.urandom(1)[0] % 16
        text = inner + os.urandom(pad) + bytes([pad])
        total = 28 + 4 + 8 + len(text) + 16
        version = 0x25 if self.server.group.junk else 0x20  # a minor version is ignored
        aad = header(self.spi_i, self.spi_r, SK, exchange, flags, message_id, total, version)
        aad += struct.pack(">BBH", first, 0, total - 28)
        iv = os.urandom(8)
        return aad + iv + AESGCM(self.sk_er[:-4]).encrypt(self.sk_er[-4:] + iv, text, aad)

    def open(self, data):
        first, zero, length = struct.unpack_from(">BBH", data, 28)
        assert zero == 0 and length == len(data) - 28
        nonce = self.sk_ei[-4:] + data[32:40]
        text = AESGCM(self.sk_ei[:-4]).decrypt(nonce, data[40:], data[:32])
        return unchain(first, text[: -1 - text[-1]])


class ForeignGCKS:
    """group: a ForeignGroup. Tests set the attributes, and read heard."""

    def __init__(
        self, group, psk=b"k" * 32, marker=False, name=b"line1", identity=b"gcks.foreign"
    ):
        self.group, self.psk, self.marker = group, psk, marker
        self.name, self.identity = name, identity
        self.bits, self.kwa = 256, 3  # of the next IKE SA
        self.cookie = None  # to be demanded
        self.on_init = None  # instead of the answer to IKE_SA_INIT: request → datagram
        self.on_auth = None  # instead of all payloads of the answer to GSA_AUTH: session, wants →
        self.after_auth = lambda session: None  # behind that answer
        self.on_pull = None  # the same for a pull
        self.deaf = False
        self.heard = []  # (what, detail), oldest first
        self.faults = []
        self.sessions = {}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.settimeout(0.1)
        self.port = self._sock.getsockname()[1]
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        self._thread.join()
        self._sock.close()
        assert not self.faults, "\n".join(self.faults)

    def wait(self, what, n=1, timeout_s=10):
        """The detail of the n-th time that this was heard."""
        end = time.monotonic() + timeout_s
        while True:
            found = [detail for said, detail in self.heard if said == what]
            if len(found) >= n:
                return found[n - 1]
            assert not self.faults, "\n".join(self.faults)
            assert time.monotonic() < end, f"no {what} x {n} in {self.heard}"
            time.sleep(0.005)

    def count(self, what):
        return sum(said == what for said, _ in self.heard)

    @property
    def session(self):
        """The IKE SA that was made last."""
        return list(self.sessions.values())[-1]

    def forget(self):
        """As after a restart: no IKE SA is known any more."""
        self.sessions = {}

    def ask(self, session, exchange, payloads, times=2):
        """A request of ours, answered so many times in the same octets: the answer's payloads."""
        message_id = self.tell(session, exchange, payloads)
        end = time.monotonic() + 5
        while len(session.answers.get(message_id, ())) < times:
            assert not self.faults, "\n".join(self.faults)
            assert time.monotonic() < end, "no answer"
            time.sleep(0.005)
        return session.open(session.answers[message_id][0])

    def tell(self, session, exchange, payloads):
        """A request of ours, sent twice; its Message ID."""
        message_id, session.own_id = session.own_id, session.own_id + 1
        data = session.seal(exchange, payloads, message_id, 0)
        for _ in range(2):
            self.send(data, session.address)
        return message_id

    def send(self, data, address):
        self._sock.sendto(MARKER + data if self.marker else data, address)

    # What comes in

    def _run(self):
        while not self._closing:
            try:
                data, address = self._sock.recvfrom(4096)
            except TimeoutError:
                continue
            try:
                if self.marker:
                    assert data[:4] == MARKER, "no marker"
                    data = data[4:]
                if not self.deaf:
                    self._take(data, address)
            except Exception:
                self.faults.append(traceback.format_exc())

    def _take(self, data, address):
        first, version, exchange, flags, message_id, length = struct.unpack_from(
            ">BBBBII", data, 16
        )
        assert (version, length) == (0x20, len(data)) and flags in (8, 0x28) and any(data[:8])
        if exchange == IKE_SA_INIT:
            assert (data[8:16], flags, message_id) == (bytes(8), INITIATOR, 0)
            return self._init(first, data, address)
        assert first == SK
        session = self.sessions.get(data[8:16])
        if session is None:  # RFC 7296 section 2.21.4
            self.heard.append(("unknown", exchange))
            return None
        assert session.spi_i == data[:8]
        if flags & RESPONSE:
            assert message_id < session.own_id
            answers = session.answers.setdefault(message_id, [])
            answers.append(data)
            assert len(set(answers)) == 1 and session.open(data) is not None
            return None
        digest = hashlib.sha256(data).digest()
        if digest != session.last[0]:
            assert message_id == session.next_id
            session.next_id, session.address = message_id + 1, address
            payloads, after = self._answer(session, exchange, session.open(data))
            answer = session.seal(exchange, payloads, message_id, RESPONSE)
            session.last = digest, answer
            self.send(answer, address)
            return after(session)
        self.heard.append(("repeat", exchange))
        return self.send(session.last[1], address)

    def _init(self, first, data, address):
        payloads = unchain(first, data[28:])
        self.heard.append(("init", [kind for kind, _ in payloads]))
        if self.on_init is not None:
            answer = self.on_init(data)
            return answer and self.send(answer, address)
        if self.cookie is not None:
            if payloads[0] != notification(COOKIE, self.cookie):
                answer = self.clear(data, [notification(COOKIE, self.cookie)])
                assert [kind for kind, _ in payloads[:3]] == [SA, KE, NONCE]
                return self.send(answer, address)
            payloads = payloads[1:]
        payloads = payloads[:3] + [p for p in payloads[3:] if p[0] != NOTIFY]  # offers
        assert [kind for kind, _ in payloads] == [SA, KE, NONCE]
        for session in self.sessions.values():
            if session.request == data:
                self.heard.append(("repeat", IKE_SA_INIT))
                return self.send(session.response, address)
        session = Session(self, data, address)
        session.response = self._agree(session, *(body for _, body in payloads))
        self.sessions[session.spi_r] = session
        return self.send(session.response, address)

    def clear(self, request, payloads, spi_r=bytes(8)):
        """An answer to IKE_SA_INIT."""
        first, octets = chain(payloads)
        head = header(request[:8], spi_r, first, IKE_SA_INIT, RESPONSE, 0, 28 + len(octets))
        return head + octets

    def _agree(self, session, sa, ke, nonce):
        """SA, KE, Ni → the answer."""
        number = self._choose(proposals_of(sa))
        assert struct.unpack_from(">HH", ke) == (31, 0) and len(ke) == 36
        assert 16 <= len(nonce) <= 256
        session.nonce_i = nonce
        private = X25519PrivateKey.generate()
        shared = private.exchange(X25519PublicKey.from_public_bytes(ke[4:]))
        session.derive(shared, self.bits, self.kwa)
        chosen = [transform(13, self.kwa), transform(1, 20, key_length(self.bits))]
        chosen += [transform(4, 31), transform(2, 5)]
        payloads = [
            (SA, sa_body([proposal(number, 1, chosen)])),
            (KE, struct.pack(">HH", 31, 0) + private.public_key().public_bytes_raw()),
            (NONCE, session.nonce_r),
        ]
        payloads = payloads[::-1] if self.group.reverse else payloads
        payloads = littered(payloads) if self.group.junk else payloads
        return self.clear(session.request, payloads, session.spi_r)

    def _choose(self, offered):
        """RFC 7296 section 3.3.3: each proposal complete; the one with what this server wants."""
        for place, (number, protocol, spi, listed) in enumerate(offered):
            assert (number, protocol, spi) == (place + 1, 1, b"")
            assert {kind for kind, _, _ in listed} == {1, 2, 4, 13}
            for kind, _, found in listed:
                assert (kind == 1) == bool(found)
            wanted = [(1, 20, [(14, self.bits)]), (2, 5, []), (4, 31, []), (13, self.kwa, [])]
            if all(one in listed for one in wanted):
                return number
        raise AssertionError(f"no proposal with {self.bits} bits and KWA {self.kwa}")

    def _answer(self, session, exchange, payloads):
        """→ (payloads, what to do behind the answer)"""
        rest, bodies = lambda session: None, dict(payloads)
        kinds = [kind for kind, _ in payloads]
        if exchange == INFORMATIONAL:
            self.heard.append(("informational", payloads))
            return [], rest
        if exchange == GSA_AUTH:
            assert not session.idi and session.next_id == 2
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
        return self.group.registration(session.kwk, wants), rest

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

    def _told(self, body):
        protocol, size, kind = struct.unpack_from(">BBH", body)
        assert protocol == size == 0
        return kind
