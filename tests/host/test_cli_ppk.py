"""`covey` and post-quantum preshared keys: what is written for a board, and what is refused."""

import json
import stat

import pytest

from covey import config
from covey_host.board import files, members
from covey_host.board.boards import load as load_board
from site_bench import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "site")
    yield made
    made.close()
    for file in made.root.glob("members/*/ppk"):
        assert file.read_text().strip() not in made.said, "a PPK was shown"


def folder_of(bench, name):
    return bench.root / "members" / name


def listed(bench):
    rows = map(json.loads, bench.covey("member", "list", "--json").splitlines())
    return {row["member"]: row["ppk"] for row in rows}


def test_what_a_board_needs(bench):
    said = bench.member("press-7", "--sender", "--ppk")
    assert "(covey.json, psk, ppk, seed)" in said
    bench.member("valve-3", "--auth", "cert", "--ppk")
    bench.member("lamp-1")
    bench.member("lamp-2", "--ppk-optional")
    assert listed(bench) == {
        "press-7": "required",
        "valve-3": "required",
        "lamp-1": "none",
        "lamp-2": "optional",
    }
    ppks = set()
    for name in ("press-7", "valve-3", "lamp-2"):
        file = folder_of(bench, name) / "ppk"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        ppks.add(file.read_text())
        own = config.load(str(folder_of(bench, name) / "covey.json"))
        assert bytes(own.ppk.key).hex() + "\n" == file.read_text() and len(own.ppk.key) == 32
    assert len(ppks) == 3
    board = load_board("esp32c3")
    contents = {
        name: files.contents(members.load(None, str(folder_of(bench, name) / "covey.json")), board)
        for name in ("press-7", "lamp-1")
    }
    assert contents["press-7"].files["/ppk"] == (folder_of(bench, "press-7") / "ppk").read_bytes()
    assert "/lib/covey/ppk.mpy" in contents["press-7"].files
    assert "covey/ppk.py" in contents["lamp-1"].left and "/ppk" not in contents["lamp-1"].files


def test_a_group_that_needs_it(bench):
    bench.member("press-7", "--ppk")
    bench.edit("port = 2222\n", "port = 2222\nppk = true\n")
    bench.member("lamp-1")
    assert listed(bench) == {"press-7": "required", "lamp-1": "required"}
    add = ("member", "add", "lamp-2", "--group", "line1", "--ppk-optional")
    assert "must always use its PPK" in bench.covey(*add, status=2)
    assert not folder_of(bench, "lamp-2").exists()


def test_a_policy_that_its_members_do_not_fit(bench):
    bench.member("lamp-1")
    bench.edit("port = 2222\n", "port = 2222\nppk = true\n")
    assert "lamp-1 is a member of line1 without a PPK" in bench.covey("serve", status=2)


def test_a_name_that_is_given_anew(bench):
    """Nothing of the member before stays."""
    bench.member("press-7", "--ppk")
    bench.covey("member", "remove", "press-7")
    bench.member("press-7")
    assert not (folder_of(bench, "press-7") / "ppk").exists()
    assert config.load(str(folder_of(bench, "press-7") / "covey.json")).ppk is None


def test_files_that_do_not_fit(bench):
    bench.member("press-7", "--ppk")
    file = folder_of(bench, "press-7") / "ppk"
    file.write_text("0" * 64 + "\n")
    told = json.loads(bench.covey("why", "press-7", "--json"))
    assert told["files"] == [f"{file} is not the PPK that the site has for it."]
    file.write_text("0" * 64 + "\n")
    fields = json.loads((folder_of(bench, "press-7") / "covey.json").read_text())
    fields.pop("ppk_file")
    (folder_of(bench, "press-7") / "covey.json").write_text(json.dumps(fields))
    assert "must use its PPK" in json.loads(bench.covey("why", "press-7", "--json"))["files"][1]
    fields["ppk_file"] = "ppk"
    (folder_of(bench, "press-7") / "covey.json").write_text(json.dumps(fields))
    for text in ("0" * 62, "x" * 31):
        file.write_text(text)
        said = bench.covey("join", "press-7", status=2)
        assert "at least 32 octets" in said and text not in said
    file.unlink()
    assert "ppk" in bench.covey("join", "press-7", status=2)
