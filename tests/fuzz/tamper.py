"""One datagram, changed under its keys: sealed, and signed, as if nothing was."""

import struct
from hashlib import sha256

from covey import ike, kd, keywrap
from covey.drops import FormatError
from covey.gcm import GCMContext
from fuzz.quick import approved
from fuzz.spoil import emit, spoil, spoil_octets

_SK_HEAD, _SKF_HEAD = 32, 36  # octets of AAD
_FIRST = 28  # where in it the kind of the first payload inside stands


def changed(plant, data):
    """The datagram, as the program has it; what can't be opened is damaged."""
    try:
        header = ike.parse_header(data)
        if header.exchange == ike.IKE_SA_INIT:
            return _in_clear(plant.program, data)
        context, kwk = keys_of(plant, header)
        found = context and opened(context, data)
    except FormatError:
        found = None
    if not found:
        return spoil_octets(data, plant.program.u8() % 8, plant.program)
    head, inner = found
    return resealed(plant, context, head, inner, kwk, header.exchange == ike.GSA_REKEY)


def keys_of(plant, header):
    """→ (context, KWK) of whoever said this; None where nobody has it."""
    for sa in plant.server._responder._sas.values():
        if (sa.spi_i, sa.spi_r) == (header.spi_i, header.spi_r):
            keymat = sa.keys.sk_ei if header.flags & ike.FLAG_I else sa.keys.sk_er
            return GCMContext(bytes(keymat)), sa.kwk
    sa = plant.rekey_sas.get(header.spi_i + header.spi_r)
    return (sa.context(), sa.kwk) if sa else (None, None)


def opened(context, data):
    """→ (AAD, inner octets); None where it does not open."""
    header = ike.parse_header(data)
    if header.next_payload not in (ike.SK, ike.SKF):
        return None
    aad_len = _SK_HEAD if header.next_payload == ike.SK else _SKF_HEAD
    copy = bytearray(data)
    text_len = len(data) - aad_len - 24
    if text_len < 1 or not context.open(copy, 0, aad_len, text_len):
        return None
    inner = copy[aad_len + 8 : -16]
    return bytes(data[:aad_len]), bytes(inner[: len(inner) - 1 - inner[-1]])


def resealed(plant, context, head, inner, kwk, is_signed):
    """With other payloads in it, and perhaps another header. kwk: other keys, too."""
    head = bytearray(head)
    head[_FIRST], inner = _other_inner(plant.program, head[_FIRST], inner, kwk)
    _change_head(plant.program, head)
    length = len(head) - 28 + 8 + len(inner) + 1 + 16
    struct.pack_into(">I", head, 24, 28 + length)
    struct.pack_into(">H", head, 30, length & 0xFFFF)
    if is_signed and plant.program.u8() & 1:
        _approve(head, inner)
    out = head + plant.chance(8) + inner + bytes(17)
    context.seal(out, 0, len(head), len(inner) + 1)
    return bytes(out)


def _in_clear(program, data):
    payloads = ike.parse_message(data)[1]
    head = bytearray(data[:28])
    head[16], chain = emit(spoil([(p.kind, p.body) for p in payloads], program), program)
    _change_head(program, head)
    struct.pack_into(">I", head, 24, 28 + len(chain))
    return bytes(head) + chain


def _other_inner(program, first, inner, kwk):
    """→ (kind of the first, octets)"""
    try:
        payloads = [(p.kind, p.body) for p in ike.parse_chain(first, inner)]
    except FormatError:  # one of several fragments
        return first, spoil_octets(inner, program.u8() % 8, program)
    if kwk and program.u8() & 1:
        payloads = [(kind, _other_keys(program, kind, body, kwk)) for kind, body in payloads]
    return emit(spoil(payloads, program), program)


def _other_keys(program, kind, body, kwk):
    """A KD with another key in it, of any length."""
    if kind != ike.KD:
        return body
    try:
        found = kd.parse_kd(body)
    except FormatError:
        return body
    keys = [key for bag in found.bags for key in bag.keys]
    keys += found.member.wrap_keys if found.member else []
    if keys:
        key = program.pick(keys)
        key.data = bytes(keywrap.wrap(bytes(kwk), program.octets(80) or b"\0"))
    return bytes(kd.emit_kd(found))


def _change_head(program, head):
    """Seldom."""
    edit = program.u8() % 16
    if edit == 1:
        head[18] = program.u8()  # exchange
    elif edit == 2:
        head[19] ^= 1 << (program.u8() & 7)  # flags
    elif edit == 3:
        struct.pack_into(">I", head, 20, program.u32())  # Message ID
    elif edit == 4 and len(head) == _SKF_HEAD:
        struct.pack_into(">HH", head, 32, program.u8(), program.u8())
    elif edit == 5:
        head[17] = program.u8()  # version


def _approve(head, inner):
    """A signature over it counts as good."""
    try:
        for payload in ike.parse_chain(head[_FIRST], inner):
            if payload.kind == ike.AUTH:
                signed = ike.rekey_signed_octets(head[:_SK_HEAD], inner, payload.off)
                approved.add(sha256(signed).digest())
    except FormatError:
        pass
