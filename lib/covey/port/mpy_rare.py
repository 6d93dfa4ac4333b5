"""AES-GCM for keys that are seldom used, of IKE and Rekey SAs. Of these there is the key alone
between calls. For each call tables are made in memory that is kept for a GCMContext, and wiped
behind it.
"""

from micropython import const

from covey.port.mpy_gcm import GCMContext

_MOST_TEXT = const(4096)
_AT_ONCE = const(256)  # octets that are decrypted in one step of a job

_VERIFY = const(2)
_FROM = const(32)


class _Context(GCMContext):
    most_text = _MOST_TEXT


class RareContext:
    """See covey.gcm. A bytearray is kept, not copied. Allocates."""

    def __init__(self, keymat):
        if len(keymat) not in (20, 36):
            raise ValueError("keymat is an AES key of 16 or 32 octets and 4 octets of salt")
        self._keymat = keymat if isinstance(keymat, bytearray) else bytearray(keymat)

    def seal(self, buf, off, aad_len, text_len):
        context = None
        try:
            context = _Context(self._keymat)
            context.seal(buf, off, aad_len, text_len)
        except OSError:  # AES gave zeros, as it does where it finds no memory
            raise MemoryError
        finally:
            if context is not None:
                context.wipe()

    def open_job(self, buf, off, aad_len, text_len):
        if self._keymat is None:
            return False  # wiped before its turn came
        try:
            context = _Context(self._keymat)
        except OSError:
            return False  # AES gave zeros
        try:
            yield
            crypt, parts = context._parts
            if not crypt(buf, off, aad_len, text_len, parts, _VERIFY):
                return False
            for done in range(0, text_len, _AT_ONCE):
                yield
                until = min(done + _AT_ONCE, text_len)
                if not crypt(buf, off, aad_len, until, parts, _FROM + done):
                    return False
            return True
        finally:
            context.wipe()

    def wipe(self):
        for i in range(len(self._keymat or ())):
            self._keymat[i] = 0
        self._keymat = None
