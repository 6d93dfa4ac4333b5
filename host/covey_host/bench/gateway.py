"""What two gateways cost a class 1 frame: delay, loss and processor time, from plant to plant.

A device and a consumer in namespaces of their own, a gateway before each, a key server between.
The device keeps its pace by looking at the clock, in a process of its own; each frame holds the
time at which it was sent, by the clock that all processes of a machine share.
"""

import multiprocessing
import os
import socket
import struct
import tempfile
import time
from pathlib import Path

from .board import BUILD
from .relay import processor_s
from .results import Missing, Table
from .twoplants import DEVICES, GROUP, PORT, Child, TwoPlants, begin

TITLE = "the gateway"

RATES = {True: (500,), False: (1000, 5000, 20000)}  # frames a second; quick or not
SPAN_S = {True: 0.2, False: 4}  # of each
MODES = {True: ("none",), False: ("none", "mac")}
_ID = 0x12345678
_DATA = bytes(24)  # behind the time: 32 octets, a usual size
_QUIET_S = 0.5  # after which nothing more comes
_WAKE_S = 0.0005  # a sleep that is shorter is not kept
_RCVBUFFORCE = 33

_FRAME = struct.Struct("<HHHIIHHHq")
_TIME = struct.Struct("<q")


def run(table: Table, quick: bool) -> None:
    BUILD.mkdir(exist_ok=True)
    for mode in MODES[quick]:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as folder:
            _measure(table, mode, Path(folder) / "site", quick)


def _measure(table: Table, mode: str, folder: Path, quick: bool) -> None:
    opens = "" if mode == "none" else 'source = "gate-a"\n'
    with TwoPlants(folder) as plants:
        gates = begin(plants, mode, 'connections = "any"\n', opens)
        device = plants.speaker("pa", DEVICES["a"])
        ear = _ear(plants)
        _warm(device, ear)
        for rate in RATES[quick]:
            delays, sent, spent = _at(device, ear, gates, rate, SPAN_S[quick])
            name = f"gateway, {mode}, {rate} frames/s"
            if not delays:
                raise Missing(f"no frame came through at {rate} a second")
            table.add(f"{name}: half come within", _share(delays, 50) / 1e3, "µs")
            table.add(f"{name}: 99 of 100 come within", _share(delays, 99) / 1e3, "µs")
            table.add(f"{name}: lost", 100 * (sent - len(delays)) / sent, "%")
            for side, seconds in zip(("protects", "opens"), spent, strict=True):
                each = f"{name}: processor time of the gateway that {side}, a frame"
                table.add(each, seconds / len(delays) * 1e6, "µs")
        for side, seconds in zip(("protects", "opens"), spent, strict=True):
            table.add(f"gateway, {mode}: frames a core {side}", len(delays) / seconds, "packets/s")
    table.note(f"Gateway: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.")


def _at(device, ear, gates: list[Child], rate: int, span_s: float):
    """(nanoseconds that each frame took, in order; frames sent; seconds of both gateways)"""
    began = [processor_s(gate.process.pid) for gate in gates]
    count = int(rate * span_s)
    speaker = multiprocessing.get_context("fork").Process(
        target=_speak, args=(device, rate, count)
    )
    speaker.start()
    delays = _hear(ear, count)
    speaker.join()
    spent = [processor_s(g.process.pid) - at for g, at in zip(gates, began, strict=True)]
    return sorted(delays), count, spent


def _speak(device: socket.socket, rate: int, count: int) -> None:
    period_ns = int(1e9 / rate)
    due = time.monotonic_ns()
    for number in range(1, count + 1):
        due += period_ns
        while (left := due - time.monotonic_ns()) > 0:
            if left > 2e9 * _WAKE_S:
                time.sleep(left / 1e9 - _WAKE_S)
        device.sendto(_frame(number), (GROUP, PORT))


def _frame(number: int) -> bytes:
    head = 2, 0x8002, 8, _ID, number, 0xB1, 2 + _TIME.size + len(_DATA), number & 0xFFFF
    return _FRAME.pack(*head, time.monotonic_ns()) + _DATA


def _hear(ear: socket.socket, count: int) -> list[int]:
    delays = []
    ear.settimeout(_QUIET_S + 1)
    while len(delays) < count:
        try:
            frame = ear.recv(2048)
        except TimeoutError:
            break
        delays.append(time.monotonic_ns() - _TIME.unpack_from(frame, 20)[0])
        ear.settimeout(_QUIET_S)
    return delays


def _warm(device: socket.socket, ear: socket.socket) -> None:
    """Until the gateways' keys are in use."""
    ear.settimeout(0.05)
    for number in range(400):
        device.sendto(_frame(number), (GROUP, PORT))
        try:
            ear.recv(2048)
            _hear(ear, 400)
            return
        except TimeoutError:
            pass
    raise Missing("no frame came through")


def _ear(plants: TwoPlants) -> socket.socket:
    ear = plants.socket("pb", socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 32 << 20)
    ear.bind((GROUP, PORT))
    joined = socket.inet_aton(GROUP) + socket.inet_aton(DEVICES["b"])
    ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    return ear


def _share(ordered: list[int], percent: int) -> int:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
