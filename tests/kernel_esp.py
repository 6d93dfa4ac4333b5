"""A Linux kernel's IPsec and our member in one group: `python tests/kernel_esp.py`, as root.

Two network namespaces on a veth pair. In one the kernel has the SA (`ip xfrm`) and plain UDP
sockets are its application; in the other our Member sits on its raw socket. Needs nothing but
lib/ and `cryptography`. A line for each check; status 77 and the reason where this kernel can't:
ESP, and rfc4106(gcm(aes)), are modules that not every kernel has.
"""

import ctypes
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from covey import carrier, port  # noqa: E402
from covey.drops import names  # noqa: E402
from covey.member import Member  # noqa: E402
from covey.sa import DataSA  # noqa: E402

SKIP = 77
GROUP, PORT = "239.192.1.32", 2222
KERNEL, MEMBER = "10.77.0.1", "10.77.0.2"
GROUP_OCTETS = socket.inet_aton(GROUP)
ANY = (bytes(4), b"\xff\xff\xff\xff", 0, 65535, 0)
_NEWNET = 0x40000000
_QUIET_S = 0.3  # what has not come by then will not come


class Failed(Exception):
    pass


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise Failed(" ".join(["ip", *words]) + ": " + done.stderr.strip())
    return done.stdout


class Namespace:
    """A network namespace of its own; sockets stay in the one that they were made in."""

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        if self._libc.unshare(_NEWNET):
            raise Failed("no network namespace: " + os.strerror(ctypes.get_errno()))
        self.fd = os.open("/proc/self/ns/net", os.O_RDONLY)

    def enter(self):
        if self._libc.setns(self.fd, _NEWNET):
            raise Failed("setns: " + os.strerror(ctypes.get_errno()))
        return self


class Settings:
    interface = MEMBER
    ttl = 1


class Ends:
    """The kernel's application and our member, each in its namespace."""

    def __init__(self):
        self.kernel, self.board = Namespace(), Namespace()
        self.kernel.enter()
        ip("link", "add", "k0", "type", "veth", "peer", "name", "m0")
        ip("link", "set", "m0", "netns", f"/proc/{os.getpid()}/fd/{self.board.fd}")
        for namespace, card, address in (
            (self.kernel, "k0", KERNEL),
            (self.board, "m0", MEMBER),
        ):
            namespace.enter()
            ip("address", "add", address + "/24", "dev", card)
            ip("link", "set", card, "up")
            ip("link", "set", "lo", "up")
            ip("route", "add", "224.0.0.0/4", "dev", card)
        self.kernel.enter()
        self.app = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.app.bind((GROUP, PORT))
        membership = GROUP_OCTETS + socket.inet_aton(KERNEL)
        self.app.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self.out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.out.bind((KERNEL, 40000))
        self.out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        self.board.enter()
        self.air = carrier.open_for((GROUP, None), False, Settings)
        self.wire = port.esp_socket(GROUP, MEMBER, 1)  # for replays: octets as they were
        self.clear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.clear.bind((MEMBER, PORT))
        self.member = None

    def associate(self, number, key_len, sn):
        """The same SA on both sides, alone."""
        spi, keymat = number.to_bytes(4), os.urandom(key_len + 4)
        self.kernel.enter()
        ip("xfrm", "state", "flush")
        ip("xfrm", "policy", "flush")
        place = ["src", KERNEL, "dst", GROUP, "proto", "esp", "spi", "0x" + spi.hex()]
        window = ["replay-window", "32"] if sn == 0 else ["replay-window", "0"]
        cipher = ["aead", "rfc4106(gcm(aes))", "0x" + keymat.hex(), "128"]
        ip("xfrm", "state", "add", *place, "mode", "transport", *window, *cipher)
        wanted = ["dst", GROUP + "/32", "proto", "udp", "dport", str(PORT)]
        template = ["tmpl", *place, "mode", "transport"]
        ip("xfrm", "policy", "add", *wanted, "dir", "out", *template)
        ip("xfrm", "policy", "add", *wanted, "dir", "in", *template)
        self.board.enter()
        self.member = self._member(spi, keymat, sn, sender=True)
        self.listener = self._member(spi, keymat, sn, sender=False)

    def _member(self, spi, keymat, sn, sender):
        member = Member(payload_max=1472, sender=sender)
        destination = GROUP_OCTETS, GROUP_OCTETS, PORT, PORT, 17
        sa = DataSA(spi, keymat, destination, ANY, sn, None, None, None, 1)
        member.keys.install(sa, 0)
        if sender:
            sa.become_sender(0x41, 16)
            member.keys.activate(spi, 0, 0)
        return member

    def kernel_says(self, payload):
        self.out.sendto(payload, (GROUP, PORT))

    def kernel_hears(self, payload, times=1):
        """What its application gets in the next moments is this, so many times."""
        end, got = time.monotonic() + 5, []
        while len(got) < times and time.monotonic() < end:
            got += self._heard(0.05)
        got += self._heard(_QUIET_S)
        if got != [payload] * times:
            raise Failed(f"the kernel gave {len(got)} packets for {times}")

    def _heard(self, wait_s):
        self.app.settimeout(wait_s)
        try:
            return [self.app.recv(4096)]
        except TimeoutError:
            return []

    def member_says(self, payload):
        """Its ESP."""
        member = self.member
        member.out[: len(payload)] = payload
        n = member.send(len(payload), port.ticks_ms())
        if n < 0:
            raise Failed("we do not send: " + names()[n])
        esp = bytes(member.tx[:n])
        if self.air.send(esp):
            raise Failed("the system refuses to send our ESP")
        self._empty()
        return esp

    def _empty(self):
        """Our own come back, to both of our sockets."""
        time.sleep(0.02)
        buf = bytearray(1600)
        while self.air.receive(self.member) is not None or port.recv(self.wire, buf) >= 0:
            pass

    def member_hears(self, payload, who=None):
        """What our member says of the next packet must be its payload: the packet's ESP."""
        member = who or self.listener
        answer = self._next(member)
        if answer is None or answer < 0:
            raise Failed(f"our member says {names().get(answer, 'nothing')}")
        if bytes(member.payload) != payload:
            raise Failed("our member gave another payload")
        head, esp = bytearray(20), bytearray(1600)
        n = port.recv_parts(self.wire, head, esp)
        return bytes(esp[: n - 20])

    def member_refuses(self, reason, who=None):
        answer = self._next(who or self.listener)
        if answer is None or names().get(answer) != reason:
            raise Failed(f"our member says {answer}, not {reason}")
        port.recv(self.wire, bytearray(1600))

    def _next(self, member):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            answer = self.air.receive(member)
            if answer is not None:
                return answer
            time.sleep(0.002)
        return None

    def replay(self, esp):
        port.send(self.wire, esp, port.resolve(GROUP, 0))


def seq_errors():
    with open("/proc/net/xfrm_stat") as file:
        return int(dict(line.split() for line in file)["XfrmInStateSeqError"])


LENGTHS = (*range(0, 20), 64, 255, 1000, 1428, 1429, 1472)


def kernel_to_member(ends, key_len, sn):
    ends.associate(0x10000 + key_len + sn, key_len, sn)
    for n in LENGTHS:
        payload = os.urandom(n)
        ends.kernel_says(payload)
        esp = ends.member_hears(payload)
        if n > 8 and payload in esp:
            raise Failed("it was not encrypted")
    for replayed in (esp, esp):
        ends.replay(replayed)
        if sn == 0:
            ends.member_refuses("replay")
        else:
            ends.member_hears(payload)
    ends.replay(esp[:-1] + bytes([esp[-1] ^ 1]))
    ends.member_refuses("replay" if sn == 0 else "tag")
    flipped = bytearray(esp)
    flipped[7] ^= 0x40  # another number
    ends.replay(bytes(flipped))
    ends.member_refuses("tag")
    ends._empty()


def member_to_kernel(ends, key_len, sn):
    ends.associate(0x20000 + key_len + sn, key_len, sn)
    for n in LENGTHS:
        payload = os.urandom(n)
        esp = ends.member_says(payload)
        ends.kernel.enter()
        ends.kernel_hears(payload)
    before = seq_errors()
    ends.board.enter()
    ends.replay(esp)
    ends.kernel_hears(payload, 0 if sn == 0 else 1)
    ends.kernel.enter()
    if seq_errors() - before != (1 if sn == 0 else 0):
        raise Failed("the kernel's count of replays is another one")
    ends.board.enter()
    ends.replay(esp[:-1] + bytes([esp[-1] ^ 1]))
    ends.kernel_hears(b"", 0)
    ends._empty()


def both_ways(ends, key_len):
    """SN 2: several senders under one SA, whose numbers mix."""
    ends.associate(0x30000 + key_len, key_len, 2)
    for n in range(10):
        ends.kernel_says(b"kernel %d" % n)
        ends.member_hears(b"kernel %d" % n, ends.member)
        ends.member_says(b"member %d" % n)
        ends.kernel_hears(b"member %d" % n)


def clear_text(ends):
    """Neither side takes it: the SA is in force, not passed by."""
    ends.associate(0x40000, 16, 2)
    ends.clear.sendto(b"in clear", (GROUP, PORT))
    ends.kernel_hears(b"", 0)
    if ends.air.receive(ends.listener) is not None:
        raise Failed("our member heard something")


def why_not():
    """Why this kernel can't do it, or None."""
    if os.geteuid():
        return "only root may make network namespaces and SAs"
    child = os.fork()  # what it finds out leaves nothing behind
    if child == 0:
        try:
            Namespace()
            ip("link", "add", "k0", "type", "veth", "peer", "name", "m0")
            place = ["src", KERNEL, "dst", GROUP, "proto", "esp", "spi", "0x1000"]
            cipher = ["aead", "rfc4106(gcm(aes))", "0x" + "00" * 20, "128"]
            ip("xfrm", "state", "add", *place, "mode", "transport", *cipher)
        except Failed as failed:
            print("SKIP", failed, flush=True)
            os._exit(SKIP)
        except FileNotFoundError:
            print("SKIP there is no `ip` command (iproute2)", flush=True)
            os._exit(SKIP)
        os._exit(0)
    return None if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else ""


def main():
    reason = why_not()
    if reason is not None:
        if reason:
            print("SKIP", reason)
        return SKIP
    ends = Ends()
    checks = [
        (f"{way.__name__} AES-{8 * key_len} SN {sn}", way, (key_len, sn))
        for way in (kernel_to_member, member_to_kernel)
        for key_len in (16, 32)
        for sn in (0, 2)
    ]
    checks += [(f"both_ways AES-{8 * n} SN 2", both_ways, (n,)) for n in (16, 32)]
    checks.append(("clear_text", clear_text, ()))
    failures = 0
    for name, check, arguments in checks:
        ends.board.enter()
        try:
            check(ends, *arguments)
            print("ok", name, flush=True)
        except Failed as failed:
            failures += 1
            print("FAILED", name + ":", failed, flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
