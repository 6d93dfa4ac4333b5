"""What the documents say in tables against the code: reasons, limits, keys, fields, events."""

import ast
import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest

from covey import (
    aio,
    assignment,
    candidates,
    config,
    drops,
    fields,
    gsa,
    handshake,
    ike,
    ikebody,
    ikefrag,
    keystore,
    keywork,
    member,
    membership,
    refresh,
    rekey,
    renewal,
    servers,
    several,
    unicast,
)
from covey import group as member_group
from covey.port import cpy_path
from covey_host import join
from covey_host.audit import recorder
from covey_host.gcks import (
    cookies,
    disclosure,
    group,
    halfopen,
    inbox,
    keyserver,
    moves,
    policy,
    registrar,
    requests,
    senders,
    server,
    succession,
)
from covey_host.gcks import (
    table as sas,
)
from covey_host.gcks.policy import groups, reading
from covey_host.store import sqlite
from gcks_site import Site
from markdown import CLI, DESIGN, ROOT, SPEC, THREATS, blocks, code, codes, numbers, section, table
from test_imports import GROUPS

HOST = ROOT / "host" / "covey_host"
SHAPE = policy.GroupPolicy("line1", "239.192.1.32", 2222).shape


@pytest.mark.parametrize("heading", ["covey.toml", "covey.json", "Counters", "Events"])
def test_nothing_is_said_twice(heading):
    """Two branches that are merged may each have added a row; table() would show one of them."""
    rows = re.findall(r"^\| (`[^`]+`) \|", section(CLI, heading), re.M)
    assert len(rows) > 8 and len(rows) == len(set(rows))


# Reasons, layers


def test_the_table_of_reasons_is_that_of_the_code():
    shown = table(SPEC, "Reasons for a drop")
    constants = {name: value for name, value in vars(drops).items() if name.startswith("DROP_")}
    assert [code(name) for name in shown] == list(drops.names().values()), "the same, in order"
    for cells in shown.values():
        assert drops.names()[constants[cells[1]]] == code(cells[0]), cells
        assert re.match(r"RFC \d+|ours", cells[3]), cells
    assert {cells[1] for cells in shown.values()} == set(constants)


def test_reasons_in_other_tables_exist():
    for span in re.findall(r"`([a-z_]+)`", section(SPEC, "Order of the checks")):
        assert span in drops.names().values(), span


def test_private_attributes_have_the_numbers_of_the_code():
    for name, cells in table(SPEC, "Private-use attributes").items():
        known = getattr(gsa, "_" + name, None) or getattr(gsa, name)
        assert numbers(cells[1]) == {known}, name


@pytest.mark.parametrize("heading, row, said", [
    ("Limits", "IKE message", [ike.MOST_LEN]),
    ("Limits", "payloads in a message", [ike.MOST_PAYLOADS]),
    ("Limits", "nonce", [ikebody._NONCE_LEAST, ikebody._NONCE_MOST]),
    ("Limits", "cookie", [handshake._COOKIE_MOST]),
    ("Limits", "datagram that a member takes from the group", [member._MOST_DATAGRAM]),
    ("Limits", "payload that a member sends", [1428]),
    ("Limits", "data SAs at once", [assignment._MOST_DATA_SAS]),
    ("Limits", "Rekey SAs at once", [rekey._SLOTS]),
    ("Limits", "SPIs remembered of SAs that went, and announced ones", [keystore._REMEMBERED]),
    ("Limits", "unproven IKE SAs at a key server", [sas.MOST_UNPROVEN]),
    ("Times",
     "key server: after so long one that has proven nothing makes room, where there is none",
     [sas.YIELDS_MS // 1000]),
    ("Limits", "messages that wait to be looked at by a key server",
     [inbox.MOST, inbox.MOST_OCTETS >> 20]),
    ("Limits", "messages that a key server works on before its timers and commands get a turn",
     [server._BURST]),
    ("Times", "key server: goes on asking for cookies after that was last needed",
     [halfopen._CALMS_MS // 1000]),
    ("Limits", "half-open IKE SAs of one host", [halfopen.MOST_PER_HOST]),
    ("Limits", "IKE SAs of one member that were replaced or are being closed",
     [sas.MOST_LINGERING]),
    ("Limits", "IKE SAs that a key server works on by itself before it reads again",
     [requests.AT_ONCE]),
    ("Limits", "half-open IKE SAs from which on cookies are asked for",
     [policy.SitePolicy("").cookies_from]),
    ("Times", "key server: makes cookies with one secret, and takes them for as long again",
     [cookies.LIFE_MS // 1000]),
    ("Times", "key server: asks a busy member again after, and up to as much more at random",
     [requests.BUSY_MS // 1000]),
    ("Times", "key server: keeps an IKE SA that has a successor, and waits for its Delete",
     [sas.UNPROVEN_MS // 1000]),
    ("Limits", "rekeys of one group waiting to be sent", [succession._MOST_PARCELS]),
    ("Limits", "wrapped keys in one message of a removal", [moves._MOST_WRAPS]),
    ("Limits", "rounds of one removal; above, portions", [moves._FEW_ROUNDS]),
    ("Limits", "rounds without `private_attributes`", [moves._MOST_ROUNDS]),
    ("Limits", "portions of one removal", [moves._MOST_PORTIONS]),
    ("Limits", "keys that a key server keeps for whoever follows `covey keys`",
     [disclosure._MOST_KEPT]),
    ("Times", "member: waits for a pull before it makes a new IKE SA",
     [refresh._PULL_S]),
    ("Times", "member: pause after a refusal, doubled up to 1 h; without proof 300 s",
     [membership._REFUSED_S]),
    ("Times", "member: asks for new keys when this much of the shortest lifetime is over, or up to"
     " 10 % more", [member_group._SOFT_PERCENT]),
    ("Times", "member: registrations because of an announced SPI, at most one in; doubled up to"
     " 1 h while they bring no new keys", [refresh._MISSED_S]),
    ("Times", "member: silence before it asks for a sign of life", [60]),
    ("Times", "member: NAT keep-alives, one in", [unicast._KEEPALIVE_S]),
    ("Times", "member: keeps an IKE SA that was replaced", [renewal._OLD_S]),
    ("Times", "member: after TEMPORARY_FAILURE, and up to as much again",
     [renewal._SOON_S, membership._LATER_S]),
    ("Times",
     "member: pause after all servers were asked in vain, doubled up to 300 s, half of it random",
     [servers._FIRST_MS // 1000]),
    ("Times", "the same: gives a request over an IKE SA up that is kept", [several._KEPT_S]),
    ("Times", "the same: follows REDIRECT", [several._REDIRECTS, several._PERIOD_MS // 1000]),
    ("Times", "member: an inband rekey so soon behind a pull is followed by a pull",
     [refresh._OVERLAP_S]),
    ("Times",
     "member: asks under a flood of forged rekeys within, however large `rejoin_spread_s`",
     [refresh._DOUBTED_WAIT_S]),
    ("Times", "member: asks once more under a flood of forged rekeys, and up to as much later",
     [refresh._DOUBTED_S]),
    ("Limits", "doubts until a member asks: a message forged, a fragment that is odd, one lost",
     [candidates._ENOUGH, candidates._FORGED, candidates._SPOILED, candidates._LOST]),
    ("Limits", "IKE SAs with one server at once", [renewal._MOST_SAS]),
    ("Limits", "fragments of a message", [ikefrag.MOST_FRAGMENTS, ike.MOST_LEN]),
    ("Limits", "GSA_REKEYs that wait for another one", [candidates._LEAST, candidates._MOST_LEN]),
    ("Limits", "inband rekeys that wait for another one", [keywork._INBANDS]),
    ("Times", "key server: rekeys when this much of a lifetime is over, less a random 5 % at most",
     [policy.REKEY_AT]),
    ("Times", "key server: waits for the answer to a request of its own, then sends it again",
     [ms // 1000 for ms in requests.RETRANSMIT_MS]),
    ("Times", "key server: keeps keys that are over for whoever follows `covey keys`",
     [disclosure.FOLLOWED_MS // 1000]),
    ("Times", "key server: keeps an IKE SA that has proven nothing or has ended",
     [sas.UNPROVEN_MS // 1000]),
])  # fmt: skip
def test_limits_and_times_are_those_of_the_code(heading, row, said):
    assert set(said) <= numbers(table(SPEC, heading)[row][1])


def test_numbers_in_sentences_are_those_of_the_code():
    spec, design, threats = (" ".join(text.split()) for text in (SPEC, DESIGN, THREATS))
    assert member.Member(payload_max=1428).tx == bytearray(1500 - 20 - 8), "an Ethernet frame"
    assert "16 rows of eight" in spec and cpy_path._ROWS == 16
    own = numbers(section(SPEC, "Numbers of our own packets"))
    assert {cpy_path._REKEY_SEQ, cpy_path._LAST_SEQ} <= own
    assert "5 %" in spec and group._JITTER == 5 and membership._REFUSED_MOST_S == 3600
    assert f"keeps {sas.MOST_UNPROVEN} peers" in threats
    assert senders._STARTS == 8 and "after eight such shares" in design
    assert senders.span(SHAPE) == 32 and senders.share(SHAPE) == 4
    assert "`span` is 32 and `span` / 8 is 4" in design
    assert aio._QUEUE == 64 and "64 packets wait" in spec
    assert handshake._PEERS == 3 and "up to three answers" in spec
    assert handshake._COOKIES == 4 and "at most four times" in spec
    assert unicast._SOFT_PERCENT == 90 and "at 80 to 90 %" in spec
    assert servers._MOST_MS == 300000 and "up to five minutes" in design


def test_the_layers_are_those_that_a_test_keeps():
    shown = table(DESIGN, "Layers")
    assert list(shown) == list(GROUPS)
    for name, cells in shown.items():
        if name != "port":
            files = [file for file in GROUPS[name][0] if file]
            assert re.findall(r"`(\w+)`", cells[1])[: len(files)] == files, name


# covey.toml and covey.json


@pytest.mark.parametrize("at, readers, shape", [
    (0, reading.SITE, policy.SitePolicy),
    (1, groups.GROUP, policy.GroupPolicy),
])  # fmt: skip
def test_every_key_of_covey_toml_with_its_default(at, readers, shape):
    shown = table(CLI, "covey.toml", at)
    assert codes(shown) == set(readers)
    defaults = {field.name: field.default for field in dataclasses.fields(shape)}
    for cells in shown.values():
        name, reader = readers[code(cells[0])]
        if cells[1] == "needed":
            assert defaults[name] is dataclasses.MISSING, cells
        else:
            value = tomllib.loads(f"it = {code(cells[1])}")["it"]
            assert reader(value) == defaults[name], cells


def test_every_field_of_covey_json_with_its_default(monkeypatch):
    asked = {}
    take = fields._Fields._take

    def noted(self, name, default):
        where = self._under(name).removeprefix("covey.json: ")
        asked[re.sub(r"\[\d+\]", "[]", where)] = default
        return take(self, name, default)

    monkeypatch.setattr(fields._Fields, "_take", noted)
    example = json.loads(blocks(section(CLI, "covey.json"), "json")[0])
    settings = config.Config(example, psk=bytes(32))
    assert settings.servers[0].marker is True and settings.sender is True
    least = {"version": 1, "group": "g", "idi": "i", "servers": [{"host": "h"}], "psk_file": "f"}
    config.Config(least, psk=bytes(32))
    with pytest.raises(drops.ConfigError):  # what is asked where there is more than these
        config.Config({**least, "ppk_id": "p"}, psk=bytes(32))
    shown = table(CLI, "covey.json")
    assert codes(shown) == set(asked)
    for cells in shown.values():
        name, said = code(cells[0]), cells[1]
        if said == "needed":
            needed = asked[name] is fields._NEEDED or name == "psk_file"  # a psk was handed in
            assert needed, cells
        elif said.startswith("`"):
            assert asked[name] == json.loads(code(said)), cells
        elif name != "servers[].marker":  # in words: whatever the port says
            assert asked[name] is None, cells


def test_the_key_file_is_needed():
    with pytest.raises(drops.ConfigError):
        config.Config({"version": 1, "group": "g", "idi": "i", "servers": [{"host": "h"}]})


# make run


def test_the_variables_of_make_run():
    source = (HOST / "demo" / "__main__.py").read_text()
    asked = set(re.findall(r'_number\("(\w+)"|environ\.get\("(\w+)"', source))
    shown = table(CLI, "make run")
    assert codes(shown) == {first or second for first, second in asked}
    bounds = re.search(r"_LEAST_S, _MOST_S, _DEFAULT_S = (\d+), (\d+), (\d+)", source)
    assert numbers(shown["`SECONDS`"][1]) == {int(n) for n in bounds.groups()}


# JSON lines


def test_the_status_of_a_member():
    example = json.loads(blocks(section(CLI, "status"), "json")[0])
    settings = {"version": 1, "group": "g", "idi": "i", "servers": [{"host": "h"}]}
    facts = aio.join(config.Config(settings, psk=bytes(32))).status()
    names = ["event", "member", "interpreter", *facts]
    assert [code(name) for name in table(CLI, "status")] == names
    assert list(example) == names
    states = set(re.findall(r"`(\w+)`", table(CLI, "status")["`state`"][2 - 1]))
    assert states == set(membership.NAMES)


def test_the_packet():
    example = json.loads(blocks(section(CLI, "packet"), "json")[0])
    assert [code(name) for name in table(CLI, "packet")] == list(example)
    assert bytes.fromhex(example["payload"]).decode() == example["text"]


def calls(paths, *functions):
    """The first argument of each call of these functions or methods, where it is a text; and of
    `.append((text, ...))` where "append" is asked for."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            function, first = node.func, node.args[0]
            if isinstance(first, ast.Tuple):
                first = first.elts[0]
            name = getattr(function, "attr", getattr(function, "id", None))
            if name in functions and isinstance(first, ast.Constant):
                if isinstance(first.value, str):
                    yield first.value


def test_the_events_of_a_member():
    states = set(membership.NAMES) - {"idle"}  # where it begins: told to nobody
    named = {join._EVENTS.get(state, state) for state in states}
    named |= set(calls([Path(membership.__file__), Path(several.__file__)], "append"))
    named |= set(calls([Path(join.__file__)], "tell"))
    source = Path(join.__file__).read_text()
    named |= set(re.findall(r'"event": "(\w+)"', source))
    assert codes(table(CLI, "Events")) == named


def test_the_log_of_the_server():
    gcks = sorted((HOST / "gcks").glob("*.py"))
    named = set(calls(gcks, "_tell", "event"))
    named |= {"rekeyed", "excluded_all"}  # KeyServer._tell_of says one of them
    source = Path(registrar.__file__).read_text()
    named |= set(re.findall(r'_afterwards\(\s*self\._tell,\s*"(\w+)"', source))
    assert '"rekeyed" if' in Path(keyserver.__file__).read_text()
    assert codes(table(CLI, "The server's log")) == named


def test_what_the_audit_log_has_of_its_own():
    named = set(calls(sorted((HOST / "audit").glob("*.py")), "add"))
    named |= set(calls([HOST / "gcks" / "chronicle.py"], "enter"))
    assert codes(table(CLI, "The audit log")) == named
    said = re.search(r"all but (.+?) and `serving`", section(CLI, "The audit log"), re.S)[1]
    assert set(re.findall(r"`(\w+)`", said)) == recorder._QUIET


def test_the_counters_of_the_server():
    source = "".join(path.read_text() for path in sorted((HOST / "gcks").glob("*.py")))
    named = set(re.findall(r'counters\["(\w+)"\]', source)) | {"rekeyed", "excluded_all"}
    named |= set(re.findall(r'(?:Unacceptable|(?<!_)Refused)\([^"]*"(\w+)"\)', source))
    named |= set(re.findall(r'_afterwards\(self\._count, "(\w+)"', source))
    named |= set(registrar.REASONS.values())
    assert codes(table(CLI, "Counters")) == named


def test_the_status_of_the_server(tmp_path):
    tables = (table(CLI, "The server's status", at) for at in range(4))
    top, process, cluster, of_group = tables
    site = Site(tmp_path / "state.db")
    facts = site.server.status(site.now)
    assert codes(top) == {"event", "server", "cluster", "problem", *facts}
    assert codes(of_group) == set(facts["groups"]["line1"])
    assert codes(process) == set(server.Server(None, None, None, None).facts())
    site.store.close()
    store = sqlite.open_existing(tmp_path / "state.db")
    stopped = keyserver.KeyServer(store, site.policy).status(0)
    assert set(stopped) < set(facts)
    assert set(stopped["groups"]["line1"]) < codes(of_group)
    store.close()
