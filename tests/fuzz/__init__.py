"""Fuzzing: what octets of others may do to every parser, and to both ends under valid keys.

A target is a function of octets that raises nothing. What its code may refuse it refuses by a
drop, a FormatError or one sentence; anything else that gets out is a finding.

program     octets as a list of things to do, so that whoever changes octets changes deeds
spoil       payloads of an IKE message, changed by such a program
formats     parsers of lib/, each by itself; this file and those above run on MicroPython too
packets     packets under valid keys at a member's data path
proven      the same where it is proven who sends
answers     these by name, to be compared between interpreters
quick       curve arithmetic that nobody waits for
tamper      a datagram, changed by who has its keys
plant       a key server and a member on one virtual clock
mole        a member with valid keys who means harm
deeds       who does what in a plant; what must hold in the end
files       what is read from files, from the control socket, and from a sleeping member
gateway     explicit messages and frames at a gateway, and its file
targets     all of them by name, and their corpus

`make fuzz MINUTES=n` looks for more by coverage (tools/fuzz.py); tests/host/test_fuzz.py runs the
corpus, and a little beside it, in every test run.
"""
