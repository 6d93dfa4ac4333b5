"""Ports that nobody uses."""

import random
import socket

_PORTS = range(20000, 32000)  # below those that systems give out by themselves


def udp_ports(count: int) -> list[int]:
    """On any address."""
    return _free(count, socket.SOCK_DGRAM, "0.0.0.0")


def tcp_ports(count: int) -> list[int]:
    """On this machine's own address."""
    return _free(count, socket.SOCK_STREAM, "127.0.0.1")


def _free(count: int, kind: int, host: str) -> list[int]:
    found: dict[int, socket.socket] = {}
    try:
        while len(found) < count:
            sock = socket.socket(socket.AF_INET, kind)
            number = random.choice(_PORTS)
            try:
                sock.bind((host, number))
                found[number] = sock
            except OSError:
                sock.close()
    finally:
        for sock in found.values():
            sock.close()
    return list(found)
