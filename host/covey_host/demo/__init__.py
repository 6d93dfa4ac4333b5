"""`make run`: a key server, four members and an attacker, each a process of its own.

Two members run on MicroPython, two on CPython, one of each sends; they are rekeyed under traffic,
one is removed, an attacker tries what it can, and at the end everything that must hold is judged.
Meanwhile two more, each a `covey join`, get new keys of another group inband, and boards do what
the project is for.

stage       the folder, the site, the processes' start and end
cast        child processes and what they say; the members among them
player      a member: one file and traffic.py, on both interpreters
traffic     the I/O data, and what a receiver makes of it
attacker    the attacker's process; intruder: its ear and its mouth; attacks: what it sends;
            capture: what it knows; relay: its lies to a member that registers
person      what is typed at the site; ports: that nobody uses
tap         a witness of every genuine packet
usecases    motors and a photo eye: boards that run files of firmware/; powered: their power
recorder    what CAPTURE leaves of the wire
play        the acts, one after another
verdicts    what must hold
screen      what a person sees
performance from the first to the last of it, whatever happens; of `make cluster`, too

SECONDS=n sets how long traffic flows (20 unless told), SEED=n makes the attacker's choices
repeatable, CAPTURE=DIR leaves the packets and the keys there (see recorder, and ../keys.py),
JSON=1 puts one object on stdout (and all else on stderr):

    {"ok": bool, "took_s": in all, "folder": of a run that failed, or null,
     "seconds": of traffic asked for, "seed": n,
     "members": [{"member", "interpreter", "state", "epoch", "spi", "sender_id", "sent", "opened",
                  "rekeys", "drops": {reason: n}, "flows": {connection: {"first", "last", "count",
                  "duplicates", "late", "wrong", "gaps"}}, ...}],
     "wire": {"packets", "keys", "rekeys", "rekey_repeats", "forged"},
     "log": {event of the key server: n},
     "capture": null, or {"directory", "packets", "by": "socket" or "tap", "lost": packets that
                 the system had no room for, "ports": {UDP port: do IKE messages have a marker},
                 "forged_from": the attacker's UDP port},
     "attacks": [{"kind", "what", "sent", "expected": {member: {reason: n}}, "counted": likewise}],
     "phases": [{"at_s", "what"}],
     "expectations": [{"name", "ok", "detail"}]}

Exit status: 0 all holds, 1 something doesn't, 2 misuse, 130 Ctrl-C, 143 SIGTERM.
"""
