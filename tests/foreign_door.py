"""IKE_SA_INIT at the foreign key server: proposals, cookies, NATs. Nothing of lib/ or host/."""

import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from foreign_gm import (
    IKE_SA_INIT,
    KE,
    NONCE,
    NOTIFY,
    SA,
    header,
    key_length,
    notification,
    proposal,
    sa_body,
    transform,
    transforms_of,
    unchain,
)
from foreign_group import chain, littered
from foreign_nat import NAT_DESTINATION, NAT_SOURCE, detection
from foreign_session import Session

RESPONSE = 0x20
COOKIE, FRAGMENTATION = 16390, 16430


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


class Door:
    """The part of foreign_gcks.ForeignGCKS that lets members in."""

    def _init(self, first, data, back):
        payloads = unchain(first, data[28:])
        self.heard.append(("init", [kind for kind, _ in payloads]))
        if self.on_init is not None:
            answer = self.on_init(data)
            return answer and self.send(answer, back)
        if payloads[0][0] == NOTIFY and self._told(payloads[0][1]) == COOKIE:
            cookie, payloads = payloads[0][1][4:], payloads[1:]
            assert cookie == self.cookie, "a cookie that was not asked for"
        elif self.cookie is not None:
            return self.send(self.clear(data, [notification(COOKIE, self.cookie)]), back)
        assert [kind for kind, _ in payloads if kind != NOTIFY] == [SA, KE, NONCE]
        for session, _ in self.sessions.values():
            if session.request == data:
                self.heard.append(("repeat", IKE_SA_INIT))
                return self.send(session.response, back)
        session = Session(self, data, back)
        bodies = {kind: body for kind, body in payloads if kind != NOTIFY}
        notified = [(self._told(body), body[4:]) for kind, body in payloads if kind == NOTIFY]
        session.response = self._agree(session, notified, bodies[SA], bodies[KE], bodies[NONCE])
        self.sessions[session.spi_r] = session, session.sa
        return self.send(session.response, back)

    def clear(self, request, payloads, spi_r=bytes(8)):
        """An answer to IKE_SA_INIT."""
        first, octets = chain(payloads)
        head = header(request[:8], spi_r, first, IKE_SA_INIT, RESPONSE, 0, 28 + len(octets))
        return head + octets

    def _agree(self, session, notified, sa, ke, nonce):
        """Notifications, SA, KE, Ni → the answer."""
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
            *self._notices(session, notified),
        ]
        payloads = payloads[::-1] if self.group.reverse else payloads
        payloads = littered(payloads) if self.group.junk else payloads
        return self.clear(session.request, payloads, session.spi_r)

    def _notices(self, session, notified):
        """RFC 7296 section 2.23: NAT_DETECTION_*. RFC 7383: IKEV2_FRAGMENTATION_SUPPORTED."""
        types = [type for type, _ in notified]
        assert set(types) <= {NAT_SOURCE, NAT_DESTINATION, FRAGMENTATION}
        assert types.count(FRAGMENTATION) < 2 and types.count(NAT_DESTINATION) < 2
        assert (NAT_SOURCE in types) == (NAT_DESTINATION in types)
        sock, theirs = session.back
        answer = []
        if NAT_SOURCE in types:
            spis, ours = (session.spi_i, bytes(8)), sock.getsockname()
            session.nat = {
                "source": (NAT_SOURCE, detection(*spis, theirs)) in notified,
                "destination": (NAT_DESTINATION, detection(*spis, ours)) in notified,
            }
            assert all(len(data) == 20 for type, data in notified if type != FRAGMENTATION)
            if self.nat:
                spis = session.spi_i, session.spi_r
                source, destination = detection(*spis, ours), detection(*spis, theirs)
                source = bytes(20) if "source" in self.lies else source
                destination = bytes(20) if "destination" in self.lies else destination
                answer += [notification(NAT_SOURCE, source)]
                answer += [notification(NAT_DESTINATION, destination)]
        if FRAGMENTATION in types and self.fragments:
            assert (FRAGMENTATION, b"") in notified
            answer.append(notification(FRAGMENTATION))
            session.sa.fragments, session.sa.room = True, self.room
        session.sa.most = self.most
        return answer

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

    def _told(self, body):
        protocol, size, kind = struct.unpack_from(">BBH", body)
        assert protocol == size == 0
        return kind
