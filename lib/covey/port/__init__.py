"""The contract between Covey and its interpreter: the door to clock, chance, files, sockets, AES.

Both ports define exactly these names.

    const, micropython      for the compiler; on CPython identities
    ticks_ms()              milliseconds on a clock that wraps at 2^30 (12.4 days) everywhere. It
                            goes on in a suspension, but not on MicroPython's unix port
    ticks_add(t, ms)        a moment ms later, |ms| < 2^29; OverflowError beyond
    ticks_diff(a, b)        a - b in ms, right while they lie less than 2^29 ms (6.2 days) apart
    utc()                   14 digits of UTC, YYYYMMDDHHMMSS, as octets; None where the clock was
                            not set
    collect()               tidies the heap, where that is not done all the time
    tidy(filling)           job: collect(), then the heap's holes are filled: as long as what it
                            returns is kept, and given here again (None: the first time),
                            allocating is quick
    mem_free()              octets of the heap that are free; takes as long as collect()
    unload(name)            forgets a module of covey that has done its work, where memory is
                            scarce: who imports it again loads it anew
    random_bytes(n)         from the system's generator, and from what was stirred in
    stir(seed)              mixes secret octets into all random_bytes from now on
    sha256(data=b"")        hash object: update(), digest() once; no copy() on MicroPython
    sha1                    the same where there is it, else None: for NAT detection alone
    AESBlock(key)           encrypt(block16), decrypt(block16): single blocks; allocates
    GCMContext(keymat), GMACContext(keymat), RareContext(keymat)
                            see covey.gcm
    cmac_context(key)       see covey.cmac: a CMACContext
    later_kernels()         functions that take no heap: copy(out, at, octets, off, n);
                            is_same(a, b, n), of their first n octets; number_at(buf, at), the low
                            31 bits of four octets; (keep, take, let_go), of a room's slots, see
                            covey.waiting; (put_told, is_judged, holds), see covey.tesla
    WAITING_SLOTS           how many packets may wait for such a proof where nobody says otherwise:
                            a board has room for few
    buffer(n)               n octets, zero, that contexts seal and open in place: a bytearray that
                            stays so long, for what packets lie in
    admit, trim, heard, accept, frame, STEP_IS_DUE
                            see covey.path
    find_spi(spis, count, buf, off)
                            which of the first SPIs in spis, a bytearray, stands at off; -1
    words(n)                n words of 32 bits, all zero, that the kernels work on
    link(words, i, other)   makes words i and i + 1 lead to other words or a bytearray, which the
                            caller keeps alive and of one length; unlink(words, i): to nothing
    place(words)            what kernels take for them
    word_of(octets, off=0)  the word in which four octets of a packet lie
    read_file(path)         its octets; ConfigError where it can't be read

    resolve(host, port)     an address for send(); ConfigError for an unknown host
    udp_socket(host, port)  non-blocking, bound; "0.0.0.0" and port 0 leave it to the system.
                            Beside group sockets of the same port on desktops alone
    group_socket(group, port, interface, ttl, loop=True)
                            joined to an IPv4 group on the interface that has this address (None =
                            the default route); receives what is sent to group and port, whoever
                            else on this host does too; sends with this TTL, looped back if loop
    esp_socket(group, interface, ttl, loop=True)
                            the same for IP protocol 50: sends what follows the IP header, and
                            receives with it. Not all systems keep others' packets away
    pollable(sock)          what `select` and an event loop wait for. Asked before each wait: on
                            lwIP it is another one after an empty datagram
    recv(sock, buf)         one datagram into buf: its length, 0 for an empty one, -1 when none is
                            there, len(buf) + 1 for a longer one (which is lost); -2 when the
                            system can't say (no memory, no network): ask again after a pause.
                            Where a heap has no piece of buf's length, half of it is the longest
    recv(sock, buf, most, longer)
                            the same, but a datagram longer than buf and not than `most` is
                            appended to the list `longer`; what it returns is its length
    recv_from(sock, buf), recv_from(sock, buf, most, longer)
                            both with the sender: (length, (host, port)), or a None instead
    recv_parts(sock, head, buf)
                            the first in two parts: head is filled first. The length of all
    send(sock, view, address)
                            None, or the errno that the system gave
    source_address(sock)    (host, port) that the socket is bound to
    ipv4_of(address)        the four octets of a resolved address
    own_ipv4(address)       the four octets of ours that packets to it leave with; None where that
                            can't be told
    close(sock)             closing twice is no error

What a person can mend (a port in use, no route for multicast, a missing file) is a ConfigError.
`recv`, `recv_from`, `recv_parts` allocate on MicroPython when a datagram is there (docs/porting.md
says what); `ticks_*`, `send`, GCMContext do not.
"""

import sys

if sys.implementation.name == "micropython":
    from covey.port.mpy import *  # noqa: F403
elif sys.implementation.name == "cpython":
    from covey.port.cpy import *  # noqa: F403
else:
    raise ImportError("covey runs on MicroPython and CPython, not on " + sys.implementation.name)
