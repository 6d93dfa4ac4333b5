"""`covey doctor`: why boards can't hear each other, and what to do about it.

finding     one line of what is found: ok, warn or fail, and the sentence that mends it
probes      the packets that are sent to see which way is open; whoever hears one says nothing
judge       what follows from what was measured; no I/O
ways        sends and counts probes, and asks whether a key server answers
laptop      this machine: interfaces, loopback of multicast, raw sockets, firewall, clock
files       a site: modes, policy, its key server and the ports
onboard     a board on a serial port; scripts/look.py is what runs there
"""
