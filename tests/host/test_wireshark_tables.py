"""The two tables of Wireshark: their rows, what stays of what was there, and when to refuse."""

import os
import resource
import stat

import pytest

from covey_host import site as sites
from covey_host import wireshark
from covey_host.errors import MISUSE, Problem
from covey_host.wireshark import ESP, IKE, Tables
from processes import PATIENCE_S, run, start

ESP_ROW = (
    '"IPv4","*","239.192.1.32","0x9f3a12c4","AES-GCM with 16 octet ICV [RFC4106]",'
    f'"0x{"ab" * 20}","NULL",""'
)
IKE_ROW = (
    f"0102030405060708,1112131415161718,{'ab' * 36},{'cd' * 36},"
    '"AES-GCM-256 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"'
)
ROWS = [(ESP, ESP_ROW), (IKE, IKE_ROW)]
OTHER = ESP_ROW.replace("9f3a12c4", "9f3a12c5")


@pytest.fixture
def tables(tmp_path):
    made = Tables(tmp_path / "keys")
    made.prepare()
    return made


def lines(tables, name=ESP):
    return (tables.directory / name).read_text().splitlines()


def refusal(work, *arguments):
    with pytest.raises(Problem) as caught:
        work(*arguments)
    assert caught.value.sentence.endswith(".") and "\n" not in caught.value.sentence
    assert "abab" not in caught.value.sentence
    return caught.value


# Rows


def test_a_key_of_data_is_a_row():
    record = {"kind": "esp", "address": "239.192.1.32", "spi": "9f3a12c4", "key": "ab" * 20}
    assert wireshark.row(record) == (ESP, ESP_ROW)


@pytest.mark.parametrize("bits", [128, 256])
def test_an_ike_sa_is_a_row(bits):
    octets = bits // 8 + 4
    record = {"kind": "ike", "spi_i": "0102030405060708", "spi_r": "1112131415161718"}
    record |= {"sk_ei": "ab" * octets, "sk_er": "cd" * octets}
    table, row = wireshark.row(record)
    assert table == IKE and f'"AES-GCM-{bits} with 16 octet ICV' in row
    assert bits == 128 or row == IKE_ROW


def test_the_line_to_type_has_the_ports_that_tshark_does_not_know():
    line = wireshark.command("/a b", {"4500": True, "500": False, "848": False, "14500": True})
    assert line == (
        "WIRESHARK_CONFIG_DIR='/a b' tshark -o esp.enable_encryption_decode:TRUE"
        " -o esp.enable_authentication_check:TRUE -d udp.port==848,isakmp"
        " -d udp.port==14500,udpencap -r FILE"
    )
    assert "udp.port==4500,isakmp" in wireshark.command("/a", {4500: False})


# What is there already


def test_rows_are_added_once(tables):
    assert tables.add(ROWS) == 2
    before = os.stat(tables.directory / ESP)
    assert tables.add(ROWS) == 0 and tables.add([*ROWS, *ROWS]) == 0
    assert os.stat(tables.directory / ESP).st_ino == before.st_ino, "nothing was written"
    assert tables.add([(ESP, OTHER), (ESP, OTHER)]) == 1
    assert lines(tables) == [OTHER, ESP_ROW] and lines(tables, IKE) == [IKE_ROW]


def test_what_a_person_wrote_stays_and_ours_goes_in_front_of_it(tables):
    own = b'# mine \xff\r\n\r\n"IPv4","*","*","*","NULL","","NULL",""\r\nnonsense "\n# last'
    (tables.directory / ESP).write_bytes(own)
    tables.add(ROWS)
    head, tail = b"# mine \xff\r\n\r\n", own.removeprefix(b"# mine \xff\r\n\r\n")
    wanted = head + ESP_ROW.encode() + b"\n" + tail + b"\n"
    assert (tables.directory / ESP).read_bytes() == wanted
    tables.add([(ESP, OTHER)])
    assert (tables.directory / ESP).read_bytes() == wanted.replace(
        head, head + OTHER.encode() + b"\n"
    )


def test_a_row_that_wireshark_has_written_again_is_known(tables):
    again = ESP_ROW.replace("0xab", "0xAB").replace(",", ", ") + ',"32-bit","0"'
    (tables.directory / ESP).write_text(again + "\n")
    (tables.directory / IKE).write_text(IKE_ROW.upper() + "\n")
    assert tables.add(ROWS) == 0
    assert lines(tables) == [again]


def test_one_spi_under_another_key_is_another_row(tables):
    tables.add(ROWS)
    assert tables.add([(ESP, ESP_ROW.replace("0xab", "0xcd"))]) == 1


# Modes


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_files_are_private_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        made = Tables(tmp_path / "keys")
        made.prepare()
        made.add(ROWS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700
    assert {f.name: stat.S_IMODE(f.stat().st_mode) for f in made.directory.iterdir()} == {
        ESP: 0o600,
        IKE: 0o600,
    }


def test_a_file_that_others_could_read_is_closed_before_a_key_is_in_it(tables):
    path = tables.directory / ESP
    path.chmod(0o644)
    tables.add([])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_directory_that_is_there_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    Tables(tmp_path).prepare()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


# When not to write


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_no_keys_where_others_can_write(tmp_path, mode):
    tmp_path.chmod(mode)
    assert refusal(Tables(tmp_path).prepare).status == MISUSE
    assert not list(tmp_path.iterdir())


def test_what_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "no directory" in refusal(Tables(tmp_path / "file").prepare).sentence
    assert refusal(Tables(tmp_path / "file" / "x").prepare).status == MISUSE
    assert "No such" in refusal(Tables(tmp_path / "a" / "b").prepare).sentence


def test_a_symbolic_link_is_neither_followed_nor_replaced(tables, tmp_path):
    target = tmp_path / "target"
    target.write_text("mine\n")
    path = tables.directory / ESP
    path.unlink()
    path.symlink_to(target)
    assert "symbolic link" in refusal(tables.add, ROWS).sentence
    assert path.is_symlink() and target.read_text() == "mine\n"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused(tables, make):
    (tables.directory / IKE).unlink()
    make(tables.directory / IKE)
    assert str(tables.directory / IKE) in refusal(tables.add, ROWS).sentence


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="prlimit is Linux's")
def test_a_full_disk_leaves_what_was_there_and_no_draft(tables):
    """A process that may not write longer files than one octet."""
    (tables.directory / ESP).write_text("# mine\n")
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from covey_host.errors import Problem\n"
        "from covey_host.wireshark import Tables\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))\n"
        "try:\n"
        f"    Tables(Path(sys.argv[1])).add({ROWS!r})\n"
        "except Problem as problem:\n"
        "    print(problem.sentence)\n"
    )
    done = run("-c", code, tables.directory)
    assert done.stdout.strip() == f"{tables.directory / ESP} can't be written: File too large."
    assert not done.stderr
    assert sorted(os.listdir(tables.directory)) == [ESP, IKE]
    assert lines(tables) == ["# mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(tables):
    tables.directory.chmod(0o500)
    assert "Permission denied" in refusal(tables.add, ROWS).sentence


def test_a_draft_of_an_export_that_was_killed_is_no_obstacle(tables):
    (tables.directory / f".{ESP}.new").write_text("half")
    tables.add(ROWS)
    assert sorted(os.listdir(tables.directory)) == [ESP, IKE] and lines(tables) == [ESP_ROW]


def test_a_failed_write_can_be_made_up_for(tables, monkeypatch):
    def full(path, data):
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(sites, "write_private", full)
        assert "No space left" in refusal(tables.add, ROWS).sentence
    assert sorted(os.listdir(tables.directory)) == [ESP, IKE] and lines(tables) == []
    assert tables.add(ROWS) == 2


# Two at once


def test_exports_at_once_lose_nothing(tables):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from covey_host.wireshark import ESP, Tables\n"
        "tables = Tables(Path(sys.argv[1]))\n"
        "for n in range(40):\n"
        "    spi = f'0x{sys.argv[2]}{n:07x}'\n"
        f"    tables.add([(ESP, {ESP_ROW!r}.replace('0x9f3a12c4', spi))])\n"
    )
    children = [start("-c", code, tables.directory, n) for n in range(4)]
    for child in children:
        out, err = child.communicate(timeout=60)
        assert (child.returncode, out, err) == (0, "", "")
    assert len(set(lines(tables))) == 160 == len(lines(tables))


def test_an_export_that_is_stuck_is_told(tables, monkeypatch):
    code = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    child = start("-c", code, tables.directory)
    assert child.stdout.readline() == "locked\n"
    monkeypatch.setattr(wireshark, "_LOCK_WAIT_S", 0.2)
    assert "Another export" in refusal(tables.add, ROWS).sentence
    child.communicate(timeout=PATIENCE_S)
    assert tables.add(ROWS) == 2
