"""Packets at a member's data path, from the network and from who holds the group's keys.

A packet that is refused leaves no trace; where sources are authenticated, nobody who lacks a
sender's key for this receiver is believed.
"""

import test_carrier
import test_ipv4
import test_mac
from covey.drops import IKE_MESSAGE
from datapath import KEY128, SPI, a_receiver, deliver, member_state, packet, padded, udp
from fuzz.program import Program
from fuzz.spoil import spoil_octets

_MOST = 500  # octets of a text: what fits into rx
_HEADS = (b"", SPI, SPI + b"\0\0\0\x01\0\x41", bytes(4), b"\xff")


def _members(kind):
    if kind == 0:
        return a_receiver()
    if kind == 1:
        return a_receiver(integrity_only=True)
    if kind == 2:
        return a_receiver(bits=8, form=None, sender_slots=2)
    if kind == 3:
        return a_receiver(sn=0)
    return test_mac.member(1)


def at_a_member(data):
    """Any number of them at one member."""
    program = Program(data)
    kind = program.u8() % 5
    member = _members(kind)
    found = []
    for _ in range(24):
        if program.is_over:
            break
        datagram = _datagram(program, kind == 1)
        before = member_state(member)
        answer = deliver(member, datagram[: len(member.rx)])
        found.append(answer)
        if answer < 0:
            assert member_state(member) == before
        else:
            assert kind != 4 and len(member.payload) == answer
        assert answer != IKE_MESSAGE or datagram[:4] == bytes(4)
    return found


def _datagram(program, integrity_only):
    how = program.u8()
    if how & 3 == 3:
        return program.pick(_HEADS) + program.octets()
    text = udp(program.octets(), port=2222 if how & 4 == 0 else program.u16())
    if how & 8:
        text = spoil_octets(text, program.u8() % 8, program)
    if how & 16 == 0:
        text = padded(text, program.pick((17, 59, 0, 6)))
    if how & 32:
        text = spoil_octets(text, program.u8() % 8, program)
    text = text[:_MOST]
    seq, sender = program.u8(), program.u16()
    if integrity_only:
        return _authentic(text, seq, sender)
    made = packet(text, seq, sender)
    return spoil_octets(made, program.u8() % 8, program) if how & 64 else made


def _authentic(text, seq, sender):
    """RFC 4543: in clear, with a tag."""
    from covey.gcm import GMACContext

    out = bytearray(SPI + bytes([0, 0, 0, seq, sender >> 8, sender & 255, 0, 0, 0, 0, 0, seq]))
    out += text + bytes(16)
    GMACContext(KEY128).seal(out, 0, 8, len(text))
    return bytes(out)


def by_carriers(data):
    """Datagrams of any form at a socket of the group."""
    program = Program(data)
    wire = test_carrier.Wire()
    kind = program.u8() % 3
    opened = wire.open(("239.192.1.32", 4500 if kind else None), kind == 1)
    try:
        member = a_receiver()
        found = []
        for _ in range(24):
            if program.is_over:
                break
            inner = _datagram(program, False) * (1 + program.u8() % 4 * (program.u8() & 1))
            if kind == 0:
                inner = _behind_ip(program, inner)
            wire.queue.append(inner)
            found.append(opened.receive(member))
            assert found[-1] != IKE_MESSAGE or len(opened.message) <= 1536
        return found
    finally:
        wire.done()


def _behind_ip(program, inner):
    options = bytes(4 * (program.u8() & 15) if program.u8() & 1 else 0)
    head = test_ipv4.header(len(inner), options[:40])
    if program.u8() & 1:
        head = spoil_octets(head, program.u8() % 8, program)
    return head + inner


TARGETS = {"packets": at_a_member, "carrier": by_carriers}
