"""AES-GCM with 96-bit nonces and full tags, as ESP (RFC 4106) and IKEv2 (RFC 5282) use it.

One layout, contiguous in the caller's buffer, sealed and opened where it lies:

    off
     | AAD (aad_len) | IV (8) | text (text_len) | tag (16) |

    nonce = salt (4) | IV; keymat = AES key (16 or 32) | salt

GCMContext(keymat)
    seal(buf, off, aad_len, text_len)    encrypts the text, writes the tag
    open(buf, off, aad_len, text_len)    the tag first: False, buf unchanged; or True, clear text
    wipe()                               overwrites key material; the context is dead afterwards

On MicroPython seal and open allocate nothing; the AAD may have 0 to 64 octets, the text 0 to the
most that set_most_text() allows. ValueError beyond, and where the layout does not fit into buf.
"""

from covey.port import GCMContext, const

IV_LEN = const(8)
TAG_LEN = const(16)
SALT_LEN = const(4)

__all__ = ("GCMContext", "IV_LEN", "SALT_LEN", "TAG_LEN")
