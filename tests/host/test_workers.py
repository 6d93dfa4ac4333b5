"""Workers of the key server, sans-IO: who lets whom in, and what is carried to whom."""

import asyncio
import json
import os
import random
import socket
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey_host import site as place
from covey_host.errors import Problem
from covey_host.gcks import (
    frames,
    handover,
    ikesa,
    issuing,
    policy,
    server,
    trust,
    worker,
    workers,
)
from covey_host.gcks.cookies import LIFE_MS, Shared
from covey_host.gcks.redirects import Redirects
from covey_host.gcks.sockets import Address, Endpoint
from covey_host.gcks.spis import KEEPER, Spis
from covey_host.output import Log
from foreign_gm import (
    AUTHENTICATION_FAILED,
    AUTHORIZATION_FAILED,
    GSA_AUTH,
    GSA_REGISTRATION,
    IKE_SA_INIT,
    REGISTRATION_FAILED,
    ForeignGM,
    notification,
    notifies,
)
from gcks_site import KEY, LINE1, PLAIN, SITE, FullDisk, Site
from ike_peer import COOKIE, Peer
from site_bench import free_port
from test_certificates import CertSite
from workers_site import WithWorkers


class WorkerSite(WithWorkers, Site):
    pass


class WorkerCertSite(WithWorkers, CertSite):
    pass


@pytest.fixture
def site(tmp_path):
    made = WorkerSite(tmp_path / "state.db")
    made.add("press-7")
    yield made
    made.store.close()


@pytest.fixture
def certsite(tmp_path):
    made = WorkerCertSite(tmp_path / "state.db")
    yield made
    made.store.close()


def at(port, endpoint=0):
    return Address(endpoint, "192.0.2.7", port, b"\x7f\0\0\1", 4500)


def begun(site, via=1, name=b"press-7", psk=KEY, **how):
    """A member whose IKE_SA_INIT a worker has answered."""
    gm = ForeignGM(name, psk, **how)
    site.server.via = via
    gm.take_sa_init(site.talk(gm.sa_init(), at(500)))
    return gm


# Whose an IKE SA is


def test_the_spi_names_its_owner_and_nothing_made_up_does():
    rng = random.Random(5)
    ours = Spis(b"s" * 32, 3, rng.randbytes)
    other = Spis(b"t" * 32, 3, rng.randbytes)
    made = {ours.make() for _ in range(1000)}
    assert len(made) == 1000 and {ours.owner_of(spi) for spi in made} == {3}
    assert {Spis(b"s" * 32, KEEPER, os.urandom).owner_of(spi) for spi in made} == {3}
    assert sum(other.owner_of(spi) is not None for spi in made) == 0
    for spi in list(made)[:20]:
        for octet in range(8):
            forged = bytearray(spi)
            forged[octet] ^= 1 << rng.randrange(8)
            assert ours.owner_of(bytes(forged)) is None


@pytest.mark.parametrize("via", [1, 2])
def test_a_member_is_let_in_by_a_worker_and_kept_by_the_keeper(site, via):
    gm = begun(site, via, wants=1)
    assert gm.spi_r[0] == via and site.server.server.status(0)["ike_sas"] == 0
    gm.take_group(site.ask(gm, at(500)))
    assert site.server.carried == []
    assert site.server.status(0)["ike_sas"] == 1
    assert [x.half_open for x in site.server.lobbies.values()] == [0, 0]
    again = site.talk(gm.gsa_registration(), at(500))  # by the worker, which has it no longer
    assert again and site.server.carried == [(via, KEEPER)]
    gm.open(again, GSA_REGISTRATION)


def test_a_change_of_port_between_the_first_two_exchanges(site):
    """From 500 to 4500 (RFC 7296 section 2.23): to another socket, and another worker."""
    gm = begun(site, 1)
    site.server.via = 2
    answer = site.talk(gm.gsa_auth(), at(4500, 1))
    gm.take_group(gm.check_identity(gm.open(answer, GSA_AUTH)))
    assert site.server.carried == [(2, 1)]
    [sa] = site.server._responder._proven.values()
    assert sa.address == at(4500, 1)


def test_what_nobody_here_has_made_up_goes_nowhere(site):
    """A flood of requests for IKE SAs that don't exist stays with the workers."""
    gm = begun(site)
    data = bytearray(gm.gsa_auth())
    rng = random.Random(3)
    before = site.server._responder._counters["ike_spi"]
    for _ in range(500):
        data[8:16] = bytes([rng.randrange(4)]) + rng.randbytes(7)
        assert site.talk(bytes(data), at(500)) is None
    assert site.server.carried == []
    assert site.server.counters["ike_spi"] == before + 500


def test_the_keepers_own_ike_sas_are_found_by_way_of_any_worker(site):
    """New keys for an IKE SA: its SPI is the keeper's from then on."""
    peer = Peer(site, "press-7", wants=1).join()
    old = peer.sa
    peer.rekey_ike()
    assert peer.sa is not old and peer.sa.spi_r[0] == KEEPER
    for via in (1, 2):
        site.server.via = via
        peer.pull()


# What is handed over


def test_all_that_an_ike_sa_is_goes_along(site):
    """A new field of IkeSA is entered here, or in handover.py."""
    site.server.held = []
    peer = Peer(site, "press-7", wants=1, room=60)
    peer.connect()
    request = peer.sealed(GSA_AUTH, peer.gm.auth_payloads() + peer.gm.group_payloads())
    lobby = site.server.lobbies[peer.gm.spi_r[0]]
    [sa] = lobby._table.sas.values()
    was = dict(vars(sa))
    was["keys"] = ikesa.ike.Keys(*map(bytearray, sa.keys.all))
    was["kwk"] = bytearray(sa.kwk)
    peer._send(request)
    assert len(request) > 1 and lobby._table.sas == {} and not any(sa.keys.sk_ei)
    [octets] = site.server.held
    made, opened = handover.parse(octets, os.urandom)
    assert made.identity == "press-7" and made.proof and made.first_hash == sa.first_hash
    assert opened.header.exchange == GSA_AUTH and opened.inner
    # Made anew, or told by whoever has it: keys' contexts, timers, what has been said and asked.
    anew = {"_inbound", "_outbound", "_iv", "_requests", "_answers", "_last_hash", "wake_ms"}
    anew |= {"deadline_ms", "most_len", "begun_ms"}
    proven = {"identity", "proven_by", "proof", "first_hash", "chain"}  # since `was`
    needless = {"request", "response", "nonce_i", "nonce_r"}  # AUTH has been checked, and made
    assert set(vars(made)) == set(was)
    for name in set(was) - anew - proven - needless:
        assert getattr(made, name) == was[name], name
    assert made.proven_by == sa.proven_by and made.origin == was["origin"]
    assert set(was) >= anew | proven | needless


def test_octets_of_a_handover_hold_no_more_than_they_must(site):
    """Neither the member's pre-shared key nor what it was proven with."""
    site.server.held = []
    gm = begun(site)
    site.talk(gm.gsa_auth(), at(500))
    [octets] = site.server.held
    assert KEY not in octets and KEY.hex().encode() not in octets


@given(
    st.builds(
        Address,
        st.integers(0, 255),
        st.ip_addresses(v=4).map(str),
        st.integers(1, 65535),
        st.one_of(st.just(b""), st.binary(min_size=4, max_size=4)),
        st.integers(0, 65535),
        st.booleans(),
    ),
    st.binary(max_size=1500),
)
def test_addresses_and_datagrams_are_carried_as_they_are(address, data):
    frame = frames.emit_carried(frames.IKE, data, address)
    assert frame[:1] == frames.IKE and frames.parse_carried(frame) == (data, address)


def test_a_repeat_of_what_was_handed_over_is_answered_by_the_keeper(site):
    gm = begun(site, 1)
    request = gm.gsa_auth()
    first = site.talk(request, at(500))
    site.server.via = 2
    assert site.talk(request, at(500)) == first
    assert site.server.counters["request_repeat"] == 1
    assert site.server.counters["registered"] == 1


def test_a_repeat_that_comes_before_it_is_dropped_and_the_next_one_answered(site):
    gm = begun(site, 1)
    request = gm.gsa_auth()
    site.server.held = []
    assert site.talk(request, at(500)) is None
    assert site.talk(request, at(500)) is None  # carried to the keeper, who doesn't know yet
    [octets], site.server.held = site.server.held, None
    [out] = site.server.hand_over(octets, site.now)
    assert site.talk(request, at(500)) == out.data
    gm.take_group(gm.check_identity(gm.open(out.data, GSA_AUTH)))
    assert site.server.hand_over(octets, site.now) == []  # twice is once
    assert site.server.counters["handover_refused"] == 1


def test_a_store_that_fails_is_asked_again_when_the_member_is(tmp_path):
    site = WorkerSite(tmp_path / "state.db", wrap=FullDisk)
    site.add("press-7")
    gm = begun(site, 1, wants=1)
    site.server.held = []
    request = gm.gsa_auth()
    site.talk(request, at(500))
    [octets], site.server.held = site.server.held, None
    site.store.full = True
    [out] = site.server.hand_over(octets, site.now)
    rest = gm.check_identity(gm.open(out.data, GSA_AUTH))
    assert notifies(rest) == [REGISTRATION_FAILED]
    site.store.full = False
    gm = begun(site, 1, wants=1)
    gm.take_group(site.ask(gm, at(500)))


def test_who_has_to_wait_for_new_keys_is_proven_once(tmp_path):
    site = WorkerSite(tmp_path / "state.db", SITE + PLAIN)  # fresh_join
    for name in ("press-7", "saw-1"):
        site.add(name)
    first = begun(site, 1, wants=1)
    site.talk(first.gsa_auth(), at(500))
    second = begun(site, 2, b"saw-1")
    request = second.gsa_auth()
    answer = site.talk(request, at(500))
    assert answer is None and site.server.counters["authenticated"] >= 1
    answer = site.answered(second, at(500))
    assert second.take_group(second.check_identity(second.open(answer, GSA_AUTH)))
    assert site.server.counters["authentication_failed"] == 0


# Who is refused, and where


def test_a_wrong_key_is_refused_by_the_worker_alone(site):
    gm = begun(site, 1, psk=b"x" * 32)
    revision = site.revision()
    site.server.held = []
    answer = site.talk(gm.gsa_auth(), at(500))
    assert gm.open(answer, GSA_AUTH) == [notification(AUTHENTICATION_FAILED)]
    assert site.server.held == [] and site.server.server.status(0)["ike_sas"] == 0
    site.wait(60_000)
    assert site.revision() - revision <= 1  # the diary's row
    assert site.server.lobbies[1]._table.sas == {}


def held(site, gm):
    """Proven by a worker, not handed over yet."""
    site.server.held = []
    assert site.talk(gm.gsa_auth(), at(500)) is None
    [octets], site.server.held = site.server.held, None
    return octets


def test_a_member_that_is_removed_on_its_way_is_refused(site):
    gm = begun(site)
    octets = held(site, gm)
    site.server.remove_member("press-7", site.now)
    [out] = site.server.hand_over(octets, site.now)
    rest = gm.check_identity(gm.open(out.data, GSA_AUTH))
    assert rest == [notification(AUTHORIZATION_FAILED)]


def test_one_whose_name_is_anothers_by_now_is_refused(site):
    gm = begun(site)
    octets = held(site, gm)
    site.server.remove_member("press-7", site.now)
    site.server.add_member("press-7", ["line1"], psk=b"n" * 32)
    [out] = site.server.hand_over(octets, site.now)
    rest = gm.check_identity(gm.open(out.data, GSA_AUTH))
    assert rest == [notification(AUTHORIZATION_FAILED)]
    assert site.server.counters["registered"] == 0


def cert_held(site):
    gm = site.gm_of(site.certified(), wants=1)
    site.server.held = []
    assert site.talk(gm.gsa_auth()) is None
    [octets], site.server.held = site.server.held, None
    return gm, octets


def refused(site, gm, octets):
    [out] = site.server.hand_over(octets, site.now)
    assert gm.answer(out.data) == [notification(AUTHENTICATION_FAILED)]
    assert site.server.counters["registered"] == 0


def test_by_certificate(certsite):
    gm, octets = cert_held(certsite)
    revision = certsite.revision()
    [out] = certsite.server.hand_over(octets, certsite.now)
    gm.take_group(gm.check_identity(gm.open(out.data, GSA_AUTH)))
    assert certsite.revision() > revision
    wrong = certsite.gm_of((issuing.new_key(), gm.chain))
    assert certsite.refuses(wrong) == "signature"


def test_a_store_that_fails_before_anything_is_answered(tmp_path):
    """What a certificate has proven is remembered first, or nothing is given to who has it."""
    site = WorkerCertSite(tmp_path / "state.db", wrap=FullDisk)
    key, chain = site.certified()
    again = issuing.der(site.trust.issue(key.public_key(), "press-7", 9, site.clock))
    gm = site.gm_of((key, [again]), wants=1)  # another one, which is to be entered
    request = gm.gsa_auth()
    site.server.held = []
    assert site.talk(request) is None
    [octets], site.server.held = site.server.held, None
    site.store.full = True
    [out] = site.server.hand_over(octets, site.now)
    refused = gm.check_identity(gm.open(out.data, GSA_AUTH))
    assert refused == [notification(REGISTRATION_FAILED)]
    site.store.full = False
    site.register(site.gm_of((key, [again]), wants=1))


def test_a_certificate_that_is_revoked_on_its_way(certsite):
    gm, octets = cert_held(certsite)
    member = certsite.server.authority.find("press-7")
    void = dict(member.certificates)
    ledger = certsite.server.ledger
    ledger.write(trust.revocation(ledger, void, certsite.clock))
    certsite.server.refresh_trust()
    refused(certsite, gm, octets)


def test_a_ca_that_is_another_on_its_way(certsite):
    gm, octets = cert_held(certsite)
    trust.make(certsite.server.ledger, "gcks.example", certsite.clock)
    certsite.server.refresh_trust()
    refused(certsite, gm, octets)


# Floods


def test_a_cookie_of_one_worker_counts_with_all_and_with_one_begun_anew(tmp_path):
    site = WorkerSite(tmp_path / "state.db", "cookies_from = 0\n" + SITE + LINE1)
    site.add("press-7")
    gm = ForeignGM(psk=KEY)
    site.server.via = 1
    [(_, body)] = gm.clear(site.talk(gm.sa_init(), at(500)))
    assert notifies([(41, body)]) == [COOKIE]
    cookie = notification(COOKIE, body[4:])
    for via in (2, 1):
        site.server.lobbies[via] = site.server.lobby(via)
        site.server.via = via
        answer = site.talk(gm.sa_init(first=[cookie]), at(500))
        assert answer[18] == IKE_SA_INIT and answer[8] == via
        gm = ForeignGM(psk=KEY)
        [(_, body)] = gm.clear(site.talk(gm.sa_init(), at(500)))
        cookie = notification(COOKIE, body[4:])
    assert site.server.counters["cookie_wrong"] == 0


def test_shared_cookies_age_as_others_do():
    one, other = Shared(b"c" * 32), Shared(b"c" * 32)
    of = b"i" * 8, b"n" * 16, "192.0.2.7"
    made = one.make(*of, 10 * LIFE_MS)
    assert other.is_ours(made, *of, 11 * LIFE_MS) and one.is_ours(made, *of, 12 * LIFE_MS - 1)
    assert not other.is_ours(made, *of, 12 * LIFE_MS)
    assert not Shared(b"d" * 32).is_ours(made, *of, 10 * LIFE_MS)
    assert not other.is_ours(made, b"j" * 8, *of[1:], 10 * LIFE_MS)


def test_the_keeper_knows_of_a_flood_at_its_workers(site):
    door = site.server._responder._door
    for number in range(70):
        site.server.via = 1 + number % 2
        assert site.talk(ForeignGM().sa_init(), f"filler {number}")
    site.server.follow()
    assert site.server.status(0)["unproven"] > 32 and door.elsewhere
    assert door.is_loaded() == (door.elsewhere >= site.policy.cookies_from)
    site.wait(40_000)
    site.server.follow()
    assert site.server.status(0)["unproven"] == 0 and not door.is_loaded()


def test_each_worker_has_its_share_of_a_policy_and_no_group():
    rules = policy.parse("cookies_from = 100\n" + SITE + LINE1)
    read = frames.read_policy(frames.policy_facts(rules, 3))
    assert read.cookies_from == 34 and read.groups == {}
    assert (read.identity, read.listen, read.fragment_size) == (
        rules.identity,
        rules.listen,
        rules.fragment_size,
    )
    none = policy.parse("cookies_from = 0\n" + SITE + LINE1)
    assert frames.policy_facts(none, 3)["cookies_from"] == 0


def test_the_keeper_takes_no_more_than_it_would_let_in_by_itself(site, monkeypatch):
    octets = held(site, begun(site))
    monkeypatch.setattr("covey_host.gcks.table.MOST_UNPROVEN", 0)
    assert site.server.hand_over(octets, site.now) == []
    assert site.server.counters["handover_refused"] == 1
    assert site.server.server.status(0)["ike_sas"] == 0


# Sockets between processes


def test_a_pair_refuses_what_has_no_room_and_loses_nothing_it_took():
    out, into = frames.pair()
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            into.send(sent.to_bytes(4) + bytes(1500))
            sent += 1
    assert sent > 50
    assert [int.from_bytes(out.recv(2000)[:4]) for _ in range(sent)] == list(range(sent))
    out.close()
    into.close()


# Processes


@pytest.fixture
def keeper(monkeypatch):
    """What it is told, without sentences, is in `told`."""
    monkeypatch.setattr(workers, "store_key", lambda site: (bytearray(32), b"i" * 8))
    rules = policy.parse(SITE + LINE1)
    told = []
    nowhere = Redirects(os.urandom)
    facts = {"policy": rules, "trust": trust.Trust(), "redirects": nowhere}
    return SimpleNamespace(
        keyserver=SimpleNamespace(**facts, hear_workers=print),
        event=lambda name, **facts: told.append((name, facts["status"])),
        trouble=lambda sentence: told.append("trouble"),
        told=told,
    )


def _python(program):
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(
    ("command", "sentence", "told"),
    [
        (["/nonexistent"], "Workers can't be started", []),
        (_python("pass"), "Workers can't be started", [("worker_ended", 0)]),
        (_python("print('It has no bed.')"), "It has no bed.", ["trouble", ("worker_ended", 0)]),
    ],
)
def test_without_a_worker_there_is_no_server(
    tmp_path, monkeypatch, keeper, command, sentence, told
):
    monkeypatch.setattr(workers, "_COMMAND", command)
    monkeypatch.setattr(workers, "_START_S", 0.5)
    made = workers.Workers(1, place.Site(tmp_path))
    made.open([])
    try:
        with pytest.raises(Problem, match=sentence):
            asyncio.run(made.start(keeper))
    finally:
        made.close()
    assert keeper.told[: len(told)] == told and len(keeper.told) < 20
    assert made.faults()[0] == "No worker is running: nobody can register."


@pytest.fixture
def alone(site, tmp_path, monkeypatch):
    """A worker without a network, and the socket by which its keeper hears it."""
    key = b"k" * 32
    monkeypatch.setattr(worker, "open_under", lambda *of: site.store)
    out, into = frames.pair()
    inbox, way = frames.pair()
    start = {
        "number": 1,
        "site": str(tmp_path),
        "spis": key.hex(),
        "cookies": key.hex(),
        "key": key.hex(),
        "key_id": key[:8].hex(),
        "policy": frames.policy_facts(site.policy, 1),
        "redirects": Redirects(os.urandom).facts,
        "endpoints": [],
        "hand": into.detach(),
        "inbox": inbox.detach(),
        "ways": {},
    }
    yield worker.Worker(start), out
    out.close()
    way.close()


def test_a_worker_says_again_and_again_that_it_lives(alone, monkeypatch):
    monkeypatch.setattr(worker, "ALIVE_S", 0.001)
    out, into = os.pipe()
    made, _ = alone
    with open(into, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)

        async def run():
            made._loop = asyncio.get_running_loop()
            made._live()
            heard = b""
            while len(heard) < 5:
                await asyncio.sleep(0.001)
                heard += os.read(out, 100)
            return heard

        assert set(asyncio.run(asyncio.wait_for(run(), 30))) == set(b"\n")
        monkeypatch.undo()
    os.close(out)


def test_what_a_worker_can_not_tell_in_one_report_it_counts(alone, site, tmp_path):
    made, out = alone
    for number in range(60):
        made._tell("authentication_failed", member=f"m{number}", address="192.0.2.7:500")
    made._tell("replaced", member="press-7")
    made._report()
    report = json.loads(out.recv(frames.MOST_LEN)[1:])
    assert len(report["events"]) == 50
    assert report["left_out"] == {"authentication_failed": 10, "replaced": 1}
    # said once, and as an event of the keeper's
    keeper = workers.Workers(1, place.Site(tmp_path))
    keeper.open([])
    keeper._keeper = SimpleNamespace(keyserver=site.server.server)
    keeper._take_report(report)
    keeper.close()
    assert site.server.events[-2:] == [
        ("left_out", {"of": "authentication_failed", "count": 10}),
        ("left_out", {"of": "replaced", "count": 1}),
    ]
    made._counters["x"] = 1
    made._report()
    assert json.loads(out.recv(frames.MOST_LEN)[1:])["left_out"] == {}


def test_one_that_is_stuck_is_ended_and_started_again(tmp_path, monkeypatch, keeper):
    """It is ready once, and silent from then on."""
    monkeypatch.setattr(workers, "_COMMAND", _python("print(flush=True); input(); input()"))
    monkeypatch.setattr(workers, "_LOOK_S", 0.02)
    monkeypatch.setattr("covey_host.gcks.vitals.SILENT_S", 0.1)
    made = workers.Workers(1, place.Site(tmp_path))
    made.open([])
    pids = []

    async def run():
        await made.start(keeper)
        pids.append(made.processes()["1"])
        assert made.faults() == []
        while not made.processes()["1"] or made.processes()["1"] == pids[0]:
            await asyncio.sleep(0.01)
        while "Worker 1 has ended 2 times in a row." not in made.faults():
            await asyncio.sleep(0.01)

    try:
        asyncio.run(asyncio.wait_for(run(), 30))
    finally:
        made.close()
    assert keeper.told[:2] == ["trouble", ("worker_ended", -9)]


def test_what_is_lost_at_any_workers_socket_is_told(tmp_path):
    port = free_port()
    made = server.Server(place.Site(tmp_path), Log(as_json=True), None, None, workers=2)
    made._endpoints = [Endpoint(0, "127.0.0.1", port, True)]
    made._workers.open(made._endpoints)
    endpoints = made._workers.endpoints()
    try:
        for endpoint in endpoints:
            endpoint.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        assert made.facts()["lost"] == 0
        for _ in range(64):  # the system gives each sender's to one of the two
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(20):
                    sock.sendto(bytes(1000), ("127.0.0.1", port))
        lost = [endpoint.thinning.lost for endpoint in endpoints]
        assert all(lost) and made.facts()["lost"] == sum(lost)
    finally:
        made._workers.close()
