"""GSA_INBAND_REKEY between ends of ours and foreign ones: RFC 9838 section 2.4.2."""

import itertools
import os

import pytest

from foreign_citizen import DELETE_IKE
from foreign_city import City
from foreign_gm import (
    DELETE,
    GSA,
    GSA_REGISTRATION,
    IDG,
    INFORMATIONAL,
    KD,
    KEY_ID,
    NO_PROPOSAL_CHOSEN,
    REGISTRATION_FAILED,
    identity,
    notification,
)
from foreign_group import Tek, delete, littered, substructure, tlv, tv
from foreign_ikesa import GSA_INBAND_REKEY
from processes import wait_until

INTERPRETERS = pytest.mark.parametrize("interpreter", ("cpython", "micropython"))
INVALID_SYNTAX = 7
IV = b"\xee\xee" + bytes(6)
ALL = [delete(3, bytes(4)), delete(6, bytes(16))]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = City(
        tmp_path_factory.mktemp("city"),
        settings='liveness = "5s"\nfragment_size = 400',
        group='rekey = "inband"',
    )
    yield made
    made.close()


@pytest.fixture
def city(running):
    """Everybody has left when it is over."""
    yield running
    for other in running._others:
        if getattr(other, "sa", None) and not other.sa.ended:
            leave(other)
    running.clear()


def leave(gm, type=REGISTRATION_FAILED):
    left = [(IDG, identity(KEY_ID, gm.group)), notification(type)]
    assert gm.talk(GSA_REGISTRATION, left) == []


def joined(city, name="press-7", **how):
    gm = city.gm(name, **how)
    gm.inband = True
    return gm.connect().join()


def rekeyed(city, *gms):
    """`covey rekey`: each gets the new TEK over its own IKE SA, and is told what it replaces."""
    old = [gm.tek[0] for gm in gms]
    city.covey("rekey", "line1")
    for gm, spi in zip(gms, old, strict=True):
        message = gm.serve(exchange=GSA_INBAND_REKEY)
        assert message and gm.deleted == [delete(3, spi)[1]]
    assert len({gm.tek for gm in gms}) == 1 and gms[0].tek[0] not in old


# Our key server


def test_new_keys_one_after_the_other(city):
    one, two = joined(city), joined(city, "saw", wants=None)
    assert one.tek == two.tek
    for _ in range(3):
        rekeyed(city, one, two)
    late = joined(city, "drill")
    assert late.tek == one.tek
    assert one.air is None and not one.told[0].payloads[0][1][0] == 6


def test_over_the_ike_sa_that_is_in_force(city):
    """Wrapped under its GSK_w, whoever made it."""
    gm = joined(city)
    gm.rekey_ike()
    rekeyed(city, gm)
    gm.rekey_ike(choices=[(128, 1)])
    rekeyed(city, gm)


def test_in_fragments(city):
    gm = joined(city)
    gm.sa.most = 400 - 28
    rekeyed(city, gm)
    gm = joined(city, "saw", fragments=False)
    rekeyed(city, gm)


def test_an_unanswered_one_comes_again(city):
    gm = joined(city)
    gm.on[GSA_INBAND_REKEY] = lambda sa, message: None
    city.covey("rekey", "line1")
    first = gm.serve(exchange=GSA_INBAND_REKEY)
    del gm.on[GSA_INBAND_REKEY]
    again = gm.serve(exchange=GSA_INBAND_REKEY)
    assert again.datagrams == first.datagrams
    rekeyed(city, gm)


def test_liveness(city):
    gm = joined(city)
    assert gm.serve().payloads == []
    rekeyed(city, gm)


@pytest.mark.parametrize("type", (NO_PROPOSAL_CHOSEN, REGISTRATION_FAILED))
def test_who_is_out_gets_nothing_more(city, type):
    gm, other = joined(city), joined(city, "saw")
    leave(gm, type)
    assert "press-7" not in city.members()
    rekeyed(city, other)
    while (message := gm.serve(0.5)) is not None:
        assert message.exchange != GSA_INBAND_REKEY or GSA not in message.kinds
    gm.pull()  # back again
    rekeyed(city, gm, other)


def test_removed(city):
    """All keys go, then the IKE SA; the others have new keys, and no pause."""
    gm, other = joined(city, "crane"), joined(city, "saw")
    tek = other.tek
    city.covey("member", "remove", "crane")
    message = gm.serve(exchange=GSA_INBAND_REKEY)
    assert sorted(message.payloads) == sorted(ALL)
    assert gm.serve(exchange=INFORMATIONAL).payloads == [DELETE_IKE]
    message = other.serve(exchange=GSA_INBAND_REKEY)
    assert GSA in message.kinds and other.tek != tek


def test_starting_over(city):
    """Another port for data: all keys go, and everybody registers again over its IKE SA."""
    one, two = joined(city), joined(city, "saw")
    tek = one.tek
    city.edit("port = 2222", "port = 2223")
    try:
        city.covey("reload")
        for gm in (one, two):
            message = gm.serve(exchange=GSA_INBAND_REKEY)
            assert sorted(message.payloads) == sorted(ALL)
            gm.pull()
            assert gm.policy.sas[3]["destination"][1:3] == (2223, 2223)
        assert one.tek == two.tek != tek
        rekeyed(city, one, two)
    finally:
        city.edit("port = 2223", "port = 2222")
        city.covey("reload")


def test_data_with_a_member_of_ours(city):
    ours = city.ours("forge")
    gm = joined(city).listen()
    seq = itertools.count(1)
    for n in range(2):
        wait_until(lambda n=n: gm.send(b"to %d" % n, next(seq)) and ours.opened(b"to %d" % n))
        ours.packet(b"to %d" % n, sender=gm.sender_ids[0])
        ours.say(f"from {n}")
        gm.hear(lambda n=n: any(payload == b"from %d" % n for _, _, payload in gm.inside))
        rekeyed(city, gm)
    assert ours.leave()[0] == 0
    gm.close()
    city._others.remove(gm)


# A member of ours


def without_kek(bench):
    group = bench.group
    group.lifetime_s = 0

    def granted(session, wants):
        return [
            group.gsa(kek=False, wants=wants),
            group.kd(session.kwk, kek=False, wants=wants),
            *group.transport,
        ]

    bench.server.on_auth = lambda session, wants: [*session.proof(), *granted(session, wants)]
    bench.server.on_pull = granted
    return bench


def tell(bench, payloads, times=2):
    return bench.server.ask(bench.server.session, GSA_INBAND_REKEY, payloads, times)


def renewed(bench, *more, wide=True, kwk=None):
    """→ payloads of an inband rekey with a new TEK."""
    group = bench.group
    group.teks = [Tek(group.address)]
    kwk = kwk or bench.server.session.kwk
    return [group.gsa(kek=False, wide=wide), group.kd(kwk, kek=False), *more]


def opens(bench, member, tek, text):
    wait_until(lambda: bench.air.send(tek, text, iv=IV) and member.opened(text))


def sends(bench, member, teks, text):
    member.say(text)
    while True:
        tek, _, _, payload = bench.air.hear(teks)
        if payload == text.encode():
            return tek


@INTERPRETERS
def test_a_member_takes_new_keys(foreign, interpreter):
    bench = without_kek(foreign())
    member, group, teks = bench.talker(interpreter, limits={"sas": 64}), bench.group, []
    shapes = {
        "plain": lambda: renewed(bench, delete(3, teks[-1].spi)),
        "no Delete": lambda: renewed(bench),
        "no group-wide policy": lambda: renewed(bench, delete(3, teks[-1].spi), wide=False),
        "Delete first": lambda: renewed(bench, delete(3, teks[-1].spi))[::-1],
        "litter": lambda: littered(renewed(bench, delete(3, teks[-1].spi))),
    }
    for name, shape in shapes.items():
        teks.append(group.teks[0])
        assert tell(bench, shape()) == []
        (new,) = group.teks
        opens(bench, member, new, name.encode())
        assert sends(bench, member, [*teks, new], "ours " + name) is new
    # two in a row, the second behind the answer to the first; over a new IKE SA as well
    for _ in range(2):
        assert tell(bench, renewed(bench, delete(3, group.teks[0].spi))) == []
    opens(bench, member, group.teks[0], b"two in a row")
    bench.server.rekey(bench.server.session)
    assert tell(bench, renewed(bench)) == []
    opens(bench, member, group.teks[0], b"under another GSK_w")
    assert bench.server.count("pull") == 0 and bench.server.count("refused") == 0


@INTERPRETERS
def test_dtd_and_atd(foreign, interpreter):
    bench = without_kek(foreign())
    group = bench.group
    member = bench.talker(interpreter)
    (old,) = group.teks
    group.atd_s, group.dtd_s = 4, 60
    assert tell(bench, renewed(bench, delete(3, old.spi))) == []
    (new,) = group.teks
    opens(bench, member, new, b"at once")
    opens(bench, member, old, b"not yet gone")
    assert sends(bench, member, [old, new], "not yet") is old
    wait_until(lambda: sends(bench, member, [old, new], "now") is new)


@INTERPRETERS
@pytest.mark.parametrize("deletes", (ALL, ALL[::-1], ALL[1:], [delete(0)]))
def test_excluded_inband(foreign, interpreter, deletes):
    """Section 2.4.3: it registers again, over the IKE SA that is there."""
    bench = without_kek(foreign())
    member = bench.talker(interpreter)
    bench.group.renew()
    assert tell(bench, deletes) == []
    member.heard("excluded")
    bench.server.wait("pull")
    member.heard("registered", 2)
    opens(bench, member, bench.group.teks[0], b"back")
    assert bench.server.count("auth") == 1


@INTERPRETERS
def test_beside_a_rekey_sa(foreign, interpreter):
    """A TEK alone, then a Rekey SA with it: what follows is multicast over that one."""
    bench = foreign()
    member, group, session = bench.talker(interpreter), bench.group, bench.server.session
    assert tell(bench, renewed(bench)) == []
    opens(bench, member, group.teks[0], b"inband")
    group.renew()
    assert tell(bench, [group.gsa(), group.kd(session.kwk)]) == []
    opens(bench, member, group.teks[0], b"with a Rekey SA")
    over = group.kek
    group.renew()
    bench.rekey([group.gsa(), group.kd(over.kwk)], over)
    opens(bench, member, group.teks[0], b"and over it")
    assert bench.server.count("pull") == 0


def changed(payloads, kind, more):
    return [(k, body + more if k == kind else body) for k, body in payloads]


MALFORMED = {
    "no KD": lambda p: p[:1],
    "no GSA": lambda p: p[1:],
    "two GSA": lambda p: [p[0], *p],
    "GSA cut": lambda p: changed(p, GSA, tv(1, 0)[:3]),
    "KD cut": lambda p: changed(p, KD, b"\3"),
    "a Delete that is none": lambda p: [*p, (DELETE, b"\3\4\0\2spi-")],
}


@INTERPRETERS
def test_malformed(foreign, interpreter):
    """RFC 7296 section 2.21.3: INVALID_SYNTAX, and the IKE SA is no more. Without a Rekey SA
    the member registers again."""
    bench = without_kek(foreign())
    member, server = bench.talker(interpreter), bench.server
    for n, (name, change) in enumerate(MALFORMED.items()):
        payloads = change(renewed(bench))
        assert tell(bench, payloads, times=1) == [notification(INVALID_SYNTAX)], name
        server.wait("auth", n + 2)
        member.heard("registered", n + 2)
    opens(bench, member, bench.group.teks[0], b"back")


@INTERPRETERS
def test_nothing_to_do(foreign, interpreter):
    """It is acknowledged, and changes nothing."""
    bench = without_kek(foreign())
    member = bench.talker(interpreter)
    assert tell(bench, []) == [] and tell(bench, [notification(40999, b"?")]) == []
    opens(bench, member, bench.group.teks[0], b"as ever")
    assert tell(bench, renewed(bench)) == []
    opens(bench, member, bench.group.teks[0], b"new")


NOT_TAKEN = {
    "64-bit sequence numbers": lambda p, bench: [bench.group.gsa(kek=False), p[1]],
    "a key too many": lambda p, bench: changed(p, KD, Tek(bench.group.address).bag(bytes(32))),
    "Sender-ID": lambda p, bench: changed(p, KD, substructure(0, b"", tlv(3, bytes(4)))),
}


@INTERPRETERS
def test_what_it_does_not_take_it_refuses(foreign, interpreter):
    """SK{} all the same; then GSA_REGISTRATION {IDg, N(NO_PROPOSAL_CHOSEN)}, section 2.3.2."""
    for name, change in NOT_TAKEN.items():
        bench = without_kek(foreign())
        member = bench.talker(interpreter)
        payloads = renewed(bench)
        if name.startswith("64"):
            bench.group.teks[0].sn = 1
        assert tell(bench, change(payloads, bench)) == []
        assert bench.server.wait("refused") == b"press-7", name
        assert member.count("rekeyed") == 0


@INTERPRETERS
def test_a_key_that_does_not_open(foreign, interpreter):
    bench = without_kek(foreign())
    member = bench.talker(interpreter)
    assert tell(bench, renewed(bench, kwk=os.urandom(32))) == []
    bench.server.until(lambda: bench.server.count("pull") or bench.server.count("refused"))
    assert member.count("rekeyed") == 0


@INTERPRETERS
def test_critical(foreign, interpreter):
    bench = without_kek(foreign())
    member = bench.talker(interpreter)
    (old,) = bench.group.teks
    payloads = [*renewed(bench), (200, b"", 0x80)]
    assert tell(bench, payloads) == [notification(1, b"\xc8")]
    opens(bench, member, old, b"nothing has changed")
    assert tell(bench, renewed(bench)) == []
    opens(bench, member, bench.group.teks[0], b"now it has")
