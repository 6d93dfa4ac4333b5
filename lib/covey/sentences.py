"""What a person is told of a member that runs, by number: see drops.sentence().

Loaded when there is something to tell; who names a number of them doesn't load it on a board.
"""

NO_ANSWER = 0
SENDING_FAILS = 1
OVERSIZE = 2
IS_RECEIVER = 3
NO_RELAY = 4
ONE_SERVER = 5
NOT_TAKEN = 6
REFUSES = 7
MAY_NOT_SEND = 8
UNANSWERED = 9
UNANSWERED_BUT = 10
NO_REKEY_SA = 11
NO_HOST = 12
NO_ADDRESS = 13
NO_GROUP = 14
PAYLOAD_MAX = 15
DATAGRAM_MAX = 16
TOO_LONG = 17
UNPROVEN = 18
USED_UP = 19
NO_SOCKET = 20

SENTENCES = (
    "No key server answered in time.",
    " The system refuses to send there (errno %d): is the network up?",
    "A payload may have %d octets, this one has %d.",
    "This member is a receiver: set sender to true in covey.json.",
    "This image was made without unicast delivery: make it anew.",
    "This image was made for one key server: make it anew.",
    "What the key server sent is not taken: %s.",
    "The key server refused: %s.",
    "The key server lets us only receive.",
    "No answer from %s port %d.",
    "No answer from %s port %d (somebody said, without proof: %s).",
    "The key server ended the IKE SA and gave no Rekey SA.",
    "%s is no known IPv4 host: check its name",
    "%s is no IPv4 address: write it as 192.168.1.7",
    "%s is no multicast group: choose one in 224.0.0.0/4",
    "payload_max must lie between 0 and 1492 octets",
    "datagram_max must lie between 36 and 1536 octets",
    "A message of %d octets is longer than %d: give the group fewer SAs or keys.",
    "This member refuses who answers as its key server (%s): compare idr and keys.",
    "This Joined is used up: call join() for each try.",
    " None was asked of late: the system gives no socket (errno %d). Are too many open?",
)
