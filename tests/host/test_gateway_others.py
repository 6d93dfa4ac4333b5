"""A scanner that others wrote, behind a gateway: it opens a connection, reads and writes data.

It looks at who sent a datagram, and at the connection's ID, as scanners do.
"""

import logging
import socket
import threading

from ethernetip.ethernetip import EtherNetIP

import enip
from covey_host.bench.twoplants import DEVICES, GROUP, PORT, begin, wait_until
from test_gateway_nets import plants  # noqa: F401

ID = 0x12345678
INPUT, OUTPUT, CONFIGURATION = 101, 100, 1  # assemblies


class Adapter:
    """The target: explicit messages in a thread, I/O when the test says so."""

    def __init__(self, plants):  # noqa: F811
        self._door = plants.socket("pa", socket.AF_INET, socket.SOCK_STREAM)
        self._door.bind((DEVICES["a"], 44818))
        self._door.listen()
        self.io = plants.speaker("pa", DEVICES["a"])
        self._number = 0
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self):
        talk, _ = self._door.accept()
        with talk:
            while request := talk.recv(4096):
                talk.sendall(enip.answer(request, ID, GROUP))

    def produce(self, data):
        self._number += 1
        self.io.sendto(enip.frame(ID, self._number, data), (GROUP, PORT))


def test_it_works_through_two_gateways(plants, caplog):  # noqa: F811
    caplog.set_level(logging.CRITICAL, "ethernetip")
    pair = f'[unicast.scanner]\nfrom = "{DEVICES["b"]}"\nto = "{DEVICES["a"]}"\n'
    gate_a, _ = begin(plants, "mac", pair, 'source = "gate-a"\n')
    adapter = Adapter(plants)
    with plants.inside("pb"):
        scanner = EtherNetIP(DEVICES["a"])
        talk = scanner.explicit_conn(DEVICES["a"])
        assert talk.registerSession() == 0
        read = scanner.registerAssembly(EtherNetIP.ENIP_IO_TYPE_INPUT, 2, INPUT, talk)
        written = scanner.registerAssembly(EtherNetIP.ENIP_IO_TYPE_OUTPUT, 2, OUTPUT, talk)
        scanner.startIO()
    try:
        card = socket.inet_aton(DEVICES["b"])
        joined = socket.inet_aton(GROUP) + card
        scanner.udpsock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        assemblies = INPUT, OUTPUT, CONFIGURATION
        assert talk.sendFwdOpenReq(*assemblies, torpi=20, otrpi=20, multicast=True) == 0
        assert talk.toconnid == ID
        gate_a.heard("opened", connection=f"{ID:#010x}")
        for data in (b"\x05\x00", b"\xa0\x80"):
            bits = [byte >> n & 1 for byte in data for n in range(8)]
            wait_until(lambda: adapter.produce(data) or read == bits)  # noqa: B023
        written[0] = True
        talk.produce()
        heard = adapter.io.recv(2048)  # O→T, by the rule that lets it in
        talk.stopProduce()
        assert heard[-2:] == b"\x01\x00" and heard[14:16] == b"\xb1\x00"
        assert talk.sendFwdCloseReq(*assemblies) == 0
        gate_a.heard("closed", connection=f"{ID:#010x}")
    finally:
        scanner.stopIO()
