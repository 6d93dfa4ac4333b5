"""What the key server does for members of a group with a max_silence: it tells them, keeps their
IKE SAs, and says in each sign of life which keys are current. Octets are taken apart by ForeignGM.
"""

import pytest

from covey_host.gcks import policy
from foreign_gm import (
    DELETE,
    GSA_REGISTRATION,
    INFORMATIONAL,
    NOTIFY,
    ForeignGM,
    Policy,
    notification,
)
from gcks_site import KEY, LINE1, SITE, Site

MAX_SILENCE, CURRENT = 16388, 40962
_TELL = 'max_silence = "100s"\n'
_STOP = _TELL + 'on_silence = "stop"\n'
_INBAND = _TELL + 'rekey = "inband"\n'


def _site(tmp_path, more):
    site = Site(tmp_path / "state.db", SITE + LINE1 + more)
    site.add()
    return site


def _alive(site, gm):
    """A sign of life → what stands in it."""
    return gm.open(site.talk(gm.seal(INFORMATIONAL, []), gm.name.decode()), INFORMATIONAL)


def _current(site):
    spi = site.server._groups["line1"].epoch.tek_spi
    return [(NOTIFY, notification(CURRENT, spi)[1])]


@pytest.mark.parametrize(
    "more, octets", [("", None), (_TELL, b"\0\0\0\x64"), (_STOP, b"\1\0\0\x64")]
)
def test_it_is_told_at_registration_and_in_each_rekey(tmp_path, more, octets):
    site = _site(tmp_path, more)
    gm = site.gm()
    assert gm.policy.wide.get(MAX_SILENCE) == octets
    site.send(site.server.rekey("line1", site.now))
    assert gm.rekey(site.air[-1].data) != "repeat"
    assert gm.policy.wide.get(MAX_SILENCE) == octets


def test_a_sign_of_life_says_which_keys_are_current(tmp_path):
    site = _site(tmp_path, _TELL)
    gm = site.gm()
    before = _current(site)
    assert _alive(site, gm) == before
    site.send(site.server.rekey("line1", site.now))
    assert _alive(site, gm) == _current(site) != before


def test_of_other_groups_it_says_nothing(tmp_path):
    site = _site(tmp_path, "")
    assert _alive(site, site.gm()) == []


def test_who_has_registered_for_nothing_hears_nothing(tmp_path):
    site = _site(tmp_path, _TELL)
    gm = site.gm()
    refused = gm.open(site.talk(gm.leave(), gm.name.decode()), GSA_REGISTRATION)
    assert refused == []  # it has left, and asks all the same
    assert len(_alive(site, gm)) == 1
    site.server.remove_member("press-7", site.now)
    assert site.server.status(site.now)["groups"]["line1"]["members"] == []


def test_an_inband_group_has_signs_of_life_in_both_directions(tmp_path):
    site = _site(tmp_path, _INBAND)
    gm = site.connect(ForeignGM(b"press-7", KEY), "press-7")
    payloads = site.ask(gm, "press-7")
    assert Policy(payloads[0][1]).wide[MAX_SILENCE] == b"\0\0\0\x64"
    assert _alive(site, gm) == _current(site)


def test_an_ike_sa_over_which_signs_of_life_come_is_kept(tmp_path):
    """Else each would cost a registration."""
    site = _site(tmp_path, _TELL)
    gm = site.gm()
    for _ in range(20):
        site.wait(75_000)
        assert len(_alive(site, gm)) == 1
    assert site.server.counters["idle_closed"] == 0


def test_without_them_it_is_closed_after_a_while(tmp_path):
    site = _site(tmp_path, _TELL)
    gm = site.gm()
    site.wait(590_000)
    _alive(site, gm)
    site.wait(199_000)
    assert site.server.counters["idle_closed"] == 0
    site.wait(2_000)
    assert site.server.counters["idle_closed"] == 1
    assert (
        site.unasked and gm.open(site.unasked[0].data, INFORMATIONAL, 0, flags=0)[0][0] == DELETE
    )


def test_another_policy_is_told_by_the_rekey_that_it_brings(tmp_path):
    site = _site(tmp_path, _STOP)
    gm = site.gm()
    site.send(site.server.reload(policy.parse(SITE + LINE1), site.now))
    gm.rekey(site.air[-1].data)
    assert MAX_SILENCE not in gm.policy.wide
    assert _alive(site, gm) == []
