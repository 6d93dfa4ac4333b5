"""A foreign key server, its group on the air, and members of ours that join it."""

from foreign_esp import Air, free_group
from foreign_gcks import DELETE_IKE, ForeignGCKS
from foreign_gm import INFORMATIONAL
from foreign_group import ForeignGroup, delete
from foreign_nat import PORTS, Nat
from member_process import configure, join, micropython
from nonces import Witness
from site_bench import free_port


class Bench:
    """server, group, air. Rekeys go to a port of their own, as they do where it is 848: there
    they have no marker. rekey_port: "carrier" is the carrier's own, where they have one."""

    def __init__(
        self,
        folder,
        *,
        marker=False,
        port=None,
        rekey_port=None,
        ports=(2222,),
        host="127.0.0.1",
        at=None,
    ):
        """at: one of foreign_city.PORTS, where members begin; the server is at all of them."""
        self.folder = folder
        self.port = port or free_port()
        rekey_port = self.port if rekey_port == "carrier" else rekey_port or free_port()
        self.has_marker = rekey_port in (self.port, 4500)
        address = free_group()
        self.group = ForeignGroup(address, rekey_port, ports)
        more = {port: PORTS[port] for port in PORTS if port != at} if at else {}
        marker = PORTS[at] if at else marker
        self.server = ForeignGCKS(
            self.group, marker=marker, host=host, port=at or 0, more_ports=more
        )
        self.nat = None
        self.air = Air(address, self.port)
        ports = self.port, rekey_port, self.server.port
        self.witness = Witness(address, *ports, host=self.server.host)
        self._members = []

    def through_a_nat(self):
        """Members that are configured from now on go through this."""
        self.nat = Nat(self.server.host, PORTS)
        return self.nat

    def close(self):
        for member in self._members:
            member.close()
        if self.nat:
            self.nat.close()
        self.air.close()
        self.server.close()
        self.witness.close()

    def configure(self, name="press-7", **fields):
        fields.setdefault("sender", True)
        host = self.nat.host if self.nat else self.server.host
        servers = [[host, self.server.port, self.server.marker]]
        ports = {} if self.port == 4500 else {"carrier_port": self.port}
        return configure(self.folder / name, servers, name=name, **ports, **fields)

    def join(self, *arguments, name="press-7", **fields):
        return self._add(join(self.configure(name, **fields), *arguments))

    def script(self, name="press-7", timeout_s=30, **fields):
        """On MicroPython."""
        return self._add(micropython(self.configure(name, **fields), timeout_s))

    def start(self, interpreter="cpython", name="press-7", **fields):
        """Sends what it is told to, and tells what it hears."""
        if interpreter == "micropython":
            return self.script(name=name, **fields)
        return self.join("--send", "-", "--listen", name=name, **fields)

    def talker(self, interpreter="cpython", name="press-7", **fields):
        """The same, once it is in the group."""
        member = self.start(interpreter, name, **fields)
        member.heard("status")  # before that, packets are opened, but not told
        return member

    def listener(self, interpreter="cpython", name="press-7", **fields):
        """Tells what it hears, and is no sender."""
        if interpreter == "micropython":
            member = self.script(name=name, sender=False, **fields)
        else:
            member = self.join("--listen", name=name, sender=False, **fields)
        member.heard("status")
        return member

    def _add(self, member):
        self._members.append(member)
        return member

    def multicast(self, message, times=1):
        """A GSA_REKEY, to where the Rekey SA says."""
        for _ in range(times):
            framed = bytes(4) + message if self.has_marker else message
            self.air.raw(framed, self.group.rekey_port)

    def rekey(self, payloads, kek=None, times=1, **shape):
        message = (kek or self.group.kek).message(payloads, self.group.signer, **shape)
        self.multicast(message, times)
        return message

    def exclude(self, kek=None, times=2):
        """Delete of the whole GSA, as section 2.4.3 spells it."""
        self.rekey([delete(3, bytes(4)), delete(6, bytes(16))], kek, times=times)

    def delete_ike_sa(self):
        """Its repetition may come too late: then the member has a new one already."""
        return self.server.ask(self.server.session, INFORMATIONAL, [DELETE_IKE], times=1)
