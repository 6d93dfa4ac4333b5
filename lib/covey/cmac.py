"""AES-CMAC (RFC 4493) of a packet that lies in a buffer, truncated. 128-bit keys.

    0            12         16                  16 + n
    | SPI, number, IV's head | epoch in its place | text |        is what it covers

The IV's second half says the number once more, so that four octets are free there: the epoch goes
through the cipher in their place, and the buffer stays as it is.

CMACContext(key)                             16 octets, copied
    sign(buf, n, epoch, at, tag_len)         puts tag_len octets at `at`
    verify(buf, n, epoch, at, tag_len)       whether it is those that are there
    wipe()                                   overwrites key material; of no use afterwards

buf: a bytearray, of which a board reads words; n: octets of text; epoch: 4 octets, a bytearray.
On a board neither takes heap. Should its AES hardware fail, verify says False and sign raises
OSError. Loaded by groups with receiver-specific MACs alone.
"""

from covey.port import cmac_context as CMACContext

__all__ = ("CMACContext",)
