"""A member of the group with valid keys, who means harm."""

import struct

from covey import ike
from covey.drops import Drops
from covey.report import emit_report
from datapath import packet, padded, udp
from foreign_gm import ForeignGM, notification
from fuzz import tamper
from fuzz.spoil import emit, spoil, spoil_octets
from gcks_site import KEY
from ike_peer import DELETE_IKE, Asked, Peer

_REPORT = emit_report(2, bytes(4), 1, 60, 5, 7, [(2, 60)], Drops())
_REFUSED = (AssertionError, LookupError, TypeError, ValueError, struct.error)  # of foreign_gm


class Mole:
    def __init__(self, plant):
        self.plant, self.program = plant, plant.program
        self.address = plant.addresses[1]
        self._peer = None

    def joins(self):
        """With what it says spoilt: IKE_SA_INIT and, where that is answered, GSA_AUTH."""
        gm = ForeignGM(b"mole", KEY, wants=1)
        payloads = [(p.kind, p.body) for p in ike.parse_message(gm.sa_init())[1]]
        first, chain = emit(spoil(payloads, self.program), self.program)
        head = bytearray(gm.init_request[:28])
        head[16] = first
        struct.pack_into(">I", head, 24, 28 + len(chain))
        gm.init_request = bytes(head) + chain
        try:
            gm.take_sa_init(self._says(gm.init_request)[0])
        except _REFUSED:
            return
        payloads = gm.auth_payloads() + gm.group_payloads()
        self._says(gm.seal(39, [], octets=emit(spoil(payloads, self.program), self.program)))

    def asks(self):
        """Over its IKE SA."""
        peer = self._registered()
        if peer is None:
            return
        exchange, payloads = self.program.pick(
            (
                (40, peer.gm.group_payloads()),
                (36, Asked().payloads()),
                (37, [notification(ike.COVEY_REPORT, _REPORT)]),
                (37, [notification(self.program.u16(), self.program.octets())]),
                (37, []),
                (37, [DELETE_IKE]),
            )
        )
        if self.program.u8() % 8 == 7:
            exchange = self.program.u8()
        self._seals(peer.sa, exchange, payloads, self._server_sa.next_request, 0)

    def answers(self):
        """What the server asks it, if it does."""
        peer = self._registered()
        pending = peer and self._server_sa.pending
        if pending:
            self._seals(peer.sa, pending.exchange, [], pending.message_id, 0x20)

    def sends(self):
        """A packet under the TEK, well made or not."""
        program, epoch = self.program, self.plant.group.epoch
        text = udp(program.octets(), port=2222 if program.u8() & 1 else program.u16())
        text = padded(text, program.pick((17, 17, 59, 6)))
        if program.u8() & 1:
            text = spoil_octets(text, program.u8() % 8, program)[:1400]
        sender = program.u16()
        self.plant.put_esp(packet(text, program.u32(), sender, epoch.tek_spi, epoch.tek_keymat))

    def rekeys(self, is_signed=False):
        """What it makes of a rekey of before, over the Rekey SA in force; signed if
        it has the key server's key, too."""
        rekeys = [data for where, data in self.plant.said if where == "group"]
        if not rekeys:
            return
        data = rekeys[-1 - self.program.u8() % len(rekeys)]
        context, _ = tamper.keys_of(self.plant, ike.parse_header(data))
        found = context and tamper.opened(context, data)
        if found:
            sa = self.plant.group.epoch.rekey
            number = struct.pack(">I", sa.next_message_id + (self.program.u8() & 3))
            head = sa.spi + found[0][16:20] + number + found[0][24:]
            kwk = sa.kwk if is_signed else None
            made = tamper.resealed(self.plant, sa.context(), head, found[1], kwk, is_signed)
            self.plant.put("group", made)

    @property
    def _server_sa(self):
        return self.plant.server._responder._sas.get(self._peer.sa.spi_r)

    def _registered(self):
        """Its ike_peer.Peer; None where it is not let in."""
        if self._peer is None or self._server_sa is None:
            peer = self._peer = Peer(self.plant, "mole", wants=1, address=self.address)
            peer.connect(extra=[notification(ike.IKEV2_FRAGMENTATION_SUPPORTED)])
            peer.ask(39, peer.gm.auth_payloads() + peer.gm.group_payloads())
            self.plant.unasked.clear()
        return self._peer if self._server_sa is not None else None

    def _seals(self, sa, exchange, payloads, message_id, flags):
        """In one piece, or in many."""
        first, inner = emit(spoil(payloads, self.program), self.program)
        flags |= sa.flags(True)
        cut = self.program.u8()
        if cut & 3 != 3:
            self._says(sa._seal(ike.SK, first, exchange, flags, message_id, inner))
            return
        room = max(1, cut >> 2, -(-len(inner) // 40))
        pieces = [inner[at : at + room] for at in range(0, len(inner), room)]
        for number, piece in enumerate(pieces):
            numbers = struct.pack(">HH", number + 1, len(pieces))
            kind = 0 if number else first
            self._says(sa._seal(ike.SKF, kind, exchange, flags, message_id, piece, numbers))

    def _says(self, data):
        """→ what is answered"""
        plant = self.plant
        outs = plant.server.receive(data, self.address, plant.now)
        plant.send(outs)
        return [out.data for out in outs if out.address == self.address]
