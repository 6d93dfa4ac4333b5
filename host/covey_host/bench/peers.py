"""Member on CPython beside others that protect a multicast payload, at the same payload.

What each does differs: scapy makes and parses whole IP packets, pylibsrtp is C with a thin layer
of Python, Group OSCORE signs each message besides. All with AES-128-GCM. They come with the extra
`bench` of pyproject.toml; one that is not there is left out by name.
"""

import logging
import os
from collections.abc import Callable

from .cpython import MEMBER, PAYLOAD_LEN, UNIT, member_call, rounds_of
from .results import Table
from .timing import shortest

TITLE = "Member on CPython beside others"

_PAYLOAD = os.urandom(PAYLOAD_LEN)


def run(table: Table, quick: bool) -> None:
    rounds, repeats = rounds_of(quick)
    for name, (package, make, share) in PEERS.items():
        try:
            peer = make()
        except ImportError as error:
            table.note(f"Left out: {name}; {package} is not installed ({error}).")
            continue
        calls = {"peer": peer, "member": member_call()}
        least = shortest(calls, rounds, max(repeats // share, 1))
        table.add(f"{name}, {PAYLOAD_LEN} octets", least["peer"], UNIT)
        against = f"{name}, {PAYLOAD_LEN} octets"
        table.add(f"{MEMBER}, beside {package}", least["member"], UNIT, against)


def _scapy() -> Callable[[], None]:
    logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of what we have no use for
    from scapy.layers.inet import IP, UDP
    from scapy.layers.ipsec import ESP, SecurityAssociation
    from scapy.packet import Raw

    sa = SecurityAssociation(ESP, spi=0x9F3A12C4, crypt_algo="AES-GCM", crypt_key=os.urandom(20))
    plain = IP(src="192.0.2.1", dst="239.192.1.32") / UDP(sport=2222, dport=2222) / Raw(_PAYLOAD)

    def call():
        protected = bytes(sa.encrypt(plain))
        return sa.decrypt(IP(protected))

    assert bytes(call()[UDP].payload) == _PAYLOAD
    return call


def _pylibsrtp() -> Callable[[], None]:
    from pylibsrtp import Policy, Session

    profile = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
    key = os.urandom(28)  # and 12 octets of salt
    out = Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
    into = Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile)
    sender, receiver = Session(policy=out), Session(policy=into)
    protect, unprotect = sender.protect, receiver.unprotect
    number = 0

    def call():
        nonlocal number
        number = number + 1 & 0xFFFF
        header = b"\x80\x00" + number.to_bytes(2, "big") + b"\0\0\0\0\0\0\0A"
        return unprotect(protect(header + _PAYLOAD))

    assert call()[12:] == _PAYLOAD
    return call


def _aiocoap() -> Callable[[], None]:
    import aiocoap
    from aiocoap import oscore
    from aiocoap.message import Direction

    signing = oscore.algorithms_countersign["EdDSA on Ed25519"]
    cipher = oscore.algorithms["A128GCM"]
    keys = {name: signing.generate_with_ccs() for name in (b"\1", b"\2", b"manager")}
    secret, salt = os.urandom(16), os.urandom(8)

    def context(name, other):
        return oscore.SimpleGroupContext(
            cipher,
            oscore.hashfunctions["sha256"],
            signing,
            cipher,
            oscore.algorithms_staticstatic["ECDH-SS + HKDF-256"],
            b"G",
            secret,
            salt,
            name,
            keys[name][0],
            keys[name][1],
            {other: keys[other][1]},
            keys[b"manager"][1],
        )

    sender, receiver = context(b"\1", b"\2"), context(b"\2", b"\1")

    def call():
        message = aiocoap.Message(code=aiocoap.POST, payload=_PAYLOAD)
        protected, _ = sender.protect(message)
        protected.direction = Direction.INCOMING  # as if it had been on the way
        bag = oscore.verify_start(protected)
        plain, _ = receiver.get_oscore_context_for(bag).unprotect(protected)
        return plain

    assert call().payload == _PAYLOAD
    return call


# name → (package, what makes its call, how much less often it is called)
PEERS = {
    "scapy: ESP encrypt + decrypt": ("scapy", _scapy, 50),
    "pylibsrtp: AES-GCM protect + unprotect": ("pylibsrtp", _pylibsrtp, 1),
    "aiocoap: Group OSCORE protect + unprotect": ("aiocoap", _aiocoap, 20),
}
