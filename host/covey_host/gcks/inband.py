"""GSA_INBAND_REKEY (RFC 9838 section 2.4.2): a group's keys, told to each member by itself.

    HDR, SK{GSA, KD, [D]} -->    <-- HDR, SK{}     new keys; D names the TEKs that they replace
    HDR, SK{D, D} -->            <-- HDR, SK{}     out of the group: who may, registers again

Nothing is queued: each IKE SA remembers what its member holds, and what is to be said next follows
from that and from the group's epoch. So a member that was slow hears of the newest keys only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from covey import ike

from . import download
from .parts import Payloads

if TYPE_CHECKING:
    from .group import Group
    from .ikesa import IkeSA

EXCLUSION: Payloads = [
    (ike.DELETE, ike.emit_delete(ike.Delete(ike.ESP, 4, [bytes(4)]))),
    (ike.DELETE, ike.emit_delete(ike.Delete(ike.GIKE_UPDATE, 16, [bytes(16)]))),
]


@dataclass(frozen=True)
class Told:
    """What a member holds of a group whose rekeys it is told inband."""

    era: int
    number: int  # of the epoch; 0: none for certain
    spis: tuple[bytes, ...]  # of its TEKs


@dataclass(frozen=True)
class Telling:
    """A GSA_INBAND_REKEY under way. now: what the member holds when it has answered; None: out."""

    group: str
    now: Told | None


def given(group: Group, relayed: bool) -> Told | None:
    """What a member holds that is given the group's keys in answer to its own request; None: it
    is not told inband. relayed: its delivery is unicast; such a one is told inband whatever the
    group's other members are."""
    epoch = group.epoch
    is_told = relayed or group.is_inband
    return Told(epoch.era, epoch.number, (epoch.tek_spi,)) if is_told else None


def registered(sa: IkeSA, group: str, told: Told | None) -> None:
    """It was."""
    sa.told.pop(group, None)
    if told is not None:
        sa.told[group] = told


def due(sa: IkeSA, groups: dict[str, Group], now_ms: int) -> tuple[Payloads, Telling] | None:
    """What the member has to be told next, with the note that belongs to its answer.

    Who is none of the group's members gets no keys, whatever this IKE SA remembers: a removal may
    have been written though the store said that it failed.
    """
    for name, told in sa.told.items():
        group = groups.get(name)
        if group is None or told.era != group.epoch.era or not group.has(sa.identity):
            return EXCLUSION, Telling(name, None)
        if told.number != group.epoch.number:
            epoch = group.epoch
            now = Told(epoch.era, epoch.number, (epoch.tek_spi,))
            return _rekey(sa, group, told, now_ms), Telling(name, now)
    return None


def sent(sa: IkeSA, telling: Telling) -> None:
    """An exclusion is under way: from here on only a registration makes it a member again."""
    if telling.now is None:
        sa.told.pop(telling.group, None)


def answered(sa: IkeSA, telling: Telling) -> None:
    """The member has it. Where nobody can know what it holds now, it is told once more, with a
    Delete of all it may hold: if it registered in the meantime; and after an exclusion, which
    names no group, in each other group that it has here."""
    told, now = sa.told.get(telling.group), telling.now
    if now is None:
        for name, other in sa.told.items():
            sa.told[name] = Told(other.era, 0, other.spis)
    elif told is not None and told.era != now.era:
        sa.told[telling.group] = Told(told.era, 0, (*told.spis, *now.spis))
    elif told is not None:
        spis = now.spis if told.number < now.number else (*told.spis, *now.spis)
        sa.told[telling.group] = Told(now.era, now.number, tuple(dict.fromkeys(spis)))


def _rekey(sa: IkeSA, group: Group, told: Told, now_ms: int) -> Payloads:
    """As a receiver would be given them at a registration, with what is left of the times."""
    epoch = group.epoch
    atd_s, dtd_s = group.delays_s(now_ms)
    times = {"age_s": group.age_s(now_ms), "atd_s": atd_s, "dtd_s": dtd_s}
    relayed = group.is_relayed(sa.identity)
    gsa = download.registration_gsa(epoch, group.policy, **times, is_sender=False, relayed=relayed)
    kd = download.registration_kd(epoch, sa.kwk, None, (), relayed=relayed)
    payloads = [(ike.GSA, gsa), (ike.KD, kd)]
    gone = [spi for spi in told.spis if spi != epoch.tek_spi]
    if gone:
        payloads.append((ike.DELETE, ike.emit_delete(ike.Delete(ike.ESP, 4, gone))))
    return payloads
