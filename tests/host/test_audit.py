"""The audit log: whole or found out, whatever is killed, full, cut, altered or flooded."""

import errno
import json
import os
import stat
from contextlib import suppress

import pytest

from covey.drops import Drops
from covey_host import cli
from covey_host.audit import archive, chain, journal, reader, recorder, rows
from covey_host.audit.chain import BEGIN, Mark, Verifier
from covey_host.audit.journal import Journal
from covey_host.audit.quota import Quota
from covey_host.audit.recorder import Recorder
from covey_host.errors import Problem
from covey_host.gcks import chronicle, keyserver
from covey_host.gcks.authority import Authority, Member
from covey_host.gcks.ledger import Ledger
from covey_host.gcks.roles import Role, role_named
from covey_host.output import Log
from covey_host.permissions import only_takes
from covey_host.site import Site
from covey_host.store import Fenced, sqlite
from covey_host.vault.opening import open_store
from foreign_gm import ForeignGM
from gcks_site import KEY as PSK
from gcks_site import LINE1, SITE
from gcks_site import Site as Plant

KEY = bytes(range(32))


@pytest.fixture
def log(site, store):
    made = Journal(site.root, Ledger(store), lambda: 0.0)
    yield made
    made.close()


def again(site, store):
    return Journal(site.root, Ledger(store), lambda: 0.0)


def fill(log, count, first=1):
    for number in range(first, first + count):
        log.add("rekeyed", "server", group="line1", epoch=number)
    assert log.commit() is None


def whole(site, since=BEGIN):
    found = reader.verify(site, since)
    assert found.found == []
    return found


def wrong(site, since=BEGIN):
    """The first sentence of what is found."""
    found = reader.verify(site, since).found
    assert all(said.endswith(".") and "\n" not in said for said in found)
    return found[0]


def entries(site):
    """Those that are whole lines."""
    return [json.loads(line) for line in reader.lines(site.root) if line.endswith(b"\n")]


def rewrite(site, change):
    path = site.root / journal.NAME
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


# The chain


def test_a_line_is_what_the_docs_say(site, log):
    fill(log, 2)
    one, two = reader.lines(site.root)
    assert list(json.loads(one)) == ["n", "time", "event", "by", "group", "epoch", "prev", "mac"]
    assert json.loads(one)["prev"] == "0" * 64
    assert json.loads(two)["prev"] == chain.mark_of(one[:-1], 1).sha256
    assert stat.S_IMODE((site.root / journal.NAME).stat().st_mode) == 0o600


def test_it_is_whole_and_goes_on_where_it_ended(site, store, log):
    fill(log, 3)
    log.mark(0)
    log.close()
    other = again(site, store)
    fill(other, 2)
    other.close()
    found = whole(site)
    assert (found.first, found.count, found.mark.n) == (1, 5, 5)
    assert whole(site, found.mark).count == 1


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda lines: lines.__setitem__(2, lines[2].replace(b"line1", b"line2")), "altered"),
        (lambda lines: lines.pop(2), "Entry 3 is missing"),
        (lambda lines: lines.insert(2, lines[1]), "Entry 2 stands where 3 should be"),
        (lambda lines: lines.insert(2, b"nonsense\n"), "is no entry"),
        (lambda lines: lines.pop(), "Entry 6 is missing"),
        (lambda lines: lines.clear(), "Entries 1 to 6 are missing"),
        (lambda lines: lines.__setitem__(slice(0, 2), lines[1::-1]), "Entry 1 stands where 3"),
    ],
)
def test_what_is_changed_is_found(site, log, change, word):
    fill(log, 6)
    log.mark(0)
    whole(site)
    rewrite(site, change)
    assert any(word in said for said in reader.verify(site, BEGIN).found)


def forged(site, key, first=1, change=lambda fields: fields):
    """The log from entry `first` on, built anew under another key: the chain is right."""

    def build(lines):
        last = chain.read_mark(lines[first - 2][:-1]) if first > 1 else BEGIN
        for at in range(first - 1, len(lines)):
            fields = json.loads(lines[at])
            fields = {k: v for k, v in fields.items() if k not in ("n", "prev", "mac")}
            lines[at], last = chain.seal(key, last, at + 1, change(fields))

    rewrite(site, build)


def test_who_builds_the_chain_anew_needs_the_site_s_key(site, log):
    fill(log, 4)
    forged(site, os.urandom(32), first=3, change=lambda fields: {**fields, "group": "x"})
    assert wrong(site) == "Entry 3 was altered, or was not written by this site's key server."


def test_who_has_the_key_is_found_by_the_store_s_mark_or_one_that_was_kept(site, store, log):
    fill(log, 4)
    kept = whole(site).mark
    forged(site, store.read(rows.KEY)[0], change=lambda fields: {**fields, "group": "x"})
    whole(site)
    assert wrong(site, kept) == "Entry 4, of this mark, is not in the log."
    log.mark(0)
    assert wrong(site) == "Entry 4 is not the one that the store knows."


def test_a_mark_of_what_is_not_there(site, log):
    fill(log, 2)
    for n in (1, 5):
        assert wrong(site, Mark(n, "a" * 64)) == f"Entry {n}, of this mark, is not in the log."


def test_a_beginning_that_is_in_no_archive_is_missed(site, log):
    fill(log, 4)
    kept = whole(site).mark
    rewrite(site, lambda lines: lines.__delitem__(slice(0, 2)))
    assert wrong(site) == "Entries 1 to 2 are missing, and in no archive."
    assert whole(site, kept).first == 4


@pytest.mark.parametrize("taken", [[rows.KEY], [rows.MARK], [rows.KEY, rows.MARK]])
def test_who_takes_the_log_and_what_the_store_knows_of_it_is_found(site, store, log, taken):
    """Without the site key, by deleting."""
    fill(log, 3)
    log.mark(0)
    log.close()
    store.compare_and_swap([(name, store.read(name)[1], None) for name in taken], None)
    (site.root / journal.NAME).unlink()
    assert wrong(site) == f"The store knows {taken[0]} no more: somebody has taken it away."
    other = again(site, store)
    fill(other, 1)
    other.mark(0)
    other.close()
    assert entries(site)[-2]["event"] == "cut" and entries(site)[-2]["missing"] == taken
    assert "says that the log before it was cut" in "".join(reader.verify(site, BEGIN).found)


def test_a_store_that_was_never_sealed_begins_its_log_with_its_seal(tmp_path):
    made = sqlite.create(tmp_path / "state.db")
    made.compare_and_swap([("a", 0, b"1")], None)
    made.close()
    site = Site(tmp_path)
    site.policy.write_text("")
    assert whole(site).count == 0  # no key yet, and nobody is blamed
    store = open_store(site)
    store.lock("test")
    log = again(site, store)
    fill(log, 1)
    log.close()
    store.close()
    assert whole(site).count == 1


def test_without_the_key_the_chain_alone_is_looked_at():
    line, mark = chain.seal(KEY, BEGIN, 1, {"time": "t", "event": "e"})
    for key, is_fine in ((None, True), (KEY, True), (bytes(32), False)):
        verifier = Verifier(key)
        assert (verifier.take(line[:-1]) is None) == is_fine
        assert verifier.last == mark


@pytest.mark.parametrize("text", ["", "1", "1:zz", "-1:" + "0" * 64, "1:" + "0" * 63, ":" * 70])
def test_what_is_no_mark(text):
    with pytest.raises(ValueError, match="no mark"):
        chain.parse_mark(text)
    assert chain.parse_mark("7:" + "a" * 64) == Mark(7, "a" * 64)


# Files


def test_half_a_line_that_a_kill_left_is_cut_off(site, store, log):
    fill(log, 3)
    log.close()
    with open(site.root / journal.NAME, "ab") as file:
        file.write(b'{"n":4,"time":"20')
    assert whole(site).count == 3
    other = again(site, store)
    fill(other, 1)
    other.close()
    assert whole(site).count == 4


class Kill(BaseException):
    """kill -9: nothing of ours runs after it."""


@pytest.mark.parametrize("call", ["write", "fdatasync", "link", "unlink", "open", "fchmod"])
@pytest.mark.parametrize("is_done", [False, True])
def test_a_kill_at_each_call_of_the_system(site, store, monkeypatch, call, is_done):
    """As an entry fills the file. What was committed is there, and the log goes on."""
    log = again(site, store)
    fill(log, 3)
    log.mark(0)
    monkeypatch.setattr(journal, "MOST_OCTETS", 900)
    real, killed = getattr(os, call), []

    def die(*arguments):
        if is_done:
            half = (arguments[0], bytes(arguments[1])[:40]) if call == "write" else arguments
            real(*half)
        killed.append(call)
        raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, call, die)
        patch.setattr(journal, "_sync", lambda fd: os.fdatasync(fd))
        log.add("rekeyed", "server", number=4)
        with pytest.raises(Kill):
            log.commit()
            log.mark(0)
    assert killed == [call]
    if call in ("write", "fdatasync", "link", "unlink"):
        log.close()
    other = again(site, store)
    fill(other, 1, 5)
    other.mark(0)
    other.close()
    found = whole(site)
    is_lost = call == "write"
    assert found.count == (4 if is_lost else 5) and found.first == 1


@pytest.mark.parametrize("lost", [1, 3])
def test_a_log_that_was_cut_goes_on_behind_what_the_store_knows(site, store, log, lost):
    fill(log, 3)
    log.mark(0)
    log.close()
    rewrite(site, lambda lines: lines.__delitem__(slice(3 - lost, None)))
    other = again(site, store)
    fill(other, 1)
    other.mark(0)
    other.close()
    last = entries(site)
    assert [entry["event"] for entry in last[-2:]] == ["cut", "rekeyed"]
    assert [entry["n"] for entry in last[-2:]] == [4, 5]
    assert last[-2]["expected"].startswith("3:")
    if lost < 3:
        assert "missing" in wrong(site)


def test_files_that_are_full_are_kept_and_read_as_one(site, store, monkeypatch):
    monkeypatch.setattr(journal, "MOST_OCTETS", 1000)
    log = again(site, store)
    for number in range(24):
        fill(log, 1, number)
        log.mark(number)
    log.close()
    names = sorted(path.name for path in site.root.glob("audit*"))
    assert len(names) > 3 and names[0] == "audit-000000000001.log"
    assert {stat.S_IMODE((site.root / name).stat().st_mode) for name in names} == {0o600}
    assert whole(site).count == 24
    (site.root / names[1]).unlink()
    assert "missing" in wrong(site)


def test_a_file_that_becomes_full_while_it_is_read(site, store, log, monkeypatch):
    fill(log, 3)
    found = reader.lines(site.root)
    first = next(found)
    monkeypatch.setattr(journal, "MOST_OCTETS", 100)
    log.mark(0)
    fill(log, 1)
    assert len([first, *found]) == 3 and len(list(reader.lines(site.root))) == 4


def test_a_log_that_may_not_be_read_is_one_sentence(site, log):
    fill(log, 1)
    (site.root / "audit-000000000000.log").mkdir()
    with pytest.raises(Problem, match="audit-000000000000.log can't be read"):
        list(reader.lines(site.root))


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_kill_while_a_file_becomes_full(site, store, log, monkeypatch, is_gone):
    fill(log, 3)
    log.mark(0)
    log.close()
    path, full = site.root / journal.NAME, site.root / "audit-000000000001.log"
    os.link(path, full)
    if is_gone:
        path.unlink()
    assert whole(site).count == 3
    monkeypatch.setattr(journal, "MOST_OCTETS", 100)
    other = again(site, store)
    for number in range(2):
        fill(other, 1)
        other.mark(number)
    other.close()
    assert whole(site).count == 5 and path.stat().st_size == 0


@pytest.mark.parametrize("call", ["link", "open"])
def test_a_full_file_that_can_t_be_closed_stops_nobody(site, store, monkeypatch, call):
    log = again(site, store)
    monkeypatch.setattr(journal, "MOST_OCTETS", 100)

    def fail(*_):
        raise OSError(errno.EMFILE, "too many")

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, call, fail)
        fill(log, 1)
        with pytest.raises(Problem, match="audit.log can't be written"):
            log.mark(0)
        if call == "link":
            fill(log, 1)  # in the same file
    fill(log, 2)
    log.mark(0)
    log.close()
    assert whole(site).count == (4 if call == "link" else 3)


def test_what_was_cut_and_can_t_be_put_aside_is_not_touched(site, log):
    fill(log, 3)
    path = site.root / journal.NAME
    (site.root / "audit-000000000001.log").write_text("another")
    os.truncate(path, 30)
    log.add("rekeyed", "server")
    assert "File exists" in log.commit()
    assert path.stat().st_size == 30


@pytest.mark.parametrize("change", ["removed", "written to", "cut"])
def test_who_meddles_with_the_running_log_is_found(site, log, change):
    fill(log, 3)
    path = site.root / journal.NAME
    if change == "removed":
        path.unlink()
    elif change == "written to":
        with open(path, "ab") as file:
            file.write(b"{}\n")
    else:
        os.truncate(path, 30)
    fill(log, 2, 4)
    log.mark(0)
    last = entries(site)[-3:]
    assert [entry["n"] for entry in last] == [4, 5, 6] and last[-1]["event"] == "cut"
    assert "Entry 6 says" in reader.verify(site, BEGIN).found[-1]
    assert whole(site, chain.read_mark(list(reader.lines(site.root))[-1][:-1])).first == 6


class Disk:
    """os, as the journal sees it: write() takes `room` more octets, then it is full."""

    def __init__(self, monkeypatch):
        self.room, self.synced = 1 << 30, 0
        monkeypatch.setattr(journal.os, "write", self._write)
        monkeypatch.setattr(journal, "_sync", self._sync)
        self._real = os.pwrite

    def _write(self, fd, data):
        some = bytes(data)[: self.room]
        self.room -= len(some)
        if not some:
            raise OSError(errno.ENOSPC, "full")
        end = os.fstat(fd).st_size
        return self._real(fd, some, end)

    def _sync(self, fd):
        self.synced += 1
        os.fdatasync(fd)


def test_a_full_disk_loses_nothing_until_too_much_waits(site, store, monkeypatch):
    monkeypatch.setattr(journal, "MOST_WAITING", 3)
    log = again(site, store)
    disk = Disk(monkeypatch)
    fill(log, 1)
    disk.room = 100
    for number in range(5):
        log.add("rekeyed", "server", number=number)
        assert "can't be written" in log.commit()
    assert len(entries(site)) == 1  # and no half line
    disk.room = 1 << 30
    assert log.commit() is None
    log.close()
    assert whole(site).count == 5
    assert [entry["event"] for entry in entries(site)] == ["rekeyed"] * 4 + ["lost"]
    assert entries(site)[-1]["count"] == 2


def test_many_entries_are_one_write(site, store, monkeypatch):
    log = again(site, store)
    disk = Disk(monkeypatch)
    fill(log, 500)
    assert disk.synced == 1
    log.close()


class Counted:
    """A store whose writes are counted, and fail while it is full."""

    def __init__(self, store):
        self.store, self.written, self.is_full = store, 0, False

    def __getattr__(self, name):
        return getattr(self.store, name)

    def compare_and_swap(self, *changes, **how):
        if self.is_full:
            raise Problem("The disk is full.")
        self.written += 1
        return self.store.compare_and_swap(*changes, **how)


def test_marks_are_not_written_for_each_entry(site, store):
    counted = Counted(store)
    log = again(site, counted)
    before = counted.written
    for number in range(100):
        fill(log, 1, number)
        log.mark(10 + number / 200)
    assert counted.written - before == 1
    log.mark(20)
    assert counted.written - before == 2
    log.close()


def test_the_store_hears_of_all_within_a_second(site, store, log):
    made = Told().recorder(log, site)
    assert not made.is_behind
    made.event("rekeyed", {}, 5)
    assert made.is_behind
    made.step(5)
    assert not made.is_behind
    assert store.read(rows.MARK)[0].startswith(b"1:")


def test_a_mark_that_failed_is_written_later(site, store):
    counted = Counted(store)
    log = again(site, counted)
    fill(log, 1)
    log.mark(0)
    fill(log, 1)
    counted.is_full = True
    with pytest.raises(Problem, match="full"):
        log.mark(10)
    counted.is_full = False
    log.mark(20)
    log.close()
    assert store.read(rows.MARK)[0].startswith(b"2:")


def test_a_mark_is_fenced(site, store):
    term = store.acquire_term("one")
    log = Journal(site.root, Ledger(store, term), lambda: 0.0)
    store.acquire_term("two")
    fill(log, 1)
    with pytest.raises(Fenced):
        log.mark(0)
    log.close()


def test_a_log_that_can_t_be_opened_is_one_sentence(site, store):
    (site.root / journal.NAME).mkdir()
    with pytest.raises(Problem, match="audit.log can't be written"):
        again(site, store)


# Floods


def test_a_quota_is_a_burst_and_then_one_in_a_while():
    quota = Quota(burst=3, every_s=10, most=8)
    assert [quota.take("a", 0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert quota.take("b", 0)
    assert [quota.take("a", 10), quota.take("a", 10)] == [True, False]
    assert list(quota.left_out()) == [("a", 3)]
    assert list(quota.left_out()) == []


def test_many_strangers_share_one_place_and_make_room_later():
    quota = Quota(burst=2, every_s=10, most=4)
    taken = [quota.take(number, 0) for number in range(1000)]
    assert sum(taken) == 4 + 2 and len(quota._seen) == 5
    assert list(quota.left_out()) == [(None, 994)]
    assert quota.take("later", 100) and "later" in quota._seen


def test_what_was_left_out_before_is_counted_with_the_rest():
    quota = Quota(burst=1, every_s=10, most=2)
    quota.leave_out("a", 7, 0)
    assert quota.take("a", 0) and not quota.take("a", 0)
    assert list(quota.left_out()) == [("a", 8)]
    quota.take("b", 0)
    quota.leave_out("c", 5, 0)
    assert list(quota.left_out()) == [(None, 5)]


class Told:
    def __init__(self):
        self.troubles = []

    def recorder(self, log, site, **options):
        options = {"has_events": True} | options
        return Recorder(log, site.policy, self.troubles.append, **options)


def test_a_flood_of_refusals_is_counted_not_written(site, log):
    made = Told().recorder(log, site)
    facts = {"member": "x", "reason": "key"}
    for number in range(50_000):
        address = f"198.51.{number % 200}.{number % 250}"
        made.event("authentication_failed", {**facts, "address": address}, number * 0.072)
        if number % 5000 == 0:
            made.step(number * 0.072)
    by_workers = {"of": "authentication_failed", "count": 700}
    made.event("left_out", by_workers, 3600)
    made.close()
    found = entries(site)
    left_out = sum(entry["count"] for entry in found if entry["event"] == "left_out")
    kept = sum(1 for entry in found if entry["event"] == "authentication_failed")
    assert kept + left_out == 50_700
    in_an_hour = (site.root / journal.NAME).stat().st_size
    assert in_an_hour * 24 < 20 << 20
    assert whole(site).count == len(found)


def test_a_member_that_registers_without_end_fills_nothing_and_hides_nobody(site, log):
    made = Told().recorder(log, site)
    for number in range(1000):
        made.event("registered", {"member": "mole", "group": "line1"}, number / 100)
    made.event("registered", {"member": "press-7", "group": "line1"}, 10)
    made.event("removed", {"member": "mole", "groups": []}, 10)
    made.settle()
    by = [entry["by"] for entry in entries(site)]
    assert by.count({"member": "mole"}) == 10 and by[-2:] == [{"member": "press-7"}, "server"]


# Who, and what


def test_commands_are_entered_before_they_are_done_by_whom_and_without_secrets(site, log):
    made, who = Told().recorder(log, site), recorder.person(os.getuid(), 7)
    secret = "5ec4e7" * 10
    request = {"do": "member add", "member": "a", "group": "line1", "sender": True}
    request |= {"psk": secret, "ca_key": secret, "csr": secret, "surprise": secret}
    with made.command(request, who):
        (before,) = entries(site)
        made.event("added", {"member": "a"}, 0)
    assert before["command"] == "member add" and before["member"] == "a"
    assert before["files"] == ["ca_key", "csr", "psk"]
    assert before["by"] == {"user": who["user"], "uid": os.getuid(), "process": 7}
    assert entries(site)[1]["by"] == before["by"]
    made.event("rekeyed", {"group": "line1"}, 0)
    made.settle()
    assert entries(site)[2]["by"] == "server"
    assert secret not in (site.root / journal.NAME).read_text()


@pytest.mark.parametrize("error", [Problem("There is none."), KeyError("secret")])
def test_a_command_that_fails_is_entered_too(site, log, error):
    made = Told().recorder(log, site)
    with pytest.raises(type(error)), made.command({"do": "rekey", "group": "x"}, "me"):
        raise error
    last = entries(site)[-1]
    assert (last["event"], last["by"]) == ("failed", "me")
    assert last["reason"] == ("There is none." if isinstance(error, Problem) else "KeyError")


def test_what_no_command_is_does_not_stop_the_log(site, log):
    deep = []
    for _ in range(900):
        deep = [deep]
    made = Told().recorder(log, site)
    with made.command({"do": "rekey", "group": deep, "members": ["\ud800"], "x": deep}, "me"):
        pass
    (entry,) = entries(site)
    assert entry["group"] == [["?"]] and entry["members"] == ["\ud800"]
    assert whole(site).count == 1


def test_a_long_command_is_entered_in_full_and_no_line_is_too_long(site, log):
    names = [f"m{number:060}" for number in range(18_000)]
    made = Told().recorder(log, site)
    request = {"do": "member remove", "members": names, "file": "x" * chain.MOST_OCTETS}
    with made.command(request, "me"):
        pass
    log.add("reloaded", "server", groups=names)
    log.commit()
    assert whole(site).count == 181
    *some, last = entries(site)
    assert [name for entry in some for name in entry["members"]] == names
    assert {entry["of"] for entry in some} == {18_000} and "octets" in last["left_out"]


@pytest.mark.parametrize("request_", [{"do": "status"}, {"do": "site ca", "new": False}, {}])
def test_what_only_reads_is_not_entered(site, log, request_):
    with Told().recorder(log, site).command(request_, "me"):
        pass
    assert entries(site) == []


def test_with_a_full_disk_nobody_is_let_in_and_anybody_is_put_out(site, store, monkeypatch):
    log, told, done = again(site, store), Told(), []
    made = told.recorder(log, site)
    Disk(monkeypatch).room = 0
    for command in ("member add", "group add", "something new"):
        with pytest.raises(Problem, match="audit.log can't be"), made.command({"do": command}, 1):
            done.append(command)
    for command in ("member remove", "rekey", "reload"):
        with made.command({"do": command}, 1):
            done.append(command)
    assert done == ["member remove", "rekey", "reload"] and told.troubles


@pytest.mark.parametrize(
    "request_, takes, is_done",
    [
        ({"do": "site ca", "crl": "x"}, False, True),
        ({"do": "site ca", "crl": "x", "ca_cert": "x"}, False, False),
        ({"do": "site ca", "crl": "x", "new_key": True}, False, False),
        ({"do": "member allow", "role": "receiver"}, True, True),
        ({"do": "member allow", "role": "receiver"}, False, False),
        ({"do": "member allow", "role": "none"}, False, True),
    ],
)
def test_with_a_full_disk_rights_can_be_taken(site, store, monkeypatch, request_, takes, is_done):
    log, done = again(site, store), []
    made = Told().recorder(log, site)
    Disk(monkeypatch).room = 0
    with suppress(Problem), made.command(request_, 1, lambda: takes):
        done.append(1)
    assert bool(done) == is_done


def test_what_a_new_rule_takes_and_gives():
    class Known(Authority):
        def find(self, name):
            rules = {"line1": Role.BOTH, "line2": Role.NONE, "cell*": Role.RECEIVER}
            return Member(name, b"", rules) if name == "a" else None

    def is_taken(rule, word, name="a"):
        request = {"do": "member allow", "member": name, "group": rule, "role": word}
        return only_takes(Known(None), {"line1": 1, "line2": 2, "cell1": 3}, request)

    for rule, word in (("line1", "receiver"), ("line1", "default"), ("cell1", "none")):
        assert is_taken(rule, word)
    assert is_taken("cell*", "receiver") and is_taken("x*", "none")
    for rule, word in (("line2", "receiver"), ("cell1", "both"), ("cell*", "sender")):
        assert not is_taken(rule, word)
    for rule, word in (("x*", "receiver"), ("cell*", "default"), ("line2", "default"), (1, 1)):
        assert not is_taken(rule, word) or (rule, word) == ("line2", "default")
    assert not is_taken("line1", "none", "b") and not is_taken("line1", "x", 7)


def test_without_a_log_and_a_server_anybody_can_be_put_out(site, store, capsys):
    (site.root / journal.NAME).mkdir()
    with recorder.alone(site, store, {"do": "member remove", "members": ["a"]}):
        pass
    assert "audit.log can't be written" in capsys.readouterr().err
    with pytest.raises(Problem, match="audit.log can't be written"):
        with recorder.alone(site, store, {"do": "member add", "member": "a"}):
            raise AssertionError


@pytest.mark.parametrize("role, is_done", [("receiver", True), ("both", False)])
def test_without_a_log_and_a_server_a_right_can_be_taken(site, store, role, is_done):
    site.policy.write_text(SITE + LINE1)
    rules = {"line1": Role.BOTH} if is_done else {"line1": Role.RECEIVER}
    Authority(Ledger(store)).add("a", ["line1"], role=rules["line1"], psk=PSK)
    (site.root / journal.NAME).mkdir()
    request, done = {"do": "member allow", "member": "a", "group": "line1", "role": role}, []
    with suppress(Problem), recorder.alone(site, store, request):
        done.append(1)
    assert bool(done) == is_done


def test_a_running_server_knows_what_only_takes(tmp_path, monkeypatch):
    plant = Plant(tmp_path / "state.db")
    plant.add("a")
    told = chronicle.Chronicle(Site(tmp_path), Log(True), Drops(), dict)
    told.open(plant.store, plant.server)
    Disk(monkeypatch).room = 0
    done = []
    for role in ("receiver", "both"):
        request = {"do": "member allow", "member": "a", "group": "line1", "role": role}
        was, now = plant.server.authority.with_rule("a", "line1", role_named(role))
        with suppress(Problem), told.command(request, "me"):
            plant.send(plant.server.change_member(was, now, plant.now))
            done.append(role)
    assert done == ["receiver"]
    plant.store.close()


def test_a_burst_of_events_is_entered_to_the_last_one(tmp_path, monkeypatch):
    """More of them than the key server keeps."""
    monkeypatch.setattr(keyserver, "_MOST_EVENTS", 3)
    plant, names = Plant(tmp_path / "state.db"), [f"m{number}" for number in range(10)]
    for name in names:
        plant.add(name)
    told = chronicle.Chronicle(Site(tmp_path), Log(True), Drops(), dict)
    told.open(plant.store, plant.server)
    plant.send(plant.server.remove_members(names, plant.now))
    told.tell()
    plant.store.close()
    found = [json.loads(line) for line in reader.lines(tmp_path)]
    assert [e["member"] for e in found if e["event"] == "removed"] == names


def test_keys_are_not_given_out_where_that_can_t_be_entered(site, store, monkeypatch):
    log = again(site, store)
    made = Told().recorder(log, site)
    with made.command({"do": "keys"}, "me"):
        made.event("keys_exported", {"user": 0}, 0)
    assert [entry["event"] for entry in entries(site)] == ["keys_exported"]
    Disk(monkeypatch).room = 0
    with pytest.raises(Problem, match="audit.log"), made.command({"do": "keys"}, "me"):
        made.event("keys_exported", {"user": 0}, 0)


def test_a_policy_is_entered_by_its_hash(site, log):
    made = Told().recorder(log, site)
    made.event("reloaded", {"groups": ["line1"]}, 0)
    made.settle()
    (entry,) = entries(site)
    assert (
        entry["policy_sha256"] == made.policy()["policy_sha256"]
        and len(entry["policy_sha256"]) == 64
    )


def test_what_members_cause_is_entered_with_who_and_why(tmp_path):
    plant = Plant(tmp_path / "state.db")
    log = Journal(tmp_path, Ledger(plant.store, plant.server.ledger.term), lambda: 0.0)
    made = Recorder(log, tmp_path / "covey.toml", print, has_events=True)
    for name in ("a", "b"):
        plant.add(name, sender=False)
        plant.gm(name)
    plant.connect(liar := ForeignGM(b"a", bytes(32)), "liar")
    plant.talk(liar.gsa_auth(), "liar")
    plant.connect(sender := ForeignGM(b"a", PSK, wants=1), "sender")
    plant.ask(sender, "sender")
    plant.send(plant.server.remove_members(["a"], plant.now))
    plant.send(plant.server.rekey("line1", plant.now))
    for name, facts in plant.server.events:
        made.event(name, facts, 0)
    made.close()
    plant.store.close()
    found = [json.loads(line) for line in reader.lines(tmp_path)]
    said = [(e["event"], e["by"], e.get("member"), e.get("reason")) for e in found]
    for one in (
        ("registered", {"member": "a"}, "a", None),
        ("registered", {"member": "b"}, "b", None),
        ("authentication_failed", {"address": "liar"}, "a", "key"),
        ("refused", {"member": "a"}, "a", "authorization_failed"),
        ("removed", "server", "a", None),
    ):
        assert said.count(one) == 1, (one, said)
    assert said[-1][0] == "rekeyed"


# `covey audit`


def audit(site, capsys, *arguments, status=0):
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", *arguments, "--site", str(site.root)])
    assert ended.value.code == status
    return capsys.readouterr()


def test_verify_and_show(site, log, capsys):
    assert "no entries" in audit(site, capsys, "verify").out
    fill(log, 3)
    log.add("registered", {"member": "a\x1b[2J"}, name=["x", "y"], nothing=None)
    log.commit()
    said = audit(site, capsys, "verify").out
    mark = said.split()[-1]
    assert "4 entries. Mark: 4:" in said
    told = json.loads(audit(site, capsys, "verify", "--json", "--since", mark).out)
    assert told["whole"] and told["first"] == 4 and told["mark"] == mark
    (shown,) = audit(site, capsys, "show", "--last", "1").out.splitlines()
    assert "registered by=member:a\\x1b[2J name=x,y nothing=-" in shown
    assert json.loads(audit(site, capsys, "show", "--json", "--last", "1").out)["n"] == 4
    rewrite(site, lambda lines: lines.pop(1))
    said = audit(site, capsys, "verify", status=1)
    assert said.err == "Entry 2 is missing.\n" and "not the log" in said.out
    assert audit(site, capsys, "verify", "--since", "x", status=2).err.count("\n") == 1


def test_full_files_go_to_an_archive(site, store, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(journal, "MOST_OCTETS", 900)
    shelf = tmp_path / "shelf"
    assert "nothing to move" in audit(site, capsys, "archive", str(tmp_path)).out
    for wrong_place, word in ((shelf, "No such file"), (site.root, "is the site itself")):
        assert word in audit(site, capsys, "archive", str(wrong_place), status=2).err
    log = again(site, store)
    for number in range(12):
        fill(log, 1, number)
        log.mark(number)
    log.close()
    names = sorted(path.name for path in site.root.glob("audit-*"))
    before = {name: (site.root / name).read_bytes() for name in names}
    assert "can't be used" in audit(site, capsys, "archive", str(shelf), status=2).err
    assert "is the site itself" in audit(site, capsys, "archive", str(site.root), status=2).err
    shelf.mkdir()
    (shelf / names[0]).write_text("another")
    assert "another file" in audit(site, capsys, "archive", str(shelf), status=2).err
    (shelf / names[0]).unlink()
    with monkeypatch.context() as patch:  # killed before the store knows
        patch.setattr(archive, "record", lambda *_: (_ for _ in ()).throw(Kill()))
        with pytest.raises(Kill):
            cli.main(["audit", "archive", str(shelf), "--site", str(site.root)])
    assert whole(site).first == 1
    monkeypatch.setattr(journal, "MOST_OCTETS", 1 << 20)
    said = audit(site, capsys, "archive", str(shelf)).out
    assert "the log here begins with entry" in said
    assert {path.name: path.read_bytes() for path in shelf.iterdir()}.items() >= before.items()
    first = whole(site).first
    assert first > 1 and not {*names} & {path.name for path in site.root.iterdir()}
    command = [e for e in entries(site) if e["event"] == "command"][0]
    assert command["names"][: len(names)] == names
    for name, data in before.items():  # killed before all were taken away
        (site.root / name).write_bytes(data)
    whole(site)
    audit(site, capsys, "archive", str(shelf))
    rewrite(site, lambda lines: lines.pop(0))
    assert wrong(site).startswith("Entr") and "missing, and in no archive" in wrong(site)


@pytest.mark.parametrize("names", [None, [], ["x"], ["audit-000000000009.log"], [1]])
def test_what_is_no_file_of_the_log_is_not_taken_away(site, store, names):
    with pytest.raises(Problem, match="not the oldest"):
        archive.record(Ledger(store), site.root, names)


def test_show_takes_whatever_stands_there(site, capsys):
    (site.root / journal.NAME).write_bytes(b'[1]\n\xff\x1b\n{"n":1}\n' + b"[" * 100_000)
    assert audit(site, capsys, "show").out.count("\n") == 4
    assert "no entry" in audit(site, capsys, "verify", status=1).err
