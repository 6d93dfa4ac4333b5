"""What commands do to certificates and raw public keys of a site, in a running server or under the
lock: a part of operations.py.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import site as sites
from .errors import MISUSE, Problem
from .gcks import issuing, trust
from .gcks.authority import Authority
from .gcks.ledger import Ledger
from .site import Site
from .store import Store

_FIELDS = {"key_file": "key.pem", "certificate_file": "cert.pem", "ca_file": "ca.pem"}
_OWN = "psk", "ppk", "key.pem", "cert.pem", "ca.pem", "server.pem"  # of a member
_RAW_FIELDS = {"key_file": "key.pem", "server_key_file": "server.pem"}


class Certificates:
    """running: an operations.Running, or None."""

    def __init__(self, site: Site, store: Store, running: Any):
        self._site = site
        self._store = store
        self._running = running

    def certified(self, name: str, identity: str, request: dict) -> tuple[dict, dict, tuple]:
        """Of a member: the files of its board, the fields of covey.json that name them, and
        (trust.id_of(), seconds since 1970 until which it holds) of its certificate."""
        now, known = time.time(), self.known()
        if name.lower() == identity.lower():
            raise Problem(
                f"{name} is the key server's own name: no member may prove to be that.", MISUSE
            )
        files = {}
        if request.get("cert") is not None:
            chain = known.accept(_octets(request, "cert"), name, now, "--cert")
        else:
            known.check_issues()
            public, files = _key_of(request)
            chain = [known.issue(public, name, request.get("days") or trust.DAYS, now)]
        files |= {"cert.pem": issuing.pem(chain), "ca.pem": issuing.pem([known.ca])}
        return files, _FIELDS, (trust.id_of(chain[0]), trust.until_of(chain[0]))

    def raw(self, request: dict) -> tuple[dict, dict, bytes]:
        """Of a member with a raw public key (RFC 7670): the files of its board, the fields of
        covey.json that name them, and its public key."""
        server = self.known().spki
        files = {}
        if request.get("public_key") is None:
            key = issuing.new_key()
            public, files = key.public_key(), {"key.pem": issuing.key_pem(key)}
        else:
            try:
                public = issuing.load_public(_octets(request, "public_key"))
            except issuing.Unfit as unfit:
                raise Problem(f"--public-key {unfit}", MISUSE) from None
        spki = issuing.spki(public)
        if spki == server:
            raise Problem("--public-key is the key server's own: no member has that.", MISUSE)
        files["server.pem"] = issuing.spki_pem(server)
        return files, _RAW_FIELDS, spki

    def change(self, request: dict, identity: str) -> None:
        """What is wanted of whom the site trusts, one thing after the other."""
        now = time.time()
        if request.get("new") is True:
            if self.known().ca is not None:
                raise Problem(
                    "The site has a CA already: it is replaced by --ca-cert only.", MISUSE
                )
            trust.make(self._ledger(), identity, now)
        if request.get("new_key") is True:
            trust.renew_key(self._ledger(), self.known(), identity, now)
        if request.get("ca_cert") is not None:
            key = None if request.get("ca_key") is None else _octets(request, "ca_key")
            files = "--ca-cert", "--ca-key"
            ca, ca_key = trust.read_ca(_octets(request, "ca_cert"), key, *files, now)
            trust.adopt(self._ledger(), identity, ca, ca_key, now)
        if request.get("cert") is not None:
            data = _octets(request, "cert")
            trust.take_server(self._ledger(), self.known(), identity, data, "--cert", now)
        if request.get("crl") is not None:
            trust.take_crl(self._ledger(), self.known(), _octets(request, "crl"), "--crl")

    def facts(self, identity: str) -> dict:
        """As it is now. No key."""
        known = self.known()
        if known.ca is None:
            return known.facts()
        ca, csr = issuing.pem([known.ca]), issuing.request_pem(known.key, identity)
        return {**known.facts(), "ca_pem": ca.decode(), "csr_pem": csr.decode()}

    def void(self, authority: Callable[[], Authority]) -> list[str]:
        """Members whose certificates are revoked by now."""
        known = self.known()
        if self._running:
            return self._running.keyserver.void()
        return trust.void_members(known, authority().members())

    def write_crl(self) -> None:
        """crl.pem, for whoever else trusts the site's CA; the key server doesn't need it."""
        data = self.known().crl(time.time())
        try:
            if data is not None:
                sites.replace_private(self._site.crl, data)
        except Problem as problem:
            raise Problem(f"{problem.sentence.rstrip('.')}; the removal itself is done.") from None

    def known(self) -> trust.Trust:
        if not self._running:
            return trust.load(self._ledger())
        self._running.keyserver.refresh_trust()
        return self._running.keyserver.trust

    def _ledger(self) -> Ledger:
        return self._running.keyserver.ledger if self._running else Ledger(self._store)


def stale(folder: Path, files: dict[str, bytes], raw: bytes | None) -> list[str]:
    """Files of a member before that the new one of that name doesn't replace by its own. A private
    key stays whose public half was given: its owner has put it there. raw: that half, as a
    SubjectPublicKeyInfo, of who has a raw public key."""
    if "cert.pem" in files:
        raw = issuing.spki(issuing.load_chain(files["cert.pem"])[0].public_key())
    return [name for name in _OWN if name not in files and not _is_of(folder / name, raw)]


def _is_of(path: Path, raw: bytes | None) -> bool:
    """Whether that is the private key whose public half is `raw`."""
    if path.name != "key.pem" or raw is None:
        return False
    try:
        return issuing.spki(issuing.load_key(path.read_bytes()).public_key()) == raw
    except (OSError, issuing.Unfit):
        return False


def _key_of(request: dict) -> tuple[Any, dict[str, bytes]]:
    """The public key that is to be certified, and the file of the private one where it is new."""
    try:
        if request.get("csr") is not None:
            return issuing.load_request(_octets(request, "csr")), {}
        if request.get("old") is not None:
            return issuing.load_chain(_octets(request, "old"))[0].public_key(), {}
    except issuing.Unfit as unfit:
        where = "cert.pem" if request.get("csr") is None else "--csr"
        raise Problem(f"{where} {unfit}", MISUSE) from None
    key = issuing.new_key()
    return key.public_key(), {"key.pem": issuing.key_pem(key)}


def _octets(request: dict, key: str) -> bytes:
    """Of a file, which come as text."""
    value = request[key]
    try:
        return value.encode("latin-1")
    except (AttributeError, UnicodeEncodeError):
        raise Problem(f"The request's {key} is no file.", MISUSE) from None
