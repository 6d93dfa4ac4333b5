"""What `covey attack` does at the key server's door: registrations that must come to nothing."""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass

from covey import aio, config, ike, offer

from .. import control
from ..demo.ports import udp_ports
from ..demo.relay import LIES, Relay
from ..demo.verdicts import Verdict
from ..doctor.ways import answers
from ..gcks.policy import GroupPolicy, load
from ..gcks.sockets import own_address
from ..site import Site

_FLOOD = 100  # IKE_SA_INIT: more than begin cookies, fewer than a host may have
_PAUSE_S = 0.005
_COUNTED_S = 0.5
_PATIENCE_S = 15
_HERE = "127.0.0.1"
_MARKED = 4500


@dataclass(frozen=True)
class Plan:
    """Whom `covey attack` is about, and how."""

    site: Site
    group: GroupPolicy
    interface: str  # an address
    watch: str | None  # a member that looks on
    seconds: float  # to listen at most, before and after new keys
    rekeys: bool  # there is a server to ask for new keys, and it may be asked
    seed: int


class Door:
    """The site's own key server, on this machine. Nothing is tried where none runs."""

    def __init__(self, plan: Plan, screen):
        self._plan, self._screen = plan, screen
        entry = load(plan.site.policy).listen[0]
        host = own_address() if entry.host == "0.0.0.0" else entry.host
        self._place = host, entry.port, entry.marker

    async def knock(self) -> None:
        if (status := self._status()) is None:
            return
        self._screen.phase("at the key server: a wrong key, lies, a flood")
        self._screen.judged(await self._pretend(status))
        if self._plan.watch is not None:
            await self._lie(status["server"]["listen"])
        self._screen.judged(await self._flood())

    async def _pretend(self, status: dict) -> Verdict:
        """As a member of the group, with another key."""
        plan = self._plan
        names = [m["member"] for m in status["members"] if plan.group.name in m["groups"]]
        name = (names or ["nobody"])[0]
        what = f"a registration as {name} with a wrong key"
        fields = {
            "version": 1,
            "group": plan.group.name,
            "idi": name,
            "servers": [list(self._place)],
            "interface": plan.interface,
            "retransmit": {"total_s": 5},
        }
        settings = config.Config(fields, psk=os.urandom(32))
        try:
            async with aio.join(settings, timeout_s=_PATIENCE_S):
                return Verdict(what, False, "it was let in")
        except aio.JoinError as error:
            said = str(error).rstrip(".")
            return Verdict(what, "refused" in said, said)

    async def _lie(self, listen: list[str]) -> None:
        """The watching member registers through somebody who slips errors in."""
        what = "errors that are slipped into a registration"
        plain = await asyncio.to_thread(_plain_port, listen)
        if plain is None:
            self._screen.skipped("lies", what, "the key server has no port without a marker")
            return
        [number] = udp_ports(1)
        relay = Relay((_HERE, number), plain)
        await relay.open()
        settings = settings_of(self._plan)
        settings.servers = [config.Server(_HERE, number, False)]
        try:
            async with aio.join(settings, timeout_s=_PATIENCE_S):
                said = f"{relay.lies} of {LIES} were told, and the member registered all the same"
                verdict = Verdict(what, relay.lies == LIES, said)
        except aio.JoinError as error:
            verdict = Verdict(what, False, str(error).rstrip("."))
        finally:
            relay.close()
        self._screen.judged(verdict)

    async def _flood(self) -> Verdict:
        """From this machine's own address, fewer than would hinder anybody for good."""
        what = "a flood of registrations that are never ended"
        before = self._counters()
        host, number, marker = self._place
        loop = asyncio.get_running_loop()
        door, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(host, number)
        )
        for _ in range(_FLOOD):
            door.sendto((bytes(4) if marker else b"") + beginning())
            await asyncio.sleep(_PAUSE_S)
        await asyncio.sleep(_COUNTED_S)
        door.close()
        counters = self._counters()
        counters.subtract(before)
        detail = f"{_FLOOD} sent, {counters['sa_init']} begun"
        detail += f", {counters['cookie_asked']} told to show a cookie first"
        is_good = counters["cookie_asked"] > 0
        if self._plan.watch is not None:
            try:
                async with aio.join(settings_of(self._plan), timeout_s=_PATIENCE_S):
                    detail += f"; {self._plan.watch} registered meanwhile"
            except aio.JoinError as error:
                is_good = False
                detail += f"; {self._plan.watch} could not register: {str(error).rstrip('.')}"
        return Verdict(what, is_good, detail)

    def _counters(self) -> Counter:
        return Counter((self._status() or {"counters": {}})["counters"])

    def _status(self) -> dict | None:
        return control.call(self._plan.site.control, {"do": "status"})


def settings_of(plan: Plan) -> config.Config:
    """The watching member's, with the interface that was asked for."""
    settings = config.load(str(plan.site.members / plan.watch / "covey.json"))
    settings.interface = plan.interface
    return settings


def beginning() -> bytes:
    """An IKE_SA_INIT as a member would begin with, by somebody who has no key."""
    public = ike.emit_ke(ike.CURVE25519, os.urandom(32))
    payloads = [(ike.SA, offer.SAI), (ike.KE, public), (ike.NONCE, os.urandom(32))]
    head = os.urandom(8), bytes(8), ike.IKE_SA_INIT, ike.FLAG_I, 0
    return bytes(ike.emit_message(*head, payloads))


def _plain_port(listen: list[str]) -> tuple[str, int] | None:
    """Where the key server listens without a marker."""
    for place in listen:
        host, _, number = place.rpartition(":")
        host = own_address() if host == "0.0.0.0" else host
        if int(number) != _MARKED and answers(host, int(number), False):
            return host, int(number)
    return None
