"""A member that is about to be put out floods the others with what only a signature proves wrong.

It has all that the group has. So each of its messages has a good ICV under the present Rekey SA, a
Message ID that is to come, and is unlike the others; boards work on one at a time.
"""

from dataclasses import dataclass

from forged_rekeys import ForgedRekeys

from .air import Weather
from .plant import Plant, Setting

_BOARD_MS = 400  # for one signature, and what belongs to it


@dataclass
class Seen:
    """Of one board. learned_ms: from the command on; None: never."""

    learned_ms: int | None
    asked: int  # pulls and registrations under the flood
    forged: int  # messages that it worked on in vain
    lost: int  # messages that found no room


class Flooder:
    """every_ms: between two messages. in_parts: first fragments of messages that never come whole,
    each of which takes the place of another message's.
    """

    def __init__(self, plant, machine, in_parts, every_ms):
        self.sent = 0
        self.goes_on = True
        self._plant = plant
        self._in_parts = in_parts
        self._every_ms = every_ms
        self._sa = machine.membership._group.rekey.current
        self._forged = ForgedRekeys(self._sa.spi, self._sa.context.keymat)
        self._flood()

    def _flood(self):
        if not self.goes_on:
            return
        self.sent += 1
        datagram = bytes(4) + self._made()
        self._plant.air._said_ms.setdefault(datagram, 0)
        self._plant.air.spread(datagram, None, None)
        self._plant.clock.after(self._every_ms, self._flood)

    def _made(self):
        message_id = self._sa.next_message_id
        if self._in_parts:
            return self._forged.fragment(message_id + self.sent % 7)
        return self._forged.whole(message_id)


def endure(seed, in_parts=False, every_ms=1, lead_ms=3000, wait_ms=70_000, members=3):
    """A further one floods for lead_ms, is put out, and goes on for wait_ms → how many it sent and
    [Seen] of the others. Broken where an invariant did not hold."""
    setting = Setting(
        members=members + 1,
        lifetime_s=3600,
        slow_ms=(_BOARD_MS, _BOARD_MS),
        most_members=8,
        access_points=1,
        look_ms=1000,
        site="fragment_size = 320\n" if in_parts else "",
    )
    delay_ms = (1, 60) if in_parts else (1, 1)  # other fragments come in between
    with Plant(seed, setting, Weather(delay_ms=delay_ms)) as plant:
        for machine in plant.machines:
            machine.works_one_by_one = True
            plant.install(machine)
            plant.switch_on(machine)
        plant.wait(15_000)
        *others, evil = plant.machines
        plant.is_lossless = False
        before = len(plant.checker.registrations)
        pulled = plant.station.server.counters["pulled"]
        flooder = Flooder(plant, evil, in_parts, every_ms)
        plant.wait(lead_ms)
        plant.evict(evil)
        asked_ms, epoch = plant.clock.now_ms, evil.eviction.epoch
        until_ms = asked_ms + wait_ms
        while plant.clock.now_ms < until_ms and not all(epoch in m.knows for m in others):
            plant.wait(500)
        flooder.goes_on = False
        plant.checker.close()
        drops = [machine.member.drops.as_dict() for machine in others]
        asked = len(plant.checker.registrations) - before
        asked += plant.station.server.counters["pulled"] - pulled
        return flooder.sent, [
            Seen(
                machine.knows[epoch] - asked_ms if epoch in machine.knows else None,
                asked,
                told.get("rekey_signature", 0),
                told.get("rekey_busy", 0),
            )
            for machine, told in zip(others, drops, strict=True)
        ]
