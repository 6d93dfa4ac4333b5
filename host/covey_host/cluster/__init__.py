"""A cluster on one machine: three etcd nodes, key servers over them, members; and what harms them.

links       TCP between the machines, as a process that delays, holds and cuts it
nodes       the etcd nodes
leash       the `covey` command with a wall clock that can be set
machines    the key servers: a site directory and a process each
plant       all of it together: a folder, ports, start and end
watch       every write that etcd does; wire: every datagram that passes
history     what these, the members and the commands say of a run
checks      what must hold of it
schedule    faults, and what people do meanwhile, drawn from a seed
harm        one fault after the other; crowd: the members meanwhile
faults      `make faults`: all of that together

probes      new members one after another, by prober, a process of its own
looks       asking until something is so
acts        what `make cluster` does; judged: what must hold of it; show: all of it together
"""
