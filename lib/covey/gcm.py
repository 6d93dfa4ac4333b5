"""AES-GCM with 96-bit nonces and full tags, as ESP (RFC 4106) and IKEv2 (RFC 5282) use it.

One layout, contiguous in the caller's buffer, sealed and opened where it lies:

    off
     | AAD (aad_len) | IV (8) | text (text_len) | tag (16) |

    nonce = salt (4) | IV; keymat = AES key (16 or 32) | salt

GCMContext(keymat), GMACContext(keymat), RareContext(keymat)
    seal(buf, off, aad_len, text_len)    encrypts the text, writes the tag
    open(buf, off, aad_len, text_len)    the tag first; False: buf unchanged, True: decrypted
    wipe()                               overwrites key material; the context is dead afterwards

The caller answers for the layout lying within buf: a board does not look. On a board both take no
heap. Text has at most 1536 octets there, or what GCMContext.set_most_text(n) said before the
first context was made, AAD at most 112: ValueError beyond. It is fastest where AAD and IV begin
at multiples of four octets in memory. Not re-entrant, not even across contexts.
GCMContext.set_constant_time(), before the first context too, chooses a GHASH whose time and memory
accesses tell nothing, for boards with cached memory; `covey image --constant-time` makes images
that have no other.

RareContext is AES-GCM for a key that is seldom used, in 64 octets: on a board each call makes the
tables that a GCMContext keeps, and may allocate. Its text may have 4096 octets. In place of open()
it has open_job(), which takes the same: tables, tag and each 256 octets of text are steps apart.

GMACContext leaves the text in clear: the tag covers it like AAD, and the IV too (AES-GMAC,
RFC 4543 section 3.3). Its AAD has 8 octets, 24, 40 and so on.

Should the AES hardware of a board fail, open says False and seal raises OSError, a RareContext's
MemoryError: the text is then still in clear, some of it perhaps, and must not be sent, nor sealed
or opened again.
"""

from covey.port import GCMContext, GMACContext, RareContext, const

IV_LEN = const(8)
TAG_LEN = const(16)
SALT_LEN = const(4)

__all__ = (
    "GCMContext",
    "GMACContext",
    "IV_LEN",
    "RareContext",
    "SALT_LEN",
    "TAG_LEN",
)
