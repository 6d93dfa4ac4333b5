"""What `covey attack` does to a group: listen, have the keys changed, send every kind.

The attacker is that of `make run` (demo/intruder.py, demo/attacks.py). For the worst cases, a
member gone bad and one that was removed, it is handed the group's keys from the site's store.
"""

import asyncio
import time
from collections import Counter

from covey import aio

from .. import control
from ..demo import verdicts
from ..demo.attacks import KINDS
from ..demo.capture import Capture
from ..demo.intruder import Intruder
from ..demo.verdicts import Attack
from ..errors import Problem
from ..gcks.policy import GroupPolicy
from ..vault.opening import open_store
from .knock import Door, Plan, settings_of

_PLENTY = 25  # packets of each sender to choose from
_LEAST = 11  # with fewer there is nothing to choose
_SETTLE_S = 8  # how long the watching member may take to count
_POLL_S = 0.1
_SPARE_S = 1.5
_REKEY_S = 30
_FORM = (10, 6)  # of Sender-IDs, as the attacker reads them

_SECRETS = {"rekey_noise", "rekey_by_member", "exclude_by_member"}
_OLD = {"replay_old", "seal_retired"}
_HEARD = {"replay_recent", "flip_sequence", "flip_sender", "flip_counter", "flip_text"}
_HEARD |= {"flip_spi", "flip_icv", "cut"}


class Raid:
    def __init__(self, plan: Plan, screen):
        self._plan, self._screen = plan, screen
        self._intruder: Intruder | None = None
        self._states: list[str] = []  # of the group, before each change of keys

    async def run(self) -> None:
        """Problem where nothing is heard of the group."""
        try:
            if self._plan.watch is None:
                self._begin()
                await self._attack_all(None)
            else:
                async with aio.join(settings_of(self._plan), timeout_s=_REKEY_S) as watcher:
                    reading = asyncio.create_task(_read(watcher))
                    await self._hear_with(watcher)
                    await self._attack_all(watcher)
                    reading.cancel()
            await Door(self._plan, self._screen).knock()
        except aio.JoinError as error:
            raise Problem(f"{self._plan.watch} can't watch: {str(error).rstrip('.')}.") from error
        finally:
            if self._intruder is not None:
                self._intruder.close()

    # Listening

    def _begin(self) -> None:
        group = self._plan.group
        carrier, application = (group.address, group.carrier_port), (group.address, group.port)
        self._intruder = Intruder(carrier, application, self._plan.interface, self._plan.seed)
        self._intruder.open()

    async def _attack_all(self, watcher) -> None:
        await self._hear("what the group says is recorded")
        if self._plan.rekeys:
            await self._rekey()
        if self._secrets_known():
            self._intruder.capture.learn(self._states[-1], self._states[:-1])
        for kind in KINDS:
            why = lacking(kind, self._intruder.capture, self._plan.group)
            if why:
                self._screen.skipped(kind, KINDS[kind].what, why)
            else:
                await self._attack(kind, watcher)

    async def _hear_with(self, watcher) -> None:
        """Nothing from before the watching member hears: its keys may be newer (`fresh_join`)."""
        end = time.monotonic() + self._plan.seconds + self._plan.group.atd_s
        while time.monotonic() < end and not watcher.status()["opened"]:
            await asyncio.sleep(_POLL_S)
        self._begin()

    async def _hear(self, what: str) -> None:
        """Until there is enough to choose from, or the time is up."""
        self._screen.phase(what)
        before = len(self._intruder.capture.old_spis()) + 1 if self._has_heard() else 0
        end = time.monotonic() + self._plan.seconds
        while time.monotonic() < end and not self._has_plenty(before):
            await asyncio.sleep(_POLL_S)
        if not self._has_heard():
            raise Problem(
                f"Nothing was heard of {self._plan.group.name} in {self._plan.seconds:.0f} s: does"
                " a member send, is this machine in the same network (--interface), does multicast"
                " pass (`covey doctor`)?"
            )
        self._states.append(self._secrets())

    def _has_heard(self) -> bool:
        try:
            return bool(self._intruder.capture.senders())
        except StopIteration:
            return False

    def _has_plenty(self, keys: int) -> bool:
        """Of each sender, under newer keys than so many."""
        capture = self._intruder.capture
        if not self._has_heard() or len(capture.old_spis()) + 1 <= keys:
            return False
        return all(len(capture.settled(s)) >= _PLENTY for s in capture.senders())

    async def _rekey(self) -> None:
        """New keys, and the old ones gone from every receiver."""
        plan = self._plan
        self._screen.phase("the key server is asked for new keys; the old ones end after DTD")
        await asyncio.to_thread(
            control.call, plan.site.control, {"do": "rekey", "group": plan.group.name}
        )
        began = time.monotonic()
        await self._hear("what it says under the new keys is recorded")
        wait = plan.group.dtd_s + _SPARE_S - (time.monotonic() - began)
        await asyncio.sleep(max(0, wait))

    def _secrets(self) -> str:
        """The group's state as the store holds it. It goes nowhere but into the capture."""
        store = open_store(self._plan.site)
        try:
            found = store.read(f"group/{self._plan.group.name}/state")
        finally:
            store.close()
        return found[0].hex() if found else ""

    def _secrets_known(self) -> bool:
        return bool(self._states) and all(self._states)

    # Attacks

    async def _attack(self, kind: str, watcher) -> None:
        before = Counter(watcher.status()["drops"]) if watcher else Counter()
        said = await self._intruder.attack(kind)
        attack = Attack(kind, KINDS[kind].what, said["sent"])
        reasons = dict(verdicts.expected_of(said["expect"], None))
        if watcher is None:
            self._screen.attacked(attack, reasons, None)
            return
        name = self._plan.watch
        attack.expected[name] = Counter(reasons)
        end = time.monotonic() + _SETTLE_S
        while True:
            counted = Counter(watcher.status()["drops"])
            counted.subtract(before)
            attack.counted[name] = +counted
            verdict = verdicts.repelled(attack)
            if verdict.ok or time.monotonic() > end:
                break
            await asyncio.sleep(_POLL_S)
        self._screen.attacked(attack, reasons, verdict)


def lacking(kind: str, capture: Capture, group: GroupPolicy) -> str | None:
    """Why this kind can't be tried with what was heard and is known; None: it can."""
    fewest = min(len(capture.settled(sender)) for sender in capture.senders())
    if kind in _HEARD and fewest < _LEAST:
        return f"too little was heard ({fewest} packets of a sender): listen longer (--seconds)"
    if kind == "flip_sender" and group.sender_id_form != _FORM:
        return "it reads Sender-IDs of the default form only"
    if kind in _OLD:
        if not capture.old_spis():
            return "no keys have ended meanwhile"
        if any(len(capture.old(spi)) < _LEAST for spi in capture.old_spis()):
            return "too little was heard under the old keys: listen longer (--seconds)"
    known = {e.tek_spi for e in capture.retired}
    if kind == "seal_retired" and not (known and known <= set(capture.old_spis())):
        return "the old keys are not known"
    if kind in _SECRETS and (capture.current is None or capture.current.rekey is None):
        return "the group has no Rekey SA" if capture.current else "its keys are not known"
    if kind == "replay_rekeys" and not capture.rekeys:
        return "no rekey was heard"
    return None


async def _read(watcher) -> None:
    async for _ in watcher:
        pass
