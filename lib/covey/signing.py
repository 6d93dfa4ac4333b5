"""Sending signed packets: a signature first, which gives way to all else, then what it is for.

Loaded by aio where a group's packets are signed. One signature at a time: it covers the numbers
that the next packets will have.
"""

import asyncio

from covey.drops import DROP_CAPACITY, DROP_NO_SA, DROP_OVERSIZE, ConfigError
from covey.job import tidied
from covey.port import const, ticks_ms

_TRIES = const(3)  # other keys may come while it signs: each time it signs anew

_SHORT = (MemoryError, OSError)


class Signing:
    """Of one Member. leave(payload): sends one whose signature is there; True if it left."""

    def __init__(self, member, leave):
        self._member = member
        self._leave = leave
        self._lock = asyncio.Lock()

    async def send(self, payloads):
        """How many left of a tuple or list of payloads. ConfigError for one that is too long."""
        async with self._lock:
            sent = 0
            while sent < len(payloads):
                auth = self._next_auth()
                if auth is None:
                    self._member.drops.count(DROP_NO_SA)
                    break
                batch = payloads[sent : sent + auth.most_in_a_batch()]
                self._check(auth, batch)
                auth = await self._sign(batch)
                if auth is None:
                    break
                try:
                    left = [self._leave(payload) for payload in batch].count(True)
                finally:
                    auth.forget_signed()  # what has not left
                sent += left
                if left < len(batch):
                    break
            return sent

    def _check(self, auth, batch):
        most = self._member.payload_max - auth.trailer_of(len(batch))
        longest = max([len(payload) for payload in batch])
        if longest > most:
            self._member.drops.count(DROP_OVERSIZE)
            raise ConfigError(
                "A payload may have %d octets among %d that are signed together, one has %d."
                % (most, len(batch), longest)
            )

    async def _sign(self, batch):
        """The Signatures of the SA to send under, which have signed the next packets; or None."""
        keys = self._member.keys
        for _ in range(_TRIES):
            auth = self._next_auth()
            if auth is None:
                break
            sa = keys.sending
            try:
                for _ in tidied(auth.sign_job(sa, batch)):
                    await asyncio.sleep(0)
            except _SHORT:
                self._member.drops.count(DROP_CAPACITY)
                return None
            if self._next_auth() is auth and keys.sending is sa:
                return auth
            auth.forget_signed()
        self._member.drops.count(DROP_NO_SA)
        return None

    def _next_auth(self):
        """The Signatures of the SA to send under now; None: there is none."""
        now_ms = ticks_ms()
        keys = self._member.keys
        keys.keep_up(now_ms)
        auth = None if keys.sending is None else keys.sending.auth
        return auth if auth is not None and auth.signs_ahead else None
