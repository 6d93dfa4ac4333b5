"""covey.toml: what is read, what is refused, and on which line."""

import errno
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey_host.errors import MISUSE, Problem
from covey_host.gcks import policy, policyvalues
from covey_host.gcks.policy import GroupPolicy, SitePolicy
from covey_host.gcks.policyvalues import Listen

_SITE = 'identity = "gcks.example"\n'
_MAC = 'source_auth = "mac"\n'
_TESLA = 'source_auth = "tesla"\n'
_GROUP = '[group.line1]\naddress = "239.192.1.32"\nport = 2222\n'


def problem_of(text):
    with pytest.raises(Problem) as raised:
        policy.parse(text)
    assert raised.value.status == MISUSE
    assert "\n" not in raised.value.sentence
    return raised.value.sentence


def test_the_template_is_valid_and_has_no_groups():
    site = policy.parse(policy.template("gcks.example"))
    assert site == SitePolicy("gcks.example", (Listen("0.0.0.0", 4500, True),), 600, {})


def test_the_template_shows_the_defaults():
    text = policy.template("gcks.example").replace("# [group", "[group")
    text = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.M)
    assert policy.parse(text).groups == {"line1": GroupPolicy("line1", "239.192.1.32", 2222)}


def test_every_value_arrives():
    site = policy.parse(
        'identity = "a.b"\n'
        'listen = ["127.0.0.1:848", {address = "10.0.0.1:14500", marker = true}]\n'
        'ike_idle = 60\n[group."a.b"]\naddress = "224.1.2.3"\nport = 1\ncarrier = "udp"\n'
        "carrier_port = 65535\nkey_bits = 256\n"
        'lifetime = "2m"\nrekey_lifetime = "1d"\natd = "0s"\ndtd = 1\nsender_id_form = [3, 5]\n'
        'sender_ids = 8\nmembers = 7\nrepeats = 4\nrepeat_spacing = "250ms"\n'
        'rejoin_spread = "0s"\nfresh_join = false\nbatch_window = "300ms"\n'
        'max_silence = "90s"\non_silence = "stop"\n'
        'report_interval = "30s"\n'
    )
    assert site.listen == (Listen("127.0.0.1", 848, False), Listen("10.0.0.1", 14500, True))
    assert site.ike_idle_s == 60
    assert site.groups["a.b"] == GroupPolicy(
        name="a.b",
        address="224.1.2.3",
        port=1,
        carrier="udp",
        carrier_port=65535,
        key_bits=256,
        lifetime_s=120,
        rekey_lifetime_s=86400,
        atd_s=0,
        dtd_s=1,
        sender_id_form=(3, 5),
        sender_ids=8,
        members=7,
        repeats=4,
        repeat_spacing_ms=250,
        rejoin_spread_s=0,
        fresh_join=False,
        max_silence_s=90,
        on_silence="stop",
        batch_window_ms=300,
        report_interval_s=30,
    )
    shape = site.groups["a.b"].shape
    assert shape.sender_id_bits == 8 and shape.has_marker


def test_an_ip_carrier():
    """Its rekeys have the marker on port 4500 only, where RFC 3948 has it."""
    more = 'carrier = "ip"\nprivate_attributes = false\nsingle_sender = true\n'
    group = policy.parse(_SITE + _GROUP + more).groups["line1"]
    assert (group.carrier, group.private_attributes, group.single_sender) == ("ip", False, True)
    shape = group.shape
    assert (shape.carrier, shape.private_attributes, shape.single_sender) == ("ip", False, True)
    assert shape.has_marker
    group = policy.parse(_SITE + _GROUP + more + "carrier_port = 848\n").groups["line1"]
    assert not group.shape.has_marker


def test_data_in_clear():
    assert not policy.parse(_SITE + _GROUP).groups["line1"].shape.integrity_only
    text = _SITE + _GROUP + 'carrier = "ip"\nrekey = "inband"\nsingle_sender = true\n'
    group = policy.parse(text + "key_bits = 256\nintegrity_only = true\n").groups["line1"]
    assert group.integrity_only and group.shape.integrity_only
    assert group.shape != policy.parse(text + "key_bits = 256\n").groups["line1"].shape


def test_ports_and_addresses_may_be_many():
    text = 'listen = ["10.0.0.1:848", "10.0.0.2:848", "10.0.0.1:4500", "0.0.0.0:500"]\n'
    assert len(policy.parse(_SITE + text).listen) == 4


def test_what_an_ikev2_server_needs():
    site = policy.parse(
        _SITE + 'liveness = "5s"\nike_lifetime = "30d"\ncookies_from = 0\nfragment_size = 300\n'
        '[group.x]\naddress = "239.1.1.1"\nport = 1\nrekey = "inband"\n'
        # what only multicast rekeys need is not looked at
        'lifetime = "9h"\nrekey_lifetime = "1s"\nrepeats = 20\n'
    )
    assert (site.liveness_s, site.ike_lifetime_s) == (5, 2_592_000)
    assert (site.cookies_from, site.fragment_size) == (0, 300)
    assert site.groups["x"].shape.rekey == policy.INBAND
    assert policy.parse(_SITE + "fragment_size = 0\n").fragment_size == 0


@pytest.mark.parametrize(
    "text, line, says",
    [
        (_SITE + 'liveness = "4s"\n', 2, "from 5 to"),
        (_SITE + 'ike_lifetime = "31d"\n', 2, "from 10 to"),
        (_SITE + "cookies_from = -1\n", 2, "from 0 to 1024"),
        (_SITE + "cookies_from = 1025\n", 2, "from 0 to 1024"),
        (_SITE + "fragment_size = 299\n", 2, "from 300 to 1500, or 0"),
        (_SITE + "fragment_size = 1501\n", 2, "from 300 to 1500, or 0"),
        (_SITE + "fragment_size = true\n", 2, "from 300 to 1500, or 0"),
        (_SITE + _GROUP + 'rekey = "broadcast"\n', 5, "must be 'multicast' or 'inband'"),
        ("identity = \n", 1, "Invalid value"),
        (_SITE + 'x = "', 2, ""),
        ("", None, "identity is missing"),
        ("identity = 7\n", 1, "domain name"),
        (_SITE + "colour = 1\n", 2, "colour is no key"),
        (_SITE + 'listen = ["0.0.0.0"]\n', 2, "ADDRESS:PORT"),
        (_SITE + 'servers = "10.0.0.1"\n', 2, "must be a list such as"),
        (_SITE + 'servers = ["10.0.0.1:0"]\n', 2, "HOST or HOST:PORT"),
        (_SITE + 'servers = ["10.0.0.1:65536"]\n', 2, "HOST or HOST:PORT"),
        (_SITE + 'servers = ["a b"]\n', 2, "HOST or HOST:PORT"),
        (_SITE + "servers = [7]\n", 2, "HOST or HOST:PORT"),
        (_SITE + 'servers = ["a", "a:4500", "a"]\n', 2, "holds a twice"),
        (_SITE + 'listen = ["gcks:4500"]\n', 2, "ADDRESS:PORT"),
        (_SITE + 'listen = ["0.0.0.0:65536"]\n', 2, "ADDRESS:PORT"),
        (_SITE + "listen = []\n", 2, "list"),
        (_SITE + 'listen = [{address = "0.0.0.0:1", marker = 1}]\n', 2, "marker"),
        (_SITE + 'listen = [{address = "0.0.0.0:4500", marker = false}]\n', 2, "port 4500"),
        (_SITE + 'listen = ["10.0.0.1:848", "10.0.0.1:848"]\n', 2, "overlap"),
        (_SITE + 'listen = ["10.0.0.1:848", "10.0.0.2:848", "0.0.0.0:848"]\n', 2, "overlap"),
        (_SITE + 'ike_idle = "1s"\n', 2, "from 10"),
        (_SITE + "group = 1\n", 2, "[group.NAME]"),
        (_SITE + "[group]\nline1 = 1\n", None, "[group.NAME]"),
        (_SITE + '[group."no such/name"]\n', 2, "can't name a group"),
        (_SITE + '[group.x]\naddress = "239.1.1.1"\n', 2, "port is missing"),
        (_SITE + '[group.x]\nport = 1\naddress = "192.0.2.1"\n', 4, "none"),
        (_SITE + '[group.x]\nport = 1\naddress = "ff02::1"\n', 4, "IPv4"),
        (_SITE + _GROUP + "port = 3\n", 5, "overwrite"),
        (_SITE + _GROUP + "carrier_port = 0\n", 5, "1 to 65535"),
        (_SITE + _GROUP + 'carrier = "tcp"\n', 5, "'udp' or 'ip'"),
        (_SITE + _GROUP + "private_attributes = false\n", 5, 'only with carrier = "ip"'),
        (_SITE + _GROUP + "private_attributes = 0\n", 5, "true or false"),
        (_SITE + _GROUP + 'delivery = "inband"\n', 5, "'multicast' or 'unicast'"),
        (_SITE + _GROUP + 'rekey = "multicast"\ndelivery = "unicast"\n', 5, 'must be "inband"'),
        (
            _SITE + _GROUP + 'carrier = "ip"\ndelivery = "unicast"\nprivate_attributes = false\n',
            7,
            "must not be false",
        ),
        (_SITE + _GROUP + 'delivery = "unicast"\nkey_tree = 4\n', 6, "key_tree is for"),
        (_SITE + _GROUP + "relay_rate = 99\n", 5, "from 100 to"),
        (_SITE + _GROUP + 'single_sender = "yes"\n', 5, "true or false"),
        (_SITE + _GROUP + 'integrity_only = "gmac"\n', 5, "integrity_only must be true or false"),
        (_SITE + _GROUP + "integrity_only = 1\n", 5, "integrity_only must be true or false"),
        (_SITE + _GROUP + "key_bits = 192\n", 5, "128 or 256"),
        (_SITE + _GROUP + "key_bits = true\n", 5, "128 or 256"),
        (_SITE + _GROUP + 'lifetime = "1 h"\n', 5, "duration"),
        (_SITE + _GROUP + 'lifetime = "49s"\n', 5, "at least 50 s"),
        (_SITE + _GROUP + 'rekey_lifetime = "59m"\n', 5, "rekey_lifetime"),
        (_SITE + _GROUP + 'lifetime = "5h"\n', 5, "rekey_lifetime"),
        (_SITE + _GROUP + "atd = 10\n", 5, "dtd (10 s) must be more than atd (10 s)"),
        (_SITE + _GROUP + "dtd = 5\n", 5, "must be more than atd"),
        (_SITE + _GROUP + 'dtd = "721s"\n', 5, "lifetime (3600 s) must be at least 3605 s"),
        (_SITE + _GROUP + 'atd = "1500ms"\n', 5, "whole seconds"),
        (_SITE + _GROUP + "sender_id_form = [10, 5]\n", 5, "8, 12 or 16"),
        (_SITE + _GROUP + "sender_id_form = [14, 2]\n", 5, "incarnation 3"),
        (_SITE + _GROUP + "sender_id_form = 16\n", 5, "two numbers"),
        (_SITE + _GROUP + "sender_id_form = [1, 7]\n", None, "sender_ids"),
        (_SITE + _GROUP + "repeats = 11\n", 5, "last repeat comes after 11 s"),
        (_SITE + _GROUP + 'repeat_spacing = "6s"\n', 5, "last repeat comes after 12 s"),
        (_SITE + _GROUP + 'repeat_spacing = "1ms"\n', 5, "10 ms"),
        (_SITE + _GROUP + 'max_silence = "9s"\n', 5, "from 10 s to 30 days, or 0"),
        (_SITE + _GROUP + 'max_silence = "10500ms"\n', 5, "whole seconds"),
        (_SITE + _GROUP + 'max_silence = "1h"\n', 5, "must be less than lifetime (3600 s)"),
        (_SITE + _GROUP + 'max_silence = "1m"\nmembers = 15001\n', 5, "at least 61 s for 15001"),
        (_SITE + _GROUP + 'on_silence = "stop"\n', 5, "without a max_silence"),
        (_SITE + _GROUP + 'on_silence = "beep"\n', 5, "'tell' or 'stop'"),
        (
            _SITE + _GROUP + 'carrier = "ip"\nprivate_attributes = false\nmax_silence = 60\n',
            7,
            "needs private_attributes",
        ),
        (_SITE + _GROUP + _GROUP.replace("line1", "line2"), 6, "that of line1"),
        (_SITE + _GROUP + "sender = 1\n", 5, "sender is no key"),
        (_SITE + _GROUP + 'source_auth = "oath"\n', 5, "must be 'none' or 'mac' or"),
        (_SITE + _GROUP + _MAC + "mac_len = 7\n", 6, "from 8 to 16"),
        (_SITE + _GROUP + _MAC + "mac_len = 17\n", 6, "from 8 to 16"),
        (_SITE + _GROUP + _MAC + "key_tree = 0\n", 6, "takes rekey"),
        (_SITE + _GROUP + _MAC + 'rekey = "inband"\n', 6, "takes rekey"),
        (_SITE + _GROUP + _MAC + 'dtd = "14s"\nfresh_join = false\n', 6, "waits up to 15 s"),
        (_SITE + _GROUP + _MAC + 'dtd = "14s"\n', 6, 'or say source_auth = "none".'),
        (_SITE + _GROUP + _MAC + 'atd = "0s"\nfresh_join = false\n', 6, "at least 1 s"),
        (
            _SITE + _GROUP + _MAC + 'carrier = "ip"\nprivate_attributes = false\n',
            7,
            "takes private_attributes",
        ),
        (_SITE + _GROUP + _TESLA + "tesla_lag = 0\n", 6, "proves nothing"),
        (_SITE + _GROUP + _TESLA + "tesla_lag = 1\n", 6, "arrives too late"),
        (_SITE + _GROUP + _TESLA + "tesla_lag = 17\n", 6, "from 2 to 16"),
        (_SITE + _GROUP + _TESLA + 'tesla_interval = "19ms"\n', 6, "from 20 ms to 60 s"),
        (_SITE + _GROUP + _TESLA + "tesla_drift = 5000\n", 5, "must be at least 410 ms"),
        (_SITE + _GROUP + _TESLA + "tesla_drift = 0\n", 6, "from 1 to 20000"),
        (_SITE + _GROUP + _TESLA + "tesla_chain = 17\n", 6, "from 8 to 16"),
        (_SITE + _GROUP + _TESLA + "tesla_chain = 8\n", 6, "must last 88 s"),
        (_SITE + _GROUP + _TESLA + 'tesla_interval = "700ms"\n', 5, "at least 12.6 s more than"),
        (_SITE + _GROUP + _TESLA + 'tesla_interval = "723ms"\n', 6, "can't be more than 722 ms"),
        (
            _SITE + _GROUP + _TESLA + 'tesla_interval = "407ms"\ntesla_lag = 16\n',
            6,
            "more than 406 ms",
        ),
        (_SITE + _GROUP + _TESLA + 'evict_dtd = "3s"\n', 6, "at least 1.8 s more than"),
        (_SITE + 'ike_idle = "20s"\n' + _GROUP + _TESLA, 6, "ike_idle (20 s)"),
        (_SITE + _GROUP + _TESLA + "members = 11001\n", 6, "must be at most 11000"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, line, says):
    sentence = problem_of(text)
    assert says in sentence
    if line is not None:
        assert sentence.startswith(f"covey.toml:{line}: "), sentence


def test_the_longest_tesla_interval():
    text = _SITE + _GROUP + _TESLA + 'tesla_interval = "722ms"\nbatch_window = 0\n'
    text += "atd = 1\ndtd = 14\nevict_atd = 1\nevict_dtd = 14\n"
    assert policy.parse(text).groups["line1"].tesla_interval_ms == 722


@pytest.mark.parametrize("text", ["x = " + "9" * 5000, "x = " + "[" * 5000])
def test_what_tomllib_itself_gives_up_on_is_a_sentence_too(text):
    assert "can't be read" in problem_of(text)


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda b: b.decode("latin-1")))
def test_any_text_is_read_or_refused_in_one_sentence(text):
    try:
        policy.parse(_SITE + _GROUP + text)
    except Problem as problem:
        assert problem.status == MISUSE


def test_durations():
    for text, ms in (("500ms", 500), ("5s", 5000), ("30m", 1.8e6), ("1h", 3.6e6), (7, 7000)):
        assert policyvalues.parse_duration_ms(text) == ms
    for bad in ("", "5", "s", "-5s", "5 s", "1.5h", "٣s", True, 1.5, None, -1, [5]):
        with pytest.raises(ValueError):
            policyvalues.parse_duration_ms(bad)


def test_append_group(tmp_path):
    path = tmp_path / "covey.toml"
    path.write_text(policy.template("gcks.example"))
    made = policy.append_group(
        path, "line.1", address="239.192.1.32", port=2222, lifetime="2h", carrier=None
    )
    assert made == GroupPolicy("line.1", "239.192.1.32", 2222, lifetime_s=7200)
    policy.append_group(
        path, "b", address="239.192.1.33", port=1, carrier="ip", private_attributes=False
    )
    assert list(policy.load(path).groups) == ["line.1", "b"]
    assert 'carrier = "ip"\nprivate_attributes = false\n' in path.read_text()
    assert path.read_text().startswith(policy.template("gcks.example").rstrip())
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["covey.toml"]


@pytest.mark.parametrize(
    "name, settings, says",
    [
        ("line1", {"address": "239.0.0.9", "port": 1}, "already"),
        ("x", {"address": "239.192.1.32", "port": 1}, "that of line1"),
        ("x", {"address": 'a"b', "port": 1}, "address"),
        ("x", {"address": "239.0.0.9", "port": 1, "lifetime": "1s"}, "lifetime"),
        ("../x", {"address": "239.0.0.9", "port": 1}, "can't name"),
    ],
)
def test_append_group_refuses_and_leaves_the_file(tmp_path, name, settings, says):
    path = tmp_path / "covey.toml"
    path.write_text(_SITE + _GROUP)
    with pytest.raises(Problem, match=re.escape(says)) as caught:
        policy.append_group(path, name, **settings)
    assert "toml:" not in caught.value.sentence  # no line of the file is wrong
    assert path.read_text() == _SITE + _GROUP


def test_append_group_leaves_no_draft_on_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "covey.toml").write_text(_SITE)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Problem, match="can't be written: No space"):
        policy.append_group(tmp_path / "covey.toml", "x", address="239.0.0.9", port=1)
    assert [p.name for p in tmp_path.iterdir()] == ["covey.toml"]


def test_load_names_what_it_can_not_read(tmp_path):
    with pytest.raises(Problem, match="can't be read"):
        policy.load(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Problem, match="UTF-8"):
        policy.load(tmp_path / "b.toml")
