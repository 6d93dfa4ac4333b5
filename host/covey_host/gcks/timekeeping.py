"""What time it is, to a member of a group with TESLA that asks over its IKE SA (covey/timing.py).

HDR, SK{N(COVEY_TIME)} -->
               <-- HDR, SK{N(COVEY_TIME) [, N(COVEY_STONES) ...] [, N(COVEY_CHAINS_NOW)]}

Each answer is of its own moment: the clock is read after the request came and before the answer
goes, and an answer that is sent again is the same one, so that it can be false by no more than the
member waited for it. Nothing here is kept for longer than the key server runs.
"""

from collections import Counter

from covey import ike, timing

from .group import Group
from .ikesa import OPEN, IkeSA
from .parts import Parts, Payloads, notify


def answer(
    sa: IkeSA, parts: Parts, groups: dict[str, Group], counters: Counter, now_ms: int
) -> Payloads:
    """Nothing for whoever doesn't ask, or is no member of such a group. FormatError: malformed."""
    asked = [n for n in parts.notifies if n.type == ike.COVEY_TIME]
    if not asked or sa.state != OPEN:
        return []
    flags, name = timing.parse_ask(asked[0].data)
    group = groups.get(name.decode("ascii", "replace"))
    if len(asked) > 1 or group is None or not group.keeps_time_for(sa.identity):
        counters["time_refused"] += 1
        return []
    counters["time_told"] += 1
    group.timed(sa.identity, bool(flags & timing.KNOWS_TIME), now_ms)
    epoch, chains = group.epoch, group.chains
    payloads = [notify(ike.COVEY_TIME, timing.emit_time(epoch.clock, chains.clock.now_ms()))]
    if flags & timing.WANTS_STONES:
        found = chains.stones(epoch, sa.identity)
        payloads += [notify(ike.COVEY_STONES, timing.emit_stones(*stones)) for stones in found]
    if flags & timing.WANTS_CHAINS:
        rows = timing.emit_chains(chains.rows(epoch, is_all=True))[1]
        payloads.append(notify(ike.COVEY_CHAINS_NOW, rows))
    return payloads
