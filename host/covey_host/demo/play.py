"""The play: what happens on the stage, act by act, and what is judged at the end.

    go -- rekey -- rekey -- a member is removed -- attacks -- forged and wrong registrations --
    a rekey that all must still follow -- end

Acts follow each other when the last one has come about, not by the clock; the time that is
wished for is filled up with traffic between them. Nothing is judged by how long it took.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress

from . import imposture, usecases, verdicts
from .attacks import KINDS
from .cast import Lost, Member
from .relay import LIES
from .screen import Screen
from .stage import ATD_S, DTD_S, OTHER_GROUP, PAIR, Stage
from .verdicts import Attack, Verdict, Witness

_SETTLE_S = 8  # how long members may take to count what was sent at them
_DRAIN_S = 5  # ... and to take the last packets
_POLL_S = 0.05
_GONE_OVER = 5  # packets of each sender under new keys
_PLENTY = 60  # ... for the attacker to choose from
_REPEATS_S = 1.0  # the key server's repeats of a rekey are over by then

_FRESH = ["replay_rekeys"]  # while the last rekey is fresh, and again with all others
_NO = ("authentication_failed", "authorization_failed")  # as the key server's log has them


class Play:
    def __init__(self, stage: Stage, screen: Screen, seconds: float, removed: Member):
        self._stage = stage
        self._book = stage.tap.book
        self._screen = screen
        self._seconds = seconds
        self._removed = removed
        self._present = list(stage.members)
        self._senders = [m for m in stage.members if m.connection]
        self._states: list[str] = []  # of the group, with the keys that the removed member had
        self._spis: list[str] = []  # which it had
        self._own = Counter()  # by member: packets of its own that the attacker sent to it
        self._strayed: list[dict] = []  # what `covey join` said
        self._impostor: list[dict] = []
        self._pair: dict = {}  # what the inband group's members came to
        self.attacks: list[Attack] = []

    async def run(self) -> list[Verdict]:
        """All acts, then what is judged of them. Lost where one does not come about."""
        await self._stage.until(self._is_ready, "all have the keys that the last one brought")
        await asyncio.sleep(ATD_S + _POLL_S)  # until these are used: it has no others
        self._go()
        archs = [m.arch for m in self._stage.members if m.arch]
        cases = [
            usecases.UseCase(self._stage, self._screen, case, archs) for case in usecases.CASES
        ]
        scenes = asyncio.gather(*(scene.play() for scene in self._stage.impostures))
        cases = asyncio.gather(*(case.play() for case in cases))
        try:
            return await self._acts(scenes, cases)
        finally:
            for some in (scenes, cases):
                some.cancel()
                with suppress(asyncio.CancelledError, Lost):
                    await some

    async def _acts(self, scenes: asyncio.Future, cases: asyncio.Future) -> list[Verdict]:
        await self._until_s(0.1)
        await self._rekey("rekey 1")
        await self._rekey_inband()
        await self._until_s(0.25)
        await self._rekey("rekey 2")
        await asyncio.sleep(_REPEATS_S)
        await self._attack_all(_FRESH, ", while the last one is fresh")
        await self._until_s(0.4)
        await self._remove()
        await self._attack_all(list(KINDS))
        await self._register_wrongly()
        await self._register_guest()
        await self._rekey("rekey 3, after all attacks")
        self._screen.phase("elsewhere a member poses as the producer of its group")
        self._told = await scenes
        self._cases = await cases
        await self._until_s(1)
        return await self._end()

    def _is_ready(self) -> bool:
        """Whether all have followed what changed as one after the other registered."""
        spi = self._stage.group_status()["spi"]
        return all((m.facts["state"], m.facts["spi"]) == ("member", spi) for m in self._present)

    # Acts

    def _go(self) -> None:
        self._began = time.monotonic()
        self._screen.phase(f"go: {' and '.join(m.name for m in self._senders)} send")
        self._states.append(self._stage.secrets())
        for member in self._senders:
            member.child.tell("go")

    async def _rekey(self, what: str) -> None:
        self._screen.phase(f"{what}, under traffic")
        spi = await self._stage.rekey()
        await self._gone_over(spi)
        self._states.append(self._stage.secrets())

    async def _rekey_inband(self) -> None:
        stage = self._stage
        self._screen.phase(f"{' and '.join(PAIR)} join {OTHER_GROUP}, and get new keys inband")
        self._pair = await stage.pair()

    async def _remove(self) -> None:
        """And wait until the keys that it had are of no use to anyone."""
        name = self._removed.name
        self._screen.phase(f"{name} is removed; the others get keys that it can't find")
        states, self._spis = list(self._states), self._book.spis()
        await self._stage.covey("member", "remove", name)
        self._present.remove(self._removed)
        spi = self._stage.group_status()["spi"]
        await self._gone_over(spi, _PLENTY)
        retired_s = time.monotonic() + DTD_S + _POLL_S
        self._screen.phase(f"traffic has gone on without {name}")
        await asyncio.sleep(max(0, retired_s - time.monotonic()))
        order = {"do": "learn", "current": self._stage.secrets(), "retired": states}
        await self._stage.ask_attacker(order, "learnt")

    async def _gone_over(self, spi: str, enough: int = _GONE_OVER) -> None:
        """Until all have these keys, and every sender has used them so often."""

        def is_done() -> bool:
            facts = [m.facts for m in self._present]
            used = [n for (one, _), n in self._book.packets.items() if one == spi and n >= enough]
            return len(used) == len(self._senders) and all(
                (f["state"], f["spi"]) == ("member", spi) for f in facts
            )

        await self._stage.until(is_done, f"all go over to SPI {spi}")

    async def _attack_all(self, kinds: list[str], when: str = "") -> None:
        many = f"{len(kinds)} kinds, one by one"
        self._screen.phase(f"attacks: {KINDS[kinds[0]].what + when if len(kinds) == 1 else many}")
        for kind in kinds:
            self.attacks.append(await self._attack(kind, when))

    async def _attack(self, kind: str, when: str) -> Attack:
        """Until every member has counted what it should, or had time enough to."""
        before = await self._reports()
        said = await self._stage.ask_attacker({"do": "attack", "kind": kind}, "attacked")
        attack = Attack(kind, KINDS[kind].what + when, said["sent"])
        for m in self._present:
            attack.expected[m.name] = verdicts.expected_of(said["expect"], m.facts["sender_id"])
        end = time.monotonic() + _SETTLE_S
        while True:
            await self._reports()
            for m in self._present:
                attack.counted[m.name] = self._difference(m, before[m.name])
            if verdicts.repelled(attack).ok or time.monotonic() > end:
                break
            await asyncio.sleep(_POLL_S)
        for name, expected in attack.expected.items():
            self._own[name] += expected["own"]
        return attack

    async def _register_wrongly(self) -> None:
        self._screen.phase("registrations with a wrong key, and for another group")
        wrong = self._stage.stranger(self._senders[0]), self._stage.astray()
        self._impostor, self._strayed = await asyncio.gather(
            *(self._stage.covey("join", path, "--json", status=1) for path in wrong)
        )

    async def _register_guest(self) -> None:
        guest = self._stage.guest
        self._screen.phase(f"{guest.name} registers through a man in the middle who lies to it")
        self._screen.add(guest)
        await self._stage.start(guest)
        self._present.append(guest)

    # The end

    async def _end(self) -> list[Verdict]:
        self._screen.phase("the senders stop")
        for member in self._senders:
            member.child.tell("stop")
        await self._drain()
        await self._reports()
        removed = Witness(self._removed.name, None, await self._removed.report())
        stage = self._stage
        lies = (await stage.ask_attacker({"do": "lies"}, "relayed"))["lies"]
        spi = stage.group_status()["spi"]
        everybody = [
            Witness(m.name, m.connection, m.facts, came_late=m is stage.guest)
            for m in self._present
        ]
        regulars = [w for w in everybody if not w.came_late]
        sent = sum(w.facts["sent"] for w in regulars)
        judged = [
            verdicts.nothing_lost(everybody),
            verdicts.content_right([*everybody, removed]),
            verdicts.nothing_twice([*everybody, removed]),
            verdicts.nonces_once(self._book, sent),
            verdicts.gone_dark(removed, self._book, self._spis, self._refused(removed.name, *_NO)),
            *map(verdicts.repelled, self.attacks),
            verdicts.lied_to(everybody[-1], lies, LIES),
            *self._judge_registrations(),
            verdicts.acknowledged(OTHER_GROUP, PAIR, **self._pair),
            *map(imposture.judged, self._told),
            *map(usecases.judged, self._cases),
            verdicts.agreed(everybody, spi),
            verdicts.explained(regulars, self.attacks, self._book.rekey_repeats),
        ]
        judged.append(await self._leave())
        if stage.recorder:
            judged.append(verdicts.recorded(stage.recorder, self._book))
        return judged

    def _judge_registrations(self) -> list[Verdict]:
        wrong_key, wrong_group = _NO
        impostor, strayed = self._senders[0].name, self._stage.guest.name
        return [
            verdicts.turned_away(
                f"a registration as {impostor} with a wrong key",
                wrong_key,
                self._impostor,
                self._refused(impostor, wrong_key),
            ),
            verdicts.turned_away(
                f"a registration of {strayed} for a group that is not its own",
                wrong_group,
                self._strayed,
                self._refused(strayed, wrong_group),
            ),
        ]

    async def _leave(self) -> Verdict:
        """Everybody goes, the key server last."""
        stage = self._stage
        self._screen.phase("all leave, the key server ends")
        statuses = await stage.end()
        left = {e["member"] for e in stage.server_events if e["event"] == "left"}
        stayed = [m.name for m in self._present if m.name not in left]
        stopped = any(e["event"] == "stopped" for e in stage.server_events)
        return verdicts.ended(statuses, stayed, stopped and not stage.site.control.exists())

    async def _until_s(self, share: float) -> None:
        """Plain traffic, until this share of the time is over."""
        left = self._began + share * self._seconds - time.monotonic()
        await asyncio.sleep(max(0, left))

    # Asking

    async def _drain(self) -> None:
        """Until all have what was sent, or had time enough to take it."""
        end = time.monotonic() + _DRAIN_S
        while time.monotonic() < end:
            await self._reports()
            if all(self._has_all(m) for m in self._present):
                return
            await asyncio.sleep(_POLL_S)

    def _has_all(self, member: Member) -> bool:
        """Whether the last packet of every sender has come, and one's own have come back."""
        flows = member.facts["flows"]
        return self._own_more(member) == self._own[member.name] and all(
            flows.get(m.connection, {}).get("last") == m.facts["frames"]
            for m in self._senders
            if m is not member
        )

    def _own_more(self, member: Member) -> int:
        """Packets in its own name that it got, beyond those that it sent."""
        return member.facts["drops"].get("own", 0) - member.facts["sent"]

    async def _reports(self) -> dict[str, dict]:
        reports = await asyncio.gather(*(m.report() for m in self._present))
        return {m.name: facts for m, facts in zip(self._present, reports, strict=True)}

    def _difference(self, member: Member, before: dict) -> Counter:
        """What was counted since. Of "own" what comes from the attacker: not what was sent."""
        counted = Counter(member.facts["drops"])
        counted.subtract(before["drops"])
        counted["own"] = self._own_more(member) - self._own[member.name]
        return counted

    def _refused(self, member: str, *reasons: str) -> int:
        """How often the key server said one of them of that member."""
        return sum(
            e.get("member") == member and (e["event"] in reasons or e.get("reason") in reasons)
            for e in self._stage.server_events
        )
