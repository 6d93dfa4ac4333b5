"""What parsers say: `micropython answers.py FILE`, a line `NAME HEX` for each input → a line each.

Both interpreters must say the same; what is raised is said by its name.
"""

import binascii
import sys

from fuzz import formats, packets

TARGETS = dict(formats.TARGETS)
TARGETS.update(packets.TARGETS)


def answer(name, data):
    try:
        return repr(TARGETS[name](data))
    except Exception as error:
        return type(error).__name__


def main(path):
    with open(path) as file:
        for line in file:
            name, octets = line.split(" ")
            print(name, answer(name, binascii.unhexlify(octets.strip())))


if __name__ == "__main__":
    main(sys.argv[1])
