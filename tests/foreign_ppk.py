"""The foreign group member with a post-quantum preshared key (RFC 8784): no lib/, no host/."""

from foreign_gm import (
    AUTH,
    KWK_LEN,
    ForeignGM,
    notification,
    notifies,
    prf_plus,
)

USE_PPK, PPK_IDENTITY, NO_PPK_AUTH = 16435, 16436, 16437


class Ppk:
    """Mixed into a ForeignGM of any kind of proof. ppk: None, it knows of none."""

    ppk, ppk_id, optional = None, b"", False
    is_mixed = False  # whether the server has said that it uses it

    def with_ppk(self, ppk, ppk_id, optional=False):
        self.ppk, self.ppk_id, self.optional = ppk, ppk_id, optional
        return self

    def sa_init(self, **offer):
        offer["extra"] = [*offer.get("extra", ()), notification(USE_PPK)]
        return super().sa_init(**offer)

    def take_sa_init(self, data):
        super().take_sa_init(data)
        assert USE_PPK in notifies(self.clear(data))

    def auth_payloads(self, **how):
        plain = self.sk_pi
        unmixed = super().auth_payloads(**how)
        self.sk_pi = self.mixed(plain)
        payloads = super().auth_payloads(**how)
        self.sk_pi = plain
        payloads.append(notification(PPK_IDENTITY, b"\2" + self.ppk_id))
        if self.optional:
            payloads.append(notification(NO_PPK_AUTH, dict(unmixed)[AUTH][4:]))
        return payloads

    def mixed(self, key):
        return prf_plus(self.ppk, key, 32)

    def check_identity(self, payloads, **how):
        at = [kind for kind, _ in payloads].index(AUTH) + 1
        said = payloads[at : at + 1]
        self.is_mixed = said == [notification(PPK_IDENTITY)]
        if self.is_mixed:
            payloads = payloads[:at] + payloads[at + 1 :]
            self.sk_d, self.sk_pi, self.sk_pr = map(
                self.mixed, (self.sk_d, self.sk_pi, self.sk_pr)
            )
            self.gsk_w = prf_plus(self.sk_d, b"Key Wrap for G-IKEv2", KWK_LEN[self.kwa])
        return super().check_identity(payloads, **how)


class PpkGM(Ppk, ForeignGM):
    """With a pre-shared key."""
