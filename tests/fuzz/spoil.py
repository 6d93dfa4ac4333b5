"""Payloads of an IKE message, and octets, changed as a Program says. No change is one octet: 0."""

_MOST_EDITS = 8
_MOST_BODY = 4096  # octets: longer ones than any message takes
_KINDS = (33, 34, 35, 36, 39, 40, 41, 42, 44, 45, 46, 47, 50, 51, 52, 53, 0, 1, 200)


def spoil(payloads, program):
    """[(kind, body)] → [(kind, body, whether critical)]"""
    found = [(kind, bytes(body), False) for kind, body in payloads]
    for _ in range(_MOST_EDITS):
        edit = program.u8() % 16
        if not edit:
            break
        if edit == 1:
            found.insert(program.u8() % (len(found) + 1), _made(program))
        elif found:
            at = program.u8() % len(found)
            _change(found, at, edit, program)
    return found


def _made(program):
    return program.pick(_KINDS), program.octets(), bool(program.u8() & 1)


def _change(found, at, edit, program):
    kind, body, is_critical = found[at]
    if edit == 2:
        del found[at]
    elif edit == 3:
        found.append(found[at])
    elif edit == 4:
        found.append(found.pop(at))
    elif edit == 5:
        found[at] = program.pick(_KINDS), body, is_critical
    elif edit == 6:
        found[at] = kind, body, not is_critical
    elif edit == 7:
        found[at] = kind, program.octets(), is_critical
    else:
        found[at] = kind, spoil_octets(body, edit - 8, program), is_critical


def spoil_octets(data, how, program):
    """One change: how is 0 to 7."""
    at = program.u16() % (len(data) + 1)
    out = bytearray(data)
    if how == 0:
        out[at : at + 1] = bytes([program.u8()])
    elif how == 1:
        out[at : at + 2] = program.take(2)
    elif how == 2:
        out[at : at + 4] = program.take(4)
    elif how == 3:
        out = out[:at]
    elif how == 4:
        out = out[:at] + program.octets() + out[at:]
    elif how == 5:  # a piece again, and again: nested, oversized
        piece = bytes(out[at : at + program.u8()])
        out = out[:at] + piece * (1 + program.u8()) + out[at:]
    elif how == 6:
        out = out[:at] + out[at + program.u8() :]
    elif at < len(out):
        out[at] ^= 1 << (program.u8() & 7)
    return bytes(out[:_MOST_BODY])


def emit(payloads, program):
    """→ (kind of the first, octets of the chain), with lengths that need not be true."""
    out = bytearray()
    for i in range(len(payloads)):
        kind, body, is_critical = payloads[i]
        following = payloads[i + 1][0] if i + 1 < len(payloads) else 0
        length = 4 + len(body)
        out += bytes([following, 0x80 if is_critical else 0, length >> 8, length & 255]) + body
    first = payloads[0][0] if payloads else 0
    edit = program.u8() % 16
    if 1 <= edit <= 8:
        return first, spoil_octets(out, edit - 1, program)
    if edit == 9:
        return program.u8(), bytes(out)
    return first, bytes(out)
