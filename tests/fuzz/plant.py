"""A key server, a member of ours, and a mole: a member with valid keys who means harm.

What happens is a program (program.py): who says what, and what becomes of it on its way. Three
kinds of harm, each worse than the one before, and what must hold in the end:

    by outsiders: lost, repeated, damaged, made up     nothing is raised, nothing grows, and once
    by the mole: requests, answers, rekeys without     there is peace the member has the group's
        a signature, packets, under its valid keys     keys again
    by who has all keys: what the key server and the   nothing is raised, nothing grows
        member say to each other, and signed rekeys

Nobody waits: curve arithmetic is `cryptography`'s, and the clock is virtual.
"""

import random
import sqlite3
import struct
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from unittest import mock

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from covey import ike, kd, keywrap, membership, p256, x25519
from covey.config import Config
from covey.drops import FormatError
from covey.gcm import GCMContext
from covey.member import Member
from covey_host.gcks import authority, keyserver, policy, table
from covey_host.gcks.sockets import Address
from covey_host.store import sqlite
from datapath import packet, padded, udp
from foreign_gm import ForeignGM, notification
from fuzz.program import Program
from fuzz.spoil import emit, spoil, spoil_octets
from gcks_site import KEY, LINE1, PLAIN, SITE
from ike_peer import DELETE_IKE, Asked, Peer

QUICK = LINE1 + "atd = 1\ndtd = 2\n"
FRESH = PLAIN + "fresh_join = true\nbackward_secrecy = true\natd = 1\ndtd = 2\n"
POLICIES = (
    SITE + QUICK,
    SITE + "fragment_size = 300\n" + QUICK + "key_tree = 2\nintegrity_only = true\n",
    SITE + "liveness = 10\nike_lifetime = 60\n" + QUICK + 'rekey = "inband"\n',
    SITE + QUICK + 'delivery = "unicast"\n',
    SITE + QUICK + 'source_auth = "mac"\n',
    SITE + QUICK + "max_silence = 20\nreport_interval = 10\n",
    SITE + "cookies_from = 0\n" + FRESH,
)
_NAMES = "press-7", "mole"
_HOSTS = "192.0.2.7", "192.0.2.66"
_SERVER = "192.0.2.1"
_MASK = (1 << 30) - 1  # of a member's ticks
_MOST_DEEDS = 24
_MOST_STEPS = 20_000  # of a member, between two moments
_MOST_SAS = 64  # IKE SAs that one plant can have a server keep
_PEACE_MS = 240_000
_WAITS_MS = 10, 300, 1000, 3000, 20_000, 61_000
_ASKED = 37, 37, 40, 36, 39, 42, 35, 41, 34


def _multiply(scalar, u):
    """x25519.multiply"""
    yield
    if len(u) != 32:
        return None
    try:
        private = X25519PrivateKey.from_private_bytes(bytes(scalar))
        if bytes(u) == x25519.BASE:
            return bytearray(private.public_key().public_bytes_raw())
        return bytearray(private.exchange(X25519PublicKey.from_public_bytes(bytes(u))))
    except ValueError:
        return None


class _Verifier(p256.Verifier):
    """approved: digests that pass whatever signs them."""

    approved: set[bytes] = set()

    def __init__(self, point):
        super().__init__(point)
        self._key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(point))

    def prepare(self):
        yield

    def verify(self, digest, r, s):
        yield
        if bytes(digest) in self.approved:
            return True
        how = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        try:
            self._key.verify(utils.encode_dss_signature(r, s), bytes(digest), how)
        except (InvalidSignature, ValueError):
            return False
        return True


@contextmanager
def _quickly():
    quick = mock.patch.object(x25519, "multiply", _multiply)
    with quick, mock.patch.object(p256, "Verifier", _Verifier):
        yield


def _store():
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in sqlite._TABLES:
        db.execute(statement)
    return sqlite.SQLiteStore(Path("memory"), db)


class Plant:
    def __init__(self, program):
        self.program = program
        text = program.pick(POLICIES)
        self._random = random.Random(1)
        self.now = 1_000_000
        self.store = _store()
        self.unasked = []  # what the server says to the mole
        self.said = []  # datagrams so far, by their way: (where, octets)
        self.lost = {}  # where: so many are lost
        self.spoilt = {}  # where: so many are changed, under their keys
        self.is_honest = True  # so far nobody has used keys that no member has
        self.rekey_sas = {}  # SPI: RekeySA
        self.mole = None
        _Verifier.approved = set()
        authority.make_signing_key(self.store)
        self.server = keyserver.KeyServer(
            self.store, policy.parse(text), random=self._random.randbytes, time=lambda: 0.0
        )
        self.addresses = [
            Address(0, host, 4500, bytes((192, 0, 2, 1)), 4500, True) for host in _HOSTS
        ]
        self.carry(self.server.start(self.now))
        for name in _NAMES:
            self.server.add_member(name, ["line1"], sender=True, psk=KEY)
        self._begin_member('delivery = "unicast"' in text)

    def _begin_member(self, is_relayed):
        fields = {
            "version": 1,
            "group": "line1",
            "idi": _NAMES[0],
            "idr": "gcks.example",
            "servers": [[_SERVER, 4500, True]],
            "sender": True,
            "fragment_size": 300,
            "liveness_s": 15,
            "ike_lifetime_s": 100,
            "delivery": "unicast" if is_relayed else "multicast",
        }
        settings = Config(fields, psk=KEY)
        self.member = Member(sender=True)
        self.it = membership.Membership(settings, self.member, self._random.randbytes)
        self.it.start(self.now & _MASK)

    # The network. Where: "server", "member", "group"

    def carry(self, outs):
        """Of the server."""
        for group in getattr(self, "server", None) and self.server._groups.values() or ():
            for sa in group.rekey_sas():
                self.rekey_sas[sa.spi] = sa
        for out in outs:
            if out.address is None:
                self.pass_on("group", out.data)
            elif out.address == self.addresses[0]:
                self.pass_on("member", out.data)
            else:
                self.unasked = [*self.unasked, out][-16:]

    def pass_on(self, where, data):
        """A datagram on its way."""
        self.said = [*self.said, (where, bytes(data))][-64:]
        if self.lost.get(where):
            self.lost[where] -= 1
            return
        if self.spoilt.get(where):
            self.spoilt[where] -= 1
            self.is_honest = False
            data = self.spoil(bytes(data))
        self.put(where, data)

    def put(self, where, data):
        if where == "server":
            self.carry(self.server.receive(bytes(data), self.addresses[0], self.now))
        elif where == "member":
            self.it.unicast(bytes(data), self.now & _MASK, (_SERVER, 4500, True))
        else:
            self.it.multicast(bytes(data), self.now & _MASK)

    def put_esp(self, data):
        """A packet of the mole: to the member, and to the relay."""
        answer = None
        if 0 < len(data) <= len(self.member.rx):
            self.member.rx[: len(data)] = data
            answer = self.member.receive(len(data), self.now & _MASK)
        assert answer is None or answer < 0 or self.member.source is None
        relay = self.server.relay
        if len(data) >= 36 and any(data[:4]):  # as relaying.py and sockets.py look at it
            for address in self.addresses:
                if relay.knows(address):
                    relay.from_member(data, address, self.now)
            if relay.expects("line1", data, self.now):
                relay.from_group("line1", data, self.now)

    def run(self, ms):
        """Both work, and time passes."""
        end = self.now + ms
        while True:
            wait = min(self._run_member(), self._run_server(), end - self.now)
            if self.now >= end:
                return
            self.now += max(1, wait)

    def _run_member(self):
        for _ in range(_MOST_STEPS):
            wait = self.it.step(self.now & _MASK)
            data, _ = self.it.outgoing()
            while data is not None:
                if len(data) > 4:
                    self.pass_on("server", bytes(data[4:]))
                data, _ = self.it.outgoing()
            self.it.events.clear()
            if wait:
                return wait
        raise AssertionError("the member's work has no end")

    def _run_server(self):
        outs, wait = self.server.step(self.now)
        self.carry(outs)
        return wait

    # Under all keys

    def spoil(self, data):
        """One datagram, changed as the program says; sealed, and signed, as if nothing was."""
        program = self.program
        try:
            header = ike.parse_header(data)
            if header.exchange == ike.IKE_SA_INIT:
                return self._spoilt_init(data)
            context, kwk = self._keys_of(header)
            opened = context and _opened(context, data)
        except FormatError:
            opened = None
        if not opened:
            return spoil_octets(data, program.u8() % 8, program)
        aad, first, inner = opened
        if aad[-4 if len(aad) == 32 else -8] or first:
            first, inner = self._spoilt_inner(first, inner, kwk)
        else:
            inner = spoil_octets(inner, program.u8() % 8, program)
        head = bytearray(aad)
        self._spoil_head(head)
        head[-4 if len(aad) == 32 else -8] = first
        return self._sealed(context, head, first, inner, header.exchange == ike.GSA_REKEY)

    def _spoilt_init(self, data):
        header, payloads = ike.parse_message(data)
        first, chain = emit(spoil([(p.kind, p.body) for p in payloads], self.program), self.program)
        head = bytearray(data[:28])
        head[16] = first
        self._spoil_head(head)
        struct.pack_into(">I", head, 24, 28 + len(chain))
        return bytes(head) + chain

    def _spoilt_inner(self, first, inner, kwk):
        program = self.program
        try:
            payloads = [(p.kind, p.body) for p in ike.parse_chain(first, inner)]
        except FormatError:  # one of several fragments
            return first, spoil_octets(inner, program.u8() % 8, program)
        if kwk and program.u8() & 1:
            payloads = [self._rewrapped(*one, kwk) for one in payloads]
        return emit(spoil(payloads, program), program)

    def _rewrapped(self, kind, body, kwk):
        """A KD with another key in it, of any length."""
        if kind != ike.KD:
            return kind, body
        try:
            found = kd.parse_kd(body)
        except FormatError:
            return kind, body
        keys = [key for bag in found.bags for key in bag.keys]
        keys += found.member.wrap_keys if found.member else []
        if keys:
            key = self.program.pick(keys)
            key.data = bytes(keywrap.wrap(bytes(kwk), self.program.octets(80) or b"\0"))
        return kind, bytes(kd.emit_kd(found))

    def _spoil_head(self, head):
        """Of header and SK's beginning: seldom."""
        edit = self.program.u8() % 16
        if edit == 1:
            head[18] = self.program.u8()  # exchange
        elif edit == 2:
            head[19] ^= 1 << (self.program.u8() & 7)  # flags
        elif edit == 3:
            struct.pack_into(">I", head, 20, self.program.u32())  # Message ID
        elif edit == 4 and len(head) == 36:
            struct.pack_into(">HH", head, 32, self.program.u8(), self.program.u8())
        elif edit == 5:
            head[17] = self.program.u8()  # version

    def _keys_of(self, header):
        """→ (context, KWK) of whoever said this; None where nobody has it."""
        for sa in self.server._responder._sas.values():
            if (sa.spi_i, sa.spi_r) == (header.spi_i, header.spi_r):
                keymat = sa.keys.sk_ei if header.flags & ike.FLAG_I else sa.keys.sk_er
                return GCMContext(bytes(keymat)), sa.kwk
        sa = self.rekey_sas.get(header.spi_i + header.spi_r)
        return (sa.context(), sa.kwk) if sa else (None, None)

    def _sealed(self, context, head, first, inner, is_signed):
        length = len(head) - 28 + 8 + len(inner) + 1 + 16
        struct.pack_into(">I", head, 24, 28 + length)
        struct.pack_into(">H", head, 30, length & 0xFFFF)
        if is_signed and self.program.u8() & 1:
            self._approve(head, first, inner)
        out = head + self._random.randbytes(8) + inner + bytes(17)
        context.seal(out, 0, len(head), len(inner) + 1)
        return bytes(out)

    def _approve(self, head, first, inner):
        """A signature over it counts as good."""
        try:
            auth = [p for p in ike.parse_chain(first, inner) if p.kind == ike.AUTH]
            for one in auth[:1]:
                signed = ike.rekey_signed_octets(head[:32], inner, one.off)
                _Verifier.approved.add(sha256(signed).digest())
        except FormatError:
            pass

    # The mole

    def mole_joins(self):
        """With what it says spoilt as the program says, IKE_SA_INIT and GSA_AUTH."""
        gm = ForeignGM(b"mole", KEY, wants=1, kwa=1)
        first, chain = emit(spoil(_split(gm.sa_init()), self.program), self.program)
        gm.init_request = _in_clear(gm.init_request, first, chain)
        answers = self._ask(gm.init_request)
        try:
            gm.take_sa_init(answers[0])
        except (AssertionError, LookupError, ValueError, struct.error, TypeError):
            return  # it was refused
        payloads = gm.auth_payloads() + gm.group_payloads()
        self._ask(gm.seal(39, [], octets=emit(spoil(payloads, self.program), self.program)))

    def _ask(self, data):
        outs = self.server.receive(data, self.addresses[1], self.now)
        self.carry(outs)
        return [out.data for out in outs if out.address == self.addresses[1]]

    @property
    def site(self):
        """What ike_peer.Peer needs."""
        return self

    def send(self, outs):
        self.carry(outs)

    def mole_is_in(self):
        """A mole that is registered: its Peer."""
        sas = self.server._responder._sas
        if self.mole is None or self.mole.sa.spi_r not in sas:
            self.mole = None
            peer = Peer(self, "mole", wants=1, address=self.addresses[1])
            peer.connect(extra=[notification(ike.IKEV2_FRAGMENTATION_SUPPORTED)])
            peer.ask(39, peer.gm.auth_payloads() + peer.gm.group_payloads())
            self.unasked.clear()
            if peer.sa.spi_r in sas:
                self.mole = peer
        return self.mole

    def mole_asks(self):
        mole = self.mole_is_in()
        if mole is None:
            return
        exchange = self.program.pick(_ASKED)
        payloads = self.program.pick(
            (
                [],
                mole.gm.group_payloads(),
                Asked().payloads(),
                [DELETE_IKE],
                [notification(ike.COVEY_REPORT, self.program.octets())],
                [notification(self.program.u16(), self.program.octets())],
            )
        )
        sa = self.server._responder._sas[mole.sa.spi_r]
        self._mole_says(mole, exchange, payloads, sa.next_request, 0)

    def mole_answers(self):
        """What the server asks it, if it does."""
        mole = self.mole_is_in()
        pending = mole and self.server._responder._sas[mole.sa.spi_r].pending
        if pending:
            self._mole_says(mole, pending.exchange, [], pending.message_id, 0x20)

    def _mole_says(self, mole, exchange, payloads, message_id, flags):
        first, inner = emit(spoil(payloads, self.program), self.program)
        sa = mole.sa
        flags |= sa.flags(True)
        cut = self.program.u8()
        if cut & 3 != 3:
            return self._ask(sa._seal(46, first, exchange, flags, message_id, inner))
        room = max(1, cut >> 2, -(-len(inner) // 40))
        pieces = [inner[at : at + room] for at in range(0, len(inner), room)]
        for number, piece in enumerate(pieces):
            numbers = struct.pack(">HH", number + 1, len(pieces))
            kind = 0 if number else first
            self._ask(sa._seal(53, kind, exchange, flags, message_id, piece, numbers))

    def mole_sends(self):
        """A packet under the TEK, well made or not."""
        program, epoch = self.program, self.server._groups["line1"].epoch
        text = udp(program.octets(), port=2222 if program.u8() & 1 else program.u16())
        text = padded(text, program.pick((17, 17, 59, 6)))
        if program.u8() & 1:
            text = spoil_octets(text, program.u8() % 8, program)[:1400]
        sender = program.u16()
        self.put_esp(packet(text, program.u32(), sender, epoch.tek_spi, epoch.tek_keymat))

    def mole_rekeys(self):
        """The latest rekey, or what it made of it, under the Rekey SA, without a signature."""
        rekeys = [data for where, data in self.said if where == "group"]
        if not rekeys:
            return
        data = rekeys[-1 - self.program.u8() % len(rekeys)]
        context, _ = self._keys_of(ike.parse_header(data))
        opened = context and _opened(context, data)
        if opened:
            aad, first, inner = opened
            _, inner = self._spoilt_inner(first, inner, None)
            head = bytearray(aad)
            self._spoil_head(head)
            self.put("group", self._sealed(context, head, 0, inner, False))

    # Deeds

    def wait(self):
        self.run(self.program.pick(_WAITS_MS))

    def member_asks(self):
        self.it.refresh(self.now & _MASK)

    def rekey(self):
        self.carry(self.server.rekey("line1", self.now))

    def member_sends(self):
        """Its packet, back to it and to the relay."""
        n = self.member.send(0, self.now & _MASK)
        if n > 0:
            self.put_esp(bytes(self.member.tx[:n]))

    def lose(self):
        self.lost[self._where()] = self.program.u8() & 7

    def change(self):
        self.spoilt[self._where()] = 1 + (self.program.u8() & 3)

    def throw(self):
        """Any octets at anybody."""
        data = self.program.octets()
        where = self._where()
        if self.program.u8() & 1:
            self.put_esp(data)
        else:
            self.put(where, data)

    def repeat(self):
        """What was said some time ago, there or elsewhere, as it was or damaged."""
        if not self.said:
            return
        where, data = self.said[-1 - self.program.u8() % len(self.said)]
        how = self.program.u8()
        if how & 1:
            data = spoil_octets(data, how >> 1 & 7, self.program)
        self.put(where if how & 16 == 0 else self._where(), data)

    def remove_mole(self):
        if self.server.authority.find("mole").removed:
            return
        self.carry(self.server.remove_member("mole", self.now))

    def _where(self):
        return self.program.pick(("server", "member", "group"))

    DEEDS = (
        wait,
        rekey,
        member_asks,
        mole_asks,
        mole_answers,
        mole_sends,
        mole_rekeys,
        mole_joins,
        member_sends,
        throw,
        repeat,
        lose,
        change,
        remove_mole,
    )

    # What must hold

    def check(self):
        responder = self.server._responder
        assert len(responder._sas) <= _MOST_SAS and len(responder._table.unproven) <= _MOST_SAS
        assert len(self.server.events) <= 1000 and len(self.server.counters) < 200
        assert len(self.it._group.rekey.live()) <= 3
        assert sum(map(len, self.it._keys._later)) <= 2 * ike.MOST_LEN + 4096
        unicast = self.it._ike and self.it._ike._unicast
        assert unicast is None or len(unicast.lines) <= 3

    def make_peace(self):
        self.lost, self.spoilt = {}, {}
        self.it.refresh(self.now & _MASK)
        end = self.now + _PEACE_MS
        while not self.is_healed():
            assert self.now < end, f"{self.it.state_name}: {self.it.reason}"
            self.run(1000)

    def is_healed(self):
        """The member has the keys in force, and has stopped asking for them."""
        tek = self.server._groups["line1"].epoch.tek_spi
        held = [bytes(sa.spi) for sa in self.member.keys.live()]
        return self.it.state_name == "member" and tek in held and not self.it.is_asking


def _opened(context, data):
    """→ (AAD, first kind, inner octets); None where it does not open."""
    header = ike.parse_header(data)
    if header.next_payload not in (ike.SK, ike.SKF):
        return None
    aad_len = 32 if header.next_payload == ike.SK else 36
    copy = bytearray(data)
    text_len = len(data) - aad_len - 24
    if text_len < 1 or not context.open(copy, 0, aad_len, text_len):
        return None
    inner = copy[aad_len + 8 : -16]
    return bytes(data[:aad_len]), data[28], bytes(inner[: len(inner) - 1 - inner[-1]])


def _split(data):
    return [(p.kind, p.body) for p in ike.parse_message(data)[1]]


def _in_clear(data, first, chain):
    return data[:16] + bytes([first]) + data[17:24] + struct.pack(">I", 28 + len(chain)) + chain


def _live(data, deeds):
    program = Program(data)
    with _quickly():
        plant = Plant(program)
        try:
            if program.u8() & 1:
                plant.run(3000)  # else it begins amid all that
            for _ in range(_MOST_DEEDS):
                if program.is_over:
                    break
                program.pick(deeds)(plant)
                plant.check()
            plant.run(200)
            plant.check()
            if plant.is_honest:
                plant.make_peace()
        finally:
            plant.it.wipe()
            plant.store.close()


def outsiders(data):
    """Who has no keys."""
    here = Plant
    _live(data, (here.wait, here.rekey, here.throw, here.repeat, here.lose, here.member_asks))


def moles(data):
    """Who has a member's."""
    _live(data, tuple(deed for deed in Plant.DEEDS if deed is not Plant.change))


def masters(data):
    """Who has all."""
    _live(data, Plant.DEEDS)


TARGETS = {"outsider": outsiders, "mole": moles, "master": masters}
