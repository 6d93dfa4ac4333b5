"""One group of our key server with members of ours and foreign ones: data, rekeys, removal."""

import signal

import pytest

from foreign_gm import AUTHORIZATION_FAILED, GSA_REGISTRATION, notification
from foreign_plant import Plant


@pytest.fixture(params=(False, True), ids=("plain", "marker"))
def plant(request, tmp_path):
    made = Plant(tmp_path / "site", marker=request.param)
    yield made
    made.clear()
    made.close()


class Traffic:
    """Data both ways between our member and foreign ones."""

    def __init__(self, ours, *gms):
        self.ours, self.gms = ours, gms
        self.n = 0

    def flows(self):
        self.n += 1
        for gm in self.gms:
            if gm.sender_ids:
                text = gm.name + b" %d" % self.n
                gm.send(text, self.n)
                self.ours.packet(text, sender=gm.sender_ids[0])
        text = b"ours %d" % self.n
        self.ours.say(text.decode())
        for gm in self.gms:
            gm.hear(lambda gm=gm: gm.inside and gm.inside[-1][2] == text)
            iv, port, _ = gm.inside[-1]
            assert port == 2222
            yield int.from_bytes(iv) >> 48, int.from_bytes(iv) & 0xFFFFFFFF

    def check(self):
        """Every GM sees the same packet; its IV is Sender-ID and counter."""
        (seen,) = set(self.flows())
        return seen


def followed(gm):
    """A rekey and its repeats, the same to the bit (section 2.4.1.3)."""
    gm.heard.clear()
    gm.hear(lambda: gm.heard == ["rekeyed", "repeat", "repeat"])
    assert len(set(gm.messages[-3:])) == 1


def rekeyed(plant, ours, gms):
    """`covey rekey`: each GM follows, under the SPIs that were promised; so does ours."""
    before, times = [gm.tek[0] for gm in gms], ours.count("rekeyed")
    plant.covey("rekey", "line1")
    ours.heard("rekeyed", times + 1)
    for gm, old in zip(gms, before, strict=True):
        followed(gm)
        assert gm.deleted == old
        assert gm.policy.order == [6, 3, 0] and gm.keys.order == [6, 3]


def test_a_mixed_group(plant):
    ours = plant.join()
    saw = plant.gm("saw").connect().join().listen()
    lamp = plant.gm("lamp", wants=None, kwa=3).connect().join().listen()
    traffic = Traffic(ours, saw, lamp)
    sender_id, first = traffic.check()
    assert sender_id not in saw.sender_ids
    keys = {saw.tek[0], saw.rekey_sa.spi}
    for _ in range(2):
        rekeyed(plant, ours, (saw, lamp))
        assert traffic.check()[0] == sender_id  # section 2.4.1.4: the Sender-ID goes along
        keys |= {saw.tek[0], saw.rekey_sa.spi}
    assert len(keys) == 6 and lamp.tek == saw.tek
    assert traffic.check() == (sender_id, 2) and first == 1
    # whoever comes later has the same keys
    drill = plant.gm("drill", wants=2).connect().join().listen()
    assert drill.tek == saw.tek and not set(drill.sender_ids) & {sender_id, *saw.sender_ids}
    drill.send(b"drill", 1, drill.sender_ids[1])
    ours.packet(b"drill", sender=drill.sender_ids[1])
    # one is removed: all others get new keys, over a Rekey SA that it can't find
    for gm in (saw, lamp, drill):
        gm.heard.clear()
    plant.covey("member", "remove", "drill")
    new = ["passed on", "rekeyed"]
    for gm in (saw, lamp):
        gm.hear(lambda gm=gm: [said for said in gm.heard if said != "repeat"] == new)
    drill.hear(lambda: "put out" in drill.heard)
    assert drill.served() == [(42, b"\1\0\0\0")]
    refused = plant.gm("drill").connect().ask_for_group()
    assert refused == [notification(AUTHORIZATION_FAILED)]
    ours.heard("rekeyed", 3)
    assert not keys & {saw.tek[0], saw.rekey_sa.spi}
    traffic.check()
    # one leaves
    assert saw.open(saw.wire.ask(saw.leave()), GSA_REGISTRATION) == []
    members = plant.status()["groups"]["line1"]["members"]
    assert members == ["lamp", "press-8"]
    assert ours.leave()[0] == 0


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGKILL))
def test_the_key_server_restarts(tmp_path, number):
    """It rekeys over the Rekey SA in its store; IKE SAs are gone, promised SPIs too."""
    plant = Plant(tmp_path / "site", marker=False)
    try:
        ours = plant.join()
        saw = plant.gm("saw").connect().join().listen()
        traffic = Traffic(ours, saw)
        sender_id, _ = traffic.check()
        plant.end(plant.server, number)
        traffic.check()  # member autonomy
        saw.promised = False
        plant.server = plant.serve()
        followed(saw)
        ours.heard("rekeyed")
        assert traffic.check()[0] == sender_id
        saw.promised = True
        rekeyed(plant, ours, (saw,))
        traffic.check()
        saw.wire.send(saw.gsa_registration())
        assert saw.wire.receive(0.3) is None
        late = plant.gm("lamp", wants=None).connect().join()
        assert late.tek == saw.tek
    finally:
        plant.clear()
        plant.close()
