"""Who does what in a plant, and what becomes of it on its way: all of that is the program.

Three kinds of harm, each worse than the one before, and what must hold in the end:

    by outsiders: lost, repeated, damaged, made up     nothing is raised, nothing grows, and once
    by the mole: requests, answers, rekeys without     there is peace the member has the group's
        a signature, packets, under its valid keys     keys in force
    by who has all keys: what the key server and the   nothing is raised, nothing grows
        member say to each other, and signed rekeys
"""

from fuzz.mole import Mole
from fuzz.plant import Plant
from fuzz.program import Program
from fuzz.quick import quickly
from fuzz.spoil import spoil_octets

_MOST_DEEDS = 24
_WAITS_MS = 10, 300, 1000, 3000, 20_000, 61_000


class Deeds:
    """By name, of a plant and its mole."""

    def __init__(self, plant):
        self.plant, self.program, self.mole = plant, plant.program, Mole(plant)

    def wait(self):
        self.plant.run(self.program.pick(_WAITS_MS))

    def rekey(self):
        self.plant.send(self.plant.server.rekey("line1", self.plant.now))

    def member_asks(self):
        self.plant.it.refresh(self.plant.ticks)

    def member_renews(self):
        """The keys of its IKE SA."""
        ike = self.plant.it._ike
        if ike is not None and ike.is_established:
            ike.renew_in(0)

    def member_leaves(self):
        self.plant.is_honest = False  # it won't come back
        self.plant.it.leave(self.plant.ticks)

    def restart(self):
        """The key server is killed, and started again."""
        self.plant.start()

    def member_sends(self):
        """Its packet, back to it and to the relay."""
        member = self.plant.member
        n = member.send(0, self.plant.ticks)
        if n > 0:
            self.plant.put_esp(bytes(member.tx[:n]))

    def lose(self):
        self.plant.lost[self._where()] = self.program.u8() & 7

    def change(self):
        """What is said next is changed by who has all keys."""
        self.plant.spoilt[self._where()] = 1 + (self.program.u8() & 3)

    def throw(self):
        """Any octets at anybody."""
        data = self.program.octets()
        where = self._where()
        if self.program.u8() & 1:
            self.plant.put_esp(data)
        else:
            self.plant.put(where, data)

    def repeat(self):
        """What was said some time ago, there or elsewhere, as it was or damaged."""
        said = self.plant.said
        if not said:
            return
        where, data = said[-1 - self.program.u8() % len(said)]
        how = self.program.u8()
        if how & 1:
            data = spoil_octets(data, how >> 1 & 7, self.program)
        self.plant.put(self._where() if how & 16 else where, data)

    def remove_mole(self):
        server = self.plant.server
        if not server.authority.find("mole").removed:
            self.plant.send(server.remove_member("mole", self.plant.now))

    def mole_joins(self):
        self.mole.joins()

    def mole_asks(self):
        self.mole.asks()

    def mole_answers(self):
        self.mole.answers()

    def mole_sends(self):
        self.mole.sends()

    def mole_rekeys(self):
        self.mole.rekeys()

    def master_rekeys(self):
        self.plant.is_honest = False
        self.mole.rekeys(is_signed=True)

    def _where(self):
        return self.program.pick(("server", "member", "group"))


_OUTSIDERS = (
    Deeds.wait,
    Deeds.rekey,
    Deeds.throw,
    Deeds.repeat,
    Deeds.lose,
    Deeds.member_asks,
    Deeds.member_renews,
    Deeds.restart,
)
_MOLES = (
    *_OUTSIDERS,
    Deeds.mole_asks,
    Deeds.mole_answers,
    Deeds.mole_sends,
    Deeds.mole_rekeys,
    Deeds.mole_joins,
    Deeds.member_sends,
    Deeds.remove_mole,
)
_MASTERS = (
    *_MOLES,
    Deeds.change,
    Deeds.change,
    Deeds.change,
    Deeds.master_rekeys,
    Deeds.member_leaves,
)


_ALONE = (
    Deeds.mole_asks,
    Deeds.mole_answers,
    Deeds.mole_joins,
    Deeds.mole_sends,
    Deeds.wait,
    Deeds.rekey,
    Deeds.throw,
)


def _live(data, choices, has_member=True):
    program = Program(data)
    with quickly():
        plant = Plant(program, has_member)
        try:
            deeds = Deeds(plant)
            if program.u8() & 1:
                plant.run(3000)  # else it begins amid all that
            for _ in range(_MOST_DEEDS):
                if program.is_over:
                    break
                program.pick(choices)(deeds)
                plant.check()
            plant.run(200)
            plant.check()
            if plant.is_honest and has_member:
                plant.make_peace()
        finally:
            plant.close()


def outsiders(data):
    """Who has no keys."""
    _live(data, _OUTSIDERS)


def alone(data):
    """The key server with a mole, and nobody else: what is asked of it, quicker."""
    _live(data, _ALONE, has_member=False)


def moles(data):
    """Who has a member's."""
    _live(data, _MOLES)


def masters(data):
    """Who has all."""
    _live(data, _MASTERS)


TARGETS = {"server": alone, "outsider": outsiders, "mole": moles, "master": masters}
