"""Every way of proof by way of workers: tests of others too, on a site that has some."""

import pytest

from covey_host.gcks import issuing
from foreign_certs import RawGM, spki_of
from foreign_gm import GSA_AUTH, GSA_REGISTRATION
from foreign_ppk import PpkGM
from gcks_site import KEY
from test_certificates import (
    test_a_foreign_member_registers_by_certificate,  # noqa: F401
    test_one_way_of_proof_is_none_for_the_other,  # noqa: F401
    test_who_is_removed_is_out_and_its_certificate_void,  # noqa: F401
)
from test_workers import WorkerCertSite

PPK = bytes(range(32))


@pytest.fixture
def site(tmp_path):
    made = WorkerCertSite(tmp_path / "state.db")
    yield made
    made.store.close()


def test_by_a_raw_public_key(site):
    key = issuing.new_key()
    site.server.add_member("press-7", ["line1"], sender=True, key=spki_of(key.public_key()))
    gm = site.connect(RawGM(key, site.trust.spki, b"press-7", wants=1), "a")
    gm.take_group(site.ask(gm, "a"))
    wrong = site.connect(RawGM(issuing.new_key(), site.trust.spki, b"press-7"), "b")
    site.talk(wrong.gsa_auth(), "b")
    assert site.server.counters["authentication_failed"] == 1


def test_the_keeper_goes_on_with_keys_that_a_ppk_is_in(site):
    site.server.add_member("press-7", ["line1"], sender=True, psk=KEY, ppk=PPK)
    gm = site.connect(PpkGM(b"press-7", KEY, wants=1).with_ppk(PPK, b"press-7", False), "a")
    group = gm.check_identity(gm.open(site.talk(gm.gsa_auth(), "a"), GSA_AUTH))
    assert gm.is_mixed
    gm.take_group(group)  # wrapped under them
    gm.take_group(gm.open(site.talk(gm.gsa_registration(), "a"), GSA_REGISTRATION))
    wrong = site.connect(PpkGM(b"press-7", KEY).with_ppk(bytes(32), b"press-7", False), "b")
    site.talk(wrong.gsa_auth(), "b")
    assert site.server.counters["authentication_failed"] == 1
