"""A registration from the key server's side: who it is, its IKE SA, and those that follow it."""

import os

import foreign_ikesa
from foreign_gm import AUTH, FQDN, IDR, prf
from foreign_group import chain


class Session:
    """sa: the IKE SA in force; each rekey puts another there."""

    def __init__(self, server, request, back):
        self.server, self.back = server, back  # back: (socket, address) for what we send
        self.request, self.response = request, b""
        self.spi_i, self.spi_r = request[:8], os.urandom(8)
        self.nonce_i, self.nonce_r = b"", os.urandom(48)
        self.idi = b""  # the identity, once it is proven
        self.sa = None
        self.nat = {}  # "source", "destination": whether the hash was right
        self.came = []  # (our port, their address) of each new request, oldest first
        self.split = []  # into how many datagrams each of these was
        self.made = []  # IKE SAs by rekeys: ("ours" or "theirs", IkeSa)

    def derive(self, shared, bits, kwa):
        nonces = self.nonce_i, self.nonce_r
        self.sa = foreign_ikesa.first(False, self.spi_i, self.spi_r, *nonces, shared, bits, kwa)
        self.first = self.sa
        self.sk_pi, self.sk_pr = self.sa.sk_pi, self.sa.sk_pr

    @property
    def kwk(self):
        return self.sa.kwk

    @property
    def answers(self):
        """Message ID of ours → what came as the answer, each time; whole messages only."""
        return {n: [data for (data,) in came] for n, came in list(self.sa.answers.items())}

    def auth(self, sk_p, message, nonce, body, psk=None):
        padded = prf(psk or self.server.psk, b"Key Pad for IKEv2")
        return b"\x02\0\0\0" + prf(padded, message + nonce + prf(sk_p, body))

    def proof(self, psk=None, reserved=bytes(3)):
        """IDr and AUTH."""
        idr = bytes([FQDN]) + reserved + self.server.identity
        auth = self.auth(self.sk_pr, self.response, self.nonce_i, idr, psk)
        return [(IDR, idr), (AUTH, auth[:1] + reserved + auth[4:])]

    def emit(self, sa, exchange, payloads, message_id, response):
        if sa.room is None and self.server.group.junk:  # a minor version is ignored
            first, inner = chain(payloads)
            return [sa.seal(exchange, first, inner, message_id, response, 0x25)]
        return sa.emit(exchange, payloads, message_id, response)

    def open(self, data):
        """The payloads of a whole message of the member."""
        return self.sa.take(data).payloads
