"""What a person is told of a covey.json that is not taken, by number.

Loaded when that is so; who names a number of them doesn't load it on a board.
"""

NO_JSON = 0
NO_OBJECT = 1
MISSING = 2
UNKNOWN = 3
NO_TEXT = 4
CONTROLS = 5
TOO_LONG = 6
NO_CHOICE = 7
NOT_THIS = 8
NO_WHOLE = 9
NO_WHOLE_NOR_ZERO = 10
NO_POWER = 11
NO_FLAG = 12
NO_LIST = 13
NO_SERVER = 14
NO_MARKER = 15
NO_MARKERS = 16
DOES_NOTHING = 17
NO_KEY = 18
SHORT_KEY = 19

SENTENCES = (
    " is not JSON: check its commas, quotes and braces.",
    " must be an object in braces.",
    " is missing: add it.",
    " is not a field of covey.json: correct or remove it.",
    " must be a text in quotes that is not empty.",
    " must be a text without control characters.",
    " must be at most 255 octets long.",
    ' must be "%s" or "%s".',
    " must be %d.",
    " must be a whole number from %d to %d.",
    " must be a whole number from %d to %d, or 0.",
    " must be a power of two, such as 16.",
    " must be true or false.",
    " must be a list in brackets with at least one entry.",
    " must be [host, port, marker].",
    " must be true on port 4500 (RFC 7296 section 2.23).",
    ' must be "multicast" where a server has no marker.',
    " must be true where sender is false.",
    " names %s, which must hold a key of at least %d octets, or an even number of hexadecimal"
    " digits, at least %d.",
    "The pre-shared key must have at least 16 octets.",
)
