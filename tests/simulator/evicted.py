"""The evicted, all together: every key that one of them ever held, and every datagram there was.

A Coalition hears all that goes to the group from its creation on, at no loss, and keeps it. When
a member is evicted its keys are added: TEKs, Rekey SAs (GSK_e and GSK_w), keys of a key tree. Each
GSA_REKEY is then opened and unwrapped again, with whatever is there, until nothing more is found.
So they share what they know, with the past, and don't obey any Delete. This is no code of a
member's; only formats and AES are lib's.

They inject, too: packets under keys that they know, as from a Sender-ID that nobody has.

To open an ESP packet takes its TEK, so that "tries every key on every packet" is a look into the
set of TEKs; which of them sealed a packet the checker knows.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from covey import gsa, ike, keywrap
from covey.drops import FormatError
from covey.gcm import GCMContext
from covey.ikefrag import Reassembly

_ZERO_ID = bytes(4)
_NOBODY = b"\xff\xc0"  # a Sender-ID: the last index of 10 bits
_SALT_LEN, _AAD_LEN, _ESP_HEAD = 4, 8, 16
_MARKER_LEN = 4


@dataclass(eq=False)
class Eviction:
    """Of one member. epoch: the group's from which on it is out."""

    name: str
    epoch: int
    last: set = field(repr=False)  # datagrams that complete it: when they have left it is done
    asked_ms: int = 0
    done_ms: int | None = None


class Injected:
    """A packet that no member sent. eviction: by which the key of it became known to who is out;
    None of an outsider's, whose tag is wrong."""

    is_injected = True
    sender = None

    def __init__(self, eviction=None, key=None):
        self.eviction = eviction
        self.key = key


class Coalition:
    def __init__(self):
        self.teks = {}  # keying material → the latest Eviction when it became known
        self.members = 0
        self._latest = None
        self.records = []  # GSA_REKEY datagrams, without marker
        self._rekey_sas = {}  # SPI → {(GSK_e, GSK_w): Reassembly}
        self._kwks = {}  # Key ID → keys
        self._gsk_ws = set()
        self._heard = {}  # TEK → a packet under it
        self._injections = 0

    def hear(self, datagram, packet):
        """All that goes to the group."""
        if packet is None:
            self.records.append(datagram[_MARKER_LEN:])
            if self._latest is not None:
                self._open(self.records[-1])
        else:
            self._heard.setdefault(packet.key, datagram)

    def join(self, machine, eviction):
        """A member that has been evicted."""
        self._latest = eviction
        self.members += 1
        for tek in machine.teks:
            self.teks.setdefault(tek, eviction)
        for key_id, keys in machine.kwks.items():
            self._kwks.setdefault(key_id, set()).update(keys)
        for spi, held in machine.rekey_sas.items():
            for keys in held:
                self._learn_rekey_sa(spi, *keys)
        while True:
            before = self._count()
            for record in self.records:
                self._open(record)
            if self._count() == before:
                return

    def forge(self, latest):
        """[(datagram, Injected)]: one under each of the latest keys that they have."""
        made = []
        for tek in list(self.teks)[-latest:]:
            if tek in self._heard:
                self._injections += 1
                made.append((self._sealed(tek), Injected(self.teks[tek], tek)))
        return made

    def _sealed(self, tek):
        """The text of a packet that was heard, in one of their own."""
        model, salt, aes = self._heard[tek], tek[-_SALT_LEN:], AESGCM(tek[:-_SALT_LEN])
        iv = model[_AAD_LEN:_ESP_HEAD]
        text = aes.decrypt(salt + iv, model[_ESP_HEAD:], model[:_AAD_LEN])
        number = self._injections.to_bytes(4)
        head, iv = model[:4] + number, _NOBODY + bytes(2) + number
        return head + iv + aes.encrypt(salt + iv, text, head)

    def _count(self):
        return len(self.teks), len(self._gsk_ws), sum(map(len, self._kwks.values()))

    def _learn_rekey_sa(self, spi, gsk_e, gsk_w):
        self._rekey_sas.setdefault(spi, {}).setdefault((gsk_e, gsk_w), Reassembly())
        self._gsk_ws.add(gsk_w)

    def _open(self, record):
        """What a GSA_REKEY says to whoever has the keys of the Rekey SA that it came over."""
        for (gsk_e, gsk_w), parts in list(self._rekey_sas.get(record[:16], {}).items()):
            try:
                opened = parts.open(GCMContext(gsk_e), record)
                if opened is None:
                    continue
                for payload in ike.parse_chain(opened.first, opened.inner):
                    if payload.kind == ike.KD:
                        self._unwrap(gsa.parse_kd(payload.body), gsk_w, len(gsk_e))
            except FormatError:
                continue

    def _unwrap(self, keys, gsk_w, gsk_e_len):
        wraps = list(keys.member.wrap_keys) if keys.member else []
        found = True
        while found:  # in whatever order the chain stands in the message
            found = False
            for wrap in list(wraps):
                for key in self._tried(wrap, gsk_w):
                    self._kwks.setdefault(bytes(wrap.key_id), set()).add(key)
                    wraps.remove(wrap)
                    found = True
                    break
        for bag in keys.bags:
            for wrap in bag.keys:
                for key in self._tried(wrap, gsk_w):
                    if bag.protocol == ike.GIKE_UPDATE:
                        self._learn_rekey_sa(bag.spi, key[:gsk_e_len], key[gsk_e_len:])
                    else:
                        self.teks.setdefault(key, self._latest)

    def _tried(self, wrap, gsk_w):
        """The key, with each that could be the one it is wrapped under."""
        under = {gsk_w} if wrap.kwk_id == _ZERO_ID else self._kwks.get(bytes(wrap.kwk_id), ())
        for kwk in under:
            key = keywrap.unwrap(kwk, wrap.data)
            if key is not None:
                yield bytes(key)
                return
