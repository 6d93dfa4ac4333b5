"""strongSwan's charon as a responder, for comparison: Debian's build, with its userland kernel.

Taken from the system where `apt install charon-systemd strongswan-swanctl libcharon-extra-plugins`
has put it. Else the packages are downloaded by apt into .build, unpacked there, and laid over /usr
in a mount namespace of that process alone. Its IKE SAs have a Child SA each, or none (RFC 6023).
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .board import BUILD
from .results import Missing

HOST, SERVER = "127.0.0.1", "gcks.example"
_PACKAGES = (
    "charon-systemd",
    "strongswan-swanctl",
    "strongswan-libcharon",
    "libstrongswan",
    "libstrongswan-standard-plugins",
    "libcharon-extra-plugins",
)
_NEEDED = (
    "usr/sbin/charon-systemd",
    "usr/sbin/swanctl",
    "usr/lib/ipsec/plugins/libstrongswan-openssl.so",
    "usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
)
_PLUGINS = (
    "random nonce openssl pem pkcs1 pkcs8 x509 pubkey constraints revocation kdf hmac"
    " kernel-libipsec kernel-netlink socket-default vici"
)
_DAEMON = """charon-systemd {{
  load = {plugins}
  port = {port}
  port_nat_t = {other}
  install_routes = no
  install_virtual_ip = no
  dos_protection = no
  ikesa_table_size = 16384
  ikesa_table_segments = 16
  plugins {{ vici {{ socket = unix://{home}/vici }} }}
  journal {{ default = -1 }}
  filelog {{ log {{
    path = {home}/log
    default = 0
    flush_line = yes
  }} }}
}}
"""
_CONNECTION = """connections {{
  bench {{
    version = 2
    proposals = aes128gcm16-prfsha256-x25519
    childless = allow
    unique = never
    rekey_time = 0
    dpd_delay = 0
    encap = yes
    send_cert = always
    local {{
      auth = {auth}
      id = {server}
      {certs}
    }}
    remote {{
      auth = {auth}
      id = %any
    }}
    children {{
      bench {{
        local_ts = 127.0.0.1/32
        remote_ts = 198.18.0.0/16
        esp_proposals = aes128gcm16
        rekey_time = 0
      }}
    }}
  }}
}}
"""
_PATIENCE_S = 20

Pems = tuple[bytes, bytes, bytes]  # CA, certificate, its key


class Charon:
    """A context manager: it runs while inside. ports: two. psk: of everyone, or its own pems.
    may_fetch: whether it may be downloaded."""

    def __init__(
        self, ports: list[int], psk: bytes | None, pems: Pems | None, *, may_fetch: bool = True
    ):
        self.port, self._other_port = ports
        self._psk, self._pems, self._may_fetch = psk, pems, may_fetch
        self._daemon: subprocess.Popen | None = None

    def __enter__(self):
        self._root = _root(self._may_fetch)
        BUILD.mkdir(exist_ok=True)
        self._home = Path(tempfile.mkdtemp(prefix="charon-", dir=BUILD))
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._daemon.pid

    def _open(self) -> None:
        where = {"home": self._home, "port": self.port, "other": self._other_port}
        daemon = _DAEMON.format(plugins=_PLUGINS, **where)
        (self._home / "strongswan.conf").write_text(daemon + "swanctl {\n}\n")
        self._write_credentials()
        self._daemon = subprocess.Popen(self._command("usr/sbin/charon-systemd"), **self._how())
        socket = self._home / "vici"
        end = time.monotonic() + _PATIENCE_S
        while not socket.exists():
            if self._daemon.poll() is not None or time.monotonic() > end:
                raise Missing(f"strongSwan's charon does not run here ({self._last_word()})")
            time.sleep(0.05)
        words = "--load-all", "--noprompt", "--uri", f"unix://{socket}"
        loaded = subprocess.run([*self._command("usr/sbin/swanctl"), *words], **self._how())
        if loaded.returncode:
            raise Missing("strongSwan's swanctl does not take its configuration")

    def _write_credentials(self) -> None:
        auth, certs, text = "psk", "", ""
        if self._psk is not None:
            text = f"secrets {{\n  ike {{\n    secret = 0x{self._psk.hex()}\n  }}\n}}\n"
        for folder, pem in zip(("x509ca", "x509", "private"), self._pems or (), strict=False):
            (self._home / folder).mkdir()
            (self._home / folder / "bench.pem").write_bytes(pem)
            auth, certs = "pubkey", "certs = bench.pem"
        text = _CONNECTION.format(auth=auth, server=SERVER, certs=certs) + text
        (self._home / "swanctl.conf").write_text(text)

    def _command(self, program: str) -> list[str]:
        if self._root is None:
            return [f"/{program}"]
        lay = 'mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr && shift && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", lay, "sh", str(self._root), f"/{program}"]

    def _how(self) -> dict:
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        ours = {
            "STRONGSWAN_CONF": str(self._home / "strongswan.conf"),
            "SWANCTL_DIR": str(self._home),
        }
        return {**quiet, "env": {**os.environ, **ours}}

    def _last_word(self) -> str:
        try:
            lines = (self._home / "log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it says nothing"


def _root(may_fetch: bool) -> Path | None:
    """Where it lies, None for the system itself. Missing: nowhere."""
    if os.geteuid():
        raise Missing("strongSwan's charon needs root")
    if _is_there(Path("/")):
        return None
    root = BUILD / "strongswan"
    if not _is_there(root):
        if not may_fetch:
            raise Missing("strongSwan's charon is not installed")
        _fetch(root)
    return root


def _is_there(root: Path) -> bool:
    return all((root / needed).exists() for needed in _NEEDED)


def _fetch(root: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Missing("strongSwan's charon is not installed")
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="apt-", dir=BUILD) as folder:
        how = {"cwd": folder, "capture_output": True}
        done = subprocess.run(["apt-get", "download", *_PACKAGES], **how)
        if done.returncode:
            raise Missing("strongSwan's charon is not installed, and apt-get can't download it")
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True, **how)
    if not _is_there(root):
        raise Missing("Debian's packages of strongSwan lack what is needed here")
