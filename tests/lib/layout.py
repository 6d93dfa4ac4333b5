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
