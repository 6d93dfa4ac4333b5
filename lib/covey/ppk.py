"""Post-quantum preshared keys (RFC 8784): one more key in what an IKE SA's keys are made of.

    IKE_SA_INIT  + N(USE_PPK), from both
    GSA_AUTH     HDR, SK{IDi, ..., AUTH, N(PPK_IDENTITY), [N(NO_PPK_AUTH)], IDg, ...}  -->
                                             <--  HDR, SK{IDr, ..., AUTH, N(PPK_IDENTITY), ...}

Both mix it into SK_d, SK_pi and SK_pr, so AUTH shows that each has it, and whoever breaks X25519
one day doesn't get GSK_w, which wraps the group's keys, nor the keys of a rekeyed IKE SA. SK_ei
and SK_er of the first one are as they were: who is there, and its policy, can be read then.
Loaded where covey.json names a PPK.
"""

from covey import ike
from covey.drops import DROP_IKE_PPK, FormatError
from covey.octets import wipe
from covey.port import const
from covey.prf import prf_plus

_FIXED = b"\x02"  # PPK_ID_FIXED, section 5.1
_AUTH_HEADER = const(4)  # of an AUTH payload: method, reserved


class Ppk:
    """key: bytearray, config.Config's to wipe; id: octets; is_optional: it goes without, too."""

    def __init__(self, key, id, is_optional=False):
        self.key = key
        self._id = id
        self._is_optional = is_optional

    def announcement(self):
        """N(USE_PPK) in IKE_SA_INIT."""
        return ike.notify(ike.USE_PPK)

    def is_known(self, payloads):
        """Whether who answers IKE_SA_INIT so uses PPKs. FormatError: no, and it has to."""
        return self._is_said(payloads, ike.USE_PPK)

    def prove(self, sign, sk_pi, *what):
        """Job: the payloads that prove us, and name this key; sk_pi is mixed in place.

        sign(*what): a job, the payloads under sk_pi as it is then, of which AUTH is the last.
        """
        plain = None
        if self._is_optional:  # for a server that doesn't know this key
            payloads = yield from sign(*what)
            plain = payloads[-1][1][_AUTH_HEADER:]
        self._mix(sk_pi)
        payloads = yield from sign(*what)
        payloads.append(ike.notify(ike.PPK_IDENTITY, _FIXED + self._id))
        if plain is not None:
            payloads.append(ike.notify(ike.NO_PPK_AUTH, plain))
        return payloads

    def settle(self, payloads, *keys):
        """By an answer to GSA_AUTH: mix the keys that are left, SK_d and SK_pr, in place if it
        says that it did. FormatError: it did not, and has to."""
        if self._is_said(payloads, ike.PPK_IDENTITY):
            self._mix(*keys)

    def _is_said(self, payloads, type):
        if ike.said(payloads, type):
            return True
        if not self._is_optional:
            raise FormatError(DROP_IKE_PPK)
        return False

    def _mix(self, *keys):
        """All of them, or, where memory ends, none."""
        mixed = [prf_plus(self.key, key, len(key)) for key in keys]
        for i in range(len(keys)):
            keys[i][:] = mixed[i]
            wipe(mixed[i])
