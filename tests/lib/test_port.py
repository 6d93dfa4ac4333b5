"""What a port promises, alike on both interpreters."""

import gc
import sys

from covey import port
from covey.drops import ConfigError
from covey.job import finish
from covey.port import micropython, ticks_add, ticks_diff, ticks_ms

BOARD = sys.implementation.name == "micropython"
PERIOD = 1 << 30
GROUP = "239.192.83.1"
LOOPBACK = "127.0.0.1"

NAMES = (
    "const micropython ticks_ms ticks_add ticks_diff utc collect tidy mem_free unload "
    "random_bytes stir sha256 sha1 AESBlock cmac_context later_kernels WAITING_SLOTS "
    "GCMContext GMACContext buffer "
    "admit trim heard accept frame STEP_IS_DUE find_spi words link unlink place word_of "
    "read_file resolve udp_socket group_socket esp_socket pollable recv recv_from recv_parts send "
    "source_address ipv4_of own_ipv4 close"
).split()


def sentence(call, *args):
    """What the ConfigError says that this raises."""
    try:
        call(*args)
    except ConfigError as error:
        return str(error)
    raise AssertionError("no ConfigError")


def test_names():
    for name in NAMES:
        assert hasattr(port, name), name
    assert port.const(7) == 7


def test_decorators():
    @micropython.native
    def double(x):
        return x + x

    @micropython.viper
    def triple(x: int) -> int:
        return x + x + x

    assert double(4) == 8 and triple(4) == 12


# ---- the clock


def test_the_clock_wraps_at_2_30():
    assert ticks_add(PERIOD - 1, 1) == 0
    assert ticks_add(0, -1) == PERIOD - 1
    assert ticks_diff(5, PERIOD - 5) == 10
    assert ticks_diff(PERIOD - 5, 5) == -10
    assert ticks_diff(0, 0) == 0
    assert 0 <= ticks_ms() < PERIOD


def test_differences_up_to_half_the_period():
    half = PERIOD // 2
    for t in (0, 1, half - 1, half, PERIOD - 1):
        for ms in (0, 1, 1000, half - 1):
            assert ticks_diff(ticks_add(t, ms), t) == ms
            assert ticks_diff(ticks_add(t, -ms), t) == -ms


def test_an_interval_that_is_too_long():
    for ms in (PERIOD // 2, -(PERIOD // 2), PERIOD):
        try:
            ticks_add(0, ms)
        except OverflowError:
            continue
        raise AssertionError(ms)


def test_the_clock_runs():
    began = ticks_ms()
    for _ in range(20_000_000):
        passed = ticks_diff(ticks_ms(), began)
        assert passed >= 0
        if passed >= 5:
            return
    raise AssertionError("it stands still")


def test_the_clock_takes_no_heap():
    if not BOARD or sys.maxsize >> 31:
        return
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(10):
        ticks_diff(ticks_add(ticks_ms(), 1000), ticks_ms())
    after = gc.mem_alloc()
    gc.enable()
    assert after == before


# ---- chance, hash, AES, files


def test_random_bytes():
    assert len(port.random_bytes(32)) == 32
    assert port.random_bytes(32) != port.random_bytes(32)


def test_sha256():
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
    assert port.sha256(b"abc").digest() == bytes.fromhex(digest)
    hashed = port.sha256()
    hashed.update(b"a")
    hashed.update(bytearray(b"bc"))
    assert hashed.digest() == bytes.fromhex(digest)


def test_aes_block():
    # FIPS 197, appendices C.1 and C.3
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    for bits, expected in (
        (128, "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (256, "8ea2b7ca516745bfeafc49904b496089"),
    ):
        aes = port.AESBlock(bytes(range(bits // 8)))
        for _ in range(2):
            assert aes.encrypt(block) == bytes.fromhex(expected)
            assert aes.decrypt(bytes.fromhex(expected)) == block
    aes = port.AESBlock(bytearray(16))
    assert aes.decrypt(aes.encrypt(bytearray(block))) == block


def test_find_spi():
    spis = bytearray(b"abcdbcdabcde\0\0\0\0")
    for spi, count, slot in (
        (b"abcd", 3, 0),
        (b"bcda", 3, 1),  # and across 0 and 1 before
        (b"bcde", 3, 2),
        (b"bcde", 2, -1),
        (b"cdab", 3, -1),  # across two, twice
        (b"dabc", 3, -1),
        (b"bcd\0", 3, -1),
        (b"abcd", 0, -1),
        (bytes(4), 3, -1),
        (bytes(4), 4, 3),
    ):
        for off in (0, 3):
            buf = bytearray(off) + spi + b"?"
            assert port.find_spi(spis, count, buf, off) == slot, (spi, count)


def test_read_file():
    assert port.read_file(__file__).startswith(b'"""What a port promises')
    said = sentence(port.read_file, "/no/such/file")
    assert said.startswith("/no/such/file can't be read: ")


# ---- sockets, within one process


def unicast_pair():
    a, b = port.udp_socket(LOOPBACK, 0), port.udp_socket(LOOPBACK, 0)
    return a, b, port.resolve(*port.source_address(b))


def received(sock, buf):
    """recv() that waits a moment: loopback delivers at once, but not before send() returns."""
    began = ticks_ms()
    while ticks_diff(ticks_ms(), began) < 2000:
        n = port.recv(sock, buf)
        if n >= 0:
            return n
    return -1


def test_unicast():
    a, b, to_b = unicast_pair()
    buf = bytearray(10)
    assert port.recv(b, buf) == -1
    assert port.recv_from(b, buf) == (-1, None)
    assert port.send(a, b"hello", to_b) is None
    assert received(b, buf) == 5
    assert buf == b"hello\0\0\0\0\0"
    assert port.recv(b, buf) == -1
    assert port.send(a, memoryview(b"view")[1:], to_b) is None
    n, sender = port.recv_from(b, buf)
    assert n == 3 and buf[:3] == b"iew"
    assert sender == port.source_address(a)
    assert sender[0] == LOOPBACK and 0 < sender[1] < 65536
    port.close(a)
    port.close(b)


def test_lengths_of_datagrams():
    a, b, to_b = unicast_pair()
    buf = bytearray(8)
    for n in (0, 1, 7, 8, 9, 100, 1400):
        port.send(a, b"x" * n, to_b)
        assert received(b, buf) == min(n, 9)
        port.send(a, b"x" * n, to_b)
        assert port.recv_from(b, buf)[0] == min(n, 9)
    assert port.recv(b, buf) == -1
    port.close(a)
    port.close(b)


def test_what_is_too_long_leaves_the_buffer_in_its_bounds():
    a, b, to_b = unicast_pair()
    whole = bytearray(b"........" * 2)
    port.send(a, b"x" * 12, to_b)
    assert received(b, memoryview(whole)[:8]) == 9
    assert whole[8:] == b"........"
    port.close(a)
    port.close(b)


def test_queued_datagrams_stay_apart():
    a, b, to_b = unicast_pair()
    for n in (3, 0, 5, 0, 1):
        port.send(a, b"12345"[:n], to_b)
    buf = bytearray(100)
    assert [received(b, buf) for _ in range(5)] == [3, 0, 5, 0, 1]
    assert port.recv(b, buf) == -1, "an empty datagram is no end"
    port.close(a)
    port.close(b)


def test_sending_what_is_too_long_gives_an_errno():
    a, b, to_b = unicast_pair()
    code = port.send(a, bytes(65536), to_b)
    assert isinstance(code, int) and code > 0
    port.close(a)
    port.close(b)


def test_a_datagram_in_two_parts():
    a, b, to_b = unicast_pair()
    whole = bytes(range(100))
    for n in (0, 1, 19, 20, 21, 55, 56, 57, 100):
        head, buf = bytearray(b"?" * 20), bytearray(b"?" * 36)
        port.send(a, whole[:n], to_b)
        began = ticks_ms()
        found = -1
        while found < 0 and ticks_diff(ticks_ms(), began) < 2000:
            found = port.recv_parts(b, head, buf)
        assert found == min(n, 57)
        if n <= 56:
            assert head == whole[: min(n, 20)] + b"?" * (20 - min(n, 20))
            rest = whole[20:n]
            assert buf == rest + b"?" * (36 - len(rest))
    assert port.recv_parts(b, bytearray(20), bytearray(36)) == -1
    port.close(a)
    port.close(b)


def test_closing_twice():
    a = port.udp_socket(LOOPBACK, 0)
    port.close(a)
    port.close(a)


def test_a_group_has_room_for_two():
    buf = bytearray(100)
    a = port.group_socket(GROUP, 28301, LOOPBACK, 1)
    b = port.group_socket(GROUP, 28301, LOOPBACK, 1)
    to_group = port.resolve(GROUP, 28301)
    assert port.send(a, b"to all", to_group) is None
    assert received(b, buf) == 6 and buf[:6] == b"to all"
    assert received(a, buf) == 6, "looped back"
    for n in (0, 3, 101):
        port.send(a, b"." * n, to_group)
        assert received(b, buf) == received(a, buf) == n
    assert port.recv(a, buf) == port.recv(b, buf) == -1
    assert port.source_address(a) == (GROUP, 28301)
    port.close(a)
    port.close(b)


def test_only_the_groups_traffic_arrives():
    buf = bytearray(100)
    a = port.group_socket(GROUP, 28303, LOOPBACK, 1)
    other = port.group_socket("239.192.83.2", 28303, LOOPBACK, 1)
    unicast = port.udp_socket(LOOPBACK, 0)
    port.send(unicast, b"unicast", port.resolve(LOOPBACK, 28303))
    port.send(other, b"another group", port.resolve("239.192.83.2", 28303))
    assert received(other, buf) == 13
    port.send(a, b"ours", port.resolve(GROUP, 28303))
    assert received(a, buf) == 4 and port.recv(a, buf) == -1
    for sock in (a, other, unicast):
        port.close(sock)


def test_a_server_beside_a_group_on_one_port():
    a = port.group_socket(GROUP, 28304, LOOPBACK, 1)
    server = port.udp_socket("0.0.0.0", 28304)
    b = port.group_socket(GROUP, 28304, LOOPBACK, 1)
    assert "UDP port 28304 is in use" in sentence(port.udp_socket, "0.0.0.0", 28304)
    assert "UDP port 28304 is in use" in sentence(port.udp_socket, LOOPBACK, 28304)
    buf = bytearray(10)
    port.send(b, b"unicast", port.resolve(LOOPBACK, 28304))
    assert received(server, buf) == 7
    assert port.recv(a, buf) == port.recv(b, buf) == -1
    for sock in (a, b, server):
        port.close(sock)


def test_what_a_person_can_mend():
    a = port.udp_socket(LOOPBACK, 0)
    taken = port.source_address(a)[1]
    assert "port %d is in use" % taken in sentence(port.udp_socket, LOOPBACK, taken)
    port.close(a)
    assert "no address of this machine" in sentence(port.udp_socket, "192.0.2.1", 28305)
    assert "no known IPv4 host" in sentence(port.resolve, "no.such.host.invalid", 1)
    assert "no known IPv4 host" in sentence(port.udp_socket, "no.such.host.invalid", 1)
    for group, interface, words in (
        ("10.0.0.1", LOOPBACK, "no multicast group"),
        ("239.1", LOOPBACK, "no IPv4 address"),
        ("239.1.2.300", LOOPBACK, "no IPv4 address"),
        (GROUP, "eth0", "no IPv4 address"),
        (GROUP, "192.0.2.1", "no address of an interface"),
    ):
        assert words in sentence(port.group_socket, group, 28306, interface, 1)


def test_our_own_address_towards_another():
    address = port.resolve(LOOPBACK, 4500)
    assert port.ipv4_of(address) == b"\x7f\0\0\1"
    assert port.ipv4_of(port.resolve("192.0.2.130", 1)) == bytes((192, 0, 2, 130))
    assert port.own_ipv4(address) == b"\x7f\0\0\1"
    assert port.own_ipv4(port.resolve("127.0.0.9", 1)) == b"\x7f\0\0\1"
    # Elsewhere: ours, if this host can tell and has a way there. It sends nothing.
    own = port.own_ipv4(port.resolve("192.0.2.130", 1))
    assert own is None or len(own) == 4 and own[0] not in (0, 127)


def test_a_board_tells_the_address_of_the_interface_that_is_up():
    if not BOARD:
        return
    from covey.port import mpy_address

    class Interface:
        def __init__(self, address):
            self.address = address

        def isconnected(self):
            if self.address is None:
                raise OSError(1)
            return self.address != "down"

        def ifconfig(self):
            return self.address, "255.255.255.0", "192.168.1.1", "8.8.8.8"

    class Network:
        STA_IF = 0

        def __init__(self, lan, wlan):
            self.LAN = lambda: Interface(lan)
            self.WLAN = lambda _: Interface(wlan)

    away = port.resolve("192.0.2.130", 1)
    before = mpy_address.network
    try:
        for lan, wlan, own in (
            (None, "192.168.1.7", bytes((192, 168, 1, 7))),
            ("10.0.0.2", "192.168.1.7", bytes((10, 0, 0, 2))),
            ("down", "0.0.0.0", None),
            (None, None, None),
        ):
            mpy_address.network = Network(lan, wlan)
            assert port.own_ipv4(away) == own, (lan, wlan)
            assert port.own_ipv4(port.resolve(LOOPBACK, 1)) == b"\x7f\0\0\1"
        mpy_address.network = None
        assert port.own_ipv4(away) is None
    finally:
        mpy_address.network = before


def _octets_of(call, *args):
    """What a call takes from the heap."""
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    call(*args)
    taken = gc.mem_alloc() - before
    gc.enable()
    return taken


def test_a_datagram_longer_than_the_buffer_can_be_had():
    a, b, to_b = unicast_pair()
    buf, longer = bytearray(8), []
    for n, kept in ((8, False), (9, True), (20, True), (21, False), (0, False)):
        port.send(a, bytes(range(n)), to_b)
        found = -1
        while found == -1:
            found = port.recv(b, buf, 20, longer)
        assert found == n
        assert [bytes(one) for one in longer] == ([bytes(range(n))] if kept else []), n
        if n == 8:
            assert buf == bytes(range(8))
        longer.clear()
    assert port.recv(b, buf, 20, longer) == -1
    port.close(a)
    port.close(b)


def test_what_receiving_takes_from_the_heap():
    """The table of docs/porting.md, on 32-bit MicroPython: a datagram of 108 octets, and none."""
    if not BOARD or sys.maxsize >> 31:
        return
    a, b, to_b = unicast_pair()
    rx, head = bytearray(1536), bytearray(20)
    for call, args, octets in (
        (port.recv, (rx,), 144),
        (port.recv_from, (rx,), 272),
        (port.recv_parts, (head, rx), 240),
    ):
        port.send(a, bytes(108), to_b)
        call(b, *args)  # once before, so that look-ups are cached
        assert _octets_of(call, b, *args) == 0, "there is none"
        port.send(a, bytes(108), to_b)
        assert _octets_of(call, b, *args) == octets
        assert _octets_of(call, b, *args) == 0
    assert _octets_of(port.send, a, rx, to_b) == 0
    port.close(a)
    port.close(b)


def _kept_by_tidying(filling):
    """The filling that tidy() leaves, and how long the chain of it is."""
    filling = finish(port.tidy(filling))
    length = 0
    at = filling
    while at is not None:
        at = at[0]
        length += 1
    return filling, length


def test_tidying_fills_the_heap_with_a_chain():
    filling, length = _kept_by_tidying(None)
    if not hasattr(gc, "mem_alloc"):
        assert filling is None  # nothing needs to be filled
        return
    assert length > 0
    _, more = _kept_by_tidying(filling)
    assert more > length  # none of it is lost


def test_what_an_esp32s_heap_may_grow_by_is_not_free():
    """There gc.mem_free() counts it: the largest block of ESP-IDF's heaps (ports/esp32)."""
    if not hasattr(gc, "mem_alloc"):
        return
    from covey.port import mpy

    class esp32:
        @staticmethod
        def idf_heap_info(kind):
            assert kind == 4
            return [(8192, 6000, 5000, 0), (200000, 150000, 110592, 90000)]

    sys.modules["esp32"] = esp32
    sys.modules.pop("covey.port.mpy")
    try:
        on_esp32 = __import__("covey.port.mpy", None, None, ["mem_free"])
        gc.collect()
        assert -2000 < gc.mem_free() - 110592 - on_esp32.mem_free() < 2000
        esp32.idf_heap_info = lambda kind: [(1 << 23, 1 << 23, 1 << 23, 0)]
        on_esp32.idf_heap_info = esp32.idf_heap_info
        assert on_esp32.mem_free() == 0
    finally:
        sys.modules["covey.port.mpy"] = port.mpy = mpy  # which the import has set, too
        del sys.modules["esp32"]
    assert abs(gc.mem_free() - mpy.mem_free()) < 2000


def test_tidying_where_addresses_are_negative_numbers():
    """MicroPython's id() of an address from 2^30 to 2^31, as an ESP32-C6 has."""
    if not hasattr(gc, "mem_alloc"):
        return
    from covey.port import mpy

    mpy.id = lambda thing: -(1 << 29) + (id(thing) & 0xFFFFFFF)
    try:
        _, length = _kept_by_tidying(None)
    finally:
        del mpy.id
    assert length > 0


def test_tidying_fills_areas_that_lie_above_the_end_of_holes():
    """An ESP32's heap grows by areas, and a later one may lie before an earlier one."""
    if not hasattr(gc, "mem_alloc"):
        return
    from covey.port import mpy

    looks = []

    def of_two_areas(thing):
        looks.append(len(thing))
        is_above = len(looks) > 1 and len(looks) < 12  # the first is where holes end
        return id(thing) + (is_above << 22)

    mpy.id = of_two_areas
    try:
        _, length = _kept_by_tidying(None)
    finally:
        del mpy.id
    assert looks[0] != 2 and length >= 16 * 11, (looks, length)
    assert length < mpy._left  # it ends where holes do


def test_tidying_leaves_half_of_what_is_free_whatever_once_was():
    """An application may have taken memory since the first time."""
    if not hasattr(gc, "mem_alloc"):
        return
    _kept_by_tidying(None)
    gc.collect()
    taken = bytearray(gc.mem_free() * 3 // 4)
    free = gc.mem_free()
    filling, length = _kept_by_tidying(None)
    gc.collect()
    assert length > 0
    assert gc.mem_free() > free * 2 // 5, (free, gc.mem_free(), len(taken))


def test_tidying_spares_what_the_work_and_all_others_need_however_often():
    if not hasattr(gc, "mem_alloc"):
        return
    gc.collect()
    taken = []
    while gc.mem_free() > 48 * 1024:
        taken.append(bytearray(256))
    filling = None
    for _ in range(60):  # more often than a rekey does it
        filling, _ = _kept_by_tidying(filling)
    gc.collect()
    assert gc.mem_free() > 30 * 1024, (gc.mem_free(), len(taken))
    taken.append([bytearray(256) for _ in range(70)])
    assert _kept_by_tidying(None)[1] == 0  # then it is as it is


def test_utc_is_fourteen_digits_where_the_clock_was_set():
    now = port.utc()
    assert isinstance(now, bytes) and len(now) == 14 and now.isdigit()
    assert b"2026" <= now <= port.utc() < b"3"
