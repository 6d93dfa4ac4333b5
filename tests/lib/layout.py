"""For tests of formats: octets written down field by field, and how a parser must refuse."""

import binascii

from covey.drops import FormatError


def octets(*fields):
    """Hex fields → bytes. Spaces inside a field only help the eye."""
    return binascii.unhexlify("".join(fields).replace(" ", ""))


def why_refused(parse, *args):
    """The reason of the FormatError that parse raises; None if it takes the octets."""
    try:
        parse(*args)
    except FormatError as error:
        return error.reason
    return None


def patched(data, off, field):
    """A copy of data with hex octets put at off; off -1: behind the last."""
    field = octets(field)
    if off < 0:
        return data + field
    return data[:off] + field + data[off + len(field) :]


def reasons_of_changes(parse, data):
    """Why parse refuses data with one octet changed, for each octet and several values."""
    reasons = set()
    changed = bytearray(data)
    for off in range(len(data)):
        for value in (0x00, 0x01, 0x04, 0x7F, 0x80, 0xFF, data[off] - 1 & 0xFF):
            changed[off] = value
            reasons.add(why_refused(parse, changed))
        changed[off] = data[off]
    return reasons
