"""AES-CMAC on CPython: `cryptography`."""

from hmac import compare_digest

from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC

_EIO = 5


class CMACContext:
    """See covey.cmac."""

    def __init__(self, key):
        if len(key) != 16:
            raise ValueError("the key of a CMAC has 16 octets")
        self.users = 0
        self._fresh = CMAC(algorithms.AES(bytes(key)))
        self.mac = _mac

    @property
    def parts(self):
        return self

    def failed(self):
        """This AES never fails."""

    def renew(self, key):
        self._fresh = CMAC(algorithms.AES(bytes(key)))

    def sign(self, buf, n, epoch, at, tag_len):
        if self._fresh is None:
            raise OSError(_EIO, "a wiped key")
        buf[at : at + tag_len] = self._mac(buf, n, epoch)[:tag_len]

    def verify(self, buf, n, epoch, at, tag_len):
        if self._fresh is None:
            return False
        return compare_digest(self._mac(buf, n, epoch)[:tag_len], bytes(buf[at : at + tag_len]))

    def wipe(self):
        """`cryptography` keeps keys to itself: all that can be done is let go of it."""
        self._fresh = None

    def _mac(self, buf, n, epoch):
        work = self._fresh.copy()
        work.update(b"%b%b%b%b" % (buf[:10], buf[18:20], epoch, buf[24 : 24 + n]))
        return work.finalize()


def _mac(context, buf, n, epoch, at, tag_len):
    if tag_len > 0:
        context.sign(buf, n, epoch, at, tag_len)
        return 1
    return 1 if context.verify(buf, n, epoch, at, -tag_len) else -1
