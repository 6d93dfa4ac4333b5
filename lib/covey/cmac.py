"""AES-CMAC (RFC 4493) of a packet that lies in a buffer, truncated. 128-bit keys.

    what it covers    SPI | sequence number | Sender-ID | inner destination port | epoch | payload
    octets            4     4                 2           2                        4       n
    from              0     4                 8           18                       apart   24

CMACContext(key)                             16 octets, copied
    sign(buf, n, epoch, at, tag_len)         puts tag_len octets at `at`
    verify(buf, n, epoch, at, tag_len)       whether it is those that are there
    mac(parts, buf, n, epoch, at, tag_len)   what both do, with its .parts: signs, or verifies if
                                             tag_len is negative: 1, -1 where the tag differs, and
                                             0 where AES has failed: then failed() is to be called
    renew(key)                               from now on it is of this key; not one that was wiped
    wipe()                                   overwrites key material: from then on verify says
                                             False, and sign raises OSError
    users                                    who works with it, see mac.py

buf: a bytearray, of which a board reads words; n: octets of payload; epoch: 4 octets, a bytearray.
On a board none of the three takes heap. Should its AES hardware fail, verify says False and sign
and CMACContext() raise OSError. Loaded by groups with receiver-specific MACs alone.
"""

from covey.port import cmac_context as CMACContext

__all__ = ("CMACContext",)
