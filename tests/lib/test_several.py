"""A member of several key servers: Membership, Registration and Several are real, servers are
gcks_peer's.
"""

from covey import hopping, ike, membership, registration, several
from covey.hopping import Hop
from covey.member import Member
from covey.nat import Path
from covey.port import ticks_add
from covey.redirect import emit_redirect, parse_redirect
from covey.registration import Registration
from gcks_peer import Gcks, notify
from life import SPIS, Life
from talk import HERE, PSK, Chance, config
from test_no_memory import _Full

_HOSTS = ["192.0.2.1", "192.0.2.2", "gcks.example"]
_THIRD = "192.0.2.3"  # what its name stands for
_AUTH_ERROR = ike.REGISTRATION_FAILED


def _octets(host):
    return bytes([int(part) for part in host.split(".")])


class Crowd(Life):
    """A member of three key servers. .heard: [(host, datagram)] that it has sent and nobody has
    looked at."""

    def __init__(self, began=0, hosts=_HOSTS, **fields):
        self.heard = []
        given = {
            "servers": [[host, 848, False] for host in hosts],
            "sender": True,
            "rejoin_spread_s": 2,
        }
        given.update(fields)
        several.Hop = Hop  # not the script of other tests
        registration.Registration = Registration
        self.sending = True
        self.member = Member(sender=True)
        self.now_ms = began
        self.it = membership.Membership(config(**given), self.member, Chance(), self.path_to)
        self.it.start(began)

    def path_to(self, server):
        host = _THIRD if server.host == "gcks.example" else server.host
        return Path(HERE, 50000, _octets(host), server.port, False)

    def run(self, ms=0):
        """As Life's, to the ms; → [(ms from now on, host, datagram)]."""
        sent = []
        at = 0
        while True:
            wait = self.it.step(self.now_ms)
            data, to = self.it.outgoing()
            while data is not None:
                sent.append((at, to.host, bytes(data)))
                data, to = self.it.outgoing()
            if wait == 0:
                continue
            if at >= ms:
                return sent
            step = min(wait, ms - at)
            at += step
            self.now_ms = ticks_add(self.now_ms, step)

    def hear(self, data):
        self.it.unicast(data, self.now_ms)
        return [data for _, _, data in self.run()]

    def begin(self):
        """→ what it asks first, and whom."""
        ((at, host, data),) = self.run()
        assert at == 0
        return host, data

    def join(self):
        """It registers at whom it asks → that host."""
        host, init = self.begin()
        self.enter(init)
        return host

    def enter(self, init, number=0, gcks=None):
        self.gcks = gcks or Gcks(PSK)
        auth = self.hear(self.gcks.answer_init(init))
        self.sa = self.gcks.sa
        assert self.hear(self.gcks.answer_auth(auth, self.keys(number)(self.sa))) == []
        assert self.it.state == membership.MEMBER, self.it.reason

    def until_init(self, most_ms=10000):
        """Time goes by until it begins an IKE SA → (ms from now on, host, IKE_SA_INIT)."""
        for began in range(0, most_ms, 10):
            for at, host, data in self.run(10):
                if data[18] == ike.IKE_SA_INIT:
                    return began + at, host, data
        raise AssertionError

    def sent_on(self, init, host, nonce=None):
        """What comes of an answer to IKE_SA_INIT that names another host."""
        header, payloads = ike.parse_message(init)
        if nonce is None:
            (nonce,) = [p.body for p in payloads if p.kind == ike.NONCE]
        told = notify(ike.REDIRECT, emit_redirect(host, bytes(nonce)))
        head = header.spi_i, bytes(8), ike.IKE_SA_INIT, ike.FLAG_R, 0
        self.it.unicast(bytes(ike.emit_message(*head, [told])), self.now_ms)
        return self.run()

    def events(self):
        events, self.it.events = self.it.events, []
        return [name for name, _ in events]


def _kinds(init):
    """{kind of notification: data} of an IKE_SA_INIT."""
    found = {}
    for p in ike.parse_message(init)[1]:
        if p.kind == ike.NOTIFY:
            n = ike.parse_notify(p.body)
            found[n.type] = bytes(n.data)
    return found


def _of(init, kind):
    (body,) = [bytes(p.body) for p in ike.parse_message(init)[1] if p.kind == kind]
    return body


# Who is silent


def test_the_next_one_is_asked_after_half_a_second_and_lets_us_in():
    for began in (0, (1 << 30) - 300):
        life = Crowd(began)
        first, init = life.begin()
        sent = life.run(650)
        assert [(to, data) for _, to, data in sent[:-1]] == [(first, init)]  # said once again
        at, second, other = sent[-1]
        assert second != first and 400 <= at <= 610
        assert life.it.state == membership.REGISTERING
        assert life.events() == ["registering", "unanswered"]
        life.enter(other)
        assert life.events() == ["member"] and life.it.reason == ""
        assert life.it.server.host == second


def test_what_x25519_took_is_used_again_and_nothing_else():
    life = Crowd()
    _, init = life.begin()
    sent = life.run(2000)
    inits = [init] + [data for i, (_, _, data) in enumerate(sent) if i == 0 or data != sent[i - 1]]
    seen = {}
    for data in inits:
        seen[data[:8]] = data
    assert len(seen) >= 3
    assert len({_of(data, ike.KE) for data in seen.values()}) == 1
    assert len({_of(data, ike.NONCE) for data in seen.values()}) == len(seen)
    where = [_kinds(data)[ike.NAT_DETECTION_DESTINATION_IP] for data in seen.values()]
    assert len(set(where)) == len(seen)


def test_but_not_once_somebody_has_answered():
    life = Crowd()
    first, init = life.begin()
    (auth,) = life.hear(Gcks(PSK).answer_init(init))
    sent = life.run(1300)
    at, other, again = sent[-1]
    assert other != first and again[18] == ike.IKE_SA_INIT
    assert _of(again, ike.KE) != _of(init, ike.KE)


def test_what_was_kept_of_it_is_wiped_at_the_end():
    life = Crowd()
    life.begin()
    life.run(450)
    life.it._ike.close()
    secret, _ = life.it.servers.pair
    assert any(secret)
    life.it.wipe()
    assert not any(secret) and life.it.servers.pair is None


def test_rounds_of_silence_take_longer_and_have_pauses():
    life = Crowd()
    life.begin()
    asked = []
    for _, host, data in life.run(40000):
        if not asked or asked[-1][1] != data[:8]:
            asked.append((host, data[:8]))
    assert 9 <= len(asked) <= 15  # half a second for each, one, two, four; pauses as long as these
    assert [host for host, _ in asked[:3]] == [host for host, _ in asked[3:6]]


def test_who_dies_between_the_two_messages_is_left_within_a_second():
    life = Crowd()
    first, init = life.begin()
    (auth,) = life.hear(Gcks(PSK).answer_init(init))
    sent = life.run(900)
    assert [data for _, _, data in sent[:-1]] == [auth, init, auth, init]
    at, second, other = sent[-1]
    assert second != first and other[18] == ike.IKE_SA_INIT and 650 <= at <= 860
    life.enter(other)


def test_who_is_only_busy_is_waited_for():
    """It says again what it has said to IKE_SA_INIT: as with newcomers that wait for new keys."""
    life = Crowd()
    first, init = life.begin()
    gcks = Gcks(PSK)
    answer = gcks.answer_init(init)
    (auth,) = life.hear(answer)
    ended = life.now_ms + 14000
    asked = 0
    while life.now_ms < ended:
        for _, host, data in life.run(10):
            assert host == first and data in (init, auth)
            if data == init:
                asked += 1
                life.it.unicast(answer, life.now_ms)
    assert asked == 5
    assert life.hear(gcks.answer_auth([auth], life.keys(0)(gcks.sa))) == []
    assert life.it.state == membership.MEMBER and life.it.server.host == first
    exchanges = [data[18] for _, _, data in life.run(2100)]
    assert exchanges[:1] == [ike.GSA_REGISTRATION]  # an answer that came so late may be old


def test_one_that_has_started_anew_meanwhile_is_asked_again():
    life = Crowd()
    first, init = life.begin()
    life.hear(Gcks(PSK).answer_init(init))
    sent = life.run(260)
    assert sent[1][2] == init and len(sent) == 2
    life.enter(init, gcks=Gcks(PSK, b"s" * 32, spi_r=b"anew" * 2))  # it knows nothing of the first
    assert life.it.server.host == first


def test_one_that_has_forgotten_us_may_ask_for_a_cookie_first():
    """As one does whose write failed, and that has much to do: it lives, and waits for nothing."""
    life = Crowd()
    first, init = life.begin()
    life.hear(Gcks(PSK).answer_init(init))
    assert life.run(260)[1][2] == init
    asked = ike.emit_message(
        init[:8], bytes(8), ike.IKE_SA_INIT, ike.FLAG_R, 0, [notify(ike.COOKIE, b"cookie")]
    )
    (again,) = life.hear(bytes(asked))
    assert _kinds(again)[ike.COOKIE] == b"cookie" and again[:8] == init[:8]
    other = Gcks(PSK, b"s" * 32, spi_r=b"anew" * 2)
    sent = life.hear(other.answer_init(again))
    life.hear(other.answer_auth(sent[:1], life.keys(0)(other.sa)))
    assert life.it.state == membership.MEMBER and life.it.server.host == first


def test_a_board_that_computes_for_seconds_waits_for_itself():
    life = Crowd()
    first, init = life.begin()
    life.it.unicast(Gcks(PSK).answer_init(init), life.now_ms)
    auth = None
    while auth is None:  # 20 ms for each slice
        life.it.step(life.now_ms)
        data, to = life.it.outgoing()
        if data is not None and data[18] == ike.GSA_AUTH:
            auth = data
        assert to is None or to.host == first
        life.now_ms = ticks_add(life.now_ms, 20)
    assert life.now_ms > 10000 and life.it.state == membership.REGISTERING


# An IKE SA that is kept


def test_who_dies_is_found_out_by_its_silence_and_data_go_on():
    life = Crowd(liveness_s=60)
    first = life.join()
    asked = []
    ended = life.now_ms + 75000
    while life.now_ms < ended and not asked:
        for _, host, data in life.run(100):
            if data[18] == ike.IKE_SA_INIT:
                asked.append((host, life.now_ms))
        assert life.member.can_send(life.now_ms)
    ((host, at),) = asked
    assert host != first and 68000 <= at <= 71100  # 60, 8 until it is given up, up to 2 by chance
    assert "unanswered" in life.events()


def test_a_pull_without_an_answer_too():
    life = Crowd()
    first = life.join()
    life.events()
    life.it.refresh(life.now_ms)
    sent = life.run(9000)
    inits = [(at, host) for at, host, data in sent if data[18] == ike.IKE_SA_INIT]
    (at, host), (_, again), (later, other) = inits[:3]
    assert host == again == first and 5000 <= at <= 8100  # perhaps it has only started anew
    assert other != first and later - at <= 700
    assert life.member.can_send(life.now_ms)


# Who can't serve us


def test_who_fails_to_register_us_is_left_for_the_next():
    life = Crowd()
    hosts = []
    host, init = life.begin()
    for _ in range(2):
        hosts.append(host)
        gcks = Gcks(PSK)
        (auth,) = life.hear(gcks.answer_init(init))
        life.it.unicast(gcks.answer_auth([auth], [notify(_AUTH_ERROR)]), life.now_ms)
        sent = life.run()
        # it hears that it is left, and the next one is asked in the same moment
        assert [to for _, to, _ in sent] == [host, sent[-1][1]]
        header, payloads = gcks.sa.open(sent[0][2])
        assert header.exchange == ike.INFORMATIONAL and payloads == [(ike.DELETE, b"\1\0\0\0")]
        _, host, init = sent[-1]
    assert host not in hosts
    life.enter(init)


def test_where_all_fail_to_there_is_a_pause():
    life = Crowd()
    (host, init), asked = life.begin(), 0
    while True:
        asked += 1
        gcks = Gcks(PSK)
        (auth,) = life.hear(gcks.answer_init(init))
        life.it.unicast(gcks.answer_auth([auth], [notify(_AUTH_ERROR)]), life.now_ms)
        sent = [out for out in life.run() if out[2][18] == ike.IKE_SA_INIT]
        if not sent:
            break
        ((_, host, init),) = sent
    assert asked == 3 and life.it.state == membership.REFUSED
    assert life.it.reason == "The key server refused: registration_failed."
    assert life.run(9900) == []
    assert life.until_init()[2][18] == ike.IKE_SA_INIT


def test_a_member_that_is_refused_so_goes_on_with_its_keys():
    """A server that has lost its store, for instance."""
    life = Crowd()
    first = life.join()
    life.it._refresh.soon(life.now_ms)
    ((_, _, pull),) = [out for out in life.run(2000) if out[2][18] == ike.GSA_REGISTRATION][:1]
    life.it.unicast(life.sa.answer(pull, [notify(_AUTH_ERROR)]), life.now_ms)
    sent = life.run(3100)
    assert sent[-1][1] != first and sent[-1][2][18] == ike.IKE_SA_INIT
    assert life.it.state == membership.MEMBER and life.member.can_send(life.now_ms)
    # this group is told inband: the end of its IKE SA would put us out
    assert [data for _, _, data in sent if data[18] == ike.INFORMATIONAL] == []


# REDIRECT


def test_it_is_announced_where_there_is_more_than_one():
    assert _kinds(Crowd().begin()[1])[ike.REDIRECT_SUPPORTED] == b""
    assert ike.REDIRECT_SUPPORTED not in _kinds(Life(registered=False).run()[0])


def test_the_server_that_is_named_is_asked_at_once():
    for named in ("192.0.2.1", "192.0.2.2", "gcks.example", _THIRD):
        life = Crowd()
        first, init = life.begin()
        host = "gcks.example" if named == _THIRD else named
        sent = life.sent_on(init, named)
        if host == first:
            assert sent == [] and life.drops == {"ike_redirect": 1}
            continue
        ((_, to, other),) = sent
        assert to == host and other[:8] != init[:8]
        assert _of(other, ike.KE) == _of(init, ike.KE)
        kinds = _kinds(other)
        assert ike.REDIRECT_SUPPORTED not in kinds
        assert parse_redirect(kinds[ike.REDIRECTED_FROM]) == (first, b"")
        assert life.events() == ["registering", "redirected"] and life.drops == {}
        life.enter(other)


def test_where_nothing_proves_it_only_our_nonce_and_our_list_count():
    life = Crowd()
    first, init = life.begin()
    other = [host for host in _HOSTS if host != first][0]
    nonce = _of(init, ike.NONCE)
    for host, echo in (
        (other, b""),
        (other, nonce[:-1]),
        (other, nonce + b"\0"),
        (other, b"x" * 32),
        ("198.51.100.1", nonce),
        ("evil.example", nonce),
        (first, nonce),
    ):
        assert life.sent_on(init, host, echo) == []
    assert life.drops == {"ike_redirect": 7} and life.it.server.host == first
    life.enter(init)  # the genuine answer is still awaited
    assert life.it.server.host == first


def test_who_has_another_answer_does_not_listen_to_it():
    life = Crowd()
    first, init = life.begin()
    gcks = Gcks(PSK)
    (auth,) = life.hear(gcks.answer_init(init))
    other = [host for host in _HOSTS if host != first][0]
    assert life.sent_on(init, other) == []
    life.hear(gcks.answer_auth([auth], life.keys(0)(gcks.sa)))
    assert life.it.state == membership.MEMBER and life.it.server.host == first


def test_five_in_five_minutes_are_followed():
    life = Crowd()
    host, init = life.begin()
    for count in range(6):
        other = _HOSTS[(_HOSTS.index(host) + 1) % 3]
        sent = life.sent_on(init, other)
        if count < 5:
            ((_, host, init),) = sent
            assert host == other
    assert sent == [] and life.drops == {"ike_redirect": 1}
    life.now_ms = ticks_add(life.now_ms, 301000)
    _, host, init = life.until_init()
    other = _HOSTS[(_HOSTS.index(host) + 1) % 3]
    assert life.sent_on(init, other)[0][1] == other


def test_forged_ones_that_name_nobody_have_names_looked_up_no_more_often():
    life = Crowd()
    first, init = life.begin()
    looked_up = []
    life.it.servers._path_to = looked_up.append
    nonce = _of(init, ike.NONCE)
    for number in range(9):
        assert life.sent_on(init, "evil%d.example" % number, nonce) == []
    assert looked_up == [] and life.drops == {"ike_redirect": 9}
    life = Crowd()
    first, init = life.begin()
    life.it.servers._path_to = looked_up.append
    for number in range(9):
        assert life.sent_on(init, "198.51.100.%d" % number, _of(init, ike.NONCE)) == []
    assert len(looked_up) == 10 and life.drops == {"ike_redirect": 9}
    others = [host for host in _HOSTS if host != first]
    assert life.sent_on(init, others[0]) == []  # for five minutes
    life.now_ms = ticks_add(life.now_ms, 301000)
    _, host, init = life.until_init()
    other = _HOSTS[(_HOSTS.index(host) + 1) % 3]
    assert life.sent_on(init, other)[0][1] == other


def test_who_sends_us_to_a_dead_one_is_not_asked_whether_it_still_would():
    """Both others are tried within a second and a half, whatever their order in our list."""
    for further in (1, 2):
        life = Crowd()
        drains, init = life.begin()
        listed = [server.host for server in life.it.servers._listed]
        dead, alive = (listed[(listed.index(drains) + n) % 3] for n in (further, 3 - further))
        ((_, host, _),) = life.sent_on(init, _THIRD if dead == "gcks.example" else dead)
        assert host == dead
        hosts = [dead]
        for _ in range(150):
            for _, host, data in life.run(10):
                if data[18] == ike.IKE_SA_INIT and host != hosts[-1]:
                    hosts.append(host)
        assert drains not in hosts[: hosts.index(alive)], hosts
    life = Crowd(hosts=_HOSTS[:2])
    drains, init = life.begin()
    ((_, dead, _),) = life.sent_on(init, [host for host in _HOSTS[:2] if host != drains][0])
    hosts = [host for _, host, data in life.run(2000) if data[18] == ike.IKE_SA_INIT]
    assert hosts[0] == dead and drains in hosts  # there is no other


def test_no_memory_for_what_an_answer_says_is_asked_for_again():
    for is_pull in (False, True):
        life = Crowd()
        if is_pull:
            life.join()
            life.it._refresh.soon(life.now_ms)
            (pull,) = [o[2] for o in life.run(2000) if o[2][18] == ike.GSA_REGISTRATION][:1]
            answer = life.sa.answer(pull, life.keys(1)(life.sa))
        else:
            _, init = life.begin()
            gcks = Gcks(PSK)
            auth = life.hear(gcks.answer_init(init))
            life.sa = gcks.sa
            answer = gcks.answer_auth(auth, life.keys(1)(life.sa))
        with _Full(hopping, "error_of"):
            life.it.unicast(answer, life.now_ms)
        assert life.drops == {"capacity": 1}
        assert life.it._ike.state == registration.REFUSED
        pulls = []
        while not pulls:
            pulls = [data for _, _, data in life.run(10) if data[18] == ike.GSA_REGISTRATION]
        life.hear(life.sa.answer(pulls[0], life.keys(1)(life.sa)))
        assert life.it.state == membership.MEMBER and SPIS[1] in life.spis


def test_a_proven_server_sends_us_on():
    """Its answer to GSA_AUTH: we leave it, and ask the one that it names, or any other."""
    for named, told in (
        (_THIRD, None),
        ("198.51.100.1", None),
        (None, bytes((2, 16)) + bytes(16)),
    ):
        life = Crowd()
        first, init = life.begin()
        gcks = Gcks(PSK)
        (auth,) = life.hear(gcks.answer_init(init))
        told = told or emit_redirect(named)
        life.it.unicast(gcks.answer_auth([auth], [notify(ike.REDIRECT, told)]), life.now_ms)
        (_, one, goodbye), (_, to, other) = life.run()
        assert one == first and gcks.sa.open(goodbye)[1] == [(ike.DELETE, b"\1\0\0\0")]
        assert to != first and (named != _THIRD or to == "gcks.example" or first == "gcks.example")
        assert ike.REDIRECTED_FROM in _kinds(other)
        life.enter(other)
        assert life.events() == ["registering", "redirected", "member"]


def _sends_on(life, first):
    """What its first server tells it as it goes: another one."""
    named = [host for host in _HOSTS if host != first][0]
    named = _THIRD if named == "gcks.example" else named
    return life.sa.request(ike.INFORMATIONAL, [notify(ike.REDIRECT, emit_redirect(named))])


def test_a_server_that_goes_tells_its_members():
    """INFORMATIONAL: answered, data go on, and at a random moment another one is asked."""
    life = Crowd()
    first = life.join()
    life.events()
    request = _sends_on(life, first)
    (answer,) = life.hear(request)
    header, payloads = life.sa.open(answer)
    assert header.exchange == ike.INFORMATIONAL and header.flags & ike.FLAG_R and payloads == []
    assert life.events() == ["redirected"] and life.it.state == membership.MEMBER
    at, to, other = life.until_init()
    assert to != first and at <= 3000
    assert life.member.can_send(life.now_ms) and life.it.state == membership.MEMBER
    life.enter(other, 1)
    assert life.it.server.host == to and SPIS[1] in life.spis


def test_more_than_five_of_these_are_answered_and_not_followed():
    life = Crowd()
    life.join()
    for _ in range(7):
        request = life.sa.request(ike.INFORMATIONAL, [notify(ike.REDIRECT, b"\3\1x")])
        assert len([d for d in life.hear(request) if d[18] == ike.INFORMATIONAL]) == 1
    assert life.drops == {"ike_redirect": 2}


def test_where_there_is_one_it_means_nothing():
    life = Life()
    life.it.events = []
    request = life.sa.request(
        ike.INFORMATIONAL, [notify(ike.REDIRECT, emit_redirect("192.0.2.2"))]
    )
    (answer,) = life.hear(request)
    assert life.sa.open(answer)[1] == []
    assert life.it.events == [] and life.drops == {}


def test_numbers():
    assert (ike.REDIRECT_SUPPORTED, ike.REDIRECT, ike.REDIRECTED_FROM) == (16406, 16407, 16408)


def test_a_redirect_that_finds_no_memory_is_not_answered_so_that_it_comes_again():
    life = Crowd()
    first = life.join()
    life.events()
    request = _sends_on(life, first)
    with _Full(several, "_parsed"):
        assert life.hear(request) == []
    assert life.it.server.host == first and life.events() == []
    assert life.hear(request) != []
    life.run(1000)
    assert life.events()[:1] == ["redirected"]
