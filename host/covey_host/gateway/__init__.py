"""`covey gateway`: class 1 multicast of EtherNet/IP devices that can't be reflashed, protected.

    legacy devices --- plant | gateway | protected --- key server, boards, other gateways
                                 |
      plain class 1 multicast  → |  → ESP of a group            flows that it protects
      plain class 1 multicast  ← |  ← ESP of a group            flows that it opens
      unicast, TCP, ARP      ← - kernel's routing - →           never seen here

A Linux machine with two network cards that *routes* between them. That is what makes it fail
closed: a kernel routes no multicast by itself, and a fence in its packet filter sees to it that no
bridge and no multicast router does, so with this program killed, stopped or broken at any point
nothing plain crosses. What does cross has been sealed by a Member, or opened by one.

    plan.py      gateway.toml, checked          encap.py   explicit messages on TCP 44818
    bridge.py    what becomes of each frame     streams.py TCP segments to messages
    learned.py   connections that are open      plain.py   a UDP datagram as its producer sent it
    fence.py     what the kernel lets pass      nftables.py words of its packet filter
    wires.py     sockets, and what must be      netlink.py  questions about cards
                 true of the two cards          apart.py   whether they are two wires
    service.py   all of it at work              tunnel.py   one membership
"""
