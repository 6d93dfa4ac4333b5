"""covey.toml as `covey init` writes it: every key with its default, in a comment, and no group."""

_TEMPLATE = """\
# Policy of this Covey site. The key server reads it when it starts and on `covey reload`; a file
# with a mistake is refused whole, and what was in force stays in force.
# Durations are text with a unit ("500ms", "5s", "30m", "1h", "7d"); a plain number is seconds.

# Who the key server proves to be (IDr, an ID_FQDN). Members compare it with "idr" in covey.json.
identity = "{identity}"

# Where the key server listens for members. Four zero octets (the non-ESP marker of RFC 3948) lead
# each message on port 4500 only, where not said: {{ address = "ADDRESS:PORT", marker = true }}.
listen = ["0.0.0.0:4500"]

# Where members find the key servers, all of them: what `covey member add` writes without --server.
# servers = ["192.0.2.10", "192.0.2.11"]

# After this long without a message from a member its IKE SA is closed. It stays in its groups.
ike_idle = "10m"
#
# Seldom changed; these are the defaults:
# liveness = "60s"               # silence after which a member of an inband group is asked
# ike_lifetime = "8h"            # of an IKE SA that is kept: then it gets new keys
# cookies_from = 64              # half-open IKE SAs from which on an address must prove itself
# fragment_size = 1280           # octets of an IP packet; longer IKE messages go in fragments

# A group, best added by `covey group add`. All but address and port may be left out; these are
# the defaults.
#
# [group.line1]
# address = "239.192.1.32"       # multicast IPv4: data and rekeys go there
# port = 2222                    # the application's UDP port, inside the protection
# carrier = "udp"                # data travels as ESP in UDP; "ip": as IP protocol 50
# carrier_port = 4500            # the UDP port of rekeys; of data too where carrier is "udp"
# rekey = "multicast"            # new keys: one message for all; "inband": to each by itself
# delivery = "multicast"         # of data; "unicast": carried to and from each by the key server
# relay_rate = 20000             # datagrams that it sends for that in a second, at most
# key_tree = 4                   # children of a node of its key tree; 0: none, and a removal sends
#                                # everybody away
# private_attributes = true      # false, with "ip" only: say nothing that only Covey understands
# single_sender = false          # true: one member sends, and replays are refused by anyone
# integrity_only = false         # true: data go in clear, anyone can read and nobody change them
# ppk = false                    # true: only who has a post-quantum preshared key is given keys
# key_bits = 128                 # 128 or 256, of AES-GCM (data: AES-GMAC if integrity_only)
# lifetime = "1h"                # of the keys of data; new ones come at 80 % of it
# rekey_lifetime = "4h"          # of the key under which rekeys are sent
# atd = "5s"                     # senders go over to new keys so long after they heard of them
# dtd = "10s"                    # receivers drop old keys so long after they heard of new ones
# evict_atd = "2s"               # the same when somebody is put out, where they are shorter
# evict_dtd = "4s"
# evict_gap = "1s"               # between the two messages that it takes
# backward_secrecy = false       # true: keys change before a newcomer gets any
# fresh_join = true              # keys change before who starts anew gets any: no replays to it
# source_auth = "none"           # what proves who sent a packet: "mac", to up to 16 receivers;
#                                # "tesla", to any number a moment later; "ecdsa": signatures
# mac_len = 8                    # octets of a MAC, 8 to 16
# tesla_interval = "100ms"       # the time for which a sender has a key, 20 ms to 722 ms
# tesla_lag = 2                  # so many intervals later it is disclosed, 2 to 16
# tesla_chain = 14               # a chain of keys lasts for 2 to the power of this many intervals
# tesla_drift = 500              # ppm by which a member's clock may be wrong
# ecdsa_batch = 16               # most packets that one signature covers
# batch_window = "1s"            # so long newcomers wait for others that come
# max_silence = 0                # who hears nothing from here for so long says so; 0: never
# on_silence = "tell"            # "stop": then it takes no packets, either
# sender_id_form = [10, 6]       # bits of a Sender-ID: sender index, incarnation
# sender_ids = 4                 # most Sender-IDs that one registration gets
# members = 1000                 # most members registered at a time
# repeats = 2                    # how often a rekey message is sent again, unchanged
# repeat_spacing = "1s"          # and how long after the one before
# rejoin_spread = "2s"           # within which members come back after a removal
# report_interval = 0            # "5m": members say so often how they are, for `covey status`
"""


def template(identity: str) -> str:
    """A commented covey.toml without groups, as `covey init` writes it."""
    return _TEMPLATE.format(identity=identity)
