"""An audit log whose file is taken away, replaced or blocked: no command goes unseen by it."""

import json
import os
import shutil
import signal

import pytest

from covey_host.audit import journal, reader, recorder, rows
from covey_host.audit.chain import BEGIN
from covey_host.audit.journal import Journal
from covey_host.errors import Problem
from covey_host.gcks.ledger import Ledger
from site_bench import Bench


@pytest.fixture
def log(site, store):
    made = again(site, store)
    fill(made, 3)
    made.mark(0)
    yield made
    made.close()


def again(site, store):
    return Journal(site.root, Ledger(store), lambda: 0.0)


def add(log, count):
    for number in range(count):
        log.add("rekeyed", "server", epoch=number)
    return log.commit()


def fill(log, count):
    assert add(log, count) is None


def wrong(site):
    return reader.verify(site, BEGIN).found


def entries(root):
    return [json.loads(line) for line in reader.lines(root)]


def replace_by_copy(path):
    """As `sed -i`, an editor or rsync do."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


def replace_by_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def move(path):
    path.rename(path.with_name("audit.log.1"))


def move_and_make(path):
    """As logrotate does."""
    move(path)
    path.touch()


def copy_and_truncate(path):
    os.truncate(path, 0)


@pytest.mark.parametrize(
    "change, is_there",
    [
        (replace_by_copy, True),
        (replace_by_link, False),
        (move, False),
        (move_and_make, False),
        (copy_and_truncate, False),
    ],
)
def test_what_takes_the_file_s_place_is_put_aside_and_told(site, log, change, is_there):
    path = site.root / journal.NAME
    change(path)
    fill(log, 2)
    log.mark(1)
    if change is replace_by_link:
        (site.root / "nowhere").touch()  # or it can't be read
    found = entries(site.root)[-3:]
    assert [(e["n"], e["event"]) for e in found] == [(4, "rekeyed"), (5, "rekeyed"), (6, "cut")]
    assert path.stat().st_size == log._size
    told = wrong(site)
    assert told[-1].startswith("Entry 6 says that the log before it was cut")
    assert ("missing" in told[0]) != is_there
    fill(log, 2)  # and on
    assert [e["n"] for e in entries(site.root)[-2:]] == [7, 8]


def test_a_full_file_that_was_replaced_is_told(site, log, monkeypatch):
    replace_by_copy(site.root / journal.NAME)
    monkeypatch.setattr(journal, "MOST_OCTETS", 100)
    log.mark(1)
    assert log.commit() is None
    assert [e["event"] for e in entries(site.root)] == ["rekeyed"] * 3 + ["cut"]


def block(site):
    """Nothing can be written any more, and no memory may go to waste."""
    path = site.root / journal.NAME
    path.rename(site.root / "elsewhere")
    path.mkdir()


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_can_t_be_written_is_missed_at_once_and_for_ever(site, store, log, is_killed):
    block(site)
    assert "audit.log can't be written" in add(log, 2)
    shutil.copy(site.root / "elsewhere", site.root / "audit-000000000001.log")
    (site.root / journal.NAME).rmdir()
    assert wrong(site) == ["Entries 4 to 5 are missing."]
    (site.root / journal.NAME).mkdir()
    if not is_killed:
        log.add("stopped", "server")
        log.mark(0, at_once=True)
    log.close()
    (site.root / journal.NAME).rmdir()
    other = again(site, store)
    fill(other, 1)
    other.mark(0)
    other.close()
    last = 5 if is_killed else 6
    assert wrong(site) == [f"Entries 4 to {last} are missing."]
    cut = entries(site.root)[-2]
    assert cut["event"] == "cut" and cut["expected"].startswith(f"{last}:")


def test_what_found_no_memory_is_counted_too_where_the_process_dies(site, store, log, monkeypatch):
    monkeypatch.setattr(journal, "MOST_WAITING", 3)
    block(site)
    for _ in range(4):
        assert add(log, 2)
    assert store.read(rows.MARK)[0].startswith(b"11:")


def test_what_waited_is_written_later_and_the_mark_fits(site, store, log, monkeypatch):
    monkeypatch.setattr(journal, "MOST_WAITING", 3)
    path = site.root / journal.NAME
    full = site.root / "audit-000000000001.log"
    full.write_text("another")
    replace_by_copy(path)
    said = add(log, 5)
    assert "File exists" in said and f"{full.name} is there already: move that elsewhere" in said
    full.unlink()
    assert log.commit() is None
    events = [e["event"] for e in entries(site.root)]
    assert events == ["rekeyed"] * 6 + ["cut", "lost"]
    assert store.read(rows.MARK)[0].startswith(b"%d:" % len(events))
    found = reader.verify(site, BEGIN)
    assert found.lost == 2 and len(found.found) == 1 and "says that the log" in found.found[0]


def test_a_command_that_no_server_does_and_no_log_takes_is_missed(site, store, capsys):
    (site.root / journal.NAME).mkdir()
    with recorder.alone(site, store, {"do": "member remove", "members": ["a"]}):
        pass
    assert "This is done, and no entry tells of it." in capsys.readouterr().err
    with pytest.raises(Problem), recorder.alone(site, store, {"do": "member add", "member": "a"}):
        raise AssertionError
    (site.root / journal.NAME).rmdir()
    assert wrong(site) == ["Entry 1 is missing."]
    other = again(site, store)
    fill(other, 1)
    other.close()
    assert entries(site.root)[0]["event"] == "cut" and wrong(site)


# Real processes


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()


def events(bench):
    return [entry["event"] for entry in entries(bench.root)]


@pytest.mark.parametrize("change", [replace_by_copy, move, copy_and_truncate])
def test_a_running_server_goes_on_in_a_file_that_is_there(bench, change):
    for name in ("eye", "press-7"):
        bench.member(name)
    server = bench.serve()
    change(bench.root / journal.NAME)
    bench.covey("member", "remove", "eye")
    assert events(bench)[-3:] == ["command", "cut", "removed"]
    bench.covey("rekey", "line1")
    bench.member("later")
    assert bench.end(server, signal.SIGTERM)[0] == 0
    bench.serve()
    assert "says that the log before it was cut" in bench.covey("audit", "verify", status=1)
    assert {"removed", "rekeyed", "added", "stopped"} <= set(events(bench))


@pytest.mark.parametrize("change", [replace_by_copy, move, copy_and_truncate])
def test_health_warns_of_a_log_that_was_meddled_with(bench, change):
    server = bench.serve()
    healthy = bench.covey("health", "--json")
    assert json.loads(healthy)["warnings"] == {}
    change(bench.root / journal.NAME)
    for _ in range(2):
        found = json.loads(bench.covey("health", "--json"))
        assert found["healthy"] and list(found["warnings"]) == ["audit_cut"]
    bench.covey("health")
    assert "audit log was cut or replaced" in bench.said
    assert bench.end(server, signal.SIGTERM)[0] == 0
    bench.serve()
    assert json.loads(bench.covey("health", "--json"))["warnings"] == {}, "it goes on behind it"


def test_health_warns_of_a_log_that_was_cut_while_no_server_ran(bench):
    assert bench.end(bench.serve(), signal.SIGTERM)[0] == 0
    (bench.root / journal.NAME).unlink()
    bench.serve()
    assert list(json.loads(bench.covey("health", "--json"))["warnings"]) == ["audit_cut"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_removal_that_can_t_be_entered_is_said_and_missed(bench, number):
    for name in ("eye", "press-7"):
        bench.member(name)
    server = bench.serve()
    known = len(events(bench))
    path, aside = bench.root / journal.NAME, bench.root / "audit-000000000001.log"
    path.rename(aside)
    path.mkdir()
    was = len(bench.said)
    bench.covey("member", "remove", "eye")
    said = bench.said[was:]
    assert "audit.log can't be written" in said and "no entry tells of it." in said
    assert "audit.log can't be written" in bench.covey(
        "member", "allow", "press-7", "line1", "both", status=1
    )
    bench.end(server, number)
    path.rmdir()
    assert f"Entries {known + 1} to" in bench.covey("audit", "verify", status=1)
    bench.serve()
    assert f"Entries {known + 1} to" in bench.covey("audit", "verify", status=1)
    assert events(bench)[known:] == ["cut", "started"]
